"""What a study keeps of a search: its result, its candidates, and the votes over them."""

from __future__ import annotations

import contextlib
import json
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, get_args

from agent.search.control.steering import INFO
from agent.search.engine import UNAVAILABLE
from agent.search.graph import SearchGraph
from agent.search.solution import Solution
from agent.study.storage.packed_graphs import pack
from verifiers.voting import Aggregate, Candidate, Rule, Vote, classes, tally

VOTES = [Vote(rule, how) for rule in get_args(Rule) for how in get_args(Aggregate)]
STEERED = " (steered)"
"""What follows why a search ended, in ``stopped``, where a person changed what it did."""
COSTS = (
    "samples",
    "generated",
    "prefilled",
    "policy_calls",
    "policy_flops",
    "verifier_tokens",
    "verifier_calls",
    "verifier_flops",
    "unscored",
    "seconds",
    "policy_reads",
    "verifier_reads",
)
LATER = frozenset({"policy_reads", "verifier_reads"})
"""Costs that files of older versions lack; they count as 0, which is: unknown."""


class Place(NamedTuple):
    """Where a result belongs: the numbers of its cell and its problem in the file."""

    cell: int
    problem: int


@dataclass(frozen=True)
class Result:
    """What is kept of one search: rows of the tables, by column."""

    place: Place
    row: dict[str, Any]
    candidates: list[dict[str, Any]] = field(default_factory=list)
    votes: list[dict[str, Any]] = field(default_factory=list)
    graph: bytes | None = None


def certainty(row: Mapping[str, Any]) -> tuple[float, bool]:
    """How sure a search was of its answer, in [0, 1], and whether it abstained.

    The planner's estimate that the answer is right, where there is one; else the share of the vote that it holds.
    """
    plan: Any = None
    if isinstance(row["plan"], str) and '"probability"' in row["plan"]:
        with contextlib.suppress(ValueError, RecursionError):
            plan = json.loads(row["plan"])
    plan = plan if isinstance(plan, dict) else {}
    sure, known = plan.get("probability"), isinstance(plan.get("probability"), int | float)
    return (min(1.0, max(0.0, float(sure))) if known else float(row["confidence"])), plan.get("abstained") is True


# -------------------------------------------------------------------------------------------------- what is kept


def result_of(place: Place, solution: Solution, with_graph: bool = True) -> Result:
    """What to keep of a finished search. An environment that fails to compare or check makes that its error."""
    graph = solution.graph
    error, candidates = solution.error, []
    try:
        candidates = _candidates(graph)
    except Exception as failure:
        error = error or f"{type(failure).__name__}: {failure}"
    known = solution.problem.answer is not None
    row = {
        "answer": sanitized(solution.answer),
        "node": solution.node,
        "correct": int(bool(solution.correct) and error is None) if known else None,
        "confidence": solution.confidence,
        "drawn": graph[graph.root]["drawn"],
        "stopped": graph.info["stopped"] + (STEERED if _is_steered(graph) else ""),
        "error": sanitized(error),
        "plan": None if solution.plan is None else json.dumps(solution.plan),
        **{name: _storable(solution.spent[name]) for name in COSTS},
    }
    votes = [vote_row(candidates, vote) for vote in VOTES]
    packed = pack(graph.to_json()) if with_graph else None
    return Result(place, row, candidates, votes, packed)


def _is_steered(graph: SearchGraph) -> bool:
    """Whether a person changed what the search does, rather than just held it for a while.

    One whose model could not be reached is none, whatever was done to it: it is run again.
    """
    if graph.info["stopped"] == UNAVAILABLE:
        return False
    return any(record["what"] not in ("pause", "resume") for record in graph.info.get(INFO, ()))


def _storable(number: float) -> float:
    """A number as the file holds it: what a server counts may be more than SQLite's integers are."""
    return number if abs(number) < 2**63 else float(min(number, 10**300))


def failure_of(place: Place, error: str, known: bool) -> Result:
    """The result of a search that nothing came back of; `known` is whether the problem has a gold answer."""
    row: dict[str, Any] = dict.fromkeys(("answer", "node", "plan"))
    row |= {"correct": 0 if known else None, "confidence": 0.0, "drawn": 0, "stopped": "error", "error": error}
    return Result(place, row | dict.fromkeys(COSTS, 0.0), votes=[vote_row([], vote) for vote in VOTES])


class Judged(NamedTuple):
    """A finished trajectory that votes, after the environment has compared and judged its answer.

    Attributes:
        ballot: what votes count of it; in place of the answer the first node with the same one, as a text.
        answer: its own answer.
        correct: whether the answer is right (1 or 0); None without a gold answer.
    """

    ballot: Candidate
    answer: str
    correct: int | None


def judged(graph: SearchGraph) -> list[Judged]:
    """The finished trajectories that vote, in order of creation; raises what the environment raises."""
    environment, problem = graph.environment, graph.problem
    candidates = graph.candidates()
    leaders = classes((candidate.answer for candidate in candidates), environment.same)
    firsts: dict[str, int] = {}  # node by class
    verdicts: dict[str, int | None] = {}
    found = []
    for candidate in candidates:
        answer = candidate.answer
        first = firsts.setdefault(leaders[answer], candidate.node)
        if answer not in verdicts:
            verdicts[answer] = None if problem.answer is None else int(environment.check(problem, answer))
        found.append(Judged(replace(candidate, answer=str(first)), answer, verdicts[answer]))
    return found


def _candidates(graph: SearchGraph) -> list[dict[str, Any]]:
    return [
        {
            "node": ballot.node,
            "answer": sanitized(answer),
            "same": int(ballot.answer),
            "correct": correct,
            "count": ballot.count,
            "steps": json.dumps([_step(graph[node]) for node in graph.path(ballot.node)[1:]]),
        }
        for ballot, answer, correct in judged(graph)
    ]


def _step(node: Mapping[str, Any]) -> dict[str, Any]:
    step = {"text": node["text"], "tokens": node["length"], "score": node["score"]}
    if (weight := node.get("weight")) is not None:
        step["weight"] = weight
    return step | {"observation": node["observation"]} if node["observation"] else step


def sanitized(text: str | None) -> str | None:
    """Text that a database can hold: half a surrogate pair becomes an escape."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode()


def scores_of(candidate: Mapping[str, Any]) -> tuple[float, ...]:
    """The step scores of a candidate's row; () when one step has none."""
    scores = tuple(step["score"] for step in json.loads(candidate["steps"]))
    return () if None in scores else scores


def weight_of(candidate: Mapping[str, Any]) -> float | None:
    """What a candidate counts for in a vote, if its strategy said so."""
    weight: float | None = json.loads(candidate["steps"])[-1].get("weight")
    return weight


def judged_rows(candidates: Sequence[Mapping[str, Any]]) -> list[Judged]:
    """The same as `judged`, of the rows of a search's candidates."""
    return [
        Judged(
            Candidate(str(each["same"]), scores_of(each), each["count"], each["node"], weight_of(each)),
            each["answer"],
            each["correct"],
        )
        for each in candidates
    ]


def vote_row(candidates: Sequence[Mapping[str, Any]], vote: Vote) -> dict[str, Any]:
    """The outcome of a vote over the rows of a search's candidates: no environment and no model is needed for it."""
    ballots = [each.ballot for each in judged_rows(candidates)]
    row: dict[str, Any] = {"rule": vote.rule, "aggregate": vote.aggregate}
    groups = tally(ballots, vote, operator.eq)
    if not groups:
        return row | {"answer": None, "correct": 0, "confidence": 0.0}
    total = sum(group.weight for group in groups)
    best = next(each for each in candidates if each["node"] == groups[0].best.node)
    share = groups[0].weight / total if total else 0.0
    return row | {"answer": best["answer"], "correct": best["correct"], "confidence": share}
