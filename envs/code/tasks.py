"""Problems of the `code` environment, from a file in the layout of HumanEval or MBPP, from our own, or as typed.

A file is JSON Lines, or one JSON array of the same objects. The keys of each object say which layout it is in; those
that need not be there may be null:

* HumanEval: ``task_id prompt entry_point canonical_solution test``. The prompt is the head of a function; visible tests
  are the ``>>>`` examples of its docstring whose result is a literal; the one hidden test is ``check``. Split: test.
* MBPP: ``task_id text code test_list`` (the sanitized set says ``prompt`` for ``text``), and ``test_setup_code``,
  ``test_imports``, ``challenge_test_list`` if there are any. The first test is visible; all of them are hidden tests.
  Splits as published, by the number that ``task_id`` is or ends in: 11 to 510 are test, 511 to 600 calibration, the
  rest train.
* Ours: ``task_id split prompt entry_point solution visible hidden``, the last two lists of ``assert`` statements.
"""

from __future__ import annotations

import ast
import builtins
import doctest
import hashlib
import json
import keyword
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from envs.code.program import without_function
from envs.core import SPLITS, Split, UnreadableQuestion, is_text
from envs.errors import StepwellError

MAX_QUESTION = 4000  # characters that a person may type
_CALLED = re.compile(r"(?<![\w.])([^\W\d]\w*)\(")


class UnreadableTasks(StepwellError, ValueError):
    """A file of tasks is in none of the layouts; the message says where and what is missing."""


@dataclass(frozen=True)
class ProgrammingTask:
    """One problem.

    Args:
        id: unique in its file.
        function: the name of the function to write.
        text: what it is to do, in words; empty if `head` says it.
        head: the beginning of the program, if it is given.
        setup: Python that the tests run first.
        visible: tests as Python statements that call the function; a test that raises nothing has passed.
        hidden: the tests that decide.
        solution: a program that passes them, or None.
        split: what it may be used for.
        hindrance: why no program can pass its tests here; empty if one can.
    """

    id: str
    function: str
    text: str
    head: str
    setup: str
    visible: tuple[str, ...]
    hidden: tuple[str, ...]
    solution: str | None
    split: Split
    hindrance: str = ""

    @property
    def question(self) -> str:
        """What a person is asked."""
        return self.head or "\n".join([self.text, *self.visible])

    @property
    def spaced(self) -> str:
        """The question with single spaces: however it is typed, it is known by that."""
        return " ".join(self.question.split())


def read_tasks(text: str, where: str) -> list[ProgrammingTask]:
    """Read a file of tasks.

    Args:
        text: of the file.
        where: its name, for errors.

    Raises:
        UnreadableTasks: it is no JSON, is in none of the layouts, has an id twice, or one question in two splits.
    """
    rows = _rows(text.removeprefix("\ufeff"), where)
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise UnreadableTasks(f"{where}: one object per problem is wanted")
    tasks: dict[str, ProgrammingTask] = {}
    homes: dict[str, ProgrammingTask] = {}
    for number, row in enumerate(rows, start=1):
        place = f"problem {number}"
        try:
            task = _reader(row)(row)
        except (ValueError, TypeError, KeyError) as error:
            said = f"the key {error} is missing" if isinstance(error, KeyError) else error
            raise UnreadableTasks(f"{where}: {place}: {said}") from None
        if tasks.setdefault(task.id, task) is not task:
            raise UnreadableTasks(f"{where}: {place}: the id {task.id!r} is taken")
        other = homes.setdefault(task.spaced, task)
        if other.split != task.split:
            raise UnreadableTasks(
                f"{where}: {place}: task {task.id!r} of the {task.split} split asks what task {other.id!r} of the "
                f"{other.split} split does; a question may be in one split only"
            )
    return list(tasks.values())


def _rows(text: str, where: str) -> list[Any]:
    """The values of JSON Lines, or of one array. A line ends at a line feed: other ends of lines may stand in texts."""
    if text.lstrip().startswith("["):
        rows: list[Any] = _parsed(text, where)
        return rows
    lines = enumerate(text.split("\n"), start=1)
    return [_parsed(line, f"{where}: line {number}") for number, line in lines if line.strip()]


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits too
        raise UnreadableTasks(f"{where}: not JSON Lines: {error}") from None


def typed_task(question: str) -> ProgrammingTask:
    """A task as a person types it: words, then one or more ``assert`` statements; there are no hidden tests.

    Raises:
        UnreadableQuestion: with what is wanted.
    """
    text, *tests = (part.strip() for part in re.split(r"(?:^|(?<=[\s;]))assert\s", question[: MAX_QUESTION + 1]))
    visible = tuple(f"assert {test.rstrip('; ')}" for test in tests)
    try:
        if len(question) > MAX_QUESTION:
            raise ValueError(f"it has {len(question)} characters; at most {MAX_QUESTION} are read")
        if not text or not visible:
            raise ValueError("there must be words, then one or more tests")
        question.encode()
        for test in visible:
            ast.parse(test)
        function = _called_by(visible[0])
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise UnreadableQuestion(
            f"cannot read {question[:80]!r}: {error}; the code environment reads what a function is to do, and tests, "
            "such as 'add(a, b): the sum of two numbers. assert add(1, 2) == 3'"
        ) from None
    name = "typed/" + hashlib.sha256(question.encode()).hexdigest()[:16]
    return ProgrammingTask(name, function, text, "", "", visible, (), None, "test")


def _called_by(test: str) -> str:
    """The first function that a test calls and Python does not have."""
    names = [name for name in _CALLED.findall(test) if not hasattr(builtins, name) and not keyword.iskeyword(name)]
    if not names:
        raise ValueError(f"{test[:80]!r} calls no function of one's own")
    return str(names[0])


def _reader(row: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], ProgrammingTask]:
    for key, reader in {"canonical_solution": _human_eval, "test_list": _mbpp, "visible": _ours}.items():
        if key in row:
            return reader
    raise ValueError(
        f"it has the keys {', '.join(row) or '(none)'}; the layouts that are read have canonical_solution (HumanEval), "
        "test_list (MBPP) or visible (ours)"
    )


def _human_eval(row: Mapping[str, Any]) -> ProgrammingTask:
    head, function = _text(row, "prompt"), _name(row)
    if not head.endswith("\n"):
        head += "\n"
    hidden = f"{_text(row, 'test')}\n\ncheck({function})\n"
    solution = head + _text(row, "canonical_solution")
    try:
        ast.parse(head)
        setup = head
    except SyntaxError:  # a function without a docstring is none yet
        setup = without_function(head, function)
    return ProgrammingTask(_id(row), function, "", head, setup, _examples(head, function), (hidden,), solution, "test")


def _examples(head: str, function: str) -> tuple[str, ...]:
    """The examples in the docstring of a function that can be tests: sessions (``>>>``), calls, inputs and outputs."""
    try:
        defined = [node for node in ast.walk(ast.parse(head)) if isinstance(node, ast.FunctionDef)]
        nodes = [node for node in defined if node.name == function]
        text = "\n".join(ast.get_docstring(node) or "" for node in nodes)
        sessions = doctest.DocTestParser().get_examples(text)
    except (SyntaxError, ValueError):  # a head with faulty indentation, say
        return ()
    found = [(example.source.strip(), example.want.strip()) for example in sessions]
    if not found:
        found = [*_calls(text, function)]
    if not found and nodes and len(nodes[-1].args.args) == 1:
        found = [(f"{function}({given})", wanted) for given, wanted in _IN_AND_OUT.findall(text) if _is_literal(given)]
    return tuple(f"assert {call} == {wanted}" for call, wanted in found if _is_call(call) and _is_literal(wanted))


_IN_AND_OUT = re.compile(r"^\s*Input:[ \t]*(\S[^\n]*?)[ \t]*\n\s*Output:[ \t]*(\S[^\n]*?)[ \t]*$", re.MULTILINE)
_BECOMES = re.compile(r"\s*(?:#\s*)?(?:={1,3}>?|-+>|➞|→|(?:should\s+)?returns?\b|is\b)\s*")
_AFTER = re.compile(r"[.;,]?\s*(?:$|#|//|\(|[^\W\d_]{2,})")  # what may follow a value: nothing, a comment, words
_WORDS = {"true": "True", "false": "False", "none": "None", "null": "None"}


def _calls(text: str, function: str) -> Iterator[tuple[str, str]]:
    """Calls of a function, each with the literal that a line says it becomes: ``f(1, 2) == 3``, ``f(1) ➞ "a"``."""
    for line in text.splitlines()[:_MOST_LINES]:
        start = re.search(rf"(?<![\w.]){re.escape(function)}\(", line)
        ends = [place.end() for place in re.finditer(r"\)", line)] if start else []
        for end in ends:
            call, becomes = line[start.start() : end], _BECOMES.match(line, end)  # type: ignore[union-attr]
            if becomes and _is_literal(f"[{call[len(function) + 1 : -1]}]"):
                rest = line[becomes.end() :].strip()
                if wanted := _literal_at_start(rest):
                    yield call, wanted
                break


def _literal_at_start(text: str) -> str:
    """The longest literal that a text begins with, if nothing follows that may belong to it; else an empty text."""
    word = re.match(r"[^\W\d_]+", text)
    if word and word[0].lower() in _WORDS:
        return _WORDS[word[0].lower()] if _AFTER.match(text, word.end()) else ""
    for end in range(min(len(text), _LONGEST), 0, -1):
        if _is_literal(text[:end]):
            return repr(ast.literal_eval(text[:end])) if _AFTER.match(text, end) else ""
    return ""


_MOST_LINES = 200  # of a docstring
_LONGEST = 300  # characters of a value


def _is_call(text: str) -> bool:
    try:
        return isinstance(ast.parse(text, mode="eval").body, ast.Call)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _is_literal(text: str) -> bool:
    try:
        ast.literal_eval(text)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return False
    return True


def _mbpp(row: Mapping[str, Any]) -> ProgrammingTask:
    code, tests, name = _text(row, "code"), _texts(row, "test_list"), _id(row)
    number = re.search(r"(\d{1,9})$", name)
    if number is None:
        raise ValueError(f"task_id {name!r} ends in no number, which would tell the split")
    defined = set(re.findall(r"^def\s+(\w+)", code, re.MULTILINE))
    called = [name for name in _CALLED.findall(tests[0]) if name in defined]
    if not called:
        raise ValueError("its first test calls no function that its code defines")
    setup = "\n".join([*_texts(row, "test_imports", ()), row.get("test_setup_code") or ""]).strip()
    hidden = (*tests, *_texts(row, "challenge_test_list", ()))
    return ProgrammingTask(
        id=name,
        function=called[0],
        text=_text(row, "text" if row.get("text") else "prompt"),
        head="",
        setup=setup,
        visible=tests[:1],
        hidden=hidden,
        solution=code.replace("\r\n", "\n"),
        split="test" if 11 <= int(number[1]) <= 510 else "calibration" if 511 <= int(number[1]) <= 600 else "train",
        hindrance=_hindrance(code, called[0], "\n".join([setup, *hidden])),
    )


def _hindrance(code: str, function: str, tests: str) -> str:
    """Why no program can pass some tests: they use more of a solution than its function."""
    defined = re.findall(r"^(?:class|def)\s+(\w+)", code, re.MULTILINE)
    own = re.findall(r"^(?:class|def)\s+(\w+)", tests, re.MULTILINE)
    used = [name for name in defined if name not in (function, *own) and re.search(rf"\b{name}\s*\(", tests)]
    return f"its tests use {', '.join(map(repr, used))} of the solution, and can only call {function!r}" if used else ""


def _ours(row: Mapping[str, Any]) -> ProgrammingTask:
    split = next((split for split in SPLITS if split == row["split"]), None)
    if split is None:
        raise ValueError(f"split {row['split']!r} given; allowed: {', '.join(SPLITS)}")
    visible, hidden = _texts(row, "visible"), _texts(row, "hidden")
    solution = _text(row, "solution")
    return ProgrammingTask(_id(row), _name(row), _text(row, "prompt"), "", "", visible, hidden, solution, split)


def _id(row: Mapping[str, Any]) -> str:
    """A number will do."""
    value = row["task_id"]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(row, "task_id")


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row[key]
    if not isinstance(value, str) or not value or not is_text(value):
        raise TypeError(f"{key} must be a text, not {value!r}")
    return value


def _texts(row: Mapping[str, Any], key: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
    value = row[key] if default is None else default if row.get(key) is None else row[key]
    wanted = isinstance(value, list | tuple) and all(isinstance(item, str) and is_text(item) for item in value)
    if not wanted or (default is None and not value):
        raise TypeError(f"{key} must be a list of texts, not {value!r}")
    return tuple(value)


def _name(row: Mapping[str, Any]) -> str:
    name = _text(row, "entry_point")
    if not name.isidentifier() or keyword.iskeyword(name):
        raise ValueError(f"entry_point {name!r} cannot be the name of a function")
    return name
