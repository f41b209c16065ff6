"""Keys and values of the rows of a batch, for transformers models: one block a layer that new tokens are written into.

transformers' own `DynamicCache` copies all it holds for every token, and again when a row comes or goes: with 128 rows
of SmolLM2-135M after a prompt of 350 tokens, that took half of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from policies.prefixes import KeysValues

_ROOM = 64  # columns and rows that a new block has to spare


class Rows:
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
        """Columns in use."""
        return self._end - self._start

    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """For each layer the keys and the values, (rows, heads, length, width): views."""
        return [(self._used(k), self._used(v)) for k, v in self._blocks]

    def cache(self) -> Any:
        """What a model goes on from: it writes what it adds here. To be used for one pass."""
        cache = DynamicCache()
        cache.layers = [_Layer(self, at, *held) for at, held in enumerate(self.layers())]
        return cache

    def append(self, sequences: Sequence[tuple[KeysValues, int]]) -> None:
        """Add rows that hold a sequence, each as often as it says."""
        lengths = [layers[0][0].shape[1] for layers, _ in sequences]
        first, length = self.count, max(self.length, *lengths)
        self._reserve(first + sum(times for _, times in sequences), length, 1)
        self._start = self._end - length
        for (layers, times), own in zip(sequences, lengths, strict=True):
            rows, columns = slice(self.count, self.count + times), slice(self._end - own, self._end)
            for block, new in zip(self._blocks, layers, strict=True):
                for old, each in zip(block, new, strict=True):
                    old[rows, :, columns] = each
            self.count += times

    def keep(self, rows: Sequence[int], length: int) -> list[int]:
        """Let all rows but some go, and all columns but the last ones.

        Returns:
            Which row each of those left was: the last ones take the places of those that go.
        """
        kept = set(rows)
        self._start = self._end - length
        places = [row for row in range(len(rows)) if row not in kept]
        moved = [row for row in range(len(rows), self.count) if row in kept]
        for block in self._blocks:
            for each in block:
                for place, row in zip(places, moved, strict=True):
                    each[place, :, self._start : self._end] = each[row, :, self._start : self._end]
        self.count = len(rows)
        return [dict(zip(places, moved, strict=True)).get(row, row) for row in range(len(rows))]

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
    """A layer of `Rows`, as transformers sees it."""

    def __init__(self, rows: Rows, at: int, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.keys, self.values = keys, values
        self.is_initialized = True
        self._rows, self._at = rows, at

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the new keys and values; all there are."""
        self.keys, self.values = self._rows.write(self._at, key_states, value_states)
        return self.keys, self.values
