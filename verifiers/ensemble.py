"""Several verifiers as one: each scores every state, and a step has the weighted mean of its scores.

Or of their log-odds (`pool`), where scores are on different scales, or tell different things: the logarithmic opinion
pool (Genest and Zidek 1986), with a bias and with weights that need not add up to 1,

    log-odds = bias + sum of weight_i * log(s_i / (1 - s_i)),

which is a logistic regression on what the members say (stacking, Wolpert 1992). `verifiers.training.probe` fits one.

Requests go to every member at once, and a reply is given when the last one's is there; tokens and FLOPs add up. A
member that fails on a step (NaN) makes the ensemble's score of it NaN too: a mean over the others would be a number on
another scale, and steps that one member failed on would be judged by another measure than their siblings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from policies.models.digest import joint_digest
from policies.service import Identified
from verifiers.core import ConfidenceReader, Score, Scored, Verifier

Pool = Literal["mean", "log-odds"]
_SURE = 1e-6  # how near to 0 or 1 a score counts as that near


class Ensemble:
    """Several verifiers as one.

    Args:
        members: what to ask, one or more.
        weights: of their scores, none negative, not all 0; equal ones by default. Of log-odds any, as they are.
        name: in records; by default those of the members.
        pool: what is averaged.
        bias: of log-odds.

    Raises:
        ValueError: no members, weights that do not fit, a bias of a mean, or members that read different numbers of
            likeliest tokens.
    """

    def __init__(
        self,
        members: Sequence[Verifier],
        weights: Sequence[float] | None = None,
        name: str | None = None,
        *,
        pool: Pool = "mean",
        bias: float = 0.0,
    ) -> None:
        least = -math.inf if pool == "log-odds" else 0.0
        if not members:
            raise ValueError("an ensemble of no members given; at least one is needed")
        given = [1.0 / len(members)] * len(members) if weights is None else [float(weight) for weight in weights]
        if len(given) != len(members) or not all(least <= each < math.inf for each in given) or not any(given):
            below = "" if pool == "log-odds" else " none below 0,"
            raise ValueError(
                f"weights {weights} given for {len(members)} members; one each is needed,{below} not all 0"
            )
        if not math.isfinite(bias) or (bias and pool == "mean"):
            raise ValueError(f"bias {bias} given; it must be finite, and it is of pool=log-odds alone")
        self.members = tuple(members)
        self.pool, self.bias = pool, bias
        self.weights = tuple(given) if pool == "log-odds" else tuple(weight / math.fsum(given) for weight in given)
        self.name = name or "+".join(member.name for member in members)
        self.parameters = sum(member.parameters for member in members)
        tops = {member.top for member in members if isinstance(member, ConfidenceReader) and member.top is not None}
        if len(tops) > 1:
            raise ValueError(f"members read {sorted(tops)} likeliest tokens; a policy records one number of them")
        self.top = next(iter(tops), None)
        self._waiting: dict[
            int, tuple[str, dict[int, Scored | Exception]]
        ] = {}  # by ticket: the scope, and replies by member

    def digest(self) -> str:
        """Of all members, those without a model by their names, and of the weights; empty if a member is not known."""
        each = [
            member.digest() if isinstance(member, Identified) else "" if member.parameters else member.name
            for member in self.members
        ]
        return joint_digest([*each, f"{self.weights} {self.pool} {self.bias}"])

    def submit(self, ticket: int, request: Score) -> None:
        """Ask every member; raises ValueError when the ticket is in use, and what a member raises."""
        if ticket in self._waiting:
            raise ValueError(f"ticket {ticket} is in use")
        self._waiting[ticket] = (request.scope, {})
        try:
            for member in self.members:
                member.submit(ticket, request)
        except Exception:
            self.cancel(request.scope)  # a member must not answer what the ensemble does not wait for
            raise

    def poll(self) -> Sequence[tuple[int, Scored | Exception]]:
        """Poll every member; return the requests that all of them have answered."""
        for index, member in enumerate(self.members):
            for ticket, reply in member.poll():
                if ticket in self._waiting:
                    self._waiting[ticket][1][index] = reply
        done = [ticket for ticket, (_, replies) in self._waiting.items() if len(replies) == len(self.members)]
        return [(ticket, self._mean(self._waiting.pop(ticket)[1])) for ticket in done]

    def cancel(self, scope: str) -> None:
        """Drop the requests of a search, here and at every member."""
        self._waiting = {ticket: waiting for ticket, waiting in self._waiting.items() if waiting[0] != scope}
        for member in self.members:
            member.cancel(scope)

    def close(self) -> None:
        """Close all verifiers of the ensemble, which frees their models."""
        self._waiting = {}
        for member in self.members:
            member.close()

    def _mean(self, replies: dict[int, Scored | Exception]) -> Scored | Exception:
        """The mixed scores, or the exception of a member."""
        ordered: list[Scored] = []
        for index in range(len(self.members)):
            reply = replies[index]
            if isinstance(reply, Exception):
                return reply
            ordered.append(reply)
        scores = tuple(
            tuple(self._mix(each) for each in zip(*steps, strict=True))
            for steps in zip(*(reply.scores for reply in ordered), strict=True)
        )
        tokens = sum(reply.tokens for reply in ordered)
        flops, reads = (
            math.fsum(each) for each in zip(*((reply.flops, reply.reads) for reply in ordered), strict=True)
        )
        return Scored(scores, tokens, flops, reads)

    def _mix(self, scores: Sequence[float]) -> float:
        if self.pool == "log-odds":
            pooled = math.fsum(weight * log_odds(score) for weight, score in zip(self.weights, scores, strict=True))
            return 1 / (1 + math.exp(-max(pooled + self.bias, -700.0)))  # max: NaN stays
        mean = math.fsum(weight * score for weight, score in zip(self.weights, scores, strict=True))
        return 1.0 if mean > 1 else mean  # by the last bit; NaN stays


def log_odds(score: float) -> float:
    """log(p / (1 - p)), finite for scores of 0 and 1; NaN stays."""
    sure = min(max(score, _SURE), 1 - _SURE) if not math.isnan(score) else score
    return math.log(sure / (1 - sure))
