"""The program in what a model wrote, line by line: with or without fences, after words, under a given head.

A model that was trained to chat explains, opens a fence, writes the program and closes the fence; one that was not goes
on from the prompt. Both are read here. Words before and after a program are left out, and so are fenced blocks in other
languages, blocks before the program that define nothing or call the function (examples, tests), a definition without a
body, and what stands in ``<think>``. The program ends with the block that defines the function, with the line
``# end``, or with a fence after a program that had none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

END = "# end"
MAX_LINE = 400  # characters of a line of a program; words before it may have more
_FENCE = re.compile(r"((?:[ \t]*>)?[ \t]*)(`{3,}|~{3,}|\[(?:PYTHON|CODE)\])[ \t]*([^`\s]*)[^`]*", re.IGNORECASE)
_FENCE_AFTER_WORDS = re.compile(r"[^`]*:[ \t]+()(`{3,})[ \t]*((?:python|py)3?)[ \t]*", re.IGNORECASE)
_PYTHON = re.compile(r"(?:\{?\.?i?python[\d.]*\}?|py\d?)?")
_DEFINES = re.compile(r"(?:(?:async\s+def|def|class|import|from)\s|@\w)")
_ASSIGNS = re.compile(r"[A-Za-z_]\w*\s*(?::[^=]+)?=(?!=)(?!.*\binput\()")
_GOES_ON = re.compile(r"\s|#|[)\]}]|$")  # a line that belongs to the one before
_TAG = re.compile(r"</?(?:answer|solution|code|python|program)>", re.IGNORECASE)
_PROSE = re.compile(r"(?!(?:None|True|False)\b)[A-Z][a-z']*,?\s[A-Za-z`*\d].*")
_EMPTY = re.compile(r"\s+(?:pass|\.\.\.|#.*|raise NotImplementedError.*)|\s*")


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
        content = self.content(line)
        text = content.strip()
        depth = len(line) - len(line.lstrip()) if content == line else 0
        return len(text) >= len(self.mark) and set(text) == {self.mark[0]} and depth <= len(self.indent)

    def left_at_end(self, line: str) -> str | None:
        """What stands before the mark on a line that ends the block, usually nothing; None on any other line."""
        if self.closes(line):
            return ""
        code = line.rstrip().removesuffix(self.mark)
        return self.content(code) if self.mark[0] == "`" and code != line.rstrip() and "`" not in code else None

    def content(self, line: str) -> str:
        """A line of the block, without the indentation of the fence."""
        return (
            line.removeprefix(self.indent) if line.startswith(self.indent) else line.removeprefix(self.indent.rstrip())
        )


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
    ended = thinks = False
    for line in lines:
        if ended:
            return None
        if thinks or line.lstrip().startswith("<think>"):
            thinks = "</think>" not in line
        elif line.rstrip() == END:
            ended = True
        elif fence is not None and (_in_string(blocks[-1]) or (left := fence.left_at_end(line)) is None):
            blocks[-1].append(fence.content(line))
        elif fence is not None:
            blocks[-1] += [left] if left else []
            python = bool(_PYTHON.fullmatch(fence.language)) and not _is_stub(blocks[-1], function)
            if not python:
                blocks.pop()
            ended = python and _is_written(blocks[-1], function, head)
            fence = None
        elif _TAG.fullmatch(line.strip()):
            pass
        elif (opened := _opened(line)) is None or (opened.indent and _is_written(words, function, head)):
            words.append(line)  # in a program without a fence, one that is indented stands in a docstring
        elif _is_written(words, function, head):
            ended = True
        else:
            fence = opened
            blocks.append([])
    written = [*_useful(blocks[:-1], function), *blocks[-1]] if blocks else _without_words(words, function)
    if any(len(line) > MAX_LINE for line in written) and (blocks or _is_written(words, function, head)):
        return None
    return Draft(_under(head, written, function), ended)


def _opened(line: str) -> _Fence | None:
    match = _FENCE.fullmatch(line) or _FENCE_AFTER_WORDS.fullmatch(line)
    return _Fence(match[1], match[2], match[3].lower()) if match else None


def _is_written(lines: Sequence[str], function: str, head: str) -> bool:
    """Whether lines are (the beginning of) a program: they define the function, or go on from the head."""
    first = next((line for line in lines if line.strip() and not line.startswith("#")), "")
    return (bool(head) and first[:1].isspace()) or _defines(lines, function)


def _defines(lines: Sequence[str], function: str) -> bool:
    name = re.escape(function)
    forms = (
        rf"(?:async\s+)?def\s+{name}\s*\(|{name}\s*(?::[^=]+)?=(?!=)|class\s+Solution\b|(?:from|import)\s.*\b{name}\b"
    )
    method = rf"\s+def\s+{name}\s*\(\s*(?:self|cls)\b"  # of a class by any name
    return any(re.match(forms, line) or re.match(method, line) for line in lines)


def _is_stub(lines: Sequence[str], function: str) -> bool:
    """Whether a block is nothing but the first lines of the function, perhaps with a docstring and no body."""
    text = "\n".join(lines).strip()
    begun = re.fullmatch(
        rf"(?:(?:from|import)\s.*\n|\s*\n)*def\s+{re.escape(function)}\b[^\n]*:[ \t]*(.*)", text, re.DOTALL
    )
    if begun is None:
        return False
    body = re.sub(r"\A\s*(\"{3}|'{3}).*?\1", "", begun[1], count=1, flags=re.DOTALL)
    return all(_EMPTY.fullmatch(f" {line}") for line in body.split("\n"))


def _useful(blocks: Sequence[Sequence[str]], function: str) -> list[str]:
    """The lines of blocks that define something that the program may need, and do not speak of the function itself."""
    useful = list[str]()
    for block in blocks:
        outer = [line for line in block if not _GOES_ON.match(line)]
        defines = any(map(_DEFINES.match, outer)) or all(map(_ASSIGNS.match, outer))
        if defines and not any(re.search(rf"\b{re.escape(function)}\b", line) for line in outer):
            useful += block
    return useful


def _without_words(lines: Sequence[str], function: str) -> Sequence[str]:
    """A program without a fence, from its first line of code to the first sentence that follows outside of a string."""
    if not _defines(lines, function):
        return lines
    code = next(k for k, line in enumerate(lines) if _DEFINES.match(line) or _ASSIGNS.match(line))
    start = next((k + 1 for k in range(code - 1, -1, -1) if not _GOES_ON.match(lines[k])), 0)
    for k in range(code + 1, len(lines)):
        if _PROSE.fullmatch(lines[k]) and not _in_string(lines[start:k]):
            return lines[start:k]
    return lines[start:]


def _in_string(lines: Sequence[str]) -> bool:
    """Whether a string of several lines is open at their end."""
    return sum(line.count('"""') + line.count("'''") for line in lines) % 2 == 1


def without_function(head: str, function: str) -> str:
    """What a head has before the function that it begins."""
    begun = list(re.finditer(rf"^(?:async\s+)?def\s+{re.escape(function)}\b", head, re.MULTILINE))
    return head[: begun[-1].start()] if begun else head


def _under(head: str, lines: Sequence[str], function: str) -> str:
    """A program under its head; a function that is written out anew takes the place of the one that the head begins."""
    if head and _defines(lines, function):
        head = without_function(head, function)
    return head + "".join(f"{line}\n" for line in lines)
