r"""Sampling with confidence: traces are stopped in flight, filtered, and vote by their confidence (DeepConf).

Fu et al. 2025 (arXiv 2508.15260), algorithm 2. `warm_up` whole traces are drawn first. With C_t the confidence of
trace t and `keep` the share eta that is to stay,

    s = Percentile_(100 (1 - eta)) of { C_t : t in the warm-up }

Further traces are drawn step by step, and each ends where its confidence falls below s; those of the warm-up that are
below have no vote. Answers weigh V(a) = sum of C_t over the traces that end in a. Drawing ends when
V(best) / sum V >= `consensus`, or when the budget is spent.

The confidence is the verifier's score: with the verifier ``confidence`` and its measure ``group`` this is the paper's
lowest group confidence, which can only fall as a trace goes on. With a process reward model the same rule is applied to
its scores; what the vote's aggregate makes of them should fall too (``min``).

The paper looks after every token, and this after every step: a trace is stopped at the end of the step in which its
confidence falls below s. What stopped traces leave is spent on others: n buys n solutions' worth of tokens, where the
paper draws a given number of traces. `consensus` is off by default (the paper: 0.95), so that n is what is spent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from agent.search.graph import SearchGraph
from agent.search.requests import Search, propose, score
from agent.strategies.traits import Traits
from envs.options import Above, AtLeast, check_ranges
from verifiers.voting import Vote

_WAVE = 16  # traces in flight at once


@dataclass(frozen=True)
class DeepConf:
    """Draw traces, stop those whose confidence falls below that of most of the first ones, vote by confidence.

    Args:
        n: budget in sample-equivalents.
        warm_up: whole traces drawn first, at most half of n.
        keep: eta, the share of them whose confidence sets the threshold; the paper has 0.9 and 0.1.
        consensus: share of the vote at which drawing ends; above 1 is never.
        temperature: of the samples.
        vote: over the traces that were kept; its aggregation is also what their confidence is.
    """

    n: Annotated[int, AtLeast(1)] = 16
    warm_up: Annotated[int, AtLeast(1)] = 8
    keep: Annotated[float, Above(0, 1)] = 0.9
    consensus: Annotated[float, Above(0)] = 2.0
    temperature: Annotated[float, AtLeast(0)] = 1.0
    vote: Vote = field(default_factory=Vote)

    def __post_init__(self) -> None:
        check_ranges(self)

    @classmethod
    def sized(cls, n: int, **knobs: Any) -> Self:
        """Traces for n sample-equivalents."""
        return cls(n=n, **knobs)

    @property
    def traits(self) -> Traits:
        """Whole samples, some of which are stopped by their scores."""
        return Traits(decides=self.consensus <= 1)

    def search(self, graph: SearchGraph) -> Search[None]:
        """Warm up, set the threshold, draw on."""
        before = graph.generated
        first = min(self.warm_up, max(1, self.n // 2))
        (drawn,) = yield from propose(graph, [graph.root], first, self.temperature, max_steps=None)
        ends = [node for node in dict.fromkeys(drawn) if graph.status(node) == "terminated"]
        values = dict(zip(ends, (yield from score(graph, ends, self.vote.aggregate)), strict=True))
        known = [values[node] for node in drawn if node in values]
        threshold = percentile(known, 1 - self.keep) if known else 0.0
        for node in ends:
            graph[node]["value"] = values[node]
            graph[node]["pruned"] = values[node] < threshold
        while (left := round(self.n - graph.samples(before))) >= 1 and not self.agreed(graph):
            yield from self.wave(graph, min(left, _WAVE), threshold)

    def wave(self, graph: SearchGraph, count: int, threshold: float) -> Search[None]:
        """Draw some traces, a step each at a time, and stop those that fall below the threshold."""
        going = {graph.root: count}  # traces at each node
        while going:
            drawn = yield from propose(graph, list(going), list(going.values()), self.temperature)
            at: dict[int, int] = {}
            for node in (node for nodes in drawn for node in nodes):
                if graph.status(node) != "truncated":
                    at[node] = at.get(node, 0) + 1
            values = yield from score(graph, list(at), self.vote.aggregate)
            going = {}
            for node, value in zip(at, values, strict=True):
                graph[node]["value"] = value
                graph[node]["pruned"] = value < threshold
                if value >= threshold and graph.status(node) == "running":
                    going[node] = at[node]

    def agreed(self, graph: SearchGraph) -> bool:
        """Whether one answer has so much of the vote that drawing ends."""
        if self.consensus > 1:
            return False
        groups = graph.tally(self.vote)
        total = math.fsum(group.weight for group in groups)
        return bool(groups) and groups[0].weight >= self.consensus * total


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which a share of the values lies, between two of them by linear interpolation."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])
