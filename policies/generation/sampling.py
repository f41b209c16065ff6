"""Drawing tokens: the inverse of a distribution, and how sure it was."""

from __future__ import annotations

import math
from collections.abc import MutableMapping

import numpy as np
import torch
from numpy.typing import NDArray

from policies.generation.confidence import FLOOR, Certainty
from policies.generation.without_replacement import PrefixNode, follow, take_out

_PART = 1 << 21  # logits that are looked at at once: malloc returns larger arrays to the system, which clears each anew
_NUCLEUS = 1024  # likeliest tokens that are nearly always enough for top_p: to sort all takes many times as long
_BLOCK = 64  # tokens of the vocabulary that are summed before one of them is drawn
_BELOW = np.float32(1 - 2.0**-23)
_COLDEST = 1e-30  # temperature: below it logits would be divided beyond the largest float32, and it is as good as 0


def draw(
    logits: torch.Tensor,
    uniforms: NDArray[np.float32],
    temperatures: NDArray[np.float32],
    top_p: float = 1.0,
    top_k: int = 0,
    branches: MutableMapping[int, PrefixNode] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Draw one token per row by the inverse of its cumulative distribution; temperature 0 takes the likeliest.

    Args:
        logits: (rows, vocabulary), of any precision.
        uniforms: (rows,) in [0, 1).
        temperatures: (rows,).
        top_p: draw from the likeliest tokens that together have this probability.
        top_k: draw from this many of the likeliest tokens, or from all for 0.
        branches: for rows that shall not draw a token that was drawn before, the prefix that they are at; it becomes
            the one with the token drawn.

    Returns:
        Tokens and their log-probabilities at temperature 1 (no less than that of the least float32), (rows,) each. The
        log-probability is NaN where the logits are no distribution: one of them is NaN or infinite, or all are minus
        infinity.
    """
    tokens, logprobs = np.empty(len(logits), np.int64), np.empty(len(logits), np.float32)
    count = max(1, _PART // logits.shape[1])
    for first in range(0, len(logits), count):
        part = slice(first, first + count)
        own = {row - first: node for row, node in (branches or {}).items() if first <= row < first + count}
        given = logits[part].float(), uniforms[part], temperatures[part]
        tokens[part], logprobs[part] = _draw(*given, top_p, top_k, own)
        if branches:
            branches.update({row + first: node for row, node in own.items()})
    return tokens, logprobs


def _draw(
    logits: torch.Tensor,
    uniforms: NDArray[np.float32],
    temperatures: NDArray[np.float32],
    top_p: float,
    top_k: int,
    branches: MutableMapping[int, PrefixNode],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """`draw` for a few rows in float32."""
    temperatures = np.where(temperatures < _COLDEST, np.float32(0), temperatures)
    likely = torch.softmax(logits, -1).cpu().numpy()
    broken = np.flatnonzero(np.isnan(likely[:, 0]))  # a softmax is NaN in all places or in none
    if len(broken):
        logits = logits.clone()
        logits[torch.from_numpy(broken).to(logits.device)] = 0.0  # any numbers, to be drawn from like the others
        likely = torch.softmax(logits, -1).cpu().numpy()
    kinds = set(temperatures.tolist())
    if kinds <= {0.0, 1.0} and top_p == 1 and not top_k:
        weights = likely
    else:
        scale = np.where(temperatures == 0, np.float32(1), temperatures)
        scaled = torch.softmax(logits / torch.from_numpy(scale[:, None]).to(logits.device), -1)
        weights = _likeliest(scaled, top_p, top_k).cpu().numpy()
    tokens = _invert(take_out(weights, branches) if branches else weights, uniforms)
    if 0.0 in kinds:
        greedy = temperatures == 0
        tokens[greedy] = logits.cpu().numpy()[greedy].argmax(-1)
    chosen = likely[np.arange(len(tokens)), tokens]
    logprobs = np.log(np.maximum(chosen, np.finfo(np.float32).tiny))
    logprobs[broken] = np.nan
    if branches:
        follow(weights, tokens, logprobs, branches)
    return tokens, logprobs


def certainties(logits: torch.Tensor, top: int) -> list[Certainty]:
    """Confidence and entropy of rows of logits (`policies.generation.confidence`).

    Args:
        logits: (rows, vocabulary), of any precision.
        top: k; 0 is the whole vocabulary.
    """
    logs = torch.log_softmax(logits.float(), -1).clamp(min=FLOOR)
    if 0 < top < logs.shape[1]:
        best = logs.topk(top).values
        rest = (1 - best.exp().sum(-1)).clamp(min=0)
        confidence = -best.mean(-1)
        entropy = -(best.exp() * best).sum(-1) - torch.xlogy(rest, rest)
    else:
        confidence = -logs.mean(-1) - (0 if top else math.log(logs.shape[1]))
        entropy = -(logs.exp() * logs).sum(-1)
    return list(zip(confidence.tolist(), entropy.tolist(), strict=True))


def _likeliest(weights: torch.Tensor, top_p: float, top_k: int) -> torch.Tensor:
    """The weights with all but the likeliest of a row set to 0: first the `top_k`, then of these the `top_p`."""
    if 0 < top_k < weights.shape[1]:
        weights = weights.masked_fill(weights < weights.topk(top_k).values[:, -1:], 0)
    if top_p < 1:
        enough = top_p * weights.sum(-1, keepdim=True)
        ordered = weights.topk(min(_NUCLEUS, weights.shape[1])).values
        if (ordered.sum(-1, keepdim=True) < enough).any():
            ordered = weights.sort(-1, descending=True).values
        before = ordered.cumsum(-1) - ordered  # the weight of what is likelier
        last = (before < enough).sum(-1, keepdim=True) - 1
        weights = weights.masked_fill(weights < ordered.gather(-1, last), 0)
    return weights


def _invert(weights: NDArray[np.float32], uniforms: NDArray[np.float32]) -> NDArray[np.int64]:
    """The first index at which the running sum of a row exceeds that share of the row's sum: never one of weight 0.

    In two stages, blocks and then within a block, as running sums over whole rows would take longer than the softmax.
    """
    rows, vocabulary = weights.shape
    every = np.arange(rows)
    blocks = _block_sums(weights)
    summed = _running(blocks)
    marks = np.minimum(uniforms * summed[:, -1], summed[:, -1] * _BELOW)  # rounding may have put it on the sum
    block = _exceeds(summed, marks)
    marks = np.maximum(marks - (summed[every, block] - blocks[every, block]), 0)
    places = (block * _BLOCK)[:, None] + np.arange(_BLOCK)
    inside = weights.reshape(-1).take(every[:, None] * vocabulary + places, mode="clip")
    inside[places >= vocabulary] = 0
    summed = _running(inside)
    return block * _BLOCK + _exceeds(summed, np.minimum(marks, summed[:, -1] * _BELOW))


def _block_sums(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sum of each block of a row, the last of which may be shorter: (rows, blocks)."""
    rows, vocabulary = weights.shape
    whole = vocabulary // _BLOCK
    sums = np.empty((rows, -(-vocabulary // _BLOCK)), np.float32)
    np.einsum("rbt->rb", weights[:, : whole * _BLOCK].reshape(rows, whole, _BLOCK), out=sums[:, :whole])
    sums[:, whole:] = weights[:, whole * _BLOCK :].sum(1, keepdims=True)
    return sums


def _running(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Running sums of rows: by torch, as numpy takes four times as long."""
    summed: NDArray[np.float32] = torch.from_numpy(values).cumsum(1).numpy()
    return summed


def _exceeds(summed: NDArray[np.float32], marks: NDArray[np.float32]) -> NDArray[np.int64]:
    """Where running sums first exceed marks below the whole sum; NaN exceeds nothing."""
    first: NDArray[np.int64] = np.minimum((summed <= marks[:, None]).sum(1), summed.shape[1] - 1)
    return first
