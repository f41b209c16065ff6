"""The decode loop of every model that runs in this process: embedded policies, transformers policies, and critics.

Samples join and leave between decode steps, each in a row of one batch, so that nothing waits for the slowest. A sample
depends on what it goes on from, its seed and its temperature alone: its uniform numbers are a hash of (seed, index of
the token).

What a sample needs is run once: samples of the same tokens share a prefill, what was kept of a search is gone on from
(`policies.models.prefix_tree`), and samples that are drawn without replacement share what they have in common with
those before them (`policies.generation.without_replacement.sample_shared_prefix`).

Two things are not here. How keys and values lie in memory is a `DecodeModel`'s matter: `policies.models.kv_cache` for
embedded models and verifiers, `policies.models.hf_cache` for those of transformers. They stay two, as transformers
wants rows that end in the same column, and our own attention wants rows that begin in the same one. Where a step ends,
and what follows it, is a `SampleText`'s: `policies.generation.proposals` for policies,
`verifiers.scoring.critique_generation` for critics.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from policies.core import Propose
from policies.generation.confidence import Certainty
from policies.generation.random_numbers import uniform
from policies.generation.sampling import certainties, draw
from policies.generation.without_replacement import PrefixNode, SampleQueue, SampleQueues, sample_shared_prefix
from policies.models.prefix_tree import Extension, Ids

StepEvent = Literal["on", "step", "anew", "wait", "end"]
"""What a token led to: more of the same step; the next step, written right after it; the next step, for which what the
state reads as must be run again; more of the same step, once another sample is complete (`DecodeLoop.resume`); or the
end of the sample."""

_UNKNOWN = 255  # the kind of a token that was not drawn yet: it may end anything
_ROWS = 4  # of the arrays, at least
_HOTTEST = np.finfo(np.float32).max  # temperature: every token is as likely there as any other


@dataclass(eq=False, slots=True)
class DecodeSample:
    """A sample in progress.

    Args:
        scope: the search that it belongs to.
        seed: of its uniform numbers, 64 bits.
        temperature: 0 is greedy.
        ids: what it goes on from: all tokens before the current step.
        drawn: its tokens so far, the `known` among them that samples before it had drawn.
        new: the tokens that the current step had when it was given a row.
        logprob: of these, at temperature 1.
        limit: tokens of the current step after which `SampleText.end_step` is asked, whatever they are.
        watch: the kinds of tokens (`SampleText.kind`) after which it is asked, as bits.
        forced: tokens to be written next instead of drawn ones.
        instead: the token to be written in place of the one that was just drawn.
        longest: most tokens that it may come to have in all, for a loop with a limit of positions.
        prefix: what is kept of its tokens, when it is given a row.
        queue: of samples that shall differ from it, if it is drawn without replacement.
        node: where it is among these.
        certainty: of the tokens of the current step, where that is recorded (`policies.generation.confidence`).
    """

    scope: str
    seed: int
    temperature: float
    ids: Ids
    drawn: int = 0
    known: int = 0
    new: Ids = ()
    logprob: float = 0.0
    limit: int = 1
    watch: int = 1
    forced: Ids = ()
    instead: int | None = None
    longest: int = 0
    prefix: Any = None
    queue: SampleQueue | None = None
    node: PrefixNode | None = None
    certainty: list[Certainty] = field(default_factory=list)

    @property
    def tokens(self) -> Ids:
        """All that it has read and drawn when it is given a row."""
        return self.ids + self.new


@dataclass(slots=True)
class StepEnd:
    """The end of a step, or of what is written of it for now.

    Args:
        event: where it leads; not ``on``.
        whole: whether others may go on from the very tokens that the row holds.
        stored: whether a row that holds them was kept.
    """

    event: StepEvent
    whole: bool
    stored: bool = False


S = TypeVar("S", bound=DecodeSample)
T = TypeVar("T", bound=DecodeSample, contravariant=True)


class SampleText(Protocol[T]):
    """What samples write: where a step of theirs ends, and what comes after it.

    Attributes:
        forces: whether it ever sets `DecodeSample.forced`.
    """

    forces: bool

    def begin(self, sample: T) -> None:
        """Before the first token of a step: reset `new` and `logprob`, set `limit` and `watch`."""
        ...

    def kind(self, token: int) -> int:
        """The bits of `DecodeSample.watch` for which a step may end after a token; the same at each call."""
        ...

    def end_step(self, sample: T, new: Ids, logprob: float) -> StepEnd | None:
        """Take a step, if the new tokens end one: the sample's `ids` are now those after it, and the next is begun.

        If they do not, `limit`, `watch`, `forced` and `instead` may be changed.
        """
        ...

    def known(self, sample: T) -> Any:
        """The longest kept prefix of a sample's tokens, the last one of them left out; None if there is none."""
        ...

    def keys(self, sample: T, known: int) -> tuple[Ids, ...]:
        """The prefixes of more than `known` tokens to keep when they are run, the longest last: all but one token."""
        ...

    def charge(self, sample: T, tokens: int) -> None:
        """Tokens were run before a sample could start, for it and for those of the same tokens."""
        ...

    def broken(self, scopes: set[str]) -> set[str]:
        """Logits of these searches were no distribution: which of them are given up."""
        ...

    def finish(self, sample: T, row: int | None) -> None:
        """A sample is complete; in this row, unless it ended before it was given one."""
        ...


class DecodeModel(Protocol):
    """A model with the keys and values of the rows of a batch, and of kept prefixes.

    Attributes:
        keeps_steps: whether every step of a sample is kept, or what it has at its end: the former where running
            tokens again costs more than copying what rows hold.
    """

    keeps_steps: bool

    @property
    def prefixes(self) -> Any:
        """A `PrefixTree`."""
        ...

    def prefill(self, work: Sequence[Extension[Any]]) -> list[Any]:
        """Run tokens, and keep them: for each the prefix of all its ids."""
        ...

    def arrange(self, prefixes: Sequence[Any], rows: Sequence[int]) -> list[int]:
        """Give each of some prefixes (None is an empty one) one of as many rows: an order of the rows."""
        ...

    def load(self, places: Sequence[tuple[Any, Sequence[int]]], rows: int, length: int) -> None:
        """Write prefixes (None is an empty one) into rows; there are so many rows now, of at most so many tokens."""
        ...

    def move(self, sources: Sequence[int], targets: Sequence[int], lengths: Sequence[int]) -> None:
        """Copy the first tokens of rows onto others."""
        ...

    def shrink(self, rows: int, length: int) -> None:
        """Only the first rows are in use now, and of these at most so many tokens."""
        ...

    def decode(self, last: NDArray[np.int64], start: NDArray[np.int64]) -> Tensor:
        """Run a token of each row.

        Args:
            last: (rows,) ids.
            start: (rows,) positions: the tokens that each row holds.

        Returns:
            (rows, vocabulary): logits of the next token.
        """
        ...

    def store(self, work: Sequence[Extension[Any]], rows: Sequence[int]) -> None:
        """Keep what rows hold."""
        ...

    def clear(self) -> None:
        """Free all memory of rows and prefixes."""
        ...


class DecodeLoop(Generic[S]):
    """Decodes samples in rows that they join and leave.

    Args:
        model: what runs.
        text: what the samples write.
        rows: most samples in progress at once; more wait their turn.
        top_p: of `policies.generation.sampling.draw`.
        top_k: of it.
        positions: most tokens of all rows together, as long as the longest may become; None is no limit.

    Attributes:
        active: samples in progress: sample i is in row i.
        drawn: (rows,) tokens of each.
        logits: (rows, vocabulary) of the last decode step.
        top: by how many likeliest tokens `DecodeSample.certainty` is recorded, 0 for all; None where it is not.
    """

    def __init__(
        self,
        model: DecodeModel,
        text: SampleText[S],
        rows: int,
        top_p: float = 1.0,
        top_k: int = 0,
        positions: int | None = None,
    ) -> None:
        self.model, self.text, self.rows = model, text, rows
        self.active: list[S] = []
        self.logits: Tensor | None = None
        self.top: int | None = None
        self._top_p, self._top_k, self._positions = top_p, top_k, positions
        self._queue: deque[S] = deque()
        self._queues: SampleQueues[S] = SampleQueues(lambda sample: self._queue.append(sample))
        self._ending: list[tuple[S, int, Ids]] = []  # with their rows and what these hold, to be kept
        self._gone: list[int] = []  # rows whose samples ended in the last step
        self._kinds: NDArray[np.uint8] = np.zeros(0, np.uint8)  # of tokens
        rows = max(rows, _ROWS)
        self._new: NDArray[np.int64] = np.zeros((rows, 64), np.int64)  # tokens of the current step
        self._spare = 0  # columns of it that no row has reached, or less
        self._logprobs: NDArray[np.float64] = np.zeros(rows)  # of the current step
        self._last: NDArray[np.int64] = np.zeros(rows, np.int64)  # the token to run next
        self._length: NDArray[np.int64] = np.zeros(rows, np.int64)  # tokens that the row holds
        self._count: NDArray[np.int64] = np.zeros(rows, np.int64)  # tokens of the current step
        self._limit: NDArray[np.int64] = np.zeros(rows, np.int64)
        self._watch: NDArray[np.uint8] = np.zeros(rows, np.uint8)
        self.drawn: NDArray[np.int64] = np.zeros(rows, np.int64)
        self._seeds: NDArray[np.uint64] = np.zeros(rows, np.uint64)
        self._temperatures: NDArray[np.float32] = np.zeros(rows, np.float32)

    def add(self, sample: S, request: Propose | None = None) -> None:
        """Queue a sample; of a request without replacement, to be drawn after those of the same state."""
        if request is None:
            self._queue.append(sample)
        else:
            self._queues.add(request, sample.ids, sample)

    def resume(self, sample: S) -> None:
        """Queue a sample before all others: one that waited, or the one that it waits for."""
        self._queue.appendleft(sample)

    def step(self) -> bool:
        """Admit samples and decode one token for each; whether there were any."""
        self.admit()
        if self.active:
            self._decode()
        return bool(self.active)

    def drop(self, scope: str) -> None:
        """Forget the samples of a search and what was kept for it."""
        self.model.prefixes.drop(scope)
        self._queues.drop(scope)
        self._queue = deque(sample for sample in self._queue if sample.scope != scope)
        out = {row for row, sample in enumerate(self.active) if sample.scope == scope}
        if not out.issubset(self._gone):  # rows that are free already are best left to those who come next
            self._leave(sorted(out.union(self._gone)))

    def clear(self) -> None:
        """Forget everything, the memory included."""
        self._queue.clear()
        self._queues.clear()
        self.active, self._gone, self.logits = [], [], None
        self.model.clear()

    # -------------------------------------------------------------------------------------------------- admission

    def admit(self) -> None:
        """Give queued samples the free rows, after running what they still lack."""
        places: dict[tuple[str, Ids], list[S]] = {}
        group: list[S] = []
        last: tuple[str, Ids] | None = None
        for sample in self._waiting():
            if not self._walk(sample):
                continue
            key = sample.scope, sample.tokens
            if last is None or key[1] is not last[1] or key[0] != last[0]:  # siblings come one after another
                group = places.setdefault(key, [])
                last = key
            group.append(sample)
        groups = list(places.values())
        if groups:
            self._prefill(groups)
            self._join(groups)
        if self._gone:
            self._leave(self._gone)
        if groups:
            self.model.prefixes.trim()

    def _waiting(self) -> list[S]:
        """The samples whose turn it is."""
        free = self.rows - len(self.active) + len(self._gone)
        if self._positions is None:
            return [self._queue.popleft() for _ in range(min(free, len(self._queue)))]
        gone = set(self._gone)
        there = [sample.longest for row, sample in enumerate(self.active) if row not in gone]
        chosen: list[S] = []
        while self._queue and len(chosen) < free:
            there.append(self._queue[0].longest)
            if len(there) > 1 and len(there) * max(there) > self._positions:
                break
            chosen.append(self._queue.popleft())
        return chosen

    def _walk(self, sample: S) -> bool:
        """Draw what a sample has in common with those before it: the model need not run for that.

        Returns:
            Whether it goes on; not so only where an environment says now that it is over, and did not before.
        """
        if not sample.new:  # else it waited in the middle of a step
            self.text.begin(sample)
        if sample.node is None:
            return True
        for token, node in sample_shared_prefix(sample.node, sample.seed, sample.drawn):
            sample.node = node
            sample.new += (token,)
            sample.logprob += node.logprob
            sample.drawn += 1
            sample.known += 1
            if len(sample.new) >= sample.limit or self.text.kind(token) & sample.watch:
                end = self.text.end_step(sample, sample.new, sample.logprob)
                if end is not None and end.event == "end":
                    self._finish(sample, None)
                    return False
        return True

    def _prefill(self, groups: Sequence[list[S]]) -> None:
        """Run what groups of siblings lack, all but their last token, and keep it."""
        while groups:
            lacking: list[tuple[list[S], Extension[Any]]] = []
            covered: set[tuple[str, Ids]] = set()  # prefixes that this pass keeps
            later: list[list[S]] = []  # groups that go on from them
            for samples in groups:
                first = samples[0]
                prefix = self.text.known(first)
                known = len(prefix.ids) if prefix is not None else 0
                if known < len(first.ids) + len(first.new) - 1:
                    keys = self.text.keys(first, known)
                    if (first.scope, keys[0]) in covered:
                        later.append(samples)
                        continue
                    covered.update((first.scope, key) for key in keys)
                    lacking.append((samples, Extension(first.scope, prefix, keys)))
                for sample in samples:
                    sample.prefix = prefix
            made = self.model.prefill([work for _, work in lacking]) if lacking else ()
            for (samples, work), prefix in zip(lacking, made, strict=True):
                self.text.charge(samples[0], work.length)
                for sample in samples:
                    sample.prefix = prefix
            groups = later

    def _join(self, groups: Collection[list[S]]) -> None:
        """Give siblings rows, those that others left first, and write there what their states hold."""
        joining = list(chain.from_iterable(groups))
        rows = self._gone[-len(joining) :][::-1]
        del self._gone[-len(joining) :]
        new = joining[len(rows) :]
        rows += range(len(self.active), len(self.active) + len(new))
        self.active += new
        rows = self.model.arrange([sample.prefix for sample in joining], rows)
        for row, sample in zip(rows, joining, strict=True):
            self.active[row] = sample
        tokens = [sample.tokens for sample in joining]
        self._seeds[rows] = np.array([sample.seed for sample in joining], np.uint64)
        self.drawn[rows] = [sample.drawn for sample in joining]
        self._temperatures[rows] = np.minimum([sample.temperature for sample in joining], _HOTTEST)
        self._last[rows] = [each[-1] for each in tokens]
        self._length[rows] = np.array([len(each) for each in tokens]) - 1
        self._count[rows] = counts = [len(sample.new) for sample in joining]
        self._logprobs[rows] = [sample.logprob for sample in joining]
        self._limit[rows] = [sample.limit for sample in joining]
        self._watch[rows] = [sample.watch for sample in joining]
        most = max(counts)
        if most:
            self._have_columns(most)
            for row, sample in zip(rows, joining, strict=True):
                self._new[row, : len(sample.new)] = sample.new
        self._spare = min(self._spare, self._new.shape[1] - most)
        taken = iter(rows)
        places = [(samples[0].prefix, list(islice(taken, len(samples)))) for samples in groups]
        self.model.load(places, len(self.active), int(self._length[: len(self.active)].max()))

    def _leave(self, gone: Sequence[int]) -> None:
        """Take samples out; the last rows move into their places."""
        left, leaving = len(self.active) - len(gone), set(gone)
        targets = sorted(row for row in gone if row < left)
        sources = [row for row in range(left, len(self.active)) if row not in leaving]
        if targets:
            targets = self.model.arrange([self.active[source].prefix for source in sources], targets)
            for source, target in zip(sources, targets, strict=True):
                self.active[target] = self.active[source]
            for values in (
                *(self._last, self._length, self._count, self.drawn, self._seeds),
                *(self._temperatures, self._logprobs, self._limit, self._watch, self._new),
            ):
                values[targets] = values[sources]
            self.model.move(sources, targets, self._length[targets].tolist())
        del self.active[left:]
        self.model.shrink(left, int(self._length[:left].max(initial=0)))
        self._gone = []

    # --------------------------------------------------------------------------------------------------- decoding

    def _decode(self) -> None:
        """One token for every active sample."""
        count = len(self.active)
        self.logits = logits = self.model.decode(self._last[:count], self._length[:count])
        uniforms = uniform(self._seeds[:count], self.drawn[:count])
        nodes = self._queues.nodes(self.active)
        tokens, logprobs = draw(logits, uniforms, self._temperatures[:count], self._top_p, self._top_k, nodes)
        self._queues.follow(self.active, nodes)
        if self.top is not None:
            for sample, certainty in zip(self.active, certainties(logits, self.top), strict=True):
                sample.certainty.append(certainty)
        if self.text.forces:
            self._force(tokens)
        if not self._spare:
            most = int(self._count[:count].max())
            self._have_columns(most + 1)
            self._spare = self._new.shape[1] - most
        self._spare -= 1
        self._new[np.arange(count), self._count[:count]] = tokens
        self._last[:count] = tokens
        self._logprobs[:count] += logprobs
        self._length[:count] += 1
        self._count[:count] += 1
        self.drawn[:count] += 1
        if not len(self._kinds):
            self._kinds = np.full(logits.shape[1], _UNKNOWN, np.uint8)
        watched = (self._kinds[tokens] & self._watch[:count]).astype(np.bool_)
        ended = np.flatnonzero(watched | (self._count[:count] >= self._limit[:count]))
        steps = zip(ended.tolist(), self._count[ended].tolist(), self.drawn[ended].tolist(), strict=True)
        out = self._give_up(logprobs)
        self._gone = [row for row, count, drawn in steps if row not in out and self._end_step(row, count, drawn)]
        self._gone += out
        self._store()

    def _give_up(self, logprobs: NDArray[np.float32]) -> list[int]:
        """The rows of searches for which logits were no distribution, if these are to fail; what waits is dropped."""
        broken = np.isnan(logprobs)
        if not broken.any():
            return []
        scopes = self.text.broken({self.active[row].scope for row in np.flatnonzero(broken)})
        for scope in scopes:
            self._queues.drop(scope)
        self._queue = deque(sample for sample in self._queue if sample.scope not in scopes)
        return [row for row, sample in enumerate(self.active) if sample.scope in scopes]

    def _force(self, tokens: NDArray[np.int64]) -> None:
        """Put tokens that are to be written in the place of those drawn."""
        for row, sample in enumerate(self.active):
            if sample.forced:
                tokens[row], sample.forced = sample.forced[0], sample.forced[1:]

    def _have_columns(self, count: int) -> None:
        """Have room for so many tokens of a step."""
        rows, columns = self._new.shape
        if count > columns:
            new = np.zeros((rows, max(2 * columns, count)), np.int64)
            new[:, :columns] = self._new
            self._new = new

    def _end_step(self, row: int, count: int, drawn: int) -> bool:
        """A step of a row ended, perhaps: record it; the sample goes on, or it is finished or queued again.

        Args:
            row: of the sample.
            count: tokens of the step.
            drawn: tokens of the sample.

        Returns:
            Whether the row is free now.
        """
        sample = self.active[row]
        new: Ids = tuple(self._new[row, :count].tolist())
        if count < sample.limit and not self._kind(new[-1]) & sample.watch:
            return False
        before, sample.drawn = sample.ids, drawn
        end = self.text.end_step(sample, new, float(self._logprobs[row]))
        if end is None:
            self._limit[row], self._watch[row] = sample.limit, sample.watch
            if sample.instead is not None:
                self._new[row, count - 1] = self._last[row] = sample.instead
                sample.instead = None
            return False
        if end.event == "wait":
            sample.new, sample.logprob = new, float(self._logprobs[row])
        if self._worth_keeping(sample, end):
            end.stored = True
            self._ending.append((sample, row, (before + new)[:-1]))
        if end.event == "step":
            self._count[row], self._logprobs[row] = 0, 0.0
            self._limit[row], self._watch[row] = sample.limit, sample.watch
        elif end.event == "anew":  # go on from what the state reads as
            self.resume(sample)
        elif end.event == "end":
            self._finish(sample, row)
        return end.event != "step"

    def _kind(self, token: int) -> int:
        kind = int(self._kinds[token])
        if kind == _UNKNOWN:
            kind = self._kinds[token] = self.text.kind(token)
        return kind

    def _worth_keeping(self, sample: S, end: StepEnd) -> bool:
        """Whether others may go on from what a sample has at the end of a step, or itself, if it waits."""
        if end.event == "wait":
            return True
        if not self.model.keeps_steps and end.event != "end":
            return False
        return sample.queue is not None or (end.whole and not end.stored)

    def _finish(self, sample: S, row: int | None) -> None:
        self._queues.end(sample)
        self.text.finish(sample, row)

    def _store(self) -> None:
        """Keep what rows hold of steps that ended, for those who go on from them."""
        if not self._ending:
            return
        work: list[Extension[Any]] = []
        rows: list[int] = []
        prefixes = self.model.prefixes
        for sample, row, ids in self._ending:
            if prefixes.find(sample.scope, ids) is None:
                before = sample.prefix if sample.prefix is not None and sample.prefix.kept else None
                work.append(Extension(sample.scope, before, (ids,)))
                rows.append(row)
        if work:
            self.model.store(work, rows)
        for sample, _, ids in self._ending:
            kept = prefixes.find(sample.scope, ids)
            if kept is not None:
                sample.prefix = kept
                if sample.node is not None:
                    sample.node.keep(kept)
        self._ending.clear()
        if work:
            prefixes.trim()
