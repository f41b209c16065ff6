"""The two logits of a verifier as a Beta: its mean is their softmax, and this is how wide it is.

`verifiers.training.beta` has the likelihood that they are trained by.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

LEAST, MOST = -5.0, 9.0  # log alpha and log beta are held between these: e^9 is 8,100 completions' worth


def deviation(logits: Sequence[float]) -> float:
    """The standard deviation of the belief of two logits, in [0, 0.5]; NaN where one of them is no finite number."""
    if not all(map(math.isfinite, logits)):
        return math.nan
    beta, alpha = (math.exp(min(max(each, LEAST), MOST)) for each in logits)
    mean = alpha / (alpha + beta)
    return math.sqrt(mean * (1 - mean) / (alpha + beta + 1))
