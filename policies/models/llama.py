"""The shared numeric core of the lab's models: a Llama decoder for small checkpoints, its tokens, its kept prefixes.

It lives in the lowest room because both policies and verifiers run it, and neither may import the other. Nothing here
knows what a search is; the only thing taken from the room is how a state is written (`envs.core.render`).

Three things make it fast on a CPU: few operators per layer (the queries, keys and values are one matrix, so are gate
and up; the weights of the norms are folded into the matrices that follow; residual additions are part of the matrix
products), keys and values that are written in place, and no transformers import. And one thing makes it exact: **the
numbers of a sequence do not depend on those beside it**, to the last bit on a CPU, because every matrix product has at
least `ROWS` rows (below that, BLAS switches to kernels that add in another order) and keys are attended in multiples of
`BLOCK`.

Keys and values lie in one of two ways. Sequences that grow token by token have a row of a `Cache` each, as attention to
one new token should copy nothing. What is kept of a search, `Prefixes`, lies in slots of one pool, as states share what
is before them; a pass over several new tokens of many states reads it there, and nothing but attention is padded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import embedding, linear, rms_norm, silu

from policies.models.errors import UnsupportedModel
from policies.models.kv_cache import BLOCK, DecodeRows, PagedPrefill
from policies.models.pretrained import UnusableModel, check_files, said

MOST = 1 << 20  # of any size of a model
MOST_ANGLES = 1 << 26  # positions times numbers of a head


# ------------------------------------------------------------------------------------------------------------ model


@dataclass(frozen=True)
class ModelConfig:
    """What config.json says about a model; sizes are counts of units.

    Args:
        context: most tokens (positions) a sequence may have.
        labels: width of the head: the vocabulary of a policy, the number of labels of a verifier.
        end: ids that end a sequence.
        beta: the two logits of a verifier are those of a Beta, too (`verifiers.training.beta`).
    """

    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    epsilon: float
    theta: float
    context: int
    labels: int
    begin: int | None
    end: frozenset[int]
    causal: bool
    beta: bool = False

    @classmethod
    def read(cls, folder: Path) -> ModelConfig:
        """Read ``folder/config.json``; raises `UnsupportedModel` for what the decoder cannot run."""
        try:
            if folder.is_dir():
                check_files(folder)
            raw: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UnsupportedModel(f"{folder} has no config.json: not a folder of a model") from None
        except UnusableModel as error:
            raise UnsupportedModel(str(error)) from None
        except (OSError, ValueError, RecursionError) as error:
            raise UnsupportedModel(f"{folder} has no config.json that can be read: {said(error)}") from None
        if not isinstance(raw, dict):
            raise UnsupportedModel(f"{folder} has no config.json that can be read: it is no mapping")
        try:
            return cls._of(folder, raw)
        except KeyError as error:
            raise UnsupportedModel(f"{folder}: config.json does not say {error}") from None
        except (AttributeError, IndexError, TypeError, ValueError, ZeroDivisionError) as error:
            if isinstance(error, UnsupportedModel):
                raise
            raise UnsupportedModel(f"{folder}: config.json says what cannot be: {said(error)}") from None

    @classmethod
    def _of(cls, folder: Path, raw: dict[str, Any]) -> ModelConfig:
        kind = (raw.get("architectures") or ["?"])[0]
        if kind not in ("LlamaForCausalLM", "LlamaForTokenClassification"):
            allowed = "LlamaForCausalLM (policies) and LlamaForTokenClassification (verifiers)"
            raise UnsupportedModel(f"{folder} holds a {kind}; the lab runs {allowed}")
        rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
        if rope.get("rope_type", "default") != "default" or raw.get("attention_bias") or raw.get("mlp_bias"):
            raise UnsupportedModel(f"{folder}: scaled rotary positions and biases are not supported")
        if raw.get("hidden_act", "silu") != "silu":
            raise UnsupportedModel(f"{folder}: activation {raw['hidden_act']!r}; allowed: 'silu'")
        end = raw.get("eos_token_id")
        causal = kind == "LlamaForCausalLM"
        heads = raw["num_attention_heads"]
        return cls(
            vocabulary=raw["vocab_size"],
            hidden=raw["hidden_size"],
            intermediate=raw["intermediate_size"],
            layers=raw["num_hidden_layers"],
            heads=heads,
            kv_heads=raw.get("num_key_value_heads") or heads,
            head_dim=raw.get("head_dim") or raw["hidden_size"] // heads,
            epsilon=raw.get("rms_norm_eps", 1e-6),
            theta=rope.get("rope_theta") or raw.get("rope_theta") or 10000.0,
            context=raw["max_position_embeddings"],
            labels=raw["vocab_size"] if causal else len(raw.get("id2label") or {0: "", 1: ""}),
            begin=raw.get("bos_token_id"),
            end=frozenset([end] if isinstance(end, int) else end or ()),
            causal=causal,
            beta=raw.get("beta") is True,
        )

    def __post_init__(self) -> None:
        """Refuse sizes that no model has; raises `UnsupportedModel`."""
        sizes = {
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "max_position_embeddings": self.context,
            "labels": self.labels,
        }
        for key, size in sizes.items():
            if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= MOST:
                raise UnsupportedModel(f"config.json says {key} is {str(size)[:40]}; allowed: 1 to {MOST:,}")
        if self.heads % self.kv_heads or self.head_dim % 2:
            heads = f"{self.heads} heads, {self.kv_heads} of keys and values, of {self.head_dim} numbers"
            raise UnsupportedModel(f"config.json says {heads}; the second must divide the first, the third be even")
        if self.context * self.head_dim > MOST_ANGLES:
            raise UnsupportedModel(f"config.json says {self.context:,} positions for heads of {self.head_dim} numbers")
        for token in (*(() if self.begin is None else (self.begin,)), *self.end):
            if not isinstance(token, int) or not 0 <= token < self.vocabulary:
                most = self.vocabulary - 1
                raise UnsupportedModel(f"config.json names the token {str(token)[:40]}; allowed: 0 to {most}")
        for key, number in {"rms_norm_eps": self.epsilon, "rope_theta": self.theta}.items():
            if not isinstance(number, int | float) or not 0 < number < math.inf:
                raise UnsupportedModel(f"config.json says {key} is {str(number)[:40]}; a number above 0 is needed")


@dataclass(frozen=True)
class _Layer:
    """Matrices of one layer, (in, out), the norms' weights folded in."""

    qkv: Tensor
    out: Tensor
    gate_up: Tensor
    down: Tensor


class Llama:
    """A Llama-architecture checkpoint, run in float32.

    Args:
        folder: config.json and model.safetensors (any float type on disk), in the transformers layout.
        device: where it runs.

    Raises:
        UnsupportedModel: see `ModelConfig.read`; or when weights are missing, of other shapes than config.json says, or
            no finite numbers.
    """

    dtype = torch.float32

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self.config = config = ModelConfig.read(folder)
        raw = _read_weights(folder, config, device)
        self.parameters = sum(tensor.numel() for tensor in raw.values())
        weights = {name.removeprefix("model."): tensor.float() for name, tensor in raw.items()}
        self.device = torch.device(device)
        self.embedding = weights["embed_tokens.weight"]
        self.layers = [self._layer(weights, f"layers.{index}.") for index in range(config.layers)]
        head = weights.get("lm_head.weight" if config.causal else "score.weight", self.embedding)
        self.head = (head * weights["norm.weight"]).contiguous()
        bias = weights.get("score.bias")
        self.head_bias = None if bias is None else bias
        powers = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
        angles = torch.arange(config.context + BLOCK, dtype=torch.float32)[:, None] / config.theta**powers
        self.rotations = torch.polar(torch.ones_like(angles), angles).to(device)

    def _layer(self, weights: dict[str, Tensor], at: str) -> _Layer:
        config = self.config

        def turned(name: str, heads: int) -> Tensor:
            # transformers rotates (i, i + d/2); reordered to (2i, 2i + 1), a rotation is one complex product
            matrix = weights[f"{at}self_attn.{name}.weight"]
            return matrix.view(heads, 2, config.head_dim // 2, -1).transpose(1, 2).reshape(matrix.shape)

        before, after = weights[f"{at}input_layernorm.weight"], weights[f"{at}post_attention_layernorm.weight"]
        q, k = turned("q_proj", config.heads), turned("k_proj", config.kv_heads)
        qkv = torch.cat([q, k, weights[f"{at}self_attn.v_proj.weight"]]) * before
        gate_up = torch.cat([weights[f"{at}mlp.gate_proj.weight"], weights[f"{at}mlp.up_proj.weight"]]) * after
        out, down = weights[f"{at}self_attn.o_proj.weight"], weights[f"{at}mlp.down_proj.weight"]
        return _Layer(qkv.contiguous(), out.T, gate_up.contiguous(), down.T)

    def run(
        self, keys: DecodeRows | PagedPrefill, ids: Tensor, positions: Tensor, wanted: Tensor | None = None
    ) -> Tensor:
        """Run new tokens through the model, writing their keys and values.

        Args:
            keys: where keys and values are written and read.
            ids: (tokens,) ids, at least `ROWS` of them.
            positions: (tokens,) of each in its sequence.
            wanted: indices of the tokens whose hidden states are wanted, at least `ROWS`; None for all.

        Returns:
            (tokens or wanted, hidden): normalised hidden states, ready for `logits`.
        """
        config = self.config
        shape, turned = (config.hidden,), (config.heads + config.kv_heads) * config.head_dim
        split = config.heads * config.head_dim
        rotation = self.rotations[positions][:, None]
        x = embedding(ids, self.embedding)
        for index, layer in enumerate(self.layers):
            qkv = linear(rms_norm(x, shape, None, config.epsilon), layer.qkv)
            pairs = qkv[:, :turned].view(len(ids), -1, config.head_dim // 2, 2)
            torch.view_as_complex(pairs).mul_(rotation)
            mixed = keys.attend(index, qkv[:, :split], qkv[:, split:])
            if wanted is not None and index == len(self.layers) - 1:
                x, mixed = x[wanted], mixed[wanted]
            x = torch.addmm(x, mixed, layer.out)
            gate, up = linear(rms_norm(x, shape, None, config.epsilon), layer.gate_up).chunk(2, -1)
            x = torch.addmm(x, silu(gate).mul_(up), layer.down)
        return rms_norm(x, shape, None, config.epsilon)

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., hidden) to (..., labels): next-token logits of a policy, label logits of a verifier."""
        return linear(hidden, self.head, self.head_bias)


_NUMBERS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # smaller ones need a scale


def _read_weights(folder: Path, config: ModelConfig, device: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint's file, all that its configuration wants among them and with the shapes of it."""
    try:
        raw = load_file(folder / "model.safetensors", device=device)
    except FileNotFoundError:
        raise UnsupportedModel(f"{folder} has no model.safetensors") from None
    except Exception as error:  # the library's own, which is no ValueError
        raise UnsupportedModel(f"{folder / 'model.safetensors'} cannot be read: {said(error)}") from None
    names = {name.removeprefix("model."): name for name in raw}
    for name, shape in _shapes(config, names):
        found = raw.get(names.get(name, ""))
        if found is None:
            raise UnsupportedModel(f"{folder} lacks the tensor {name}")
        if tuple(found.shape) != shape:
            raise UnsupportedModel(f"{folder}: {name} is {tuple(found.shape)}; config.json says {shape}")
        if found.dtype not in _NUMBERS or not bool(found.isfinite().all()):
            raise UnsupportedModel(f"{folder}: {name} holds what is no finite number")
    beyond = sorted(name for name in names if name.startswith(f"layers.{config.layers}."))
    if beyond:
        raise UnsupportedModel(f"{folder} has more layers than the {config.layers} of its config.json: {beyond[0]}")
    return raw


def _shapes(config: ModelConfig, there: Container[str]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The tensors of a model, as torch lays them out: (out, in)."""
    hidden, inner = config.hidden, config.intermediate
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    yield "embed_tokens.weight", (config.vocabulary, hidden)
    yield "norm.weight", (hidden,)
    head = "lm_head" if config.causal else "score"
    if not config.causal or f"{head}.weight" in there:  # a head may be tied to the embeddings
        yield f"{head}.weight", (config.labels, hidden)
    if f"{head}.bias" in there:
        yield f"{head}.bias", (config.labels,)
    for index in range(config.layers):
        at = f"layers.{index}."
        yield f"{at}input_layernorm.weight", (hidden,)
        yield f"{at}post_attention_layernorm.weight", (hidden,)
        yield f"{at}self_attn.q_proj.weight", (queries, hidden)
        yield f"{at}self_attn.k_proj.weight", (keys, hidden)
        yield f"{at}self_attn.v_proj.weight", (keys, hidden)
        yield f"{at}self_attn.o_proj.weight", (hidden, queries)
        yield f"{at}mlp.gate_proj.weight", (inner, hidden)
        yield f"{at}mlp.up_proj.weight", (inner, hidden)
        yield f"{at}mlp.down_proj.weight", (hidden, inner)
