"""Solutions as a policy will read them when it solves: steps, and between them what the environment observed.

A policy learns the steps alone. The observations are in front of it, as they will be, but it is not to write them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from loguru import logger

from envs.core import Demonstrator, Environment, Problem, Split, State, Step

Part = tuple[str, bool]
"""A text, and whether it is learnt."""


def replay(environment: Environment, problem: Problem, texts: Sequence[str]) -> State:
    """The state that steps lead to, with the observations that the environment makes on the way.

    Raises:
        ValueError: when the trajectory ends before the last step.
    """
    state = environment.initial(problem)
    for index, text in enumerate(texts):
        last = index + 1 == len(texts)
        after = environment.step(state, Step(text, finish="answer" if last else "step"))
        if after.status != "running" and not last:
            raise ValueError(
                f"the solution of {problem.id!r} is {after.status} at step {index + 1} of {len(texts)}, {text!r}: "
                f"no policy can write it (stepwell check-env {environment.name} says more)"
            )
        state = after.state
    return state


def demonstration(environment: Environment, problem: Problem, rng: random.Random) -> list[Part]:
    """A worked solution of an environment that is a `Demonstrator`, in parts."""
    assert isinstance(environment, Demonstrator)
    state = replay(environment, problem, environment.demonstrate(problem, rng))
    return parts_of(environment.delimiter, state.steps)


def parts_of(delimiter: str, steps: Sequence[Step]) -> list[Part]:
    """Steps and observations, each closed by the delimiter, but for the last step, which the end token closes."""
    parts: list[Part] = []
    for index, step in enumerate(steps):
        last = index + 1 == len(steps)
        parts.append((step.text if last else step.text + delimiter, True))
        if step.observation and not last:
            parts.append((step.observation + delimiter, False))
    return parts


def problems_of(environment: Environment, split: Split, n: int, seed: int) -> Sequence[Problem]:
    """`n` problems of a split, or all there are, if an environment that has fewer refuses to give `n`."""
    try:
        return environment.problems(split, n, seed)
    except Exception:
        least, most = 0, n  # so many are there; so many are not
        while most - least > 1:
            middle = (least + most) // 2
            try:
                environment.problems(split, middle, seed)
            except Exception:  # as environments have it: of a sample larger than the population, most often
                most = middle
            else:
                least = middle
        if not least:
            raise
        logger.info("the {} split has {} problems; {} were asked for, and all of these are used", split, least, n)
        return environment.problems(split, least, seed)
