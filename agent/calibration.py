"""Fit what the planner needs for one (policy, verifier, environment): ``stepwell calibrate``.

All of it on the calibration split. Many samples of each problem give its pass@1; small draws from them are the probes
whose features are fitted to it (logistic regression on soft labels) and to "is the leading answer right". Then every
candidate strategy runs at every budget, and the best one per difficulty, as the probe sees it, goes into the table
(Snell et al. 2024, section 3.2, equation 1, with absolute difficulty after Liu et al. 2025, section 3.2).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.budget import Budget
from agent.engine import Engine, Task
from agent.graph import SearchGraph
from agent.planner import EASY, HARD, Calibration, Choice, Difficulty, Probe, summarize
from agent.strategies import STRATEGIES
from envs.core import Environment, Problem
from policies.core import Policy
from verifiers.core import Verifier
from verifiers.voting import Candidate, Vote, aggregate, tally

PROBES = (1, 2, 4, 8)
BUDGETS = (4, 16, 64)
CANDIDATES = (
    Choice("best-of-n"),
    Choice("beam", {"branch": 4}),
    Choice("dvts", {"branch": 4}),
    Choice("mcts"),
)
_MARGIN = 0.01  # Best-of-N, the simplest, stays unless another is better by more than this

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """One complete sample: its candidate (None when it never answered) and whether its answer was right."""

    candidate: Candidate | None
    right: bool


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


def samples_of(graph: SearchGraph, n: int) -> list[Sample]:
    """The n complete samples of a Best-of-N graph, merged ones counted out, in an order fixed by the problem."""
    environment, problem = graph.environment, graph.problem
    found: list[Sample] = []
    for candidate in graph.candidates():
        right = environment.check(problem, candidate.answer)
        one = Candidate(candidate.answer, candidate.scores, 1, candidate.node)
        found += [Sample(one, right)] * candidate.count
    found += [Sample(None, False)] * (n - len(found))
    random.Random(problem.id).shuffle(found)
    return found


def probe_of(samples: Sequence[Sample], vote: Vote, same: Callable[[str, str], bool]) -> tuple[Probe, bool]:
    """The probe that these samples make, and whether its leading answer is right."""
    drawn = [sample.candidate for sample in samples if sample.candidate is not None]
    groups = tally(drawn, vote, same)
    probe = summarize(groups, [(aggregate(each.scores, vote.aggregate), 1) for each in drawn], len(samples))
    right = bool(groups) and any(
        sample.right for sample in samples if sample.candidate and same(sample.candidate.answer, groups[0].answer)
    )
    return probe, right


def calibrate(
    environment: Environment,
    policy: Policy,
    verifier: Verifier,
    problems: Sequence[Problem],
    samples: int = 64,
    budgets: Sequence[int] = BUDGETS,
    candidates: Sequence[Choice] = CANDIDATES,
    seed: int = 0,
    report: Callable[[str], None] = lambda line: None,
) -> Calibration:
    """Fit a calibration; problems must have gold answers and come from the calibration split.

    Args:
        environment: of the problems; with the next two, what the calibration belongs to.
        policy: draws the samples.
        verifier: scores them.
        problems: of the calibration split.
        samples: complete samples per problem that give its pass@1.
        budgets: in samples; each gets its own choice of strategy.
        candidates: strategies to choose from, Best-of-N first.
        seed: of the searches.
        report: called with a line of progress now and then.
    """
    vote = Vote()
    engine = Engine(environment, policy, verifier)

    def run(choice: Choice, n: int) -> dict[str, SearchGraph]:
        strategy = STRATEGIES[choice.strategy].sized(n, **choice.knobs)
        tasks = (Task(problem, strategy.search, Budget(samples=n), seed) for problem in problems)
        graphs = {graph.problem.id: graph for graph in engine.run(tasks)}
        report(f"{choice.strategy} {dict(choice.knobs) or ''} at {n}: {len(graphs)} problems searched")
        return graphs

    drawn = {key: samples_of(graph, samples) for key, graph in run(candidates[0], samples).items()}
    truth = {key: sum(sample.right for sample in each) / len(each) for key, each in drawn.items()}
    pass_at_1: dict[int, tuple[float, ...]] = {}
    errors: dict[str, float] = {}
    confidence_rows: list[tuple[float, ...]] = []
    confidence_labels: list[float] = []
    probes: dict[int, dict[str, Probe]] = {}
    for size in PROBES:
        rows, labels = [], []
        for key, each in drawn.items():
            for start in range(0, min(len(each), 4 * size), size):
                probe, right = probe_of(each[start : start + size], vote, environment.same)
                rows.append(probe.features())
                labels.append(truth[key])
                confidence_rows.append(probe.confidence_features())
                confidence_labels.append(float(right))
                probes.setdefault(size, {}).setdefault(key, probe)
        fitted = fit_logistic(np.array(rows), np.array(labels))
        predicted = 1 / (1 + np.exp(-np.array(rows) @ fitted))
        errors[str(size)] = round(float(np.abs(predicted - np.array(labels)).mean()), 4)
        pass_at_1[size] = tuple(fitted.round(4).tolist())
    confidence = fit_logistic(np.array(confidence_rows), np.array(confidence_labels))
    bare = Calibration(policy.name, verifier.name, environment.name, pass_at_1, tuple(confidence.round(4).tolist()))
    table, accuracies = _choose(run, bare, probes, budgets, candidates)
    about: dict[str, Any] = {
        "problems": len(problems),
        "samples": samples,
        "seed": seed,
        "mean_absolute_error_of_pass_at_1": errors,
        "accuracies": accuracies,
    }
    return Calibration(policy.name, verifier.name, environment.name, pass_at_1, bare.confidence, table, about)


def _choose(
    run: Callable[[Choice, int], dict[str, SearchGraph]],
    calibration: Calibration,
    probes: Mapping[int, Mapping[str, Probe]],
    budgets: Sequence[int],
    candidates: Sequence[Choice],
) -> tuple[dict[Difficulty, dict[int, Choice]], dict[str, Any]]:
    """The best candidate per difficulty and budget, and the accuracies that say so."""
    table: dict[Difficulty, dict[int, Choice]] = {"easy": {}, "medium": {}, "hard": {}}
    accuracies: dict[str, Any] = {}
    for budget in budgets:
        seen = probes[max(size for size in probes if size <= max(1, budget // 4))]
        estimates = {key: calibration.estimate(probe) for key, probe in seen.items()}
        results = [{key: graph.correct() for key, graph in run(choice, budget).items()} for choice in candidates]
        for difficulty, low, high in (("easy", EASY, 1.01), ("medium", HARD, EASY), ("hard", -0.01, HARD)):
            keys = [key for key, estimate in estimates.items() if low <= estimate < high]
            if not keys:
                continue
            rates = [sum(bool(result.get(key)) for key in keys) / len(keys) for result in results]
            best = max(range(len(rates)), key=lambda i: (rates[i] + (_MARGIN if i == 0 else 0.0), -i))
            table[difficulty][budget] = candidates[best]  # type: ignore[index]
            names = [" ".join([c.strategy, *(f"{k}={v}" for k, v in c.knobs.items())]) for c in candidates]
            accuracies[f"{difficulty} at {budget}"] = {"problems": len(keys)} | {
                name: round(rate, 4) for name, rate in zip(names, rates, strict=True)
            }
    return table, accuracies
