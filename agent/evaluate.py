"""Evaluation: many problems, several strategies and budgets, one engine, results that outlive a kill.

Results are JSON lines, each written and synced before the next is waited for. The first line holds the configuration
and its fingerprint; the same command goes on where the file ends. A line that was torn by a kill is dropped.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from agent.graph import SearchGraph
from agent.parts import strategy_of, weights_digest
from agent.recipe import Component, Recipe, RecipeError, fingerprint, parse_budget
from agent.solver import Solution, Solver
from envs.core import Split

FORMAT = 1  # of the file of results; a change of meaning needs another number


@dataclass(frozen=True)
class Cell:
    """One combination that is measured: a strategy (with its knobs) at a budget."""

    strategy: Component
    budget: str

    @property
    def name(self) -> str:
        """Unique within a run, e.g. ``beam @ 16``."""
        return f"{self.strategy.label} @ {self.budget}"


@dataclass(frozen=True)
class Evaluation:
    """What is measured: a recipe on problems of a split, under each strategy at each budget.

    Args:
        recipe: everything but strategy and budget is taken from it.
        strategies: each is run at each budget.
        budgets: as `parse_budget` reads them.
        split: of the environment's problems.
        n: how many problems.
        problem_seed: which problems; the seed of the samples is the recipe's.
        total_budget: that all problems of a cell share, in samples or FLOPs; a cell's own budget is then the most that
            one problem gets.
    """

    recipe: Recipe
    strategies: tuple[Component, ...]
    budgets: tuple[str, ...]
    split: Split = "test"
    n: int = 200
    problem_seed: int = 0
    total_budget: str | None = None

    @property
    def cells(self) -> list[Cell]:
        """Budgets within strategies, in the order given, each combination once."""
        pairs = ((strategy, budget) for strategy in self.strategies for budget in self.budgets)
        cells = (Cell(strategy, budget) for strategy, budget in pairs)
        return list({cell.name: cell for cell in cells}.values())

    def to_config(self) -> dict[str, Any]:
        """Everything that results depend on, JSON-ready."""
        recipe = self.recipe.to_config()
        del recipe["strategy"], recipe["budget"]
        return {
            **recipe,
            "weights": weights_digest(self.recipe),
            "cells": [{"strategy": cell.strategy.to_config(), "budget": cell.budget} for cell in self.cells],
            "split": self.split,
            "n": self.n,
            "problem_seed": self.problem_seed,
            **({"total_budget": self.total_budget} if self.total_budget else {}),
        }


# ------------------------------------------------------------------------------------------------- durable results


class ResultsFile:
    """An append-only file of JSON lines that belongs to one configuration. A context manager; one writer at a time.

    Args:
        path: made, with its folder, if it does not exist.
        config: what the results depend on; a file of another configuration is refused.

    Raises:
        RecipeError: when the file belongs to another configuration, is none of ours, or is being written to.
    """

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = path.open("a+b")
        try:
            self._lock()
            self.rows = self._open(dict(config))
        except BaseException:
            self._file.close()
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RecipeError(
                f"{self.path} is being written to by another run; wait for it or give another --out"
            ) from None

    def _open(self, config: dict[str, Any]) -> list[dict[str, Any]]:
        self._file.seek(0)
        content = self._file.read()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):  # the last line was torn by a kill
            self._file.truncate(len(whole))
        lines = whole.splitlines()
        if not lines:
            self._write({"stepwell": "eval", "format": FORMAT, "fingerprint": fingerprint(config), "config": config})
            return []
        try:
            header, *rows = [json.loads(line) for line in lines]
            theirs, version = header["config"], header["format"]
        except (ValueError, KeyError, TypeError):
            raise RecipeError(f"{self.path} is not a file of results; give another --out") from None
        if version != FORMAT:
            raise RecipeError(f"{self.path} has format {version}, this version writes {FORMAT}; give another --out")
        if header["fingerprint"] != fingerprint(config):
            raise RecipeError(
                f"{self.path} belongs to another configuration ({'; '.join(differences(theirs, config))});"
                " give another --out, or the same options to go on"
            )
        return rows

    def append(self, *rows: dict[str, Any]) -> None:
        """Add rows: write them and wait until they are on the disk."""
        self._write(*rows)
        self.rows += rows

    def _write(self, *rows: Mapping[str, Any]) -> None:
        lines = [json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows]
        self._file.write("".join(lines).encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> ResultsFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """Which keys differ between two configurations, in words."""
    keys = dict.fromkeys([*theirs, *ours])
    return [
        f"{key}: {json.dumps(theirs.get(key))} there, {json.dumps(ours.get(key))} now"
        for key in keys
        if theirs.get(key) != ours.get(key)
    ]


# ------------------------------------------------------------------------------------------------------- running


def result_row(cell: Cell, solution: Solution) -> dict[str, Any]:
    """One line of results. Finished candidates are kept with their step scores, so that other votes can be counted."""
    graph = solution.graph
    row: dict[str, Any] = {
        "cell": cell.name,
        "problem": solution.problem.id,
        "level": solution.problem.meta.get("level"),
        "answer": solution.answer,
        "correct": bool(solution.correct) and solution.error is None,
        "confidence": round(solution.confidence, 6),
        "spent": solution.spent,
        "stopped": graph.info["stopped"],
        "candidates": [
            {
                "answer": candidate.answer,
                "scores": [round(score, 6) for score in candidate.scores],
                "count": candidate.count,
            }
            for candidate in graph.candidates()
        ],
    }
    if solution.plan:
        row["plan"] = solution.plan
    if solution.error:
        row["error"] = solution.error
    return row


@dataclass
class Progress:
    """Where an evaluation stands, for whoever shows it.

    Args:
        done: problems finished, over all cells, those of earlier runs included.
        total: problems in all.
        correct: how many of those done are right.
        errors: how many failed.
        cell: the combination at work.
        fraction: of the whole work that is done, in sample-equivalents, searches still open included.
        fresh: the part of `fraction` that this run did, in `seconds`.
    """

    done: int = 0
    total: int = 0
    correct: int = 0
    errors: int = 0
    cell: str = ""
    fraction: float = 0.0
    fresh: float = 0.0
    seconds: float = 0.0

    @property
    def eta(self) -> float | None:
        """Seconds left at the rate of this run; None while there is too little to tell."""
        if self.fresh < 0.01 or self.seconds < 1.0:
            return None
        return (1 - self.fraction) * self.seconds / self.fresh


def evaluate(
    evaluation: Evaluation,
    solver: Solver,
    results: ResultsFile,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    concurrency: int = 64,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Run what is missing in a file of results, one cell after the other, and append it.

    A search that fails is recorded with its error and counts as wrong. When the solver is stopped, what has finished
    is in the file and the searches that were open are not. The problems of a cell that share a total budget are one
    piece of work: they go into the file together, when the last is over, or not at all.

    Args:
        evaluation: what to measure.
        solver: with the models that the recipe names.
        results: opened for the same configuration.
        on_progress: called a few times a second, in this thread.
        concurrency: searches open at once.
        stopped: whether to end; asked after each result.
    """
    problems = solver.environment.problems(evaluation.split, evaluation.n, evaluation.problem_seed)
    total = None if evaluation.total_budget is None else parse_budget(evaluation.total_budget)
    tracker = _Tracker(evaluation, len(problems), results.rows, on_progress)
    done = {(row["cell"], row["problem"]) for row in results.rows}
    for cell in evaluation.cells:
        if stopped():
            return
        missing = [problem for problem in problems if (cell.name, problem.id) not in done]
        if total is not None and len(missing) < len(problems):
            if missing:
                raise RecipeError(
                    f"{results.path} was cut in the middle of {cell.name}, whose problems share a budget, so that it"
                    " cannot go on; give another --out"
                )
            continue
        before = max((row["elapsed"] for row in results.rows if row["cell"] == cell.name), default=0.0)
        started = time.monotonic()
        recipe = replace(evaluation.recipe, strategy=cell.strategy, budget=parse_budget(cell.budget))
        tracker.enter(cell)
        rows = []
        for solution in solver.solve_many(
            missing, strategy_of(recipe), recipe.budget, recipe.seed, tracker.watch, concurrency, total
        ):
            if stopped():
                return
            row = result_row(cell, solution) | {"elapsed": round(before + time.monotonic() - started, 3)}
            rows.append(row)
            if total is None or len(rows) == len(problems):
                results.append(*rows)
                rows.clear()
            tracker.finish(solution, row)


class _Tracker:
    """Keeps a `Progress` up to date, the searches that are still open included."""

    def __init__(
        self, evaluation: Evaluation, n: int, rows: Sequence[Mapping[str, Any]], tell: Callable[[Progress], None]
    ) -> None:
        weights = {cell.name: parse_budget(cell.budget).samples or 1.0 for cell in evaluation.cells}
        whole = n * sum(weights.values()) or 1.0
        self.shares = {name: weight / whole for name, weight in weights.items()}  # of one problem in the whole work
        self.tell = tell
        self.progress = Progress(total=n * len(weights), done=len(rows))
        self.progress.correct = sum(row["correct"] for row in rows)
        self.progress.errors = sum("error" in row for row in rows)
        self.settled = sum(self.shares[row["cell"]] for row in rows)
        self.before = self.settled
        self.open: dict[str, SearchGraph] = {}
        self.tokens: list[int] = []  # generated per finished search of the cell
        self.started = self.told = time.monotonic()

    def enter(self, cell: Cell) -> None:
        self.progress.cell = cell.name
        self.open.clear()
        self.tokens.clear()
        self._tell()

    def watch(self, graph: SearchGraph) -> None:
        self.open[graph.scope] = graph
        if time.monotonic() - self.told > 0.25:
            self._tell()

    def finish(self, solution: Solution, row: Mapping[str, Any]) -> None:
        self.open.pop(solution.graph.scope, None)
        self.tokens.append(solution.graph.generated)
        self.settled += self.shares[row["cell"]]
        self.progress.done += 1
        self.progress.correct += row["correct"]
        self.progress.errors += "error" in row
        self._tell()

    def _tell(self) -> None:
        typical = sum(self.tokens) / len(self.tokens) if self.tokens else 0.0
        part = sum(min(0.95, graph.generated / typical) for graph in self.open.values()) if typical else 0.0
        self.progress.fraction = min(1.0, self.settled + part * self.shares.get(self.progress.cell, 0.0))
        self.progress.fresh = self.progress.fraction - self.before
        self.told = time.monotonic()
        self.progress.seconds = self.told - self.started
        self.tell(self.progress)


# ------------------------------------------------------------------------------------------------------- summaries

Z = 1.959964  # of a 95 % interval


def wilson(right: int, n: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a proportion (Wilson 1927); (0, 1) when nothing was measured."""
    if n == 0:
        return 0.0, 1.0
    p = right / n
    centre, spread = p + Z * Z / (2 * n), Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    scale = 1 + Z * Z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def paired_difference(first: Mapping[str, bool], second: Mapping[str, bool]) -> tuple[float, float, float]:
    """Accuracy of `second` minus that of `first` on the problems both have, with its 95 % interval.

    Problems are paired, so only those that one got right and the other wrong tell anything. The interval is Wald's
    with half a problem added to each of the four counts (Agresti and Min 2005), which keeps it honest when few differ.
    """
    shared = [problem for problem in first if problem in second]
    n = len(shared)
    if not n:
        return 0.0, -1.0, 1.0
    gained = sum(second[problem] and not first[problem] for problem in shared)
    lost = sum(first[problem] and not second[problem] for problem in shared)
    centre = (gained - lost) / (n + 2)
    half = Z / (n + 2) * math.sqrt(gained + lost + 1 - (gained - lost) ** 2 / (n + 2))
    return (gained - lost) / n, max(-1.0, centre - half), min(1.0, centre + half)


def summarize(evaluation: Evaluation, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One JSON-ready summary per cell: accuracy with its interval, by level, cost per problem, wall-clock seconds.

    ``difference`` is the paired difference to the first cell. A problem that failed counts as wrong.
    """
    by_cell: dict[str, list[Mapping[str, Any]]] = {cell.name: [] for cell in evaluation.cells}
    for row in rows:
        by_cell[row["cell"]].append(row)
    first = next(iter(by_cell.values()))
    baseline = {row["problem"]: row["correct"] for row in first}
    summaries = []
    for cell in evaluation.cells:
        chosen = sorted(
            by_cell[cell.name], key=lambda row: str(row["problem"])
        )  # sums do not depend on the order of finish
        n, right = len(chosen), sum(row["correct"] for row in chosen)
        levels: dict[Any, list[bool]] = {}
        for row in chosen:
            levels.setdefault(row["level"], []).append(row["correct"])
        summary: dict[str, Any] = {
            "name": cell.strategy.label,
            "strategy": cell.strategy.to_config(),
            "budget": cell.budget,
            "n": n,
            "correct": right,
            "errors": sum("error" in row for row in chosen),
            "accuracy": right / n if n else None,
            "interval": wilson(right, n),
            "levels": {
                str(level): {
                    "n": len(marks),
                    "accuracy": sum(marks) / len(marks),
                    "interval": wilson(sum(marks), len(marks)),
                }
                for level, marks in sorted(levels.items(), key=lambda item: str(item[0]))
                if level is not None
            },
            "cost": {key: sum(row["spent"].get(key, 0) for row in chosen) / n if n else None for key in COSTS},
            "seconds": max((row["elapsed"] for row in chosen), default=0.0),
        }
        if cell.name != evaluation.cells[0].name:
            summary["difference"] = paired_difference(baseline, {row["problem"]: row["correct"] for row in chosen})
        summaries.append(summary)
    return summaries


COSTS = ("samples", "generated", "prefilled", "policy_flops", "verifier_tokens", "verifier_flops")  # per problem
