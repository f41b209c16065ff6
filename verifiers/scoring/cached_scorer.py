"""Runs what verifiers read: each part of a text once per search, in common passes.

Texts are given as `Path`s. The keys and values of a part are kept for its scope (`policies.models.kv_cache.Prefixes`),
with what was read there, so that scoring a child runs only the child's last step. What a score is read from is a
`Reader`'s matter.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from policies.memory_traffic import position_size
from policies.models.beliefs import deviation
from policies.models.kv_cache import Decoder, Prefix, Prefixes
from policies.models.prefix_tree import Extension, Ids
from verifiers.scoring.score_layout import Path, Reading

ROUNDED = 5  # decimals of a score: ties stay ties where the last bits differ


class Part(NamedTuple):
    """Tokens ``start`` to ``end`` of a text, which end one of its keys.

    Args:
        ids: up to the end.
        start: how many of them are before the part.
        read: the position whose output is a score, or -1.
    """

    ids: Ids
    start: int
    read: int

    @property
    def reads(self) -> tuple[int, ...]:
        """The position whose output is a score, if there is one."""
        return () if self.read < 0 else (self.read,)


@dataclass(frozen=True)
class Spent:
    """What it took to read.

    Args:
        tokens: that were run.
        flops: 2 x parameters x tokens.
        weights: numbers of weights read; what is read for one request shares its passes, so that sums take the largest.
        keys: numbers of keys and values read.
    """

    tokens: int = 0
    flops: float = 0.0
    weights: float = 0.0
    keys: float = 0.0

    @classmethod
    def once(cls, parameters: int, tokens: int, keys: float = 0.0) -> Spent:
        """What one pass over so many tokens takes."""
        return cls(tokens, 2.0 * parameters * tokens, float(parameters * bool(tokens)), keys)

    @property
    def reads(self) -> float:
        """Numbers read from memory."""
        return self.weights + self.keys

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.tokens + other.tokens,
            self.flops + other.flops,
            max(self.weights, other.weights),
            self.keys + other.keys,
        )


Cuts = tuple[int, ...]
"""For each part of a text where it ends, and the position in it whose output is a score, or -1."""
Text = tuple[str, Ids, Cuts]
"""What is read of a scope. Texts of the same ids may have other parts: what was read of each is its own."""


def _cuts(path: Path, context: int) -> Cuts:
    """Of the parts of a path that a context has room for."""
    lengths = [len(key) for key in path.keys]
    return tuple(chain.from_iterable(zip(lengths[: bisect_right(lengths, context)], path.reads, strict=False)))


def _parts(path: Path, cuts: Cuts, first: int = 0) -> list[Part]:
    """The parts that cuts make of a path, from one of them on."""
    starts = (0, *cuts[::2])
    return [Part(path.keys[i], starts[i], cuts[2 * i + 1]) for i in range(first, len(cuts) // 2)]


class Reader(Protocol):
    """What is read of a part, and remembered with it."""

    def wanted(self, part: Part) -> Sequence[int]:
        """The positions of a part whose hidden states are needed."""
        ...

    def notes(self, parts: Sequence[tuple[Part, Any]], hidden: Tensor) -> list[Any]:
        """What to remember of parts that were run.

        Args:
            parts: each with the note of the part before it; if that is run in the same pass, or there is none, None.
            hidden: (wanted, hidden): states after the last norm, of one part after another.
        """
        ...


class ScoreReader:
    """Reads scores: the note of a part is one number, NaN where none is read.

    Args:
        logits: hidden states to the outputs of the head, for some columns.
        reading: which columns, and how they become a score.
    """

    def __init__(self, logits: Callable[[Tensor, Sequence[int]], Tensor], reading: Reading) -> None:
        self._logits, self._reading = logits, reading

    def wanted(self, part: Part) -> Sequence[int]:
        """The position where the score is."""
        return part.reads

    def notes(self, parts: Sequence[tuple[Part, Any]], hidden: Tensor) -> list[float]:
        """The score of each part, rounded; NaN for a part without one."""
        outputs = iter(self._logits(hidden, self._reading.columns).tolist() if len(hidden) else ())
        return [
            math.nan if part.read < 0 else round(self._reading.probability(next(outputs)), ROUNDED) for part, _ in parts
        ]


class BeliefReader(ScoreReader):
    """Reads beliefs: the note of a part is a score and its standard deviation (`policies.models.beliefs`)."""

    def notes(self, parts: Sequence[tuple[Part, Any]], hidden: Tensor) -> list[Any]:
        """The score and the deviation of each part, rounded; NaN for a part without one."""
        outputs = iter(self._logits(hidden, self._reading.columns).tolist() if len(hidden) else ())
        found: list[Any] = []
        for part, _ in parts:
            if part.read < 0:
                found.append(math.nan)
                continue
            given = next(outputs)
            found.append((round(self._reading.probability(given), ROUNDED), round(deviation(given), ROUNDED)))
        return found


class _Tail(NamedTuple):
    """What is run of a text: the texts that its parts end, those parts, and the notes of the parts before them."""

    tail: Extension[Prefix]
    texts: list[Text]
    parts: list[Part]
    notes: tuple[Any, ...]


class Runner:
    """A decoder that reads paths in pieces.

    Args:
        model: what runs the tokens.
        parameters: of it.
        context: most tokens of a path; parts that end beyond it have no notes.
        reader: what is read.
        memory: bytes of keys and values kept for reuse, the least recently used dropped beyond it.
        tokens: of one pass, or a few more.
    """

    def __init__(self, model: Decoder, parameters: int, context: int, reader: Reader, memory: int, tokens: int) -> None:
        self.model, self.parameters, self.context, self.reader, self.tokens = model, parameters, context, reader, tokens
        self.prefixes = Prefixes(model, memory)
        self._position = position_size(model.config)

    @torch.inference_mode()
    def read(self, work: Sequence[tuple[str, Path]]) -> tuple[list[list[Any]], list[Spent]]:
        """Run paths of scopes.

        Returns:
            For each path the notes of its keys (None for those beyond the context), and what it took.
        """
        known: dict[Text, tuple[Any, ...]] = {}  # notes of all parts
        spent, reached = [0] * len(work), [0] * len(work)  # tokens run, and positions whose keys they read
        texts: list[Text] = []
        for scope, path in work:
            cuts = _cuts(path, self.context)
            texts.append((scope, path.keys[len(cuts) // 2 - 1] if cuts else (), cuts))
        # the longest first, as they answer for their prefixes
        waiting = sorted((i for i, (_, _, cuts) in enumerate(texts) if cuts), key=lambda i: -len(texts[i][1]))
        while waiting:
            batch: list[_Tail] = []
            later: list[int] = []
            size = 0
            covered: set[Text] = set()  # by this pass
            for index in waiting:
                text, path = texts[index], work[index][1]
                if text in known or text in covered:
                    continue
                scope, _, cuts = text
                before, notes = self._split(scope, path.keys, cuts)
                start, end = len(notes), len(cuts) // 2
                if start == end:
                    known[text] = notes
                    continue
                made = [(scope, path.keys[at - 1], cuts[: 2 * at]) for at in range(start + 1, end + 1)]
                if size >= self.tokens or made[0] in covered:
                    later.append(index)  # in the latter case it goes on from what this pass runs
                    continue
                tail = Extension(scope, before, path.keys[start:end])
                covered.update(made)
                spent[index] += tail.length
                reached[index] += len(path.keys[end - 1])
                size += tail.length
                batch.append(_Tail(tail, made, _parts(path, cuts, start), notes))
            if batch:
                self._run(batch, known)
            waiting = later
        return [
            [*known.get(text, ()), *[None] * (len(path.keys) - len(text[2]) // 2)]
            for text, (_, path) in zip(texts, work, strict=True)
        ], [
            Spent.once(self.parameters, tokens, float(self._position * positions))
            for tokens, positions in zip(spent, reached, strict=True)
        ]

    def drop(self, scope: str) -> None:
        """Forget what was kept for a scope."""
        self.prefixes.drop(scope)

    def clear(self) -> None:
        """Forget everything, the memory included."""
        self.prefixes = Prefixes(self.model, self.prefixes.limit)

    def _split(self, scope: str, keys: Sequence[Ids], cuts: Cuts) -> tuple[Prefix | None, tuple[Any, ...]]:
        """The longest part of a text that is kept, and the notes up to it."""
        for at in range(len(cuts) // 2, 0, -1):
            prefix = self.prefixes.find(scope, keys[at - 1])
            if prefix is not None and (notes := prefix.note.get(cuts[: 2 * at])) is not None:
                self.prefixes.touch(prefix)
                return prefix, notes
        return None, ()

    def _run(self, batch: Sequence[_Tail], known: dict[Text, tuple[Any, ...]]) -> None:
        """Run tails in one pass; the notes of their texts go to `known`."""
        run: list[tuple[Part, Any]] = []
        wanted: list[int] = []
        first = 0  # token of the tail, counted over all tails
        for each in batch:
            note = each.notes[-1] if each.notes else None
            for part in each.parts:
                wanted += [first + position - each.tail.start for position in self.reader.wanted(part)]
                run.append((part, note))
                note = None
            first += each.tail.length
        made, hidden = self.prefixes.extend([each.tail for each in batch], wanted)
        found = iter(self.reader.notes(run, hidden))
        for each, prefixes in zip(batch, made, strict=True):
            notes = each.notes
            for text, prefix in zip(each.texts, prefixes, strict=True):
                if prefix.note is None:
                    prefix.note = {}
                notes = prefix.note[text[2]] = known[text] = (*notes, next(found))
        self.prefixes.trim()


class Whole:
    """A model that reads each path by itself, as a whole, and keeps nothing: for what cannot run in pieces.

    Args:
        hidden: token ids to the (ids, hidden) states after the last norm.
        parameters: of the model.
        context: as in `Runner`.
        reader: as in `Runner`.
    """

    def __init__(
        self, hidden: Callable[[Sequence[int]], Tensor], parameters: int, context: int, reader: Reader
    ) -> None:
        self._hidden, self.parameters, self.context, self.reader = hidden, parameters, context, reader

    @torch.inference_mode()
    def read(self, work: Sequence[tuple[str, Path]]) -> tuple[list[list[Any]], list[Spent]]:
        """As `Runner.read`; of a text that is too long, what fits is read."""
        notes, spent = [], []
        for _, path in work:
            parts = _parts(path, _cuts(path, self.context))
            made: list[Any] = []
            if parts:
                wanted = [position for part in parts for position in self.reader.wanted(part)]
                made = self.reader.notes([(part, None) for part in parts], self._hidden(parts[-1].ids)[wanted])
            notes.append(made + [None] * (len(path.keys) - len(made)))
            tokens = len(parts[-1].ids) if parts else 0
            spent.append(Spent.once(self.parameters, tokens))
        return notes, spent

    def drop(self, scope: str) -> None:
        """Do nothing: this runner keeps nothing between calls."""

    def clear(self) -> None:
        """Do nothing: this runner keeps nothing between calls."""
