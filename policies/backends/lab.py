"""The embedded policy: any small Llama-architecture checkpoint, run by our own decoder, on a CPU by default.

Requests stream: samples join and leave between decode steps, each in a row of one cache, so nothing waits for the
slowest sibling. A sample is a pure function of (state, seed, temperature): its uniform numbers are a hash of (seed,
index of the token), and the decoder's rows do not depend on each other (`policies.models.llama`).

What a state needs is its prompt run through the model once. Siblings share it, and what a sample wrote in its row is
kept when it ends (`policies.models.kv_cache.Prefixes`), so that going on from a child runs nothing twice. Samples that
are drawn without replacement share, too, what they have in common with those before
(`policies.generation.without_replacement.walk`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray

from envs.core import Environment, Finish, State, Step
from envs.options import AtLeast
from policies.core import Propose, Proposed
from policies.generation.random_numbers import uniform
from policies.generation.requests import BrokenModel, Job
from policies.generation.sampling import draw
from policies.generation.without_replacement import Branch, Line, Lines, walk
from policies.models.digest import model_digest
from policies.models.errors import UnsupportedModel
from policies.models.kv_cache import ROWS, Cache, Prefix, Prefixes, Rows, Tail
from policies.models.lab_tokens import Tokens
from policies.models.llama import Llama
from policies.models.prefix_tree import Ids

_PREFILL = 4096  # most tokens of one prefill pass, padding included
_BURST = 16  # most decode steps of one poll, so that a caller can interrupt


@dataclass(slots=True)
class _Ended:
    """What comes after a step: the same for all samples of a request that drew the same tokens at the same state.

    Args:
        state: with the step.
        ids: of it.
        whole: whether these are the tokens that a row holds; not so when text reads as other tokens than were drawn,
            or an observation came.
        running: whether the trajectory goes on.
        full: whether the context leaves no room for more.
        stored: whether a sample kept what its row holds.
    """

    state: State
    ids: Ids
    whole: bool
    running: bool
    full: bool
    stored: bool = False


@dataclass(slots=True)
class _Sample:
    """One sample in progress.

    Args:
        ids: of `state`; `made` counts the steps that it added to it.
        ended: what comes after steps of its request, by state (its id) and new tokens.
        new: of the current step, the tokens that it had when it was given a row, and their log-probability.
        drawn: tokens of it, the `known` among them that samples before it had drawn.
    """

    job: Job
    place: tuple[int, int]
    seed: int
    state: State
    ids: Ids
    ended: dict[tuple[int, Ids], _Ended | None]
    new: Ids = ()
    logprob: float = 0.0
    drawn: int = 0
    known: int = 0
    made: int = 0
    prefix: Prefix | None = None
    line: Line | None = None
    branch: Branch | None = None

    @property
    def tokens(self) -> Ids:
        """All that it has read and drawn when it is given a row."""
        return self.ids + self.new

    @property
    def lacks(self) -> int:
        """Tokens to run before it can start: all but the last, less what is kept."""
        return len(self.ids) + len(self.new) - 1 - (len(self.prefix.ids) if self.prefix else 0)


class LabPolicy:
    """A causal checkpoint as a `Policy`.

    Args:
        folder: config.json, model.safetensors, tokenizer.json (the transformers layout); its name names the policy.
        environment: whose problems it continues; ends steps and trajectories.
        device: ``cpu``, ``cuda``, or None for a GPU where there is one.
        rows: most samples in progress at once; more wait their turn.
        step_tokens: a step that is longer is cut (finish ``length``).
        memory: bytes of keys and values kept for reuse. Beyond it the least recently used are dropped, whichever
            search they belong to: what must be prefilled again is charged again, and the last bit of its numbers may
            differ from what decoding had written.

    Raises:
        UnsupportedModel: when the folder does not hold a Llama-architecture causal model.
    """

    distinct = True

    def __init__(
        self,
        folder: str | Path,
        environment: Environment,
        *,
        device: str | None = None,
        rows: Annotated[int, AtLeast(1)] = 256,
        step_tokens: Annotated[int, AtLeast(1)] = 48,
        memory: Annotated[int, AtLeast(0)] = 1 << 30,
    ) -> None:
        folder = Path(folder)
        self.model = Llama(folder, device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if not self.model.config.causal:
            raise UnsupportedModel(f"{folder} holds a verifier (token classification), not a policy")
        self.tokens = Tokens(folder, self.model.config.begin, self.model.config.vocabulary)
        self.environment = environment
        self.rows = rows
        self.step_tokens = step_tokens
        self.name = folder.resolve().name
        self._place = folder
        self.parameters = self.model.parameters
        self._prefixes = Prefixes(self.model, memory)
        self._queue: deque[_Sample] = deque()
        self._jobs: dict[int, Job] = {}
        self._done: list[Job] = []
        self._lines: Lines[_Sample] = Lines(lambda sample: self._queue.append(sample))
        self._active: list[_Sample] = []  # sample i is in row i
        self._ending: list[tuple[_Sample, int, Ids]] = []  # with their rows and what these hold, to be kept
        self._gone: list[int] = []  # rows whose samples ended in the last step
        self._cache = Cache(self.model)
        vocabulary = range(self.model.config.vocabulary)
        ends = {token for token in vocabulary if environment.delimiter[-1] in self.tokens.decode([token])}
        # tokens after which a step may have ended: for these rows alone is text decoded
        self._stops: NDArray[np.bool_] = np.isin(vocabulary, list(ends | self.model.config.end))
        rows = max(rows, ROWS)  # passes are padded to that
        self._new: NDArray[np.int64] = np.zeros((rows, step_tokens), np.int64)  # tokens of the current step
        self._logprobs: NDArray[np.float64] = np.zeros(rows)  # of the current step
        self._last: NDArray[np.int64] = np.zeros(rows, np.int64)  # the token to run next
        self._length: NDArray[np.int64] = np.zeros(rows, np.int64)  # positions in the cache
        self._count: NDArray[np.int64] = np.zeros(rows, np.int64)  # tokens of the current step
        self._drawn: NDArray[np.int64] = np.zeros(rows, np.int64)  # tokens of the sample
        self._seeds: NDArray[np.uint64] = np.zeros(rows, np.uint64)
        self._temperatures: NDArray[np.float32] = np.zeros(rows, np.float32)

    # ------------------------------------------------------------------------------------------------ the contract

    def digest(self) -> str:
        """Of the files that make the model."""
        return model_digest(self._place)

    def submit(self, ticket: int, request: Propose) -> None:
        """Queue a request.

        Raises:
            ValueError: when a state leaves no room in the model's context, the request is malformed (one tuple of
                seeds per state, temperature >= 0, max_steps None or >= 1), or the ticket is in use.
        """
        job = Job.of(ticket, request, self._jobs)
        ids = [self._ids(state) for state in request.states]
        for state, tokens in zip(request.states, ids, strict=True):
            if not 0 < len(tokens) < self.model.config.context:
                raise ValueError(
                    f"problem {state.problem.id!r} with {len(state.steps)} steps takes {len(tokens)} tokens; "
                    f"policy {self.name!r} reads 1 to {self.model.config.context - 1}"
                )
        self._jobs[ticket] = job
        if not job.missing:
            self._done.append(job)
        ended: dict[tuple[int, Ids], _Ended | None] = {}
        for i, (state, tokens) in enumerate(zip(request.states, ids, strict=True)):
            for j, seed in enumerate(request.seeds[i]):
                sample = _Sample(job, (i, j), seed, state, tokens, ended)
                self._lines.add(request, tokens, sample)

    @torch.inference_mode()
    def poll(self) -> Sequence[tuple[int, Proposed | Exception]]:
        """Decode until a request is complete, at most `_BURST` steps; return what is complete."""
        for _ in range(_BURST):
            if self._done:
                break
            self._admit()
            if not self._active:
                break
            self._decode()
        done, self._done = self._done, []
        for job in done:
            del self._jobs[job.ticket]
        return [(job.ticket, job.reply(self.parameters)) for job in done]

    @torch.inference_mode()
    def cancel(self, scope: str) -> None:
        """Drop the requests of a search and the keys and values kept for it."""
        self._prefixes.drop(scope)
        self._lines.drop(scope)
        if all(job.request.scope != scope for job in self._jobs.values()):
            return
        self._queue = deque(sample for sample in self._queue if sample.job.request.scope != scope)
        out = {row for row, sample in enumerate(self._active) if sample.job.request.scope == scope}
        if not out.issubset(self._gone):  # rows that are free already are best left to those who come next
            self._leave(sorted(out.union(self._gone)))
        self._done = [job for job in self._done if job.request.scope != scope]
        self._jobs = {ticket: job for ticket, job in self._jobs.items() if job.request.scope != scope}

    def close(self) -> None:
        """Drop everything, the cache's memory included; the policy may be used again."""
        for scope in {job.request.scope for job in self._jobs.values()}:
            self.cancel(scope)
        self._lines.clear()
        self._prefixes = Prefixes(self.model, self._prefixes.limit)
        self._cache = Cache(self.model)

    # -------------------------------------------------------------------------------------------------- admission

    def _parts(self, state: State) -> list[Ids]:
        """The ids of a state in parts; of earlier attempts only the latest that leave half of the context free."""
        while state.attempts:
            opening = self.tokens.parts(self.environment, replace(state, steps=()))
            if 2 * sum(map(len, opening)) <= self.model.config.context:
                break
            state = replace(state, attempts=state.attempts[1:])
        return self.tokens.parts(self.environment, state)

    def _ids(self, state: State) -> Ids:
        return tuple(chain.from_iterable(self._parts(state)))

    def _find(self, sample: _Sample) -> Prefix | None:
        """The longest kept prefix of a sample: up to its last token, or to the last of a state on the way to it."""
        known = sample.branch.kept if sample.branch is not None else None
        return self._prefixes.nearest(
            sample.job.request.scope, sample.tokens, known, lambda: [*self._parts(sample.state), sample.new]
        )

    def _admit(self) -> None:
        """Give queued samples the free rows, after running what their states still lack."""
        free = self.rows - len(self._active) + len(self._gone)
        chosen = [self._queue.popleft() for _ in range(min(free, len(self._queue)))]
        groups: dict[tuple[str, Ids], list[_Sample]] = {}
        for sample in filter(self._walk, chosen):
            groups.setdefault((sample.job.request.scope, sample.tokens), []).append(sample)
        lacking = []
        for samples in groups.values():
            prefix = self._find(samples[0])
            for sample in samples:
                sample.prefix = prefix
            if samples[0].lacks:
                lacking.append(samples)
        lacking.sort(key=lambda samples: samples[0].lacks)
        while lacking:
            batch = [lacking.pop()]  # the longest first: the others of the batch are padded to it
            most = max(1, _PREFILL // batch[0][0].lacks)
            batch += [lacking.pop() for _ in range(min(most - 1, len(lacking)))]
            self._prefill(batch)
        self._join(groups.values())
        if self._gone:
            self._leave(self._gone)
        self._prefixes.trim()

    def _prefill(self, batch: Sequence[list[_Sample]]) -> None:
        """Run what the states of groups of siblings lack, all but their last token, and keep it."""
        firsts = [samples[0] for samples in batch]
        tails = [Tail(sample.job.request.scope, sample.prefix, (sample.tokens[:-1],)) for sample in firsts]
        made, _ = self._prefixes.extend(tails)
        for samples, tail, (prefix,) in zip(batch, tails, made, strict=True):
            samples[0].job.prefilled += tail.length
            for sample in samples:
                sample.prefix = prefix

    def _join(self, groups: Collection[list[_Sample]]) -> None:
        """Give siblings rows, those that others left first, and write there what their states hold."""
        joining = list(chain.from_iterable(groups))
        if not joining:
            return
        rows = self._gone[-len(joining) :][::-1]
        del self._gone[-len(joining) :]
        for row, sample in zip(rows, joining, strict=False):
            self._active[row] = sample
        new = joining[len(rows) :]
        rows += range(len(self._active), len(self._active) + len(new))
        self._active += new
        tokens = [sample.tokens for sample in joining]
        lengths = [len(each) for each in tokens]
        self._seeds[rows] = np.array([sample.seed & 0xFFFFFFFFFFFFFFFF for sample in joining], np.uint64)
        self._drawn[rows] = [sample.drawn for sample in joining]
        self._temperatures[rows] = [sample.job.request.temperature for sample in joining]
        self._last[rows] = [each[-1] for each in tokens]
        self._length[rows] = np.array(lengths) - 1
        self._count[rows] = [len(sample.new) for sample in joining]
        self._logprobs[rows] = [sample.logprob for sample in joining]
        for row, sample in zip(rows, joining, strict=True):
            self._new[row, : len(sample.new)] = sample.new
        self._cache.reserve(len(self._active), max(lengths) + 1)
        taken = iter(rows)
        places = [(samples[0].prefix, list(islice(taken, len(samples)))) for samples in groups]
        self._prefixes.load([(prefix, own) for prefix, own in places if prefix is not None], self._cache)

    def _leave(self, gone: Sequence[int]) -> None:
        """Take samples out; the last rows move into their places."""
        left, leaving = len(self._active) - len(gone), set(gone)
        targets = sorted(row for row in gone if row < left)
        sources = [row for row in range(left, len(self._active)) if row not in leaving]
        if targets:
            for source, target in zip(sources, targets, strict=True):
                self._active[target] = self._active[source]
            self._cache.move(sources, targets, int(self._length[sources].max()))
            for values in (
                *(self._last, self._length, self._count, self._drawn, self._seeds),
                *(self._temperatures, self._logprobs, self._new),
            ):
                values[targets] = values[sources]
        del self._active[left:]
        self._gone = []

    # --------------------------------------------------------------------------------------------------- decoding

    def _decode(self) -> None:
        """One token for every active sample."""
        count = len(self._active)
        rows = max(count, ROWS)
        if count < rows:  # rows that pad the batch write at position 0 of cache rows that nobody has
            self._last[count:rows] = 0
            self._length[count:rows] = 0
        end = int(self._length[:count].max()) + 1
        self._cache.reserve(rows, end)
        ids, start = self._tensor(self._last[:rows]), self._tensor(self._length[:rows])
        logits = self.model.logits(self.model.run(Rows(self._cache, start, end), ids, start))[:count]
        uniforms = uniform(self._seeds[:count], self._drawn[:count])
        branches = self._lines.branches(self._active)
        tokens, logprobs = draw(logits, uniforms, self._temperatures[:count], branches=branches)
        self._lines.follow(self._active, branches)
        self._new[np.arange(count), self._count[:count]] = tokens
        self._last[:count] = tokens
        self._logprobs[:count] += logprobs
        self._length[:count] += 1
        self._count[:count] += 1
        self._drawn[:count] += 1
        full = (self._count[:count] >= self.step_tokens) | (self._length[:count] >= self.model.config.context)
        broken = {self._active[row].job.request.scope for row in np.flatnonzero(np.isnan(logprobs))}
        out = np.fromiter((sample.job.request.scope in broken for sample in self._active), bool, count)
        ended = np.flatnonzero((self._stops[tokens] | full) & ~out)
        steps = zip(ended.tolist(), self._count[ended].tolist(), self._drawn[ended].tolist(), strict=True)
        self._gone = [row for row, count, drawn in steps if self._end_step(row, count, drawn)]
        self._gone += np.flatnonzero(out).tolist()
        for scope in broken:
            self._fail(scope)
        self._store()

    def _fail(self, scope: str) -> None:
        """Answer the requests of a search by the error that its model is broken."""
        self._lines.drop(scope)
        self._queue = deque(sample for sample in self._queue if sample.job.request.scope != scope)
        for job in self._jobs.values():
            if job.request.scope == scope and job.missing:
                job.error = BrokenModel(self.name)
                self._done.append(job)

    def _walk(self, sample: _Sample) -> bool:
        """Draw what a sample has in common with those before it: the model need not run for that.

        Returns:
            Whether it goes on; not so only where an environment says now that it is over, and did not before.
        """
        sample.new, sample.logprob = (), 0.0
        if sample.branch is None:
            return True
        for token, branch in walk(sample.branch, sample.seed, sample.drawn):
            sample.branch = branch
            sample.new += (token,)
            sample.logprob += branch.logprob
            sample.drawn += 1
            sample.known += 1
            full = len(sample.new) >= self.step_tokens or len(sample.tokens) > self.model.config.context
            if (self._stops[token] or full) and (ended := self._take(sample, sample.new, sample.logprob)):
                sample.new, sample.logprob = (), 0.0
                if self._over(sample, ended):
                    self._finish(sample)
                    return False
        return True

    def _end_step(self, row: int, count: int, drawn: int) -> bool:
        """A step of a row ended, perhaps: record it; the sample goes on, or it is finished or queued again.

        Args:
            row: of the sample.
            count: tokens of the step.
            drawn: tokens of the sample.

        Returns:
            Whether the row is free now.
        """
        sample = self._active[row]
        new: Ids = tuple(self._new[row, :count].tolist())
        held = sample.ids + new
        ended = self._take(sample, new, float(self._logprobs[row]))
        if ended is None:
            return False
        sample.drawn = drawn
        if not self._over(sample, ended):
            if ended.whole:
                self._count[row], self._logprobs[row] = 0, 0.0
            else:  # go on from what the state reads as
                self._queue.appendleft(sample)
            return not ended.whole
        if sample.line is not None or (ended.running and ended.whole and not ended.stored):
            ended.stored = True
            self._ending.append((sample, row, held[:-1]))
        self._finish(sample)
        return True

    def _over(self, sample: _Sample, ended: _Ended) -> bool:
        return not ended.running or sample.made == sample.job.request.max_steps or ended.full

    def _finish(self, sample: _Sample) -> None:
        self._lines.end(sample)
        if sample.job.finish(sample.place, sample.state.steps[-sample.made :], sample.drawn, sample.known):
            self._done.append(sample.job)

    def _take(self, sample: _Sample, new: Ids, logprob: float) -> _Ended | None:
        """Give a sample the step that new tokens are, if they end one, and what comes after it."""
        key = (id(sample.state), new)  # of a state that the request or `ended` holds
        if key not in sample.ended:
            sample.ended[key] = self._after(sample, new, logprob)
        ended = sample.ended[key]
        if ended is not None:
            sample.state, sample.ids, sample.made = ended.state, ended.ids, sample.made + 1
        return ended

    def _after(self, sample: _Sample, new: Ids, logprob: float) -> _Ended | None:
        """What comes after new tokens, if they end a step."""
        text, delimiter, _ = self.tokens.decode(new).partition(self.environment.delimiter)
        context, length = self.model.config.context, len(sample.ids) + len(new) - 1  # that a row holds
        finish: Finish
        if delimiter and length < context:
            finish = "step"
        elif new[-1] in self.model.config.end:
            finish = "answer"
        elif len(new) >= self.step_tokens or length >= context:
            finish = "length"
        else:
            return None
        step = Step(text, len(new), logprob, finish)
        # where the last step leads is not asked here: the search asks, and an environment may take its time
        state, running = sample.state.then(step), True
        if sample.made + 1 != sample.job.request.max_steps:
            after = self.environment.step(sample.state, step)
            state, running = after.state, after.status == "running"
        ids = sample.ids + self.tokens.step(self.environment, state.steps[-1])
        whole = len(ids) == length + 1 and ids[-len(new) :] == new
        return _Ended(state, ids, whole, running, len(ids) >= context)

    def _store(self) -> None:
        """Keep what rows hold of the states of samples that ended, for those who go on from them."""
        tails, rows = [], []
        for sample, row, ids in self._ending:
            if self._prefixes.find(sample.job.request.scope, ids) is None:
                before = sample.prefix if sample.prefix is not None and sample.prefix.kept else None
                tails.append(Tail(sample.job.request.scope, before, (ids,)))
                rows.append(row)
        if tails:
            self._prefixes.store(tails, self._cache, rows)
        for sample, _, ids in self._ending:
            kept = self._prefixes.find(sample.job.request.scope, ids)
            if sample.branch is not None and kept is not None:
                sample.branch.keep(kept)
        self._ending.clear()
        if tails:
            self._prefixes.trim()

    def _tensor(self, array: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(array).to(self.model.device)
