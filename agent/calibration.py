"""Fit what the planner needs for one (policy, verifier, environment): ``stepwell calibrate``.

All of it on the calibration split, and of one sweep (`agent.sweep`): independent samples of each problem, which give
its pass@1, and runs of each other way to spend. Everything after the sweep is arithmetic on what was recorded:

* difficulty: logistic regression of pass@1 on what a few samples show, by their number;
* the table: for each difficulty and budget the best strategy for what a probe leaves (Snell et al. 2024, section 3.2,
  equation 1, with absolute difficulty after Liu et al. 2025, section 3.2);
* online planning: logistic regressions of "the leading answer is right", now and after each move, on the state of the
  search; then, for each budget, the opening and the price that do best when whole searches are replayed.

Choices are made on one half of the problems and judged on the other, and the reverse (two-fold cross-validation); the
plan keeps both that accuracy and the one on the problems that chose.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.engine import Engine
from agent.evidence import Evidence
from agent.lines import ResultsFile
from agent.online import LEAST
from agent.plans import EASY, HARD, Calibration, Choice, Difficulty, Move, Online, Opening, Probe, summarize
from agent.search import Way, best_way
from agent.sweep import VOTE, Arm, Recorded, Replay, Sample, drawn_distinct, read_runs, sweep
from envs.core import Environment, Problem
from policies.core import Policy
from verifiers.core import Verifier
from verifiers.voting import Candidate, aggregate, tally

PROBES = (1, 2, 4, 8)
BUDGETS = (1, 4, 16, 64)
_DECODED: Mapping[str, Any] = {"temperature": 0.0}  # greedily, and scored
ARMS = (
    Arm("best-of-n", 64),
    Arm("best-of-n", 1, 1, _DECODED),
    Arm("dvts", 4, 16, {"branch": 4}, parts=True),
    Arm("dvts", 2, 16, {"branch": 2}, parts=True),
    Arm("beam", 12, 1, {"branch": 4}),
    Arm("beam", 12, 1, {"branch": 2}),
    Arm("dvts", 16, 1, {"branch": 4}),  # these two tell what subtrees share
    Arm("dvts", 16, 1, {"branch": 2}),
)
MOVES = (
    Move("greedy", 1),
    Move("best-of-n", 1, _DECODED),
    *(Move("majority", n) for n in (1, 2, 4, 8, 16)),
    *(Move("best-of-n", n) for n in (2, 4, 8, 16)),
    *(Move("dvts", n, {"branch": 4}) for n in (4, 8, 16)),
    *(Move("dvts", n, {"branch": 2}) for n in (2, 4, 8)),
    *(Move("beam", 12, {"branch": branch}) for branch in (4, 2)),
)
# for tasks on which it pays to keep half of the prefixes
BEAMS = tuple(Arm("beam", n, repeats, {"branch": 2}) for n, repeats in ((4, 2), (8, 2), (16, 3), (32, 1), (48, 1)))
# for policies that can revise: one long chain, or four of two attempts
REVISING = tuple(Arm("revision", 8, 1, {"ratio": ratio}) for ratio in (8.0, 0.5))
PRICES = (0.0, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016)  # in probability per scored sample
_MARGIN = 0.01  # of accuracy, that a cheaper strategy of the table may lose
_DOUBLING = 0.01  # of accuracy, that twice the FLOPs must gain
_SHORT = 0.005  # of accuracy, the most that an opening may lose to the best of its budget
_MIDDLING = 0.001, 4  # of the prices and of the strides
_STRIDES = (1, 2, 4, 8, 16)
_FINALISTS = 4  # openings that are tried at every price and stride, and as many of the most accurate
_WALKS = 6  # searches per problem that the fits learn from, random and steered ones each
_ROUNDS = 8  # most rounds of those that a fit steers
_REPEATS = 3  # replays per problem that a choice is judged by

Float = NDArray[np.float64]


def drawing_distinct(temperature: float) -> Arm:
    """What draws without replacement: for tasks whose answers prove themselves."""
    return Arm("best-of-n", 64, 2, {"distinct": True, "temperature": temperature})


def fit_logistic(features: Float, labels: Float, ridge: float = 1e-2, rounds: int = 50) -> Float:
    """Coefficients (k,) of a logistic regression of labels (n,) in [0, 1] on features (n, k), by Newton's method."""
    coefficients = np.zeros(features.shape[1])
    for _ in range(rounds):
        p = 1 / (1 + np.exp(-np.clip(features @ coefficients, -30, 30)))
        gradient = features.T @ (p - labels) + ridge * coefficients
        hessian = (features * (p * (1 - p))[:, None]).T @ features + ridge * np.eye(features.shape[1])
        change = np.linalg.solve(hessian, gradient)
        coefficients = coefficients - change
        if np.abs(change).max() < 1e-8:
            break
    return coefficients


def calibrate(
    environment: Environment,
    policy: Policy,
    verifier: Verifier,
    problems: Sequence[Problem],
    results: ResultsFile,
    arms: Sequence[Arm] = ARMS,
    moves: Sequence[Move] = MOVES,
    budgets: Sequence[int] = BUDGETS,
    seed: int = 0,
    report: Callable[[str], None] = lambda line: None,
    temperature: float = 1.0,
) -> Calibration:
    """Fit a calibration; problems must have gold answers and come from the calibration split.

    Args:
        environment: of the problems; with the next two, what the calibration belongs to.
        policy: draws the samples.
        verifier: scores them.
        problems: of the calibration split, two or more.
        results: where the runs of the sweep are kept; what is there is not run again.
        arms: what is run, Best-of-N first: its samples give pass@1. With one of `drawing_distinct` among them, the
            online planner draws as that does.
        moves: what the online planner may do; made of the arms.
        budgets: in samples; each gets its own choice of strategy, opening and price.
        seed: of the searches.
        report: called with a line of progress now and then.
        temperature: of the samples; the plan is for this one.
    """
    sweep(Engine(environment, policy, verifier), arms, problems, results, seed, report, temperature)
    runs = read_runs(results.rows, arms, problems, environment)
    pass_at_1, errors = fit_difficulty(runs)
    confidence = fit_confidence(runs)
    fitted = Calibration(policy.name, verifier.name, environment.name, pass_at_1, confidence, temperature=temperature)
    choices = [Choice(arm.strategy, arm.knobs) for arm in arms if not arm.knobs.get("distinct")]
    choices = [choice for i, choice in enumerate(choices) if choice not in choices[:i]]
    trials = {budget: try_choices(runs, arms, choices, budget, fitted) for budget in budgets}
    table: dict[Difficulty, dict[int, Choice]] = {"easy": {}, "medium": {}, "hard": {}}
    accuracies: dict[str, Any] = {}
    for budget, trial in trials.items():
        for difficulty in table:
            if (rows := trial.rows(difficulty)).any():
                table[difficulty][budget] = trial.choices[trial.best(rows)]
                accuracies[f"{difficulty} at {budget}"] = trial.describe(rows)
        report(f"the table at {budget}: {trial.cross_validated()}")
    distinct = next((arm for arm in arms if arm.knobs.get("distinct")), None)
    online, replays = fit_online(drawn_distinct(runs, distinct) if distinct else runs, arms, moves, budgets, report)
    about: dict[str, Any] = {
        "problems": len(problems),
        "samples": arms[0].n,
        "seed": seed,
        "mean_absolute_error_of_pass_at_1": errors,
        "table": {str(budget): trial.cross_validated() for budget, trial in trials.items()},
        "online": replays,
        "accuracies": accuracies,
    }
    online = replace(online, distinct=distinct.knobs["temperature"] if distinct else None)
    return replace(fitted, table=table, fitted=about, online=online)


# ------------------------------------------------------------------------------------------- difficulty, confidence


def probe_of(samples: Sequence[Sample]) -> tuple[Probe, int | None]:
    """The probe that samples (answer and score) make, and its leading answer."""
    drawn = [Candidate(str(answer), (score,)) for answer, score in filter(None, samples)]
    groups = tally(drawn, VOTE, str.__eq__)
    probe = summarize(groups, [(aggregate(each.scores, VOTE.aggregate), 1) for each in drawn], len(samples))
    return probe, int(groups[0].answer) if groups else None


def _probes(runs: Sequence[Recorded], size: int) -> Iterator[tuple[Recorded, Probe, bool]]:
    """Up to four probes of a size for each problem, and whether their leading answer is right."""
    for run in runs:
        for start in range(0, min(len(run.samples), 4 * size), size):
            probe, leader = probe_of(run.samples[start : start + size])
            yield run, probe, leader in run.right


def fit_difficulty(runs: Sequence[Recorded]) -> tuple[dict[int, tuple[float, ...]], dict[str, float]]:
    """Coefficients of pass@1 over `Probe.features` by the size of the probe, and the mean absolute error of each."""
    coefficients: dict[int, tuple[float, ...]] = {}
    errors: dict[str, float] = {}
    for size in PROBES:
        probes = list(_probes(runs, size))
        features = np.array([probe.features() for _, probe, _ in probes])
        labels = np.array([run.pass_at_1 for run, _, _ in probes])
        fitted = fit_logistic(features, labels)
        errors[str(size)] = round(float(np.abs(1 / (1 + np.exp(-features @ fitted)) - labels).mean()), 4)
        coefficients[size] = _rounded(fitted)
    return coefficients, errors


def fit_confidence(runs: Sequence[Recorded]) -> tuple[float, ...]:
    """Coefficients of "the leading answer is right" over `Probe.confidence_features`."""
    probes = [each for size in PROBES for each in _probes(runs, size)]
    features = np.array([probe.confidence_features() for _, probe, _ in probes])
    return _rounded(fit_logistic(features, np.array([float(right) for _, _, right in probes])))


def _rounded(coefficients: Float) -> tuple[float, ...]:
    return tuple(coefficients.round(4).tolist())


# ---------------------------------------------------------------------------------------------------------- the table


@dataclass(frozen=True)
class Trial:
    """Every choice of strategy tried at one budget after a probe, on every problem, `_REPEATS` times.

    Args:
        budget: in samples, the probe included.
        choices: the strategies.
        accuracy: (choices, replays), those of a problem side by side; 1 is right.
        flops: (choices, replays), the probe's included.
        predicted: (replays,) pass@1 as the probe estimates it.
        oracle: (replays,) pass@1 over all samples of the problem.
    """

    budget: int
    choices: Sequence[Choice]
    accuracy: Float
    flops: Float
    predicted: Float
    oracle: Float

    def rows(self, difficulty: Difficulty) -> NDArray[np.bool_]:
        """(replays,): which look so difficult (absolute bins of predicted pass@1)."""
        return np.asarray(absolute_bins(self.predicted) == list(BINS).index(difficulty))

    def best(self, rows: NDArray[np.bool_]) -> int:
        """The cheapest of the choices that are as accurate as any on some replays, to within the margin."""
        rates, costs = self.accuracy[:, rows].mean(1), self.flops[:, rows].mean(1)
        return int(np.argmin(np.where(rates >= rates.max() - _MARGIN, costs, np.inf)))

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

    def cross_validated(self) -> dict[str, Any]:
        """Accuracy of planning by each kind of difficulty, cross-validated, and in the fold that chose."""
        even = np.arange(len(self.oracle)) // _REPEATS % 2 == 0  # every other problem
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
        means = zip(map(_label, self.choices), self.accuracy.mean(1), self.flops.mean(1), strict=True)
        report["always"] = {name: {"accuracy": round(float(a), 4), "mflops": round(f / 1e6)} for name, a, f in means}
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
    """Samples that `agent.planner.Planner` probes with by default."""
    return min(budget, 8, max(1, round(budget / 4)))


def try_choices(
    runs: Sequence[Recorded], arms: Sequence[Arm], choices: Sequence[Choice], budget: int, fitted: Calibration
) -> Trial:
    """Replay every choice that the arms allow at a budget, after the probe that the planner takes."""
    size = probe_size(budget)

    def begin(run: Recorded, repeat: int) -> Replay:
        return Replay(run, arms, random.Random(f"{run.problem}/{repeat}")).make("best-of-n", size, {})

    rest = budget - size
    allowed = [each for each in choices if begin(runs[0], 0).can(each.strategy, rest, each.knobs)]
    accuracy, flops = np.zeros((2, len(allowed), len(runs) * _REPEATS))
    predicted, oracle = np.zeros((2, len(runs) * _REPEATS))
    for row, (run, repeat) in enumerate((run, repeat) for run in runs for repeat in range(_REPEATS)):
        start = begin(run, repeat)
        probe, _ = probe_of(start.samples())
        predicted[row], oracle[row] = fitted.estimate(probe), run.pass_at_1
        for index, choice in enumerate(allowed):
            after = start.copy().make(choice.strategy, rest, choice.knobs)
            accuracy[index, row], flops[index, row] = after.look()[1], after.flops
    return Trial(budget, allowed, accuracy, flops, predicted, oracle)


def _label(choice: Choice) -> str:
    return " ".join([choice.strategy, *(f"{key}={value}" for key, value in choice.knobs.items())])


# ---------------------------------------------------------------------------------------------------- online planning


def fit_online(
    runs: Sequence[Recorded],
    arms: Sequence[Arm],
    moves: Sequence[Move],
    budgets: Sequence[int],
    report: Callable[[str], None] = lambda line: None,
) -> tuple[Online, dict[str, Any]]:
    """What the online planner needs, and by budget the accuracy and cost of the replays that chose it.

    Every first move at a budget is tried at a middling price and stride, the best of them at all; `chosen` is the
    opening. All are cross-validated.
    """
    halves = runs[::2], runs[1::2]
    moves = [_first(move, runs, arms) for move in moves]
    fits = [fit_values(half, arms, moves) for half in halves]

    def across(opening: Opening, budget: int) -> tuple[float, float, float]:
        ends = [play(half, arms, fit, budget, opening) for half, fit in zip(halves, fits[::-1], strict=True)]
        accuracy, flops, spent = np.concatenate(ends).mean(0).tolist()
        return accuracy, flops, spent

    openings: dict[int, Opening] = {}
    replays: dict[str, Any] = {}
    for budget in budgets:
        strides = [stride for stride in strides_of(moves) if stride <= budget] or [budget]
        price, stride = _MIDDLING
        begun = [Opening(index, price, min(stride, strides[-1])) for index in range(len(moves))]
        first = {way: across(way, budget) for way in begun if moves[way.move].n <= budget}
        best = sorted(first, key=lambda way: -_worth(first[way]))[:_FINALISTS]
        best += sorted(first, key=lambda way: -first[way][0])[:_FINALISTS]
        finalists = dict.fromkeys(best)  # each once
        ways = [Opening(way.move, price, stride) for way in finalists for stride in strides for price in PRICES]
        tried = {way: across(way, budget) for way in ways}
        openings[budget] = opening = chosen(tried)
        within = [play(half, arms, fit, budget, opening) for half, fit in zip(halves, fits, strict=True)]
        accuracy, flops, spent = tried[opening]
        replays[str(budget)] = {
            "cross_validated": round(accuracy, 4),
            "in_fold": round(float(np.concatenate(within).mean(0)[0]), 4),
            "mflops": round(flops / 1e6),
            "samples": round(spent, 2),
            "by_price": {
                str(way.price): {"cross_validated": round(accuracy, 4), "mflops": round(flops / 1e6)}
                for way, (accuracy, flops, _) in tried.items()
                if (way.move, way.stride) == (opening.move, opening.stride)
            },
        }
        report(f"online at {budget}, begun with {moves[opening.move].label}, {opening}: {replays[str(budget)]}")
    return replace(fit_values(runs, arms, moves), openings=openings), replays


def chosen(tried: Mapping[Opening, tuple[float, float, float]]) -> Opening:
    """Of those at most `_SHORT` behind the most accurate, the best where twice the FLOPs must gain `_DOUBLING`."""
    most = max(accuracy for accuracy, _, _ in tried.values())
    near = [way for way, (accuracy, _, _) in tried.items() if accuracy >= most - _SHORT]
    return max(near, key=lambda way: _worth(tried[way]))


def _worth(end: tuple[float, float, float]) -> float:
    """The accuracy of replays less what their FLOPs had to gain."""
    accuracy, flops, _ = end
    return accuracy - _DOUBLING * math.log2(flops)


def _first(move: Move, runs: Sequence[Recorded], arms: Sequence[Arm]) -> Move:
    """With what it costs and how often it is right, on the mean, as the first move on each problem."""
    ends = [
        Replay(run, arms, random.Random(f"{run.problem}/{repeat}")).make(move.strategy, move.n, move.knobs)
        for run in runs
        for repeat in range(_REPEATS)
    ]
    flops = sum(end.flops for end in ends) / len(ends)
    right = sum(end.look()[1] for end in ends) / len(ends)
    same = [arm for arm in arms[1:] if (arm.strategy, arm.knobs) == (move.strategy, move.knobs)]
    parts = [arm for arm in same if arm.parts]
    power = runs[0].sharing[parts[0].name] if parts else 1.0
    if move.strategy in ("majority", "best-of-n") and not move.first_only:
        power = runs[0].overlap
    repeats = 0 if parts else sum(arm.repeats for arm in same if arm.n == move.n)
    return replace(move, flops=float(f"{flops:.4g}"), sharing=round(power, 3), alone=round(right, 4), repeats=repeats)


def strides_of(moves: Sequence[Move]) -> tuple[int, ...]:
    """What a later move may take at the most: `_STRIDES`, and the largest move if that is more."""
    largest = max(move.n for move in moves)
    return (*_STRIDES, largest) if largest > _STRIDES[-1] else _STRIDES


class States:
    """States of replayed searches, whether their leading answer is right, and whether it is after each move.

    Args:
        arms: of the sweep.
        moves: the ways to go on.
    """

    def __init__(self, arms: Sequence[Arm], moves: Sequence[Move]) -> None:
        self.arms = arms
        self.moves = moves
        self._strides = strides_of(moves)
        self._features: list[tuple[float, ...]] = []
        self._now: list[bool] = []
        self._after: list[tuple[list[int], list[bool]]] = [([], []) for _ in moves]  # rows and labels

    def walk(self, runs: Sequence[Recorded], fit: Online | None = None) -> None:
        """Add the states that searches pass through: random ones, or those that a fit chooses at random prices."""
        for run in runs:
            for walk in range(_WALKS):
                rng = random.Random(f"{run.problem}/{walk}/{fit is None}")
                replay = Replay(run, self.arms, rng)
                price, stride = rng.choice(PRICES), rng.choice(self._strides)
                rounds = rng.randint(1, 4) if fit is None else _ROUNDS
                move: Move | None = rng.choice(self._able(replay))
                while move is not None and rounds:
                    replay.make(move.strategy, move.n, move.knobs)
                    self._add(replay)
                    rounds -= 1
                    if fit is None:
                        able = self._able(replay)
                        move = rng.choice(able) if able else None
                    else:
                        move = choose(fit, replay, replay.look()[0], stride, price)

    def _able(self, replay: Replay) -> list[Move]:
        return [move for move in self.moves if replay.can(move.strategy, move.n, move.knobs)]

    def _add(self, replay: Replay) -> None:
        evidence, right = replay.look()
        for move, (rows, labels) in zip(self.moves, self._after, strict=True):
            if replay.can(move.strategy, move.n, move.knobs):
                rows.append(len(self._features))
                labels.append(replay.copy().make(move.strategy, move.n, move.knobs).look()[1])
        self._features.append(evidence.features)
        self._now.append(right)

    def fit(self, sample_flops: float, score_flops: float) -> Online:
        """Logistic regressions of what is right on the states; no openings."""
        features = np.array(self._features)
        moves = [
            replace(
                move, right=_rounded(fit_logistic(features[rows], np.array(labels, float), ridge=1.0)) if rows else ()
            )
            for move, (rows, labels) in zip(self.moves, self._after, strict=True)
        ]
        now = _rounded(fit_logistic(features, np.array(self._now, float), ridge=1.0))
        return Online(tuple(moves), now, sample_flops, score_flops, {})


def fit_values(runs: Sequence[Recorded], arms: Sequence[Arm], moves: Sequence[Move]) -> Online:
    """Fit "the leading answer is right", now and after each move.

    First to states of random searches, then to those too that a search steered by the first fit comes to: where it goes
    because it expects much, it learns what is to be had there (Ross et al. 2011, arXiv 1011.0686).
    """
    sample = sum(run.sample_flops for run in runs) / len(runs)
    scores = sum(run.score_flops for run in runs) / len(runs)
    costs = float(f"{sample + scores:.4g}"), float(f"{scores:.4g}")
    states = States(arms, moves)
    states.walk(runs)
    states.walk(runs, states.fit(*costs))
    return states.fit(*costs)


def choose(fit: Online, replay: Replay, evidence: Evidence, most: int, price: float) -> Move | None:
    """What the online planner would do next in a replayed search, as far as it was recorded; see `OnlineSearch`.

    Args:
        fit: its values.
        replay: the search.
        evidence: its state.
        most: sample-equivalents of a move.
        price: in probability per scored sample.
    """
    now = fit.probability(evidence)
    moves = [move for move in fit.moves if move.n <= most and replay.can(move.strategy, move.n, move.knobs)]
    ways = [
        Way(
            fit.probability(evidence, move) - now,
            move.n,
            move.flops_after(replay.before(move.strategy, move.knobs))
            + (replay.unscored * fit.score_flops if move.strategy == "best-of-n" else 0.0),
        )
        for move in moves
    ]
    able = [(move, way) for move, way in zip(moves, ways, strict=True) if way.gain > LEAST]
    chosen = best_way([way for _, way in able], price / fit.sample_flops)
    return None if chosen is None else able[chosen][0]


def play(runs: Sequence[Recorded], arms: Sequence[Arm], fit: Online, budget: int, opening: Opening) -> Float:
    """Replay whole searches of the online planner: (replays, 3), whether right, FLOPs and samples of each."""
    ends = []
    for run in runs:
        for repeat in range(_REPEATS):
            replay = Replay(run, arms, random.Random(f"{run.problem}/{repeat}"))
            move: Move | None = fit.moves[opening.move]
            while move is not None:
                replay.make(move.strategy, move.n, move.knobs)
                evidence, right = replay.look()
                move = choose(fit, replay, evidence, min(budget - replay.spent, opening.stride), opening.price)
            ends.append((float(right), replay.flops, float(replay.spent)))
    return np.array(ends)
