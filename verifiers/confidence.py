r"""Scores without a model: how sure the policy was of its own tokens (`policies.generation.confidence`).

A step has the score of the solution up to its end, whose tokens have the confidences C_1 ... C_t and the entropies H_i.
A group is a window of tokens, G_j = mean(C_(j - window + 1) ... C_j) for j >= window; a solution that is shorter is one
group.

==============  =======================================  ============================================================
measure         score                                    source
==============  =======================================  ============================================================
``group``       min_j G_j / 88                           DeepConf (Fu et al. 2025, arXiv 2508.15260), equation 4
``bottom``      mean of the lowest tenth of G_j / 88     DeepConf, equation 3
``tail``        mean of the last `window` C_i / 88       DeepConf, equation 5
``mean``        mean of all C_i / 88                     DeepConf, average trace confidence; with ``top`` 0
                                                         self-certainty (Kang et al. 2025, arXiv 2502.18581), equation 7
``entropy``     exp(-mean of all H_i)                    one over the tokens that the policy hesitates between
``perplexity``  exp(mean of log p(token_i))              one over the perplexity
==============  =======================================  ============================================================

Scores are in proportion to the paper's confidence, by 88 (no log-probability of float32 is much below -88), so that a
vote weighs as the paper's does: sum of C over the solutions of an answer. Scores of one measure rank solutions of one
policy; they are no probabilities, and rules with a threshold or with odds (`particles`, `speculative`) want a verifier
that gives those. The paper's other uses are in `agent.strategies.answers.deepconf`. Kang et al. vote by rank (Borda);
that vote is not here.

``perplexity`` needs the log-probability of each step alone, which every backend gives. All others need what a policy
records when it is asked (`policies.core.ConfidenceRecorder`): the engine asks it, and refuses a policy that cannot.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Annotated, Literal

from envs.core import Environment, Step
from envs.errors import StepwellError
from envs.options import AtLeast
from policies.generation.confidence import FLOOR
from policies.service import QueuedService
from verifiers.core import Score, Scored

Measure = Literal["group", "bottom", "tail", "mean", "entropy", "perplexity"]

_TENTH = 0.1  # of the groups
_ROUNDED = 5  # decimals


class NotRecorded(StepwellError, ValueError):
    """Steps come without what a confidence is read from."""


class ConfidenceVerifier(QueuedService[Score, Scored | Exception]):
    """The policy's own confidence as a `Verifier`.

    Args:
        environment: of the states; not looked at.
        measure: which, as the module says.
        window: tokens of a group, and of the tail.
        top: likeliest tokens that are looked at; 0 is all, which servers do not tell.
    """

    name = "confidence"
    parameters = 0

    def __init__(
        self,
        environment: Environment,
        *,
        measure: Measure = "group",
        window: Annotated[int, AtLeast(1)] = 1024,
        top: Annotated[int, AtLeast(0)] = 20,
    ) -> None:
        super().__init__()
        self.measure, self.window = measure, window
        self.top: int | None = None if measure == "perplexity" else top

    def _answer(self, request: Score) -> Scored | NotRecorded:
        """The scores of a request, or why it has none: that fails its search alone."""
        try:
            return Scored(tuple(self._scores(state.steps) for state in request.states))
        except NotRecorded as error:
            return error

    def _scores(self, steps: Sequence[Step]) -> tuple[float, ...]:
        """One score per step; a step without text has that of the step before."""
        scores: list[float] = []
        values: list[float] = []
        for step in steps:
            if not step.text.strip():
                scores.append(scores[-1] if scores else 0.5)
                continue
            values += self._values(step)
            scores.append(round(min(max(self._score(values), 0.0), 1.0), _ROUNDED))
        return tuple(scores)

    def _values(self, step: Step) -> list[float]:
        """What is averaged, token by token."""
        if self.measure == "perplexity":
            return [step.logprob / max(1, step.tokens)] * max(1, step.tokens)
        if not step.certainty:
            raise NotRecorded(
                "the policy gave a step without the log-probabilities of its likeliest tokens, which the verifier"
                f" 'confidence' reads with measure {self.measure!r}; 'perplexity' needs none"
            )
        return [each[self.measure == "entropy"] for each in step.certainty]

    def _score(self, values: Sequence[float]) -> float:
        if self.measure == "perplexity":
            return math.exp(_mean(values))
        if self.measure == "entropy":
            return math.exp(-_mean(values))
        return self._confidence(values) / -FLOOR

    def _confidence(self, values: Sequence[float]) -> float:
        """The confidence of a solution's tokens, in nats."""
        if self.measure == "mean" or len(values) <= self.window:
            return _mean(values)
        if self.measure == "tail":
            return _mean(values[-self.window :])
        groups = group_means(values, self.window)
        if self.measure == "group":
            return min(groups)
        return _mean(sorted(groups)[: max(1, math.ceil(_TENTH * len(groups)))])


def group_means(values: Sequence[float], window: int) -> list[float]:
    """The means of all windows of so many values in a row."""
    sums = [0.0, *accumulate(values)]
    return [(after - before) / window for before, after in zip(sums, sums[window:], strict=False)]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
