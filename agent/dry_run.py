"""What a study would do, before it does it: its cells and searches, how long they may take, what they can show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.intervals import difference_seen, problems_needed
from agent.recipe import parse_budget
from agent.store import StudyFile
from agent.study import AXES, Problems, Study

DIFFERING = (0.1, 0.2, 0.4)  # shares of problems on which one of two strategies is right and the other wrong
DIFFERENCES = (0.02, 0.05, 0.1)  # of accuracies


def dry_run(study: Study, problems: Problems, path: Path, concurrency: int) -> dict[str, Any]:
    """What a study would do, JSON-ready; no model is loaded.

    ``samples`` is the most that the searches may draw (None where a budget does not count them). ``seconds`` is an
    estimate of how long what is left takes, from searches of the same cells in the file (or of the same cells with
    another seed): open searches run `concurrency` at a time, so that the wall clock takes the sum of their times over
    that. It is None while there are cells (``untimed`` of them) of which no search was timed.

    Args:
        study: what to measure.
        problems: of `agent.study.study_problems`.
        path: the file of results, if there is one: of this study, or of a small one that was run to know the times.
        concurrency: searches open at once.
    """
    cells = study.cells
    ids = {label: {problem.id for problem in drawn} for label, (_, drawn) in problems.items()}
    timed, done = _timed(path)
    left, seconds, untimed, samples = 0, 0.0, 0, 0
    counted = True
    for cell in cells:
        labels = cell.labels()
        key = tuple(str(labels[axis]) for axis in AXES)
        wanted = ids[cell.environment.label]
        lacking = len(wanted - done.get(key, set()))
        left += lacking
        most = parse_budget(cell.budget).samples
        counted = counted and most is not None
        samples += len(wanted) * int(most or 0)
        times = timed.get(key) or timed.get(key[:-1])
        if times:
            seconds += lacking * sum(times) / len(times)
        elif lacking:
            untimed += 1
    total = sum(len(ids[cell.environment.label]) for cell in cells)
    return {
        "cells": len(cells),
        "axes": {axis: list(dict.fromkeys(str(cell.labels()[axis]) for cell in cells)) for axis in AXES},
        "split": study.split,
        "problems": {label: len(wanted) for label, wanted in ids.items()},
        "searches": total,
        "done": total - left,
        "samples": samples if counted else None,
        "concurrency": concurrency,
        "seconds": None if untimed else seconds / max(1, min(concurrency, left)),
        "untimed": untimed,
        "file": str(path),
        "shows": what_shows(study.n),
    }


def _timed(path: Path) -> tuple[dict[tuple[str, ...], list[float]], dict[tuple[str, ...], set[str]]]:
    """Of a file's searches: their seconds by the labels of the cell, with and without the seed; their problems."""
    timed: dict[tuple[str, ...], list[float]] = {}
    done: dict[tuple[str, ...], set[str]] = {}
    if path.is_file():
        with StudyFile(path) as file:
            for row in file.results():
                key = tuple(str(row[axis]) for axis in AXES)
                done.setdefault(key, set()).add(row["id"])
                for each in (key, key[:-1]):
                    timed.setdefault(each, []).append(row["seconds"])
    return timed, done


def what_shows(n: int, differing: Sequence[float] = DIFFERING) -> list[dict[str, Any]]:
    """What `n` problems can show, by the share of the problems on which two strategies differ.

    ``least_difference`` is what they show (None for nothing), ``problems_needed`` how many show each of `DIFFERENCES`:
    two-sided at 5 %, with a power of 80 %, one seed (`agent.intervals.problems_needed`).
    """
    found = []
    for share in differing:
        needed = {f"{each:g}": problems_needed(each, share) for each in DIFFERENCES if each <= share}
        found.append({"differing": share, "least_difference": difference_seen(n, share), "problems_needed": needed})
    return found
