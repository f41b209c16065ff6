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
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import embedding, linear, rms_norm, scaled_dot_product_attention, silu

from envs.core import Environment, Reviser, State, Step, opening
from envs.prefixes import Ids, KeptPrefix, PrefixTree
from envs.pretrained import UnusableModel, check_tokenizer, panics, said

ROWS = 4  # the fewest rows of a matrix product, and what new tokens are padded to a multiple of
BLOCK = 16  # keys are attended in multiples of this
MOST = 1 << 20  # of any size of a model
MOST_ANGLES = 1 << 26  # positions times numbers of a head


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
            raw: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UnsupportedModel(f"{folder} has no config.json: not a folder of a model") from None
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


class Decoder(Protocol):
    """What `Cache` and `Prefixes` need of a model: `Llama`, or another one that lets them do its attention.

    Attributes:
        config: the sizes that keys and values are laid out by.
        device: where it runs.
        dtype: of keys and values.
    """

    config: Any
    device: torch.device
    dtype: torch.dtype

    def run(self, keys: Rows | Pages, ids: Tensor, positions: Tensor, wanted: Tensor | None = None) -> Tensor:
        """Run new tokens through the model, as `Llama.run` does."""
        ...


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

    def run(self, keys: Rows | Pages, ids: Tensor, positions: Tensor, wanted: Tensor | None = None) -> Tensor:
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
        if not found.is_floating_point() or not bool(found.isfinite().all()):
            raise UnsupportedModel(f"{folder}: {name} holds what is no finite number")
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


# -------------------------------------------------------------------------------------------------- keys and values


class Cache:
    """Keys and values of sequences that grow token by token, one row each: (layers, rows, length, 2 x kv heads x d).

    Rows and length grow by doubling as `reserve` asks; what was written is kept.
    """

    def __init__(self, model: Decoder) -> None:
        self.config, self.device, self.dtype = model.config, model.device, model.dtype
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
        shape = (config.layers, self.rows, self.length, 2 * config.kv_heads * config.head_dim)
        self.data = torch.zeros(
            shape, dtype=self.dtype, device=self.device
        )  # zeros: what is masked must still be a number
        if before[0]:
            self.data[:, : before[0], : before[1]] = old

    def move(self, sources: Sequence[int], targets: Sequence[int], length: int) -> None:
        """Copy the first positions of rows onto others."""
        data = _plain(self.data)
        data[:, list(targets), :length] = data[:, list(sources), :length]


class Rows:
    """Attention of one new token in each of the first rows of a cache.

    Args:
        cache: its row i holds ``start[i]`` positions of sequence i, and has room for ``end``.
        start: (rows,) position of each row's new token, at least `ROWS` rows.
        end: at least the largest position, plus one.
    """

    def __init__(self, cache: Cache, start: Tensor, end: int) -> None:
        self.config, self.cache, self.rows = cache.config, cache, len(start)
        self.end = _up(end, BLOCK)
        self.places = torch.arange(self.rows, device=start.device), start
        self._masks: dict[int | None, Tensor] = {}

    def attend(self, layer: int, query: Tensor, new: Tensor, window: int | None = None) -> Tensor:
        """Write new keys and values, (rows, 2 x kv heads x d); mix values for queries and give them their shape.

        Keys further back than a window, if there is one, are not seen.
        """
        config, data = self.config, self.cache.data[layer]
        if window not in self._masks:
            self._masks[window] = _mask(self.places[1][:, None], self.end, data.dtype, window)
        data[self.places] = new
        query = query.view(self.rows, config.kv_heads, config.heads // config.kv_heads, config.head_dim)
        return _attend(config, query, data[: self.rows, : self.end], self._masks[window]).reshape(self.rows, -1)


class Pages:
    """Attention of several new tokens of each of some sequences whose keys and values lie anywhere in a pool.

    Args:
        pool: (layers, slots, 2 x kv heads x d), finite wherever `table` points.
        places: (tokens,) slots of the new tokens' own keys and values.
        table: (sequences, end) slots of each sequence's positions, slot 0 beyond its last; `end` in whole blocks.
        index: (tokens,) of each new token in a grid of sequences x `new`, which is ``(sequence, position - start)``.
        start: (sequences,) position of each sequence's first new token.
        new: most new tokens of a sequence, a multiple of `ROWS`.
    """

    def __init__(
        self, config: Any, pool: Tensor, places: Tensor, table: Tensor, index: Tensor, start: Tensor, new: int
    ) -> None:
        self.config, self.pool, self.places, self.table, self.index = config, pool, places, table, index
        self.start, self.new = start, new
        self._masks: dict[int | None, Tensor] = {}

    def _mask(self, window: int | None) -> Tensor:
        if window not in self._masks:
            positions = self.start[:, None] + torch.arange(self.new, device=self.start.device)
            mask = _mask(positions, self.table.shape[1], self.pool.dtype, window)
            self._masks[window] = mask.repeat_interleave(self.config.heads // self.config.kv_heads, 2)
        return self._masks[window]

    @cached_property
    def _grid(self) -> Tensor:
        """Queries, zero where there are none."""
        config = self.config
        width = config.heads * config.head_dim
        return torch.zeros(len(self.table) * self.new, width, dtype=self.pool.dtype, device=self.pool.device)

    def attend(self, layer: int, query: Tensor, new: Tensor, window: int | None = None) -> Tensor:
        """Write new keys and values, (tokens, 2 x kv heads x d); mix values for queries and give them their shape.

        Keys further back than a window, if there is one, are not seen.
        """
        config, pool, (rows, end) = self.config, self.pool[layer], self.table.shape
        heads, width, group = config.kv_heads, config.head_dim, config.heads // config.kv_heads
        pool[self.places] = new
        self._grid[self.index] = query
        spread = self._grid.view(rows, self.new, heads, group, width).transpose(1, 2)
        kept = pool.index_select(0, self.table.view(-1)).view(rows, end, -1)
        mixed = _attend(config, spread.reshape(rows, heads, self.new * group, width), kept, self._mask(window))
        mixed = mixed.view(rows, heads, self.new, group * width).transpose(1, 2)
        return mixed.reshape(rows * self.new, -1)[self.index]


def _attend(config: Any, query: Tensor, kept: Tensor, mask: Tensor) -> Tensor:
    """Attention of (rows, kv heads, queries, d) to (rows, end, 2 x kv heads x d)."""
    keys, values = kept.view(*kept.shape[:2], 2, config.kv_heads, config.head_dim).permute(2, 0, 3, 1, 4)
    return scaled_dot_product_attention(query, keys, values, attn_mask=mask)


def _mask(positions: Tensor, end: int, dtype: torch.dtype, window: int | None) -> Tensor:
    """What hides the keys after (rows, new) positions, and those a window or more before: (rows, 1, new, end)."""
    keys, own = torch.arange(end, device=positions.device), positions[:, None, :, None]
    hidden = keys > own
    if window is not None:
        hidden |= keys <= own - window
    return torch.zeros(hidden.shape, dtype=dtype, device=positions.device).masked_fill_(hidden, -torch.inf)


def _plain(tensor: Tensor) -> Any:
    """The same memory as an array where numpy has it, which writes small blocks in half the time; else the tensor."""
    return tensor.numpy() if tensor.device.type == "cpu" and tensor.dtype != torch.bfloat16 else tensor


def _up(count: int, multiple: int) -> int:
    """The least multiple that is not below a count."""
    return -(-count // multiple) * multiple


def spans(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ranges one after another: starts (5, 9) and counts (2, 3) give 5, 6, 9, 10, 11."""
    ends: NDArray[np.int64] = counts.cumsum()
    ranges: NDArray[np.int64] = np.arange(ends[-1]) + np.repeat(starts - ends + counts, counts)
    return ranges


# ----------------------------------------------------------------------------------------------------------- tokens


class Tokens:
    """How a model reads states: each part of a state is tokenised by itself, so that a prefix never changes ids.

    Text cannot forge special tokens: ``<eos>`` inside a question is plain characters.

    Args:
        folder: holds tokenizer.json.
        begin: id put in front of the prompt, if any.
        vocabulary: tokens that the model knows, if that is to be looked at.

    Raises:
        UnsupportedModel: when there is no tokenizer, it cannot be used, or it has more tokens than the model.
    """

    def __init__(self, folder: Path, begin: int | None, vocabulary: int | None = None) -> None:
        if not (folder / "tokenizer.json").exists():
            raise UnsupportedModel(f"{folder} has no tokenizer.json")
        self.folder = folder
        try:
            check_tokenizer(folder)
            with panics(folder):
                self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except UnusableModel as error:
            raise UnsupportedModel(str(error)) from None
        except Exception as error:  # the library raises plain `Exception` for what it cannot read
            raise UnsupportedModel(f"the tokenizer in {folder} cannot be read: {said(error)}") from None
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.tokenizer.encode_special_tokens = True
        most = max(self.tokenizer.get_vocab(with_added_tokens=False).values(), default=-1) + 1
        if most < 1 or (vocabulary is not None and most > vocabulary):
            raise UnsupportedModel(f"the tokenizer in {folder} has {most} tokens; its model knows {vocabulary}")
        self.begin: Ids = () if begin is None else (begin,)
        self.encode = lru_cache(maxsize=1 << 16)(self._encode)

    def _encode(self, text: str) -> Ids:
        text = text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair is no text: it becomes "?"
        with panics(self.folder):
            return tuple(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens left out."""
        with panics(self.folder):
            return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def parts(self, environment: Environment, state: State) -> list[Ids]:
        """The ids of the opening, attempt by attempt, then of each step with its observation: `render`, in parts."""
        steps = [self.step(environment, step) for step in state.steps]
        if state.attempts and isinstance(environment, Reviser):
            return [self.begin + self.encode(opening(environment, state)), *steps]
        prompt = self.encode(environment.prompt(state.problem))
        shown = [part for attempt in state.attempts for part in self._attempt(environment, prompt, attempt)]
        first, *rest = [*shown, prompt]
        return [self.begin + first, *rest, *steps]

    def _attempt(self, environment: Environment, prompt: Ids, attempt: Sequence[Step]) -> list[Ids]:
        return [prompt, *(self.step(environment, step) for step in attempt)]

    def step(self, environment: Environment, step: Step) -> Ids:
        """The ids of a step, closed by the delimiter, and of its observation."""
        ids = self.encode(step.text + environment.delimiter)
        return ids + self.encode(step.observation + environment.delimiter) if step.observation else ids


# --------------------------------------------------------------------------------------------------- kept prefixes


@dataclass(eq=False, slots=True)
class Prefix(KeptPrefix):
    """A prefix whose keys and values lie in a pool.

    Args:
        slots: where its own tokens lie.
        note: what the owner wants to remember with it (a verifier: the score of the step that ends here).
    """

    slots: NDArray[np.int64]
    note: Any = None
    _path: NDArray[np.int64] | None = field(default=None, init=False, repr=False)

    @property
    def path(self) -> NDArray[np.int64]:
        """Where all its tokens lie in the pool."""
        if self._path is None:
            self._path = np.concatenate([self.before.path, self.slots]) if self.before else self.slots
        return self._path


class Tail:
    """Tokens to run: the parts that end `keys`, each of which goes on from the one before it, after a prefix.

    Attributes:
        start: tokens that are kept already.
        length: tokens to run.
    """

    __slots__ = ("before", "keys", "length", "scope", "start")

    def __init__(self, scope: str, before: Prefix | None, keys: tuple[Ids, ...]) -> None:
        self.scope, self.before, self.keys = scope, before, keys
        self.start = len(before.ids) if before else 0
        self.length = len(keys[-1]) - self.start


class Prefixes(PrefixTree[Prefix]):
    """Prefixes in one pool of slots.

    Args:
        model: what runs them.
        limit: bytes.
    """

    def __init__(self, model: Decoder, limit: int) -> None:
        super().__init__(limit)
        config = model.config
        self.model = model
        # a slot per token; slot 0 is nobody's and stays zero: the tables of short sequences point there
        width = 2 * config.kv_heads * config.head_dim
        self.pool = torch.zeros(config.layers, 1, width, dtype=model.dtype, device=model.device)
        self._free: NDArray[np.int64] = np.zeros(0, np.int64)  # a stack: the first `_left` are free
        self._left = 0

    @property
    def bytes(self) -> int:
        """Memory of all that is kept."""
        layers, slots, width = self.pool.shape
        return (slots - 1 - self._left) * layers * width * self.pool.element_size()

    def store(self, tails: Sequence[Tail], cache: Cache, rows: Sequence[int]) -> None:
        """Keep tails that were run already: rows of a cache hold them, with all that is before them."""
        starts = np.array([tail.start for tail in tails])
        counts = np.array([tail.length for tail in tails])
        slots = self._allot(int(counts.sum()))
        source = self._tensor(spans(np.array(rows) * cache.length + starts, counts))
        self.pool.index_copy_(1, self._tensor(slots), cache.data.flatten(1, 2).index_select(1, source))
        self._keep(tails, counts, slots)

    def load(self, prefixes: Sequence[tuple[Prefix, Sequence[int]]], cache: Cache) -> None:
        """Write whole sequences into rows of a cache, each into its own."""
        if not prefixes:
            return
        found = self.pool.index_select(1, self._tensor(np.concatenate([prefix.path for prefix, _ in prefixes])))
        source, target, first = _plain(found), _plain(cache.data), 0
        for prefix, rows in prefixes:
            length = len(prefix.path)
            target[:, rows, :length] = source[:, None, first : first + length]
            first += length

    def extend(self, tails: Sequence[Tail], wanted: Sequence[int] = ()) -> tuple[list[list[Prefix]], Tensor]:
        """Run tails in one pass, and keep them.

        Args:
            tails: what to run.
            wanted: the tokens whose hidden states are wanted, counted over the tails one after another.

        Returns:
            For each tail a prefix for each of its keys, and the hidden states (wanted, hidden).
        """
        starts = np.array([tail.start for tail in tails])
        counts = np.array([tail.length for tail in tails])
        total, rows = int(counts.sum()), np.arange(len(tails))
        new, end = _up(int(counts.max()), ROWS), _up(int((starts + counts).max()), BLOCK)
        slots = self._allot(total)
        table = np.zeros((len(tails), end), np.int64)
        flat, index = table.reshape(-1), spans(rows * new, counts)
        paths = [tail.before.path for tail in tails if tail.before is not None]
        flat[spans(rows * end, starts)] = np.concatenate([slots[:0], *paths])
        flat[spans(rows * end + starts, counts)] = slots
        ids = np.fromiter(chain.from_iterable(tail.keys[-1][tail.start :] for tail in tails), np.int64, total)
        # below `ROWS` tokens the last is repeated, which changes nothing
        tokens = [slots, index, ids, spans(starts, counts)]
        padded = np.minimum(np.arange(max(ROWS, total)), total - 1)
        places, index, ids, positions = (each[padded] for each in tokens)
        pages = Pages(
            self.model.config, self.pool, self._tensor(places), self._tensor(table), self._tensor(index),
            self._tensor(starts), new,
        )  # fmt: skip
        which = self._tensor(np.resize(np.array(wanted, np.int64), max(ROWS, len(wanted))))
        hidden = self.model.run(pages, self._tensor(ids), self._tensor(positions), which)
        return self._keep(tails, counts, slots), hidden[: len(wanted)]

    def _keep(self, tails: Sequence[Tail], counts: NDArray[np.int64], slots: NDArray[np.int64]) -> list[list[Prefix]]:
        """The prefixes of tails whose keys and values are in slots, one tail after another."""
        made, first = [], 0
        for tail, count in zip(tails, counts.tolist(), strict=True):
            prefixes, before, start = [], tail.before, first - tail.start
            for key in tail.keys:
                at = len(before.ids) if before else 0
                before = self._add(Prefix(tail.scope, key, before, slots[start + at : start + len(key)]))
                prefixes.append(before)
            made.append(prefixes)
            first += count
        return made

    def _first(self, prefix: Prefix, length: int) -> Prefix:
        count = length - (len(prefix.before.ids) if prefix.before else 0)
        first = Prefix(prefix.scope, prefix.ids[:length], prefix.before, prefix.slots[:count])
        prefix.slots = prefix.slots[count:]
        return first

    def _tensor(self, array: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(array).to(self.pool.device)

    def _allot(self, count: int) -> NDArray[np.int64]:
        if count > self._left:
            layers, slots, width = self.pool.shape
            more = max(count - self._left, slots)
            self.pool = torch.cat([self.pool, self.pool.new_empty(layers, more, width)], 1)
            free = np.concatenate([self._free[: self._left], np.arange(slots, slots + more)])
            self._left = len(free)
            self._free = np.pad(free, (0, slots + more - len(free)))
        self._left -= count
        return self._free[self._left : self._left + count].copy()

    def _release(self, prefixes: Sequence[Prefix]) -> None:
        slots = np.concatenate([prefix.slots for prefix in prefixes])
        self._free[self._left : self._left + len(slots)] = slots
        self._left += len(slots)
