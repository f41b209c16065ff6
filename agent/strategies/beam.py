"""Beam search over steps (Snell et al. 2024, arXiv 2408.03314, section 5.2, "BFS-V").

With N = `width` and M = `branch`: sample N first steps; keep the N / M with the best scores; sample M next steps from
each; repeat until all kept beams are finished. Finished beams compete with unfinished ones and hold their place while
they are among the best. Each round draws N steps less M for every place that a finished beam holds, so N buys N
complete solutions' worth of steps.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from itertools import chain as joined
from typing import Annotated, Any, Self

from agent.search.graph import SearchGraph
from agent.search.requests import Request, Search, propose, score
from agent.strategies.branching import branch as branching
from agent.strategies.traits import Traits
from envs.options import AtLeast, check_ranges
from policies.core import Proposed
from verifiers.core import Scored
from verifiers.voting import Aggregate, Vote

Values = Generator[Request, Proposed | Scored, list[float]]


@dataclass(frozen=True)
class Beam:
    """Keep the best `width` / `branch` prefixes, sample `branch` next steps from each.

    Args:
        width: N, candidates per round.
        branch: M, samples per kept prefix.
        temperature: of the samples.
        vote: over all finished trajectories; its aggregation is also what candidates are ranked by.
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
        """A beam of width n."""
        return cls(width=n, **knobs)

    @property
    def traits(self) -> Traits:
        """Steered by the verifier."""
        return Traits()

    def search(self, graph: SearchGraph) -> Search[None]:
        """Expand, evaluate by the verifier, select."""
        yield from beam_search(graph, self.width, self.branch, self.temperature, self.vote.aggregate, chain=self.chain)


def beam_search(
    graph: SearchGraph,
    width: int,
    branch: int,
    temperature: float,
    how: Aggregate,
    lookahead: int = 0,
    pace: float | None = None,
    chain: int = 0,
) -> Search[None]:
    """Beam search whose candidates are valued after `lookahead` greedy steps (0: as they stand).

    Args:
        graph: of this search.
        width: candidates of the first round, and of later ones unless there is a pace.
        branch: samples per kept prefix.
        temperature: of the candidates.
        how: aggregation of step scores into a value.
        lookahead: greedy steps before a candidate is valued.
        pace: sample-equivalents to spend in all; each round then draws as many candidates as keep this pace, for
            what a candidate has cost so far, its rollout included (rollouts of equal candidates are drawn once).
        chain: as `agent.strategies.branching.branch` takes it.
    """
    places = max(1, width // branch)
    before, candidates_drawn = graph.generated, 0
    beam = [graph.root]
    held: list[int] = []
    while beam:
        total = width - branch * len(held)
        if pace is not None and (spent := graph.generated - before):
            path = sum(map(graph.path_tokens, beam)) / len(beam)
            step = path / graph[beam[0]]["depth"]
            free = 1 - len(held) / places  # a finished beam holds its place and draws nothing
            total = round(free * (pace * (path + step) - spent) / (spent / candidates_drawn))
        counts = share(max(len(beam), total), len(beam))
        drawn = yield from branching(graph, beam, counts, temperature, chain)
        candidates_drawn += sum(counts)
        candidates = [node for node in dict.fromkeys(joined.from_iterable(drawn)) if graph.status(node) != "truncated"]
        values = yield from look(graph, candidates, how, lookahead)
        for node, value in zip(candidates, values, strict=True):
            graph[node]["value"] = value
        ranked = sorted({*candidates, *held}, key=lambda node: (-graph[node]["value"], node))
        for node in ranked[places:]:
            graph[node]["pruned"] = graph.status(node) == "running"
        held = [node for node in ranked[:places] if graph.status(node) == "terminated"]
        beam = [node for node in ranked[:places] if graph.status(node) == "running"]


def look(graph: SearchGraph, nodes: Sequence[int], how: Aggregate, steps: int) -> Values:
    """The values of nodes: the verifier's at the end of a greedy rollout of up to `steps` steps."""
    ends = list(nodes)
    running = [i for i, node in enumerate(nodes) if graph.status(node) == "running"]
    if steps and running:
        rollouts = yield from propose(graph, [nodes[i] for i in running], 1, 0.0, steps, rollout=True)
        for i, (end,) in zip(running, rollouts, strict=True):
            ends[i] = end
    values = yield from score(graph, [*nodes, *ends], how)
    return values[len(nodes) :]


def share(total: int, parts: int) -> list[int]:
    """`total` in `parts` whole shares as even as can be, the larger ones first."""
    least, more = divmod(total, parts)
    return [least + (i < more) for i in range(parts)]
