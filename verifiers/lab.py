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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from envs.core import Environment, State
from envs.llama import ROWS, Cache, Ids, Llama, Prefix, Prefixes, Tokens, UnsupportedModel
from verifiers.core import Score, Scored

PRIOR = 0.5  # score of empty steps before the first one with text
_RUN = 4096  # most tokens of one pass, padding included


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
class _Tail:
    """What a state needs run: the parts that end ``keys``, after `prefix`."""

    scope: str
    prefix: Prefix | None
    keys: tuple[Ids, ...]
    closing: tuple[int, ...]  # per key; -1 for the prompt

    @property
    def start(self) -> int:
        return len(self.prefix.ids) if self.prefix else 0

    @property
    def length(self) -> int:
        return len(self.keys[-1]) - self.start


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
        self._prefixes = Prefixes(memory)
        self._cache = Cache(self.model)
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
        layouts = [[lay_out(self.tokens, self.environment, state) for state in request.states] for _, request in queue]
        found: dict[tuple[str, Ids], float] = {}
        spent = [0] * len(queue)
        # prompts first, as the states of a search share theirs; then the longest, as they answer for their prefixes
        work = sorted(
            ((index, layout) for index, group in enumerate(layouts) for layout in group),
            key=lambda item: -len(item[1].keys[-1]),
        )
        for prompts in (True, False):
            tails: list[_Tail] = []
            covered: set[tuple[str, Ids]] = set()
            for index, layout in work:
                scope = queue[index][1].scope
                keys = [key for key in layout.keys[: 1 if prompts else None] if len(key) <= self.model.config.context]
                if not keys or (scope, keys[-1]) in covered:
                    continue
                covered.update((scope, key) for key in keys)
                tail = self._tail(scope, keys, (-1, *layout.closing), found)
                if tail is not None:
                    spent[index] += tail.length
                    tails.append(tail)
            self._run(tails, found)
        replies = []
        for (ticket, request), group, tokens in zip(queue, layouts, spent, strict=True):
            scores = tuple(
                tuple(found.get((request.scope, layout.keys[k]), math.nan) if k else PRIOR for k in layout.origin)
                for layout in group
            )
            replies.append((ticket, Scored(scores, tokens, 2.0 * self.parameters * tokens)))
        return replies

    def cancel(self, scope: str) -> None:
        """Drop the requests of a search and the keys and values kept for it."""
        self._queue = [(ticket, request) for ticket, request in self._queue if request.scope != scope]
        self._prefixes.drop(scope)

    def close(self) -> None:
        """Drop everything, the cache's memory included; the verifier may be used again."""
        self._queue = []
        self._prefixes = Prefixes(self._prefixes.limit)
        self._cache = Cache(self.model)

    # ---------------------------------------------------------------------------------------------------- running

    def _tail(
        self, scope: str, keys: Sequence[Ids], closing: Sequence[int], found: dict[tuple[str, Ids], float]
    ) -> _Tail | None:
        """What is left to run of a state, None if nothing; scores that are known already go to `found`."""
        prefix, at = None, len(keys)
        while at and (prefix := self._prefixes.find(scope, keys[at - 1])) is None:
            at -= 1
        for known in prefix.chain() if prefix else ():
            found[scope, known.ids] = known.note
        return _Tail(scope, prefix, tuple(keys[at:]), tuple(closing[at : len(keys)])) if at < len(keys) else None

    def _run(self, tails: list[_Tail], found: dict[tuple[str, Ids], float]) -> None:
        """Run tails in batches of like length; scores go to `found`, keys and values are kept."""
        tails = sorted(tails, key=lambda tail: tail.length)
        while tails:
            batch = [tails.pop()]  # the longest first: the others of the batch are padded to it
            most = max(1, _RUN // batch[0].length)
            batch += [tails.pop() for _ in range(min(most - 1, len(tails)))]
            self._run_batch(batch, found)

    def _run_batch(self, batch: Sequence[_Tail], found: dict[tuple[str, Ids], float]) -> None:
        new = -(-batch[0].length // ROWS) * ROWS
        end = max(tail.start for tail in batch) + new
        self._cache.reserve(len(batch), end)
        ids = np.zeros((len(batch), new), np.int64)
        for row, tail in enumerate(batch):
            ids[row, : tail.length] = tail.keys[-1][tail.start :]
            if tail.prefix is not None:
                tail.prefix.load(self._cache, row)
        starts = torch.tensor([tail.start for tail in batch], device=self.model.device)
        hidden = self.model.run(self._cache, torch.from_numpy(ids).to(self.model.device), starts, end)
        right = torch.softmax(self.model.logits(hidden), -1)[..., 1].cpu().numpy()
        for row, tail in enumerate(batch):
            prefix, start = tail.prefix, tail.start
            for key, closing in zip(tail.keys, tail.closing, strict=True):
                score = round(float(right[row, closing - tail.start]), 5) if closing >= 0 else math.nan
                data = self._cache.data[:, row, :, start : len(key)].clone()
                prefix, start = self._prefixes.add(tail.scope, key, prefix, data, score), len(key)
                found[tail.scope, key] = score
