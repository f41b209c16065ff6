"""Text written by a checkpoint, token by token: what a generative verifier thinks before it judges.

Drafts join and leave between decode steps, each in a row of one cache (`policies.models.kv_cache.Cache`); nothing waits
for the longest. A draft depends on its prompt, its seed and the sampling alone, never on what is written beside it.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from policies.models.kv_cache import ROWS, Cache, Prefix, Prefixes, Rows, Tail
from policies.models.prefix_tree import Ids
from verifiers.scoring.cached_scorer import Spent
from verifiers.scoring.hf_model import Backbone
from verifiers.scoring.tokenization import Texts

_LOOK_BACK = 8  # tokens more than a text has characters, in which its end is looked for


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Args:
        temperature: 0 is greedy.
        top_p: from the likeliest tokens that together have this probability.
        top_k: from this many of the likeliest tokens; 0 is all.
        tokens: most that are drawn.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    tokens: int = 4096

    def __post_init__(self) -> None:
        """Check the values."""
        if self.temperature < 0 or not 0 < self.top_p <= 1 or self.top_k < 0 or self.tokens < 0:
            raise ValueError(f"{self} given; temperature, top_k and tokens are 0 or more, top_p above 0 and at most 1")

    def draw(self, logits: NDArray[np.float32], chance: random.Random) -> int:
        """One of the tokens that logits are given for."""
        if not self.temperature or np.isnan(logits).any():
            return int(logits.argmax())
        order = np.argsort(-logits, kind="stable")[: self.top_k or None]
        scaled = logits[order].astype(np.float64) / self.temperature
        odds = np.exp(scaled - scaled[0])
        total = np.cumsum(odds / odds.sum())
        count = int(np.searchsorted(total, self.top_p)) + 1  # the first so many reach it
        kept = total[:count]
        drawn = np.searchsorted(kept, chance.random() * kept[-1], side="right")
        return int(order[min(int(drawn), len(kept) - 1)])


@dataclass(eq=False)
class Draft:
    """A text to be written after a prompt, and what is read at its end.

    Args:
        scope: the search that asks; prompts are kept for it.
        keys: prefixes of the prompt that others may share, the shortest first, and the prompt.
        seed: of the sampling.
        stop: the text that ends what is written; it stays in it.
        closing: text put after it, where `stop` was written.
        forced: text put after it, where it was not.
        keep: whether others will go on from what was written.

    Attributes:
        ids: what was written, and the text put after it.
        outputs: logits of the next token after that, over the columns asked for; NaN if there was no room.
        spent: what it took.
    """

    scope: str
    keys: tuple[Ids, ...]
    seed: str
    stop: str
    closing: str
    forced: str
    keep: bool = False
    ids: list[int] = field(default_factory=list, init=False)
    outputs: tuple[float, ...] = field(default=(), init=False)
    spent: Spent = field(default=Spent(), init=False)
    ending: list[int] | None = field(default=None, init=False)  # ids that are still to be put after it
    chance: random.Random = field(default_factory=random.Random, init=False)
    prefix: Prefix | None = field(default=None, init=False)  # all of the prompt but its last token

    @property
    def prompt(self) -> Ids:
        """The token ids to go on from."""
        return self.keys[-1]

    @property
    def whole(self) -> Ids:
        """The prompt and what was written."""
        return self.prompt + tuple(self.ids)


class Writer:
    """Writes drafts.

    Args:
        model: a causal checkpoint that runs in pieces.
        texts: its tokenizer.
        columns: token ids whose logits are read at the end of each draft.
        sampling: how tokens are drawn.
        context: most tokens of a prompt with what is written after it.
        rows: most drafts in progress at once.
        memory: bytes of keys and values of prompts kept for reuse, and about as many of drafts in progress.
    """

    def __init__(
        self,
        model: Backbone,
        texts: Texts,
        columns: Sequence[int],
        sampling: Sampling,
        context: int,
        rows: int,
        memory: int,
    ) -> None:
        self.model, self.texts, self.columns, self.sampling = model, texts, tuple(columns), sampling
        self.context, self.rows = context, rows
        sizes = model.config
        position = sizes.layers * 2 * sizes.kv_heads * sizes.head_dim * model.dtype.itemsize
        self._positions = memory // position  # that all rows together may have
        self._ends = set(texts.eos)
        self._prefixes = Prefixes(model, memory)
        self._cache = Cache(model)
        self._queue: deque[Draft] = deque()
        self._active: list[Draft] = []  # draft i is in row i

    def submit(self, draft: Draft) -> None:
        """Queue a draft."""
        draft.chance.seed(draft.seed)
        self._queue.append(draft)

    @torch.inference_mode()
    def step(self) -> list[Draft]:
        """Write one token of every draft in progress; return those that are done."""
        done = self._admit()
        if not self._active:
            return done
        count = len(self._active)
        start = np.array([len(draft.prompt) + len(draft.ids) - 1 for draft in self._active])
        last = [(draft.ids or draft.prompt)[-1] for draft in self._active]
        fill = max(0, ROWS - count)
        end = int(start.max()) + 1
        self._cache.reserve(count + fill, end)
        positions = torch.tensor([*start.tolist(), *[0] * fill], device=self.model.device)
        ids = torch.tensor([*last, *[0] * fill], device=self.model.device)
        logits = self.model.logits(self.model.run(Rows(self._cache, positions, end), ids, positions))[:count]
        table = logits.cpu().numpy()
        going: list[int] = []
        for row, draft in enumerate(self._active):
            draft.spent += self._cost(1)
            if self._go_on(draft, table[row]):
                going.append(row)
            else:
                done.append(draft)
                if draft.keep and draft.prefix is not None and draft.prefix.kept:
                    tail = Tail(draft.scope, draft.prefix, (draft.whole,))
                    self._prefixes.store([tail], self._cache, [row])
        self._prefixes.trim()
        self._keep_rows(going)
        return done

    def drop(self, scope: str) -> None:
        """Forget the drafts and the prompts of a scope."""
        self._queue = deque(draft for draft in self._queue if draft.scope != scope)
        self._keep_rows([row for row, draft in enumerate(self._active) if draft.scope != scope])
        self._prefixes.drop(scope)

    def clear(self) -> None:
        """Forget everything, the memory included."""
        self._queue.clear()
        self._active = []
        self._prefixes = Prefixes(self.model, self._prefixes.limit)
        self._cache = Cache(self.model)

    def _go_on(self, draft: Draft, logits: NDArray[np.float32]) -> bool:
        """Add a token to a draft, or read its end; whether it goes on."""
        if draft.ending is None:
            room = self.context - len(draft.prompt) - len(self._ids(draft.forced))
            token = self.sampling.draw(logits, draft.chance)
            if token not in self._ends and len(draft.ids) < min(self.sampling.tokens, room):
                draft.ids.append(token)
                if draft.stop in self.texts.decode(draft.ids[-len(draft.stop) - _LOOK_BACK :]):
                    draft.ending = self._ids(draft.closing)
                return True
            draft.ending = self._ids(draft.forced)
        if draft.ending:
            draft.ids.append(draft.ending.pop(0))
            return True
        draft.outputs = tuple(float(logits[column]) for column in self.columns)
        return False

    def _admit(self) -> list[Draft]:
        """Read the prompts of waiting drafts, and give them rows; return those that there is no room for."""
        hopeless: list[Draft] = []
        while self._queue and len(self._active) < self.rows:
            draft = self._queue[0]
            lengths = [self._length(each) for each in (*self._active, draft)]
            if self._active and len(lengths) * max(lengths) > self._positions:
                break
            self._queue.popleft()
            longest = max(len(self._ids(draft.forced)), len(draft.stop) + len(self._ids(draft.closing)))
            if len(draft.prompt) + longest >= self.context:
                draft.outputs = (math.nan,) * len(self.columns)
                hopeless.append(draft)
                continue
            before = draft.prompt[:-1]  # the last token is run by the first decode step
            keys = (*(key for key in draft.keys if len(key) < len(before)), before)
            kept = [self._prefixes.find(draft.scope, key) for key in keys]
            last = max((index for index, prefix in enumerate(kept) if prefix is not None), default=-1)
            prefix = kept[last] if last >= 0 else None
            if last < len(keys) - 1:
                tail = Tail(draft.scope, prefix, keys[last + 1 :])
                ((*_, prefix),), _ = self._prefixes.extend([tail])
                draft.spent += self._cost(tail.length)
            assert prefix is not None
            row = len(self._active)
            self._cache.reserve(max(ROWS, row + 1), len(draft.prompt))
            self._prefixes.load([(prefix, [row])], self._cache)
            draft.prefix = prefix
            self._active.append(draft)
        self._prefixes.trim()
        return hopeless

    def _length(self, draft: Draft) -> int:
        """Most positions that a draft may come to have."""
        return min(self.context, len(draft.prompt) + self.sampling.tokens + len(self._ids(draft.forced)))

    def _keep_rows(self, rows: Sequence[int]) -> None:
        """Let go of the others; what is left moves up."""
        moved = [(row, place) for place, row in enumerate(rows) if row != place]
        if moved:
            length = max(len(self._active[row].prompt) + len(self._active[row].ids) for row, _ in moved)
            self._cache.move([row for row, _ in moved], [place for _, place in moved], min(length, self._cache.length))
        self._active = [self._active[row] for row in rows]

    def _ids(self, text: str) -> list[int]:
        return list(self.texts.encode([text])[0])

    def _cost(self, tokens: int) -> Spent:
        return Spent(tokens, 2.0 * self.model.parameters * tokens)
