"""Text written by a checkpoint, token by token: what a generative verifier thinks before it judges.

Drafts are decoded as the samples of policies are (`policies.generation.batch`): they join and leave between decode
steps, and nothing waits for the longest. A draft depends on its prompt, its seed and the sampling alone, never on what
is written beside it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from policies.generation.batch import DecodeLoop, DecodeSample, StepEnd
from policies.generation.step_stream import last_characters
from policies.memory_traffic import position_size, positions_read
from policies.models.kv_cache import CachedDecoder
from policies.models.prefix_tree import Ids
from verifiers.scoring.cached_scorer import Spent
from verifiers.scoring.hf_model import Backbone
from verifiers.scoring.tokenization import Texts

_LOOK_BACK = 8  # tokens more than a text has characters, in which its end is looked for


@dataclass(frozen=True)
class CritiqueOptions:
    """How the tokens of a critique are drawn.

    Args:
        temperature: 0 is greedy.
        top_p: from the likeliest tokens that together have this probability.
        top_k: from this many of the likeliest tokens; 0 is all.
        tokens: most that are drawn.

    Raises:
        ValueError: for a value that cannot be.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    tokens: int = 4096

    def __post_init__(self) -> None:
        """Raise ValueError if an option is outside its range."""
        if self.temperature < 0 or not 0 < self.top_p <= 1 or self.top_k < 0 or self.tokens < 0:
            raise ValueError(f"{self} given; temperature, top_k and tokens are 0 or more, top_p above 0 and at most 1")


@dataclass(eq=False, slots=True, kw_only=True)
class Draft(DecodeSample):
    """A text to be written after a prompt, and what is read at its end; its `ids` are the prompt.

    Args:
        keys: prefixes of the prompt that others may share, the shortest first, and the prompt.
        closing: text put after it, where the text that ends it was written.
        forcing: text put after it, where it was not.
        keep: whether others will go on from what was written.

    Attributes:
        written: what was written, and the text put after it.
        outputs: logits of the next token after that, over the columns asked for; NaN if there was no room.
        spent: what it took.
    """

    keys: tuple[Ids, ...]
    closing: str
    forcing: str
    keep: bool = False
    written: Ids = ()
    outputs: tuple[float, ...] = ()
    spent: Spent = field(default=Spent())
    reading: bool = False  # all is written but what is to be put after it

    @classmethod
    def of(cls, scope: str, keys: tuple[Ids, ...], name: str, **options: Any) -> Draft:
        """A draft after a prompt, with a seed of its own for each name."""
        seed = int.from_bytes(hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8).digest(), "big")
        return cls(scope, seed, 0.0, keys[-1], keys=keys, **options)

    @property
    def whole(self) -> Ids:
        """The prompt and what was written."""
        return self.ids + self.written


class CritiqueWriter:
    """Writes drafts: a `policies.generation.batch.SampleText`, and the loop that decodes them.

    Args:
        model: a causal checkpoint that runs in pieces.
        texts: its tokenizer.
        columns: token ids whose logits are read at the end of each draft.
        stop: the text that ends what is written; it stays in it.
        sampling: how tokens are drawn.
        context: most tokens of a prompt with what is written after it.
        rows: most drafts in progress at once.
        memory: bytes of keys and values of prompts kept for reuse, and about as many of drafts in progress.
    """

    forces = True

    def __init__(
        self,
        model: Backbone,
        texts: Texts,
        columns: Sequence[int],
        stop: str,
        sampling: CritiqueOptions,
        context: int,
        rows: int,
        memory: int,
    ) -> None:
        self.model, self.texts, self.columns, self.sampling = model, texts, tuple(columns), sampling
        self.stop, self.context = stop, context
        sizes = model.config
        position = sizes.layers * 2 * sizes.kv_heads * sizes.head_dim * model.dtype.itemsize
        self._ends = set(texts.eos)
        self._decoder = CachedDecoder(model, memory)
        self._loop: DecodeLoop[Draft] = DecodeLoop(
            self._decoder, self, rows, sampling.top_p, sampling.top_k, positions=memory // position
        )
        self._done: list[Draft] = []
        self._kinds: dict[int, int] = {}  # of tokens
        self._lasts = last_characters([stop])

    @property
    def kept_bytes(self) -> int:
        """Memory of all that is kept."""
        return self._decoder.prefixes.bytes

    def submit(self, draft: Draft) -> None:
        """Queue a draft; one that there is no room for is done."""
        draft.temperature = self.sampling.temperature
        forced = len(self._ids(draft.forcing))
        longest = max(forced, len(self.stop) + len(self._ids(draft.closing)))
        if len(draft.ids) + longest >= self.context:
            draft.outputs = (math.nan,) * len(self.columns)
            self._done.append(draft)
            return
        draft.longest = min(self.context, len(draft.ids) + self.sampling.tokens + forced)
        self._loop.add(draft)

    @torch.inference_mode()
    def step(self) -> list[Draft]:
        """Write one token of every draft in progress; return those that are done."""
        self._loop.step()
        done, self._done = self._done, []
        return done

    @torch.inference_mode()
    def drop(self, scope: str) -> None:
        """Forget the drafts and the prompts of a scope."""
        self._loop.drop(scope)
        self._done = [draft for draft in self._done if draft.scope != scope]

    def clear(self) -> None:
        """Forget everything, the memory included."""
        self._loop.clear()
        self._done = []

    # ------------------------------------------------------------------------------------------------- of the loop

    def begin(self, sample: Draft) -> None:
        """Before the first token."""
        most = min(self.sampling.tokens, self.context - len(sample.ids) - len(self._ids(sample.forcing)))
        if most < 1:
            self._put(sample, sample.forcing, 0)
        else:
            sample.limit = most

    def kind(self, token: int) -> int:
        """Whether a draft may end after a token."""
        if token not in self._kinds:
            text = self.texts.decode((token,))
            self._kinds[token] = int(token in self._ends or not self._lasts.isdisjoint(text))
        return self._kinds[token]

    def end_step(self, sample: Draft, new: Ids, logprob: float) -> StepEnd | None:
        """Put the words that lead to the verdict after a text that ended; end the draft after them."""
        if sample.reading:
            sample.written = new[:-1]  # the last token was drawn where the verdict is read
            return StepEnd("end", sample.keep)
        if new[-1] in self._ends:
            self._put(sample, sample.forcing, len(new) - 1)
            sample.instead, sample.forced = sample.forced[0], sample.forced[1:]
        elif self.stop in self.texts.decode(new[-len(self.stop) - _LOOK_BACK :]):
            self._put(sample, sample.closing, len(new))
        elif len(new) >= sample.limit:
            self._put(sample, sample.forcing, len(new))
        return None

    def _put(self, sample: Draft, text: str, count: int) -> None:
        """Write a text after so many tokens, and then read."""
        sample.reading, sample.watch = True, 0
        sample.forced = self._ids(text)
        sample.limit = count + len(sample.forced) + 1

    def known(self, sample: Draft) -> Any:
        """The longest kept prefix among the keys of its prompt."""
        for key in reversed(self.keys(sample, 0)):
            if (prefix := self._decoder.prefixes.find(sample.scope, key)) is not None:
                return prefix
        return None

    def keys(self, sample: Draft, known: int) -> tuple[Ids, ...]:
        """Those of its prompt: the last token is run by the first decode step."""
        before = sample.ids[:-1]
        return (*(key for key in sample.keys if known < len(key) < len(before)), before)

    def charge(self, sample: Draft, tokens: int) -> None:
        """The first draft of a prompt pays for it."""
        sample.spent += Spent.once(self.model.parameters, tokens)

    def broken(self, scopes: set[str]) -> set[str]:
        """Nothing is given up: a verdict that is no number is a score of NaN."""
        return set()

    def finish(self, sample: Draft, row: int | None) -> None:
        """Read the verdict off the last logits of its row, and count the draft as done."""
        logits = self._loop.logits
        assert logits is not None
        assert row is not None
        sample.outputs = tuple(logits[row, list(self.columns)].tolist())
        drawn, parameters = sample.drawn, self.model.parameters
        keys = float(position_size(self.model.config) * positions_read(len(sample.ids), 0, drawn))
        sample.spent += Spent(drawn, 2.0 * parameters * drawn, float(parameters * drawn), keys)
        self._done.append(sample)

    def _ids(self, text: str) -> Ids:
        return self.texts.encode([text])[0]
