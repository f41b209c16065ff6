"""What tells the models of a study from others under the same names, known before any of them is loaded."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import policies.registry
import verifiers.registry
from agent.build import NO_VERIFIER, weights_folder
from agent.recipes.recipe import Component
from agent.study.study import Study
from envs.core import Environment
from policies.models.digest import DIGITS, model_digest
from policies.models.gguf import SMOLLM2, smollm2_file
from policies.service import Identified

_SERVED = ("openai", "pooling")  # backends whose models lie behind a server
_PATIENCE = 10.0  # seconds that a server has to say which model it is; one that is down may be up when it is needed


def model_digests(study: Study, environments: Mapping[str, Environment]) -> dict[str, str]:
    """The digest of each model of a study, by its label: of its files, a hub's commit, or a server's name.

    What has no files, and what is not known yet (a hub's model that was not fetched, a server that is down), is left
    out.

    Args:
        study: whose policies and verifiers they are.
        environments: by label.
    """
    found: dict[str, str] = {}
    for cell in study.cells:
        environment = environments[cell.environment.label]
        for kind, component in (("policy", cell.policy), *(("verifier", each) for each in _members(cell.verifier))):
            if component.label not in found:
                found[component.label] = with_options(component, _digest(kind, component, environment))
    return {label: digest for label, digest in found.items() if digest}


def with_options(component: Component, digest: str) -> str:
    """The digest of a model together with those of the files that its options name; empty if the model's is unknown."""
    named = [value for _, value in sorted(component.options.items()) if isinstance(value, str) and "/" in value]
    return "+".join([digest, *filter(None, (model_digest(Path(value)) for value in named))]) if digest else ""


def _members(verifier: Component) -> list[Component]:
    """The verifiers in an ensemble; any other is its own."""
    if verifier.name != verifiers.registry.ENSEMBLE:
        return [verifier]
    return [Component.from_config(each, "a member") for each in verifier.options.get("members", ())]


def _digest(kind: str, component: Component, environment: Environment) -> str:
    backend, colon, model = component.name.partition(":")
    if colon and backend in _SERVED:
        return model or _asked(kind, component, environment)
    return _of_files(kind, component.name)


def _of_files(kind: str, name: str) -> str:
    if name in (NO_VERIFIER, policies.registry.SCRIPTED):
        return ""
    shipped = policies.registry.WEIGHTS if kind == "policy" else verifiers.registry.WEIGHTS
    model = name.removeprefix("hf:").removeprefix("vllm:")
    if model == SMOLLM2:
        try:
            return model_digest(smollm2_file())
        except (ImportError, OSError, ValueError):  # it is not installed, and said so when it is loaded
            return ""
    place = weights_folder(name, shipped) or Path(model)
    return model_digest(place) or _commit(model)


def _commit(model: str) -> str:
    """Twelve digits of the commit of a hub's model, if it was fetched."""
    if model.count("/") != 1 or importlib.util.find_spec("huggingface_hub") is None:
        return ""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        file = try_to_load_from_cache(model, "config.json")
    except HFValidationError:
        return ""
    return Path(file).parent.name[:DIGITS] if isinstance(file, str) else ""


def _asked(kind: str, component: Component, environment: Environment) -> str:
    """The one model that a server has, by its own word; empty while there is no answer."""
    load: Any = policies.registry.load_policy if kind == "policy" else verifiers.registry.load_verifier
    options = dict(component.options)
    options["patience"] = min(_PATIENCE, float(options.get("patience", _PATIENCE)))
    try:
        service = load(component.name, environment, **options)
    except ConnectionError:
        return ""
    try:
        return service.digest() if isinstance(service, Identified) else str(service.name)
    finally:
        service.close()
