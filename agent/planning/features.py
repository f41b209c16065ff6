"""What a planner knows of a search so far, in a few numbers: the state that its estimates are functions of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from agent.planning.regression import logit

_GRAIN = 0.05  # a vote's weight that counts for little


@dataclass(frozen=True)
class Answer:
    """One answer, and what speaks for it.

    Args:
        plain: independent complete samples that gave it.
        weight: what the vote gives it.
        best: the best score of a trajectory that gave it; 0 if none is scored.
    """

    plain: int = 0
    weight: float = 0.0
    best: float = 0.0


@dataclass(frozen=True)
class Evidence:
    """The state of a search.

    Args:
        plain: independent complete samples drawn.
        searched: sample-equivalents spent otherwise, on searches that the verifier steered.
        scored: whether the verifier has scored anything that votes.
        answers: in the order of the vote, the leading one first.
        prior: estimated pass@1 from the text of the problem alone (`agent.planning.prior`); a half says nothing.
    """

    plain: int = 0
    searched: float = 0.0
    scored: bool = False
    answers: Sequence[Answer] = ()
    prior: float = 0.5

    @property
    def spent(self) -> float:
        """Sample-equivalents spent so far, independent samples and searches together."""
        return self.plain + self.searched

    @property
    def agreement(self) -> float:
        """Share of the independent samples that gave the leading answer."""
        return self.answers[0].plain / self.plain if self.answers and self.plain else 0.0

    @property
    def share(self) -> float:
        """Share of the vote that the leading answer holds."""
        total = sum(answer.weight for answer in self.answers)
        return self.answers[0].weight / total if total else 0.0

    @cached_property
    def features(self) -> tuple[float, ...]:
        """The regressors: `FEATURES`, in that order. What does not exist yet (a score, a sample) counts as 0."""
        first = self.answers[0] if self.answers else Answer()
        rest = sum(answer.weight for answer in self.answers[1:])
        agreement = (first.plain + 0.5) / (self.plain + 1)
        return (
            1.0,
            math.log1p(self.plain),
            math.log1p(self.searched),
            float(self.scored),
            float(bool(self.answers)),
            logit(agreement) if self.plain else 0.0,
            math.log((first.weight + _GRAIN) / (rest + _GRAIN)) if self.scored else 0.0,
            logit(first.best) if self.scored else 0.0,
            logit(self.prior),
        )


FEATURES = ("constant", "log samples", "log searched", "scored", "answered", "agreement", "lead", "best score", "prior")
"""Of `Evidence`: log(1 + samples), log(1 + sample-equivalents of search), whether scored, whether there is an answer,
the logit of the agreement (smoothed by half a sample each way), the log odds of the leading answer's weight, the logit
of its best score, the logit of what the text alone says."""
