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
from collections.abc import Mapping, MutableMapping, Sequence
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
        attempts: list[list[Candidate]] = [[] for _ in range(chains)]
        leaders: dict[int, int] = {}  # of each chain, what votes for it
        for turn in range(lengths[0]):
            going = sum(length > turn for length in lengths)
            drawn = yield from propose_each(graph, dict(enumerate(heads[:going])), 1, self.temperature, max_steps=None)
            new = {chain: node for chain, (node,) in drawn.items() if graph.status(node) == "terminated"}
            if self.vote.rule != "majority":
                yield from score(graph, sorted(set(new.values())))
            for chain, node in new.items():
                heads[chain] = node
                attempts[chain].append(Candidate(graph[node]["answer"], graph.scores(node), 1, node))
            self.select(graph, {chain: attempts[chain] for chain in new}, leaders)

    def select(
        self, graph: SearchGraph, grown: Mapping[int, Sequence[Candidate]], leaders: MutableMapping[int, int]
    ) -> None:
        """Leave each chain's best attempt at its leading answer to vote, and no other of the chain's attempts.

        Args:
            graph: of the search.
            grown: the attempts of the chains that have a new one, the new one last.
            leaders: by chain, the attempt that votes for it; brought up to date.
        """
        touched = set[int]()
        for chain, attempts in grown.items():
            best = tally(attempts, self.vote, graph.environment.same)[0].best.node
            touched |= {attempts[-1].node, best, leaders.get(chain, best)}
            leaders[chain] = best
        chosen = set(leaders.values())
        for node in touched:
            graph[node]["pruned"] = node not in chosen
