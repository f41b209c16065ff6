r"""A Beta in place of one probability: how sure a process reward model is (BetaPRM, Li et al. 2026, arXiv 2605.15529).

A prefix whose completions ended right K times of N has a chance mu of which K / N is a small sample. The model gives a
belief about it, Beta(alpha, beta), and learns the likelihood of the counts, the Beta-binomial

    log p(K | N) = log C(N, K) + log B(K + alpha, N - K + beta) - log B(alpha, beta)

with mean mu = alpha / (alpha + beta), concentration kappa = alpha + beta and standard deviation
sqrt(mu (1 - mu) / (kappa + 1)). For N = 1 it is the usual cross-entropy of mu.

The paper has a head of its own for mu and for kappa. Here the two logits of a token classifier are log beta and
log alpha. Their softmax, which every reader of such a model takes for the score, is mu, and the sum of their
exponentials, which the softmax leaves out, is kappa. So a Beta model is read by whatever reads other process reward
models, and an existing one can be trained on.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, lgamma

from policies.models.beliefs import LEAST, MOST


def beta_loss(logits: Tensor, right: Tensor, total: Tensor) -> Tensor:
    """The negative log-likelihood of counts, without the binomial coefficient, in nats.

    Args:
        logits: (n, 2), log beta and log alpha.
        right: (n,) completions that ended right, K.
        total: (n,) completions, N.

    Returns:
        (n,).
    """
    beta, alpha = logits.float().clamp(LEAST, MOST).exp().unbind(-1)
    seen = log_beta(right + alpha, total - right + beta)
    return log_beta(alpha, beta) - seen


def log_beta(a: Tensor, b: Tensor) -> Tensor:
    """The logarithm of the Beta function."""
    return lgamma(a) + lgamma(b) - lgamma(a + b)


def counts(batch: Sequence[tuple[int, ...]]) -> Tensor:
    """Counts of several examples as one row of float32."""
    return torch.tensor([each for counted in batch for each in counted], dtype=torch.float32)
