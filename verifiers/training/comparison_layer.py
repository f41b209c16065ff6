"""How a verifier grows out of a causal model: layers that see what the model expected beside what was written.

A policy that is fine-tuned to judge (its layers kept, a head put on top) learns slowly to tell a right step from a
wrong one: what it expects next is known only after its last layer, and by then its residual stream no longer says
which token it has just read. So nothing above can compare the two, and all that is learnt quickly is which problems
are hard. `grow` therefore builds, out of standard Llama parts and to the bit computable by any Llama implementation:

* the causal model, frozen, in the first half of a residual stream of twice its width, scaled down so far that what is
  written later outweighs it; the second half carries the token that was read;
* one layer, frozen, that compares: its attention looks exactly one token back and fetches the model's normalised final
  state there, and its feed-forward part multiplies that with the token that was read, by the identity
  ``z * silu(z') + (-z) * silu(-z') = z * z'``: the logit that the model had given to it;
* layers to be trained, which start as the identity and see all of these.

The layers are trained on labels and, beside, on the log-likelihood of the model itself (`Learner.likelihood_loss`): of
each token, and of the solution so far. That loss needs no label and no checker; it shows the layers what the logits of
the comparison are good for, much as an implicit PRM (Yuan et al. 2024, arXiv 2412.01981) scores steps by likelihoods.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import mse_loss, rms_norm
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForTokenClassification
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

_REACH = 512  # tokens back within which the comparing layer's attention was made to look one token back
_SHARPNESS = 20.0
_SMALL = 0.01  # the frozen model's final state relative to what the comparing layer writes
_BESIDE = 0.05  # the token that was read relative to the embedding of the frozen model
_LIKELY = 4.0  # log-likelihoods are learnt in units of this
_TOKEN, _TOTAL = -8.0, -16.0  # and cut off here: of a token, of a solution so far


class Learner(torch.nn.Module):
    """A verifier in training, with the heads for what it learns beside the labels.

    Args:
        prm: from `grow`.
        backbone: the causal model it has grown from.
    """

    logits_of: Tensor

    def __init__(self, prm: LlamaForTokenClassification, backbone: LlamaForCausalLM) -> None:
        super().__init__()
        self.prm = prm
        self.known = backbone.config.num_hidden_layers + 1  # layers that are frozen
        width = self.width = backbone.config.hidden_size
        with torch.no_grad():
            head = (backbone.lm_head.weight * backbone.model.norm.weight).T.contiguous()
        self.register_buffer("logits_of", head, persistent=False)
        self.token = torch.nn.Linear(2 * width, 1)
        self.total = torch.nn.Linear(2 * width, 1)
        for head in (self.token, self.total):
            torch.nn.init.zeros_(head.weight)
            torch.nn.init.zeros_(head.bias)
        freeze(prm, prm.config.num_hidden_layers - self.known)

    def states(self, ids: Tensor) -> tuple[Tensor, ...]:
        """(rows, length) to the hidden states after every layer, the last one normalised."""
        states: tuple[Tensor, ...] = self.prm.model(ids, use_cache=False, output_hidden_states=True).hidden_states
        return states

    def likelihood_loss(self, ids: Tensor, states: tuple[Tensor, ...], own: Tensor) -> Tensor:
        """Squared error of the model's log-likelihood of each token, and of the tokens so far.

        Args:
            ids: (rows, length).
            states: from `states`.
            own: (rows, length) bool: the tokens of the solution.
        """
        written = own[:, 1:]
        with torch.no_grad():
            stream = states[self.known - 1][:, :-1, : self.width][written]
            logits = rms_norm(stream, (self.width,), eps=self.prm.config.rms_norm_eps) @ self.logits_of
            likely = logits.log_softmax(-1).gather(1, ids[:, 1:][written][:, None])[:, 0].clamp(min=_TOKEN)
            each = torch.zeros(written.shape, device=ids.device)
            each[written] = likely
            total = each.cumsum(1).clamp(min=_TOTAL)[written]
        # aggregation over tokens needs a layer of its own after the one that knows each token's
        early = self.prm.model.norm(states[self.known + 1])[:, 1:][written]
        late = states[-1][:, 1:][written]
        return mse_loss(self.token(early)[:, 0], likely / _LIKELY) + 0.5 * mse_loss(
            self.total(late)[:, 0], total / _LIKELY
        )


def freeze(prm: LlamaForTokenClassification, extra_layers: int) -> None:
    """Leave only the last layers of a verifier from `grow`, the last norm and the head to be trained."""
    prm.model.embed_tokens.requires_grad_(False)
    for layer in prm.model.layers[:-extra_layers]:
        layer.requires_grad_(False)
    # The fused attention of PyTorch 2.13 on CPUs can return NaN gradients for the sharp attention of these layers.
    prm.set_attn_implementation("eager")


def grow(backbone: LlamaForCausalLM, extra_layers: int, typical: Tensor) -> LlamaForTokenClassification:
    """Build the verifier that the module's text describes; its score is 0.5 for everything yet.

    Args:
        backbone: the causal model, in float32.
        extra_layers: at least 2, to be trained; new weights come from torch's seed.
        typical: (rows, length) token ids of the kind it will read, without padding; the size of the residual stream
            is measured on them.

    Raises:
        ValueError: the backbone's tables are not tied, or its heads or its feed-forward part are too narrow.
    """
    known, width = backbone.config, backbone.config.hidden_size
    heads, head_dim = known.num_attention_heads, known.head_dim
    if not known.tie_word_embeddings:
        raise ValueError("a verifier grows only from a model whose input and output embeddings are tied")
    pairs = width - 2  # dimensions of the token that was read; the other two: a constant, the comparison's result
    if heads * head_dim != width or known.num_key_value_heads != heads or known.intermediate_size < 2 * pairs:
        raise ValueError(
            f"a verifier cannot grow from a model with {heads} heads ({known.num_key_value_heads} of keys) of "
            f"{head_dim}, {known.intermediate_size} feed-forward units and width {width}; needed: as many heads of "
            f"keys, heads * size = width, and at least {2 * pairs} units"
        )
    size = _stream_size(backbone, typical)
    scale = _SMALL * math.sqrt(width) / size
    beside = _BESIDE * scale
    embedding = backbone.get_input_embeddings().weight.detach()
    basis = torch.linalg.svd(embedding, full_matrices=False)[2][:pairs]  # (pairs, width); the two least parts are lost
    constant = embedding.norm(dim=1).mean().item() / math.sqrt(width) * beside
    one, result = 2 * width - 2, 2 * width - 1  # where the constant and the result of the comparison are
    config = LlamaConfig(**known.to_dict())
    config.num_labels = 2
    config.classifier_dropout = 0.0
    config.hidden_size = 2 * width
    config.num_hidden_layers += 1 + extra_layers
    config.rms_norm_eps *= scale**2 / 2
    config.initializer_range = 0.6 / math.sqrt(2 * width)
    config.tie_word_embeddings = False
    config.dtype = torch.float32
    prm = LlamaForTokenClassification(config).to(torch.float32)
    half = math.sqrt(0.5)  # the norm is over twice the width
    with torch.no_grad():
        table = prm.model.embed_tokens.weight.zero_()
        table[:, :width] = embedding * scale
        table[:, width:one] = embedding @ basis.T * beside
        table[:, one] = constant
        for old, new in zip(backbone.model.layers, prm.model.layers, strict=False):
            for name, source in old.named_parameters():
                target = new.get_parameter(name).zero_()
                if source.ndim == 1:
                    target[:width] = source * half
                elif name.endswith(("o_proj.weight", "down_proj.weight")):
                    target[:width] = source * scale
                else:
                    target[:, :width] = source
        loud = size * scale / math.sqrt(2 * width) / constant  # reads the constant as about 1
        _compare(prm.model.layers[known.num_hidden_layers], backbone, basis, beside, loud)
        for layer in prm.model.layers[known.num_hidden_layers + 1 :]:
            for norm in (layer.input_layernorm, layer.post_attention_layernorm):
                norm.weight[width:result] = 1 / beside
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        prm.model.norm.weight[width:result] = 0
        prm.score.weight.zero_()
        prm.score.bias.zero_()
    return prm


def _stream_size(backbone: LlamaForCausalLM, typical: Tensor) -> float:
    """Mean norm of the residual stream after the last layer."""
    found: list[Tensor] = []
    hook = backbone.model.norm.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0].detach()))
    with torch.no_grad():
        backbone.model(typical, use_cache=False)
    hook.remove()
    return float(found[0].norm(dim=-1).mean())


def _compare(layer: LlamaDecoderLayer, backbone: LlamaForCausalLM, basis: Tensor, beside: float, loud: float) -> None:
    """Set the weights of the comparing layer."""
    known = backbone.config
    width, pairs, head_dim = known.hidden_size, len(basis), known.head_dim
    one, result, half = 2 * width - 2, 2 * width - 1, math.sqrt(0.5)
    for parameter in layer.parameters():
        parameter.zero_()
    # attention: one token back, whatever the tokens are, for the whole normalised state
    frequencies = known.rope_parameters["rope_theta"] ** (-torch.arange(0, head_dim, 2) / head_dim)
    keys = _SHARPNESS * one_back(frequencies).float()
    layer.input_layernorm.weight[:width] = half
    layer.input_layernorm.weight[one] = loud
    for first in range(0, width, head_dim):
        layer.self_attn.q_proj.weight[first : first + head_dim // 2, one] = _SHARPNESS
        layer.self_attn.k_proj.weight[first : first + head_dim, one] = keys
    layer.self_attn.v_proj.weight[:, :width] = torch.eye(width)
    layer.self_attn.o_proj.weight[:width] = torch.eye(width)
    # feed-forward: the product of what was expected with what was read
    layer.post_attention_layernorm.weight[:width] = half
    layer.post_attention_layernorm.weight[width:] = half / beside
    # the tables being tied, a token's logit is the product of this with its embedding
    expected = basis * backbone.model.norm.weight
    for sign, first in ((1, 0), (-1, pairs)):
        layer.mlp.gate_proj.weight[first : first + pairs, width : width + pairs] = sign * torch.eye(pairs)
        layer.mlp.up_proj.weight[first : first + pairs, :width] = sign * expected
    layer.mlp.down_proj.weight[result, : 2 * pairs] = 0.1


def one_back(frequencies: Tensor) -> Tensor:
    """Keys by which rotary attention looks exactly one token back, for queries that are 1 in all cosine dimensions.

    Args:
        frequencies: (pairs,) of the rotation.

    Returns:
        (2 * pairs,) keys whose product with the rotated queries is 1 one token back and at most about -0.3 at any
        other distance up to 512, so that whichever keys are longer or shorter, this one wins.
    """
    angles = torch.arange(_REACH, dtype=torch.float64)[:, None] * frequencies.double()
    waves = torch.cat([angles.cos(), angles.sin()], 1)
    others = torch.arange(_REACH) != 1
    keys = torch.zeros(waves.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([keys], max_iter=2000, line_search_fn="strong_wolfe", tolerance_change=1e-14)

    def loss() -> Tensor:
        optimizer.zero_grad()
        products = waves @ keys
        value = 10 * (products[1] - 1) ** 2 + 10 * (products[others] + 0.3).relu().square().mean()
        value = value + 1e-5 * keys.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    return keys.detach()
