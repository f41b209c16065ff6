"""How hard a problem is, told from its text alone: an estimate of pass@1 before any sample is drawn.

Snell et al. 2024 (arXiv 2408.03314, section 3.2) predict difficulty from samples and leave a cheaper predictor, such
as one that reads the question, to later work. Here it is a ridge logistic regression on counts: of letters, words,
numbers, signs, and on which words and signs there are (hashed). It costs no call of a model.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from agent.planning.regression import Float, fit_logistic, logistic, rounded

BUCKETS = 32  # of hashed words and signs
FOLDS = 5
RIDGES = (0.03, 0.3, 3.0, 30.0)  # of the regression; which is best depends on how many problems there are
_MOST = 20_000  # letters that are read
_TOKEN = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+|[^\w\s]")


@dataclass(frozen=True)
class TextPrior:
    """An estimate of pass@1 from the text of a problem.

    Args:
        coefficients: logistic, over `text_features`.
    """

    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.coefficients) != len(text_features("")):
            raise ValueError("the prior is not fitted to the text features; 'stepwell calibrate' fits it anew")

    def estimate(self, question: str) -> float:
        """Of pass@1, in (0, 1)."""
        return logistic(self.coefficients, text_features(question))

    @classmethod
    def fit(cls, questions: Sequence[str], pass_at_1: Sequence[float]) -> Self:
        """Fit it to problems and the shares of their samples that are right; the ridge is the best across folds."""
        features, labels = np.array([text_features(question) for question in questions]), np.array(pass_at_1)
        ridge = min(RIDGES, key=lambda each: _loss_across(features, labels, each))
        return cls(rounded(fit_logistic(features, labels, ridge=ridge)))


def crossed(questions: Sequence[str], pass_at_1: Sequence[float]) -> list[float]:
    """Estimates of each problem by a prior that was fitted to the others, in `FOLDS` folds.

    What else is fitted to these estimates learns how far a prior can be trusted on problems that it has not seen.
    """
    found = [0.0] * len(questions)
    for fold in range(min(FOLDS, len(questions))):
        others = [index for index in range(len(questions)) if index % FOLDS != fold]
        prior = TextPrior.fit([questions[i] for i in others], [pass_at_1[i] for i in others])
        for index in range(fold, len(questions), FOLDS):
            found[index] = prior.estimate(questions[index])
    return found


def _loss_across(features: Float, labels: Float, ridge: float) -> float:
    """Mean cross-entropy of the labels of each fold under a regression that was fitted to the others."""
    fold, losses = np.arange(len(labels)) % FOLDS, []
    for each in range(FOLDS):
        known = fold != each
        if known.any() and not known.all():
            fitted = fit_logistic(features[known], labels[known], ridge=ridge)
            p = np.clip(1 / (1 + np.exp(-features[~known] @ fitted)), 1e-3, 1 - 1e-3)
            losses.append(-(labels[~known] * np.log(p) + (1 - labels[~known]) * np.log(1 - p)))
    return float(np.concatenate(losses).mean()) if losses else 0.0


def text_features(text: str) -> tuple[float, ...]:
    """What is counted of a text, 7 + `BUCKETS` numbers.

    A constant; log counts of letters, words, numbers and signs; digits of the longest number; the mean log of the
    numbers; then log counts of words and signs by their hash.
    """
    tokens = _TOKEN.findall(text[:_MOST].lower())
    numbers = [token for token in tokens if token[0].isdigit()]
    others = [token for token in tokens if not token[0].isdigit()]
    words = sum(token[0].isalpha() for token in others)
    counts = [0] * BUCKETS
    for token in others:
        counts[zlib.crc32(token.encode()) % BUCKETS] += 1
    sizes = [len(number.partition(".")[0]) for number in numbers]
    return (
        1.0,
        math.log1p(min(len(text), _MOST)) / 4,
        math.log1p(words),
        math.log1p(len(numbers)),
        math.log1p(len(others) - words),
        float(min(max(sizes, default=0), 20)),
        sum(math.log1p(float(number[:15])) for number in numbers) / max(len(numbers), 1),
        *(math.log1p(count) for count in counts),
    )
