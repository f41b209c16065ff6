"""Fit difficulty, confidence and the table of strategies (Snell et al. 2024, section 3.2)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.planning.fit_settings import MARGIN, PROBES, REPEATS
from agent.planning.plan_file import (
    EASY,
    HARD,
    Action,
    Calibration,
    Choice,
    Difficulty,
    ProbeSummary,
    summarize,
)
from agent.planning.recorded_runs import VOTE, Arm, Recorded, Replay, Sample
from agent.planning.regression import Float, fit_logistic, rounded
from agent.search.shared_budget import Currency
from verifiers.voting import Candidate, aggregate, tally

# ------------------------------------------------------------------------------------------- difficulty, confidence


def probe_of(samples: Sequence[Sample]) -> tuple[ProbeSummary, int | None]:
    """The probe that samples (answer and score) make, and its leading answer."""
    drawn = [Candidate(str(answer), (score,)) for answer, score in filter(None, samples)]
    groups = tally(drawn, VOTE, str.__eq__)
    probe = summarize(groups, [(aggregate(each.scores, VOTE.aggregate), 1) for each in drawn], len(samples))
    return probe, int(groups[0].answer) if groups else None


def _probes(runs: Sequence[Recorded], size: int) -> Iterator[tuple[Recorded, ProbeSummary, bool]]:
    """Up to four probes of a size for each problem, and whether their leading answer is right."""
    for run in runs:
        for start in range(0, min(len(run.samples), 4 * size), size):
            probe, leader = probe_of(run.samples[start : start + size])
            yield run, probe, leader in run.right


def fit_difficulty(runs: Sequence[Recorded]) -> tuple[dict[int, tuple[float, ...]], dict[str, float]]:
    """Coefficients of pass@1 over `ProbeSummary.features` by size of the probe, and the mean absolute error of each."""
    coefficients: dict[int, tuple[float, ...]] = {}
    errors: dict[str, float] = {}
    for size in PROBES:
        probes = list(_probes(runs, size))
        features = np.array([probe.features() for _, probe, _ in probes])
        labels = np.array([run.pass_at_1 for run, _, _ in probes])
        fitted = fit_logistic(features, labels)
        errors[str(size)] = round(float(np.abs(1 / (1 + np.exp(-features @ fitted)) - labels).mean()), 4)
        coefficients[size] = rounded(fitted)
    return coefficients, errors


def fit_confidence(runs: Sequence[Recorded]) -> tuple[float, ...]:
    """Coefficients of "the leading answer is right" over `ProbeSummary.confidence_features`."""
    probes = [each for size in PROBES for each in _probes(runs, size)]
    features = np.array([probe.confidence_features() for _, probe, _ in probes])
    return rounded(fit_logistic(features, np.array([float(right) for _, _, right in probes])))


# ---------------------------------------------------------------------------------------------------------- the table


@dataclass(frozen=True)
class Trial:
    """Every choice of strategy tried at one budget after a probe, on every problem, `REPEATS` times.

    Args:
        budget: in samples, the probe included.
        choices: the strategies.
        accuracy: (choices, replays), those of a problem side by side; 1 is right.
        costs: (choices, replays), the probe's included, in the currency of the plan.
        predicted: (replays,) pass@1 as the probe estimates it.
        oracle: (replays,) pass@1 over all samples of the problem.
    """

    budget: int
    choices: Sequence[Choice]
    accuracy: Float
    costs: Float
    predicted: Float
    oracle: Float

    def rows(self, difficulty: Difficulty) -> NDArray[np.bool_]:
        """(replays,): which look so difficult (absolute bins of predicted pass@1)."""
        return np.asarray(absolute_bins(self.predicted) == list(BINS).index(difficulty))

    def best(self, rows: NDArray[np.bool_]) -> int:
        """The cheapest of the choices that are as accurate as any on some replays, to within the margin."""
        rates, costs = self.accuracy[:, rows].mean(1), self.costs[:, rows].mean(1)
        return int(np.argmin(np.where(rates >= rates.max() - MARGIN, costs, np.inf)))

    def describe(self, rows: NDArray[np.bool_]) -> dict[str, Any]:
        """Accuracy of each choice on some replays."""
        rates = self.accuracy[:, rows].mean(1).round(4).tolist()
        return {"replays": int(rows.sum())} | dict(zip(map(_label, self.choices), rates, strict=True))

    def planned(self, bins: NDArray[np.int64], folds: Sequence[tuple[NDArray[np.bool_], NDArray[np.bool_]]]) -> float:
        """Accuracy when each bin gets what is best for it on one set of problems, on another; mean over the folds."""
        right = []
        for learn, judge in folds:
            for each in np.unique(bins[judge]):
                rows = learn & (bins == each)
                chosen = self.best(rows) if rows.any() else 0
                right.append(self.accuracy[chosen, judge & (bins == each)])
        return round(float(np.concatenate(right).mean()), 4)

    def cross_validated(self, currency: Currency) -> dict[str, Any]:
        """Accuracy of planning by each kind of difficulty, cross-validated, and in the fold that chose."""
        even = np.arange(len(self.oracle)) // REPEATS % 2 == 0  # every other problem
        kinds = {
            "predicted, absolute": absolute_bins(self.predicted),
            "predicted, quantiles": quantile_bins(self.predicted),
            "oracle, absolute": absolute_bins(self.oracle),
            "oracle, quantiles": quantile_bins(self.oracle),
        }
        report: dict[str, Any] = {
            kind: {
                "cross_validated": self.planned(bins, [(even, ~even), (~even, even)]),
                "in_fold": self.planned(bins, [(even, even), (~even, ~even)]),
            }
            for kind, bins in kinds.items()
        }
        means = zip(map(_label, self.choices), self.accuracy.mean(1), self.costs.mean(1), strict=True)
        unit = "mflops" if currency == "flops" else "mflop_equivalents"
        report["always"] = {name: {"accuracy": round(float(a), 4), unit: round(c / 1e6)} for name, a, c in means}
        return report


BINS: Mapping[Difficulty, float] = {"easy": EASY, "medium": HARD, "hard": -1.0}
"""The least pass@1 of each."""


def absolute_bins(pass_at_1: Float) -> NDArray[np.int64]:
    """Difficulties by fixed thresholds (Liu et al. 2025), as an index of `BINS`."""
    return np.asarray((pass_at_1 < EASY).astype(np.int64) + (pass_at_1 < HARD))


def quantile_bins(pass_at_1: Float, bins: int = 5) -> NDArray[np.int64]:
    """Difficulties in as many bins of equal size (Snell et al. 2024), the easiest 0."""
    order = np.argsort(np.argsort(-pass_at_1, kind="stable"), kind="stable")
    return np.asarray(order * bins // len(pass_at_1))


def probe_size(budget: int) -> int:
    """Samples that `agent.planning.planner.Planner` probes with by default."""
    return min(budget, 8, max(1, round(budget / 4)))


def try_choices(
    runs: Sequence[Recorded], arms: Sequence[Arm], choices: Sequence[Choice], budget: int, fitted: Calibration
) -> Trial:
    """Replay every choice that the arms allow at a budget, after the probe that the planner takes."""
    size = probe_size(budget)

    def begin(run: Recorded, repeat: int) -> Replay:
        return Replay(run, arms, random.Random(f"{run.problem}/{repeat}")).make(Action("best-of-n", size))

    rest = budget - size
    tried = [(each, Action(each.strategy, rest, each.knobs)) for each in choices]
    able = [(each, action) for each, action in tried if begin(runs[0], 0).can(action)]
    allowed = [each for each, _ in able]
    accuracy, costs = np.zeros((2, len(allowed), len(runs) * REPEATS))
    predicted, oracle = np.zeros((2, len(runs) * REPEATS))
    for row, (run, repeat) in enumerate((run, repeat) for run in runs for repeat in range(REPEATS)):
        start = begin(run, repeat)
        probe, _ = probe_of(start.samples())
        predicted[row], oracle[row] = fitted.estimate(probe), run.pass_at_1
        for index, (_, action) in enumerate(able):
            after = start.copy().make(action)
            accuracy[index, row], costs[index, row] = after.look()[1], after.cost
    return Trial(budget, allowed, accuracy, costs, predicted, oracle)


def _label(choice: Choice) -> str:
    return " ".join([choice.strategy, *(f"{key}={value}" for key, value in choice.knobs.items())])
