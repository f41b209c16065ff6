"""Keys and values of transformers models: of kept prefixes, and of the rows of a batch.

A prefix holds its own last part only; its siblings share what is before them. The rows are one block a layer that new
tokens are written into: transformers' own `DynamicCache` copies all it holds for every token, and again when a row
comes or goes. With 128 rows of SmolLM2-135M after a prompt of 350 tokens, that took half of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from policies.models.prefix_tree import Extension, Ids, KeptPrefix, PrefixTree

_CHUNK = 2048  # most tokens of one prefill pass
_ROOM = 64  # columns and rows that a new block has to spare

KeysValues = Sequence[tuple[Tensor, Tensor]]
"""For each layer the keys and the values of a sequence, (heads, tokens, width) each."""


@dataclass(eq=False, slots=True)
class HfPrefix(KeptPrefix):
    """A prefix with its keys and values.

    Args:
        own: keys and values of the tokens that it has more than the prefix before it.
    """

    own: KeysValues

    @property
    def bytes(self) -> int:
        """Memory of its own part."""
        return sum(tensor.numel() * tensor.element_size() for layer in self.own for tensor in layer)

    def whole(self) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of the whole sequence."""
        path: list[KeysValues] = []
        at: HfPrefix | None = self
        while at is not None:
            path.append(at.own)
            at = at.before
        layers = zip(*reversed(path), strict=True)
        return [(torch.cat([k for k, _ in parts], 1), torch.cat([v for _, v in parts], 1)) for parts in layers]


class HfPrefixes(PrefixTree[HfPrefix]):
    """Prefixes, each with tensors of its own."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """Memory of all that is kept."""
        return self._bytes

    def add(self, scope: str, ids: Ids, before: HfPrefix | None, own: KeysValues) -> HfPrefix:
        """Keep a prefix, unless it is kept already, or what is before it is not any more."""
        made = HfPrefix(scope, ids, before, own)
        if before is not None and not before.kept:
            made.kept = False
            return made
        self._bytes += made.bytes
        return self._add(made)

    def _first(self, prefix: HfPrefix, length: int) -> HfPrefix:
        count = length - (len(prefix.before.ids) if prefix.before else 0)
        # copies: a view would hold on to the memory of the whole
        own = [(k[:, :count].clone(), v[:, :count].clone()) for k, v in prefix.own]
        prefix.own = [(k[:, count:].clone(), v[:, count:].clone()) for k, v in prefix.own]
        return HfPrefix(prefix.scope, prefix.ids[:length], prefix.before, own)

    def _release(self, prefixes: Sequence[HfPrefix]) -> None:
        self._bytes -= sum(prefix.bytes for prefix in prefixes)


class PaddedRows:
    """Rows that end in the same column, padded on the left with what a mask must hide.

    Args:
        none: for each layer keys and values of no tokens, (heads, 0, width), which tell the shapes.
    """

    def __init__(self, none: KeysValues) -> None:
        self.count = 0
        self._start = self._end = 0  # columns in use
        # zeros, not what lies about in memory: masked or not, a NaN among the values would spread
        self._blocks = [(k.new_zeros(0, *k.shape), v.new_zeros(0, *v.shape)) for k, v in none]

    @property
    def length(self) -> int:
        """Number of columns (positions) in use; all rows have as many."""
        return self._end - self._start

    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """For each layer the keys and the values, (rows, heads, length, width): views."""
        return [(self._used(k), self._used(v)) for k, v in self._blocks]

    def cache(self) -> Any:
        """What a model goes on from: it writes what it adds here. To be used for one pass."""
        cache = DynamicCache()
        cache.layers = [_Layer(self, at, *held) for at, held in enumerate(self.layers())]
        return cache

    def load(self, places: Sequence[tuple[KeysValues, Sequence[int]]], count: int, length: int) -> None:
        """Write sequences into rows.

        Args:
            places: sequences, each with its rows; rows beyond those there were are added.
            count: rows there are then.
            length: columns that are in use then.
        """
        self._reserve(count, length, 1)
        self.count, self._start = count, self._end - length
        for layers, own in places:
            first = self._end - layers[0][0].shape[1]
            rows = slice(own[0], own[-1] + 1) if own[-1] - own[0] == len(own) - 1 else list(own)
            for block, new in zip(self._blocks, layers, strict=True):
                for old, each in zip(block, new, strict=True):
                    old[rows, :, first : self._end] = each

    def move(self, sources: Sequence[int], targets: Sequence[int], lengths: Sequence[int]) -> None:
        """Copy the last columns of rows onto others."""
        for block in self._blocks:
            for each in block:
                for source, target, length in zip(sources, targets, lengths, strict=True):
                    each[target, :, self._end - length : self._end] = each[source, :, self._end - length : self._end]

    def shrink(self, count: int, length: int) -> None:
        """Let all but the first rows go, and all but the last columns."""
        self.count, self._start = count, self._end - length

    def write(self, at: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add the keys and values of new tokens, (rows, heads, tokens, width), to a layer; all that it holds."""
        if at == 0:
            self._reserve(self.count, self.length, keys.shape[2])
            self._end += keys.shape[2]
        for old, new in zip(self._blocks[at], (keys, values), strict=True):
            old[: self.count, :, self._end - new.shape[2] : self._end] = new
        return self._used(self._blocks[at][0]), self._used(self._blocks[at][1])

    def _used(self, block: Tensor) -> Tensor:
        return block[: self.count, :, self._start : self._end]

    def _reserve(self, rows: int, length: int, more: int) -> None:
        """Have room for rows, for a length up to the common end, and for more columns after it."""
        have, _, columns, _ = self._blocks[0][0].shape
        if rows <= have and length <= self._end and self._end + more <= columns:
            return
        have, end = (rows if rows <= have else rows + _ROOM), max(length, self.length)
        blocks = []
        for block in self._blocks:
            grown = []
            for each in block:
                new = each.new_zeros(have, each.shape[1], end + more + _ROOM, each.shape[3])
                new[: self.count, :, end - self.length : end] = self._used(each)
                grown.append(new)
            blocks.append((grown[0], grown[1]))
        self._blocks, self._start, self._end = blocks, end - self.length, end


class _Layer(DynamicLayer):  # type: ignore[misc]
    """A layer of `PaddedRows`, as transformers sees it."""

    def __init__(self, rows: PaddedRows, at: int, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.keys, self.values = keys, values
        self.is_initialized = True
        self._rows, self._at = rows, at

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the new keys and values; all there are."""
        self.keys, self.values = self._rows.write(self._at, key_states, value_states)
        return self.keys, self.values


# ------------------------------------------------------------------------------------------------- a model that writes


class CachedTransformer:
    """A transformers model with rows and prefixes: a `policies.generation.batch.DecodeModel`.

    Args:
        run: runs new tokens of rows after what a cache holds: (cache, ids, position of the first of each row) to the
            (rows, vocabulary) logits after the last.
        none: as of `PaddedRows`.
        memory: bytes of prefixes.
    """

    keeps_steps = True

    def __init__(
        self, run: Callable[[Any, Sequence[Sequence[int]], Sequence[int]], Tensor], none: KeysValues, memory: int
    ) -> None:
        self._run, self._none = run, none
        self.prefixes = HfPrefixes(memory)
        self._rows = PaddedRows(none)

    def prefill(self, work: Sequence[Extension[HfPrefix]]) -> list[HfPrefix]:
        """Run tokens, each sequence by itself, so that its numbers do not depend on others."""
        return [self._prefill(each) for each in work]

    def _prefill(self, work: Extension[HfPrefix]) -> HfPrefix:
        ids, known = work.keys[-1], work.start
        cache = cache_of((k[None], v[None]) for k, v in self._whole(work.before))
        for start in range(known, len(ids), _CHUNK):
            self._run(cache, [ids[start : start + _CHUNK]], [start])
        own = [(k[0, :, known:].clone(), v[0, :, known:].clone()) for k, v in layers_of(cache)]
        return self.prefixes.add(work.scope, ids, work.before, own)

    def arrange(self, prefixes: Sequence[HfPrefix | None], rows: Sequence[int]) -> list[int]:
        """Any order will do: sequences end in the same column, so that what a row held lies elsewhere by now."""
        return list(rows)

    def load(self, places: Sequence[tuple[HfPrefix | None, Sequence[int]]], rows: int, length: int) -> None:
        """Write prefixes into rows."""
        self._rows.load([(self._whole(prefix), own) for prefix, own in places], rows, length)

    def move(self, sources: Sequence[int], targets: Sequence[int], lengths: Sequence[int]) -> None:
        """Copy what rows hold onto others."""
        self._rows.move(sources, targets, lengths)

    def shrink(self, rows: int, length: int) -> None:
        """Only the first rows are in use now, and of these at most so many tokens."""
        self._rows.shrink(rows, length)

    def decode(self, last: NDArray[np.int64], start: NDArray[np.int64]) -> Tensor:
        """Run a token of each row; see `policies.generation.batch.DecodeModel`."""
        return self._run(self._rows.cache(), last[:, None].tolist(), start.tolist())

    def store(self, work: Sequence[Extension[HfPrefix]], rows: Sequence[int]) -> None:
        """Keep what rows hold."""
        for each, row in zip(work, rows, strict=True):
            first = self._rows.length - each.length
            own = [(k[row, :, first:].clone(), v[row, :, first:].clone()) for k, v in self._rows.layers()]
            self.prefixes.add(each.scope, each.keys[-1], each.before, own)

    def clear(self) -> None:
        """Forget all kept prefixes and free the cache."""
        self.prefixes = HfPrefixes(self.prefixes.limit)
        self._rows = PaddedRows(self._none)

    def _whole(self, prefix: HfPrefix | None) -> KeysValues:
        return prefix.whole() if prefix is not None else self._none


def cache_of(layers: Iterable[tuple[Tensor, Tensor]]) -> Any:
    """A cache of transformers that holds keys and values, (rows, heads, length, width) for each layer."""
    cache = DynamicCache()
    for at, (keys, values) in enumerate(layers):
        cache.update(keys, values, at)
    return cache


def layers_of(cache: Any) -> list[tuple[Tensor, Tensor]]:
    """What a cache holds, as `cache_of` takes it."""
    return [(layer.keys, layer.values) for layer in cache.layers]
