"""JSON objects with very long lists, written and read a little at a time, so that no file has to fit into memory."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from json.decoder import WHITESPACE  # type: ignore[attr-defined]
from pathlib import Path
from typing import IO, Any, NoReturn

_TOGETHER = 1000  # elements that are encoded at once
_CHUNK = 1 << 20  # characters that are read at once
_NUMBER = frozenset("0123456789+-.eE")


def write_object(path: Path, head: Mapping[str, Any], lists: Mapping[str, Iterable[Any]]) -> None:
    """Write the object with the members of `head` and then those of `lists`, as `json.dumps` would, and a newline.

    An existing file is replaced when all is written: what fails on the way leaves it as it was.

    Raises:
        ValueError: a number is not finite, which JSON cannot hold.
    """
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():  # a pipe, a terminal
        with path.open("w", encoding="ascii") as file:
            file.writelines(_pieces(head, lists))
        return
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        with unfinished.open("w", encoding="ascii") as file:
            file.writelines(_pieces(head, lists))
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _pieces(head: Mapping[str, Any], lists: Mapping[str, Iterable[Any]]) -> Iterator[str]:
    encode = json.JSONEncoder(allow_nan=False).encode
    yield encode(dict(head))[:-1]
    separator = ", " if head else ""
    for name, elements in lists.items():
        yield f"{separator}{encode(name)}: ["
        rest, between = iter(elements), ""
        while some := list(islice(rest, _TOGETHER)):
            yield between + encode(some)[1:-1]
            between = ", "
        yield "]"
        separator = ", "
    yield "}\n"


def read_object(
    path: Path, lists: Mapping[str, Callable[[Any], None]], check: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Read an object whose members of some names are lists, each element of which is handed on as soon as it is read.

    Args:
        path: of the file, in UTF-8.
        lists: by name, what takes the elements.
        check: given the other members that came before one of these lists, if any did.

    Returns:
        The other members.

    Raises:
        ValueError: it is no such object, or nested too deeply.
    """
    with path.open(encoding="utf-8-sig") as file:
        text = _Text(file)
        head: dict[str, Any] = {}
        seen: set[str] = set()
        text.take("{")
        going = not text.takes("}")
        while going:
            name = text.value()
            text.take(":")
            if not isinstance(name, str) or name in seen:
                raise ValueError(f"{name!r} given as the name of a member; allowed: a text, once")
            seen.add(name)
            if name in lists:
                if head:
                    check(head)
                _read_list(text, lists[name])
            else:
                head[name] = text.value()
            going = text.goes_on("}")
        text.end()
    missing = [name for name in lists if name not in seen]
    if missing and head:
        check(head)
        raise KeyError(missing[0])
    return head


def _read_list(text: _Text, take: Callable[[Any], None]) -> None:
    text.take("[")
    going = not text.takes("]")
    while going:
        take(text.value())
        going = text.goes_on("]")


class _NoNumber(ValueError):
    """NaN or an infinity, which Python writes and JSON does not know."""


def _no_number(name: str) -> NoReturn:
    raise _NoNumber(f"it is no JSON: {name} is no number there")


class _Text:
    """A text that is read a chunk at a time.

    Args:
        file: with the text.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._decode = json.JSONDecoder(parse_constant=_no_number).raw_decode
        self._read, self._at = "", 0
        self._over = False

    def value(self) -> Any:
        """The next JSON value, which something must follow."""
        while True:
            self._skip()
            try:
                value, end = self._decode(self._read, self._at)
                # a number may go on in the next chunk: "0." reads as 0, and then a stop
                if self._over or (end < len(self._read) and self._read[end] not in _NUMBER):
                    self._at = end
                    return value
            except RecursionError:
                raise ValueError("it is nested too deeply") from None
            except _NoNumber:
                raise
            except ValueError as error:  # it may go on in the next chunk
                if self._over:
                    raise ValueError(f"it is no JSON: {error}") from None
            self._more()

    def takes(self, character: str) -> bool:
        """Whether a character is next, which is then taken."""
        self._skip()
        found = self._read.startswith(character, self._at)
        self._at += found
        return found

    def take(self, character: str) -> None:
        """Take a character; raises ValueError where another one is next."""
        if not self.takes(character):
            raise ValueError(f"it is no JSON object: {self._read[self._at : self._at + 1]!r} in place of {character!r}")

    def goes_on(self, end: str) -> bool:
        """Take a comma, or else the end."""
        if self.takes(","):
            return True
        self.take(end)
        return False

    def end(self) -> None:
        """Raise ValueError unless only white space is left."""
        self._skip()
        if self._at < len(self._read):
            raise ValueError(f"{self._read[self._at]!r} after the end")

    def _skip(self) -> None:
        """Go on to the next character that is no white space, if there is one."""
        while True:
            self._at = WHITESPACE.match(self._read, self._at).end()
            if self._at < len(self._read) or self._over:
                return
            self._more()

    def _more(self) -> None:
        """Read as much again as is not yet used, so that a very long value is not tried too often."""
        rest = self._read[self._at :]
        chunk = self._file.read(max(_CHUNK, len(rest)))
        self._read, self._at, self._over = rest + chunk, 0, not chunk
