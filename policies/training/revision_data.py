"""Training data of revisers (Snell et al. 2024, arXiv 2408.03314, section 6.1): wrong attempts, then a right one.

Attempts are sampled from a policy on the train split; which are right is told by their final answers alone. A training
trajectory shows none to four wrong attempts at a problem and ends in a right one, which alone is learnt. The nearer a
wrong attempt is to the right one in edit distance, the later it comes: in the last there is something to correct.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loguru import logger

from envs.core import Environment, Problem, State, Step
from policies.core import Policy, Propose
from policies.models.lab_tokens import Tokens
from policies.training.jsonl_log import JsonlLog, digests_of
from policies.training.worked_solutions import parts_of, replay

MOST = 4  # wrong attempts shown
_LONGEST = 512  # tokens of a trajectory; longer ones are left out
_OPEN = 32  # problems being sampled at once

Attempt = tuple[str, ...]
"""The texts of its steps."""


@dataclass(frozen=True)
class Attempts:
    """Sampled attempts at one problem, as often as they were drawn; those without an answer are left out."""

    problem: Problem
    right: tuple[Attempt, ...]
    wrong: tuple[Attempt, ...]


def collect(
    environment: Environment, policy: Policy, problems: Sequence[Problem], samples: int, seed: int, path: Path
) -> list[Attempts]:
    """Sample attempts at problems, each problem durable in a JSONL file once it is done; what is there is kept.

    Raises:
        UsageError: the file holds attempts of another policy, or under another seed or number of samples, or is being
            written to.
    """
    header = {"environment": environment.name, "policy": policy.name, "samples": samples, "seed": seed}
    with JsonlLog(path, header, digests_of(policy=policy)) as log:
        rows: dict[str, dict[str, Any]] = {row["problem"]: row for row in log.rows}
        waiting = iter([problem for problem in problems if problem.id not in rows])
        running: dict[int, Problem] = {}
        ticket = 0
        while True:
            while len(running) < _OPEN and (problem := next(waiting, None)) is not None:
                seeds = random.Random(f"attempts/{seed}/{problem.id}")
                drawn = tuple(seeds.getrandbits(64) for _ in range(samples))
                policy.submit(ticket, Propose((environment.initial(problem),), (drawn,), 1.0, None, problem.id))
                running[ticket] = problem
                ticket += 1
            if not running:
                break
            for replied, reply in policy.poll():
                if isinstance(reply, Exception):
                    raise reply
                problem = running.pop(replied)
                policy.cancel(problem.id)
                rows[problem.id] = row = _row(environment, problem, reply.samples[0])
                log.append(row)
                if len(rows) % 500 == 0:
                    logger.info("attempts at {} problems sampled", len(rows))
    return [_attempts(problem, rows[problem.id]) for problem in problems]


def _row(environment: Environment, problem: Problem, samples: Sequence[Sequence[Step]]) -> dict[str, Any]:
    row: dict[str, Any] = {"problem": problem.id, "right": [], "wrong": []}
    for steps in samples:
        state = State(problem, tuple(steps))
        if (answer := environment.answer(state)) is not None:
            row["right" if environment.check(problem, answer) else "wrong"].append(state.texts)
    return row


def _attempts(problem: Problem, row: Mapping[str, Any]) -> Attempts:
    return Attempts(problem, tuple(map(tuple, row["right"])), tuple(map(tuple, row["wrong"])))


def trajectories(
    environment: Environment, tokens: Tokens, end: int, pool: Sequence[Attempts], n: int, rng: random.Random
) -> list[tuple[list[int], int, tuple[tuple[int, int], ...]]]:
    """Draw trajectories of problems that have a right attempt and, where some are to be shown, wrong ones.

    Args:
        environment: of the problems.
        tokens: of the policy to be trained, which will read the same ids when it revises.
        end: id of the end token.
        pool: of `collect`.
        n: how many.
        rng: draws the problems and the attempts.

    Returns:
        For each the token ids, where in them the right attempt begins, which alone is to be learnt, and from where to
        where it holds what the environment observed, which is not.

    Raises:
        ValueError: no problem of the pool has a right attempt.
    """
    solved = [each for each in pool if each.right]
    if not solved:
        raise ValueError(f"none of {len(pool)} problems was solved: there is nothing to learn to revise to")
    failed = [each for each in solved if each.wrong] or solved

    def ids_of(attempt: Attempt) -> tuple[int, ...]:
        return tokens.encode(environment.delimiter.join(attempt))

    made: list[tuple[list[int], int, tuple[tuple[int, int], ...]]] = []
    while len(made) < n:
        count = rng.randint(0, MOST)
        each = rng.choice(failed if count else solved)
        right, wrong = rng.choice(each.right), rng.sample(each.wrong, min(count, len(each.wrong)))
        if len(wrong) > 1:
            wrong.sort(key=lambda attempt: distance(ids_of(attempt), ids_of(right)), reverse=True)
        shown = tuple(replay(environment, each.problem, attempt).steps for attempt in wrong)
        opening = [token for part in tokens.parts(environment, State(each.problem, (), shown)) for token in part]
        ids, given = list(opening), []
        for text, learnt in parts_of(environment.delimiter, replay(environment, each.problem, right).steps):
            before = len(ids)
            ids += tokens.encode(text)
            if not learnt:
                given.append((before, len(ids)))
        if len(ids) < _LONGEST:
            made.append(([*ids, end], len(opening), tuple(given)))
    return made


def distance(a: Sequence[object], b: Sequence[object]) -> int:
    """Edit distance of two sequences (Levenshtein 1966)."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]
