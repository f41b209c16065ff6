r"""Monte-Carlo tree search over steps with PUCT selection (Silver et al. 2017; for language models, Feng et al. 2023).

Selection goes from the root to a node without children by the largest

    Q(s, a) + c * P(a) * sqrt(sum_b N(b)) / (1 + N(a)),      Q(s, a) = (V(a) + W(a)) / (1 + N(a))

over the children that can still lead somewhere new: P is a child's share of the samples that left its parent, V the
verifier's value of its step (one virtual visit), N its visits, W the sum of the values backed up through it. Expansion
draws `branch` steps and the verifier values each; the best child is played out by the policy to the end. What is backed
up to the root is the return of that *finished* trajectory: the verifier's value of it, and the reward that the
environment gave for its end. Finished trajectories vote, those of play-outs included.
Simulations go on until `n` sample-equivalents are spent. When the whole tree is explored, it is expanded again, with
new samples, from the root; a pass over it that finds no new state ends the search.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from agent.search.graph import SearchGraph
from agent.search.requests import Search, propose, score
from agent.search.tree import Node
from agent.strategies.branching import branch as branching
from agent.strategies.traits import Traits
from envs.options import AtLeast, check_ranges
from verifiers.voting import Vote


@dataclass(frozen=True)
class Mcts:
    """Select by PUCT, expand, play out, back up.

    Args:
        n: budget in sample-equivalents.
        branch: steps sampled at an expansion.
        c: weight of exploration.
        temperature: of all samples.
        vote: over all finished trajectories; its aggregation is also what values are.
        chain: how many first samples of a node must agree for no more to be drawn there; 0 is never
            (`agent.strategies.branching`).
    """

    n: Annotated[int, AtLeast(1)] = 16
    branch: Annotated[int, AtLeast(1)] = 4
    c: Annotated[float, AtLeast(0)] = 1.0
    temperature: Annotated[float, AtLeast(0)] = 1.0
    vote: Vote = field(default_factory=Vote)
    chain: Annotated[int, AtLeast(0)] = 0

    def __post_init__(self) -> None:
        check_ranges(self)

    @classmethod
    def sized(cls, n: int, **knobs: Any) -> Self:
        """As many simulations as n sample-equivalents pay for."""
        return cls(n=n, **knobs)

    @property
    def traits(self) -> Traits:
        """Steered by the verifier."""
        return Traits()

    def search(self, graph: SearchGraph) -> Search[None]:
        """Simulate until the budget is spent."""
        how = self.vote.aggregate
        expanded: set[int] = set()
        exhausted: set[int] = set()
        branch = min(self.branch, self.n)
        known = 0
        before = graph.generated  # a probe's, not out of this budget
        while graph.samples(before) < self.n:
            node = self.select(graph, expanded, exhausted)
            if node is None:
                if len(graph) == known:
                    return
                known = len(graph)
                exhausted -= expanded
                expanded.clear()
                continue
            if graph.status(node) != "running":  # it has ended, and came into the tree by another way than this search
                exhausted.add(node)
                self.close(graph, graph.parent(node), expanded, exhausted)
                continue
            (drawn,) = yield from branching(graph, [node], [branch], self.temperature, self.chain)
            if graph.status(node) != "running":  # a person cut it meanwhile
                continue
            expanded.add(node)
            children = list(dict.fromkeys([*graph.children(node), *drawn]))
            left = sum(map(graph.count, children))  # play-outs from further up passed here too
            for child, value in zip(children, (yield from score(graph, children, how)), strict=True):
                graph[child].value = value
                graph[child].prior = graph.count(child) / left
            running = [child for child in children if graph.status(child) == "running"]
            ends = [child for child in children if graph.status(child) != "running"]
            if running:
                best = min(running, key=lambda child: (-graph[child]["value"], child))
                ((end,),) = yield from propose(graph, [best], 1, self.temperature, max_steps=None)
                yield from score(graph, [end], how)
                ends.append(end)
            for end in ends:
                exhausted.add(end)
                (value,) = yield from score(graph, [end], how)
                self.back_up(graph, end, value + graph[end]["reward"] if graph.status(end) == "terminated" else 0.0)
            self.close(graph, node, expanded, exhausted)

    def select(self, graph: SearchGraph, expanded: set[int], exhausted: set[int]) -> int | None:
        """The node to expand next, or None when everything is explored."""
        node = graph.root
        if node in exhausted:
            return None
        while node in expanded:
            children = graph.children(node)
            total = sum(graph[child].visits for child in children)
            node = min((-self._puct(graph[child], total), child) for child in children if child not in exhausted)[1]
        return node

    def puct(self, graph: SearchGraph, parent: int, child: int) -> float:
        """The formula above for a child of a node."""
        return self._puct(graph[child], sum(graph[sibling].visits for sibling in graph.children(parent)))

    def _puct(self, child: Node, total: int) -> float:
        """The same, given the visits of all children together."""
        assert child.value is not None  # it was valued, and has a prior, since its parent was expanded
        assert child.prior is not None
        q = (child.value + child.total) / (1 + child.visits)
        return q + self.c * child.prior * math.sqrt(total) / (1 + child.visits)

    def back_up(self, graph: SearchGraph, end: int, value: float) -> None:
        """Count a visit of `value` at every node from an end to the root."""
        for node in graph.path(end):
            graph[node].visits += 1
            graph[node].total += value

    def close(self, graph: SearchGraph, node: int | None, expanded: set[int], exhausted: set[int]) -> None:
        """Mark a node and those above it as exhausted where all children are."""
        while node is not None and node in expanded and all(child in exhausted for child in graph.children(node)):
            exhausted.add(node)
            node = graph.parent(node)
