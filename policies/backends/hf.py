"""Any causal language model of transformers as a policy, on a CPU or a GPU.

Samples join and leave between decode steps: one batch, padded on the left, is what runs. Positions and masks are given,
so what is padded does not count, and a sample depends on its state, seed and temperature as far as floating point
allows: its uniform numbers are a hash of (seed, index of the token), and its prompt is run by itself.

Siblings share one prefill. What a sample wrote is kept at the end of every step, so that going on from any node of a
search runs nothing twice (`policies.prefixes`). Samples that are drawn without replacement share, too, what they have
in common with those before (`policies.generation.without_replacement.walk`).
"""

from __future__ import annotations

import inspect
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from envs.core import Environment
from envs.options import AtLeast, Group
from policies.core import Propose, Proposed
from policies.generation.chat import Dialogue
from policies.generation.options import SamplingOptions
from policies.generation.random_numbers import uniform
from policies.generation.requests import BrokenModel, Job
from policies.generation.sampling import draw
from policies.generation.step_stream import Writer, Writing
from policies.generation.without_replacement import Branch, Line, Lines, walk
from policies.models.checkpoints import Dtype, load_checkpoint
from policies.models.digest import DIGITS, model_digest
from policies.models.hf_cache import Rows
from policies.models.prefix_tree import Ids
from policies.models.pretrained import UnusableModel, said
from policies.prefixes import Prefix, Prefixes

_BURST = 0.25  # seconds of one poll after which it returns, so that a caller can interrupt
_CHUNK = 2048  # most tokens of one prefill pass
_CONTEXT = 1 << 20  # of a model that does not say
_TRIAL = 12  # tokens of a text that a model is tried on


@dataclass(eq=False)
class _Sample(Writing):
    """One sample in progress.

    Args:
        prefix: of what is before the tokens that its row holds of the current step, or before some of them.
        known: tokens of it that samples before it had drawn.
    """

    prefix: Prefix | None = None
    known: int = 0
    line: Line | None = None
    branch: Branch | None = None

    @property
    def scope(self) -> str:
        return self.job.request.scope

    @property
    def tokens(self) -> Ids:
        """All that it has read and drawn."""
        return (*self.ids, *self.new)

    @property
    def length(self) -> int:
        """Tokens whose keys and values its row holds: all but the last."""
        return len(self.ids) + len(self.new) - 1


class TransformersPolicy:
    """A causal language model as a `Policy`.

    Args:
        model: a folder, a GGUF file or the id of a hub's model.
        environment: whose problems it continues; ends steps and trajectories.
        options: how it is asked and where its steps end.
        device: ``cpu``, ``cuda``, ``auto`` for all the GPUs there are (with accelerate), or None for a GPU where there
            is one.
        dtype: ``float32``, ``bfloat16``, ``float16``, or ``auto`` for that of the files; None is float32 on a CPU and
            auto elsewhere.
        rows: most samples in progress at once; more wait their turn.
        memory: bytes of keys and values kept for reuse. Beyond it the least recently used are dropped, whichever
            search they belong to; what must be prefilled again is charged again.
        name: in records; by default the model's, without the folders before it.

    Raises:
        UnusableModel: when the model cannot be had, keeps something else than keys and values, or does not read a text
            from left to right.
        ValueError: for options that it cannot keep.
    """

    distinct = True

    def __init__(
        self,
        model: str | Path,
        environment: Environment,
        options: Annotated[SamplingOptions | None, Group()] = None,
        *,
        device: str | None = None,
        dtype: Dtype | None = None,
        rows: Annotated[int, AtLeast(1)] = 64,
        memory: Annotated[int, AtLeast(0)] = 1 << 30,
        name: str | None = None,
    ) -> None:
        if rows < 1:
            raise ValueError(f"rows is {rows}; at least 1 is needed")
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        tokenizer, self.model = load_checkpoint(model, device, dtype or ("float32" if device == "cpu" else "auto"))
        path = self._place = Path(model).expanduser()
        self.name = name or (path.resolve().name.removesuffix(".gguf") if path.exists() else str(model))
        self.environment = environment
        self.options = options = options or SamplingOptions()
        config = self.model.config.get_text_config()
        self.context: int = getattr(config, "max_position_embeddings", None) or _CONTEXT
        self.parameters = sum(parameter.numel() for parameter in self.model.parameters())
        ends = [config.eos_token_id, self.model.generation_config.eos_token_id]
        flat = [token for end in ends for token in (end if isinstance(end, list) else [end]) if token is not None]
        self.dialogue = Dialogue(tokenizer, environment, options, flat)
        embedded = len(self.model.get_input_embeddings().weight)
        if self.dialogue.highest >= embedded:
            raise UnusableModel(
                f"the chat template of {model} writes token {self.dialogue.highest}, and its model embeds {embedded}"
            )
        self.rows = rows
        self._writer = Writer(self.dialogue, self.context)
        self._prefixes = Prefixes(memory)
        self._queue: deque[_Sample] = deque()
        self._jobs: dict[int, Job] = {}
        self._done: list[Job] = []
        self._active: list[_Sample] = []  # sample i is in row i
        self._lines: Lines[_Sample] = Lines(lambda sample: self._queue.append(sample))
        known = inspect.signature(self.model.forward).parameters
        self._cache_name = "cache" if "cache" in known else "past_key_values"  # of older transformers
        self._few = {"logits_to_keep": 1} if "logits_to_keep" in known else {}
        self._none = self._probe()
        self._held = Rows(self._none)  # keys and values of the active samples

    # ------------------------------------------------------------------------------------------------ the contract

    @property
    def thinks(self) -> bool:
        """Whether the model thinks before it answers."""
        return self.dialogue.thinks

    def digest(self) -> str:
        """Of the files that make the model; of a hub's, the commit."""
        commit: str | None = getattr(self.model.config, "_commit_hash", None)
        return model_digest(self._place) or (commit or "")[:DIGITS]

    def submit(self, ticket: int, request: Propose) -> None:
        """Queue a request.

        Raises:
            ValueError: when a state leaves no room in the model's context, the request is malformed (see `Job.of`), or
                the ticket is in use.
        """
        job = Job.of(ticket, request, self._jobs)
        ids = [self.dialogue.ids(state) for state in request.states]
        for state, tokens in zip(request.states, ids, strict=True):
            if not 0 < len(tokens) < self.context:
                raise ValueError(
                    f"problem {state.problem.id!r} with {len(state.steps)} steps takes {len(tokens)} tokens; "
                    f"policy {self.name!r} reads 1 to {self.context - 1}"
                )
        self._jobs[ticket] = job
        if not job.missing:
            self._done.append(job)
        for i, (state, tokens) in enumerate(zip(request.states, ids, strict=True)):
            for j, seed in enumerate(request.seeds[i]):
                sample = _Sample(job, (i, j), seed & 0xFFFFFFFFFFFFFFFF, state, tokens)
                self._lines.add(request, tokens, sample)

    @torch.inference_mode()
    def poll(self) -> Sequence[tuple[int, Proposed | Exception]]:
        """Decode until a request is complete, for about `_BURST` seconds; return what is complete."""
        until = time.monotonic() + _BURST
        while not self._done:
            self._admit()
            if not self._active:
                break
            self._decode()
            if time.monotonic() > until:
                break
        done, self._done = self._done, []
        for job in done:
            del self._jobs[job.ticket]
        return [(job.ticket, job.reply(self.parameters)) for job in done]

    @torch.inference_mode()
    def cancel(self, scope: str) -> None:
        """Drop the requests of a search and the keys and values kept for it."""
        self._queue = deque(sample for sample in self._queue if sample.scope != scope)
        self._keep([row for row, sample in enumerate(self._active) if sample.scope != scope])
        self._done = [job for job in self._done if job.request.scope != scope]
        self._jobs = {ticket: job for ticket, job in self._jobs.items() if job.request.scope != scope}
        self._prefixes.drop(scope)
        self._lines.drop(scope)

    def close(self) -> None:
        """Drop everything, the rows' memory included; the policy may be used again."""
        for scope in {job.request.scope for job in self._jobs.values()}:
            self.cancel(scope)
        self._lines.clear()
        self._prefixes = Prefixes(self._prefixes.limit)
        self._held = Rows(self._none)

    # -------------------------------------------------------------------------------------------------- admission

    def _admit(self) -> None:
        """Give queued samples the free rows, after running what their states still lack."""
        count = min(self.rows - len(self._active), len(self._queue))
        groups: dict[tuple[str, Ids], list[_Sample]] = {}
        for sample in filter(self._walk, [self._queue.popleft() for _ in range(count)]):
            groups.setdefault((sample.scope, sample.tokens), []).append(sample)
        if not groups:
            return
        joined = [(samples, self._prefill(samples[0])) for samples in groups.values()]
        for samples, prefix in joined:
            for sample in samples:
                sample.prefix = prefix
        self._join(joined)
        self._prefixes.trim()

    def _walk(self, sample: _Sample) -> bool:
        """Draw what a sample has in common with those before it: the model need not run for that.

        Returns:
            Whether it goes on; not so only where an environment says now that it is over, and did not before.
        """
        self._writer.begin(sample)
        if sample.branch is not None:
            for token, branch in walk(sample.branch, sample.seed, sample.drawn):
                sample.branch = branch
                sample.known += 1
                if self._writer.add(sample, token, branch.logprob) == "end":
                    self._finish(sample)
                    return False
        return True

    def _finish(self, sample: _Sample) -> None:
        self._lines.end(sample)
        if sample.job.finish(sample.place, sample.steps, sample.drawn, sample.known):
            self._done.append(sample.job)

    def _find(self, sample: _Sample) -> Prefix | None:
        """The longest kept prefix of a sample: up to its last token, or to the last of a state on the way to it."""
        known = sample.branch.kept if sample.branch is not None else None
        return self._prefixes.nearest(
            sample.scope, sample.tokens, known, lambda: [*self.dialogue.parts(sample.state), tuple(sample.new)]
        )

    def _prefill(self, sample: _Sample) -> Prefix | None:
        """What a sample needs, all but its last token, kept or run now."""
        prefix, tokens = self._find(sample), sample.tokens
        known = len(prefix.ids) if prefix else 0
        lacking = tokens[known:-1]
        if not lacking:
            return prefix
        cache = _cache_of((k[None], v[None]) for k, v in (prefix.whole() if prefix else self._none))
        for start in range(0, len(lacking), _CHUNK):
            self._run(cache, [lacking[start : start + _CHUNK]], [known + start])
        sample.job.prefilled += len(lacking)
        own = [(k[0, :, known:].clone(), v[0, :, known:].clone()) for k, v in _layers(cache)]
        return self._prefixes.add(sample.scope, tokens[:-1], prefix, own)

    def _join(self, joined: Sequence[tuple[list[_Sample], Prefix | None]]) -> None:
        """Append rows that hold what is before the samples' last tokens."""
        self._held.append([(prefix.whole() if prefix else self._none, len(samples)) for samples, prefix in joined])
        self._active += [sample for samples, _ in joined for sample in samples]

    def _keep(self, rows: Sequence[int]) -> None:
        """Let all samples but those in some rows go, and with them what only they needed."""
        if len(rows) == len(self._active):
            return
        length = max((self._active[row].length for row in rows), default=0)
        self._active = [self._active[row] for row in self._held.keep(rows, length)]

    # --------------------------------------------------------------------------------------------------- decoding

    def _decode(self) -> None:
        """One token for every active sample."""
        active = self._active
        last = [[sample.new[-1] if sample.new else sample.ids[-1]] for sample in active]
        logits = self._run(self._held.cache(), last, [sample.length for sample in active])
        seeds = np.array([sample.seed for sample in active], np.uint64)
        uniforms = uniform(seeds, np.array([sample.drawn for sample in active]))
        temperatures = np.array([sample.job.request.temperature for sample in active], np.float32)
        branches = self._lines.branches(active)
        tokens, logprobs = draw(logits, uniforms, temperatures, self.options.top_p, self.options.top_k, branches)
        self._lines.follow(active, branches)
        broken = {active[row].scope for row in np.flatnonzero(np.isnan(logprobs))}
        staying = []
        for row, (sample, token, logprob) in enumerate(zip(active, tokens.tolist(), logprobs.tolist(), strict=True)):
            if sample.scope in broken:
                continue
            ids, new = sample.ids, sample.new
            led = self._writer.add(sample, token, logprob)
            if led != "on" and (sample.whole or sample.branch is not None):
                sample.prefix = self._store(row, sample, (*ids, *new)[:-1])
                if sample.branch is not None:
                    sample.branch.keep(sample.prefix)
            if led == "anew":
                self._queue.appendleft(sample)
            elif led != "end":
                staying.append(row)
            else:
                self._finish(sample)
        self._keep(staying)
        for scope in broken:
            self._fail(scope)
        self._prefixes.trim()

    def _fail(self, scope: str) -> None:
        """Answer the requests of a search by the error that its model is broken."""
        self._lines.drop(scope)
        self._queue = deque(sample for sample in self._queue if sample.scope != scope)
        for job in self._jobs.values():
            if job.request.scope == scope and job.missing:
                job.error = BrokenModel(self.name)
                self._done.append(job)

    def _run(self, cache: Any, ids: Sequence[Sequence[int]], starts: Sequence[int]) -> Tensor:
        """Run new tokens of rows, and add their keys and values to a cache.

        Args:
            cache: row i ends with the first ``starts[i]`` tokens of its sequence.
            ids: new tokens of each row, equally many.
            starts: position of the first of them in each row's sequence.

        Returns:
            The logits after the last token, (rows, vocabulary), in float32.
        """
        device, length = self.model.device, cache.get_seq_length()
        tokens, first = torch.tensor(ids, device=device), torch.tensor(starts, device=device)[:, None]
        positions = first + torch.arange(tokens.shape[1], device=device)
        mask = torch.arange(length + tokens.shape[1], device=device) >= length - first
        given = {"attention_mask": mask.long(), "position_ids": positions, self._cache_name: cache, "use_cache": True}
        logits: Tensor = self.model(input_ids=tokens, **given, **self._few).logits
        return logits[:, -1].float()

    @torch.inference_mode()
    def _probe(self) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of no tokens, (heads, 0, width) for each layer.

        Raises:
            UnusableModel: when the model keeps something else, or when what it says of a text in two pieces, at the
                positions that are given, is not what it says of the whole.
        """
        cache = _cache_of(())
        ids = _trial(self.model.config.get_text_config(), min(_TRIAL, self.context))
        first, length = ids[: len(ids) // 2], len(ids) // 2
        try:
            self._run(cache, [first], [0])
            shapes = {(keys.ndim, keys.shape[2], values.shape[2]) for keys, values in _layers(cache)}
            none = [(keys[0, :, :0].clone(), values[0, :, :0].clone()) for keys, values in _layers(cache)]
            known = shapes == {(4, length, length)}
            found = self._run(cache, [ids[length:]], [length])[0] if known else None
            whole = self.model(input_ids=torch.tensor([ids], device=self.model.device), use_cache=False, **self._few)
        except Exception as error:
            raise UnusableModel(f"{self.name} does not go on from keys and values: {said(error)}") from error
        if found is None:
            raise UnusableModel(f"{self.name} keeps something else than the keys and values of each token")
        expected = whole.logits[0, -1].float()
        tolerance = 1e-3 if self.model.dtype == torch.float32 else 0.1
        close = tolerance * float(expected.abs().nan_to_num(0, 0, 0).max())
        if not torch.allclose(found, expected, rtol=0, atol=close, equal_nan=True):
            raise UnusableModel(
                f"{self.name} does not read a text from left to right, token by token, at positions from 0 on; a "
                f"{type(self.model).__name__} cannot be run here"
            )
        return none

    def _store(self, row: int, sample: _Sample, ids: Ids) -> Prefix:
        """Keep what a row holds, for those who go on from there."""
        found = self._prefixes.find(sample.scope, ids)
        if found is not None:
            return found
        first = self._held.length - len(ids) + (len(sample.prefix.ids) if sample.prefix else 0)
        own = [(k[row, :, first:].clone(), v[row, :, first:].clone()) for k, v in self._held.layers()]
        return self._prefixes.add(sample.scope, ids, sample.prefix, own)


def _trial(config: Any, count: int) -> list[int]:
    """Token ids to try a model on: any but padding."""
    ids = [(7 * index + 3) % config.vocab_size for index in range(count)]
    return [(token + 1) % config.vocab_size if token == config.pad_token_id else token for token in ids]


def _cache_of(layers: Iterable[tuple[Tensor, Tensor]]) -> Any:
    """A cache of transformers that holds keys and values, (rows, heads, length, width) for each layer."""
    from transformers import DynamicCache

    cache = DynamicCache()
    for at, (keys, values) in enumerate(layers):
        cache.update(keys, values, at)
    return cache


def _layers(cache: Any) -> list[tuple[Tensor, Tensor]]:
    return [(layer.keys, layer.values) for layer in cache.layers]
