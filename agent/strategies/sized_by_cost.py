"""Strategies for budgets in tokens, FLOPs or seconds: sized by what the budget buys, as measured while it is spent.

A strategy has a size in samples. What a sample costs depends on the problem, the models and the strategy, so it is
measured: the search begins with one sample, which stays a candidate, and what it cost says how many more the rest buys.
Large budgets take a second measurement, of an eighth of the rest, as sharing makes many samples cheaper than one. The
last size is rounded up or down at random (by the search's seed) such that the mean over problems is the budget:
comparisons at equal FLOPs are then at equal FLOPs, however few samples they buy. A search goes over its budget by less
than a sample, or a tenth.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from agent.search.budget import SLACK, Budget, Meter
from agent.search.graph import SearchGraph
from agent.search.requests import Search, propose, score
from agent.strategies.protocol import Strategy
from agent.strategies.traits import Traits
from verifiers.voting import Vote

_CHEAP = 1 / 16  # of the budget: a first step that takes less is followed by all others at once
_MANY = 10  # samples left to buy, from which on their cost is measured again and some of the rest is held back
_MEASURED = 1 / 8  # of the rest, for the second measurement
_HELD = 0.9  # of the rest is spent at once: the remainder fills up what was estimated wrongly
_TIMED = 0.5  # the same of seconds, which are estimated worse, and whose end cannot be put off


@dataclass(frozen=True)
class SizedByCost:
    """A strategy that spends a budget in tokens, FLOPs or seconds; a limit in samples is the most that it draws.

    Args:
        kind: the strategy.
        budget: the limits.
        knobs: of the strategy.
    """

    kind: type[Strategy]
    budget: Budget
    knobs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def sized(cls, n: int, **knobs: Any) -> Self:
        """At most n samples of a ``kind`` for a ``budget``."""
        return cls(knobs["kind"], Budget(n, *_limits(knobs["budget"])), knobs.get("knobs", {}))

    def of(self, n: int) -> Strategy:
        """The strategy in a size."""
        return self.kind.sized(n, **self.knobs)

    @property
    def vote(self) -> Vote:
        """That of the strategy."""
        return self.of(1).vote

    @property
    def traits(self) -> Traits:
        """Those of the strategy."""
        return self.of(1).traits

    def search(self, graph: SearchGraph) -> Search[None]:
        """Measure, size, spend, until less than half a sample is left."""
        meter = graph.context.meter
        if not (yield from self.sample(graph)):
            meter.grace = -1.0  # what is left buys nothing: the limit is met
            return
        decides = self.traits.decides
        drawn, cost, took = 1, self.used(meter), self.used(meter)
        while took > 0 and (n := self.size(graph, drawn, (1 - self.used(meter)) / cost)) >= 1:
            meter.grace = max(SLACK - 1, cost)
            before = self.used(meter)
            yield from self.of(n).search(graph)
            took = self.used(meter) - before
            drawn, cost = drawn + n, took / n or cost
            if decides:
                return

    def sample(self, graph: SearchGraph) -> Search[bool]:
        """Draw the first sample, which shows what one costs; returns whether the budget was enough for it.

        It is drawn step by step where a step takes so much that the whole may be too dear, and ended where the next
        step, or its scores, would go over the budget: with the probability that makes the mean the budget.
        """
        meter, temperature, node = graph.context.meter, self.knobs.get("temperature", 1.0), graph.root
        step, rng = 0.0, random.Random(f"{graph.seed}/{graph.problem.id}/first")
        while graph.status(node) == "running":
            if not self.affords(meter, step, rng):
                return False
            generated, prefilled, used = meter.generated, meter.prefilled, self.used(meter)
            whole = None if 0 < step < _CHEAP else 1
            ((node,),) = yield from propose(graph, [node], 1, temperature, max_steps=whole)
            generated, prefilled = meter.generated - generated, meter.prefilled - prefilled
            step = (self.used(meter) - used) * generated / max(1, generated + prefilled)
            meter.grace = max(SLACK - 1, step)
        if self.traits.needs_scores:
            parameters, limit = graph.context.verifier_parameters, self.budget.flops
            scores = 2 * parameters * (meter.generated + meter.prefilled) / limit if limit else 0.0
            if not self.affords(meter, scores, rng):
                return False
            meter.grace = max(SLACK - 1, scores)
            yield from score(graph, [node])
        return True

    def affords(self, meter: Meter, share: float, rng: random.Random) -> bool:
        """Whether to spend a share of the budget; by chance where more than what is left, so that the mean is right."""
        left = 1 - self.used(meter)
        return share <= left or rng.random() * share < left

    def size(self, graph: SearchGraph, drawn: int, buys: float) -> int:
        """How many samples to draw next.

        Args:
            graph: of the search.
            drawn: samples so far.
            buys: samples that the rest of the budget buys.
        """
        if self.budget.seconds is not None:
            n = math.floor(_TIMED * buys)
        elif buys < _MANY or self.traits.decides:
            whole = math.floor(buys)
            n = whole + (random.Random(f"{graph.seed}/{graph.problem.id}/{drawn}").random() < buys - whole)
        else:
            n = math.floor((_MEASURED if drawn == 1 else _HELD) * buys)
        return n if self.budget.samples is None else min(n, int(self.budget.samples) - drawn)

    def used(self, meter: Meter) -> float:
        """The share of the budget that is spent, of the limit that is nearest."""
        spent = (meter.generated + meter.prefilled, meter.flops, meter.seconds)
        pairs = zip(spent, _limits(self.budget), strict=True)
        return max((each / limit for each, limit in pairs if limit is not None), default=0.0)


def _limits(budget: Budget) -> tuple[int | None, float | None, float | None]:
    return budget.tokens, budget.flops, budget.seconds
