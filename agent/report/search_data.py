"""One search as a page needs it: flat columns of its nodes, the vote, and the facts around them."""

from __future__ import annotations

import operator
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from agent.report.page_file import number
from agent.search.context import RunContext
from agent.search.control.steering import INFO, Steering
from agent.search.graph import FORMAT, SearchGraph
from agent.search.graph_file import check_edge, check_head, check_node, check_records, parents_of
from agent.search.tree import Node, Tree
from agent.study.rows import Judged, judged
from verifiers.voting import Candidate, Vote, aggregate, tally

_TEXTS = ("text", "observation", "thinking")
_NUMBERS = ("reward", "tokens", "length", "logprob", "count", "drawn", "score", "value", "visits", "total", "weight")
_TRUTHS = ("unscored", "pruned")
_CODES = {"finish": ("step", "answer", "length"), "status": ("running", "terminated", "truncated")}


def graph_data(graph: SearchGraph) -> dict[str, Any]:
    """A search at hand. Its environment compares the answers and judges them; where it fails, the page says so."""
    failure = ""
    try:
        candidates = judged(graph)
    except Exception as error:
        candidates, failure = [], f"the answers could not be compared and judged: {type(error).__name__}: {error}"
    return search_data(graph.to_json(), candidates) | ({"failure": failure} if failure else {})


def search_data(raw: Mapping[str, Any], candidates: Sequence[Judged] | None = None) -> dict[str, Any]:
    """A search as it was saved.

    Args:
        raw: of `agent.search.graph.SearchGraph.to_json`; it may come from a stranger and is checked.
        candidates: its finished trajectories; where they are not known, answers are the same if their texts are, and
            none is judged.

    Returns:
        JSON-ready facts. ``columns`` has a list for each attribute of the nodes, in order of creation, and ``parent``,
        -1 at the root; attributes that no node has are left out.

    Raises:
        ValueError: it is no search, or a part is missing or wrong.
    """
    check_head(raw, FORMAT)
    nodes, edges = raw.get("nodes"), raw.get("edges")
    if not isinstance(nodes, list) or not isinstance(edges, list):
        raise ValueError("'nodes' or 'edges' is missing or is not a list")
    nodes = [check_node(node, at) for at, node in enumerate(nodes)]
    for edge in edges:
        check_edge(edge)
    parents = parents_of(((edge["from"], edge["to"]) for edge in edges), len(nodes))
    info, problem = raw["info"], raw["problem"]
    context = RunContext.from_info(info)
    records = info.get(INFO, [])
    check_records(records, nodes)
    steering = _steering(records, nodes, parents) if records else Steering()
    known = _unjudged(nodes, parents, steering) if candidates is None else candidates
    if strange := [each.ballot.node for each in known if not 0 < each.ballot.node < len(nodes)]:
        raise ValueError(f"a candidate is node {strange[0]}, which is not there")
    return {
        "problem": {key: problem[key] for key in ("id", "question", "answer", "meta")},
        "conversation": problem.get("conversation", []),
        "steering": records,
        "cut": sorted(steering.excluded),
        "accepted": steering.accepted,
        "seed": raw["seed"],
        "environment": info.get("environment", ""),
        "policy": context.policy,
        "parameters": context.policy_parameters,
        "verifier": context.verifier,
        "strategy": info.get("strategy") or {},
        "plan": info.get("plan"),
        "budget": {key: number(value) for key, value in vars(context.budget).items() if value is not None},
        "spent": {key: number(value) for key, value in (info.get("spent") or {}).items()},
        "stopped": info.get("stopped", ""),
        "error": info.get("error"),
        "columns": _columns(nodes, parents, edges),
        **_votes(known, context.vote),
    }


def _columns(
    nodes: Sequence[Mapping[str, Any]], parents: array[int], edges: Sequence[Mapping[str, Any]]
) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {"parent": parents.tolist()}
    for name in _TEXTS:
        columns[name] = [node.get(name, "") for node in nodes]
    for name in _NUMBERS:
        columns[name] = [number(node.get(name)) for node in nodes]
    for name in _TRUTHS:
        columns[name] = [int(node[name]) for node in nodes]
    for name, words in _CODES.items():
        columns[name] = [words.index(node[name]) for node in nodes]
    columns["answer"] = [node["answer"] for node in nodes]
    columns["prior"] = [None] * len(nodes)
    for edge in edges:
        columns["prior"][edge["to"]] = number(edge["prior"])
    return {name: column for name, column in columns.items() if any(value not in (None, 0, "") for value in column)} | {
        "parent": columns["parent"]
    }


def _steering(
    records: Sequence[Mapping[str, Any]], nodes: Sequence[Mapping[str, Any]], parents: array[int]
) -> Steering:
    """What holds at the end of what people did to a search."""
    tree, steering = Tree(), Steering()
    tree.add_saved(parents, [Node.saved(tree.sums, node) for node in nodes])
    steering.replay(records, tree)
    return steering


def _unjudged(nodes: Sequence[Mapping[str, Any]], parents: array[int], steering: Steering) -> list[Judged]:
    """The finished trajectories that vote (`SearchGraph.candidates`), without an environment."""
    firsts: dict[str, int] = {}
    found = []
    for at, node in enumerate(nodes):
        dropped = node["pruned"] and at not in steering.pinned
        if node["status"] != "terminated" or not node["count"] or dropped or steering.cuts(at):
            continue
        scores, step = [], at
        while step > 0:
            scores.append(nodes[step]["score"])
            step = 0 if nodes[parents[step]]["status"] == "terminated" else parents[step]
        first = firsts.setdefault(node["answer"], at)
        known = () if None in scores else tuple(reversed(scores))
        ballot = Candidate(str(first), known, node["count"], at, node.get("weight"))
        found.append(Judged(ballot, node["answer"], None))
    return found


def _votes(candidates: Sequence[Judged], vote: Vote) -> dict[str, Any]:
    """The candidates, and the groups of equal answers as the search's own vote weighs them, heaviest first."""
    ballots = [each.ballot for each in candidates]
    own = {each.ballot.node: each for each in candidates}
    groups = [
        {
            "answer": own[group.best.node].answer,
            "correct": own[group.best.node].correct,
            "weight": number(group.weight),
            "count": group.count,
            "score": number(group.score),
            "node": group.best.node,
        }
        for group in tally(ballots, vote, operator.eq)
    ]
    return {
        "vote": {"rule": vote.rule, "aggregate": vote.aggregate},
        "candidates": {
            "node": [each.node for each in ballots],
            "same": [int(each.answer) for each in ballots],
            "count": [each.count for each in ballots],
            "score": [number(aggregate(each.scores, vote.aggregate)) for each in ballots],
            "weight": [number(each.weight) for each in ballots],
            "correct": [each.correct for each in candidates],
        },
        "groups": groups,
    }
