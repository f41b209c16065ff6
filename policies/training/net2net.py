"""A larger model that starts with what a smaller one computes (Net2Net; Chen et al. 2016, arXiv 1511.05641).

The large rung of a ladder sees few tokens on a small machine; started from the rung below, it spends none of them on
what that one has learnt. A new unit is read by random weights but not yet written to, or written to but not yet read:
it changes nothing at first and has a gradient all the same.
"""

from __future__ import annotations

import math

import torch
from transformers import LlamaConfig, LlamaForCausalLM


def widen(small: LlamaForCausalLM, config: LlamaConfig) -> LlamaForCausalLM:
    """Build a model of larger sizes with the logits of a smaller one; new weights come from torch's seed.

    The smaller one's residual stream, heads, feed-forward units and layers are the first of the new ones; the rest of
    the stream is zero until training writes to it.

    Args:
        small: in float32.
        config: of the larger one; its `rms_norm_eps` is set.

    Raises:
        ValueError: a size is smaller than it was, or that of the heads, on which the rotation depends, differs.
    """
    known = small.config
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    less = [f"{name} {getattr(config, name)}" for name in sizes if getattr(config, name) < getattr(known, name)]
    if less or config.head_dim != known.head_dim:
        given = ", ".join(less) or f"head_dim {config.head_dim}"
        needed = {name: getattr(known, name) for name in sizes}
        raise ValueError(f"{given} given; a model can only be widened, to at least {needed}, head_dim {known.head_dim}")
    share = known.hidden_size / config.hidden_size  # of the stream: norms take the mean over the zeros, too
    config.rms_norm_eps = known.rms_norm_eps * share
    large = LlamaForCausalLM(config).to(torch.float32)
    old = dict(small.named_parameters())
    with torch.no_grad():
        for name, target in large.named_parameters():
            if name.endswith(("embed_tokens.weight", "lm_head.weight", "o_proj.weight", "down_proj.weight")):
                target.zero_()
            if name in old:
                part = tuple(map(slice, old[name].shape))
                target[part] = old[name] * (math.sqrt(share) if target.ndim == 1 else 1.0)
    return large
