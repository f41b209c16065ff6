"""Which split a problem belongs to, by a digest of its text: for authors of environments.

A split is a property of the problem itself. So the splits are disjoint whatever the seed, the options and the order in
which problems are drawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from envs.core import Problem, Split

PATIENCE = 2000  # problems in a row that were drawn before, after which a stream counts as exhausted


def split_of(text: str, parts: int = 10) -> Split:
    """The split of a problem, by a text that tells it from all others: its question in one way of writing it.

    Args:
        text: equal for problems that are the same to a solver.
        parts: one of so many goes to ``test``, one to ``calibration``, and the rest to ``train``.

    Returns:
        The same split for the same text, on every machine.
    """
    digit = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[0] % parts
    return "test" if digit == 0 else "calibration" if digit == 1 else "train"


def draw_distinct(stream: Iterator[Problem], n: int, split: Split) -> list[Problem]:
    """The first `n` problems of a stream that have different ids.

    Args:
        stream: problems, which may repeat.
        n: how many.
        split: for the message.

    Raises:
        ValueError: there are hardly `n` different problems in the stream.
    """
    chosen: dict[str, Problem] = {}
    repeats = 0
    while len(chosen) < n:
        problem = next(stream)
        repeats = repeats + 1 if problem.id in chosen else 0
        if repeats > PATIENCE:
            raise ValueError(f"{n} problems of {split!r} asked for; after {len(chosen)} there are hardly others")
        chosen.setdefault(problem.id, problem)
    return list(chosen.values())
