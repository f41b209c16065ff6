"""Verifiers by name: what ships, ``symbolic``, ``table``, ``ensemble``, a folder, or a published checkpoint.

``hf:`` before a folder or a hub's id has transformers run it; so does the id of a checkpoint that is known here
(`verifiers.backends.hf.KNOWN`). A folder by itself is run by the lab's decoder if that can, and by transformers if not.
``vllm:`` in place of ``hf:`` has vLLM run it, in this process (`verifiers.backends.vllm`). ``pooling:`` is for a reward
model that vLLM serves, ``openai:MODEL`` a judge behind any server (`verifiers.backends.server`).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from envs.core import Environment
from envs.messages import nearest
from verifiers.core import Verifier
from verifiers.ensemble import Ensemble
from verifiers.symbolic import SymbolicVerifier
from verifiers.table import TableVerifier

ENSEMBLE, REWARD, TABLE = "ensemble", "reward", "table"
WEIGHTS = Path(__file__).parent / "weights"
BACKENDS: dict[str, str] = {
    "hf": "verifiers.backends.hf:load_checkpoint",
    "openai": "verifiers.backends.openai:load_judge",
    "pooling": "verifiers.backends.pooling:load_pooling",
    "vllm": "verifiers.backends.vllm:load_vllm",
}
"""What runs checkpoints: called with a folder or a hub's id, an environment, and options by name."""


def verifier_names() -> list[str]:
    """Names of the verifiers that come with this package, in order."""
    shipped = (path.parent.name for path in WEIGHTS.glob("*/config.json"))
    return sorted([*shipped, ENSEMBLE, REWARD, SymbolicVerifier.name, TABLE])


def load_verifier(name_or_path: str | Path, environment: Environment, **options: Any) -> Verifier:
    """Load a verifier.

    Args:
        name_or_path: a name of `verifier_names`, a folder in the transformers layout, ``BACKEND:`` (`BACKENDS`) and a
            folder or a hub's id, or the id of a published checkpoint that is known.
        environment: whose states it scores.
        options: of the backend (`verifiers.backends.hf.load_checkpoint`, `verifiers.backends.vllm.load_vllm`) and of
            the family, of `verifiers.backends.lab.LabVerifier` or of `verifiers.table.TableVerifier`; ``symbolic`` has
            none. Those of ``ensemble`` are ``members``, each a name or a mapping of a ``name`` and options, and
            ``weights``.

    Raises:
        ValueError: no such name, folder or option; the message lists what is allowed and the nearest match.
        TypeError: ``symbolic`` for an environment without a step checker.
        UnsupportedModel: the folder holds something that is not run here.
    """
    name = str(name_or_path)
    if name == SymbolicVerifier.name:
        return SymbolicVerifier(environment, **options)
    if name in (REWARD, TABLE):
        return TableVerifier(environment, name=name, **options)
    if name == ENSEMBLE:
        return _ensemble(environment, **options)
    backend, colon, model = name.partition(":")
    if colon and backend in BACKENDS:
        return _run_by(backend, model, environment, options)
    from verifiers.backends.hf import KNOWN
    from verifiers.backends.lab import LabVerifier, is_lab

    for folder in (WEIGHTS / name, Path(name)):
        if (folder / "config.json").is_file():
            if "family" not in options and is_lab(folder):
                return LabVerifier(folder, environment, **options)
            return _run_by("hf", str(folder), environment, options)
    if name in KNOWN:
        return _run_by("hf", name, environment, options)
    names = verifier_names()
    backends = " or ".join(f"{each}:" for each in BACKENDS)
    near = nearest(name, [*names, *KNOWN, *(f"{each}:{model}" for each in BACKENDS if colon)])
    raise ValueError(
        f"no verifier {name!r}; allowed: {', '.join(names)}, a folder with a config.json, or {backends} before a "
        f"folder or a hub's id{near}"
    )


def _run_by(backend: str, model: str, environment: Environment, options: Mapping[str, Any]) -> Verifier:
    module, _, function = BACKENDS[backend].partition(":")
    verifier: Verifier = getattr(importlib.import_module(module), function)(model, environment, **options)
    return verifier


def _ensemble(
    environment: Environment, members: Sequence[str | Mapping[str, Any]] = (), weights: Sequence[float] | None = None
) -> Ensemble:
    made: list[Verifier] = []
    for member in members:
        options = {"name": member} if isinstance(member, str) else dict(member)
        if "name" not in options:
            raise ValueError(f"a member of the ensemble is {member!r}; expected a name, or a mapping with a 'name'")
        made.append(load_verifier(options.pop("name"), environment, **options))
    return Ensemble(made, weights)
