"""Labels by rollouts: solutions of a policy, and how many of what follows each step ends right."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loguru import logger

from envs.core import Environment, Problem, State
from policies.core import Policy, Propose, Proposed, Usage
from policies.training.jsonl_log import JsonlLog
from verifiers.training.recipe import PrmRecipe

# ------------------------------------------------------------------------------------------------------------ data


@dataclass(frozen=True)
class LabelledTrajectory:
    """One distinct sampled trajectory of a problem and what became of its prefixes.

    Args:
        problem: its id.
        texts: of the steps.
        right: for each step, how many of the completions through the prefix that ends with it ended right.
        total: for each step, how many completions there were (1 at the end of the solution).
        count: how often it was sampled.
        start: 0 for a solution; for a rollout, how many steps it was given: the labels of those belong to the
            solutions they were taken from, only the later ones are its own.
        tokens: of each step; empty if the file is of a version that did not keep them.
        logprobs: the log-probability of each step, likewise.
    """

    problem: str
    texts: tuple[str, ...]
    right: tuple[int, ...]
    total: tuple[int, ...]
    count: int
    start: int = 0
    tokens: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()

    @property
    def labels(self) -> list[float]:
        """The soft label of each step."""
        return [right / total for right, total in zip(self.right, self.total, strict=True)]


def label_steps(
    environment: Environment,
    problem: Problem,
    solutions: Sequence[State],
    rollouts: Mapping[tuple[str, ...], Sequence[State]],
) -> list[LabelledTrajectory]:
    """Label every step of the distinct solutions of a problem, and of the distinct rollouts from their prefixes.

    The completions through a prefix of a solution are the solutions that pass through it and the rollouts from it.
    Those from longer prefixes pass through it too, but would weigh by how many steps happened to follow. A prefix
    that only rollouts reached has the rollouts that pass through it.

    Args:
        environment: checks the final answers.
        problem: the problem.
        solutions: complete trajectories from the start.
        rollouts: complete trajectories from each unfinished prefix, by the texts of its steps.
    """

    def is_right(state: State) -> bool:
        answer = environment.answer(state)
        return answer is not None and environment.check(problem, answer)

    def count(tally: dict[tuple[str, ...], list[int]], state: State, first: int) -> None:
        for end in range(first, len(state.steps) + 1):
            entry = tally.setdefault(state.texts[:end], [0, 0])
            entry[0] += is_right(state)
            entry[1] += 1

    counts: dict[tuple[int, tuple[str, ...]], int] = {}
    first: dict[tuple[str, ...], State] = {}
    solved: dict[tuple[str, ...], list[int]] = {}
    rolled: dict[tuple[str, ...], list[int]] = {}
    for state in solutions:
        counts[0, state.texts] = counts.get((0, state.texts), 0) + 1
        first.setdefault(state.texts, state)
        count(solved, state, 1)
    for prefix, states in rollouts.items():
        solved[prefix][0] += sum(map(is_right, states))
        solved[prefix][1] += len(states)
        for state in states:
            key = (len(prefix), state.texts)
            counts[key] = counts.get(key, 0) + 1
            first.setdefault(state.texts, state)
            count(rolled, state, len(prefix) + 1)
    made = []
    for (start, texts), times in counts.items():
        entries = [solved.get(texts[:end]) or rolled[texts[:end]] for end in range(1, len(texts) + 1)]
        right, total = tuple(entry[0] for entry in entries), tuple(entry[1] for entry in entries)
        steps = first[texts].steps
        told = tuple(step.tokens for step in steps), tuple(round(step.logprob, 4) for step in steps)
        made.append(LabelledTrajectory(problem.id, texts, right, total, times, start, *told))
    return made


class SampleFile:
    """Labelled solutions in a JSONL file, a line per problem. A context manager; one writer at a time.

    Args:
        path: of the file, made if need be.
        header: JSON, what the samples depend on; a file that was written with another one is refused.
        models: as of `policies.training.jsonl_log.JsonlLog`.

    Raises:
        UsageError: the file holds samples of something else, or is being written to.
    """

    def __init__(self, path: Path, header: dict[str, Any], models: Mapping[str, str] | None = None) -> None:
        self.solutions: dict[str, list[LabelledTrajectory]] = {}
        self.generated = 0
        self._log = JsonlLog(path, header, models)
        for line in self._log.rows:
            self._take(line)

    def close(self) -> None:
        """Let another process write to it; what was read stays."""
        self._log.close()

    def __enter__(self) -> SampleFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(self, line: dict[str, Any]) -> None:
        self.generated += line["generated"]
        self.solutions[line["problem"]] = [
            LabelledTrajectory(
                line["problem"], tuple(texts), tuple(right), tuple(total), count, start, *map(tuple, told)
            )
            for texts, right, total, count, start, *told in line["solutions"]
        ]

    def append(self, problem: str, solutions: Sequence[LabelledTrajectory], generated: int) -> None:
        """Add a problem; on return it is on the disk."""
        rows = [
            (each.texts, each.right, each.total, each.count, each.start, each.tokens, each.logprobs)
            for each in solutions
        ]
        line = {"problem": problem, "generated": generated, "solutions": rows}
        self._log.append(line)
        self._take(json.loads(json.dumps(line)))


@dataclass
class _Open:
    """A problem being sampled."""

    problem: Problem
    solutions: list[State]
    prefixes: list[State]
    usage: Usage


def collect(
    recipe: PrmRecipe,
    environment: Environment,
    policy: Policy,
    problems: Sequence[Problem],
    file: SampleFile,
    concurrency: int = 32,
) -> None:
    """Sample and label what a file still lacks of some problems, many at a time, each line durable once written.

    Problems whose solutions all ended alike and that `problem_weights` will leave out are not rolled out.
    """
    waiting = iter([problem for problem in problems if problem.id not in file.solutions])
    running: dict[int, _Open] = {}
    ticket, started, first = 0, time.monotonic(), len(file.solutions)
    while True:
        while len(running) < concurrency and (problem := next(waiting, None)) is not None:
            root = environment.initial(problem)
            seeds = _seeds(recipe, root, recipe.solutions, "solution")
            policy.submit(ticket, Propose((root,), (seeds,), recipe.temperature, None, problem.id))
            running[ticket] = _Open(problem, [], [], Usage())
            ticket += 1
        if not running:
            return
        for replied, reply in policy.poll():
            if isinstance(reply, Exception):
                raise reply
            job = running.pop(replied)
            job.usage += reply.usage
            if not job.solutions:
                job.solutions = _trajectories([environment.initial(job.problem)], reply)[0]
                alike = len({each.labels[-1] for each in label_steps(environment, job.problem, job.solutions, {})}) == 1
                skip = not recipe.rollouts or (alike and not kept(job.problem.id, recipe.uniform))
                job.prefixes = [] if skip else _unfinished(environment, job.solutions)
                if job.prefixes:
                    seeds_of = tuple(_seeds(recipe, state, recipe.rollouts, "rollout") for state in job.prefixes)
                    request = Propose(tuple(job.prefixes), seeds_of, recipe.temperature, None, job.problem.id)
                    policy.submit(ticket, request)
                    running[ticket] = job
                    ticket += 1
                    continue
                ends: list[list[State]] = []
            else:
                ends = _trajectories(job.prefixes, reply)
            policy.cancel(job.problem.id)
            rollouts = {state.texts: found for state, found in zip(job.prefixes, ends, strict=True)}
            labelled = label_steps(environment, job.problem, job.solutions, rollouts)
            file.append(job.problem.id, labelled, job.usage.generated)
            done = len(file.solutions)
            if done % 100 == 0:
                rate = (done - first) / (time.monotonic() - started)
                logger.info("{} problems sampled, {:.1f} a second", done, rate)


def _trajectories(states: Sequence[State], reply: Proposed) -> list[list[State]]:
    return [
        [State(state.problem, (*state.steps, *steps)) for steps in samples]
        for state, samples in zip(states, reply.samples, strict=True)
    ]


def _unfinished(environment: Environment, solutions: Sequence[State]) -> list[State]:
    """The distinct prefixes, of at least one step, that have not ended, in order of appearance."""
    found: dict[tuple[str, ...], State] = {}
    for solution in solutions:
        state = environment.initial(solution.problem)
        for step in solution.steps:
            after = environment.step(state, step)
            state = after.state
            if after.status == "running":
                found.setdefault(state.texts, state)
    return list(found.values())


def _seeds(recipe: PrmRecipe, state: State, n: int, purpose: str) -> tuple[int, ...]:
    key = json.dumps([recipe.seed, purpose, state.problem.id, state.texts])
    return tuple(int.from_bytes(hashlib.sha256(f"{key}/{index}".encode()).digest()[:8], "big") for index in range(n))


def kept(problem: str, uniform: float) -> bool:
    """Whether a problem is of the share that is kept even if its solutions all end alike."""
    return random.Random(f"uniform/{problem}").random() < uniform
