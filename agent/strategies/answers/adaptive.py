r"""Adaptive Best-of-N: stop where a solution is good for sure, and look again where the verifier is unsure.

After adaptive computation allocation (ACA, Li et al. 2026, arXiv 2605.15529), for a verifier that says how sure it is
of its scores, by their standard deviation sd (`verifiers.core.Scored.deviations`; the verifiers ``...-beta``). With mu
the score,

    stop when a solution has    mu - z sd >= sure;
    else go on from the unfinished prefixes with the largest sd, each once, or from the root where there are none.

A verifier that says nothing of the kind counts as sure (sd = 0): then this is Best-of-N that stops at a high score, the
control. The paper learns where to stop from held-out problems; here `sure` is given. By default it never stops, as n is
what is to be spent.

The first `first` samples are whole; what goes on from a prefix costs its own steps alone, so n buys n solutions' worth.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from agent.search.graph import SearchGraph
from agent.search.requests import Search, propose, score
from agent.strategies.traits import Traits
from envs.options import Above, AtLeast, check_ranges
from verifiers.voting import Vote

_ROUND = 4  # samples asked for at once


@dataclass(frozen=True)
class Adaptive:
    """Sample, stop when a solution is reliably good, else sample on from where the verifier is least sure.

    Args:
        n: budget in sample-equivalents.
        first: whole samples to begin with.
        sure: the lower bound of a score at which the search ends; above 1 is never.
        z: standard deviations between a score and its lower bound.
        temperature: of the samples.
        vote: over all finished solutions.
    """

    n: Annotated[int, AtLeast(1)] = 16
    first: Annotated[int, AtLeast(1)] = 4
    sure: Annotated[float, Above(0)] = 2.0
    z: Annotated[float, AtLeast(0)] = 1.0
    temperature: Annotated[float, AtLeast(0)] = 1.0
    vote: Vote = field(default_factory=Vote)

    def __post_init__(self) -> None:
        check_ranges(self)

    @classmethod
    def sized(cls, n: int, **knobs: Any) -> Self:
        """Samples for n sample-equivalents."""
        return cls(n=n, **knobs)

    @property
    def traits(self) -> Traits:
        """Steered by the verifier and by how sure it is."""
        return Traits(decides=self.sure <= 1)

    def search(self, graph: SearchGraph) -> Search[None]:
        """Sample and evaluate, round by round, from where it is unsure."""
        before = graph.generated
        begun: set[int] = set()
        count = min(self.first, self.n)
        starts = {graph.root: count}
        while True:
            drawn = yield from propose(graph, list(starts), list(starts.values()), self.temperature, max_steps=None)
            ends = dict.fromkeys(end for each in drawn for end in each if graph.status(end) == "terminated")
            yield from score(graph, list(ends))
            left = round(self.n - graph.samples(before))
            if left < 1 or any(self.lower(graph, node) >= self.sure for node in graph.finished()):
                return
            unsure = self.unsure(graph, begun)[: min(left, _ROUND)]
            begun.update(unsure)
            starts = dict.fromkeys(unsure, 1) if unsure else {graph.root: min(left, _ROUND)}

    def lower(self, graph: SearchGraph, node: int) -> float:
        """The lower bound of the score of a step."""
        at = graph[node]
        return (at.score or 0.0) - self.z * (at.deviation or 0.0)

    def unsure(self, graph: SearchGraph, begun: set[int]) -> list[int]:
        """Prefixes that nothing was begun from, the least sure first."""
        nodes = [
            node
            for node in range(1, len(graph))
            if graph.status(node) == "running" and (graph[node].deviation or 0.0) > 0 and node not in begun
        ]
        return sorted(nodes, key=lambda node: (-(graph[node].deviation or 0.0), node))
