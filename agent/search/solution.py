"""What a search found: who leads its vote, and the solution that a caller gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.search.graph import SearchGraph
from envs.core import Problem
from verifiers.voting import Group, Vote


@dataclass(frozen=True)
class Leader:
    """Who leads the vote over the finished candidates of a graph.

    Args:
        answer: of the heaviest group; None when nothing finished.
        node: the best candidate of that group.
        path: from the root to that node; without a candidate, to the most promising node, so that there is something
            to show.
        confidence: the share of the vote that the answer holds, in [0, 1]; 0 when every vote weighs nothing.
        groups: the answers, heaviest first.
    """

    answer: str | None
    node: int | None
    path: tuple[int, ...]
    confidence: float
    groups: tuple[Group, ...] = ()


def leader(graph: SearchGraph) -> Leader:
    """Count the votes of what has finished so far, by the search's own rule; unfinished trajectories have none."""
    groups = tuple(graph.tally(Vote(**graph.info.get("vote", {}))))
    if not groups:
        running = [node for node in graph.graph if graph.status(node) == "running" and not graph[node]["pruned"]]
        best = max(running, key=lambda node: (graph[node]["score"] or 0.0, graph[node]["depth"], -node), default=0)
        return Leader(None, None, tuple(graph.path(best)), 0.0)
    total, node = sum(group.weight for group in groups), groups[0].best.node
    share = groups[0].weight / total if total else 0.0
    return Leader(groups[0].answer, node, tuple(graph.path(node)), share, groups)


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

    @classmethod
    def of(cls, graph: SearchGraph) -> Solution:
        """Read the solution off the graph of a search that is over: one just made, or one that was saved.

        An environment that cannot compare or check the answers makes that the solution's error.
        """
        lead, correct, info = Leader(None, None, (graph.root,), 0.0), None, graph.info
        try:
            lead = leader(graph)
            correct = graph.correct()
        except Exception as failure:
            info.setdefault("error", f"{type(failure).__name__}: {failure}")
        return cls(
            graph.problem,
            lead.answer,
            lead.node,
            lead.confidence,
            correct,
            info.get("plan"),
            info["spent"],
            graph,
            lead.groups,
        )

    def to_json(self) -> dict[str, Any]:
        """JSON-ready, without the graph (`SearchGraph.to_json` has it)."""
        graph = self.graph
        path = graph.path(self.node)[1:] if self.node is not None else []
        return {
            "problem": {"id": self.problem.id, "question": self.problem.question, **dict(self.problem.meta)},
            "answer": self.answer,
            "correct": self.correct,
            "confidence": self.confidence,
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
