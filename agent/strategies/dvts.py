"""Diverse verifier tree search (Beeching et al. 2024, as used by Liu et al. 2025, arXiv 2502.06703, section 2.2).

With N = `width` and M = `branch`: N / M independent subtrees; in each, sample M next steps and keep the single best;
all N / M finished trajectories vote. Subtrees never compete: less exploitation than a beam, more diversity. Each
round draws M steps per subtree, so N buys N complete solutions' worth of steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate
from typing import Annotated, Any, Self

from agent.search.graph import SearchGraph
from agent.search.requests import Search, score
from agent.strategies.beam import share
from agent.strategies.branching import branch
from agent.strategies.traits import Traits
from envs.options import AtLeast, check_ranges
from verifiers.voting import Vote


@dataclass(frozen=True)
class Dvts:
    """Independent greedy tree searches; the best step of each subtree is kept.

    Args:
        width: N, candidates per round over all subtrees.
        branch: M, candidates per subtree; below M the one subtree has N.
        temperature: of the samples.
        vote: over the subtrees' finished trajectories; its aggregation is also what candidates are ranked by.
        chain: how many first samples of a prefix must agree for no more to be drawn there; 0 is never
            (`agent.strategies.branching`).
    """

    width: Annotated[int, AtLeast(1)] = 16
    branch: Annotated[int, AtLeast(1)] = 4
    temperature: Annotated[float, AtLeast(0)] = 1.0
    vote: Vote = field(default_factory=Vote)
    chain: Annotated[int, AtLeast(0)] = 0

    def __post_init__(self) -> None:
        check_ranges(self)

    @classmethod
    def sized(cls, n: int, **knobs: Any) -> Self:
        """Subtrees of n candidates in all."""
        return cls(width=n, **knobs)

    @property
    def traits(self) -> Traits:
        """Steered by the verifier."""
        return Traits()

    def search(self, graph: SearchGraph) -> Search[None]:
        """Expand all subtrees, evaluate, select within each."""
        counts = share(self.width, max(1, self.width // self.branch))
        heads = dict.fromkeys(range(len(counts)), graph.root)  # subtree: its one kept prefix
        while heads:
            # subtrees at the same prefix draw together, then part: merged siblings keep their counts
            where: dict[int, list[int]] = {}
            for tree, head in heads.items():
                where.setdefault(head, []).append(tree)
            sizes = [sum(counts[tree] for tree in trees) for trees in where.values()]
            drawn = yield from branch(graph, list(where), sizes, self.temperature, self.chain)
            candidates = {
                tree: [node for node in part if graph.status(node) != "truncated"]
                for trees, nodes in zip(where.values(), drawn, strict=True)
                for tree, part in zip(trees, _split(nodes, [counts[tree] for tree in trees]), strict=True)
            }
            every = list(dict.fromkeys(node for nodes in candidates.values() for node in nodes))
            for node, value in zip(every, (yield from score(graph, every, self.vote.aggregate)), strict=True):
                graph[node]["value"] = value
            best = {
                tree: min(nodes, key=lambda node: (-graph[node]["value"], node))
                for tree, nodes in sorted(candidates.items())
                if nodes
            }
            chosen = set(best.values())
            for node in every:
                graph[node]["pruned"] = node not in chosen
            heads = {tree: node for tree, node in best.items() if graph.status(node) == "running"}


def _split(nodes: list[int], sizes: list[int]) -> list[list[int]]:
    """Consecutive runs of a list."""
    return [nodes[end - size : end] for end, size in zip(accumulate(sizes), sizes, strict=True)]
