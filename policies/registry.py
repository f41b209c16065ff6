"""Policies by name: what ships, the path of a lab model's folder, or ``BACKEND:MODEL`` for any language model.

``hf:Qwen/Qwen2.5-1.5B-Instruct``, ``hf:path/to/folder`` and ``hf:file.gguf`` are run by transformers
(`policies.backends.hf`), and with ``vllm:`` in place of ``hf:`` by vLLM in this process (`policies.backends.vllm`).
``smollm2`` is the model that the package of that extra brings (``vllm:smollm2``: by vLLM), ``openai:MODEL`` is one
behind a server (`policies.backends.openai`).
"""

from __future__ import annotations

import importlib
import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from envs.core import Environment
from envs.messages import nearest
from policies.core import Policy
from policies.generation.options import SamplingOptions
from policies.models.gguf import SMOLLM2, smollm2_file
from policies.scripted import ScriptedPolicy

SCRIPTED = "scripted"
WEIGHTS = Path(__file__).parent / "weights"
BACKENDS: dict[str, str] = {
    "hf": "policies.backends.hf:TransformersPolicy",
    "openai": "policies.backends.openai:ServedPolicy",
    "vllm": "policies.backends.vllm:VllmPolicy",
}
"""What runs language models: called with a model, an environment, `SamplingOptions`, and options of its own by name."""


def policy_names() -> list[str]:
    """Names of the policies that ship with this package, in order."""
    return sorted([*(path.parent.name for path in WEIGHTS.glob("*/config.json")), SCRIPTED, SMOLLM2])


def load_policy(name_or_path: str | Path, environment: Environment, **options: Any) -> Policy:
    """Load a policy.

    Args:
        name_or_path: a name of `policy_names`, a folder of a lab model, or ``BACKEND:MODEL`` with one of `BACKENDS`.
        environment: whose problems it continues.
        options: of `policies.backends.lab.LabPolicy` or `policies.scripted.ScriptedPolicy`; for language models those
            of `policies.generation.options.SamplingOptions` and of the backend's class.

    Raises:
        ValueError: no such name or folder, a wrong option, or a model that cannot be run; the message lists what is
            allowed and the nearest match.
        TypeError: ``scripted`` for an environment that has no script.
    """
    if name_or_path == SCRIPTED:
        return ScriptedPolicy(environment, **options)
    backend, colon, model = str(name_or_path).partition(":")
    if name_or_path == SMOLLM2 or (model == SMOLLM2 and backend in ("hf", "vllm")):
        options = {"name": SMOLLM2, **options}
        return _language_model(backend if colon else "hf", str(smollm2_file()), environment, options)
    if colon and backend in BACKENDS:
        return _language_model(backend, model, environment, options)
    shipped, given = WEIGHTS / name_or_path, Path(name_or_path)
    for folder in (shipped, given):
        if (folder / "config.json").is_file():
            return _lab_model(folder, environment, options)
    names = [*policy_names(), *(f"{each}:{model}" for each in BACKENDS if colon)]
    backends = ", ".join(f"{each}:MODEL" for each in BACKENDS)
    raise ValueError(
        f"no policy {str(name_or_path)!r}{nearest(str(name_or_path), names) or ';'} allowed: "
        f"{', '.join(policy_names())}, a folder with a config.json, or {backends}"
    )


def _lab_model(folder: Path, environment: Environment, options: dict[str, Any]) -> Policy:
    from policies.backends.lab import LabPolicy
    from policies.models.errors import UnsupportedModel

    try:
        return LabPolicy(folder, environment, **options)
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{error}; any causal language model runs as hf:{folder}") from None


def _language_model(backend: str, model: str, environment: Environment, options: dict[str, Any]) -> Policy:
    """Make a policy of a language model, from the options of every backend and those of this one."""
    allowed = _options(backend)
    for option in options:
        if option not in allowed:
            raise ValueError(
                f"policy {backend}:{model} has no option {option!r}{nearest(option, allowed) or ';'} "
                f"allowed: {', '.join(allowed)}"
            )
    shared = {field.name for field in fields(SamplingOptions)}
    asked = SamplingOptions(**{option: value for option, value in options.items() if option in shared})
    own = {option: value for option, value in options.items() if option not in shared}
    made: Policy = _backend(backend)(model, environment, asked, **own)
    return made


def option_types(name: str) -> dict[str, Any]:
    """The options of a language model and their annotations; empty for other policies."""
    backend = "hf" if name == SMOLLM2 else name.partition(":")[0]
    return _options(backend) if backend in BACKENDS and (name == SMOLLM2 or ":" in name) else {}


def _options(backend: str) -> dict[str, Any]:
    make = _backend(backend)
    own = [each.name for each in inspect.signature(make).parameters.values() if each.kind is each.KEYWORD_ONLY]
    hints = get_type_hints(make.__init__)
    return dict(sorted((get_type_hints(SamplingOptions) | {name: hints[name] for name in own}).items()))


def _backend(backend: str) -> type[Any]:
    module, _, name = BACKENDS[backend].partition(":")
    made: type[Any] = getattr(importlib.import_module(module), name)
    return made
