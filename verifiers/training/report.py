"""What a trained process reward model is worth on problems held out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from envs.core import Environment, Problem, Split, StepChecker
from verifiers.core import Verifier
from verifiers.metrics import agreement, auroc, auroc_within, best_threshold, ece
from verifiers.training.examples import replay
from verifiers.training.rollouts import LabelledTrajectory
from verifiers.training.score_all import score_all

# ---------------------------------------------------------------------------------------------------------- report


def report(
    verifier: Verifier,
    environment: Environment,
    problems: dict[Split, dict[str, Problem]],
    train: Sequence[LabelledTrajectory],
    held_out: Sequence[LabelledTrajectory],
) -> dict[str, Any]:
    """Say how good a verifier is on held-out solutions.

    Returns:
        ``auroc``: of "can this prefix still end right" (did any completion), over distinct unfinished prefixes;
        ``auroc_all``: finished ones included; ``auroc_within``: of "ended right" among the finished solutions of one
        problem, mean over the problems whose solutions ended differently (a search needs this one; the others also
        reward telling easy problems from hard ones); ``ece``: 15 bins, over all distinct prefixes, against the soft
        labels; for environments that check steps, ``auroc_exact`` (no wrong step in an unfinished prefix) and
        ``first_error``: share of distinct solutions whose first step under ``threshold`` (chosen on the train split)
        is the first wrong one, with the share among wrong solutions as ``first_error_wrong``.
    """
    states = [replay(environment, problems["calibration"][each.problem], each) for each in held_out]
    scored = score_all(verifier, states)
    distinct: dict[tuple[str, tuple[str, ...]], tuple[float, float, bool, bool]] = {}
    checker: StepChecker | None = environment if isinstance(environment, StepChecker) else None
    errors = [checker.first_error(state) if checker else None for state in states]
    for solution, scores, error in zip(held_out, scored, errors, strict=True):
        for k, (score, soft) in enumerate(zip(scores, solution.labels, strict=True)):
            key = (solution.problem, solution.texts[: k + 1])
            exact = error is None or error > k
            unfinished = k + 1 < len(solution.texts)
            distinct.setdefault(key, (score, soft, exact, unfinished))
    every = list(distinct.values())
    going = [entry for entry in every if entry[3]]
    found: dict[str, Any] = {
        "solutions": len(held_out),
        "prefixes": len(every),
        "unfinished_prefixes": len(going),
        "auroc": _round(auroc([entry[0] for entry in going], [entry[1] > 0 for entry in going])),
        "auroc_all": _round(auroc([entry[0] for entry in every], [entry[1] > 0 for entry in every])),
        "ece": _round(ece([entry[0] for entry in every], [entry[1] for entry in every])),
    }
    finished: dict[str, list[tuple[float, bool]]] = {}
    for solution, scores in zip(held_out, scored, strict=True):
        finished.setdefault(solution.problem, []).append((scores[-1], solution.labels[-1] > 0))
    found["auroc_within"] = _round(auroc_within(finished.values()))
    if checker is not None:
        learnt = [replay(environment, problems["train"][each.problem], each) for each in train]
        threshold = best_threshold(score_all(verifier, learnt), [checker.first_error(state) for state in learnt])
        wrong = [index for index, error in enumerate(errors) if error is not None]
        found |= {
            "auroc_exact": _round(auroc([entry[0] for entry in going], [entry[2] for entry in going])),
            "threshold": threshold,
            "first_error": _round(agreement(scored, errors, threshold)),
            "first_error_wrong": _round(
                agreement([scored[index] for index in wrong], [errors[index] for index in wrong], threshold)
            ),
        }
    return found


def _round(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)  # JSON has no NaN
