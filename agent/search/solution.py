"""What a search found: the path that leads, and the solution that a caller gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.search.context import Outcome
from agent.search.graph import SearchGraph
from envs.core import Problem
from verifiers.voting import Group


def leading_path(graph: SearchGraph, lead: Outcome | None = None) -> tuple[int, ...]:
    """Nodes from the root to the leading candidate; without one, to the most promising node.

    Args:
        graph: of the nodes.
        lead: the outcome of the vote, if it is known already: counting votes takes time.
    """
    node = (lead or graph.choice()).node
    if node is None:
        running = [each for each in graph.graph if graph.status(each) == "running" and not graph[each]["pruned"]]
        node = max(running, key=lambda each: (graph[each]["score"] or 0.0, graph[each]["depth"], -each), default=0)
    return tuple(graph.path(node))


@dataclass(frozen=True)
class Solution:
    """What a search found.

    Args:
        problem: as it was asked.
        answer: the choice of the vote; None when no candidate finished.
        node: the best candidate with that answer, in `graph`.
        confidence: the share of the vote that the answer holds, in [0, 1].
        correct: whether the environment accepts the answer; None when the gold answer is unknown.
        plan: what the planner decided and why; None without a planner.
        spent: what the search cost, as `agent.search.budget.Meter` writes it.
        graph: the whole search.
        groups: the answers with their weights, heaviest first.
    """

    problem: Problem
    answer: str | None
    node: int | None
    confidence: float
    correct: bool | None
    plan: Mapping[str, Any] | None
    spent: Mapping[str, Any]
    graph: SearchGraph
    groups: tuple[Group, ...] = field(default=(), repr=False)

    @property
    def error(self) -> str | None:
        """Why the search failed, if it did."""
        error: str | None = self.graph.info.get("error")
        return error

    @property
    def abstained(self) -> bool:
        """Whether the planner abstains: the answer is its best guess, and less probable than was asked for."""
        return bool((self.plan or {}).get("abstained"))

    @classmethod
    def of(cls, graph: SearchGraph) -> Solution:
        """Read the solution off the graph of a search that is over: one just made, or one that was saved.

        An environment that cannot compare or check the answers makes that the solution's error.
        """
        outcome, correct, info = Outcome(), None, graph.info
        try:
            outcome = graph.outcome = graph.choice()
            correct = graph.correct()
        except Exception as failure:
            info.setdefault("error", f"{type(failure).__name__}: {failure}")
        return cls(
            graph.problem,
            outcome.answer,
            outcome.node,
            outcome.confidence,
            correct,
            info.get("plan"),
            info.get("spent", {}),
            graph,
            outcome.groups,
        )

    def _repr_html_(self) -> str:
        """The whole search, for notebooks."""
        return self.graph._repr_html_()

    def to_json(self) -> dict[str, Any]:
        """JSON-ready, without the graph (`SearchGraph.to_json` has it)."""
        graph = self.graph
        path = graph.path(self.node)[1:] if self.node is not None else []
        return {
            "problem": {"id": self.problem.id, "question": self.problem.question, **dict(self.problem.meta)},
            "answer": self.answer,
            "correct": self.correct,
            "confidence": self.confidence,
            "abstained": self.abstained,
            "steps": [
                {"node": node, **{key: graph[node][key] for key in ("text", "observation", "score")}} for node in path
            ],
            "votes": [{"answer": each.answer, "weight": each.weight, "count": each.count} for each in self.groups],
            "strategy": graph.info.get("strategy"),
            "plan": self.plan,
            "spent": dict(self.spent),
            "stopped": graph.info.get("stopped"),
            "error": self.error,
        }
