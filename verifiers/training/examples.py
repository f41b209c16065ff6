"""Training examples of a process reward model, weighed and batched."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from envs.core import Environment, Problem, State, Step
from policies.models.lab_tokens import Tokens
from policies.models.prefix_tree import Ids
from verifiers.backends.lab import lay_out
from verifiers.training.probe import Labelled
from verifiers.training.recipe import PrmRecipe
from verifiers.training.rollouts import LabelledTrajectory, kept

# -------------------------------------------------------------------------------------------------------- training


@dataclass(frozen=True)
class Example:
    """Token ids of a prompt and a solution (from `start` on), the positions that close its steps, the scores there.

    And, as `branches`, the positions that close a step after which the next one is its own, and the counts behind the
    scores, `right` of `total`.
    """

    ids: Ids
    start: int
    positions: tuple[int, ...]
    targets: tuple[float, ...]
    weight: float
    branches: tuple[int, ...] = ()
    right: tuple[int, ...] = ()
    total: tuple[int, ...] = ()


def problem_weights(
    solutions: Sequence[LabelledTrajectory], uniform: float, uniform_weight: float = 1.0
) -> dict[str, float]:
    """Weights of problems: 1 if its solutions ended differently, else a share `uniform` has all their weight."""
    outcomes: dict[str, set[bool]] = {}
    for each in solutions:
        if each.start == 0:
            outcomes.setdefault(each.problem, set()).add(each.labels[-1] > 0)
    alike = uniform_weight / uniform
    return {problem: 1.0 if len(seen) > 1 else kept(problem, uniform) * alike for problem, seen in outcomes.items()}


def example(
    tokens: Tokens, environment: Environment, problem: Problem, solution: LabelledTrajectory, weight: float = 1.0
) -> Example:
    """Read a solution exactly as `LabVerifier` will; steps without text are not learnt from."""
    layout = lay_out(tokens, environment, replay(environment, problem, solution))
    first: dict[tuple[int, int], tuple[int, float]] = {}
    for step, (origin, target) in enumerate(zip(layout.origin, solution.labels, strict=True)):
        if origin:
            first.setdefault(origin, (step, target))
    (path,) = layout.paths
    own = {path.reads[key]: target for (_, key), (step, target) in first.items() if step >= solution.start}
    learnt = [step for step, _ in first.values() if step >= solution.start]
    steps = [step for step, _ in first.values()]
    branches = [place for place, step in zip(path.reads[1:-1], steps[1:], strict=True) if step >= solution.start]
    return Example(
        path.keys[-1],
        len(path.keys[0]),
        tuple(own),
        tuple(own.values()),
        weight * solution.count,
        tuple(branches),
        tuple(solution.right[step] for step in learnt),
        tuple(solution.total[step] for step in learnt),
    )


def replay(environment: Environment, problem: Problem, solution: LabelledTrajectory) -> State:
    """The state at the end of a solution, its observations made anew."""
    state = environment.initial(problem)
    for index, text in enumerate(solution.texts):
        told = (solution.tokens[index], solution.logprobs[index]) if solution.logprobs else ()
        state = environment.step(state, Step(text, *told)).state
    return state


def labelled_states(
    recipe: PrmRecipe,
    environment: Environment,
    problems: Mapping[str, Problem],
    solutions: Sequence[LabelledTrajectory],
) -> list[Labelled]:
    """What a probe learns from: of a rollout its own steps, of a problem what `problem_weights` says."""
    weights = problem_weights(solutions, recipe.uniform, recipe.uniform_weight)
    return [
        Labelled(
            replay(environment, problems[each.problem], each),
            each.labels,
            [weights[each.problem] * each.count * (step >= each.start) for step in range(len(each.texts))],
        )
        for each in solutions
        if weights[each.problem]
    ]


def batches(examples: Sequence[Example], batch_tokens: int, seed: str) -> list[list[int]]:
    """Indices of examples of like length, at most `batch_tokens` with padding, the batches in random order."""
    rng = random.Random(seed)
    order = sorted(range(len(examples)), key=lambda index: (len(examples[index].ids), rng.random()))
    made: list[list[int]] = [[]]
    for index in order:
        if made[-1] and (len(made[-1]) + 1) * len(examples[index].ids) > batch_tokens:
            made.append([])
        made[-1].append(index)
    rng.shuffle(made)
    return made


def pad(batch: Sequence[Example], device: torch.device) -> torch.Tensor:
    """(rows, longest) ids; right padding needs no mask under causal attention."""
    ids = torch.zeros(len(batch), max(len(each.ids) for each in batch), dtype=torch.long)
    for row, each in enumerate(batch):
        ids[row, : len(each.ids)] = torch.tensor(each.ids)
    return ids.to(device)
