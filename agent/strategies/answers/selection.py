r"""Best-of-N whose answer a judge chooses by comparing solutions: all at once, or two at a time.

``genselect`` (Toshniwal et al. 2025, arXiv 2507.17797): the judge is shown up to `size` solutions and says which is the
best. More solutions than that are compared in groups, and the better half of each goes on, until one group is left.
The last group is compared in two orders, as shown and turned round.

``tournament`` (LLM-as-a-verifier, arXiv 2607.05391): every solution is compared with `pivots` pivots, each pair in both
orders: N solutions take O(N k) comparisons in place of O(N^2). Pivots are the first solutions of the commonest answers.
With q_ij the mean chance over both orders that i is better than j, a solution has the weight

    w_i = mean_j q_ij     over the pivots j that have another answer than i

A verdict that cannot be read is no vote; a solution of which no verdict can be read weighs 1/2. Solutions of equal
answers are not compared.

Chances are read from the distribution over the letters that the judge may answer with (an expectation, not one drawn
letter). The papers have the judge think first; the judges here answer at once. Judgements are the verifier's cost:
n buys n solutions, and all calls are charged in FLOPs. With the vote's rule ``vote`` the weights of an answer are added
up; with ``max`` the best solution alone votes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from agent.search.graph import SearchGraph
from agent.search.requests import Search, compare, propose
from agent.strategies.traits import Traits
from envs.options import AtLeast, check_ranges
from verifiers.voting import Vote, classes


@dataclass(frozen=True)
class ListSelection:
    """Sample whole solutions; a judge chooses among them, up to `size` at once.

    Args:
        n: samples.
        size: solutions that are compared at once.
        temperature: of the samples.
        vote: whether the weights of an answer are added up, ``vote``, or the best solution decides, ``max``.
    """

    n: Annotated[int, AtLeast(1)] = 16
    size: Annotated[int, AtLeast(2, 20)] = 8
    temperature: Annotated[float, AtLeast(0)] = 1.0
    vote: Vote = field(default_factory=Vote)

    def __post_init__(self) -> None:
        check_ranges(self)

    @classmethod
    def sized(cls, n: int, **knobs: Any) -> Self:
        """A choice among n solutions."""
        return cls(n=n, **knobs)

    @property
    def traits(self) -> Traits:
        """Whole samples, compared by the verifier."""
        return Traits(needs_comparisons=True)

    def search(self, graph: SearchGraph) -> Search[None]:
        """Sample, then select group by group."""
        going = yield from samples(graph, self.n, self.temperature)
        everything = list(going)
        while len(going) > self.size:
            groups = [going[at : at + self.size] for at in range(0, len(going), self.size)]
            chances = yield from compare(graph, [group for group in groups if len(group) > 1])
            verdicts = iter(chances)
            going = [best for group in groups for best in self.best(group, next(verdicts) if len(group) > 1 else ())]
        weights = dict.fromkeys(going, 0.5)
        if len(going) > 1:
            straight, turned = yield from compare(graph, [going, going[::-1]])
            weights = mean_of(going, [straight, turned[::-1]])
        weigh(graph, everything, weights, self.vote)

    def best(self, group: Sequence[int], chances: Sequence[float]) -> list[int]:
        """The better half of a group, one at least; the first half where there is no verdict that can be read."""
        if not chances:
            return list(group[: max(1, len(group) // 2)])
        order = sorted(range(len(group)), key=lambda i: (-chances[i], i))
        return sorted(group[i] for i in order[: max(1, len(group) // 2)])


@dataclass(frozen=True)
class Tournament:
    """Sample whole solutions; a judge compares each with some pivots, two at a time.

    Args:
        n: samples.
        pivots: solutions that every other one is compared with.
        temperature: of the samples.
        vote: whether the weights of an answer are added up, ``vote``, or the best solution decides, ``max``.
    """

    n: Annotated[int, AtLeast(1)] = 16
    pivots: Annotated[int, AtLeast(1)] = 3
    temperature: Annotated[float, AtLeast(0)] = 1.0
    vote: Vote = field(default_factory=Vote)

    def __post_init__(self) -> None:
        check_ranges(self)

    @classmethod
    def sized(cls, n: int, **knobs: Any) -> Self:
        """A tournament of n solutions."""
        return cls(n=n, **knobs)

    @property
    def traits(self) -> Traits:
        """Whole samples, compared by the verifier."""
        return Traits(needs_comparisons=True)

    def search(self, graph: SearchGraph) -> Search[None]:
        """Sample, then compare with the pivots."""
        nodes = yield from samples(graph, self.n, self.temperature)
        leader = classes([str(graph[node].answer) for node in nodes], graph.environment.same)
        answers = {node: leader[str(graph[node].answer)] for node in nodes}
        pivots = self.choose(graph, nodes, answers)
        pairs = [(i, j) for i in nodes for j in pivots if answers[i] != answers[j] and not (i in pivots and i > j)]
        chances: list[tuple[float, ...]] = []
        if pairs:
            chances = yield from compare(graph, [pair for i, j in pairs for pair in ((i, j), (j, i))])
        shares: dict[int, list[float]] = {node: [] for node in nodes}
        for (i, j), straight, turned in zip(pairs, chances[::2], chances[1::2], strict=True):
            read = [each for each in (straight[:1], turned[1:]) if each]
            if not read:
                continue
            q = math.fsum(each[0] for each in read) / len(read)
            if j in pivots:
                shares[i].append(q)
            if i in pivots:
                shares[j].append(1 - q)
        weights = {node: math.fsum(each) / len(each) if each else 0.5 for node, each in shares.items()}
        weigh(graph, nodes, weights, self.vote)

    def choose(self, graph: SearchGraph, nodes: Sequence[int], answers: Mapping[int, str]) -> list[int]:
        """The first solutions of the commonest answers."""
        counts: dict[str, int] = {}
        firsts: dict[str, int] = {}
        for node in nodes:
            counts[answers[node]] = counts.get(answers[node], 0) + graph.count(node)
            firsts.setdefault(answers[node], node)
        order = sorted(firsts, key=lambda answer: (-counts[answer], firsts[answer]))
        return [firsts[answer] for answer in order[: self.pivots]]


def samples(graph: SearchGraph, n: int, temperature: float) -> Search[list[int]]:
    """Draw n whole solutions; the distinct ones that have an answer."""
    (ends,) = yield from propose(graph, [graph.root], n, temperature, max_steps=None)
    return [node for node in dict.fromkeys(ends) if graph.status(node) == "terminated"]


def mean_of(nodes: Sequence[int], verdicts: Sequence[Sequence[float]]) -> dict[int, float]:
    """The mean chance of each node over the verdicts that can be read; 1/2 where none can."""
    read = [each for each in verdicts if each]
    if not read:
        return dict.fromkeys(nodes, 0.5)
    return {node: math.fsum(each[i] for each in read) / len(read) for i, node in enumerate(nodes)}


def weigh(graph: SearchGraph, nodes: Sequence[int], weights: Mapping[int, float], vote: Vote) -> None:
    """Write the weights of solutions, times their counts; what has none drops out, under ``max`` all but the best."""
    best = max(weights, key=lambda node: (weights[node], -node), default=None)
    for node in nodes:
        kept = node in weights and (vote.rule != "max" or node == best)
        graph[node]["pruned"] = not kept
        if kept:
            graph[node]["value"] = weights[node]
            graph[node]["weight"] = weights[node] * graph.count(node)
