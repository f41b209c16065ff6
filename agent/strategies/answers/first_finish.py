"""The shortest answers vote: many samples begin together, and drawing ends when the first m of them have ended.

short-m@k (Hassid et al. 2025, arXiv 2505.17813, section 4): k generations run in parallel; they are stopped when the
first m have finished, and the answer is the majority among these m, of equals the one with the shortest solution. In
arXiv 2512.02008 (the art of scaling) it is first-finish search. Long solutions of a model that thinks are more often
wrong, and the time of the shortest is the time of the search.

Samples go on together, a step each at a time, so the clock here is the step; of those that end in the last round the
shortest in tokens are taken. n samples begin; what those that were stopped had not written is not spent, so n buys n
samples at most. On tasks whose solutions all have the same number of steps it is majority voting by the shorter half.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import chain
from typing import Annotated, Any, Self

from agent.search.graph import SearchGraph
from agent.search.requests import Search, propose, score
from agent.strategies.traits import Traits
from envs.options import Above, AtLeast, check_ranges
from verifiers.voting import Vote


@dataclass(frozen=True)
class FirstFinish:
    """Begin n samples, stop when the first have ended, count the answers of these.

    Args:
        n: samples that begin.
        share: of them that vote, the first and the shortest; m = share n, rounded up.
        temperature: of the samples.
        vote: how the answers are counted.
    """

    n: Annotated[int, AtLeast(1)] = 16
    share: Annotated[float, Above(0, 1)] = 0.5
    temperature: Annotated[float, AtLeast(0)] = 1.0
    vote: Vote = field(default_factory=lambda: Vote("majority"))

    def __post_init__(self) -> None:
        check_ranges(self)

    @classmethod
    def sized(cls, n: int, **knobs: Any) -> Self:
        """N samples that begin."""
        return cls(n=n, **knobs)

    @property
    def traits(self) -> Traits:
        """Whole samples, stopped by their length; scored unless they are only counted."""
        return Traits(self.vote.rule != "majority", deterministic=self.temperature == 0)

    def search(self, graph: SearchGraph) -> Search[None]:
        """Expand all samples by a step, until enough have ended."""
        wanted = math.ceil(self.n * self.share)
        going = {graph.root: self.n}
        ended: list[int] = []  # a node for each sample
        while going and len(ended) < wanted:
            drawn = yield from propose(graph, list(going), list(going.values()), self.temperature)
            going = {}
            for node in chain.from_iterable(drawn):
                if graph.status(node) == "running":
                    going[node] = going.get(node, 0) + 1
                elif graph.status(node) == "terminated":
                    ended.append(node)
        ended.sort(key=lambda node: (graph.path_tokens(node), node))
        chosen = set(ended[:wanted])
        for node in (*ended, *going):
            graph[node]["pruned"] = node not in chosen
        if self.vote.rule != "majority":
            yield from score(graph, sorted(chosen))
