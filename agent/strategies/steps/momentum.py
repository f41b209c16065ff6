r"""Momentum uncertainty: candidates are drawn only at steps where the policy is less sure than it was before.

MUR (Yan et al. 2025, arXiv 2507.14958, section 3). With u_t the mean log-probability of the tokens of step t,

    m_t = alpha m_(t-1) + (1 - alpha) u_t,   m_0 = 0,        step t is scaled where   exp(u_t) < gamma exp(m_(t-1))

and t is not the first step. Scaling draws `branch` more candidates of the step, of which the verifier takes the best
(the paper's guided search; here the first draw is a candidate too); u_t is then that of the step that was taken. A
smaller gamma scales fewer steps.

One chain is the paper's method; n buys several, which vote. A chain costs between 1 and 1 + `branch` samples. Chains
are begun while they are paid for even if every step is scaled, and what is left is drawn as plain samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from agent.search.graph import SearchGraph
from agent.search.requests import Search, propose, propose_each, score
from agent.strategies.traits import Traits
from envs.options import Above, AtLeast, check_ranges
from verifiers.voting import Vote


@dataclass(frozen=True)
class Momentum:
    """Chains of steps, with more candidates for those that the policy is unsure of.

    Args:
        n: budget in sample-equivalents.
        branch: candidates drawn for an unsure step, besides the first.
        gamma: how much less sure than before a step must be.
        alpha: the share of the past in the momentum.
        temperature: of the samples.
        vote: over the finished chains; its aggregation is also what candidates are ranked by.
    """

    n: Annotated[int, AtLeast(1)] = 16
    branch: Annotated[int, AtLeast(1)] = 3
    gamma: Annotated[float, Above(0)] = 0.9
    alpha: Annotated[float, AtLeast(0)] = 0.9
    temperature: Annotated[float, AtLeast(0)] = 1.0
    vote: Vote = field(default_factory=Vote)

    def __post_init__(self) -> None:
        check_ranges(self)

    @classmethod
    def sized(cls, n: int, **knobs: Any) -> Self:
        """Chains for n sample-equivalents."""
        return cls(n=n, **knobs)

    @property
    def traits(self) -> Traits:
        """Steered by the policy's log-probabilities, and by the verifier."""
        return Traits()

    def search(self, graph: SearchGraph) -> Search[None]:
        """Begin chains while they are paid for, then plain samples."""
        before = graph.generated
        while (left := round(self.n - graph.samples(before))) >= 1:
            if count := left // (1 + self.branch):
                yield from self.chains(graph, count)
                continue
            (ends,) = yield from propose(graph, [graph.root], left, self.temperature, max_steps=None)
            yield from score(graph, [end for end in dict.fromkeys(ends) if graph.status(end) == "terminated"])
            return

    def chains(self, graph: SearchGraph, count: int) -> Search[None]:
        """Expand chains by a step each; scale the steps that the policy is unsure of, evaluate, select."""
        heads, momenta = [graph.root] * count, [0.0] * count
        while going := [chain for chain, head in enumerate(heads) if graph.status(head) == "running"]:
            candidates = yield from propose_each(graph, {chain: heads[chain] for chain in going}, 1, self.temperature)
            unsure = {
                chain: heads[chain]
                for chain in going
                if heads[chain] != graph.root and self.is_unsure(graph, candidates[chain][0], momenta[chain])
            }
            if unsure:
                more = yield from propose_each(graph, unsure, self.branch, self.temperature)
                for chain in unsure:
                    candidates[chain] += more[chain]
            seen = [node for chain in unsure for node in candidates[chain] if graph.status(node) != "truncated"]
            ordered = list(dict.fromkeys(seen))
            values = dict(zip(ordered, (yield from score(graph, ordered, self.vote.aggregate)), strict=True))
            for node, value in values.items():
                graph[node]["value"] = value
            for chain in going:
                best = max(candidates[chain], key=lambda node: (values.get(node, -1.0), -node))
                momenta[chain] = self.alpha * momenta[chain] + (1 - self.alpha) * sureness(graph, best)
                heads[chain] = best
            for node in values:
                graph[node]["pruned"] = node not in heads
        ends = [head for head in dict.fromkeys(heads) if graph.status(head) == "terminated"]
        yield from score(graph, ends)

    def is_unsure(self, graph: SearchGraph, node: int, momentum: float) -> bool:
        """Whether the step at a node is to be scaled."""
        return math.exp(sureness(graph, node)) < self.gamma * math.exp(momentum)


def sureness(graph: SearchGraph, node: int) -> float:
    """The mean log-probability of the tokens of the step at a node."""
    step = graph[node].step
    return step.logprob / max(1, step.tokens)
