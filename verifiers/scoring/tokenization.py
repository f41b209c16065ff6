"""From pieces of text to token ids: as the published code tokenises them, but so that text stays text.

Neighbouring texts are tokenised together, as one string, so that the ids are those of the whole text whatever the
tokenizer merges. What a problem or a step says is never read as a special token: only the pieces that a family gives as
ids, and what a chat template writes, are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from policies.generation.chat_template import render
from policies.models.errors import UnsupportedModel
from policies.models.prefix_tree import Ids
from policies.models.pretrained import UnusableModel, check_files, check_tokenizer, load_tokenizer, panics, said

Piece = str | Ids
"""A text, or ids that stand for themselves; ``()`` keeps two texts from being tokenised together."""

_OTHER_FILES = ("tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model")
_DATE = "26 Jul 2024"  # the default of the Llama 3.1 template; newer ones would write today's, and scores would change


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a folder; raises `UnsupportedModel` if there is none."""
    try:
        if folder.is_dir():
            check_files(folder)
        content: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except UnusableModel as error:
        raise UnsupportedModel(str(error)) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UnsupportedModel(f"{folder} has no config.json that can be read: {said(error)}") from None
    if not isinstance(content, dict):
        raise UnsupportedModel(f"{folder} has no config.json that can be read: it is no mapping")
    return content


def architecture_of(folder: Path) -> str:
    """The class that config.json of a folder names; empty where it names none."""
    named = read_config(folder).get("architectures")
    return named[0] if isinstance(named, list) and named and isinstance(named[0], str) else ""


class Texts:
    """The tokenizer of a checkpoint.

    Args:
        folder: holds tokenizer.json, or what transformers makes a fast tokenizer of.

    Attributes:
        begin: ids that the tokenizer puts in front of every text.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        raw = self._raw()
        with _reading(folder):
            self._vocabulary = Tokenizer.from_str(json.dumps(raw))
            framed = self._vocabulary.encode("a")
            if 0 not in framed.special_tokens_mask:
                raise UnsupportedModel(f"the tokenizer in {folder} has no token for the letter a")
        self.begin: Ids = tuple(framed.ids[: framed.special_tokens_mask.index(0)])
        added = raw.get("added_tokens") or []
        self._added = {token["content"]: int(token["id"]) for token in added if token["content"].strip()}
        for token in added:  # runs of spaces are text like any other
            token["special"] = bool(token["content"].strip())
        with _reading(folder):
            plain = Tokenizer.from_str(json.dumps(raw | {"added_tokens": added, "post_processor": None}))
        plain.encode_special_tokens = True
        self._plain = plain
        names = sorted(self._added, key=len, reverse=True)
        self._special = re.compile(f"({'|'.join(map(re.escape, names))})") if names else None
        self._encode = lru_cache(maxsize=1 << 10)(self._encode_text)
        self.template = lru_cache(maxsize=1 << 10)(self._template)

    def _raw(self) -> dict[str, Any]:
        """What tokenizer.json says, or would say."""
        path = self.folder / "tokenizer.json"
        if not path.is_file() and not any((self.folder / name).is_file() for name in _OTHER_FILES):
            raise UnsupportedModel(
                f"{self.folder} has no tokenizer.json, nor another file of a tokenizer ({', '.join(_OTHER_FILES)}): "
                "copy it from the model that this one was trained from"
            )
        with _reading(self.folder):
            check_tokenizer(self.folder)
            text = path.read_text(encoding="utf-8") if path.is_file() else self._transformers.backend_tokenizer.to_str()
            raw: dict[str, Any] = json.loads(text)
        return raw | {"truncation": None, "padding": None}

    # ------------------------------------------------------------------------------------------------------- tokens

    @property
    def highest(self) -> int:
        """The highest id that a text may be given."""
        return max(self.vocabulary.values(), default=0)

    @property
    def vocabulary(self) -> dict[str, int]:
        """The ids of all tokens that are not special."""
        return dict(self._vocabulary.get_vocab(with_added_tokens=False))

    def special(self, token: str) -> int:
        """The id of a special token; raises `UnsupportedModel` if the tokenizer has none of this name."""
        found = self._added.get(token)
        if found is None:
            found = self._vocabulary.token_to_id(token)
        if found is None:
            raise UnsupportedModel(f"the tokenizer in {self.folder} has no token {token!r}")
        return found

    def single(self, text: str) -> int:
        """The id of a text that must be one token where it stands alone; raises `UnsupportedModel` if it is not."""
        ids = self._plain.encode(text, add_special_tokens=False).ids
        if len(ids) != 1:
            raise UnsupportedModel(f"{text!r} is {len(ids)} tokens for the tokenizer in {self.folder}; one is needed")
        return int(ids[0])

    def words(self, text: str, count: int) -> Ids:
        """The ids of a text that must be so many tokens; raises `UnsupportedModel` if it is not."""
        ids = tuple(self._plain.encode(text, add_special_tokens=False).ids)
        if len(ids) != count:
            raise UnsupportedModel(
                f"{text!r} is {len(ids)} tokens for the tokenizer in {self.folder}; {count} are needed"
            )
        return ids

    def encode(self, pieces: Sequence[Piece]) -> tuple[Ids, list[tuple[int, int]]]:
        """Tokenise pieces.

        Returns:
            The ids, and for each number of pieces, from 0 on, how many ids lie wholly within so many pieces and how
            many do at least in part: the two differ where a token goes across the end of a piece.
        """
        ids: list[int] = []
        ends = [(0, 0)]
        at = 0
        while at < len(pieces):
            piece = pieces[at]
            if not isinstance(piece, str):
                ids += piece
                ends.append((len(ids), len(ids)))
                at += 1
                continue
            last = at
            while last < len(pieces) and isinstance(pieces[last], str):
                last += 1
            texts = [_text(str(each)) for each in pieces[at:last]]
            made, offsets = self._encode("".join(texts))
            length, whole, touched = 0, 0, 0
            for text in texts:
                length += len(text)
                while whole < len(offsets) and offsets[whole][1] <= length:
                    whole += 1
                while touched < len(offsets) and offsets[touched][0] < length:
                    touched += 1
                ends.append((len(ids) + whole, len(ids) + touched))
            ids += made
            at = last
        return tuple(ids), ends

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens left out."""
        return str(self._vocabulary.decode(list(ids), skip_special_tokens=True))

    def _encode_text(self, text: str) -> tuple[Ids, tuple[tuple[int, int], ...]]:
        with panics(self.folder):
            encoding = self._plain.encode(text, add_special_tokens=False)
        return tuple(encoding.ids), tuple(encoding.offsets)

    # -------------------------------------------------------------------------------------------------------- chats

    @property
    def chats(self) -> bool:
        """Whether there is a chat template."""
        return bool(self._transformers.chat_template)

    @property
    def bos(self) -> Ids:
        """The token that begins a sequence, if the tokenizer names one."""
        token: str | None = self._transformers.bos_token
        return () if token is None else (self.special(token),)

    @property
    def eos(self) -> Ids:
        """The token that ends a sequence, if the tokenizer names one."""
        token: str | None = self._transformers.eos_token
        return () if token is None else (self.special(token),)

    def _template(self, roles: tuple[str, ...], reply: bool = False) -> tuple[tuple[Piece, ...], ...]:
        """What the chat template writes around the contents of messages.

        Args:
            roles: of the messages.
            reply: whether it goes on to where the assistant's next message would begin.

        Returns:
            What stands before each content, and after the last one.

        Raises:
            UnsupportedModel: when there is no template, or it refuses these roles.
        """
        tokenizer = self._transformers
        marks = [f"\ue000{index}\ue001" for index in range(len(roles))]
        chat = [{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)]
        variables = tokenizer.special_tokens_map | {"add_generation_prompt": reply, "date_string": _DATE}
        try:
            text = render(tokenizer.get_chat_template(), variables, chat)
        except ValueError as error:  # of the template itself, or for want of one
            raise UnsupportedModel(
                f"the tokenizer in {self.folder} cannot write a chat of {', '.join(roles)}: {error}"
            ) from None
        gaps: list[tuple[Piece, ...]] = []
        for mark in marks:
            before, found, text = text.partition(mark)
            if not found:
                raise UnsupportedModel(f"the chat template in {self.folder} leaves out a message of {', '.join(roles)}")
            gaps.append(self._marked(before))
        return (*gaps, self._marked(text))

    def _marked(self, text: str) -> tuple[Piece, ...]:
        """A text of our own, whose special tokens are meant as such."""
        parts = self._special.split(text) if self._special else [text]
        return tuple((self._added[part],) if part in self._added else part for part in parts if part)

    @cached_property
    def _transformers(self) -> Any:
        try:
            return load_tokenizer(self.folder, local_files_only=True)
        except UnusableModel as error:
            raise UnsupportedModel(f"{self.folder} has no tokenizer that can be used: {error}") from None


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Say of whatever goes wrong with a tokenizer's files whose they are."""
    try:
        with panics(folder):
            yield
    except UnsupportedModel:
        raise
    except Exception as error:  # the library raises plain `Exception` for what it cannot read
        raise UnsupportedModel(f"the tokenizer in {folder} cannot be read: {said(error)}") from None


def _text(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair is no text: it becomes "?"
