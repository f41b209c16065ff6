"""Hashes of the paths of a search graph, from which samples get their seeds; each goes on from that of the node before.

What is hashed is the run's seed, the problem, the earlier attempts that are shown, and the texts of the steps. A path
of many steps is not read anew for every step that is drawn: the hashes of the nodes that were asked for last are kept.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.search.graph import SearchGraph

_KEPT = 256  # hashes, of half a kilobyte each


class PathHashes:
    """The hashes of one graph's paths."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, hashlib.blake2b] = OrderedDict()

    def of(self, graph: SearchGraph, node: int) -> hashlib.blake2b:
        """A hash of all that leads to samples drawn at a node; to go on from."""
        path, at = [], node  # `path` is what the kept hash lacks
        while at not in self._kept and not self._begins(graph, at):
            path.append(at)
            at = graph.parent(at) or 0  # the answer that a revision goes on from, too
        whole = self._kept[at].copy() if at in self._kept else self._begin(graph, at)
        for each in reversed(path):
            between = "" if self._begins(graph, at) else "\x1f"
            whole.update(f"{between}{graph[each].step.text}".encode("utf-8", "surrogatepass"))
            at = each
        self._kept[node] = whole.copy()
        self._kept.move_to_end(node)
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return whole

    def _begins(self, graph: SearchGraph, node: int) -> bool:
        """Whether an attempt begins at a node, rather than goes on."""
        return node == 0 or graph[node].status == "terminated"

    def _begin(self, graph: SearchGraph, node: int) -> hashlib.blake2b:
        attempts = (*(tuple(step.text for step in attempt) for attempt in graph.start(node).attempts), ())
        texts = "\x1d".join("\x1f".join(attempt) for attempt in attempts)
        text = f"{graph.seed}\x1e{graph.problem.id}\x1e{texts}"
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8)
