"""Logistic regression: what the planner's probabilities are fitted with."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_CLIP = 1e-3


def logit(p: float) -> float:
    """Log odds, of a probability kept a thousandth away from 0 and 1."""
    p = min(max(p, _CLIP), 1 - _CLIP)
    return math.log(p / (1 - p))


def logistic(coefficients: Sequence[float], features: Sequence[float]) -> float:
    """The probability that a logistic regression gives: sigmoid of the inner product of coefficients and features."""
    z = sum(c * x for c, x in zip(coefficients, features, strict=True))
    return 1 / (1 + math.exp(-max(-50.0, min(50.0, z))))


Float = NDArray[np.float64]


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


def rounded(coefficients: Float) -> tuple[float, ...]:
    """The coefficients to four decimals, as plan files keep them."""
    return tuple(coefficients.round(4).tolist())
