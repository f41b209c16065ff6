r"""The program in what a model wrote, line by line: with or without fences, after words, under a given head.

A model that was trained to chat explains, opens a fence, writes the program and closes the fence; one that was not goes
on from the prompt. Both are read here. Words before and after a program are left out, and so are fenced blocks in other
languages, blocks that define nothing or call the function (examples, tests), a definition without a body, the prompts
and outputs of a session (``>>>``), and what stands in ``<think>``. The program ends with the block that defines the
function, with the line ``# end``, or with a fence after a program that had none.

What follows the block may correct it. The first words behind it decide: if they speak of a mistake, a better way or a
part that is missing, or lead on to something (they end with a colon), further blocks count, and the last one that
defines the function is the program. `Draft.tentative` says that only the block has ended so far.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

END = "# end"
MAX_LINE = 400  # characters of a line of a program; words before it may have more
_FENCE = re.compile(
    r"((?:[ \t]*>)?[ \t]*)(`{3,}|~{3,}|\[(?:PYTHON|CODE|BEGIN)\]|\\begin\{(?:verbatim|lstlisting|minted)\})"
    r"[ \t]*([^`\s]*)[^`]*",
    re.IGNORECASE,
)
_FENCE_AFTER_WORDS = re.compile(r"[^`]*:[ \t]+()(`{3,})[ \t]*((?:python|py)3?)[ \t]*", re.IGNORECASE)
_CLOSING = re.compile(r"\[(?:/PYTHON|/CODE|DONE|END)\]|\\end\{(?:verbatim|lstlisting|minted)\}", re.IGNORECASE)
_PYTHON = re.compile(r"(?:\[.*\])?(?:\{?\.?i?python(?:[\d.]*|-repl)\}?|py(?:\d|con)?|[\w/]+\.py)?(?:[:{(,].*)?")
_DEFINES = re.compile(
    r"(?:async\s+)?def\s+\w+\s*[(\[]|class\s+\w+\s*[:(\[]|import\s+[\w.]+(?:\s+as\s+\w+)?\s*(?:[,;#]|$)"
    r"|from\s+[\w.]+\s+import\s|@\w"
)
_ASSIGNS = re.compile(r"[A-Za-z_]\w*\s*(?::[^=]+)?=(?!=)(?!.*\binput\()")
_GOES_ON = re.compile(r"\s|#|[)\]}]|$")  # a line that belongs to the one before
_TAG = re.compile(r"(?:</?(?:answer|solution|code|python|program|pre)>\s*)+", re.IGNORECASE)
_PROSE = re.compile(r"(?!(?:None|True|False)\b)[A-Z][a-z']*,?\s[A-Za-z`*\d].*")
_EMPTY = re.compile(r"\s+(?:pass|\.\.\.|#.*|raise NotImplementedError.*)|\s*")
_PROMPT = re.compile(r"\s*(?:>>>|\.\.\.|In \[\d+\]:|\.\.\.:)(?: (.*))?$")  # of a session of Python or IPython
_MAGIC = re.compile(r"[!%]{1,2}[a-z][\w-]*(?:\s|$)")  # of a notebook
_END_MARK = re.compile(r"(?:</s>|<\|[\w|]{1,40}\|>|<eos>|<end_of_turn>)\s*$")
_LEADS_ON = re.compile(
    r":[\s*_]*$|^\W*(?:wait|hmm|oops|hold on|however|but|actually|sorry|no,|alternatively|or\b)"
    r"|\b(?:wrong|incorrect|mistakes?|errors?|bugs?|buggy|issues?|problems?|fails?|failed|corrected|correction|fix(?:ed|es)?"
    r"|improved|revised|updated|better|final|instead|missing|forgot|does(?: not|n't) (?:work|handle|pass))\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Draft:
    """What the lines come to.

    Args:
        program: the program so far, the head included.
        ended: whether the last line ended it.
        tentative: whether it ended with a block that further lines may correct.
    """

    program: str
    ended: bool
    tentative: bool = False


@dataclass(frozen=True)
class _Fence:
    """The opening of a block."""

    indent: str
    mark: str
    language: str

    def closes(self, line: str) -> bool:
        """Whether a line is the end of the block: the same mark, no deeper. In a docstring, marks stand deeper."""
        if self.mark[0] in "[\\":
            return bool(_CLOSING.fullmatch(line.strip()))
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
    closed = doubted = False  # whether a block was the program, and whether words behind it lead on
    for line in (_END_MARK.sub("", line) for line in lines):
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
            block = list(_as_source(blocks.pop(), function))
            if _PYTHON.fullmatch(fence.language) and not _is_stub(block, function):
                blocks.append(block)
                closed, doubted = closed or _is_written(block, function, head), False
            fence = None
        elif closed and (opened := _opened(line)) is None:
            doubted = doubted or bool(_LEADS_ON.search(line))
            ended = bool(line.strip()) and not doubted
        elif _TAG.fullmatch(line.strip()):
            pass
        elif not closed and _CLOSING.fullmatch(line.strip()) and _is_written(words, function, head):
            ended = True
        elif (opened := _opened(line)) is None or (opened.indent and _is_written(words, function, head)):
            words.append(line)  # in a program without a fence, one that is indented stands in a docstring
        elif _is_written(words, function, head):
            ended = True
        else:
            fence = opened
            blocks.append([])
    written = _joined(blocks, function, head) if blocks else _without_words(words, function, head)
    if any(len(line) > MAX_LINE for line in written) and (blocks or _is_written(words, function, head)):
        return None
    tentative = closed and not ended and fence is None and not doubted
    return Draft(_under(head, written, function), ended or tentative, tentative)


def _opened(line: str) -> _Fence | None:
    match = _FENCE.fullmatch(line) or _FENCE_AFTER_WORDS.fullmatch(line)
    return _Fence(match[1], match[2], match[3].lower()) if match else None


def _is_written(lines: Sequence[str], function: str, head: str) -> bool:
    """Whether lines are (the beginning of) a program: they define the function, or go on from the head."""
    first = next((line for line in lines if line.strip() and not line.startswith("#")), "")
    return (bool(head) and first[:1].isspace()) or _defines(_as_source(lines, function), function)


def _as_source(lines: Sequence[str], function: str) -> Sequence[str]:
    """Lines without the prompts of a session, or without a common indentation, if only so they define the function."""
    if _defines(lines, function):
        return lines
    session = [match[1] or "" for line in lines if (match := _PROMPT.match(line))]
    dedented = textwrap.dedent("\n".join(lines)).split("\n")
    return next((each for each in (session, dedented) if _defines(each, function)), lines)


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


def _joined(blocks: Sequence[Sequence[str]], function: str, head: str) -> list[str]:
    """The last block that defines the function, with the blocks that it may need; the last block, if none does."""
    last = len(blocks) - 1
    chosen = next((k for k in range(last, -1, -1) if _is_written(blocks[k], function, head)), last)
    kept = [block if k == chosen else _useful(block, function) for k, block in enumerate(blocks)]
    kept[chosen] = _until_prose(kept[chosen])
    return [line for block in kept for line in block if not _MAGIC.match(line)]


def _useful(block: Sequence[str], function: str) -> Sequence[str]:
    """A block, if it defines something that the program may need, and does not speak of the function itself."""
    outer = [line for line in block if not _GOES_ON.match(line)]
    defines = any(map(_DEFINES.match, outer)) or (bool(outer) and all(map(_ASSIGNS.match, outer)))
    named = any(re.search(rf"\b{re.escape(function)}\b", line) for line in outer)
    return block if defines and not named else ()


def _without_words(lines: Sequence[str], function: str, head: str) -> Sequence[str]:
    """A program without a fence, from its first line of code to the first sentence that follows outside of a string."""
    lines = _as_source(lines, function)
    if not _defines(lines, function):
        body = next((k for k, line in enumerate(lines) if line[:1].isspace() and line.strip()), 0) if head else 0
        return lines[body:] if all(_PROSE.fullmatch(line) or not line.strip() for line in lines[:body]) else lines
    code = next((k for k, line in enumerate(lines) if _DEFINES.match(line) or _ASSIGNS.match(line)), 0)
    start = next((k + 1 for k in range(code - 1, -1, -1) if not _GOES_ON.match(lines[k])), 0)
    return _until_prose(lines[start:])


def _until_prose(lines: Sequence[str]) -> Sequence[str]:
    """Lines up to the first sentence behind the first one that defines something, outside of strings."""
    code = next((k for k, line in enumerate(lines) if _DEFINES.match(line) or _ASSIGNS.match(line)), len(lines))
    end = next(
        (k for k in range(code + 1, len(lines)) if _PROSE.fullmatch(lines[k]) and not _in_string(lines[:k])), len(lines)
    )
    return lines[:end]


def _in_string(lines: Sequence[str]) -> bool:
    """Whether a string of several lines is open at their end."""
    return sum(line.count('"""') + line.count("'''") for line in lines) % 2 == 1


def without_function(head: str, function: str) -> str:
    """What a head has before the function that it begins."""
    begun = list(re.finditer(rf"^(?:async\s+)?def\s+{re.escape(function)}\b", head, re.MULTILINE))
    return head[: begun[-1].start()] if begun else head


def _under(head: str, lines: Sequence[str], function: str) -> str:
    """A program under its head; a function that is written out anew takes the place of the one that the head begins.

    Chat models begin the body in the first column, or only its first line; which of the two is found out by trying.
    """
    if head and _defines(lines, function):
        head = without_function(head, function)
    text = "".join(f"{line}\n" for line in lines)
    if not head or not text[:1].strip() or _is_python(head + text):
        return head + text
    indented = (textwrap.indent(text, "    "), f"    {text}")
    return head + next((each for each in indented if _is_python(head + each)), text)


def _is_python(text: str) -> bool:
    """Whether a text can be parsed, and returns from nothing but functions."""
    try:
        outside = [each for each in ast.parse(text).body if not isinstance(each, ast.FunctionDef | ast.ClassDef)]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return not any(isinstance(node, ast.Return) for each in outside for node in ast.walk(each))
