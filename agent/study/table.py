"""The table of a study: accuracy with intervals, paired differences, and what it cost, from the rows of its file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agent.build import NO_VERIFIER
from agent.search.budget import flop_equivalents
from agent.study.results_db import StudyFile
from agent.study.rows import COSTS, VOTES, certainty
from agent.study.statistics import clustered, holm, paired_difference, paired_p_value, problem_means
from envs.options import choose
from verifiers.voting import Vote

GROUP = ("environment", "policy", "verifier", "strategy", "budget")  # cells that differ in their seed are one line


def marks_by_problem(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Right (1) or wrong (0) under each seed, by problem; a problem that failed counts as wrong.

    Problems without a gold answer are left out: nobody knows what is right there.
    """
    marks: dict[str, list[float]] = {}
    for row in sorted(rows, key=lambda row: (str(row["id"]), row["seed"])):
        if row["correct"] is not None:
            marks.setdefault(row["id"], []).append(float(row["correct"] == 1))
    return marks


def revoted(file: StudyFile, rows: Sequence[Mapping[str, Any]], vote: Vote) -> list[dict[str, Any]]:
    """Results as they would be if the answers were chosen by another vote; no search is run again."""
    query = "SELECT cell, problem, answer, correct, confidence FROM votes WHERE rule = ? AND aggregate = ?"
    chosen = {(row["cell"], row["problem"]): row for row in file.rows(query, (vote.rule, vote.aggregate))}
    changed = []
    for row in rows:
        other = chosen[row["cell"], row["problem"]]
        right = None if row["correct"] is None else int(other["correct"] == 1 and row["error"] is None)
        changed.append({**row, "answer": other["answer"], "confidence": other["confidence"], "correct": right})
    return changed


def summarize(
    file: StudyFile,
    rows: Sequence[Mapping[str, Any]] | None = None,
    baseline: str | None = None,
) -> list[dict[str, Any]]:
    """One JSON-ready summary per line of the table, in the order of the cells.

    Accuracy is the mean over problems of their mean over seeds; intervals treat the seeds of a problem as one cluster.
    It is None where no problem has a gold answer. A search that abstained counts by its best guess; ``abstained`` is
    how many did, and ``accuracy_answered`` the share of the others that is right.

    ``difference`` is the paired difference, over ``paired`` problems, to the line that has the baseline's value on one
    axis and is the same elsewhere. That holds for verifier and budget too, unless the baseline has only one (greedy
    decoding has one budget, majority voting no verifier). A line without such a counterpart has no difference. ``p`` is
    the p-value that goes with the difference, ``p_holm`` the same after Holm's correction for all comparisons of the
    table.

    Args:
        file: of the study.
        rows: `StudyFile.results`, or some of them, or `revoted` ones; all if not given.
        baseline: label of a strategy, or ``AXIS=LABEL``, e.g. ``policy=arithmetic-s``; the first strategy of the study
            if not given.

    Raises:
        UsageError: when there is no such axis or label in the study.
    """
    cells = file.cells()
    axis, value = read_baseline(baseline, cells)
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {_key(cell): [] for cell in cells}
    for row in file.results() if rows is None else rows:
        groups[_key(row)].append(row)
    marks = {key: marks_by_problem(members) for key, members in groups.items()}
    means = {key: problem_means(known) for key, known in marks.items()}
    summaries = []
    for key, members in groups.items():
        accuracy, interval = clustered(marks[key])
        labels = dict(zip(GROUP, key, strict=True))
        summary: dict[str, Any] = labels | {
            "n": len(marks[key]),
            "searches": len(members),
            "correct": sum(row["correct"] == 1 for row in members),
            "errors": sum(row["error"] is not None for row in members),
            "accuracy": accuracy if marks[key] else None,
            **_abstained(members),
            "interval": interval,
            "levels": _by_level(members),
            "cost": {
                name: sum(row[name] for row in sorted(members, key=_order)) / len(members) if members else None
                for name in COSTS
            },
        }
        summary["cost"]["flop_equivalents"] = _equivalents(summary["cost"])
        other = baseline_of(labels, axis, value, list(groups))
        if other is not None and other != key:
            summary |= _compared(means[other], means[key])
            summary |= {"versus": value, "versus_axis": axis}
            summary["versus_budget"] = dict(zip(GROUP, other, strict=True))["budget"]
        summaries.append(summary)
    compared = [summary for summary in summaries if "p" in summary]
    for summary, p in zip(compared, holm([summary["p"] for summary in compared]), strict=True):
        summary["p_holm"] = p
    return summaries


def _abstained(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many searches abstained, and the share of the others that is right; None where nobody knows."""
    silent = [certainty(row)[1] for row in rows]
    answered = [row for row, each in zip(rows, silent, strict=True) if not each]
    marks = [mark for each in marks_by_problem(answered).values() for mark in each]
    return {"abstained": sum(silent), "accuracy_answered": sum(marks) / len(marks) if marks else None}


def _equivalents(cost: Mapping[str, float | None]) -> float | None:
    """FLOP-equivalents of mean costs; None where the memory traffic is not known."""
    reads = (cost["policy_reads"] or 0.0) + (cost["verifier_reads"] or 0.0)
    flops = (cost["policy_flops"] or 0.0) + (cost["verifier_flops"] or 0.0)
    return flop_equivalents(flops, reads) if reads else None


def _compared(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, Any]:
    """The paired difference of two lines, and what goes with it.

    ``differing`` is the share of the problems on which they differ (of several seeds, the mean squared difference,
    which takes its place in the interval).
    """
    shared = first.keys() & second.keys()
    squares = [(second[problem] - first[problem]) ** 2 for problem in sorted(shared)]
    return {
        "difference": paired_difference(first, second),
        "paired": len(shared),
        "differing": sum(squares) / len(squares) if squares else None,
        "p": paired_p_value(first, second),
    }


def _key(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[axis]) for axis in GROUP)


def _order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Sums of floats do not depend on the order of finish."""
    return str(row["id"]), row["seed"]


def level_order(level: str) -> tuple[bool, float, str]:
    """Orders levels: numbers by what they are worth, so that 10 comes after 9, then words."""
    number = re.fullmatch(r"-?\d+(\.\d+)?", level)
    return number is None, float(level) if number else 0.0, level


def _by_level(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    levels: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["level"] is not None:
            levels.setdefault(str(row["level"]), []).append(row)
    found = {}
    for level, members in sorted(levels.items(), key=lambda item: level_order(item[0])):
        marks = marks_by_problem(members)
        if not marks:
            continue
        accuracy, interval = clustered(marks)
        found[level] = {"n": len(marks), "accuracy": accuracy, "interval": interval}
    return found


def read_baseline(text: str | None, cells: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """The axis and the label of a baseline."""
    if text is None:
        return "strategy", cells[0]["strategy"]
    axis, equals, label = text.partition("=")
    if not equals or " " in axis:  # 'beam branch=2' is a strategy
        axis, label = "strategy", text
    choose(axis, GROUP, "axis")
    return axis, choose(label, dict.fromkeys(cell[axis] for cell in cells), axis)


def baseline_of(
    labels: Mapping[str, str], axis: str, value: str, keys: Sequence[tuple[str, ...]]
) -> tuple[str, ...] | None:
    """What a line is compared with: the same in all but the axis, unless the baseline has no choice there."""
    must = [each for each in ("environment", "policy", "strategy") if each != axis]
    lines = [dict(zip(GROUP, key, strict=True)) for key in keys]
    lines = [line for line in lines if line[axis] == value and all(line[each] == labels[each] for each in must)]
    for each in ("verifier", "budget"):
        if each != axis and len({line[each] for line in lines}) > 1:
            lines = [line for line in lines if line[each] == labels[each]]
    return tuple(lines[0].values()) if lines else None


# ------------------------------------------------------------------------------------------------- what says nothing


def uniform_answers(file: StudyFile) -> dict[str, str]:
    """The environments in which a choice among answers cannot matter, each with why.

    Where answers prove themselves (a plan, a game), whatever was found is right: scores then choose among equals.
    """
    query = """SELECT environment, count(correct), sum(correct) FROM candidates JOIN cells USING (cell)
        GROUP BY environment"""
    found = {row[0]: (row[1], row[2]) for row in file.rows(query)}
    reasons = {}
    for environment in dict.fromkeys(cell["environment"] for cell in file.cells()):
        known, right = found.get(environment, (0, 0))
        if not known:
            reasons[environment] = "there is no answer of which it is known whether it is right"
        elif right in (0, known):
            reasons[environment] = f"{'every' if right else 'no'} answer that was found is right"
    return reasons


def uniform_votes(file: StudyFile) -> dict[str, str]:
    """The environments in which all votes are right in the same searches, each with why."""
    query = """SELECT DISTINCT environment FROM (SELECT cell FROM votes GROUP BY cell, problem
        HAVING min(correct) < max(correct)) JOIN cells USING (cell) WHERE verifier != ?"""
    differing = {row[0] for row in file.rows(query, (NO_VERIFIER,))}
    all_alike = {
        environment: "every vote chooses as well as the others"
        for environment in dict.fromkeys(cell["environment"] for cell in file.cells())
        if environment not in differing
    }
    return all_alike | uniform_answers(file)


# ------------------------------------------------------------------------------------------------------------- words


def p_text(p: float) -> str:
    """A p-value in three digits."""
    return "<0.001" if p < 0.0005 else f"{p:.3f}"


def points_text(difference: Sequence[float]) -> str:
    """A paired difference in points, with its interval."""
    return "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * each for each in difference))


def versus_name(line: Mapping[str, Any]) -> str:
    """What a line is compared with, in words: a strategy, or ``policy arithmetic-s``, ``budget 4``."""
    return str(line["versus"]) if line["versus_axis"] == "strategy" else f"{line['versus_axis']} {line['versus']}"


def versus_text(compared: Sequence[Mapping[str, Any]]) -> str:
    """What lines are compared with, and on how many problems."""
    name, counts = versus_name(compared[0]), sorted({line["paired"] for line in compared})
    budgets = {line["versus_budget"] for line in compared}
    if compared[0]["versus_axis"] == "budget":
        where = ""
    elif all(line["versus_budget"] == line["budget"] for line in compared):
        where = " at the same budget"
    else:
        where = f" at budget {budgets.pop()}" if len(budgets) == 1 else " at the same budget where it has several"
    span = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return (
        f"versus {name}: difference in points to {name}{where}, over the {span} problems of both, paired, with its"
        f" 95 % interval"
    )


def short_labels(labels: Iterable[str], most: int = 40) -> tuple[dict[str, str], list[str]]:
    """Labels of one axis for a table: what labels of one name have in common is told once, in the notes.

    ``beam branch=2 width=16`` and ``beam branch=4 width=16`` become ``beam branch=2`` and ``beam branch=4``, with the
    note ``beam: width=16``. Values of more than `most` characters (a template of pages) are cut; labels that are then
    alike are numbered.
    """
    parts = {label: re.split(r" (?=\w+=)", label) for label in labels}
    notes: list[str] = []
    short: dict[str, str] = {}
    for name in dict.fromkeys(words[0] for words in parts.values()):
        alike = {label: words[1:] for label, words in parts.items() if words[0] == name}
        common = set.intersection(*map(set, alike.values())) if len(alike) > 1 else set()
        if common:
            told = [word for word in next(iter(alike.values())) if word in common]
            notes.append(f"{name}: {' '.join(_cut(word, most) for word in told)}")
        for label, words in alike.items():
            text = " ".join([name, *(_cut(word, most) for word in words if word not in common)])
            twins = sum(each == text or each.startswith(f"{text} (") for each in short.values())
            short[label] = f"{text} ({twins + 1})" if twins else text
    return short, notes


def _cut(word: str, most: int) -> str:
    line = " ".join(word.split())
    return line if len(line) <= most else f"{line[: most - 3]}..."


def vote_table(file: StudyFile) -> list[tuple[str, dict[tuple[str, str], float]]]:
    """Accuracy by (rule, aggregate), for every line of the table that has scores; with a title each.

    Environments in which no vote differs from another (`uniform_votes`) are left out.
    """
    rows, tables = file.results(), []
    by_vote = {vote: summarize(file, revoted(file, rows, vote)) for vote in VOTES}
    silent = uniform_votes(file)
    for at, summary in enumerate(by_vote[VOTES[0]]):
        if summary["n"] and summary["verifier"] != NO_VERIFIER and summary["environment"] not in silent:
            title = f"{summary['strategy']} @ {summary['budget']}; " + ", ".join(summary[key] for key in GROUP[:3])
            tables.append((title, {(str(v.rule), str(v.aggregate)): by_vote[v][at]["accuracy"] for v in VOTES}))
    return tables
