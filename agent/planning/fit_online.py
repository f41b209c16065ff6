"""Fit online planning: the value of each state of a search, and for each budget the first move and the price."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.planning.decision import decide
from agent.planning.fit_settings import (
    DOUBLING,
    FINALISTS,
    MIDDLING,
    PRICES,
    REPEATS,
    ROUNDS,
    SHORT,
    STRIDES,
    WALKS,
)
from agent.planning.plan_file import KINDS, Action, Online, Opening, difficulty_of
from agent.planning.prior import TextPrior, crossed
from agent.planning.recorded_runs import Arm, Recorded, Replay
from agent.planning.regression import Float, fit_logistic, logit, rounded
from agent.search.shared_budget import Currency

# ---------------------------------------------------------------------------------------------------- online planning


def fit_online(
    runs: Sequence[Recorded],
    arms: Sequence[Arm],
    moves: Sequence[Action],
    budgets: Sequence[int],
    report: Callable[[str], None] = lambda line: None,
    prior: bool = False,
    currency: Currency = "flops",
) -> tuple[Online, dict[str, Any]]:
    """What the online planner needs, and by budget the accuracy and cost of the replays that chose it.

    Every first move at a budget is tried at a middling price and stride, the best of them at all; `chosen` is the
    opening. All are cross-validated.

    Args:
        runs: that were recorded.
        arms: of the sweep.
        moves: the actions.
        budgets: in samples.
        report: called with a line of progress now and then.
        prior: fit what the text of a problem says, too; the control, one action by that alone, is reported beside.
        currency: what actions are priced in; the runs hold memory traffic where it is charged.
    """
    halves = runs[::2], runs[1::2]
    moves = [_first(move, runs, arms) for move in moves]
    fits = [fit_values(half, arms, moves, prior, currency) for half in halves]
    judged = list(zip(halves, fits[::-1], strict=True))  # each half by what was fitted to the other
    middle = len(halves[0]) * REPEATS
    looks = np.repeat([difficulty_of(fit.look(run.question)) for half, fit in judged for run in half], REPEATS)

    def across(opening: Opening, budget: int) -> Float:
        return np.concatenate([play(half, arms, fit, budget, opening) for half, fit in judged])

    openings: dict[int, Opening] = {}
    replays: dict[str, Any] = {}
    for budget in budgets:
        strides = [stride for stride in strides_of(moves) if stride <= budget] or [budget]
        price, stride = MIDDLING
        begun = [Opening(index, price, min(stride, strides[-1])) for index in range(len(moves))]
        first = {way: _mean(across(way, budget)) for way in begun if moves[way.move].n <= budget}
        best = sorted(first, key=lambda way: -_worth(first[way]))[:FINALISTS]
        best += sorted(first, key=lambda way: -first[way][0])[:FINALISTS]
        finalists = dict.fromkeys(best)  # each once
        ways = [Opening(way.move, price, stride) for way in finalists for stride in strides for price in PRICES]
        ends = {way: across(way, budget) for way in ways}
        tried = {way: _mean(end) for way, end in ends.items()}
        openings[budget] = opening = chosen(tried)
        within = [play(half, arms, fit, budget, opening) for half, fit in zip(halves, fits, strict=True)]
        replays[str(budget)] = {
            "cross_validated": round(tried[opening].accuracy, 4),
            "in_fold": round(_mean(np.concatenate(within)).accuracy, 4),
            **tried[opening].costs(currency),
            "samples": round(tried[opening].samples, 2),
            "by_price": {
                str(way.price): {"cross_validated": round(end.accuracy, 4), **end.costs(currency)}
                for way, end in tried.items()
                if (way.move, way.stride) == (opening.move, opening.stride)
            },
            "opening_of_the_other_half": crosswise(ends, [np.ones(len(runs) * REPEATS, bool)], middle, currency),
        }
        if prior:
            alone = {way: across(replace(way, stride=0), budget) for way in first}
            control = crosswise(alone, [looks == kind for kind in KINDS], middle, currency)
            replays[str(budget)]["one_action_by_the_prior"] = control
        report(f"online at {budget}, begun with {moves[opening.move].label}, {opening}: {replays[str(budget)]}")
    return replace(fit_values(runs, arms, moves, prior, currency), openings=openings), replays


class MeanEnd(NamedTuple):
    """How replayed searches ended, on the mean.

    Args:
        accuracy: share that is right.
        cost: in the currency of the plan.
        samples: that they spent.
        flops: the same as the cost, or the FLOPs in it.
    """

    accuracy: float
    cost: float
    samples: float
    flops: float

    def costs(self, currency: Currency, digits: int | None = None) -> dict[str, float]:
        """As plan files keep them, in millions."""
        found = {"mflops": round(self.flops / 1e6, digits)}
        if currency == "flop-equivalents":
            found["mflop_equivalents"] = round(self.cost / 1e6, digits)
        return found


def crosswise(
    tried: Mapping[Opening, Float], groups: Sequence[NDArray[np.bool_]], middle: int, currency: Currency
) -> dict[str, float]:
    """Accuracy and cost where the opening of each group is chosen on one half of the problems and judged on the other.

    Args:
        tried: by opening, its replays: those of one half of the problems, then those of the other.
        groups: which replays have an opening of their own; together all of them.
        middle: replays of the first half.
        currency: of the costs.
    """
    judged = []
    for learn, judge in ((slice(None, middle), slice(middle, None)), (slice(middle, None), slice(None, middle))):
        for rows in groups:
            known = rows[learn] if rows[learn].any() else np.ones_like(rows[learn])
            way = chosen({way: _mean(end[learn][known]) for way, end in tried.items()})
            judged.append(tried[way][judge][rows[judge]])
    end = _mean(np.concatenate(judged))
    return {"cross_validated": round(end.accuracy, 4), **end.costs(currency, 1), "samples": round(end.samples, 2)}


def _mean(ends: Float) -> MeanEnd:
    """Of the replays that `play` gives."""
    return MeanEnd(*ends.mean(0).tolist())


def chosen(tried: Mapping[Opening, MeanEnd]) -> Opening:
    """Of those at most `SHORT` behind the most accurate, the best where twice the cost must gain `DOUBLING`."""
    most = max(end.accuracy for end in tried.values())
    near = [way for way, end in tried.items() if end.accuracy >= most - SHORT]
    return max(near, key=lambda way: _worth(tried[way]))


def _worth(end: MeanEnd) -> float:
    """The accuracy of replays less what their cost had to gain."""
    return end.accuracy - DOUBLING * math.log2(end.cost)


def _first(move: Action, runs: Sequence[Recorded], arms: Sequence[Arm]) -> Action:
    """With what it costs and how often it is right, on the mean, as the first move on each problem."""
    ends = [
        Replay(run, arms, random.Random(f"{run.problem}/{repeat}")).make(move)
        for run in runs
        for repeat in range(REPEATS)
    ]
    flops, reads = (sum(getattr(end, kind) for end in ends) / len(ends) for kind in ("flops", "reads"))
    right = sum(end.look()[1] for end in ends) / len(ends)
    same = [arm for arm in arms[1:] if (arm.strategy, arm.knobs) == (move.strategy, move.knobs)]
    parts = [arm for arm in same if arm.parts]
    power = runs[0].sharing[parts[0].name] if parts else 1.0
    if move.traits.independent and not move.first_only:
        power = runs[0].overlap
    repeats = 0 if parts else sum(arm.repeats for arm in same if arm.n == move.n)
    flops, reads = float(f"{flops:.4g}"), float(f"{reads:.4g}")
    return replace(move, flops=flops, reads=reads, sharing=round(power, 3), alone=round(right, 4), repeats=repeats)


def strides_of(moves: Sequence[Action]) -> tuple[int, ...]:
    """What a later move may take at the most: `STRIDES`, and the largest move if that is more."""
    largest = max(move.n for move in moves)
    return (*STRIDES, largest) if largest > STRIDES[-1] else STRIDES


class States:
    """States of replayed searches, whether their leading answer is right, and whether it is after each move.

    Args:
        arms: of the sweep.
        moves: the actions.
    """

    def __init__(self, arms: Sequence[Arm], moves: Sequence[Action]) -> None:
        self.arms = arms
        self.moves = moves
        self._strides = strides_of(moves)
        self._features: list[tuple[float, ...]] = []
        self._now: list[bool] = []
        self._after: list[tuple[list[int], list[bool]]] = [([], []) for _ in moves]  # rows and labels

    def walk(self, runs: Sequence[Recorded], priors: Sequence[float], fit: Online | None = None) -> None:
        """Add the states that searches pass through: random ones, or those that a fit chooses at random prices."""
        for run, prior in zip(runs, priors, strict=True):
            for walk in range(WALKS):
                rng = random.Random(f"{run.problem}/{walk}/{fit is None}")
                replay = Replay(run, self.arms, rng, prior)
                price, stride = rng.choice(PRICES), rng.choice(self._strides)
                rounds = rng.randint(1, 4) if fit is None else ROUNDS
                move: Action | None = rng.choice(self._able(replay))
                while move is not None and rounds:
                    replay.make(move)
                    self._add(replay)
                    rounds -= 1
                    if fit is None:
                        able = self._able(replay)
                        move = rng.choice(able) if able else None
                    else:
                        move = decide(fit, replay, replay.look()[0], stride, price / fit.sample_cost)

    def _able(self, replay: Replay) -> list[Action]:
        return [move for move in self.moves if replay.can(move)]

    def _add(self, replay: Replay) -> None:
        evidence, right = replay.look()
        for move, (rows, labels) in zip(self.moves, self._after, strict=True):
            if replay.can(move):
                rows.append(len(self._features))
                labels.append(replay.copy().make(move).look()[1])
        self._features.append(evidence.features)
        self._now.append(right)

    def fit(self, costs: Mapping[str, Any]) -> Online:
        """Logistic regressions of what is right on the states, with the costs of a sample; no openings."""
        features = np.array(self._features)
        moves = [
            replace(
                move, right=rounded(fit_logistic(features[rows], np.array(labels, float), ridge=1.0)) if rows else ()
            )
            for move, (rows, labels) in zip(self.moves, self._after, strict=True)
        ]
        now = rounded(fit_logistic(features, np.array(self._now, float), ridge=1.0))
        return Online(tuple(moves), now, openings={}, **costs)


def fit_values(
    runs: Sequence[Recorded],
    arms: Sequence[Arm],
    moves: Sequence[Action],
    prior: bool = False,
    currency: Currency = "flops",
) -> Online:
    """Fit "the leading answer is right", now and after each move.

    First to states of random searches, then to those too that a search steered by the first fit comes to: where it goes
    because it expects much, it learns what is to be had there (Ross et al. 2011, arXiv 1011.0686).

    Args:
        runs: that were recorded.
        arms: of the sweep.
        moves: the actions.
        prior: fit what the text of a problem says, too, and the rest to what it says of problems that it has not seen.
        currency: what actions are priced in.
    """
    means = {
        "sample_flops": sum(run.sample_flops + run.score_flops for run in runs) / len(runs),
        "score_flops": sum(run.score_flops for run in runs) / len(runs),
        "sample_reads": sum(run.sample_reads + run.score_reads for run in runs) / len(runs),
        "score_reads": sum(run.score_reads * run.further.get("verifier", 1.0) for run in runs) / len(runs),
    }
    costs = {"currency": currency} | {name: float(f"{mean:.4g}") for name, mean in means.items()}
    priors = [0.5] * len(runs)
    if prior:
        questions, rates = [run.question for run in runs], [run.pass_at_1 for run in runs]
        priors = crossed(questions, rates)
        moves = [replace(move, alone_by_prior=_alone(move, runs, arms, priors)) for move in moves]
    states = States(arms, moves)
    states.walk(runs, priors)
    states.walk(runs, priors, states.fit(costs))
    fitted = states.fit(costs)
    return replace(fitted, prior=TextPrior.fit(questions, rates)) if prior else fitted


def _alone(move: Action, runs: Sequence[Recorded], arms: Sequence[Arm], priors: Sequence[float]) -> tuple[float, ...]:
    """Coefficients over (1, logit of the prior) of a right answer where the move is all that was done."""
    features, labels = [], []
    for run, prior in zip(runs, priors, strict=True):
        for repeat in range(REPEATS):
            replay = Replay(run, arms, random.Random(f"{run.problem}/{repeat}"), prior).make(move)
            features.append((1.0, logit(prior)))
            labels.append(float(replay.look()[1]))
    return rounded(fit_logistic(np.array(features), np.array(labels), ridge=1.0))


def play(runs: Sequence[Recorded], arms: Sequence[Arm], fit: Online, budget: int, opening: Opening) -> Float:
    """Replay whole searches of the online planner: (replays, 4), the numbers of `MeanEnd` for each."""
    ends = []
    for run in runs:
        prior = fit.look(run.question)
        for repeat in range(REPEATS):
            replay = Replay(run, arms, random.Random(f"{run.problem}/{repeat}"), prior)
            move: Action | None = fit.moves[opening.move]
            while move is not None:
                replay.make(move)
                evidence, right = replay.look()
                most = min(budget - replay.spent, opening.stride)
                move = decide(fit, replay, evidence, most, opening.price / fit.sample_cost)
            ends.append((float(right), replay.cost, float(replay.spent), replay.flops))
    return np.array(ends)
