"""What can be told of a search to whoever asks from outside: figures, and texts only where they are asked for."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from agent.search.control.steering import INFO

if TYPE_CHECKING:
    from agent.search.control.running import Running
    from agent.search.graph import SearchGraph

ROWS = 200  # nodes that are listed unless more are asked for


def summary(running: Running) -> dict[str, Any]:
    """Where a search stands, JSON-ready, without any text that a model wrote."""
    graph, meter = running.graph, running.meter
    return {
        "problem": graph.problem.id,
        "environment": graph.environment.name,
        "strategy": graph.info.get("strategy"),
        "budget": {key: value for key, value in asdict(running.budget).items() if value is not None},
        "samples": round(graph.samples(), 3),
        "nodes": len(graph),
        "finished": len(graph.finished()),
        "tokens": meter.generated,
        "flops": meter.flops,
        "seconds": round(running.seconds, 3),
        "commands": len(graph.info.get(INFO, ())),
        **({"stopped": graph.info["stopped"]} if "stopped" in graph.info else {}),
    }


def listing(graph: SearchGraph, most: int = ROWS, content: bool = False) -> dict[str, Any]:
    """The leading answer and the nodes of a tree, JSON-ready.

    Args:
        graph: read while nothing changes it.
        most: nodes; the latest are left out, and counted in ``left_out``.
        content: with the texts: the question, the steps and observations, the answers.
    """
    lead = graph.choice()
    nodes = []
    steering = graph.steering
    for node in range(min(most, len(graph))):
        row = graph[node]
        kept = ("depth", "status", "score", "value", "visits", "count", "pruned")
        facts = {"node": node, "parent": graph.parent(node), **{key: row[key] for key in kept}}
        marks = {"cut": node in steering.excluded, "pinned": node in steering.pinned}
        facts |= {key: True for key, holds in marks.items() if holds}
        if content:
            facts |= {key: row[key] for key in ("text", "observation", "answer") if row[key]}
        nodes.append(facts)
    told: dict[str, Any] = {
        "leading": {"node": lead.node, "confidence": round(lead.confidence, 4)},
        "steering": [_without_texts(record) if not content else record for record in graph.info.get(INFO, ())],
        "left_out": max(0, len(graph) - most),
        "tree": nodes,
    }
    if content:
        told["question"] = graph.problem.question
        told["leading"]["answer"] = lead.answer
        told["votes"] = [{"answer": each.answer, "weight": each.weight, "count": each.count} for each in lead.groups]
    return told


def _without_texts(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != "text"}
