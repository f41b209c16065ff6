"""Strategies compared at equal compute, over one study or several (extra ``study``).

Rows are those of `agent.study.analysis.results`, of as many studies as there are (`pandas.concat`), of one environment.
A line is a strategy at a budget; its problems are told by their id, and the seeds of a problem are one cluster.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from agent.recipes.recipe import parse_budget
from agent.study.statistics import paired_difference

Line = tuple[str, str]  # strategy, budget


@dataclass(frozen=True)
class Curves:
    """What every line reaches on every problem, and at what cost.

    Args:
        right: (problems, lines), the share of the seeds that were right.
        flops: (problems, lines), of policy and verifier together, mean over the seeds.
    """

    right: pd.DataFrame
    flops: pd.DataFrame

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Self:
        """From results; problems that a line was not run on are missing there."""
        frame = rows.assign(right=(rows["correct"] == 1).astype(float))
        grid = frame.groupby(["id", "strategy", "budget"])[["right", "flops"]].mean().unstack(["strategy", "budget"])
        return cls(grid["right"], grid["flops"])

    def lines(self, strategies: Iterable[str], samples: float = np.inf, flops: float = np.inf) -> list[Line]:
        """Lines of some strategies with a budget of so many samples at most, and so many FLOPs on the mean.

        A budget that does not count samples allows any number of them.
        """
        wanted, costs = set(strategies), self.flops.mean()
        drawn = {budget: parse_budget(budget).samples or np.inf for _, budget in self.right.columns}
        return [
            (strategy, budget)
            for strategy, budget in self.right.columns
            if strategy in wanted and drawn[budget] <= samples and costs[strategy, budget] <= flops
        ]

    def best(self, lines: Sequence[Line]) -> Line:
        """The most accurate of some lines, the cheapest of equals."""
        return max(lines, key=lambda line: (self.right[line].mean(), -self.flops[line].mean()))

    def envelope(self, lines: Sequence[Line], bins: pd.Series) -> tuple[pd.Series, pd.Series]:
        """What is right, and the FLOPs, by problem, when the difficulty is known and decides on the line.

        For every bin the best line is chosen on one half of its problems and judged on the other, and the reverse
        (Snell et al. 2024, section 3.2).

        Args:
            lines: that there are to choose from.
            bins: of the problems, by their id.
        """
        right, flops = [], []
        for members in bins.groupby(bins).groups.values():
            ids = self.right.index[self.right.index.isin(members)]
            for learn, judge in ((ids[::2], ids[1::2]), (ids[1::2], ids[::2])):
                line = Curves(self.right.loc[learn], self.flops.loc[learn]).best(lines) if len(learn) else lines[0]
                right.append(self.right.loc[judge, line])
                flops.append(self.flops.loc[judge, line])
        return pd.concat(right), pd.concat(flops)

    def expected(self, lines: Sequence[Line], known: Curves, penalty: float = 10.0, folds: int = 10) -> Curves:
        """What other runs of the same problems let expect of these: what a fair oracle chooses by.

        A few runs of a problem say little about one line, and the largest of several such figures is mostly luck. So
        the chance of each line is predicted from what all lines reached in the known runs, by a ridge regression over
        the problems. The prediction for a problem is fitted to other problems, and does not see its runs here.

        Args:
            lines: that there are to choose from.
            known: the other runs; the FLOPs are theirs.
            penalty: of the regression; what is expected varies little with it from 3 to 30.
            folds: of the problems.
        """
        columns = list(lines)
        told = known.right.loc[self.right.index, columns].to_numpy(float)
        right, fold = self.right[columns].to_numpy(float), np.arange(len(told)) % folds
        found = np.empty_like(right)
        for each in range(folds):
            learn, judge = fold != each, fold == each
            centre, mean = told[learn].mean(0), right[learn].mean(0)
            spread = told[learn] - centre
            inner = spread.T @ spread + penalty * np.eye(len(columns))
            found[judge] = mean + (told[judge] - centre) @ np.linalg.solve(inner, spread.T @ (right[learn] - mean))
        frame = pd.DataFrame(found, self.right.index, self.right[columns].columns)
        return Curves(frame, known.flops)

    def oracle(
        self, lines: Sequence[Line], budget: float, chosen_by: Curves | None = None, rounds: int = 60
    ) -> tuple[pd.Series, pd.Series]:
        """What is right, and the FLOPs, by problem, of the Lagrangian oracle, which knows the problems one by one.

        It takes for every problem the line with the largest right - price * FLOPs. The price is the least one, found by
        bisection, at which the mean FLOPs are within the budget (arXiv 2604.14853: the oracle that a fitted choice is
        to imitate).

        Where it chooses by the runs that it is judged on, it is an upper bound on any choice per problem, and a loose
        one: it knows how each run ends, so chance counts as skill. Choosing by what other runs of the same problems let
        expect (`expected`), it gains nothing by chance, and as chances are estimated, it is somewhat below an oracle
        that knows them exactly.

        Args:
            lines: that there are to choose from, all of them run on every problem.
            budget: FLOPs, mean over the problems, by the runs that it chooses by.
            chosen_by: what it knows of the same problems; None for how these runs end.
            rounds: of the bisection.

        Raises:
            ValueError: the cheapest choice for every problem costs more.
        """
        known, columns = chosen_by or self, list(lines)
        right = known.right.loc[self.right.index, columns].to_numpy(float)
        flops = known.flops.loc[self.right.index, columns].to_numpy(float)

        def choice(price: float) -> NDArray[np.intp]:
            worth = right - price * flops
            best = worth.max(1, keepdims=True)
            cheapest: NDArray[np.intp] = np.where(worth >= best - 1e-12, flops, np.inf).argmin(1)
            return cheapest

        def cost(price: float) -> float:
            return float(np.take_along_axis(flops, choice(price)[:, None], 1).mean())

        low, high = 0.0, 1.0 / max(float(flops[flops > 0].min(initial=1.0)), 1e-300)
        while cost(high) > budget and high < 1e30:
            high *= 4
        if cost(high) > budget:
            raise ValueError(f"a budget of {budget:g} FLOPs is less than the cheapest lines cost")
        for _ in range(rounds):
            middle = (low + high) / 2
            low, high = (low, middle) if cost(middle) <= budget else (middle, high)
        chosen = choice(0.0 if cost(0.0) <= budget else high)[:, None]
        judged = (each[columns].to_numpy(float) for each in (self.right, self.flops))
        found = [pd.Series(np.take_along_axis(each, chosen, 1)[:, 0], index=self.right.index) for each in judged]
        return found[0], found[1]


def gap_closed(fixed: pd.Series, planned: pd.Series, oracle: pd.Series) -> tuple[float, float, float]:
    """The share of the gap between the best fixed line and the oracle that a planner closes, and its 95 % interval.

    The interval is a bootstrap over the problems. It is NaN where the gap itself may be none, and the share is NaN
    where there is none.

    Args:
        fixed: what the best fixed line has right, by problem.
        planned: the same of the planner.
        oracle: the same of the oracle.
    """
    if difference(fixed, oracle)[1] > 0:
        return ratio(planned - fixed, oracle - fixed)
    gap = oracle.mean() - fixed.mean()
    return float((planned.mean() - fixed.mean()) / gap) if gap > 0 else math.nan, math.nan, math.nan


def difference(first: pd.Series, second: pd.Series) -> tuple[float, float, float]:
    """Mean of the second less that of the first over the problems of both, with its paired 95 % interval."""
    return paired_difference(first.dropna().to_dict(), second.dropna().to_dict())


def ratio(first: pd.Series, second: pd.Series, resamples: int = 1000) -> tuple[float, float, float]:
    """Sum of the first over that of the second, over the problems of both; its 95 % interval by bootstrap over them."""
    both = pd.concat([first, second], axis=1, join="inner").dropna().to_numpy(dtype=float)
    drawn = np.random.default_rng(0).multinomial(len(both), np.full(len(both), 1 / len(both)), size=resamples)
    totals = np.vstack([both.sum(0), drawn @ both])
    values = totals[:, 0] / totals[:, 1]
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return float(values[0]), float(low), float(high)


def matched(trained: tuple[float, float], query: tuple[float, float], tokens: float, r: float) -> float:
    """FLOPs that a small model may spend on a query if its total, training counted, is that of a large one.

    What was saved in training is shared out among the queries (Snell et al. 2024, section 7).

    Args:
        trained: FLOPs of training, 6 N D, of the small model (with its verifier, if any) and of the large one.
        query: tokens and FLOPs that the large one takes for a query.
        tokens: that `r` refers to, those that the large one was trained on.
        r: tokens of all queries over those of training, D_inference / D_pretrain.
    """
    return query[1] + (trained[1] - trained[0]) * query[0] / (r * tokens)
