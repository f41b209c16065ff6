"""A study as a page needs it: its lines, comparisons, votes and figures, and its results as flat columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

from agent.build import NO_VERIFIER
from agent.report.page_file import number
from agent.study.results_db import StudyFile
from agent.study.rows import VOTES
from agent.study.statistics import clustered, paired_difference, problem_means
from agent.study.table import (
    GROUP,
    baseline_of,
    level_order,
    marks_by_problem,
    read_baseline,
    revoted,
    short_labels,
    summarize,
    uniform_votes,
)
from envs.messages import require

MOST_LINES = 200  # of an environment, each two of which are compared
_COSTS = ("samples", "generated", "prefilled", "verifier_tokens", "policy_flops", "verifier_flops", "seconds")
Rows = Sequence[Mapping[str, Any]]
Marks = Mapping[str, Sequence[float]]


def study_data(file: StudyFile, rows: Rows, baseline: str | None = None) -> dict[str, Any]:
    """All that the page of a study shows beside the searches' trees, JSON-ready.

    Args:
        file: of the study.
        rows: `StudyFile.results`, or those under another vote (`agent.study.table.revoted`).
        baseline: as in `agent.study.table.summarize`: what lines are compared with at first.

    Raises:
        UsageError: there is no such baseline.
    """
    summaries = summarize(file, rows, baseline)
    keys = [tuple(str(summary[axis]) for axis in GROUP) for summary in summaries]
    lines = {key: at for at, key in enumerate(keys)}
    members: list[list[Mapping[str, Any]]] = [[] for _ in keys]
    for row in rows:
        members[lines[_key(row)]].append(row)
    marks = [marks_by_problem(group) for group in members]
    notes: list[str] = []
    short = {axis: short_labels(dict.fromkeys(summary[axis] for summary in summaries)) for axis in GROUP}
    for _, told in short.values():
        notes += told
    data: dict[str, Any] = {
        "about": _about(file),
        "lines": [_line(summary, {axis: short[axis][0][summary[axis]] for axis in GROUP}) for summary in summaries],
        "notes": list(dict.fromkeys(notes)),
        "baseline": _baselines(file, keys, baseline),
        "votes": _votes(file, rows, lines, marks),
        "votes_silent": uniform_votes(file),
        **_comparisons(keys, marks),
        **_figures(file, rows, lines),
    }
    return data | _problems(file) | {"results": _results(file, rows, lines)}


def _key(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[axis]) for axis in GROUP)


def _about(file: StudyFile) -> dict[str, Any]:
    config = file.config
    known = ("split", "n", "seeds", "problem_seed", "temperature", "vote", "graphs", "total_budget")
    return {key: config[key] for key in known if config.get(key) is not None} | {"total": file.total()}


def _line(summary: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    low, high = summary["interval"]
    cost = {name: number(summary["cost"][name]) for name in _COSTS}
    flops = None if cost["policy_flops"] is None else cost["policy_flops"] + (cost["verifier_flops"] or 0)
    return {
        **labels,
        "n": summary["n"],
        "searches": summary["searches"],
        "errors": summary["errors"],
        "accuracy": number(summary["accuracy"]),
        "low": number(low),
        "high": number(high),
        "levels": [
            {"level": level, "n": each["n"], "accuracy": number(each["accuracy"])}
            | dict(zip(("low", "high"), map(number, each["interval"]), strict=True))
            for level, each in summary["levels"].items()
        ],
        "cost": {**cost, "flops": flops},
    }


def _baselines(file: StudyFile, keys: Sequence[tuple[str, ...]], baseline: str | None) -> list[int | None]:
    """For each line the place of the one that the study's table compares it with, or None."""
    axis, value = read_baseline(baseline, file.cells())
    others = [baseline_of(dict(zip(GROUP, key, strict=True)), axis, value, keys) for key in keys]
    return [None if other in (None, key) else keys.index(other) for key, other in zip(keys, others, strict=True)]


def _comparisons(keys: Sequence[tuple[str, ...]], marks: Sequence[Marks]) -> dict[str, Any]:
    """The paired difference of each two lines of an environment: second less first, its interval, and the problems.

    ``pairs`` is flat: first line, second line, difference, low, high, problems of both, of which the second does
    better, and worse.
    """
    means = [problem_means(known) for known in marks]
    places: dict[str, list[int]] = {}
    for at, key in enumerate(keys):
        if means[at]:
            places.setdefault(key[0], []).append(at)
    pairs: list[Any] = []
    left_out = sum(max(0, len(group) - MOST_LINES) for group in places.values())
    for group in places.values():
        for first, second in combinations(group[:MOST_LINES], 2):
            one, other = means[first], means[second]
            shared = [problem for problem in one if problem in other]
            better = sum(other[problem] > one[problem] for problem in shared)
            worse = sum(other[problem] < one[problem] for problem in shared)
            pairs += [first, second, *map(number, paired_difference(one, other)), len(shared), better, worse]
    return {"pairs": pairs, "pairs_left_out": left_out}


def _votes(
    file: StudyFile, rows: Rows, lines: Mapping[tuple[str, ...], int], marks: Sequence[Marks]
) -> list[list[Any]]:
    """Accuracy under every vote: line, rule, aggregate, accuracy and interval, difference to the own vote and interval.

    Lines without scores, and those of an environment in which no vote differs from another, have none.
    """
    silent, found = uniform_votes(file), []
    chosen = [problem_means(known) for known in marks]
    for vote in VOTES:
        groups: dict[int, list[Mapping[str, Any]]] = {}
        for row in revoted(file, rows, vote):
            groups.setdefault(lines[_key(row)], []).append(row)
        for at, group in sorted(groups.items()):
            known = marks_by_problem(group)
            if known and group[0]["verifier"] != NO_VERIFIER and group[0]["environment"] not in silent:
                accuracy, interval = clustered(known)
                values = (accuracy, *interval, *paired_difference(chosen[at], problem_means(known)))
                found.append([at, vote.rule, vote.aggregate, *map(number, values)])
    return found


# ------------------------------------------------------------------------------------------- what frames are made for


def _figures(file: StudyFile, rows: Rows, lines: Mapping[tuple[str, ...], int]) -> dict[str, Any]:
    """Calibration and compute, from the frames of `agent.study.analysis`; ``missing`` says why one is not there."""
    found: dict[str, Any] = {"calibration": [], "reliability": [], "compute": []}
    if not rows:
        return found | {"missing": dict.fromkeys(("calibration", "compute"), "no search is over")}
    try:
        require("study", "pandas")
    except ImportError as error:
        return found | {"missing": dict.fromkeys(("calibration", "compute"), str(error))}
    from agent.study import analysis

    def read(make: Callable[[StudyFile], Any]) -> list[dict[str, Any]]:
        """The rows of a frame, JSON-ready, with the number of their line."""
        made = []
        for row in make(file).to_dict("records"):
            figures = {name: number(value) for name, value in row.items() if name not in GROUP}
            made.append({"line": lines[_key(row)]} | figures)
        return made

    found["compute"] = read(analysis.compute)
    found["calibration"] = read(analysis.calibration)
    found["reliability"] = read(analysis.reliability)
    missing = {} if found["calibration"] else {"calibration": "no candidate has a score and a known verdict"}
    return found | {"missing": missing}


# ------------------------------------------------------------------------------------------------------- the results


def _problems(file: StudyFile) -> dict[str, Any]:
    rows = file.rows("SELECT problem, environment, id, question, answer, meta FROM problems ORDER BY problem")
    metas = [_meta(row["meta"]) for row in rows]
    levels = {str(meta["level"]) for meta in metas if meta.get("level") is not None}
    return {
        "levels": sorted(levels, key=level_order),
        "problems": {
            "number": [row["problem"] for row in rows],
            "environment": [row["environment"] for row in rows],
            "id": [row["id"] for row in rows],
            "question": [row["question"] for row in rows],
            "answer": [row["answer"] for row in rows],
            "level": [None if meta.get("level") is None else str(meta["level"]) for meta in metas],
        },
    }


def _meta(text: str) -> Mapping[str, Any]:
    try:
        meta = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return meta if isinstance(meta, dict) else {}


def _results(file: StudyFile, rows: Rows, lines: Mapping[tuple[str, ...], int]) -> dict[str, list[Any]]:
    """A column for each fact of a search; ``problem`` is the place in the list of problems."""
    places = {row[0]: at for at, row in enumerate(file.rows("SELECT problem FROM problems ORDER BY problem"))}

    def column(read: Callable[[Mapping[str, Any]], Any]) -> list[Any]:
        return [read(row) for row in rows]

    def total(names: Iterable[str]) -> list[Any]:
        return [number(sum(row[name] for name in names)) for row in rows]

    return {
        "cell": column(lambda row: row["cell"]),
        "line": column(lambda row: lines[_key(row)]),
        "problem": column(lambda row: places[row["problem"]]),
        "seed": column(lambda row: row["seed"]),
        "answer": column(lambda row: row["answer"]),
        "correct": column(lambda row: None if row["correct"] is None else int(row["correct"] == 1)),
        "confidence": column(lambda row: number(row["confidence"])),
        "samples": column(lambda row: number(row["samples"])),
        "tokens": total(("generated", "prefilled", "verifier_tokens")),
        "flops": total(("policy_flops", "verifier_flops")),
        "seconds": column(lambda row: number(row["seconds"])),
        "stopped": column(lambda row: row["stopped"]),
        "error": column(lambda row: row["error"]),
    }
