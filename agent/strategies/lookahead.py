"""Lookahead search (Snell et al. 2024, arXiv 2408.03314, section 5.2).

Beam search in which a candidate step is valued by the verifier at the end of a rollout of up to k further steps at
temperature 0, ended early when the solution ends; beam search is k = 0. A round draws `width` candidates and up to k
steps for each, N x (k + 1) at a width of N; so a budget of n buys a first width of n / (k + 1), and later rounds keep
the pace: rollouts are shorter near the end and are drawn once for equal candidates, and what that saves is spent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from agent.search.graph import SearchGraph
from agent.search.requests import Search
from agent.strategies.beam import beam_search
from agent.strategies.traits import Traits
from envs.options import AtLeast, check_ranges
from verifiers.voting import Vote


@dataclass(frozen=True)
class Lookahead:
    """Beam search with candidates valued after `k` greedy steps; rollouts do not vote.

    Args:
        n: budget in sample-equivalents, rollouts included.
        branch: samples per kept prefix.
        k: greedy steps per candidate; fewer where n is less than k + 1.
        temperature: of the candidates.
        vote: over all finished trajectories; its aggregation is also what candidates are ranked by.
        chain: how many first samples of a prefix must agree for no more to be drawn there; 0 is never
            (`agent.strategies.branching`).
    """

    n: Annotated[int, AtLeast(1)] = 16
    branch: Annotated[int, AtLeast(1)] = 4
    k: Annotated[int, AtLeast(0)] = 1
    temperature: Annotated[float, AtLeast(0)] = 1.0
    vote: Vote = field(default_factory=Vote)
    chain: Annotated[int, AtLeast(0)] = 0

    def __post_init__(self) -> None:
        check_ranges(self)

    @classmethod
    def sized(cls, n: int, **knobs: Any) -> Self:
        """A search that spends n sample-equivalents."""
        return cls(n=n, **knobs)

    @property
    def traits(self) -> Traits:
        """Steered by the verifier."""
        return Traits()

    def search(self, graph: SearchGraph) -> Search[None]:
        """Expand, evaluate at the end of a greedy rollout, select."""
        k = min(self.k, self.n - 1)  # a budget of one sample cannot pay for looking ahead and for an answer
        width = max(1, round(self.n / (k + 1)))
        yield from beam_search(graph, width, self.branch, self.temperature, self.vote.aggregate, k, self.n, self.chain)
