"""Countdown: reach a target with the given numbers, each used exactly once; the Game of 24 is the special case.

A solution of ``make 24 from 4 4 6 8`` is ``8 + 4 = 12 (left: 4 6 12)``, ``6 - 4 = 2 (left: 2 12)``,
``12 * 2 = 24 (left: 24)`` (such steps are those of Yao et al. 2023, arXiv 2305.10601, section 4.1). The steps are easy,
choosing them is hard: many are legal, few of them leave a way to the target. Everything is exact (fractions).

The step that leaves the target alone ends the trajectory, and its answer is the expression that the steps spell out,
``(8 + 4) * (6 - 4)``. One that leaves another number truncates it, as the question itself says that this is no answer;
so every vote is for a solution. Answers are the same when they use the same numbers and have the same value: all
solutions of a puzzle count as one answer, whatever way they take.
"""

from __future__ import annotations

import csv
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import combinations, count, product
from pathlib import Path
from typing import Any, Literal, NamedTuple

from envs.core import (
    SPLITS,
    Problem,
    Split,
    State,
    Step,
    Transition,
    UnreadableQuestion,
    termination,
    transition,
    truncation,
)
from envs.expressions import OPERATORS, Expression, Number, Operation, Unknown, linear, parse_sides, write
from envs.splits import draw_distinct, split_of

CLASSIC = 24  # the target when a question names none
LARGEST = 999  # numbers up to here are single tokens of the lab's models; worked solutions stay within if they can
MAX_QUESTION = 1000  # characters
MAX_NUMBERS = 6
MAX_GIVEN = 9999  # of the numbers and of the target
MAX_LINE = 200

Rational = int | Fraction
Numbers = tuple[Rational, ...]  # in ascending order

_PUBLISHED = (
    "456a 1247 258b 344d 6789 1bbd 18ab 2369 1359 337c 4579 128d 4669 1448 15ab 346b 2489 145d 227c 3367 "
    "159d 567d 558a 246c 678b 799d 369c 69cd 479d 568c 2467 25aa 667c 699b 58bc 568a 6bcd 2288 27cd 268c "
    "349d 45ac 127b 4568 6acd 1399 144b 239a 123d 1666 1229 136b 5acd 2366 67ac 788c 3468 179b 236d 225c "
    "268d 88ac 138d 447a 17ad 19ad 334b 2577 39ad 2347 448c 126a 15cc 5668 778b 137a 339c 357a 4acd 23ac "
    "3466 5888 688c 2349 267b 59cc 127c 2456 558d 233a 348c 246b 2289 1567 58ab 449c 2566 249c 48bd 49ad"
)
HELD_OUT = frozenset(tuple(int(digit, 16) for digit in puzzle) for puzzle in _PUBLISHED.split())
"""The published test split of the Game of 24, rows 901 to 1000 by human difficulty, a hexadecimal digit per number."""


@dataclass(frozen=True)
class CountdownLevel:
    """How hard the puzzles of a level are.

    Args:
        numbers: how many.
        largest: the largest that is drawn.
        targets: the least and the greatest.
        open: least and greatest share of the first steps that leave a way to the target.
        classic: share of puzzles with the target 24.
    """

    numbers: int
    largest: int
    targets: tuple[int, int] = (10, 100)
    open: tuple[float, float] = (0.0, 1.0)
    classic: float = 0.3


LEVELS: dict[int, CountdownLevel] = {
    1: CountdownLevel(numbers=3, largest=25, open=(0.25, 1.0), classic=0.0),
    2: CountdownLevel(numbers=4, largest=13, open=(0.25, 1.0)),
    3: CountdownLevel(numbers=4, largest=13, open=(0.0, 0.25)),
    4: CountdownLevel(numbers=4, largest=50, targets=(10, 200), open=(0.0, 0.25), classic=0.0),
    5: CountdownLevel(numbers=5, largest=25, targets=(10, 200), classic=0.1),
}

# --------------------------------------------------------------------------------------------------------- the solver


def _divide(a: Rational, b: Rational) -> Rational:
    """Exactly, as an int where it is one."""
    quotient, rest = divmod(a, b)
    return Fraction(a, b) if rest else quotient


def _apply(operator: str, a: Rational, b: Rational) -> Rational | None:
    if operator == "+":
        return a + b
    if operator == "-":
        return a - b
    if operator == "*":
        return a * b
    return _divide(a, b) if b else None


def _is_whole(number: Rational) -> bool:
    return 0 <= number <= LARGEST and number.denominator == 1


@lru_cache(maxsize=1 << 14)
def _partings(numbers: Numbers) -> tuple[tuple[Numbers, Numbers], ...]:
    """Every way to part numbers in two, the smaller part first."""
    found: dict[tuple[Numbers, Numbers], None] = {}
    for size in range(1, len(numbers) // 2 + 1):
        for chosen in combinations(range(len(numbers)), size):
            if 2 * size < len(numbers) or 0 in chosen:
                rest = (number for i, number in enumerate(numbers) if i not in chosen)
                found[tuple(numbers[i] for i in chosen), tuple(rest)] = None
    return tuple(found)


Kind = Literal["whole", "positive", "any"]  # of the numbers on the way: whole from 0 to LARGEST, from 0, or any


def _joined(a: Rational, b: Rational, kind: Kind) -> list[Rational]:
    """What one operation makes of two numbers, in either order."""
    found = [a + b, a * b]
    if kind == "any":
        found += [a - b, b - a]
    else:
        found.append(max(a - b, b - a))
    if b and (kind != "whole" or not a % b):
        found.append(_divide(a, b))
    if a and (kind != "whole" or not b % a):
        found.append(_divide(b, a))
    return list(filter(_is_whole, found)) if kind == "whole" else found


def _before(target: Rational, b: Rational, kind: Kind) -> list[Rational]:
    """Every number of which one operation with b, in either order, makes the target; b = target = 0 takes any."""
    found = [target + b]
    if kind == "any":
        found += [target - b, b - target]
    else:
        found.append(max(target - b, b - target))
    if b:
        found.append(target * b)
        if kind != "whole" or not target % b:
            found.append(_divide(target, b))
        if target and (kind != "whole" or not b % target):
            found.append(_divide(b, target))
    return list(filter(_is_whole, found)) if kind == "whole" else found


@lru_cache(maxsize=1 << 12)
def _values(numbers: Numbers, kind: Kind) -> frozenset[Rational]:
    """Everything that can be made of the numbers, each used once."""
    if len(numbers) == 1:
        return frozenset(numbers)
    found = set[Rational]()
    for part, rest in _partings(numbers):
        for a, b in product(_values(part, kind), _values(rest, kind)):
            found.update(_joined(a, b, kind))
    return frozenset(found)


@lru_cache(maxsize=1 << 16)
def _reach(numbers: Numbers, target: Rational, kind: Kind) -> bool:
    """Work from both ends.

    The last operation joins a smaller part of the numbers and the others, and what the others must come to follows
    from the target and a value of the smaller part.
    """
    if len(numbers) <= 3:
        return target in _values(numbers, kind)
    return any(
        (not b and not target) or any(_reach(rest, wanted, kind) for wanted in _before(target, b, kind))
        for part, rest in _partings(numbers)
        for b in _values(part, kind)
    )


def reachable(numbers: Numbers, target: Rational, whole: bool = False) -> bool:
    """Whether the target can be made of the numbers, each used exactly once. Exact.

    Args:
        numbers: in ascending order; fractions and negative numbers are allowed.
        target: any number.
        whole: only by way of whole numbers from 0 to `LARGEST`.
    """
    if whole:
        return _is_whole(target) and _reach(numbers, target, "whole")
    # Without negative numbers to start with, none is needed on the way to a target that is not negative: the absolute
    # value of a sum or a difference is the sum or the difference of the absolute values.
    return _reach(numbers, target, "positive" if numbers[0] >= 0 and target >= 0 else "any")


class Move(NamedTuple):
    """A legal step: ``a operator b = result``, and what is then left, in ascending order."""

    a: Rational
    operator: str
    b: Rational
    result: Rational
    left: Numbers

    def __str__(self) -> str:
        return f"{self.a} {self.operator} {self.b} = {self.result} (left: {' '.join(map(str, self.left))})"


def moves(numbers: Numbers, whole: bool = False) -> Iterator[Move]:
    """The legal steps, but for ``a + b`` and ``a * b`` with a < b and for differences below zero: see `reachable`.

    Args:
        numbers: in ascending order.
        whole: only those with a whole number from 0 to `LARGEST` as result.
    """
    for low, high in dict.fromkeys(combinations(numbers, 2)):
        rest = list(numbers)
        rest.remove(low)
        rest.remove(high)
        either = [("+", high, low), ("-", high, low), ("*", high, low), ("/", high, low)]
        for operator, a, b in [*either, ("/", low, high)] if low != high else either:
            result = _apply(operator, a, b)
            if result is not None and (not whole or _is_whole(result)):
                yield Move(a, operator, b, result, tuple(sorted([*rest, result])))


def openness(numbers: Numbers, target: Rational) -> float:
    """Share of the whole-numbered first steps that leave a whole-numbered way to the target: how easy to choose."""
    first = [reachable(move.left, target, whole=True) for move in moves(numbers, whole=True)]
    return sum(first) / len(first)


# ------------------------------------------------------------------------------------------------------------- steps

_NUMBER = r"-?\d{1,40}(?:/\d{1,40})?"
_STEP = re.compile(
    rf"\(?({_NUMBER}) *([-+*/]) *({_NUMBER})\)? *= *({_NUMBER}) *[,;]? *"
    rf"[(\[]?(?:numbers )?(?:left|remaining)(?: numbers)?:? *"
    rf"[(\[{{]?({_NUMBER}(?:(?: +| *, *| +and +){_NUMBER})*) *[)\]}}]{{0,2}}\.?",
    re.ASCII | re.IGNORECASE,
)
_NUMBERED = re.compile(r"^(?:(?:step\s*)?\d{1,2}\s*[.):]|step\s*\d{1,2}|[-*•])\s+(?=[-(\d])", re.IGNORECASE)
_SIGNS = str.maketrans(OPERATORS)

Left = tuple[tuple[Rational, Expression], ...]  # numbers and what they were made by


def _exact(text: str) -> Rational:
    number = Fraction(text)
    return number.numerator if number.denominator == 1 else number


@lru_cache(maxsize=1 << 14)
def _read_step(line: str) -> Move | None:
    """A step as it is written, right or wrong; None when it is not of the form."""
    if len(line) > MAX_LINE:
        return None
    text = _NUMBERED.sub("", line.strip().replace("$", ""), count=1)
    for written, sign in _LATEX:
        text = re.sub(written, sign, text)
    match = _STEP.fullmatch(re.sub(r"(?<=\d) *x *(?=-?\d)", "*", text.strip().translate(_SIGNS)))
    if match is None:
        return None
    try:
        a, b, result = (_exact(match[index]) for index in (1, 3, 4))
        return Move(a, match[2], b, result, tuple(sorted(map(_exact, re.split(r"[ ,]+(?:and +)?", match[5])))))
    except ZeroDivisionError:
        return None


def _take(left: Left, line: str) -> Left | None:
    """What is left after a step; None when it is not legal."""
    move = _read_step(line)
    if move is None or _apply(move.operator, move.a, move.b) != move.result:
        return None
    rest, used = list(left), list[Expression]()
    for number in (move.a, move.b):
        part = next((part for part in rest if part[0] == number), None)
        if part is None:
            return None
        rest.remove(part)
        used.append(part[1])
    rest.append((move.result, Operation(move.operator, *used)))
    after = tuple(sorted(rest, key=lambda part: part[0]))
    return after if tuple(number for number, _ in after) == move.left else None


def _follow(state: State) -> Iterator[Left]:
    """What is there at first and what is left after each step, up to the first that is not legal."""
    numbers, _ = _puzzle(state.problem.question)
    left: Left | None = tuple((number, Number(Fraction(number))) for number in numbers)
    for step in state.steps:
        if left is None:
            return
        yield left
        left = _take(left, step.text)
    if left is not None:
        yield left


def _weigh(expression: Expression) -> tuple[tuple[Fraction, ...], Fraction]:
    """The numbers used, in ascending order and without their signs, and the value; raises ValueError if it has none."""

    def leaves(expression: Expression) -> Iterator[Fraction]:
        match expression:
            case Number(value):
                yield abs(value)  # a sign never helps, see `reachable`
            case Unknown(name):
                raise ValueError(f"{name!r} in an expression")
            case Operation(_, left, right):
                yield from leaves(left)
                yield from leaves(right)

    return tuple(sorted(leaves(expression))), linear(expression)[1]


_AROUND = (  # what people and models put around an answer
    (r"\\boxed\s*\{(.*)\}", r"\1"),
    (r"\$\$?([^$]*)\$\$?", r"\1"),
    (r"\\\((.*)\\\)|\\\[(.*)\\\]", r"\1\2"),
    (r"\*\*([^*].*[^*])\*\*", r"\1"),
    (r"`+([^`]*)`+", r"\1"),
    (r"<answer>(.*)</answer>", r"\1"),
    (r"[\"'“](.*)[\"'”]", r"\1"),
    (r"#{2,6}\s*(.*)", r"\1"),
    (r"(.*\d[)\]]*)\s*[✓✔✅]", r"\1"),
    (r"(.*[^.;\s])\s*[.;]", r"\1"),
    (r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}", r"\1"),
    (r"(?:the |my )?(?:final[ _])?answer(?: is)?\s*[:=]?\s*(?=[-+(\d\\$`*])(.*)", r"\1"),
    (r"[a-z]\s*=\s*([^=].*)", r"\1"),  # a name for it
)
_LATEX = (
    (r"==|→|=>|->|\\(?:to|rightarrow)(?![a-zA-Z])", "="),
    (r"(?<=[\d)\]])\s*:\s*(?=[\d(\[])", "/"),
    (r"\\left|\\right|\\[,;:! ]|~", ""),
    (r"\\(?:times|cdot|ast)(?![a-zA-Z])", "*"),
    (r"\\div(?![a-zA-Z])", "/"),
    (r"\\[dt]?frac\s*(\d)\s*(\d)(?!\d)", r"(\1/\2)"),
    (r"(?<=[\d)\]])\s*[xX]\s*(?=[-\d(\[])", "*"),
)
_ZEROS = re.compile(r"(?<=\d)\.0+(?!\d)")  # of a value; steps are of whole numbers and fractions
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")


_WIDE = {wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)}  # full-width forms of ASCII


def _plainly(text: str) -> str:
    """An expression without what people and LaTeX put around it and in it."""
    before, text = "", text.translate(_WIDE)
    while before != text:
        before, text = text, text.strip()
        for around, inside in _AROUND:
            match = re.fullmatch(around, text, re.DOTALL | re.IGNORECASE)
            text = match.expand(inside).strip() if match else text
    text = _ZEROS.sub("", text)
    for written, plain in _LATEX:
        text = re.sub(written, plain, text)
    while (simpler := _FRACTION.sub(r"((\1)/(\2))", text)) != text:
        text = simpler
    return text.replace("{", "(").replace("}", ")")


@lru_cache(maxsize=1 << 14)
def _read_answer(text: str) -> tuple[tuple[Fraction, ...], Fraction] | None:
    """The numbers and the value of an expression, or of an equation of one and its value; None when it is neither."""
    if len(text) > MAX_LINE:
        return None
    try:
        sides = parse_sides(_plainly(text))
        values = {_weigh(side)[1] for side in sides}
        worked = [side for side in sides if len(sides) == 1 or not isinstance(side, Number)]
        return _weigh(worked[0]) if len(values) == len(worked) == 1 else None
    except ValueError:
        return None


# --------------------------------------------------------------------------------------------------------- questions

_NUMBERS = r"\d+(?:(?:\s*,\s*(?:and\s+)?|\s+and\s+|\s+)\d+)+"
_MAKE = r"(?:make|reach|get(?:\s+to)?|obtain|form|hit|equal|calculate|compute|create|build)"
_OF = r"(?:(?:only|exactly|all|each|of|the|these|those|following|given|four|numbers|integers|digits)\b\s*)*:?\s*"
_KIND = r"(?:arithmetic\s+|mathematical\s+)?(?:equation|expression|formula|calculation)"
_GIVES = r"(?:equals?|makes?|gives?|reach(?:es)?|evaluates?\s+to|results?\s+in|is(?:\s+equal\s+to)?|gets?(?:\s+to)?)"
_FORM = rf"(?:create|write|find|form|make|build|give|construct)\s+an?\s+{_KIND}\s+(?:that|which|to)\s+{_GIVES}"
_TARGET = r"(?:(?:exactly|the\s+(?:target|number|total|result|value)(?:\s+(?:number|of|is))?)\s*:?\s*)?"
_WORDINGS = tuple(
    re.compile(pattern, re.IGNORECASE | re.ASCII)
    for pattern in (
        rf"(?:numbers\s*:?\s*)?(?P<numbers>{_NUMBERS})",
        rf"(?:(?:please|find\s+a\s+way\s+to|how\s+(?:can|do)\s+(?:I|you|we)|can\s+you)\s+)?(?:{_MAKE}\s+)?"
        rf"{_TARGET}(?P<target>\d+)\s+(?:from|with|using|out\s+of|of)\s+{_OF}(?P<numbers>{_NUMBERS})",
        rf"(?:find|create|write|give|form|make|build|construct)\s+an?\s+{_KIND}\s+(?:using|with|from|of|out\s+of)\s+{_OF}"
        rf"(?P<numbers>{_NUMBERS})\s+(?:that|which|to)\s+{_GIVES}\s+{_TARGET}(?P<target>\d+)",
        rf"(?:find|write|give)\s+an?\s+{_KIND}\s+for\s+{_TARGET}(?P<target>\d+)\s+(?:using|with|from|of|out\s+of)\s+{_OF}"
        rf"(?P<numbers>{_NUMBERS})",
        rf"target(?:\s+is)?\s*[:=]?\s*(?P<target>\d+)\s*[,;.]?\s*(?:with\s+)?(?:numbers|nums)\s*[:=]?\s*(?P<numbers>{_NUMBERS})",
        rf"{_FORM}\s+{_TARGET}(?P<target>\d+),?\s+(?:from|with|using|out\s+of|of)\s+{_OF}(?P<numbers>{_NUMBERS})",
        rf"(?:play\s+|solve\s+)?(?:the\s+)?(?:game\s+of\s+24|24[\s-]game|make\s+24)\s*(?:for|with|on)?\s*:?\s*{_OF}"
        rf"(?P<numbers>{_NUMBERS})",
        rf"use\s+numbers\s+and\s+basic\s+arithmetic\s+operations.*\bto\s+obtain\s+(?P<target>\d+)\b[^\d]*"
        rf"input:\s*(?P<numbers>{_NUMBERS})",
        rf"(?:please\s+)?(?:(?:use|using|with|from|combine|given)\s+{_OF}|(?:numbers|nums)\s*[:=]?\s*)?(?P<numbers>{_NUMBERS})"
        rf"\s*(?:[,;.]\s*)?(?:(?:to|and|please)\s+)?(?:{_MAKE}|{_FORM}|(?:the\s+)?target(?:\s+is)?\s*[:=]?|->|=>|=|→|to)"
        rf"\s*{_TARGET}(?P<target>\d+)",
    )
)
# What reasoning-gym adds to its questions, and what goes without saying.
_ADDED = re.compile(
    r"final answer format instructions:.*"
    r"|(?:you can only use each number|each number (?:can only|may|must|can) be used|use each number)"
    r"(?: (?:exactly|only|at most))?(?: once)?\."
    r"|you can use the operators \+, -, \*, /\."
    r"|you (?:can|may) use (?:the )?(?:basic|four) arithmetic operations? ?(?:\([-+*/×÷−, ]*\))?"
    r"(?: one or multiple times)?(?:,? (?:and|but) each number (?:can only|may only|must) be used (?:exactly )?once)?\."
    r"|(?:please )?show your (?:work|reasoning) in <think>.*",
    re.IGNORECASE | re.DOTALL,
)
_BRACKETS = re.compile(r"[\[({]\s*(\d[\d\s,]*?)\s*[\])}]")  # around a list of numbers
_CANONICAL = re.compile(r"make (\d+) from (\d+(?: \d+)+)")
_READABLE = (
    "the countdown environment reads questions such as 'make 24 from 4 6 8 2', '4 6 8 2' (the target is 24) "
    "and 'use 3, 5, 7 and 25 to reach 80'"
)


_LIST = re.compile(rf"(?<![\d.]){_NUMBERS}(?!\.?\d)", re.ASCII)
_AIM = re.compile(
    rf"(?:\b(?:{_MAKE}|{_GIVES}|equal\s+to|target)|->|=>|→)\s*:?\s*{_TARGET}(\d+)(?![\d.])", re.ASCII | re.IGNORECASE
)
_RULES = re.compile(
    r"(?:input|puzzle|cards?|question|solve 24)\s*:|\b(?:exactly\s+)?once(?:\s+each)?\b|\beach number\b",
    re.IGNORECASE,
)


def _loosely(text: str) -> tuple[str, str | None] | None:
    """The one list of numbers in a text, and the one number that is to be made of them.

    No other number may stand there, and if operators are named, it must be all four.
    """
    text = _RULES.sub(" ", text)
    lists, aims = list(_LIST.finditer(text)), list(_AIM.finditer(text))
    if len(lists) != 1 or len(aims) > 1:
        return None
    rest = text[: lists[0].start()] + text[lists[0].end() :]
    others = re.findall(r"\d+", rest, re.ASCII)
    signs = set(re.findall(r"[-+*/]", re.sub("->|=>", "", rest).translate(_SIGNS)))
    if signs not in (set(), set("+-*/")) or re.search(r"\b(?:not|without|only|except)\b", rest, re.IGNORECASE):
        return None
    if aims:
        return (lists[0][0], aims[0][1]) if others == [aims[0][1]] else None
    return (lists[0][0], None) if not rest.strip(" .:,;") else None


def _question(numbers: Iterable[Rational], target: int) -> str:
    return f"make {target} from {' '.join(map(str, numbers))}"


@lru_cache(maxsize=4096)
def _puzzle(question: str) -> tuple[Numbers, int]:
    """The numbers and the target of a canonical question."""
    match = _CANONICAL.fullmatch(question)
    if match is None:
        raise ValueError(f"{question!r} is no question of the countdown environment; make one with `read`")
    return tuple(map(int, match[2].split())), int(match[1])


def _split_of(numbers: Numbers, target: int) -> Split:
    """A property of the puzzle itself, so that splits are disjoint whatever the options.

    The test puzzles of the Game of 24 are the published ones; all others go by a hash.
    """
    split = split_of(_question(numbers, target))
    if target == CLASSIC and len(numbers) == 4 and max(numbers) <= 13:
        return "test" if numbers in HELD_OUT else "calibration" if split == "calibration" else "train"
    return split


def _read_puzzles(path: Path) -> Iterator[tuple[Numbers, int]]:
    """The puzzles and the ranks of a file; raises ValueError naming what is wrong with it."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        if not {"Rank", "Puzzles"} <= set(rows.fieldnames or ()):
            raise ValueError(f"{path} has the columns {rows.fieldnames}; 'Rank' and 'Puzzles' are needed")
        for row in rows:
            try:
                numbers = tuple(sorted(map(int, row["Puzzles"].split())))
                rank = int(row["Rank"])
                if not 2 <= len(numbers) <= MAX_NUMBERS or not 0 <= numbers[0] <= numbers[-1] <= MAX_GIVEN:
                    raise ValueError("not a puzzle")
                if not reachable(numbers, CLASSIC):
                    raise ValueError("there is no solution")
            except (ValueError, AttributeError) as error:
                raise ValueError(f"{path}, line {rows.line_num}: {error} in {row}") from None
            yield numbers, rank


class Countdown:
    """Puzzles with numbers and a target. Conforms to `Environment`, `Demonstrator` and `StepChecker`.

    Args:
        levels: which of the levels 1 to 5 `problems` draws from, in equal shares (repeats weigh).
        puzzles: a CSV file of Game of 24 puzzles to draw from in place of the levels, with the columns ``Rank`` and
            ``Puzzles`` ("4 4 6 8"); in the published file, rows 901 to 1000 are the test split.
    """

    name = "countdown"
    delimiter = "\n"
    max_steps = MAX_NUMBERS - 1

    def __init__(self, levels: Sequence[int] = (1, 2, 3, 4, 5), puzzles: str | Path | None = None) -> None:
        wrong = [level for level in levels if level not in LEVELS]
        if wrong or not levels:
            raise ValueError(f"levels {list(levels)!r} given; allowed: one or more of {sorted(LEVELS)}")
        self.levels = tuple(levels)
        self.puzzles = None if puzzles is None else dict(_read_puzzles(Path(puzzles).expanduser()))

    # ------------------------------------------------------------------------------------------------- questions

    def read(self, question: str) -> Problem:
        """Read a question as people type it or as reasoning-gym words it; raises `UnreadableQuestion`."""
        if len(question) > MAX_QUESTION:
            raise UnreadableQuestion(f"a question of {len(question)} characters; at most {MAX_QUESTION} are read")
        text = _BRACKETS.sub(r" \1 ", _ADDED.sub("", question)).strip().rstrip("?.! \n")
        match = next(filter(None, (wording.fullmatch(text) for wording in _WORDINGS)), None)
        found = (match["numbers"], match.groupdict().get("target")) if match else _loosely(text)
        if found is None:
            raise UnreadableQuestion(f"cannot read {question!r}; {_READABLE}")
        given = re.findall(r"\d+", found[0], re.ASCII)
        wanted = found[1] or str(CLASSIC)
        if len(given) > MAX_NUMBERS:
            raise UnreadableQuestion(f"{question!r} has {len(given)} numbers; at most {MAX_NUMBERS} are read")
        for number in (*given, wanted):
            if len(number) > 20 or int(number) > MAX_GIVEN:
                raise UnreadableQuestion(f"{question!r}: {number} is too large; at most {MAX_GIVEN} is read")
        numbers, target = tuple(sorted(map(int, given))), int(wanted)
        if not reachable(numbers, target):
            raise UnreadableQuestion(f"there is no way to {_question(numbers, target)}, each used once")
        return self._problem(numbers, target, {})

    def prompt(self, problem: Problem) -> str:
        """The question on a line of its own."""
        return problem.question + "\n"

    def _problem(self, numbers: Numbers, target: int, meta: Mapping[str, Any]) -> Problem:
        question = _question(numbers, target)
        return Problem(f"{self.name}/{question}", question, _solve(question), meta)

    # --------------------------------------------------------------------------------------------------- the MDP

    def initial(self, problem: Problem) -> State:
        """The state before the first step."""
        return State(problem)

    def step(self, state: State, step: Step) -> Transition:
        """A legal step goes on, or terminates when it leaves the target alone; anything else truncates."""
        after = state.then(step)
        if self.answer(after) is not None:
            return termination(after)
        lefts = list(_follow(after))
        goes_on = len(lefts) > len(after.steps) and len(lefts[-1]) > 1 and step.finish == "step"
        return transition(after) if goes_on else truncation(after)

    def answer(self, state: State) -> str | None:
        """The expression that the steps spell out, once the target alone is left; None before, and if it is missed."""
        lefts = list(_follow(state))
        if len(lefts) <= len(state.steps) or len(lefts[-1]) > 1:
            return None
        number, expression = lefts[-1][0]
        return write(expression) if number == _puzzle(state.problem.question)[1] else None

    def check(self, problem: Problem, answer: str) -> bool:
        """Whether the answer uses the numbers of the puzzle, each once, and has the value of its target."""
        return problem.answer is not None and self.same(problem.answer, answer)

    def same(self, a: str, b: str) -> bool:
        """Whether two expressions use the same numbers and have the same value: all solutions of a puzzle are the same.

        Texts that are no expressions are the same if equal.
        """
        first, second = _read_answer(a), _read_answer(b)
        return a.strip() == b.strip() if first is None or second is None else first == second

    def first_error(self, state: State) -> int | None:
        """Index of the first step that is not legal or leaves no way to the target, or None."""
        _, target = _puzzle(state.problem.question)
        lefts = list(_follow(state))[1:]
        lost = (i for i, left in enumerate(lefts) if not reachable(tuple(number for number, _ in left), target))
        return next(lost, len(lefts) if len(lefts) < len(state.steps) else None)

    # -------------------------------------------------------------------------------------------------- problems

    def problems(self, split: Split, n: int, seed: int = 0) -> Sequence[Problem]:
        """`n` distinct problems of a split, the levels in turn; the same arguments give the same problems.

        Raises:
            ValueError: for a split that is none, and when there are fewer problems than asked for.
        """
        if split not in SPLITS:
            raise ValueError(f"split {split!r} given; allowed: {', '.join(SPLITS)}")
        rng = random.Random(f"{self.name}/{split}/{seed}")
        if self.puzzles is not None:
            rows = [numbers for numbers in self.puzzles if _split_of(numbers, CLASSIC) == split]
            if n > len(rows):
                raise ValueError(f"{n} problems of {split!r} asked for; there are {len(rows)}")
            return [self._problem(row, CLASSIC, {"rank": self.puzzles[row]}) for row in rng.sample(rows, n)]
        return draw_distinct(self.stream(split, rng), n, split)

    def stream(self, split: Split, rng: random.Random) -> Iterator[Problem]:
        """Problems of a split without end, the levels in turn; they may repeat."""
        while True:
            for level in self.levels:
                drawn = (_draw(LEVELS[level], split, rng) for _ in count())
                yield self._problem(*next(filter(None, drawn)), {"level": level})

    def demonstrate(self, problem: Problem, rng: random.Random) -> tuple[str, ...]:
        """One of the solutions, drawn step by step; by way of whole numbers up to `LARGEST` if there is a way."""
        return tuple(map(str, _play(*_puzzle(problem.question), rng)))

    # ------------------------------------------------------------------------------------------ for fakes and tests

    def options(self, state: State) -> Mapping[str, float]:
        """Steps that a careless player would take, with weights: any, but fractions and large numbers seldom."""
        lefts = list(_follow(state))
        if len(lefts) <= len(state.steps):
            return {}
        numbers = tuple(number for number, _ in lefts[-1])
        return {str(move): 1.0 if _is_whole(move.result) else 0.05 for move in moves(numbers)}


def _play(numbers: Numbers, target: int, rng: random.Random) -> Iterator[Move]:
    """The steps of a solution, drawn among those that leave a way to the target, a whole-numbered one if there is."""
    while len(numbers) > 1:
        whole = reachable(numbers, target, whole=True)
        drawn = list(moves(numbers, whole))
        rng.shuffle(drawn)
        move = next(move for move in drawn if reachable(move.left, target, whole))
        yield move
        numbers = move.left


@lru_cache(maxsize=1 << 14)
def _solve(question: str) -> str:
    """An answer to a question that has one."""
    state = State(
        Problem(question, question), tuple(Step(str(move)) for move in _play(*_puzzle(question), random.Random(0)))
    )
    *_, ((_, expression),) = _follow(state)
    return write(expression)


def _draw(level: CountdownLevel, split: Split, rng: random.Random) -> tuple[Numbers, int] | None:
    """One draw of a level, or None when it breaks a bound or belongs to another split and must be drawn again."""
    numbers: Numbers = tuple(sorted(rng.randint(1, level.largest) for _ in range(level.numbers)))
    target = CLASSIC if rng.random() < level.classic else _wander(numbers, rng)
    low, high = level.targets
    if target is None or not low <= target <= high or _split_of(numbers, target) != split:
        return None
    if level.open != (0, 1) and not level.open[0] <= openness(numbers, target) <= level.open[1]:
        return None
    return (numbers, target) if reachable(numbers, target, whole=True) else None


def _wander(numbers: Numbers, rng: random.Random) -> int | None:
    """Where a careless player ends who keeps to whole numbers."""
    while len(numbers) > 1:
        whole = list(moves(numbers, whole=True))
        if not whole:
            return None
        numbers = rng.choice(whole).left
    return int(numbers[0])
