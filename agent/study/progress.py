"""How far a study is, for whoever shows it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from agent.recipes.recipe import parse_budget
from agent.search.graph import SearchGraph
from agent.study.rows import Result


@dataclass
class Progress:
    """Where a study stands, for whoever shows it.

    Args:
        cells_done, cells: combinations that are complete, and all.
        done, total: problems finished over all cells, those of earlier runs included, and all.
        correct: how many of those done are right.
        errors: how many failed.
        tokens: policy tokens that this run has generated, in searches still open too.
        fraction: of the whole work that is done, in sample-equivalents, searches still open included.
        fresh: the part of `fraction` that this run did, in `seconds`.
    """

    cells_done: int = 0
    cells: int = 0
    done: int = 0
    total: int = 0
    correct: int = 0
    errors: int = 0
    tokens: int = 0
    fraction: float = 0.0
    fresh: float = 0.0
    seconds: float = 0.0

    @property
    def eta(self) -> float | None:
        """Seconds left at the rate of this run; None while there is too little to tell."""
        if self.fresh < 0.01 or self.seconds < 1.0:
            return None
        return (1 - self.fraction) * self.seconds / self.fresh


class Tracker:
    """Keeps a `Progress` up to date, the searches that are still open included.

    Args:
        budgets: of each cell, as texts.
        n: problems of each cell.
        finished: (cell, right, failed) of each result that there is already.
        tell: called a few times a second.
    """

    def __init__(
        self,
        budgets: Sequence[str],
        n: Sequence[int],
        finished: Iterable[tuple[int, bool, bool]],
        tell: Callable[[Progress], None],
    ) -> None:
        weights = [parse_budget(budget).samples or 1.0 for budget in budgets]
        whole = sum(weight * each for weight, each in zip(weights, n, strict=True)) or 1.0
        self.shares = [weight / whole for weight in weights]  # of one problem in the whole work
        self.left = list(n)
        self.tell = tell
        self.progress = Progress(cells=len(budgets), total=sum(n))
        self.open: dict[str, tuple[int, SearchGraph]] = {}
        self.tokens: dict[int, list[int]] = {}  # generated per finished search, by cell
        self.settled = 0.0
        for cell, right, failed in finished:
            self._settle(cell, right, failed)
        self.before = self.settled
        self.started = self.told = time.monotonic()

    def watch(self, cell: int) -> Callable[[SearchGraph], None]:
        """What is called with a growing graph of a cell."""

        def look(graph: SearchGraph) -> None:
            self.open[graph.scope] = cell, graph
            if time.monotonic() - self.told > 0.25:
                self._tell()

        return look

    def finish(self, result: Result, scope: str = "") -> None:
        """A search is over and its result is safe."""
        self.open.pop(scope, None)
        self.tokens.setdefault(result.place.cell, []).append(result.row["generated"])
        self._settle(result.place.cell, bool(result.row["correct"]), result.row["error"] is not None)
        if time.monotonic() - self.told > 0.1 or self.progress.done == self.progress.total:
            self._tell()

    def _settle(self, cell: int, right: bool, failed: bool) -> None:
        self.left[cell] -= 1
        self.settled += self.shares[cell]
        self.progress.done += 1
        self.progress.correct += right
        self.progress.errors += failed

    def _tell(self) -> None:
        part = 0.0
        for cell, graph in self.open.values():
            known = self.tokens.get(cell)
            if known and (typical := sum(known) / len(known)):
                part += self.shares[cell] * min(0.95, graph.generated / typical)
        progress = self.progress
        progress.cells_done = self.left.count(0)
        progress.tokens = sum(map(sum, self.tokens.values())) + sum(graph.generated for _, graph in self.open.values())
        progress.fraction = min(1.0, self.settled + part)
        progress.fresh = progress.fraction - self.before
        self.told = time.monotonic()
        progress.seconds = self.told - self.started
        self.tell(progress)
