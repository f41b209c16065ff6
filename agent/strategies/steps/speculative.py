r"""Two policies: steps of the small one where the verifier accepts them, and of the large one where it does not.

Reward-guided speculative decoding (RSD, Liao et al. 2025, arXiv 2501.19324, algorithm 1): at each step z the small
policy m draws y_z; with r(y_z) its score and the weight w(r) = 1 where r >= `threshold`, else 0 (the paper's binary
step function),

    y_z ~ w(r(y_z)) P_m(y_z | z) + v P_M(y_z | z)

that is, y_z stays if it is accepted, and is drawn anew by the large policy M otherwise, whose step is taken as it is.
SpecReason (Pan et al. 2025, arXiv 2504.07891) is the same with a judge as the verifier: the large model rates the step
from 0 to 9, and 7 is the usual threshold. A verifier ``openai:LARGE``, or ``hf:LARGE`` with the family ``judge``, does
that here, by the chance that it says Yes.

One chain is the papers' method; n buys several, which vote. A chain of k steps of which j are rejected draws k + j
steps, each charged to the policy that wrote it. Chains are begun while they are paid for even if every step is
rejected; what is left then, less than two solutions' worth, is drawn from the small policy alone. So at n = 1 there is
no room for a large policy: give a budget in FLOPs, or 2 and more. Where there is one policy alone, it draws rejected
steps anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from agent.search.graph import SearchGraph
from agent.search.requests import Search, propose, propose_each, score
from agent.strategies.traits import Traits
from envs.options import AtLeast, check_ranges
from verifiers.voting import Vote


@dataclass(frozen=True)
class Speculative:
    """Chains of steps of a small policy, each step replaced by one of a large policy where its score is low.

    Args:
        n: budget in sample-equivalents, of both policies together.
        threshold: the score from which on a step of the small policy is accepted.
        temperature: of the samples of both.
        vote: over the finished chains; its aggregation is also what the score of a step is.
    """

    n: Annotated[int, AtLeast(1)] = 16
    threshold: Annotated[float, AtLeast(0)] = 0.7
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
        """Steered by the verifier, of two policies."""
        return Traits(needs_large=True)

    def search(self, graph: SearchGraph) -> Search[None]:
        """Begin chains while they are paid for."""
        before = graph.generated
        while (left := round(self.n - graph.samples(before))) >= 1:
            if left == 1:
                yield from self.alone(graph)
                return
            yield from self.chains(graph, left // 2)

    def chains(self, graph: SearchGraph, count: int) -> Search[None]:
        """Expand some chains by a step each until all have ended; evaluate; replace what is rejected."""
        heads = [graph.root] * count
        while going := [chain for chain, head in enumerate(heads) if graph.status(head) == "running"]:
            begun = list(heads)
            yield from self.draw(graph, heads, going)
            scored = list(dict.fromkeys(heads[chain] for chain in going if graph.status(heads[chain]) != "truncated"))
            values = dict(zip(scored, (yield from score(graph, scored, self.vote.aggregate)), strict=True))
            for node, value in values.items():
                graph[node]["value"] = value
            rejected = [chain for chain in going if values.get(heads[chain], 0.0) < self.threshold]
            if not rejected:
                continue
            dropped = {heads[chain] for chain in rejected}
            for chain in rejected:
                heads[chain] = begun[chain]
            yield from self.draw(graph, heads, rejected, large=graph.context.policy_large)
            for node in dropped:
                graph[node]["pruned"] = node not in heads and graph.status(node) != "truncated"
        ends = [head for head in dict.fromkeys(heads) if graph.status(head) == "terminated"]
        yield from score(graph, ends, self.vote.aggregate)  # those of the large policy have no score yet

    def draw(self, graph: SearchGraph, heads: list[int], chains: list[int], large: bool = False) -> Search[None]:
        """Draw a step for some chains; those at one head draw together, then part."""
        places = {chain: heads[chain] for chain in chains}
        drawn = yield from propose_each(graph, places, 1, self.temperature, large=large)
        for chain, (end,) in drawn.items():
            heads[chain] = end

    def alone(self, graph: SearchGraph) -> Search[None]:
        """One solution of the small policy."""
        ((end,),) = yield from propose(graph, [graph.root], 1, self.temperature, max_steps=None)
        if graph.status(end) == "terminated":
            yield from score(graph, [end])
