"""How good a verifier is: ranking (AUROC), calibration (ECE) and agreement on the first wrong step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def auroc(scores: Sequence[float], labels: Sequence[bool]) -> float:
    """Area under the ROC curve: how often a positive is scored above a negative, ties counting one half.

    NaN when there are no positives or no negatives.
    """
    order = sorted(range(len(scores)), key=lambda index: scores[index])
    positives = sum(labels)
    negatives = len(labels) - positives
    if not positives or not negatives:
        return math.nan
    ranks, at = 0.0, 0  # of the positives, from 1; the tied share their mean rank (Mann-Whitney)
    while at < len(order):
        end = at
        while end < len(order) and scores[order[end]] == scores[order[at]]:
            end += 1
        ranks += sum(labels[index] for index in order[at:end]) * (at + 1 + end) / 2
        at = end
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)


def auroc_within(groups: Iterable[Sequence[tuple[float, bool]]]) -> float:
    """Mean `auroc` over groups of (score, label), of those that have both labels; NaN if there are none.

    Among the solutions of one problem it says how well a search is served; over all of them together, telling easy
    problems from hard ones counts too.
    """
    each = [auroc(*zip(*group, strict=True)) for group in groups if len({label for _, label in group}) > 1]
    return math.fsum(each) / len(each) if each else math.nan


def ece(scores: Sequence[float], targets: Sequence[float], bins: int = 15) -> float:
    """Expected calibration error: mean distance of score and target over equal bins of the score, weighted by size.

    Args:
        scores: in [0, 1].
        targets: in [0, 1]; soft targets are allowed.
        bins: number of bins of equal width (Guo et al. 2017, equation 3).
    """
    gaps = [0.0] * bins
    for score, target in zip(scores, targets, strict=True):
        gaps[min(int(score * bins), bins - 1)] += score - target
    return sum(map(abs, gaps)) / len(scores) if scores else math.nan


def first_below(scores: Sequence[float], threshold: float) -> int | None:
    """Index of the first score below a threshold, or None."""
    return next((index for index, score in enumerate(scores) if score < threshold), None)


def agreement(scores: Sequence[Sequence[float]], errors: Sequence[int | None], threshold: float) -> float:
    """Share of solutions whose first step scored below the threshold is the first wrong one (None: all right)."""
    hits = sum(first_below(each, threshold) == error for each, error in zip(scores, errors, strict=True))
    return hits / len(errors) if errors else math.nan


def best_threshold(scores: Sequence[Sequence[float]], errors: Sequence[int | None], steps: int = 100) -> float:
    """The threshold k / steps with the greatest `agreement`, the smallest of equals."""
    return max((k / steps for k in range(1, steps)), key=lambda threshold: agreement(scores, errors, threshold))
