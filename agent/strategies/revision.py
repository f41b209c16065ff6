"""Sequential revision (Snell et al. 2024, arXiv 2408.03314, section 6): attempts that are shown earlier attempts.

A chain begins with a fresh attempt; each later attempt of it is drawn by a policy that is shown the last four before
it (`agent.search.graph.SHOWN`). Chains run in parallel. Of N attempts, `ratio` decides how many go where: L in a chain
and P chains with L * P = N and L / P = ratio. An attempt that ends without an answer is not shown; its chain tries
again.

The answer is chosen within each chain first, then across chains, both by the vote: a chain's leading answer is
represented by its best attempt, which alone votes. Every attempt is one complete sample, so N buys N.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from agent.search.graph import SearchGraph
from agent.search.requests import Search, propose_each, score
from agent.strategies.beam import share
from agent.strategies.traits import Traits
from envs.options import Above, AtLeast, check_ranges
from verifiers.voting import Candidate, Vote, tally


@dataclass(frozen=True)
class Revision:
    """Chains of attempts, each shown the last four before it.

    Args:
        n: attempts in all.
        ratio: attempts in a chain to chains: n is one chain, 1 / n is Best-of-N.
        temperature: of all samples.
        vote: within and across chains; with ``majority`` the verifier is never asked.

    Raises:
        ValueError: the ratio is not above 0.
    """

    n: Annotated[int, AtLeast(1)] = 16
    ratio: Annotated[float, Above(0)] = 1.0
    temperature: Annotated[float, AtLeast(0)] = 1.0
    vote: Vote = field(default_factory=Vote)

    def __post_init__(self) -> None:
        check_ranges(self)

    @classmethod
    def sized(cls, n: int, **knobs: Any) -> Self:
        """A search of n attempts."""
        return cls(n=n, **knobs)

    @property
    def traits(self) -> Traits:
        """Attempts that depend on those before, scored unless they are only counted."""
        return Traits(needs_scores=self.vote.rule != "majority")

    def search(self, graph: SearchGraph) -> Search[None]:
        """Expand every chain by one attempt, evaluate, select."""
        chains = min(self.n, max(1, round(math.sqrt(self.n / self.ratio))))
        lengths = share(self.n, chains)  # the longer chains first
        heads = [graph.root] * chains
        ends: list[list[int]] = [[] for _ in range(chains)]
        for turn in range(lengths[0]):
            going = sum(length > turn for length in lengths)
            drawn = yield from propose_each(graph, dict(enumerate(heads[:going])), 1, self.temperature, max_steps=None)
            new = set()
            for chain, (node,) in drawn.items():
                if graph.status(node) == "terminated":
                    heads[chain] = node
                    ends[chain].append(node)
                    new.add(node)
            if self.vote.rule != "majority":
                yield from score(graph, [node for chain in ends for node in chain[-1:] if node in new])
            self.select(graph, ends)

    def select(self, graph: SearchGraph, ends: list[list[int]]) -> None:
        """Leave each chain's best attempt at its leading answer to vote, and no other of the chains' attempts."""
        chosen = set()
        for chain in ends:
            attempts = [Candidate(graph[node]["answer"], graph.scores(node), 1, node) for node in chain]
            if attempts:
                chosen.add(tally(attempts, self.vote, graph.environment.same)[0].best.node)
        for node in {node for chain in ends for node in chain}:
            graph[node]["pruned"] = node not in chosen
