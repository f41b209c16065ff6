"""The table of a study: accuracy with intervals, paired differences, and what it cost, from the rows of its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agent.build import NO_VERIFIER
from agent.study.results_db import StudyFile
from agent.study.rows import COSTS, VOTES
from agent.study.statistics import clustered, paired_difference
from envs.options import choose
from verifiers.voting import Vote

GROUP = ("environment", "policy", "verifier", "strategy", "budget")  # cells that differ in their seed are one line


def marks_by_problem(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Right (1) or wrong (0) under each seed, by problem; a problem that failed counts as wrong."""
    marks: dict[str, list[float]] = {}
    for row in sorted(rows, key=lambda row: (str(row["id"]), row["seed"])):
        marks.setdefault(row["id"], []).append(float(row["correct"] == 1))
    return marks


def revoted(file: StudyFile, rows: Sequence[Mapping[str, Any]], vote: Vote) -> list[dict[str, Any]]:
    """Results as they would be if the answers were chosen by another vote; no search is run again."""
    query = "SELECT cell, problem, answer, correct, confidence FROM votes WHERE rule = ? AND aggregate = ?"
    chosen = {(row["cell"], row["problem"]): row for row in file.rows(query, (vote.rule, vote.aggregate))}
    changed = []
    for row in rows:
        other = chosen[row["cell"], row["problem"]]
        right = other["correct"] if row["error"] is None or other["correct"] is None else 0
        changed.append({**row, "answer": other["answer"], "confidence": other["confidence"], "correct": right})
    return changed


def summarize(
    file: StudyFile,
    rows: Sequence[Mapping[str, Any]] | None = None,
    baseline: str | None = None,
) -> list[dict[str, Any]]:
    """One JSON-ready summary per line of the table, in the order of the cells.

    Accuracy is the mean over problems of their mean over seeds; intervals treat the seeds of a problem as one cluster.
    ``difference`` is the paired difference to the line that has the baseline's value on one axis and is the same
    elsewhere. For strategies, verifier and budget are the same where the baseline was run with them, and the baseline's
    own lines are compared with its first budget.

    Args:
        file: of the study.
        rows: `StudyFile.results`, or some of them, or `revoted` ones; all if not given.
        baseline: label of a strategy, or ``AXIS=LABEL``, e.g. ``policy=arithmetic-s``; the first strategy of the study
            if not given.

    Raises:
        RecipeError: when there is no such axis or label in the study.
    """
    cells = file.cells()
    axis, value = _read_baseline(baseline, cells)
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {_key(cell): [] for cell in cells}
    for row in file.results() if rows is None else rows:
        groups[_key(row)].append(row)
    marks = {key: marks_by_problem(members) for key, members in groups.items()}
    means = {key: {name: sum(each) / len(each) for name, each in known.items()} for key, known in marks.items()}
    summaries = []
    for key, members in groups.items():
        accuracy, interval = clustered(marks[key])
        labels = dict(zip(GROUP, key, strict=True))
        summary: dict[str, Any] = labels | {
            "n": len(marks[key]),
            "searches": len(members),
            "correct": sum(row["correct"] == 1 for row in members),
            "errors": sum(row["error"] is not None for row in members),
            "accuracy": accuracy if members else None,
            "interval": interval,
            "levels": _by_level(members),
            "cost": {
                name: sum(row[name] for row in sorted(members, key=_order)) / len(members) if members else None
                for name in COSTS
            },
        }
        other = _baseline(labels, axis, value, list(groups))
        if other is not None and other != key:
            summary["difference"] = paired_difference(means[other], means[key])
            summary["versus"] = value
        summaries.append(summary)
    return summaries


def _key(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[axis]) for axis in GROUP)


def _order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Sums of floats do not depend on the order of finish."""
    return str(row["id"]), row["seed"]


def _by_level(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    levels: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["level"] is not None:
            levels.setdefault(str(row["level"]), []).append(row)
    found = {}
    for level, members in sorted(levels.items()):
        marks = marks_by_problem(members)
        accuracy, interval = clustered(marks)
        found[level] = {"n": len(marks), "accuracy": accuracy, "interval": interval}
    return found


def _read_baseline(text: str | None, cells: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """The axis and the label of a baseline."""
    if text is None:
        return "strategy", cells[0]["strategy"]
    axis, equals, label = text.partition("=")
    if not equals or " " in axis:  # 'beam branch=2' is a strategy
        axis, label = "strategy", text
    choose(axis, GROUP, "axis")
    return axis, choose(label, dict.fromkeys(cell[axis] for cell in cells), axis)


def _baseline(
    labels: Mapping[str, str], axis: str, value: str, keys: Sequence[tuple[str, ...]]
) -> tuple[str, ...] | None:
    """What a line is compared with: the same in all but the axis, as far as there is such a line."""
    must = [each for each in ("environment", "policy", "strategy") if each != axis]
    lines = [dict(zip(GROUP, key, strict=True)) for key in keys]
    lines = [line for line in lines if line[axis] == value and all(line[each] == labels[each] for each in must)]
    own = axis == "strategy" and labels[axis] == value
    for each in ("verifier",) if own else ("verifier", "budget"):
        if each != axis:
            lines = [line for line in lines if line[each] == labels[each]] or lines
    return tuple(lines[0].values()) if lines else None


def vote_table(file: StudyFile) -> list[tuple[str, dict[tuple[str, str], float]]]:
    """Accuracy by (rule, aggregate), for every line of the table that has scores; with a title each."""
    rows, tables = file.results(), []
    by_vote = {vote: summarize(file, revoted(file, rows, vote)) for vote in VOTES}
    for at, summary in enumerate(by_vote[VOTES[0]]):
        if summary["n"] and summary["verifier"] != NO_VERIFIER:
            title = f"{summary['strategy']} @ {summary['budget']}; " + ", ".join(summary[key] for key in GROUP[:3])
            tables.append((title, {(str(v.rule), str(v.aggregate)): by_vote[v][at]["accuracy"] for v in VOTES}))
    return tables
