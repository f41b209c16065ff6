"""What a study would do, before it does it: its cells and searches, how long they may take, what they can show."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.recipes.recipe import parse_budget
from agent.study.results_db import StudyFile
from agent.study.run import Problems
from agent.study.statistics import difference_seen, problems_needed
from agent.study.study import AXES, Study
from agent.study.table import summarize

DIFFERING = (0.1, 0.2, 0.4)  # shares of problems on which one of two strategies is right and the other wrong
DIFFERENCES = (0.02, 0.05, 0.1)  # of accuracies


def dry_run(study: Study, problems: Problems, path: Path, concurrency: int) -> dict[str, Any]:
    """What a study would do, JSON-ready; no model is loaded.

    ``samples`` is the most that the searches may draw (None where a budget does not count them). ``seconds`` is an
    estimate of how long what is left takes, from searches of the same cells in the file (or of the same cells with
    another seed): open searches run `concurrency` at a time, so that the wall clock takes the sum of their times over
    that. It is None while there are cells (``untimed`` of them) of which no search was timed. ``shows`` is
    `what_shows`, for the share of problems on which strategies of the file differ too (``measured``, their median).

    Args:
        study: what to measure.
        problems: of `agent.study.run.study_problems`.
        path: the file of results, if there is one: of this study, or of a small one that was run to know the times.
        concurrency: searches open at once.
    """
    cells = study.cells
    ids = {label: {problem.id for problem in drawn} for label, (_, drawn) in problems.items()}
    wanted = [ids[cell.environment.label] for cell in cells]
    keys = [tuple(str(label) for label in cell.labels().values()) for cell in cells]
    known, measured = _by_cell(_known(path)), _measured(path)
    lacking = [len(own - {row["id"] for row in known.get(key, [])}) for own, key in zip(wanted, keys, strict=True)]
    left, total = sum(lacking), sum(map(len, wanted))
    times = _seconds(known)
    timed = [(times.get(key, times.get(key[:-1])), lack) for key, lack in zip(keys, lacking, strict=True) if lack]
    untimed = sum(mean is None for mean, _ in timed)
    drawn = [parse_budget(cell.budget).samples for cell in cells]
    return {
        "cells": len(cells),
        "axes": {axis: list(dict.fromkeys(labels)) for axis, labels in zip(AXES, zip(*keys, strict=True), strict=True)},
        "split": study.split,
        "problems": {label: len(each) for label, each in ids.items()},
        "searches": total,
        "done": total - left,
        "samples": None if None in drawn else sum(int(n or 0) * len(own) for n, own in zip(drawn, wanted, strict=True)),
        "concurrency": concurrency,
        "seconds": None if untimed else sum((mean or 0.0) * n for mean, n in timed) / max(1, min(concurrency, left)),
        "untimed": untimed,
        "file": str(path),
        "shows": what_shows(study.n, (*DIFFERING, *measured)),
        "measured": measured,
    }


def _known(path: Path) -> list[dict[str, Any]]:
    """The results of a file, if it is there."""
    if not path.is_file():
        return []
    with StudyFile(path) as file:
        return file.results()


def _by_cell(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, ...], list[Mapping[str, Any]]]:
    cells: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        cells.setdefault(tuple(str(row[axis]) for axis in AXES), []).append(row)
    return cells


def _seconds(cells: Mapping[tuple[str, ...], Sequence[Mapping[str, Any]]]) -> dict[tuple[str, ...], float]:
    """The mean time of a search by the labels of its cell, with the seed and without."""
    times: dict[tuple[str, ...], list[float]] = {}
    for key, rows in cells.items():
        for each in (key, key[:-1]):
            times.setdefault(each, []).extend(row["seconds"] for row in rows)
    return {key: sum(each) / len(each) for key, each in times.items()}


def _measured(path: Path) -> list[float]:
    """The median share of problems on which two compared lines of a file differ; nothing where that is not known."""
    if not path.is_file():
        return []
    with StudyFile(path) as file:
        shares = [line["differing"] for line in summarize(file) if line.get("differing")]
    return [statistics.median(shares)] if shares else []


def what_shows(n: int, differing: Sequence[float] = DIFFERING) -> list[dict[str, Any]]:
    """What `n` problems can show, by the share of the problems on which two strategies differ.

    ``least_difference`` is what they show (None for nothing), ``problems_needed`` how many show each of `DIFFERENCES`:
    two-sided at 5 %, with a power of 80 %, one seed (`agent.study.statistics.problems_needed`).
    """
    found = []
    for share in differing:
        needed = {f"{each:g}": problems_needed(each, share) for each in DIFFERENCES if each <= share}
        found.append({"differing": share, "least_difference": difference_seen(n, share), "problems_needed": needed})
    return found
