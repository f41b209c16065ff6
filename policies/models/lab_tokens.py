"""The tokenizer of the embedded models."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer

from envs.core import Environment, Reviser, State, Step, opening
from policies.models.errors import UnsupportedModel
from policies.models.prefix_tree import Ids
from policies.models.pretrained import UnusableModel, check_tokenizer, panics, said

# ----------------------------------------------------------------------------------------------------------- tokens


class Tokens:
    """How a model reads states: each part of a state is tokenised by itself, so that a prefix never changes ids.

    Text cannot forge special tokens: ``<eos>`` inside a question is plain characters.

    Args:
        folder: holds tokenizer.json.
        begin: id put in front of the prompt, if any.
        vocabulary: tokens that the model knows, if that is to be looked at.

    Raises:
        UnsupportedModel: when there is no tokenizer, it cannot be used, or it has more tokens than the model.
    """

    def __init__(self, folder: Path, begin: int | None, vocabulary: int | None = None) -> None:
        if not (folder / "tokenizer.json").exists():
            raise UnsupportedModel(f"{folder} has no tokenizer.json")
        self.folder = folder
        try:
            check_tokenizer(folder)
            with panics(folder):
                self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except UnusableModel as error:
            raise UnsupportedModel(str(error)) from None
        except Exception as error:  # the library raises plain `Exception` for what it cannot read
            raise UnsupportedModel(f"the tokenizer in {folder} cannot be read: {said(error)}") from None
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.tokenizer.encode_special_tokens = True
        most = max(self.tokenizer.get_vocab(with_added_tokens=False).values(), default=-1) + 1
        if most < 1 or (vocabulary is not None and most > vocabulary):
            raise UnsupportedModel(f"the tokenizer in {folder} has {most} tokens; its model knows {vocabulary}")
        self.begin: Ids = () if begin is None else (begin,)
        self.encode = lru_cache(maxsize=1 << 16)(self._encode)

    def _encode(self, text: str) -> Ids:
        text = text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair is no text: it becomes "?"
        with panics(self.folder):
            return tuple(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens left out."""
        with panics(self.folder):
            return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def parts(self, environment: Environment, state: State) -> list[Ids]:
        """The ids of the opening, attempt by attempt, then of each step with its observation: `render`, in parts."""
        steps = [self.step(environment, step) for step in state.steps]
        if state.attempts and isinstance(environment, Reviser):
            return [self.begin + self.encode(opening(environment, state)), *steps]
        prompt = self.encode(environment.prompt(state.problem))
        shown = [part for attempt in state.attempts for part in self._attempt(environment, prompt, attempt)]
        first, *rest = [*shown, prompt]
        return [self.begin + first, *rest, *steps]

    def _attempt(self, environment: Environment, prompt: Ids, attempt: Sequence[Step]) -> list[Ids]:
        return [prompt, *(self.step(environment, step) for step in attempt)]

    def step(self, environment: Environment, step: Step) -> Ids:
        """The ids of a step, closed by the delimiter, and of its observation."""
        ids = self.encode(step.text + environment.delimiter)
        return ids + self.encode(step.observation + environment.delimiter) if step.observation else ids
