"""``stepwell train policy``, ``train prm`` and ``calibrate``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.interface.common import T, quiet, recipe_of, refusing

if TYPE_CHECKING:
    from agent.study.export import Parts


def run_train_policy(arguments: argparse.Namespace) -> int:
    """Train a policy; an interrupted run goes on from its last checkpoint."""
    from functools import partial

    from agent.build import weights_folder
    from envs.registry import load_environment
    from policies.registry import WEIGHTS
    from policies.training.train import PolicyRecipe, train_policy

    recipe = _training_recipe(arguments, PolicyRecipe)
    load = partial(load_environment, recipe.environment)
    load()  # a wrong name is refused here
    folder = Path(arguments.out or f"runs/{recipe.name}")
    start = None if recipe.start is None else weights_folder(recipe.start, WEIGHTS) or Path(recipe.start)
    texts = _found_solutions([Path(name) for name in arguments.from_study], recipe.environment, arguments.most)
    with refusing():
        print(train_policy(recipe, load, folder, start, arguments.device, texts=texts, workers=arguments.workers))
    return 0


def _found_solutions(paths: Sequence[Path], environment: str, most: int) -> Sequence[tuple[str, Parts]]:
    """Prompts and right solutions in parts, each once, of studies of the train split of an environment."""
    from loguru import logger

    from agent.study.export import right_solutions
    from agent.study.results_db import StudyFile
    from envs.messages import UsageError

    texts: dict[tuple[str, Parts], None] = {}
    for path in paths:
        with StudyFile(path) as file:
            if (split := file.config["split"]) != "train":
                raise UsageError(f"{path} is a study of the {split} split; a policy learns from the train split only")
            names = {cell["environment"].split()[0] for cell in file.cells()}
            if names != {environment}:
                raise UsageError(f"{path} is a study of {', '.join(sorted(names))}; the recipe is for {environment}")
            found = list(right_solutions(file, most))
        if not found:
            raise UsageError(f"{path} holds no right solution")
        logger.info("{}: {:,} right solutions of {:,} problems", path, len(found), len({prompt for prompt, _ in found}))
        texts |= dict.fromkeys(found)
    return list(texts)


def run_train_prm(arguments: argparse.Namespace) -> int:
    """Train a process reward model; an interrupted run goes on from where it was."""
    from agent.build import weights_folder
    from agent.recipes.recipe import Component
    from envs.registry import load_environment
    from policies.registry import WEIGHTS as POLICIES
    from policies.registry import load_policy
    from verifiers.registry import WEIGHTS as VERIFIERS
    from verifiers.training.recipe import PrmRecipe
    from verifiers.training.train import train_prm

    recipe = _training_recipe(arguments, PrmRecipe)
    named = Component.from_config(recipe.environment, "environment")
    environment = load_environment(named.name, **named.options)
    named = Component.from_config(recipe.policy, "policy")
    with refusing():
        policy = load_policy(named.name, environment, **named.options)
    name, shipped = (recipe.backbone, POLICIES) if recipe.start is None else (recipe.start, VERIFIERS)
    origin = weights_folder(name, shipped) or Path(name)
    folder = Path(arguments.out or f"runs/{recipe.name}")
    samples = Path(arguments.samples or folder / "samples")
    with refusing():
        print(train_prm(recipe, environment, policy, origin, folder, samples, device=arguments.device))
    return 0


def _training_recipe(arguments: argparse.Namespace, kind: type[T]) -> T:
    from agent.recipes.files import as_solving, override, read_config
    from envs.options import load_dataclass

    quiet("INFO")
    config, where = read_config(arguments.config, "training", arguments.trust)
    where = f"{where} with --set" if arguments.set else where
    return load_dataclass(kind, override(as_solving(config, arguments.trust), arguments.set), where)


def run_calibrate(arguments: argparse.Namespace) -> int:
    """Fit the planner on the calibration split; what has been run is kept, and the same command goes on."""
    from loguru import logger

    from agent.build import environment_of, models_of, strategy_of, weights_digest
    from agent.planning.fit import calibrate
    from agent.planning.fit_settings import (
        ARMS,
        BEAMS,
        BUDGETS,
        MOVES,
        REVISING,
        arms_of,
        drawing_distinct,
        independent,
    )
    from agent.planning.plan_file import CURRENCIES, Action, plan_name, user_plans
    from agent.recipes.recipe import parse_component
    from agent.search.budget import Budget
    from agent.strategies import STRATEGIES
    from envs.messages import UsageError
    from envs.options import choose
    from policies.core import DistinctSampler
    from policies.training.jsonl_log import JsonlLog, digests_of, fingerprint

    quiet("INFO")
    currency = choose(arguments.currency, CURRENCIES, "currency")
    recipe = recipe_of(arguments)
    environment = environment_of(recipe)
    policy, verifier = models_of(recipe, environment)
    if verifier is None:
        raise UsageError("calibration needs a verifier")
    more = (*(BEAMS if arguments.beams else ()), *(REVISING if arguments.revise else ()))
    for chosen in map(parse_component, arguments.also):
        strategy_of(replace(recipe, strategy=chosen, budget=Budget(1)))  # refuses what is wrong, or lacks something
        choose(chosen.name, STRATEGIES, "strategy")
        more += arms_of(chosen.name, chosen.options)
    arms, moves = (*ARMS, *more), (*MOVES, *(Action(arm.strategy, arm.n, arm.knobs) for arm in more))
    budgets: tuple[int, ...] = BUDGETS
    if arguments.independent:
        if more or arguments.distinct is not None:
            raise UsageError("--independent leaves searches out; leave out --beams, --revise, --also and --distinct")
        arms, moves, budgets = independent(arguments.independent)
    if arguments.distinct is not None:
        if not (isinstance(policy, DistinctSampler) and policy.distinct):
            raise UsageError(f"policy {policy.name!r} cannot draw without replacement; leave --distinct out")
        arms = (*arms, drawing_distinct(arguments.distinct or recipe.temperature))
    config = {
        "environment": recipe.environment.to_config(),
        "policy": recipe.policy.to_config(),
        "verifier": recipe.verifier.to_config(),
        "weights": weights_digest(recipe),
        "arms": [[arm.name, arm.repeats] for arm in arms],
        "n": arguments.n,
        "seed": recipe.seed,
        "temperature": recipe.temperature,
    }
    out = Path(arguments.out or user_plans() / plan_name(environment.name, policy.name, verifier.name))
    out.parent.mkdir(parents=True, exist_ok=True)
    problems = environment.problems("calibration", arguments.n)
    runs = Path(arguments.runs or f"runs/calibrate-{fingerprint(config)}.jsonl")
    with JsonlLog(runs, config, digests_of(policy=policy, verifier=verifier)) as results:
        fitted = calibrate(
            *(environment, policy, verifier, problems, results, arms, moves, budgets),
            seed=recipe.seed,
            report=logger.info,
            temperature=recipe.temperature,
            prior=arguments.prior,
            currency=currency,
        )
    fitted.save(out)
    print(out)
    return 0
