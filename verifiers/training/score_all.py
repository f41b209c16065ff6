"""The scores of many states, by any verifier."""

from __future__ import annotations

import math
from collections.abc import Sequence

from envs.core import State
from verifiers.core import Score, Verifier


def score_all(verifier: Verifier, states: Sequence[State], batch: int = 256) -> list[tuple[float, ...]]:
    """Score the steps of each state; NaN counts as 0, as in a search."""
    scores: list[tuple[float, ...]] = []
    for start in range(0, len(states), batch):
        verifier.submit(0, Score(tuple(states[start : start + batch]), "report"))
        while not (ready := verifier.poll()):
            pass
        verifier.cancel("report")
        ((_, reply),) = ready
        if isinstance(reply, Exception):
            raise reply
        scores += [tuple(0.0 if math.isnan(score) else score for score in each) for each in reply.scores]
    return scores
