r"""Foresight sampling: steps are chosen by how sure, and how agreed, the solutions are that they lead to. No verifier.

phi-decoding (Xu et al. 2025, arXiv 2503.13288, section 3). `width` prefixes are kept. Each draws `branch` candidate
steps; those whose mean log-probability per token is more than a standard deviation below that of all are dropped (the
paper's pruning in width). The others are played out once to the end. With F the mean log-probability per token of what
was played out, and F' that of the prefix before, the next prefixes are drawn, without replacement, by

    p = (softmax(A / tau) + softmax(C / tau)) / 2,      A = F - F',      C = share of the candidates in one's cluster

The first part is the advantage of a step, the second the agreement of the paths. Where one cluster has at least `agree`
of the paths no more steps are chosen (pruning in depth).

Differences: the paper clusters paths by the words in them; here those are a cluster that come to the same answer. The
paper writes the answer after the last choice; here every path that was played out is a candidate, and they vote (the
commonest answer), so nothing that was paid for is thrown away. What is left of the budget is spent on more passes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from agent.search.graph import SearchGraph
from agent.search.requests import Search, propose
from agent.strategies.steps.momentum import sureness
from agent.strategies.steps.particle_filter import softmax
from agent.strategies.traits import Traits
from envs.options import Above, AtLeast, check_ranges
from verifiers.voting import Vote, classes

Heads = dict[int, float]
"""Prefixes, with the mean log-probability per token of what was played out from each."""


@dataclass(frozen=True)
class Foresight:
    """Play candidate steps out, and draw the next prefixes by advantage and agreement.

    Args:
        n: budget in sample-equivalents.
        width: prefixes that are kept.
        branch: candidate steps of each.
        tau: temperature of the choice.
        agree: share of the paths with one answer from which on no more steps are chosen; above 1 is never.
        temperature: of the samples.
        vote: over all solutions.
    """

    n: Annotated[int, AtLeast(1)] = 16
    width: Annotated[int, AtLeast(1)] = 2
    branch: Annotated[int, AtLeast(1)] = 4
    tau: Annotated[float, Above(0)] = 0.6
    agree: Annotated[float, Above(0)] = 0.7
    temperature: Annotated[float, AtLeast(0)] = 1.0
    vote: Vote = field(default_factory=lambda: Vote("majority"))

    def __post_init__(self) -> None:
        check_ranges(self)

    @classmethod
    def sized(cls, n: int, **knobs: Any) -> Self:
        """Passes for n sample-equivalents."""
        return cls(n=n, **knobs)

    @property
    def traits(self) -> Traits:
        """Steered by the policy alone."""
        return Traits(needs_scores=False)

    def search(self, graph: SearchGraph) -> Search[None]:
        """Choose steps until the paths agree or end, then begin anew, until the budget is spent."""
        before = graph.generated
        rng = random.Random(f"{graph.seed}/{graph.problem.id}/foresight")
        heads: Heads = {}
        while (left := round(self.n - graph.samples(before))) >= 1:
            heads = heads or {graph.root: 0.0}
            heads = yield from self.choose(graph, heads, left, rng)

    def choose(self, graph: SearchGraph, heads: Heads, left: int, rng: random.Random) -> Search[Heads]:
        """One round: the prefixes to go on from; none where the paths agree or have ended."""
        most = self.branch if len(heads) > 1 else self.width * self.branch
        drawn = yield from propose(graph, list(heads), max(1, min(most, left // len(heads))), self.temperature)
        before = {node: head for head, nodes in zip(heads, drawn, strict=True) for node in nodes if node != head}
        kept = self.likely(graph, [node for node in before if graph.status(node) != "truncated"])
        running = [node for node in kept if graph.status(node) == "running"]
        ends = {node: node for node in kept}
        if running:
            played = yield from propose(graph, running, 1, self.temperature, max_steps=None)
            ends |= {node: end for node, (end,) in zip(running, played, strict=True)}
        paths = [node for node in kept if graph.status(ends[node]) == "terminated"]
        if not paths:
            return {}
        after = [mean_logprob(graph, node, ends[node]) for node in paths]
        advantages = [mean - heads[before[node]] for node, mean in zip(paths, after, strict=True)]
        answers = [str(graph[ends[node]].answer) for node in paths]
        leader = classes(answers, graph.environment.same)
        shares = [sum(leader[other] == leader[each] for other in answers) / len(answers) for each in answers]
        if max(shares) >= self.agree:
            return {}
        chosen = self.draw(self.chances(advantages, shares), self.width, rng)
        return {paths[i]: after[i] for i in chosen if graph.status(paths[i]) == "running"}

    def likely(self, graph: SearchGraph, nodes: Sequence[int]) -> list[int]:
        """The candidates that are not much less likely than the others; as many as are kept, at least."""
        values = [sureness(graph, node) for node in nodes]
        mean = math.fsum(values) / max(1, len(values))
        spread = math.sqrt(math.fsum((each - mean) ** 2 for each in values) / max(1, len(values)))
        kept = [node for node, each in zip(nodes, values, strict=True) if each >= mean - spread]
        others = sorted(set(nodes) - set(kept), key=lambda node: (-sureness(graph, node), node))
        return sorted([*kept, *others[: max(0, self.width - len(kept))]])

    def chances(self, advantages: Sequence[float], shares: Sequence[float]) -> list[float]:
        """The probabilities of the candidates, by the formula above."""
        first, second = (softmax([each / self.tau for each in values]) for values in (advantages, shares))
        return [(a + c) / 2 for a, c in zip(first, second, strict=True)]

    def draw(self, chances: Sequence[float], count: int, rng: random.Random) -> list[int]:
        """Indices, without replacement."""
        left = dict(enumerate(chances))
        chosen: list[int] = []
        while left and len(chosen) < count:
            (index,) = rng.choices(list(left), list(left.values()))
            chosen.append(index)
            del left[index]
        return chosen


def mean_logprob(graph: SearchGraph, start: int, end: int) -> float:
    """The mean log-probability per token from a node to the end of its path; of a node that ends, its own."""
    path = graph.path(end)
    steps = [graph[node].step for node in path[path.index(start) + 1 :]] or [graph[start].step]
    return math.fsum(step.logprob for step in steps) / max(1, sum(step.tokens for step in steps))
