"""From the names in a recipe to the things they stand for, and the lists of what there is."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import os
from pathlib import Path
from typing import Any, get_args

from loguru import logger

import policies.registry
import verifiers.registry
from agent.recipes.recipe import Component, Recipe
from agent.registry import knobs_of, list_strategies, load_strategy, strategy_name
from agent.search.budget import Budget
from agent.strategies import SizedByCost, Strategy
from agent.strategies.traits import COMPARERS
from envs.core import Environment
from envs.guarded import guard
from envs.messages import UsageError
from envs.options import checked_options
from envs.plugins import BUILT_IN, Listed
from envs.registry import ENVIRONMENTS, list_environments, load_environment
from policies.core import Policy
from policies.training.training_record import trained_for
from verifiers.core import Verifier
from verifiers.voting import Rule, Vote

NO_VERIFIER = "none"
SMALL = 50_000_000  # parameters up to which a model is run by one thread
UNSIZED = 64  # samples a strategy is sized for when nothing is limited, and up to which seconds do not change the size

# ------------------------------------------------------------------------------------------------------ strategies


def make_strategy(chosen: Component, budget: Budget, vote: Vote, temperature: float) -> Strategy:
    """The strategy of a name, sized for a budget, with its knobs checked.

    Strategies that count answers (greedy, majority) keep doing so, whatever the vote.

    Raises:
        UsageError: on a wrong name, a wrong knob or a value that the strategy refuses.
    """
    if chosen.name == "auto" and chosen.options.get("mode") == "table":  # its name before it was a strategy of its own
        chosen = Component("table", {key: value for key, value in chosen.options.items() if key != "mode"})
    kind, where = load_strategy(chosen.name), f"strategy {chosen.name}"
    given = checked_options(knobs_of(kind), chosen.options, where)
    fields = _fields(kind)
    if "vote" in fields and kind.sized(1).vote.rule != "majority":
        given["vote"] = vote
    if "temperature" in fields:
        given["temperature"] = temperature
    try:
        return _sized(kind, budget, given)
    except UsageError:
        raise
    except Exception as error:  # of a plug-in; ours raise ValueError
        raise UsageError(f"{where}: {error}") from None


def _sized(kind: type[Strategy], budget: Budget, knobs: dict[str, Any]) -> Strategy:
    """A strategy in the size that a budget in samples says, or that of whatever another one buys."""
    if budget.samples is not None and budget.samples < 1:
        raise UsageError(f"a budget of {budget.samples:g} samples buys none; allowed: 1 or more")
    samples = UNSIZED if budget.samples is None else int(budget.samples)
    by_cost = budget.tokens is not None or budget.flops is not None
    timed = budget.seconds is not None and (budget.samples is None or samples > UNSIZED)
    if kind.sized(1, **knobs).traits.deterministic:
        return kind.sized(samples if not (by_cost or timed) else 1, **knobs)
    return SizedByCost(kind, budget, knobs) if by_cost or timed else kind.sized(samples, **knobs)


def resized(strategy: Strategy, budget: Budget) -> Strategy:
    """A strategy with its knobs, in the size that another budget says.

    Raises:
        UsageError: the budget buys nothing, or the strategy refuses the size.
    """
    if isinstance(strategy, SizedByCost):
        return _sized(strategy.kind, budget, dict(strategy.knobs))
    kind = type(strategy)
    small, large = kind.sized(1), kind.sized(UNSIZED)
    knobs = {key: getattr(strategy, key) for key in _fields(kind) if getattr(small, key) == getattr(large, key)}
    return _sized(kind, budget, knobs)


def strategy_of(recipe: Recipe) -> Strategy:
    """The strategy that a recipe asks for.

    Raises:
        UsageError: as `make_strategy`, and when the strategy needs something of the models that they lack.
    """
    strategy = make_strategy(recipe.strategy, recipe.budget, recipe.vote, recipe.temperature)
    verifier = None if recipe.verifier.name == NO_VERIFIER else recipe.verifier.name
    compares = verifier is not None and _may_compare(verifier)
    large = recipe.policy.name == policies.registry.PAIR
    strategy.traits.check(recipe.strategy.name, recipe.policy.name, large, verifier, compares)
    return strategy


def _may_compare(verifier: str) -> bool:
    """Whether a verifier may compare solutions. One of somebody else says so itself, once it is made."""
    known, head = verifiers.registry.VERIFIERS, verifier.partition(":")[0]
    others = set(known.names()) - set(known.built_in)
    return head in {each.partition(":")[0] for each in COMPARERS} or head in others or known.names_code(verifier)


def describe_strategy(strategy: Strategy) -> dict[str, Any]:
    """The name and the knobs of a strategy, JSON-ready."""
    if isinstance(strategy, SizedByCost):
        small, large = describe_strategy(strategy.of(1)), describe_strategy(strategy.of(UNSIZED))
        return {key: value for key, value in small.items() if large[key] == value}
    knobs = {key: getattr(strategy, key) for key in _fields(type(strategy))}
    plain = {key: value for key, value in knobs.items() if isinstance(value, bool | int | float | str)}
    return {"name": strategy_name(type(strategy)), **plain}


def _fields(kind: type[Any]) -> list[str]:
    return [item.name for item in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []


# ------------------------------------------------------------------------------------------ environments and models


def environment_of(recipe: Recipe) -> Environment:
    """The environment that a recipe names, guarded (`envs.guarded.guard`): whoever calls it gets sense or one error.

    Raises:
        UsageError: when its name or an option is wrong.
    """
    try:
        return guard(load_environment(recipe.environment.name, **recipe.environment.options))
    except ValueError as error:
        raise UsageError(str(error)) from None


def models_of(recipe: Recipe, environment: Environment) -> tuple[Policy, Verifier | None]:
    """The policy and the verifier that a recipe names, loaded.

    If both are small, torch is told to use one thread, unless ``OMP_NUM_THREADS`` says otherwise: their matrices are
    too small to share, and threads that wait for each other on a busy machine slow a search down a hundredfold. The
    garbage collector is told to come more rarely (`collect_rarely`).

    Raises:
        UsageError: when a name, a folder or an option is wrong, or a model does not fit the environment.
    """
    try:
        policy = policies.registry.load_policy(recipe.policy.name, environment, **recipe.policy.options)
        verifier = None
        if recipe.verifier.name != NO_VERIFIER:
            verifier = verifiers.registry.load_verifier(recipe.verifier.name, environment, **recipe.verifier.options)
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from None
    warn_of_others(recipe, environment)
    if max(policy.parameters, verifier.parameters if verifier else 0) < SMALL and "OMP_NUM_THREADS" not in os.environ:
        import torch  # not needed by everything that imports this module

        torch.set_num_threads(1)
    collect_rarely()
    return policy, verifier


def check_parts(recipe: Recipe) -> Strategy:
    """Refuse a wrong name, option or value of any part of a recipe before anything is loaded or run.

    Returns:
        The strategy that the recipe asks for.

    Raises:
        UsageError: saying what was given, what is allowed and the nearest match.
    """
    strategy = strategy_of(recipe)
    for kind in ("environment", "policy", "verifier"):
        check_part(kind, getattr(recipe, kind))
    return strategy


def check_part(kind: str, chosen: Component) -> None:
    """Refuse a wrong name, option or value of an environment, a policy or a verifier; raises UsageError."""
    try:
        if kind == "environment":
            checked_options(ENVIRONMENTS.options(chosen.name), chosen.options, f"environment {chosen.name!r}")
        elif kind == "policy":
            policies.registry.check_options(chosen.name, chosen.options)
        elif chosen.name != NO_VERIFIER:
            verifiers.registry.check_options(chosen.name, chosen.options)
    except ValueError as error:
        raise UsageError(str(error)) from None


def warn_of_others(recipe: Recipe, environment: Environment) -> None:
    """Say so where a model was trained for another environment than the one that it is used in."""
    shipped = {"policy": policies.registry.WEIGHTS, "verifier": verifiers.registry.WEIGHTS}
    for kind, weights in shipped.items():
        name = getattr(recipe, kind).name
        folder = weights_folder(name, weights)
        known = trained_for(folder) if folder else None
        if known is not None and known not in (environment.name, recipe.environment.name):
            wanted = environment.name
            logger.warning("{} {} was trained for {}, and this is {}: expect little of it", kind, name, known, wanted)


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


def parts(kind: str) -> list[Listed]:
    """What there is of a kind (``environment``, ``policy``, ``verifier``, ``strategy``), and what failed to load."""
    if kind == "verifier":
        nothing = Listed(NO_VERIFIER, BUILT_IN, "No scores: for strategies that need none (greedy, majority).")
        return [*verifiers.registry.list_verifiers(), nothing]
    listings = {
        "environment": list_environments,
        "policy": policies.registry.list_policies,
        "strategy": list_strategies,
    }
    return listings[kind]() if kind in listings else []


def choices(key: str) -> list[str]:
    """What a key of a recipe may be, where that is a matter of names; empty otherwise."""
    return list(get_args(Rule)) if key == "vote" else [each.name for each in parts(key) if each.failure is None]
