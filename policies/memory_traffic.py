"""How many numbers a model reads from memory while it runs: the part of the cost that FLOPs do not show.

Every pass reads all weights once, and for each new token the keys and values of the tokens before it. Small batches
spend most of their time on this. Kinetics (Sadhukhan et al. 2025, arXiv 2506.05333, section 3) adds both costs up in
FLOP-equivalents, FLOPs + I x numbers read, with the arithmetic intensity I of the machine
(`agent.search.budget.flop_equivalents`).

A search is charged as if it ran alone, so that its cost does not depend on what else is in a batch: the samples of one
request share the passes that read the weights. Kernels that read the keys of a shared prompt once for several samples
are not assumed: every sample reads its own.
"""

from __future__ import annotations

from typing import Any


def position_size(config: Any) -> int:
    """Numbers that the keys and values of one token have, over all layers.

    Args:
        config: with ``layers``, ``kv_heads`` and ``head_dim`` (`policies.models.llama.Config`), or of transformers.

    Returns:
        0 where the configuration does not say.
    """
    if hasattr(config, "kv_heads"):
        return 2 * int(config.layers * config.kv_heads * config.head_dim)
    layers, heads = getattr(config, "num_hidden_layers", None), getattr(config, "num_attention_heads", None)
    width = getattr(config, "hidden_size", None)
    if not layers or not heads or not width:
        return 0
    head_dim = getattr(config, "head_dim", None) or width // heads
    return 2 * int(layers * (getattr(config, "num_key_value_heads", None) or heads) * head_dim)


def positions_read(context: int, first: int, last: int) -> int:
    """Positions whose keys and values are read to make new tokens.

    The token after ``context + i`` others reads as many positions: the sum of context + i for i from `first` to
    `last` - 1.

    Args:
        context: tokens before the first new token.
        first: new tokens that were known without a pass.
        last: new tokens in all.
    """
    return (last - first) * context + (last * (last - 1) - first * (first - 1)) // 2
