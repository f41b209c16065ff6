"""What people did to a search: which nodes they cut, pinned, chose; and the records of all that, in the graph.

A strategy never sees any of it. The graph tells it that a node which was cut is truncated (`SearchGraph.status`), and
that a pinned one is worth as much as can be (`agent.search.requests.score`). A search that nobody touched has an empty
`Steering`, and its graph is what it was without.

A record is a mapping, in ``graph.info["steering"]``, in order::

    {"what": "prune", "node": 5, "old": False, "new": True, "who": "ada", "at": "2026-11-30T14:05:09+00:00",
     "seconds": 1.25, "samples": 4.5, "nodes": 31, ...}

``nodes`` is how many nodes the graph had: by it a record has its place in the growth of the tree. ``made`` are the
nodes that it added. ``undo`` is a record of its own, whose ``new`` is the index of the record that no longer holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.search.tree import Tree

INFO = "steering"
"""The key of ``graph.info`` that holds the records; it is there once somebody did something."""


@dataclass
class Steering:
    """What holds in one search of what people did.

    Attributes:
        cut: nodes that are not to be searched below, and that do not vote.
        pinned: nodes that count as promising whatever their score.
        only: nodes below which alone to search; () for the whole tree.
        accepted: the node whose answer a person took; None if none did.
        excluded: all that `cut` and `only` take out, with what is below.
        asked: nodes that the request which is out goes on from.
    """

    cut: set[int] = field(default_factory=set)
    pinned: set[int] = field(default_factory=set)
    only: tuple[int, ...] = ()
    accepted: int | None = None
    excluded: set[int] = field(default_factory=set)
    asked: tuple[int, ...] = ()
    _above: set[int] = field(default_factory=set)  # the nodes that lead to those of `only`

    @property
    def narrows(self) -> bool:
        """Whether anything is taken out."""
        return bool(self.cut or self.only)

    def cuts(self, node: int) -> bool:
        """Whether a node is taken out."""
        return node in self.excluded

    def added(self, parent: int, node: int) -> None:
        """Take up a new node: what is below one that is out is out too."""
        if parent in self.excluded or (parent in self._above and node not in self.only and node not in self._above):
            self.excluded.add(node)

    def renew(self, tree: Tree) -> None:
        """Work out anew what is taken out; in time that grows with the tree."""
        self._above = set()
        for node in self.only:
            while node > 0:
                node = tree.parents[node]
                self._above.add(node)
        self.excluded = set()
        for node in range(1, len(tree)):
            if node in self.cut:
                self.excluded.add(node)
            else:
                self.added(tree.parents[node], node)

    def replay(self, records: Sequence[Mapping[str, Any]], tree: Tree) -> None:
        """Take up the records of a search, those that were undone left out."""
        self.cut, self.pinned, self.only, self.accepted = set(), set(), (), None
        undone = {record["new"] for record in records if record["what"] == "undo"}
        for index, record in enumerate(records):
            what, node = record["what"], record.get("node")
            if index in undone:
                if what in ("expand", "write"):
                    self.cut |= set(record.get("made", ()))
            elif what == "prune":
                self.cut.add(record["node"])
                self.pinned.discard(record["node"])
            elif what == "pin":
                self.pinned.add(record["node"])
                self.cut.discard(record["node"])
            elif what == "only":
                self.only = tuple(record["new"])
            elif what == "answer":
                self.accepted = node
        self.renew(tree)
