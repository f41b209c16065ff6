"""The tree behind a search graph, in little memory: what networkx shows of it are views.

A dictionary of twenty attributes, an edge's dictionary and three of adjacency take 2 kB a node. Here a node is one
object with slots, which reads and writes like the dictionary of its attributes, an edge is a view of the node that it
leads to, and who comes after whom is kept in arrays: together about 0.5 kB.
"""

from __future__ import annotations

import operator
from array import array
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import replace
from sys import intern
from typing import Any, ClassVar

import networkx as nx

from agent.search.sample_count import SampleCount
from envs.core import Status, Step

_PRIVATE = ("thinking", "closing")  # attributes of a step that only few have
_FEW = 16  # children; of a node with more, they are found by a dictionary


class _Attributes(MutableMapping[str, Any]):
    """Slots and properties that read and write like a dictionary; further names go into a dictionary of their own."""

    __slots__ = ()

    NAMES: ClassVar[tuple[str, ...]] = ()
    _known: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls) -> None:
        cls._known = frozenset(cls.NAMES)

    def _more(self) -> dict[str, Any]:
        """The further names."""
        raise NotImplementedError

    def _keep(self, more: dict[str, Any]) -> None:
        raise NotImplementedError

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name) if name in self._known else self._more()[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if name in self._known:
            setattr(self, name, value)
        else:
            self._keep(self._more() | {name: value})

    def __delitem__(self, name: str) -> None:
        if name in self._known:
            raise TypeError(f"the attribute {name!r} cannot be deleted")
        more = dict(self._more())
        del more[name]
        self._keep(more)

    def __contains__(self, name: object) -> bool:
        return name in self._known or name in self._more()

    def __iter__(self) -> Iterator[str]:
        yield from self.NAMES
        yield from self._more()

    def __len__(self) -> int:
        return len(self.NAMES) + len(self._more())

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return {**self, **other}

    def __ror__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return {**other, **self}

    def __repr__(self) -> str:
        return repr(dict(self))

    def copy(self) -> dict[str, Any]:
        """A dictionary of the attributes, apart from the tree."""
        return dict(self)


class Node(_Attributes):
    """The attributes of a node; `agent.search.graph` says what they mean.

    Besides them:

    Attributes:
        step: that led here, with the environment's observation.
        path: policy tokens of one sample from the root to here.
        reach: those to the farthest node of the same attempt below, as far as it matters (see `Tree.add`).
        below_rollout: whether a node above was reached by rollouts alone when this one was made.
        went_on: whether a sample, not a rollout, reached a child.
    """

    __slots__ = (
        "_counted",
        "_edge_more",
        "_node_more",
        "_open",
        "_pruned",
        "_sums",
        "answer",
        "below_rollout",
        "depth",
        "deviation",
        "drawn",
        "large",
        "path",
        "prior",
        "reach",
        "reward",
        "score",
        "shown",
        "status",
        "step",
        "tokens",
        "total",
        "unscored",
        "value",
        "visits",
        "weight",
        "went_on",
    )
    NAMES = (
        *("text", "finish", "observation", "depth", "reward", "status", "answer", "tokens", "length", "logprob"),
        *("count", "drawn", "score", "unscored", "value", "visits", "total", "pruned"),
    )

    def __init__(self, sums: SampleCount, step: Step, reward: float, status: Status, answer: str | None) -> None:
        self._sums = sums
        self._node_more: dict[str, Any] | None = None
        self._edge_more: dict[str, Any] | None = None
        self._counted = 0
        self._open = False
        self._pruned = False
        self.step = step
        self.depth = self.path = self.reach = 0
        self.reward = reward
        self.status: Status = status
        self.answer = answer
        self.tokens = 0
        self.drawn = 0
        self.score: float | None = None
        self.unscored = False
        self.value: float | None = None
        self.visits = 0
        self.total = 0.0
        self.prior: float | None = None
        self.weight: float | None = None
        self.large = False
        self.shown: tuple[int, ...] = ()
        self.deviation: float | None = None
        self.below_rollout = False
        self.went_on = False

    @classmethod
    def saved(cls, sums: SampleCount, saved: Mapping[str, Any]) -> Node:
        """The node of which these attributes were saved; raises KeyError where one is missing."""
        finish: Any = intern(saved["finish"])
        status: Any = intern(saved["status"])
        each = {"reward": 0.0, "thinking": "", "closing": "", **saved}  # which graphs of older versions lack
        step = Step(
            each["text"],
            each["length"],
            each["logprob"],
            finish,
            each["observation"],
            each["thinking"],
            closing=each["closing"],
        )
        node = cls(sums, step, each["reward"], status, each["answer"])
        node._counted, node._pruned = each["count"], each["pruned"]
        node.tokens, node.drawn = each["tokens"], each["drawn"]
        node.score, node.unscored, node.value = each["score"], each["unscored"], each["value"]
        node.visits, node.total, node.weight = each["visits"], each["total"], each.get("weight")
        node.deviation = each.get("deviation")
        node.large, node.shown = each.get("large") is True, tuple(each.get("shown", ()))
        return node

    def _more(self) -> dict[str, Any]:
        more = self._node_more or {}
        if self.weight is not None:
            more = {"weight": self.weight, **more}
        if self.deviation is not None:
            more = {"deviation": self.deviation, **more}
        if self.large:
            more = {"large": True, **more}
        if self.shown:
            more = {"shown": list(self.shown), **more}
        return {name: text for name in _PRIVATE if (text := getattr(self.step, name))} | more

    def _keep(self, more: dict[str, Any]) -> None:
        private = {name: more.pop(name, "") for name in _PRIVATE}
        if any(text != getattr(self.step, name) for name, text in private.items()):
            self.step = replace(self.step, **private)
        self.weight = more.pop("weight", None)
        self.large = more.pop("large", False) is True
        self.shown = tuple(more.pop("shown", ()))
        self.deviation = more.pop("deviation", None)
        self._node_more = more or None

    # ------------------------------------------------------------------------------------------- parts of the step

    @property
    def text(self) -> str:
        """Of the step."""
        return self.step.text

    @text.setter
    def text(self, value: str) -> None:
        self.step = replace(self.step, text=value)

    @property
    def finish(self) -> str:
        """How the step ended."""
        return self.step.finish

    @finish.setter
    def finish(self, value: Any) -> None:
        self.step = replace(self.step, finish=value)

    @property
    def observation(self) -> str:
        """The environment's reply."""
        return self.step.observation

    @observation.setter
    def observation(self, value: str) -> None:
        self.step = replace(self.step, observation=value)

    @property
    def length(self) -> int:
        """Policy tokens of one such sample."""
        return self.step.tokens

    @length.setter
    def length(self, value: int) -> None:
        self.step = replace(self.step, tokens=value)

    @property
    def logprob(self) -> float:
        """Log-probability of the step, in nats."""
        return self.step.logprob

    @logprob.setter
    def logprob(self, value: float) -> None:
        self.step = replace(self.step, logprob=value)

    # --------------------------------------------------------------------------- what the running sums depend on

    @property
    def count(self) -> int:
        """Identical samples merged here, rollouts not counted."""
        return self._counted

    @count.setter
    def count(self, value: int) -> None:
        if self.status == "terminated":
            self._sums.finished += value - self._counted
            self._sums.finished_tokens += (value - self._counted) * self.path
        self._counted = value
        self.update_open()

    def sum_up(self) -> None:
        """Tell the sums of a node that was saved."""
        count, self._counted = self._counted, 0
        self.count = count

    @property
    def pruned(self) -> bool:
        """Whether the strategy dropped it."""
        return self._pruned

    @pruned.setter
    def pruned(self, value: bool) -> None:
        if value != self._pruned:
            self._pruned = value
            self.update_open()

    def update_open(self) -> None:
        """Tell the sums whether this is an open end: running, reached by a sample, and no sample went on from it."""
        is_open = self.status == "running" and bool(self._counted) and not self.went_on and not self._pruned
        if is_open != self._open:
            self._open = is_open
            if is_open:
                self._sums.open.add(self.reach)
            else:
                self._sums.open.remove(self.reach)

    def look_ahead(self, path: int) -> None:
        """Note that a node below lies so many tokens from the root."""
        if self._open:
            self._sums.open.remove(self.reach)
            self._sums.open.add(path)
        self.reach = path


class Edge(_Attributes):
    """The attributes of the edge that leads to a node; a view of that node."""

    __slots__ = ("node",)
    NAMES = ("action", "prior", "count")

    def __init__(self, node: Node) -> None:
        self.node = node

    def _more(self) -> dict[str, Any]:
        return self.node._edge_more or {}

    def _keep(self, more: dict[str, Any]) -> None:
        self.node._edge_more = more or None

    @property
    def action(self) -> str:
        """The text of the step."""
        return self.node.step.text

    @action.setter
    def action(self, value: str) -> None:
        self.node.text = value

    @property
    def prior(self) -> float | None:
        """The child's share of the samples that left its parent, as MCTS sees it."""
        return self.node.prior

    @prior.setter
    def prior(self, value: float | None) -> None:
        self.node.prior = value

    @property
    def count(self) -> int:
        """That of the node."""
        return self.node.count

    @count.setter
    def count(self, value: int) -> None:
        self.node.count = value


class Tree:
    """Nodes by number, and who comes after whom.

    Attributes:
        nodes: in order of creation; the root is first.
        parents: of each node, its number; -1 at the root.
        before: the node before in the same attempt: the parent, or the root for the first step of a revision.
        sums: kept up to date with the nodes.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.parents = array("q")
        self.before = array("q")
        self.sums = SampleCount()
        self._first = array("q")  # child; -1 where there is none
        self._last = array("q")
        self._next = array("q")  # child of the same parent
        self._wide: dict[int, dict[tuple[str, str], int]] = {}  # the children of nodes that have many, by step

    def __len__(self) -> int:
        return len(self.nodes)

    def add(self, parent: int, node: Node) -> int:
        """Put a node under another, or first, and return its number. `look_ahead` tells the nodes above of it."""
        number, step, before = len(self.nodes), node.step, parent
        node.path = node.reach = step.tokens
        if parent >= 0:
            before = 0 if self.nodes[parent].status == "terminated" else parent
            above = self.nodes[before]
            node.depth = above.depth + 1
            node.path = node.reach = above.path + step.tokens
            node.below_rollout = before != 0 and (above.below_rollout or not above.count)
        self.sums.longest = max(self.sums.longest, node.path)
        self.nodes.append(node)
        self.parents.append(parent)
        self.before.append(before)
        self._first.append(-1)
        self._last.append(-1)
        self._next.append(-1)
        if parent >= 0:
            if self._first[parent] < 0:
                self._first[parent] = number
            else:
                self._next[self._last[parent]] = number
            self._last[parent] = number
            if parent in self._wide:
                self._wide[parent][step.text, step.finish] = number
        return number

    def look_ahead(self, number: int, new: int) -> None:
        """Tell the nodes above how far a new one lies, where that may ever matter.

        It matters for an open end. No node above one that samples reached, and that was made below such nodes only,
        is an open end, or becomes one.

        Args:
            number: the last of some new nodes, each under the one before.
            new: the first of them.
        """
        path = self.nodes[number].path
        while (number := self.before[number]) > 0:
            node = self.nodes[number]
            if node.reach >= path and number < new:
                return
            node.look_ahead(path)
            if node.count and not node.below_rollout:
                return

    def reached(self, number: int) -> bool:
        """Count a sample, not a rollout, that reached a node; whether it is the first."""
        node = self.nodes[number]
        node.count += 1
        if node.count > 1:
            return False
        above = self.nodes[self.parents[number]]
        above.went_on = True
        above.update_open()
        return True

    def add_saved(self, parents: Sequence[int], nodes: Sequence[Node]) -> None:
        """Put the nodes of a saved tree, counts and all, into this empty one.

        Args:
            parents: of each node, the number of one before it; -1 at the root.
            nodes: in order.
        """
        for parent, node in zip(parents, nodes, strict=True):
            self.add(parent, node)
            self.sums.generated += node.tokens
            if parent >= 0 and node.count:
                self.nodes[parent].went_on = True
        for number in range(len(nodes) - 1, 0, -1):
            above = self.nodes[self.before[number]]
            above.reach = max(above.reach, self.nodes[number].reach)
        for node in nodes:
            node.sum_up()

    def children(self, number: int) -> Iterator[int]:
        """The nodes after one, in order of creation."""
        child = self._first[number]
        while child >= 0:
            yield child
            child = self._next[child]

    def find(self, parent: int, text: str, finish: str) -> int:
        """The child that a step led to, or -1."""
        wide = self._wide.get(parent)
        if wide is not None:
            return wide.get((text, finish), -1)
        seen = 0
        for child in self.children(parent):
            step = self.nodes[child].step
            if step.text == text and step.finish == finish:
                return child
            seen += 1
        if seen > _FEW:
            steps = ((self.nodes[child].step, child) for child in self.children(parent))
            self._wide[parent] = {(step.text, step.finish): child for step, child in steps}
        return -1

    def view(self) -> nx.DiGraph[int]:
        """The tree as a networkx graph that grows with it, whose nodes and edges cannot be added or removed."""
        graph: Any = nx.DiGraph()
        graph._node = _Nodes(self)  # what its own views, as of `DiGraph.subgraph`, set too
        graph._adj = _Adjacency(self, _Children)
        graph._pred = _Adjacency(self, _Parent)
        frozen: nx.DiGraph[int] = nx.freeze(graph)
        return frozen


class _Nodes(Mapping[int, Node]):
    """The nodes of a tree by number."""

    __slots__ = ("_tree",)

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def __getitem__(self, number: int) -> Node:
        return self._tree.nodes[_number(self._tree, number)]

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self._tree)))

    def __len__(self) -> int:
        return len(self._tree)


class _Children(Mapping[int, Edge]):
    """The edges from a node, by the node that they lead to."""

    __slots__ = ("_number", "_tree")

    def __init__(self, tree: Tree, number: int) -> None:
        self._tree, self._number = tree, number

    def __getitem__(self, number: int) -> Edge:
        number = _number(self._tree, number)
        if self._tree.parents[number] != self._number:
            raise KeyError(number)
        return Edge(self._tree.nodes[number])

    def __iter__(self) -> Iterator[int]:
        return self._tree.children(self._number)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def copy(self) -> dict[int, Edge]:
        """As a dictionary."""
        return dict(self)


class _Parent(_Children):
    """The edge to a node, by the node that it comes from."""

    __slots__ = ()

    def __getitem__(self, number: int) -> Edge:
        if number not in list(self):
            raise KeyError(number)
        return Edge(self._tree.nodes[self._number])

    def __iter__(self) -> Iterator[int]:
        parent = self._tree.parents[self._number]
        return iter([parent] if parent >= 0 else [])


class _Adjacency(Mapping[int, Mapping[int, Edge]]):
    """The edges of a tree by the node that they come from, or that they lead to."""

    __slots__ = ("_of", "_tree")

    def __init__(self, tree: Tree, of: type[_Children]) -> None:
        self._tree, self._of = tree, of

    def __getitem__(self, number: int) -> Mapping[int, Edge]:
        return self._of(self._tree, _number(self._tree, number))

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self._tree)))

    def __len__(self) -> int:
        return len(self._tree)


def _number(tree: Tree, key: Any) -> int:
    """A key as the number of a node; raises KeyError as a dictionary would."""
    try:
        number = operator.index(key)
    except TypeError:
        raise KeyError(key) from None
    if not 0 <= number < len(tree):
        raise KeyError(key)
    return number
