"""The program in what a model wrote, line by line: with or without fences, after words, under a given head.

A model that was trained to chat explains, opens a fence, writes the program and closes the fence; one that was not goes
on from the prompt. Both are read here. Words before a fence are left out, and so are fenced blocks in other languages
and those before the program that define nothing (an example of a call, say). The program ends with the block that
defines the function, with the line ``# end``, or with a fence after a program that had none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

END = "# end"
MAX_LINE = 400  # characters of a line of a program; words before it may have more
SOLUTION = "Solution"  # a class by this name may hold the function as a method

_FENCE = re.compile(r"([ \t]*)(`{3,}|~{3,}|\[(?:PYTHON|CODE)\])[ \t]*([^`\s]*)[^`]*", re.IGNORECASE)
_PYTHON = ("", "python", "python3", "python2", "py", "py3", "{python}", "{.python}")
_DEFINES = re.compile(r"(?:async\s+def|def|class|import|from|@)\b", re.MULTILINE)


@dataclass(frozen=True)
class Draft:
    """What the lines come to.

    Args:
        program: the program so far, the head included.
        ended: whether the last line ended it.
    """

    program: str
    ended: bool


@dataclass(frozen=True)
class _Fence:
    """The opening of a block."""

    indent: str
    mark: str
    language: str

    def closes(self, line: str) -> bool:
        """Whether a line is the end of the block: the same mark, no deeper. In a docstring, marks stand deeper."""
        if self.mark.startswith("["):
            return line.strip().upper() == f"[/{self.mark[1:].upper()}"
        text = line.strip()
        depth = len(line) - len(line.lstrip())
        return len(text) >= len(self.mark) and set(text) == {self.mark[0]} and depth <= len(self.indent)

    def content(self, line: str) -> str:
        """A line of the block, without the indentation of the fence."""
        return line.removeprefix(self.indent) if self.indent else line


def read_draft(lines: Sequence[str], function: str, head: str = "") -> Draft | None:
    """Find the program in lines that a model wrote.

    Args:
        lines: without their ends.
        function: the name of the function to write.
        head: the beginning of the program, if it was given.

    Returns:
        The program so far; None if a line follows its end, or one of it is longer than `MAX_LINE`.
    """
    words: list[str] = []  # outside of fences: all of the program, if there are none
    blocks: list[list[str]] = []
    fence: _Fence | None = None
    ended = False
    for line in lines:
        if ended:
            return None
        if line.rstrip() == END:
            ended = True
        elif fence is not None and not fence.closes(line):
            blocks[-1].append(fence.content(line))
        elif fence is not None:
            if fence.language not in _PYTHON:
                blocks.pop()
            ended = bool(blocks) and fence.language in _PYTHON and _is_written(blocks[-1], function, head)
            fence = None
        elif (opened := _opened(line)) is None or (opened.indent and _is_written(words, function, head)):
            words.append(line)  # in a program without a fence, one that is indented stands in a docstring
        elif _is_written(words, function, head):
            ended = True
        else:
            fence = opened
            blocks.append([])
    written = [*_useful(blocks[:-1]), *blocks[-1]] if blocks else words
    if any(len(line) > MAX_LINE for line in written) and (blocks or _is_written(words, function, head)):
        return None
    return Draft(_under(head, written, function), ended)


def _opened(line: str) -> _Fence | None:
    match = _FENCE.fullmatch(line)
    return _Fence(match[1], match[2], match[3].lower()) if match else None


def _is_written(lines: Sequence[str], function: str, head: str) -> bool:
    """Whether lines are (the beginning of) a program: they define the function, or go on from the head."""
    first = next((line for line in lines if line.strip() and not line.startswith("#")), "")
    return (bool(head) and first[:1].isspace()) or _defines(lines, function)


def _defines(lines: Sequence[str], function: str) -> bool:
    name = re.escape(function)
    forms = (
        rf"(?:async\s+)?def\s+{name}\s*\(|{name}\s*(?::[^=]+)?=(?!=)|class\s+{SOLUTION}\b|(?:from|import)\s.*\b{name}\b"
    )
    return any(re.match(forms, line) for line in lines)


def _useful(blocks: Sequence[Sequence[str]]) -> list[str]:
    """The lines of blocks that define or import something: the program that follows may need them."""
    return [line for block in blocks if any(map(_DEFINES.match, block)) for line in block]


def without_function(head: str, function: str) -> str:
    """What a head has before the function that it begins."""
    begun = list(re.finditer(rf"^(?:async\s+)?def\s+{re.escape(function)}\b", head, re.MULTILINE))
    return head[: begun[-1].start()] if begun else head


def _under(head: str, lines: Sequence[str], function: str) -> str:
    """A program under its head; a function that is written out anew takes the place of the one that the head begins."""
    if head and _defines(lines, function):
        head = without_function(head, function)
    return head + "".join(f"{line}\n" for line in lines)
