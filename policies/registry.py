"""Policies by name: what ships, what is installed, the path of a lab model's folder, or ``BACKEND:MODEL``.

``hf:Qwen/Qwen2.5-1.5B-Instruct``, ``hf:path/to/folder`` and ``hf:file.gguf`` are run by transformers
(`policies.backends.hf`), and with ``vllm:`` in place of ``hf:`` by vLLM in this process (`policies.backends.vllm`).
``smollm2`` is the model that the package of that extra brings (``vllm:smollm2``: by vLLM), ``openai:MODEL`` is one
behind a server (`policies.backends.openai`), ``recorded:FILE`` hands out samples of a file
(`policies.backends.recorded`). Names of other distributions, modules and files are as for all parts
(`envs.plugins`).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from envs.core import Environment
from envs.options import Options, checked_options, options_of
from envs.plugins import BUILT_IN, Factory, Listed, Registry
from policies.core import Policy
from policies.models.errors import UnsupportedModel
from policies.models.gguf import SMOLLM2, smollm2_file
from policies.pair import member
from policies.training.training_record import about

ENTRY_POINTS = "stepwell.policies"
SCRIPTED = "scripted"
PAIR = "pair"
WEIGHTS = Path(__file__).parent / "weights"
BACKENDS: dict[str, str] = {
    "hf": "policies.backends.hf:TransformersPolicy",
    "openai": "policies.backends.openai:ServedPolicy",
    "recorded": "policies.backends.recorded:RecordedPolicy",
    "vllm": "policies.backends.vllm:VllmPolicy",
}
"""What runs language models: called with a model, an environment, and options by name."""
POLICIES: Registry[Policy] = Registry(
    "policy",
    Policy,
    ENTRY_POINTS,
    {SCRIPTED: "policies.scripted:ScriptedPolicy", PAIR: "policies.pair:load_pair"},
    BACKENDS,
)
_LAB = "policies.backends.lab"


def policy_names() -> list[str]:
    """Names of the policies that ship with this package, in order."""
    return sorted([*(path.parent.name for path in WEIGHTS.glob("*/config.json")), SCRIPTED, SMOLLM2])


def list_policies() -> list[Listed]:
    """Every name there is, those that ship first, with what failed to load and why."""
    models = [Listed(file.parent.name, BUILT_IN, about(file.parent)) for file in WEIGHTS.glob("*/config.json")]
    smollm2 = "SmolLM2-135M-Instruct, a real language model: pip install 'stepwell[smollm2]'"
    return POLICIES.listed([*models, Listed(SMOLLM2, BUILT_IN, smollm2)])


def load_policy(name_or_path: str | Path, environment: Environment, **options: Any) -> Policy:
    """Load a policy.

    Args:
        name_or_path: a name of `list_policies`, a folder of a lab model, ``BACKEND:MODEL`` with one of `BACKENDS` or of
            an installed distribution, or a module's or a file's class (`envs.plugins`).
        environment: whose problems it continues.
        options: of `policies.backends.lab.LabPolicy` or `policies.scripted.ScriptedPolicy`; for language models those
            of `policies.generation.options.SamplingOptions` and of the backend's class.

    Raises:
        ValueError: no such name or folder, a wrong option, or a model that cannot be run; the message lists what is
            allowed and the nearest match.
        TypeError: ``scripted`` for an environment that has no script.
    """
    name = str(name_or_path)
    factory, model, fixed = _found(name)
    if not str(factory.__module__).startswith(f"{__package__}."):
        return POLICIES.call(name, factory, (*model, environment), options)
    if fixed:
        model = (str(smollm2_file()),)
    try:
        return POLICIES.call(name, factory, (*model, environment), fixed | options, own=True)
    except UnsupportedModel as error:
        if factory.__module__ != _LAB:
            raise
        raise UnsupportedModel(f"{error}; any causal language model runs as hf:{model[0]}") from None


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuse a wrong name or a wrong option before anything is loaded; raises a ValueError as `load_policy` does."""
    checked_options(option_types(name), options, f"policy {name!r}")
    if name == PAIR:
        for inner, its_options in (member(options.get(key, "")) for key in ("small", "large")):
            check_options(inner, its_options)


def option_types(name: str) -> Options:
    """The options of a policy, with their annotations; raises ValueError for a name that is not known."""
    factory, model, _ = _found(name)
    return options_of(factory, len(model) + 1)


def _found(name: str) -> tuple[Factory, tuple[str, ...], dict[str, Any]]:
    """What makes the policy of a name, the model it is made of, and options that the name says."""
    backend, colon, model = name.partition(":")
    if name == SMOLLM2 or (model == SMOLLM2 and backend in ("hf", "vllm")):
        factory, _ = POLICIES.factory(f"{backend if colon else 'hf'}:{SMOLLM2}")
        return factory, (SMOLLM2,), {"name": SMOLLM2}
    if name and name not in POLICIES.built_in:
        for folder in (WEIGHTS / name, Path(name)):
            if (folder / "config.json").is_file():
                return _lab_model(), (str(folder),), {}
    if name not in POLICIES.names() and ":" not in name and not name.endswith(".py"):
        raise POLICIES.unknown(name, policy_names(), forms=", a folder with a config.json")
    factory, given = POLICIES.factory(name)
    return factory, given, {}


def _lab_model() -> Factory:
    factory: Factory = importlib.import_module(_LAB).LabPolicy
    return factory
