"""Keys and values of a decoder: rows of a batch, pages of prefixes, and attention over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from policies.models.prefix_tree import Extension, KeptPrefix, PrefixTree

ROWS = 4  # the fewest rows of a matrix product, and what new tokens are padded to a multiple of
BLOCK = 16  # keys are attended in multiples of this
_PREFILL = 4096  # most tokens of one prefill pass, padding included
_LOOK_BACK = 4  # steps of a search by which the sequences of two rows that are worth pairing differ, at most


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

    def run(
        self, keys: DecodeRows | PagedPrefill, ids: Tensor, positions: Tensor, wanted: Tensor | None = None
    ) -> Tensor:
        """Run new tokens through the model, as `Llama.run` does."""
        ...


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

    def move(self, source: int, target: int, start: int, end: int) -> None:
        """Copy positions of a row onto another."""
        data = _plain(self.data)
        data[:, target, start:end] = data[:, source, start:end]


class DecodeRows:
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


class PagedPrefill:
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

    def store(self, tails: Sequence[Extension[Prefix]], cache: Cache, rows: Sequence[int]) -> list[list[Prefix]]:
        """Keep tails that were run already: rows of a cache hold them, with all that is before them.

        Returns:
            For each tail a prefix for each of its keys.
        """
        starts = np.array([tail.start for tail in tails])
        counts = np.array([tail.length for tail in tails])
        slots = self._allot(int(counts.sum()))
        source = self._tensor(spans(np.array(rows) * cache.length + starts, counts))
        self.pool.index_copy_(1, self._tensor(slots), cache.data.flatten(1, 2).index_select(1, source))
        return self._keep(tails, counts, slots)

    def load(self, prefixes: Sequence[tuple[Prefix, Sequence[int], int]], cache: Cache) -> None:
        """Write sequences into rows of a cache, each into its own, from a position on: what is before is there."""
        if not prefixes:
            return
        paths = [prefix.path[start:] for prefix, _, start in prefixes]
        found = self.pool.index_select(1, self._tensor(np.concatenate(paths)))
        source, target, first = _plain(found), _plain(cache.data), 0
        for (_, rows, start), path in zip(prefixes, paths, strict=True):
            length = len(path)
            target[:, rows, start : start + length] = source[:, None, first : first + length]
            first += length

    def extend(
        self, tails: Sequence[Extension[Prefix]], wanted: Sequence[int] = ()
    ) -> tuple[list[list[Prefix]], Tensor]:
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
        pages = PagedPrefill(
            self.model.config, self.pool, self._tensor(places), self._tensor(table), self._tensor(index),
            self._tensor(starts), new,
        )  # fmt: skip
        which = self._tensor(np.resize(np.array(wanted, np.int64), max(ROWS, len(wanted))))
        hidden = self.model.run(pages, self._tensor(ids), self._tensor(positions), which)
        return self._keep(tails, counts, slots), hidden[: len(wanted)]

    def _keep(
        self, tails: Sequence[Extension[Prefix]], counts: NDArray[np.int64], slots: NDArray[np.int64]
    ) -> list[list[Prefix]]:
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


# ------------------------------------------------------------------------------------------------- a model that writes


class CausalDecoder(Decoder, Protocol):
    """A decoder with the head of a language model."""

    def logits(self, hidden: Tensor) -> Tensor:
        """(n, hidden) to (n, vocabulary), float32."""
        ...


class CachedDecoder:
    """A decoder with rows and prefixes: a `policies.generation.batch.DecodeModel`.

    A row that samples left still holds what they had read. The next one is given a row that holds the most of what it
    goes on from, and only the rest is copied: otherwise copying would take longer with every step of a search.

    Args:
        model: what runs.
        memory: bytes of prefixes.
    """

    keeps_steps = False  # of small models: copying a row takes longer than running a step again, which is seldom needed

    def __init__(self, model: CausalDecoder, memory: int) -> None:
        self.model = model
        self.prefixes = Prefixes(model, memory)
        self._cache = Cache(model)
        self._held: dict[int, Prefix] = {}  # by row: a prefix whose keys and values it holds, to the last bit

    def prefill(self, work: Sequence[Extension[Prefix]]) -> list[Prefix]:
        """Run tokens in common passes, those of like length together, as the shorter ones are padded."""
        made: dict[int, Prefix] = {}
        lacking = sorted(range(len(work)), key=lambda index: work[index].length)
        while lacking:
            most = max(1, _PREFILL // work[lacking[-1]].length)
            batch = lacking[: -most - 1 : -1]
            del lacking[-most:]
            prefixes, _ = self.prefixes.extend([work[index] for index in batch])
            made |= {index: each[-1] for index, each in zip(batch, prefixes, strict=True)}
        return [made[index] for index in range(len(work))]

    def arrange(self, prefixes: Sequence[Prefix | None], rows: Sequence[int]) -> list[int]:
        """Give each of some prefixes one of as many rows, if possible one that holds most of it already."""
        holding: dict[Prefix, list[int]] = {}  # rows by what they hold
        for row in rows:
            node = self._held.get(row)
            for _ in range(_LOOK_BACK):
                if node is None:
                    break
                holding.setdefault(node, []).append(row)
                node = node.before
        free, chosen = dict.fromkeys(rows), dict[int, int]()
        wanted = list(prefixes)
        for _ in range(_LOOK_BACK):
            for index, node in enumerate(wanted):
                if node is None:
                    continue
                there = [row for row in holding.pop(node, ()) if row in free]
                if there:
                    chosen[index] = there.pop()
                    del free[chosen[index]]
                    holding[node] = there
                wanted[index] = None if index in chosen else node.before
        left = iter(free)
        return [chosen[index] if index in chosen else next(left) for index in range(len(prefixes))]

    def load(self, places: Sequence[tuple[Prefix | None, Sequence[int]]], rows: int, length: int) -> None:
        """Write prefixes into rows."""
        self._cache.reserve(rows, length + 1)
        work: list[tuple[Prefix, Sequence[int], int]] = []
        for prefix, own in places:
            starts: dict[int, list[int]] = {}  # rows by how much they hold of it
            for row in own:
                starts.setdefault(_common(prefix, self._held.pop(row, None)), []).append(row)
            if prefix is not None:
                self._held.update(dict.fromkeys(own, prefix))
                work += [(prefix, there, start) for start, there in starts.items() if start < len(prefix.ids)]
        self.prefixes.load(work, self._cache)

    def move(self, sources: Sequence[int], targets: Sequence[int], lengths: Sequence[int]) -> None:
        """Copy the first tokens of rows onto others."""
        for source, target, length in zip(sources, targets, lengths, strict=True):
            held = self._held.get(source)
            self._cache.move(source, target, _common(held, self._held.pop(target, None)), length)
            if held is not None:
                self._held[target] = held

    def shrink(self, rows: int, length: int) -> None:
        """Nothing to do: rows beyond those in use are left alone."""

    def decode(self, last: NDArray[np.int64], start: NDArray[np.int64]) -> Tensor:
        """Run a token of each row; see `policies.generation.batch.DecodeModel`."""
        count, end = len(last), int(start.max()) + 1
        if count < ROWS:  # rows that pad the batch write at position 0 of cache rows that nobody has
            last, start = (np.concatenate([each, np.zeros(ROWS - count, np.int64)]) for each in (last, start))
            for row in range(count, ROWS):
                self._held.pop(row, None)
        self._cache.reserve(len(last), end)
        ids, positions = (torch.from_numpy(each).to(self.model.device) for each in (last, start))
        return self.model.logits(self.model.run(DecodeRows(self._cache, positions, end), ids, positions))[:count]

    def store(self, work: Sequence[Extension[Prefix]], rows: Sequence[int]) -> None:
        """Keep what rows hold."""
        kept: set[Prefix] = set()
        for row, (*_, prefix) in zip(rows, self.prefixes.store(work, self._cache, rows), strict=True):
            if prefix not in kept:  # otherwise it is made of another row
                self._held[row] = prefix
                kept.add(prefix)

    def clear(self) -> None:
        """Forget all kept prefixes and free the cache."""
        self.prefixes = Prefixes(self.model, self.prefixes.limit)
        self._cache = Cache(self.model)
        self._held.clear()


def _common(one: Prefix | None, other: Prefix | None) -> int:
    """Tokens of the longest prefix that two have in common."""
    if one is None or other is None or one.scope != other.scope:
        return 0
    while one is not other:
        if len(one.ids) < len(other.ids):
            one, other = other, one
        if one.before is None:
            return 0
        one = one.before
    return len(one.ids)
