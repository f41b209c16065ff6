"""Blend-ASC: self-consistency over a set of problems that share a budget (Feng et al. 2025, arXiv 2511.12309).

The next sample goes to the problem whose vote is the least settled. Two measures of that are blended, both of the
counts v1 >= v2 of the two commonest answers, and both near 0 once the vote is settled:

* that of Adaptive-Consistency, good with few samples: the probability that the leader is not ahead,
  I_{1/2}(v1 + 1, v2 + 1);
* that of PPR-1v1, optimal with many: the posterior over the prior density at a tie,
  v = Beta(1/2; v1 + 1, v2 + 1) = (v1 + v2 + 1) C(v1 + v2, v1) / 2^(v1 + v2), capped at 1. The error of stopping at
  v <= delta is at most delta.

The blend moves from the first to the second as the problem's own samples are spent, (1 - t) a + t v with t = drawn / N.
(The paper moves with the budget of the whole set; a search here knows its own part.) A problem without samples comes
first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from agent.search.graph import SearchGraph
from agent.search.requests import Search, bid, propose
from agent.search.shared_budget import Offer
from agent.strategies.answers.adaptive_consistency import ahead, two_commonest
from agent.strategies.traits import Traits
from envs.options import AtLeast, check_ranges
from verifiers.voting import Vote


@dataclass(frozen=True)
class BlendAsc:
    """Whole samples, one by one, where the vote is the least settled. N is the most that one problem gets.

    Args:
        n: most samples of the problem.
        auction: it shares a budget with other searches (`agent.search.shared_budget`); alone it draws all n samples.
        temperature: of the samples.
        vote: how the answers are counted.
    """

    n: Annotated[int, AtLeast(1)] = 16
    auction: bool = False
    temperature: Annotated[float, AtLeast(0)] = 1.0
    vote: Vote = field(default_factory=lambda: Vote("majority"))

    def __post_init__(self) -> None:
        check_ranges(self)

    @classmethod
    def sized(cls, n: int, **knobs: Any) -> Self:
        """At most n samples; other knobs as given."""
        return cls(n=n, **knobs)

    @property
    def traits(self) -> Traits:
        """Independent whole samples, without scores."""
        return Traits(needs_scores=False, independent=True, deterministic=self.temperature == 0)

    def search(self, graph: SearchGraph) -> Search[None]:
        """Ask for each sample where a budget is shared."""
        sample = graph.context.meter
        for drawn in range(self.n):
            if self.auction:
                gain = unsettled(*two_commonest(graph, self.vote), drawn / self.n) if drawn else 1.0
                if (yield from bid([Offer(gain, 1.0, sample.cost / max(1, drawn))])) is None:
                    return
            yield from propose(graph, [graph.root], 1, self.temperature, max_steps=None)


def unsettled(first: int, second: int, late: float) -> float:
    """How little a vote is settled, in [0, 1].

    Args:
        first: count of the commonest answer.
        second: count of the next one.
        late: t, the share of the samples that are spent.
    """
    total = first + second
    tie = min(1.0, (total + 1) * math.comb(total, first) / (1 << total))
    return (1 - late) * (1 - ahead(first, second)) + late * tie
