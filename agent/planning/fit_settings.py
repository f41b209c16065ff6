"""Constants of a fit: what is tried, on how many samples, and by what rule a plan is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.planning.plan_file import (
    Action,
)
from agent.planning.recorded_runs import Arm
from envs.messages import UsageError

PROBES = (1, 2, 4, 8)
BUDGETS = (1, 4, 16, 64)
_DECODED: Mapping[str, Any] = {"temperature": 0.0}  # greedily, and scored
_GREEDY = Arm("best-of-n", 1, 1, _DECODED)
ARMS = (
    Arm("best-of-n", 64),
    _GREEDY,
    Arm("dvts", 4, 16, {"branch": 4}, parts=True),
    Arm("dvts", 2, 16, {"branch": 2}, parts=True),
    Arm("beam", 12, 1, {"branch": 4}),
    Arm("beam", 12, 1, {"branch": 2}),
    Arm("dvts", 16, 1, {"branch": 4}),  # these two tell what subtrees share
    Arm("dvts", 16, 1, {"branch": 2}),
)
MOVES = (
    Action("greedy", 1),
    Action("best-of-n", 1, _DECODED),
    *(Action("majority", n) for n in (1, 2, 4, 8, 16)),
    *(Action("best-of-n", n) for n in (2, 4, 8, 16)),
    *(Action("dvts", n, {"branch": 4}) for n in (4, 8, 16)),
    *(Action("dvts", n, {"branch": 2}) for n in (2, 4, 8)),
    *(Action("beam", 12, {"branch": branch}) for branch in (4, 2)),
)
# for tasks on which it pays to keep half of the prefixes
BEAMS = tuple(Arm("beam", n, repeats, {"branch": 2}) for n, repeats in ((4, 2), (8, 2), (16, 3), (32, 1), (48, 1)))
# for policies that can revise: one long chain, or four of two attempts
REVISING = tuple(Arm("revision", 8, 1, {"ratio": ratio}) for ratio in (8.0, 0.5))
PRICES = (0.0, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016)  # in probability per scored sample
MARGIN = 0.01  # of accuracy, that a cheaper strategy of the table may lose
DOUBLING = 0.01  # of accuracy, that twice the FLOPs must gain
SHORT = 0.005  # of accuracy, the most that an opening may lose to the best of its budget
MIDDLING = 0.001, 4  # of the prices and of the strides
STRIDES = (1, 2, 4, 8, 16)
FINALISTS = 4  # openings that are tried at every price and stride, and as many of the most accurate
WALKS = 6  # searches per problem that the fits learn from, random and steered ones each
ROUNDS = 8  # most rounds of those that a fit steers
REPEATS = 3  # replays per problem that a choice is judged by


ALSO = (4, 16)  # sizes at which a further strategy is tried


def arms_of(strategy: str, knobs: Mapping[str, Any]) -> tuple[Arm, ...]:
    """A further strategy that the planner may take as an action, at the sizes of `ALSO`, run twice each.

    Raises:
        UsageError: it decides by itself when to end, or draws independent samples, which every plan has already.
    """
    arms = tuple(Arm(strategy, n, 2, knobs) for n in ALSO)
    if arms[0].traits.decides or arms[0].traits.independent:
        why = "decides by itself when to end" if arms[0].traits.decides else "draws independent samples, as plans do"
        raise UsageError(f"strategy {strategy} {why}; name one that searches otherwise, e.g. particles")
    return arms


def independent(n: int) -> tuple[tuple[Arm, ...], tuple[Action, ...], tuple[int, ...]]:
    """Arms, moves and budgets of a plan of independent samples alone, at most n: all that recorded samples allow."""
    moves = tuple(move for move in MOVES if move.traits.independent and move.n <= n)
    return (Arm("best-of-n", n), _GREEDY), moves, (*(b for b in BUDGETS if b < n), n)


def drawing_distinct(temperature: float) -> Arm:
    """What draws without replacement: for tasks whose answers prove themselves."""
    return Arm("best-of-n", 64, 2, {"distinct": True, "temperature": temperature})
