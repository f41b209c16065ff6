"""Verifiers by name: what ships, what is installed, ``ensemble``, a folder, or a published checkpoint.

``hf:`` before a folder or a hub's id has transformers run it; so does the id of a checkpoint that is known here
(`verifiers.backends.hf.KNOWN`). A folder by itself is run by the lab's decoder if that can, and by transformers if not.
``vllm:`` in place of ``hf:`` has vLLM run it, in this process (`verifiers.backends.vllm`). ``pooling:`` is for a reward
model that vLLM serves, ``openai:MODEL`` a judge behind any server (`verifiers.backends.server`), and ``recorded:FILE``
looks up the scores in a file of samples (`verifiers.backends.recorded`). Names of other distributions, modules and
files are as for all parts (`envs.plugins`).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from envs.core import Environment
from envs.messages import UsageError, short
from envs.options import checked_options, options_of
from envs.plugins import BUILT_IN, Factory, Listed, Registry
from policies.training.training_record import about
from verifiers.core import Verifier
from verifiers.ensemble import Ensemble, Pool
from verifiers.table import TableVerifier

ENTRY_POINTS = "stepwell.verifiers"
ENSEMBLE = "ensemble"
WEIGHTS = Path(__file__).parent / "weights"
BACKENDS: dict[str, str] = {
    "hf": "verifiers.backends.hf:load_checkpoint",
    "openai": "verifiers.backends.openai:load_judge",
    "pooling": "verifiers.backends.pooling:load_pooling",
    "recorded": "verifiers.backends.recorded:RecordedVerifier",
    "vllm": "verifiers.backends.vllm:load_vllm",
}
"""What runs checkpoints: called with a folder or a hub's id, an environment, and options by name."""


def _ensemble(
    environment: Environment,
    *,
    members: Sequence[str | Mapping[str, Any]] = (),
    weights: Sequence[float] | None = None,
    pool: Pool = "mean",
    bias: float = 0.0,
) -> Ensemble:
    """A weighted mean of verifiers, or of their log-odds: members, each a name or a mapping with options."""
    made = [load_verifier(name, environment, **options) for name, options in map(_member, members)]
    return Ensemble(made, weights, pool=pool, bias=bias)


def _reward(environment: Environment) -> TableVerifier:
    """The environment's own rewards, where `step` gives any; no model."""
    return TableVerifier(environment, name="reward", parameters=0)


VERIFIERS: Registry[Verifier] = Registry(
    "verifier",
    Verifier,
    ENTRY_POINTS,
    {
        "confidence": "verifiers.confidence:ConfidenceVerifier",
        ENSEMBLE: _ensemble,
        "equations": "verifiers.equations:EquationVerifier",
        "reward": _reward,
        "symbolic": "verifiers.symbolic:SymbolicVerifier",
        "table": "verifiers.table:TableVerifier",
    },
    BACKENDS,
)


def verifier_names() -> list[str]:
    """Names of the verifiers that come with this package, in order."""
    return sorted([*(path.parent.name for path in WEIGHTS.glob("*/config.json")), *VERIFIERS.built_in])


def list_verifiers() -> list[Listed]:
    """Every name there is, those that ship first, with what failed to load and why."""
    return VERIFIERS.listed(
        [Listed(file.parent.name, BUILT_IN, about(file.parent)) for file in WEIGHTS.glob("*/config.json")]
    )


def load_verifier(name_or_path: str | Path, environment: Environment, **options: Any) -> Verifier:
    """Load a verifier.

    Args:
        name_or_path: a name of `list_verifiers`, a folder in the transformers layout, ``BACKEND:`` (`BACKENDS`, or of
            an installed distribution) and a folder or a hub's id, the id of a published checkpoint that is known, or a
            module's or a file's class (`envs.plugins`).
        environment: whose states it scores.
        options: of the backend (`verifiers.backends.hf.load_checkpoint`, `verifiers.backends.vllm.load_vllm`) and of
            the family, of `verifiers.backends.lab.LabVerifier` or of `verifiers.table.TableVerifier`; ``symbolic`` has
            none. Those of ``ensemble`` are ``members``, each a name or a mapping of a ``name`` and options,
            ``weights``, ``pool`` and ``bias``.

    Raises:
        ValueError: no such name, folder or option; the message lists what is allowed and the nearest match.
        TypeError: ``symbolic`` for an environment without a step checker.
        UnsupportedModel: the folder holds something that is not run here.
    """
    name = str(name_or_path)
    factory, model = _found(name, options)
    ours = str(factory.__module__).startswith(f"{__package__}.")
    return VERIFIERS.call(name, factory, (*model, environment), options, own=ours)


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuse a wrong name or a wrong option before anything is loaded; raises a ValueError as `load_verifier` does."""
    factory, model = _found(name, options)
    checked_options(options_of(factory, len(model) + 1), options, f"verifier {name!r}")
    if name == ENSEMBLE:
        for inner, its_options in map(_member, options.get("members", ())):
            check_options(inner, its_options)


def _member(given: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    options = {"name": given} if isinstance(given, str) else dict(given)
    if not isinstance(options.get("name"), str):
        raise UsageError(f"a member of the ensemble is {short(given)}; expected a name, or a mapping with a 'name'")
    return options.pop("name"), options


def _found(name: str, options: Mapping[str, Any]) -> tuple[Factory, tuple[str, ...]]:
    """What makes the verifier of a name, and the model that it is made of."""
    if name not in VERIFIERS.built_in and name:
        for folder in (WEIGHTS / name, Path(name)):
            if (folder / "config.json").is_file():
                return _of_folder(folder, options), (str(folder),)
    if name in VERIFIERS.names() or ":" in name or name.endswith(".py"):
        return VERIFIERS.factory(name)
    from verifiers.backends.hf import KNOWN, load_checkpoint

    if name in KNOWN:
        return load_checkpoint, (name,)
    raise VERIFIERS.unknown(name, verifier_names(), list(KNOWN), ", a folder with a config.json")


def _of_folder(folder: Path, options: Mapping[str, Any]) -> Factory:
    from verifiers.backends.lab import LabVerifier, is_lab

    return (
        LabVerifier
        if "family" not in options and is_lab(folder)
        else importlib.import_module("verifiers.backends.hf").load_checkpoint
    )
