r"""How sure a model is of each token that it draws, from the distribution that the token is drawn from.

With p_1 >= p_2 >= ... the probabilities at a token, at temperature 1, and k the number that is looked at:

    confidence   C = -(1 / k) sum_(j <= k) log p_j                    (Fu et al. 2025, arXiv 2508.15260, equation 2)
    entropy      H = -sum_(j <= k) p_j log p_j - r log r,             r = 1 - sum_(j <= k) p_j

C is large where a few tokens have nearly all the probability, as the others are then very unlikely. With k = 0, which
stands for the whole vocabulary V, C is given without log V: that is self-certainty, the divergence of the uniform
distribution from p (Kang et al. 2025, arXiv 2502.18581, equation 7), and H is the entropy. With a smaller k all that is
not among the k likeliest tokens counts as one token, so that H is never more than the entropy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

FLOOR = -88.0  # log-probabilities below count as this: float32 has none that are much lower

MOST_TOLD = 20  # likeliest tokens of which vLLM and servers tell the log-probabilities, where nobody changed that

Certainty = tuple[float, float]
"""Confidence and entropy at a token, in nats."""


def certainty_of(logprobs: Sequence[float], top: int) -> Certainty:
    """Confidence and entropy of the likeliest tokens' log-probabilities, of which the `top` largest are taken."""
    logs = [max(each, FLOOR) for each in sorted(logprobs, reverse=True)[:top]]
    rest = max(0.0, 1 - math.fsum(map(math.exp, logs)))
    entropy = -math.fsum(math.exp(each) * each for each in logs) - (rest * math.log(rest) if rest else 0.0)
    return -math.fsum(logs) / len(logs), entropy
