"""The shared numeric core of the lab's models: a Llama decoder for small checkpoints, its tokens, its kept prefixes.

It lives in the lowest room because both policies and verifiers run it, and neither may import the other. Nothing here
knows what a search is; the only thing taken from the room is how a state is written (`envs.core.render`).

Three things make it fast on a CPU: few operators per layer (the queries, keys and values are one matrix, so are gate
and up; the weights of the norms are folded into the matrices that follow; residual additions are part of the matrix
products), one cache that is written in place, and no transformers import. And one thing makes it exact: **the numbers
of a row do not depend on the rows beside it**, to the last bit on a CPU, because every matrix product has at least
`ROWS` rows (below that, BLAS switches to kernels that add in another order) and keys are attended in multiples of
`BLOCK`.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import embedding, linear, rms_norm, scaled_dot_product_attention, silu

from envs.core import Environment, State, Step

ROWS = 4  # the fewest rows of a matrix product, and what new tokens are padded to a multiple of
BLOCK = 16  # keys are attended in multiples of this
Ids = tuple[int, ...]


class UnsupportedModel(ValueError):
    """A folder does not hold a model that this decoder runs; the message says what was found and what is allowed."""


# ------------------------------------------------------------------------------------------------------------ model


@dataclass(frozen=True)
class ModelConfig:
    """What config.json says about a model; sizes are counts of units.

    Args:
        context: most tokens (positions) a sequence may have.
        labels: width of the head: the vocabulary of a policy, the number of labels of a verifier.
        end: ids that end a sequence.
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

    @classmethod
    def read(cls, folder: Path) -> ModelConfig:
        """Read ``folder/config.json``; raises `UnsupportedModel` for what the decoder cannot run."""
        try:
            raw: dict[str, Any] = json.loads((folder / "config.json").read_text())
        except FileNotFoundError:
            raise UnsupportedModel(f"{folder} has no config.json: not a folder of a model") from None
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
        )


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
        UnsupportedModel: see `ModelConfig.read`.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self.config = config = ModelConfig.read(folder)
        try:
            raw = load_file(folder / "model.safetensors", device=device)
        except FileNotFoundError:
            raise UnsupportedModel(f"{folder} has no model.safetensors") from None
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

    def run(self, cache: Cache, ids: Tensor, start: Tensor, end: int) -> Tensor:
        """Run new tokens through the model, writing their keys and values into the first rows of a cache.

        Args:
            cache: its row i holds ``start[i]`` positions of sequence i, and has room for ``end``.
            ids: (rows, new) token ids, right-padded at will; rows x new and new > 1 are multiples of `ROWS`.
            start: (rows,) position of each row's first new token.
            end: at least the largest position reached, plus one.

        Returns:
            (rows, new, hidden): normalised hidden states, ready for `logits`.
        """
        config, (rows, new) = self.config, ids.shape
        heads, kv_heads, width = config.heads, config.kv_heads, config.head_dim
        group, length = heads // kv_heads, cache.length
        end = min(-(-end // BLOCK) * BLOCK, length)
        positions = start[:, None] + torch.arange(new, device=self.device)
        rotation = self.rotations[positions][:, :, None]
        mask = torch.zeros(rows, 1, new, end, device=self.device)
        mask.masked_fill_(torch.arange(end, device=self.device) > positions[:, None, :, None], -torch.inf)
        if new > 1 and group > 1:
            mask = mask.repeat_interleave(group, 2)
        lanes = torch.arange(rows * 2 * kv_heads, device=self.device).view(rows, 1, 2 * kv_heads)
        places = (lanes * length + positions[:, :, None]).view(-1)
        split = heads * width
        x = embedding(ids, self.embedding).view(rows * new, config.hidden)
        for layer, kept in zip(self.layers, cache.layers, strict=True):
            qkv = linear(rms_norm(x, (config.hidden,), None, config.epsilon), layer.qkv)
            turned = qkv[:, : split + kv_heads * width].view(rows, new, heads + kv_heads, width // 2, 2)
            torch.view_as_complex(turned).mul_(rotation)
            kept.view(-1, width).index_copy_(0, places, qkv[:, split:].reshape(-1, width))
            query = qkv[:, :split].view(rows, new, kv_heads, group, width)
            query = query.transpose(1, 2).reshape(rows, kv_heads, new * group, width)
            mixed = scaled_dot_product_attention(
                query, kept[:rows, :kv_heads, :end], kept[:rows, kv_heads:, :end], attn_mask=mask
            )
            mixed = mixed.view(rows, kv_heads, new, group * width).transpose(1, 2).reshape(rows * new, split)
            x = torch.addmm(x, mixed, layer.out)
            gate, up = linear(rms_norm(x, (config.hidden,), None, config.epsilon), layer.gate_up).chunk(2, -1)
            x = torch.addmm(x, silu(gate).mul_(up), layer.down)
        return rms_norm(x, (config.hidden,), None, config.epsilon).view(rows, new, config.hidden)

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., hidden) to (..., labels): next-token logits of a policy, label logits of a verifier."""
        return linear(hidden, self.head, self.head_bias)


class Cache:
    """Keys and values of many sequences, one row each: per layer (rows, 2 x kv heads, length, head_dim).

    Rows and length grow by doubling as `reserve` asks; what was written is kept.
    """

    def __init__(self, model: Llama) -> None:
        self.config, self.device = model.config, model.device
        self.rows, self.length = 0, 0
        self.data = torch.empty(0)

    def reserve(self, rows: int, length: int) -> None:
        """Make room for at least so many rows of at least so many positions."""
        if rows <= self.rows and length <= self.length:
            return
        config, old = self.config, self.data
        before = (self.rows, self.length)
        self.rows = self.rows if rows <= self.rows else max(ROWS, 1 << (rows - 1).bit_length())
        self.length = self.length if length <= self.length else max(2 * BLOCK, 1 << (length - 1).bit_length())
        shape = (config.layers, self.rows, 2 * config.kv_heads, self.length, config.head_dim)
        self.data = torch.zeros(shape, device=self.device)  # zeros: what is masked must still be a number
        if before[0]:
            self.data[:, : before[0], :, : before[1]] = old

    @property
    def layers(self) -> Sequence[Tensor]:
        """One tensor per layer."""
        return self.data.unbind(0)

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first positions of a row onto another."""
        self.data[:, target, :, :length] = self.data[:, source, :, :length]


# ----------------------------------------------------------------------------------------------------------- tokens


class Tokens:
    """How a model reads states: each part of a state is tokenised by itself, so that a prefix never changes ids.

    Text cannot forge special tokens: ``<eos>`` inside a question is plain characters.

    Args:
        folder: holds tokenizer.json.
        begin: id put in front of the prompt, if any.
    """

    def __init__(self, folder: Path, begin: int | None) -> None:
        if not (folder / "tokenizer.json").exists():
            raise UnsupportedModel(f"{folder} has no tokenizer.json")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.encode_special_tokens = True
        self.begin: Ids = () if begin is None else (begin,)
        self.encode = lru_cache(maxsize=1 << 16)(self._encode)

    def _encode(self, text: str) -> Ids:
        text = text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair is no text: it becomes "?"
        return tuple(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens left out."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def parts(self, environment: Environment, state: State) -> list[Ids]:
        """The ids of the prompt, then of each step with its observation: `render`, part by part."""
        prompt = self.begin + self.encode(environment.prompt(state.problem))
        return [prompt, *(self.step(environment, step) for step in state.steps)]

    def step(self, environment: Environment, step: Step) -> Ids:
        """The ids of a step, closed by the delimiter, and of its observation."""
        ids = self.encode(step.text + environment.delimiter)
        return ids + self.encode(step.observation + environment.delimiter) if step.observation else ids


# --------------------------------------------------------------------------------------------------- kept prefixes


@dataclass(eq=False)
class Prefix:
    """Keys and values of a token sequence: its own last part, and the prefix before it.

    Args:
        ids: of the whole sequence.
        before: the shorter prefix that this one goes on from.
        data: (layers, 2 x kv heads, own tokens, head_dim).
        note: what the owner wants to remember with it (a verifier: the score of the step that ends here).
    """

    ids: Ids
    before: Prefix | None
    data: Tensor
    note: float = float("nan")
    kept: bool = field(default=True, init=False)

    def chain(self) -> list[Prefix]:
        """The prefixes from the root to this one."""
        found: list[Prefix] = []
        at: Prefix | None = self
        while at is not None:
            found.append(at)
            at = at.before
        return found[::-1]

    def load(self, cache: Cache, first: int, count: int = 1) -> None:
        """Write the whole sequence into each of `count` rows of a cache."""
        whole = torch.cat([prefix.data for prefix in self.chain()], 2) if self.before else self.data
        cache.data[:, first : first + count, :, : len(self.ids)] = whole[:, None]


class Prefixes:
    """Prefixes by scope and token ids, the least recently used dropped first beyond a limit of memory.

    A prefix is never dropped before those that go on from it, so what is counted is what is held.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0
        self._kept: OrderedDict[tuple[str, Ids], Prefix] = OrderedDict()
        self._scopes: dict[str, set[Ids]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, scope: str, ids: Ids) -> Prefix | None:
        """The prefix of exactly these ids, now most recently used (as is all that it goes on from)."""
        found = self._kept.get((scope, ids))
        if found is not None:
            for prefix in reversed(found.chain()):
                self._kept.move_to_end((scope, prefix.ids))
        return found

    def add(self, scope: str, ids: Ids, before: Prefix | None, data: Tensor, note: float = float("nan")) -> Prefix:
        """Keep a prefix; `data` is for the ids that `before` does not cover.

        Returns:
            The prefix: the one that was kept already if there is one; not kept if `before` is no longer.
        """
        found = self.find(scope, ids)
        if found is not None:
            return found
        prefix = Prefix(ids, before, data, note)
        if before is not None and not before.kept:
            prefix.kept = False
            return prefix
        self._kept[scope, ids] = prefix
        self._scopes.setdefault(scope, set()).add(ids)
        self.bytes += _bytes(data)
        self.find(scope, ids)
        while self.bytes > self.limit and self._kept:
            self._remove(*next(iter(self._kept)))
        return prefix

    def drop(self, scope: str) -> None:
        """Free all that a scope keeps."""
        for ids in list(self._scopes.get(scope, ())):
            self._remove(scope, ids)

    def _remove(self, scope: str, ids: Ids) -> None:
        prefix = self._kept.pop((scope, ids))
        prefix.kept = False
        self.bytes -= _bytes(prefix.data)
        self._scopes[scope].discard(ids)
        if not self._scopes[scope]:
            del self._scopes[scope]


def _bytes(data: Tensor) -> int:
    return data.numel() * data.element_size()
