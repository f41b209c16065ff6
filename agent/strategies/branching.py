"""Chain unless they disagree: an option of every strategy that draws several next steps at a node.

Chain-in-Tree (Li 2025, arXiv 2509.25835) branches only where it pays. Its self-consistency rule
draws a few next steps, and where they agree the node is a link of a chain: the agreed step is taken, and no more are
drawn. Here steps agree where their texts are equal, as the graph merges equal steps; the paper has a model say which
steps mean the same, and asks for a share of them that agree.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.search.graph import SearchGraph
from agent.search.requests import Search, propose


def branch(
    graph: SearchGraph, nodes: Sequence[int], counts: Sequence[int], temperature: float, chain: int
) -> Search[list[list[int]]]:
    """Sample next steps of nodes; of a node whose first samples agree, no more than those.

    Args:
        graph: of this search.
        nodes: running nodes.
        counts: samples for each.
        temperature: of the samples.
        chain: how many samples must agree, 2 or more; 0 draws all at once.

    Returns:
        For each node as many nodes as its count, as `propose` gives them; the agreed step stands for those not drawn.
    """
    if not chain:
        return (yield from propose(graph, nodes, counts, temperature))
    drawn = yield from propose(graph, nodes, [min(chain, count) for count in counts], temperature)
    split = [i for i, ends in enumerate(drawn) if len(ends) < counts[i] and (len(set(ends)) > 1 or len(ends) < 2)]
    if split:
        lacking = [counts[i] - len(drawn[i]) for i in split]
        more = yield from propose(graph, [nodes[i] for i in split], lacking, temperature)
        for i, ends in zip(split, more, strict=True):
            drawn[i] += ends
    return [ends + ends[:1] * (count - len(ends)) for ends, count in zip(drawn, counts, strict=True)]
