"""Self-consistency that stops once the vote is settled; no verifier, and nothing to calibrate.

Two rules, both on the counts v1 >= v2 of the two commonest answers:

* ``beta``: Adaptive-Consistency (Aggarwal et al. 2023, arXiv 2305.11860, section 3, the Beta criterion). With a uniform
  prior, the share of the leader among the two is Beta(v1 + 1, v2 + 1), and sampling ends when it is above 1/2 with a
  probability of at least `sure`:

      P(p1 > p2 | v1, v2) = 1 - I_{1/2}(v1 + 1, v2 + 1)

* ``bayes-factor``: after Best-of-infinity (Komiyama et al. 2025, arXiv 2509.21091): sampling ends when the data favour
  "the leader is the more common of the two" over "it is not" by a Bayes factor of at least `factor`. Both hypotheses
  have the prior probability 1/2, so the factor is the posterior odds, P / (1 - P) with the P above. (The paper takes a
  Dirichlet process over all answers; ours is its case of the two commonest.)

A sample without an answer counts for nobody.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

from agent.search.graph import SearchGraph
from agent.search.requests import Search, propose
from agent.strategies.traits import Traits
from envs.options import Above, AtLeast, check_ranges
from verifiers.voting import Vote


@dataclass(frozen=True)
class AdaptiveConsistency:
    """Draw whole samples until the leading answer can hardly be overtaken. N buys at most N samples.

    Args:
        n: most samples.
        rule: ``beta`` or ``bayes-factor``.
        sure: of the rule ``beta``: the probability at which it stops (the paper's 0.95).
        factor: of the rule ``bayes-factor``: the Bayes factor at which it stops.
        step: samples drawn at once between two looks (the paper draws one).
        temperature: of the samples.
        vote: how the answers are counted.
    """

    n: Annotated[int, AtLeast(1)] = 16
    rule: Literal["beta", "bayes-factor"] = "beta"
    sure: Annotated[float, Above(0, 1)] = 0.95
    factor: Annotated[float, Above(0)] = 100.0
    step: Annotated[int, AtLeast(1)] = 1
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
        """Independent whole samples, without scores; it ends by itself."""
        return Traits(needs_scores=False, independent=True, deterministic=self.temperature == 0, decides=True)

    def search(self, graph: SearchGraph) -> Search[None]:
        """Draw, look, and stop when the vote is settled."""
        drawn = 0
        while drawn < self.n:
            n = min(self.step, self.n - drawn)
            yield from propose(graph, [graph.root], n, self.temperature, max_steps=None)
            drawn += n
            leader = ahead(*two_commonest(graph, self.vote))
            settled = leader >= self.sure if self.rule == "beta" else leader >= self.factor * (1 - leader)
            if settled and drawn < self.n:
                rest = f"the leading answer is ahead with probability {leader:.3f} after {drawn} of {self.n} samples"
                graph.info["plan"] = {"strategy": "adaptive-consistency", "knobs": {}, "reasons": [f"stopped: {rest}"]}
                return


def two_commonest(graph: SearchGraph, vote: Vote) -> tuple[int, int]:
    """How often the two commonest answers were drawn."""
    counts = sorted((group.count for group in graph.tally(vote)), reverse=True)
    first, second = (*counts, 0, 0)[:2]
    return first, second


def ahead(first: int, second: int) -> float:
    """The probability that the first of two answers is the more common one, of their counts; 1/2 of none.

    1 - I_{1/2}(v1 + 1, v2 + 1) of whole numbers is the chance of at most v1 heads in v1 + v2 + 1 throws of a coin.
    """
    throws = first + second + 1
    return sum(math.comb(throws, heads) for heads in range(first + 1)) / (1 << throws)
