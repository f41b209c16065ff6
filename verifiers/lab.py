"""The embedded verifier: a PRM in the token-classification layout (as TRL trains it), run by our own decoder.

The text is that of `envs.core.render`; the probability of label 1 at the token that closes a step is the score of
that step. Three things are defined here that others leave to chance:

* Scores are read at the positions where the steps were put, so no text can forge one, and a doubled delimiter makes no
  step: steps without text are left out of what the model reads, and have the score of the step before them (`PRIOR`
  if there is none).
* Steps beyond the model's context are scored NaN, those before it as if the others were not there.
* Scores are rounded to five decimals: ties stay ties whatever the batch (`envs.llama` keeps rows independent).

What was run for a state is kept for its scope, so that scoring a child runs only the child's last step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from envs.core import Environment, State
from envs.llama import Ids, Llama, Prefix, Prefixes, Tail, Tokens, UnsupportedModel
from verifiers.core import Score, Scored

PRIOR = 0.5  # score of empty steps before the first one with text
_RUN = 512  # tokens of one pass, or a few more: larger ones do not fit the processor's caches and are slower


@dataclass(frozen=True)
class Layout:
    """How a verifier reads a state, for scoring and for training alike.

    Args:
        keys: the ids up to the end of the prompt, then up to the end of each step that has text.
        closing: for each of these steps, the position of the token that closes it (an observation may follow).
        origin: for each step of the state, whose score it has: that of the step that ends ``keys[origin]``; 0 stands
            for `PRIOR`.
    """

    keys: tuple[Ids, ...]
    closing: tuple[int, ...]
    origin: tuple[int, ...]


def lay_out(tokens: Tokens, environment: Environment, state: State) -> Layout:
    """Tokenise a state step by step; delimiters inside a step are read as spaces, steps without text left out."""
    delimiter = environment.delimiter
    keys = [tokens.begin + tokens.encode(environment.prompt(state.problem))]
    closing, origin = [], []
    for step in state.steps:
        text = step.text
        if delimiter in text:
            text = " ".join(piece for piece in text.split(delimiter) if piece)
        if text.strip():
            ids = keys[-1] + tokens.encode(text + delimiter)
            closing.append(len(ids) - 1)
            keys.append(ids + tokens.encode(step.observation + delimiter) if step.observation else ids)
        origin.append(len(keys) - 1)
    return Layout(tuple(keys), tuple(closing), tuple(origin))


@dataclass(frozen=True)
class _Work:
    """Tokens to run, and for each key of theirs the position of the token whose score is wanted (-1: none)."""

    tail: Tail
    closing: tuple[int, ...]


class LabVerifier:
    """A token-classification checkpoint as a `Verifier`.

    Args:
        folder: config.json, model.safetensors, tokenizer.json (the transformers layout); its name names the verifier.
        environment: writes the prompt and says what closes a step.
        device: ``cpu``, ``cuda``, or None for a GPU where there is one.
        memory: bytes of keys and values kept for reuse, the least recently used dropped beyond it.

    Raises:
        UnsupportedModel: when the folder does not hold a Llama-architecture token classifier with two labels.
    """

    def __init__(
        self, folder: str | Path, environment: Environment, *, device: str | None = None, memory: int = 256 << 20
    ) -> None:
        folder = Path(folder)
        self.model = Llama(folder, device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if self.model.config.causal or self.model.config.labels != 2:
            raise UnsupportedModel(f"{folder} is no token classifier with two labels, so not a verifier")
        self.tokens = Tokens(folder, self.model.config.begin)
        self.environment = environment
        self.name = folder.resolve().name
        self.parameters = self.model.parameters
        self._prefixes = Prefixes(self.model, memory)
        self._queue: list[tuple[int, Score]] = []

    # ------------------------------------------------------------------------------------------------ the contract

    def submit(self, ticket: int, request: Score) -> None:
        """Queue a request; raises ValueError when its ticket is in use."""
        if any(ticket == other for other, _ in self._queue):
            raise ValueError(f"ticket {ticket} is in use")
        self._queue.append((ticket, request))

    @torch.inference_mode()
    def poll(self) -> Sequence[tuple[int, Scored]]:
        """Score all that is queued, in common batches."""
        queue, self._queue = self._queue, []
        layouts = [[self._lay_out(state) for state in request.states] for _, request in queue]
        known: dict[tuple[str, Ids], Prefix] = {}
        spent = [0] * len(queue)
        # prompts first, as the states of a search share theirs; then the longest, as they answer for their prefixes
        work = sorted(
            ((index, layout) for index, group in enumerate(layouts) for layout in group if layout.keys),
            key=lambda item: -len(item[1].keys[-1]),
        )
        for prompts in (True, False):
            batch: list[_Work] = []
            size = 0
            covered: set[tuple[str, Ids]] = set()
            for index, layout in work:
                scope, keys = queue[index][1].scope, layout.keys[:1] if prompts else layout.keys
                if (scope, keys[-1]) in known or (scope, keys[-1]) in covered:
                    continue
                before, new = self._split(scope, keys)
                if before is not None and not new:
                    known[scope, keys[-1]] = before
                    continue
                covered.update((scope, key) for key in new)
                tail = Tail(scope, before, new)
                spent[index] += tail.length
                size += tail.length
                batch.append(_Work(tail, (-1, *layout.closing)[len(keys) - len(new) : len(keys)]))
                if size >= _RUN:
                    self._run(batch, known)
                    batch, size = [], 0
            if batch:
                self._run(batch, known)
        replies = []
        for (ticket, request), group, tokens in zip(queue, layouts, spent, strict=True):
            scores = tuple(self._scores(request.scope, layout, known) for layout in group)
            replies.append((ticket, Scored(scores, tokens, 2.0 * self.parameters * tokens)))
        return replies

    def cancel(self, scope: str) -> None:
        """Drop the requests of a search and the keys and values kept for it."""
        self._queue = [(ticket, request) for ticket, request in self._queue if request.scope != scope]
        self._prefixes.drop(scope)

    def close(self) -> None:
        """Drop everything, the pool's memory included; the verifier may be used again."""
        self._queue = []
        self._prefixes = Prefixes(self.model, self._prefixes.limit)

    # ---------------------------------------------------------------------------------------------------- running

    def _lay_out(self, state: State) -> Layout:
        """How a state is read, without the keys that the context has no room for."""
        layout, context = lay_out(self.tokens, self.environment, state), self.model.config.context
        if len(layout.keys[-1]) <= context:
            return layout
        return replace(layout, keys=tuple(key for key in layout.keys if len(key) <= context))

    def _split(self, scope: str, keys: tuple[Ids, ...]) -> tuple[Prefix | None, tuple[Ids, ...]]:
        """The longest prefix that is kept, and the keys after it."""
        for at in range(len(keys), 0, -1):
            prefix = self._prefixes.find(scope, keys[at - 1])
            if prefix is not None:
                return prefix, keys[at:]
        return None, keys

    def _run(self, batch: Sequence[_Work], known: dict[tuple[str, Ids], Prefix]) -> None:
        """Run tails in one pass; what they end in goes to `known`, with scores."""
        wanted, first = [], 0
        for work in batch:
            start = work.tail.start
            wanted += [first + closing - start for closing in work.closing if closing >= 0]
            first += len(work.tail.keys[-1]) - start
        made, hidden = self._prefixes.extend([work.tail for work in batch], wanted)
        right = iter(torch.softmax(self.model.logits(hidden), -1)[:, 1].tolist())
        for work, prefixes in zip(batch, made, strict=True):
            for prefix, closing in zip(prefixes, work.closing, strict=True):
                if closing >= 0:
                    prefix.note = round(next(right), 5)
                known[prefix.scope, prefix.ids] = prefix
        self._prefixes.trim()

    def _scores(self, scope: str, layout: Layout, known: dict[tuple[str, Ids], Prefix]) -> tuple[float, ...]:
        """One score per step of a state."""
        notes: dict[int, float] = {}
        prefix = known[scope, layout.keys[-1]] if layout.keys else None
        while prefix is not None:
            notes[len(prefix.ids)] = prefix.note
            prefix = prefix.before
        scores = (PRIOR, *(notes.get(len(key), math.nan) for key in layout.keys[1:]))
        return tuple(scores[k] if k < len(scores) else math.nan for k in layout.origin)
