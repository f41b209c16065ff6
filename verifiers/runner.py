"""Runs what verifiers read: each part of a text once per search, in common passes.

Texts are given as `Path`s. The keys and values of a part are kept for its scope (`envs.llama.Prefixes`), with what was
read there, so that scoring a child runs only the child's last step. What a score is read from is a `Reader`'s matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from envs.llama import Decoder, Ids, Prefix, Prefixes, Tail
from verifiers.layout import Path, Reading

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


@dataclass(frozen=True)
class Spent:
    """What it took to read: tokens run, and FLOPs (2 x parameters x tokens)."""

    tokens: int = 0
    flops: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.tokens + other.tokens, self.flops + other.flops)


Mark = tuple[str, Part]
"""A part of a text of a scope. Two texts may have the same ids and other parts: what was read of each is its own."""


def _parts(path: Path, context: int) -> list[Part]:
    """The parts of a path that a context has room for."""
    starts = (0, *map(len, path.keys))
    every = zip(path.keys, starts, path.reads, strict=False)
    return [Part(key, start, read) for key, start, read in every if len(key) <= context]


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
        return () if part.read < 0 else (part.read,)

    def notes(self, parts: Sequence[tuple[Part, Any]], hidden: Tensor) -> list[float]:
        """The scores, rounded."""
        outputs = iter(self._logits(hidden, self._reading.columns).tolist() if len(hidden) else ())
        return [
            math.nan if part.read < 0 else round(self._reading.probability(next(outputs)), ROUNDED) for part, _ in parts
        ]


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

    @torch.inference_mode()
    def read(self, work: Sequence[tuple[str, Path]]) -> tuple[list[list[Any]], list[Spent]]:
        """Run paths of scopes.

        Returns:
            For each path the notes of its keys (None for those beyond the context), and what it took.
        """
        known: dict[Mark, Any] = {}  # notes
        spent = [0] * len(work)
        readable = [(scope, _parts(path, self.context)) for scope, path in work]
        # the longest first, as they answer for their prefixes
        lengths = [len(parts[-1].ids) if parts else 0 for _, parts in readable]
        waiting = sorted((index for index, length in enumerate(lengths) if length), key=lambda index: -lengths[index])
        while waiting:
            batch: list[tuple[Tail, list[Part], Any]] = []
            later: list[int] = []
            size = 0
            covered: set[Mark] = set()  # by this pass
            for index in waiting:
                scope, parts = readable[index]
                marks = [(scope, part) for part in parts]
                if all(mark in known or mark in covered for mark in marks):
                    continue
                before, at = self._split(scope, parts, known)
                if at == len(parts):
                    continue
                if size >= self.tokens or marks[at] in covered:
                    later.append(index)  # in the latter case it goes on from what this pass runs
                    continue
                tail = Tail(scope, before, tuple(part.ids for part in parts[at:]))
                covered.update(marks[at:])
                spent[index] += tail.length
                size += tail.length
                batch.append((tail, parts[at:], known[marks[at - 1]] if at else None))
            if batch:
                self._run(batch, known)
            waiting = later
        return [
            [known.get((scope, part)) for part in parts] + [None] * (len(path.keys) - len(parts))
            for (scope, parts), (_, path) in zip(readable, work, strict=True)
        ], [Spent(tokens, 2.0 * self.parameters * tokens) for tokens in spent]

    def drop(self, scope: str) -> None:
        """Forget what was kept for a scope."""
        self.prefixes.drop(scope)

    def clear(self) -> None:
        """Forget everything, the memory included."""
        self.prefixes = Prefixes(self.model, self.prefixes.limit)

    def _split(self, scope: str, parts: Sequence[Part], known: dict[Mark, Any]) -> tuple[Prefix | None, int]:
        """The longest prefix that is kept, and how many parts it has; their notes go to `known`."""
        before: Prefix | None = None
        for at, part in enumerate(parts):
            prefix = self.prefixes.find(scope, part.ids)
            if prefix is None or part not in prefix.note:
                return before, at
            before = prefix
            known[scope, part] = prefix.note[part]
        return before, len(parts)

    def _run(self, batch: Sequence[tuple[Tail, list[Part], Any]], known: dict[Mark, Any]) -> None:
        """Run tails, with the notes of what is before them, in one pass; the notes of their parts go to `known`."""
        run: list[tuple[Part, Any]] = []
        wanted: list[int] = []
        first = 0  # token of the tail, counted over all tails
        for tail, parts, note in batch:
            for part in parts:
                wanted += [first + position - tail.start for position in self.reader.wanted(part)]
                run.append((part, note))
                note = None
            first += tail.length
        made, hidden = self.prefixes.extend([tail for tail, _, _ in batch], wanted)
        notes = iter(self.reader.notes(run, hidden))
        for (tail, parts, _), prefixes in zip(batch, made, strict=True):
            for part, prefix in zip(parts, prefixes, strict=True):
                if prefix.note is None:
                    prefix.note = {}
                prefix.note[part] = known[tail.scope, part] = next(notes)
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
            parts = _parts(path, self.context)
            made: list[Any] = []
            if parts:
                wanted = [position for part in parts for position in self.reader.wanted(part)]
                made = self.reader.notes([(part, None) for part in parts], self._hidden(parts[-1].ids)[wanted])
            notes.append(made + [None] * (len(path.keys) - len(made)))
            tokens = len(parts[-1].ids) if parts else 0
            spent.append(Spent(tokens, 2.0 * self.parameters * tokens))
        return notes, spent

    def drop(self, scope: str) -> None:
        """Nothing is kept."""

    def clear(self) -> None:
        """Nothing is kept."""
