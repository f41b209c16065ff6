r"""Whether two mathematical answers are the same, decided by what was written and not by how.

Both answers are read into typed values (`envs.math.answer_reader`), and values are compared by the rule of their type:
numbers and expressions exactly (`envs.math.answer_algebra`), sets and lists in any order, tuples in theirs. Only what
needs identities that are not applied there (``\sqrt{3+2\sqrt2}`` and ``1+\sqrt2``) goes to sympy, in a process of its
own with hard limits (`Algebra`), and only when the values of both agree. No text of a model is ever evaluated.

The relation is reflexive and symmetric. What was left out of one answer is taken from the other: a unit (``3 hours``
and ``3``), a name (``x = 5`` and 5), the digits behind a rounded decimal (``2/3`` and 0.666667). Between answers that
leave nothing out it is transitive. `verifiers.voting.tally` makes classes of it that depend on no order.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import select
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import IO

from envs.math.answer_algebra import (
    MINUS_ONE,
    PI,
    Expr,
    Num,
    Pow,
    Prod,
    Sym,
    as_json,
    equal,
    minus,
    numeric,
    over,
    proportional,
    rational_value,
    renamed,
    sign_of_ratio,
    symbols,
)
from envs.math.answer_finder import find_answer
from envs.math.answer_formula import MULTIPLES, SIGNIFICANT, ratio_of
from envs.math.answer_reader import MAX_ANSWER, read
from envs.math.answer_units import Unit
from envs.math.answer_values import (
    HUNDRED,
    Assignments,
    Choice,
    Collection,
    Equation,
    Inequality,
    Interval,
    Matrix,
    Named,
    Quantity,
    Ratio,
    Sequence,
    Text,
    Union,
    Value,
    is_percentage,
)

__all__ = ["MAX_ANSWER", "Algebra", "find_answer", "right_answer", "same_answer"]

CACHED = 1 << 14  # pairs compared
START = 120.0  # seconds for loading sympy, on a busy machine
PATIENCE = 3  # times the processor time, by the clock: what a busy machine may need for it
SLACK = 5.0  # more seconds for the process itself, which answers after the patience at the latest
WORKER = Path(__file__).with_name("answers_worker.py")
Prove = Callable[[Expr, Expr], bool]


def same_answer(a: str, b: str, algebra: Algebra) -> bool:
    """Whether two answers are the same: reflexive and symmetric, and safe with any text."""
    if a == b:
        return True
    number, other = _exact_number(a), _exact_number(b)
    if number is not None and other is not None:
        return number == other
    return _verdict(*sorted((a, b)), algebra)


@lru_cache(maxsize=CACHED)
def _verdict(a: str, b: str, algebra: Algebra) -> bool:
    first, second = read(a), read(b)
    if first is None or second is None:
        return False
    try:
        return _Comparison(algebra.same).same(first, second)
    except RecursionError:  # nested beyond what is compared
        return False


@lru_cache(maxsize=CACHED)
def _exact_number(answer: str) -> Fraction | None:
    """The value of an answer that is nothing but an exact number; most comparisons need no more."""
    value = read(answer)
    if not isinstance(value, Quantity) or value.unit is not None:
        return None
    if isinstance(value.expr, Num):
        return value.expr.value if value.expr.digits < SIGNIFICANT else None
    return ratio_of(value.expr)


_GROUPS = re.compile(r"\d{1,3}(?:,\d{3})+")


def right_answer(gold: str, answer: str, question: str, algebra: Algebra) -> bool:
    """Whether an answer is the gold answer, where the question may decide what its writing leaves open.

    Besides what `same_answer` takes: a percentage for its fraction, unless the question asks for a percentage; and
    the value of an expression that the question names (``m+n = 7`` for 7); a fraction for a ratio, if it asks for one;
    and a list of numbers of three digits, whose commas would be thousands separators.
    """
    if same_answer(gold, answer, algebra):
        return True
    wanted, given = read(gold), read(answer)
    if wanted is None or given is None:
        return False
    asked = re.search(rf"\b(?:how many|number of) ({'|'.join(MULTIPLES)})s?\b", question, re.IGNORECASE)
    if asked and (shorter := re.sub(rf"\s*\b{asked[1]}s?\b", "", answer, count=1, flags=re.IGNORECASE)) != answer:
        return same_answer(gold, shorter, algebra)  # "2 dozen" where dozens are counted
    comparison = _Comparison(algebra.same)
    if isinstance(given, Equation) and isinstance(wanted, Quantity) and not symbols(wanted.expr):
        left = answer.partition("=")[0].strip("$ \\()")
        plain = "".join(left.split())
        if plain and not symbols(given.right) and plain in "".join(question.split()):
            return comparison.same(wanted, Quantity(given.right))
    if isinstance(wanted, Collection) and _GROUPS.fullmatch(answer.strip("$ .")):
        return same_answer(gold, answer.replace(",", ", "), algebra)  # "100,200" where two numbers are wanted
    ratio, share = (wanted, given) if isinstance(wanted, Ratio) else (given, wanted)
    if isinstance(ratio, Ratio) and isinstance(share, Quantity) and "ratio" in question.lower():
        bare = len(ratio.parts) == 2 and not ratio.clock and share.unit is None
        return bare and comparison.same(Quantity(over(*ratio.parts)), share)
    if is_percentage(wanted) != is_percentage(given) and isinstance(wanted, Quantity) and isinstance(given, Quantity):
        asks = "percent" in question.lower() or "\\%" in question
        part, whole = (given, wanted) if is_percentage(given) else (wanted, given)
        if not asks and whole.unit is None:
            fraction = Quantity(over(part.expr, Num(HUNDRED)))
            size = numeric(whole.expr)
            return size is not None and abs(size.real) <= 1 and comparison.same(fraction, whole)
    return False


# ----------------------------------------------------------------------------------------------------------- comparison


class _Comparison:
    """The rule of each type. `prove` decides on expressions that were shown neither equal nor different."""

    def __init__(self, prove: Prove) -> None:
        self.prove = prove

    def same(self, a: Value, b: Value) -> bool:
        """Whether two values are the same; symmetric."""
        if a == b:
            return True
        if isinstance(b, Choice | Named | Assignments) and not isinstance(a, Choice):
            a, b = b, a
        match a, b:
            case Choice(letter, value), Choice(other, further):
                return letter == other and (value is None or further is None or self.same(value, further))
            case Choice(letter, value), _:
                return self._choice(letter, value, b)
            case Named(), Named():
                return self._named(a, b)
            case Named(_, value, symbol), Equation() if symbol is not None and isinstance(value, Quantity):
                return self._equation(Equation(symbol, value.expr), b)
            case Named(_, value), (Assignments() | Equation()):
                return False
            case Named(_, value), _:
                return self.same(value, b)
            case Assignments(), Assignments():
                return self._matched(a.parts, b.parts)
            case Assignments(), _:
                return self._assigned(a, b)
            case Quantity(), Quantity():
                return self._quantity(a, b)
            case Ratio(), Ratio():
                return self._ratio(a, b)
            case (Ratio(clock=True) as time, Quantity() as hour) | (Quantity() as hour, Ratio(clock=True) as time):
                half = None if hour.unit == _O_CLOCK else hour.unit
                return hour.unit in (*_HALVES_OF_DAY, _O_CLOCK) and self._ratio(
                    time, Ratio((hour.expr, Num(Fraction(0))), True, half)
                )
            case Equation(), Equation():
                return self._equation(a, b)
            case Inequality(), Inequality():
                return self._inequality(a, b)
            case Sequence(items), Sequence(others):
                return len(items) == len(others) and all(map(self.same, items, others))
            case Interval(), Interval():
                ends = [(Quantity(each.low, each.unit), Quantity(each.high, each.unit)) for each in (a, b)]
                return a.closed == b.closed and all(map(self._quantity, *ends))
            case (Union(items), Union(others)) | (Collection(items), Collection(others)):
                return self._matched(items, others)
            case (Union(items), Collection(others)) | (Collection(items), Union(others)):  # (1,2) or (3,4)
                if all(isinstance(item, Text | Choice) for item in items):
                    return False  # both of them, or one
                return self._matched(items, others)
            case Matrix(rows), Matrix(others):
                return [len(row) for row in rows] == [len(row) for row in others] and all(
                    self.same(x, y)
                    for row, other in zip(rows, others, strict=True)
                    for x, y in zip(row, other, strict=True)
                )
        return False

    def _matched(self, items: tuple[Value, ...], others: tuple[Value, ...]) -> bool:
        """Whether two lists are the same in some order."""
        if len(items) != len(others):
            return False
        left = list(others)
        for item in items:
            found = next((k for k, other in enumerate(left) if self.same(item, other)), None)
            if found is None:
                return False
            del left[found]
        return True

    def _choice(self, letter: str, value: Value | None, other: Value) -> bool:
        if isinstance(other, Text) and other.key == letter.casefold():
            return True
        if value is not None:
            return self.same(value, other)
        if isinstance(other, Quantity) and other.unit is None:
            return self.equal(Sym(letter), other.expr)
        return isinstance(other, Named) and self.same(Choice(letter), other.value)

    def _named(self, a: Named, b: Named) -> bool:
        names = _plain_name(a.name), _plain_name(b.name)
        if all(names) and names[0] != names[1]:
            if (
                a.symbol is None
                or b.symbol is None
                or not isinstance(a.value, Quantity)
                or not isinstance(b.value, Quantity)
            ):
                return False
            return self._equation(Equation(a.symbol, a.value.expr), Equation(b.symbol, b.value.expr))
        return self.same(a.value, b.value)

    def _assigned(self, a: Assignments, b: Value) -> bool:
        """``x = 1, y = 2`` is the pair (1, 2), in the order of the letters; ``x_1 = 1, x_2 = 2`` also the list."""
        if isinstance(b, Named):
            values = {_plain_name(part.name): part.value for part in a.parts}
            named = [_plain_name(name) for name in _names_of_tuple(b.name)]
            if len(values) == len(a.parts) and sorted(named) == sorted(values):
                return self.same(Sequence(tuple(values[name] for name in named)), b.value)
            return self.same(a, b.value)
        heads = {part.name.partition("_")[0] for part in a.parts}
        if isinstance(b, Collection) and len(heads) == 1:
            return self._matched(tuple(part.value for part in a.parts), b.items)
        if isinstance(b, Sequence) and len({part.name for part in a.parts}) == len(a.parts):
            ordered = sorted(a.parts, key=lambda part: (part.name.startswith("\\"), part.name))
            letters = "".join(part.name for part in ordered)
            if ordered != list(a.parts) and letters not in "abcdefghijklmnopqrstuvwxyz":
                return False  # r = 2, h = 3 may be meant in either order
            return self.same(Sequence(tuple(part.value for part in ordered)), b)
        return False

    # ------------------------------------------------------------------------------------------------------- numbers

    def _quantity(self, a: Quantity, b: Quantity) -> bool:
        first, second = a.unit, b.unit
        if first is None or second is None:
            if self.number(a.expr, b.expr):
                return True
            named, bare = (a, b) if first is not None else (b, a)
            if named.unit is not None and named.unit.letter and symbols(bare.expr):  # 2 h is two hours, or 2h
                return self.number(Prod((named.expr, Sym(named.unit.letter))), bare.expr)
            return _in_cents(named.unit) and self.number(over(named.expr, Num(HUNDRED)), bare.expr)
        for (one, it), (other, meant) in (((a, first), (b, second)), ((b, second), (a, first))):
            if it.also and meant.dimension == ((it.also, 1),):  # 3 pounds, £3
                return self.number(one.expr, Prod((other.expr, Num(meant.scale))))
        if not _compatible(first, second):
            return False
        return self.number(*(_converted(each, first, second) for each in (a, b)))

    def number(self, a: Expr, b: Expr) -> bool:
        """Equal, or one is the other rounded to six significant digits or more."""
        for rough, fine in ((a, b), (b, a)):
            if (
                isinstance(rough, Num)
                and rough.unit is not None
                and rough.digits >= SIGNIFICANT
                and _rounds(rough, fine)
            ):
                return True
        return self.equal(a, b)

    def equal(self, a: Expr, b: Expr) -> bool:
        """Whether two expressions are equal; capitals do not count, unless an answer has a letter in both forms."""
        a, b = _folded(a), _folded(b)
        verdict = equal(a, b)
        return self.prove(a, b) if verdict is None else verdict

    def _ratio(self, a: Ratio, b: Ratio) -> bool:
        if a.unit is not None and b.unit is not None and not _compatible(a.unit, b.unit):
            return False
        if len(a.parts) != len(b.parts):
            return False
        if a.clock or b.clock:
            return all(map(self.equal, a.parts, b.parts)) or all(map(self.equal, _of_day(a), _of_day(b)))
        return all(
            self.equal(Prod((a.parts[0], other)), Prod((b.parts[0], part)))
            for part, other in zip(a.parts[1:], b.parts[1:], strict=True)
        )

    def _equation(self, a: Equation, b: Equation) -> bool:
        first, second = (_folded(minus(each.left, each.right)) for each in (a, b))
        return symbols(first) == symbols(second) and bool(proportional(first, second))

    def _inequality(self, a: Inequality, b: Inequality) -> bool:
        if a.relation != b.relation:
            return False
        first, second = (_folded(minus(each.left, each.right)) for each in (a, b))
        if not proportional(first, second):
            return False
        return a.relation == "\\ne" or sign_of_ratio(first, second) > 0


def _names_of_tuple(name: str) -> list[str]:
    """The names in ``(r, h)``."""
    return name[1:-1].split(",") if name.startswith("(") and name.endswith(")") and "," in name else []


def _plain_name(name: str) -> str:
    """A name without braces and capitals; the coordinates of a point name nothing."""
    if _names_of_tuple(name):
        return ""
    return "".join(each for each in name if each not in " {}\\").casefold()


def _folded(expr: Expr) -> Expr:
    names = symbols(expr)
    small = {name: name.casefold() for name in names}
    if len(set(small.values())) < len(names):
        return expr
    changed: dict[str, Expr] = {name: Sym(other) for name, other in small.items() if other != name}
    return renamed(expr, changed) if changed else expr


def _rounds(rough: Num, fine: Expr) -> bool:
    """Whether a decimal is a value, rounded or cut behind its last digit."""
    unit = rough.unit or Fraction(0)
    if isinstance(fine, Num):
        if fine.unit is not None and fine.digits >= SIGNIFICANT and fine.unit > unit:
            return False  # then that one is the rougher of the two
        if fine.value * rough.value <= 0:
            return False
        gap = abs(rough.value) - abs(fine.value)
        return -unit < gap <= unit / 2
    if symbols(fine):
        return False
    value = numeric(fine)
    exact = rational_value(value) if value is not None else None
    return exact is not None and _rounds(rough, Num(exact))


_HALVES_OF_DAY = (Unit(label="am"), Unit(label="pm"))
_O_CLOCK = Unit(label="o'clock")
_CENT = Fraction(1, 100)


def _of_day(time: Ratio) -> tuple[Expr, ...]:
    """A time of the day with hours from 0 to 23."""
    hour = time.parts[0]
    if time.unit not in _HALVES_OF_DAY or not isinstance(hour, Num):
        return time.parts
    return Num(hour.value % 12 + (12 if time.unit == _HALVES_OF_DAY[1] else 0)), *time.parts[1:]


def _in_cents(unit: Unit | None) -> bool:
    return unit is not None and unit.dimension == (("dollar", 1),) and unit.scale == _CENT


def _compatible(a: Unit, b: Unit) -> bool:
    """Whether two units that were named can be those of one quantity."""
    if a == b:
        return True
    if a.dimension and b.dimension:
        if _angles(a.dimension) != _angles(b.dimension):
            return False
        return not a.label or not b.label or a.label == b.label
    return bool(a.label) and a.label == b.label


def _angles(dimension: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
    return (("degree", 1),) if dimension == (("radian", 1),) else dimension


def _converted(quantity: Quantity, first: Unit, second: Unit) -> Expr:
    unit = quantity.unit
    assert unit is not None
    if (first.scale, first.offset, first.dimension) == (second.scale, second.offset, second.dimension):
        return quantity.expr
    expr = quantity.expr if not unit.offset else minus(quantity.expr, Num(-unit.offset))
    factor = Num(unit.scale)
    if unit.dimension == (("radian", 1),):
        return Prod((expr, factor, Pow(PI, MINUS_ONE)))
    if isinstance(expr, Num):
        return replace(expr, value=expr.value * unit.scale, unit=expr.unit and expr.unit * unit.scale)
    return Prod((expr, factor)) if unit.scale != 1 else expr


# -------------------------------------------------------------------------------------------------------- algebra


class Algebra:
    """sympy in a process of its own; what it does not prove within the limits is "not the same".

    The process starts at once, so that it is ready when it is needed, and again should it die. Verdicts are kept. Any
    thread may ask.

    Args:
        seconds: of processor time that one comparison may take, so that a busy machine changes no verdict.
        memory: bytes of address space that one comparison may take.

    Raises:
        ModuleNotFoundError: when sympy is not installed.
    """

    def __init__(self, seconds: float = 0.6, memory: int = 1 << 30) -> None:
        if importlib.util.find_spec("sympy") is None:
            raise ModuleNotFoundError(
                "comparing mathematical answers needs sympy: pip install 'stepwell[math]'", name="sympy"
            )
        self.seconds = seconds
        self.memory = memory
        self._lock = threading.Lock()
        self._worker: _Worker | None = _Worker()
        self._verdict = lru_cache(maxsize=CACHED)(self._ask)

    def same(self, a: Expr, b: Expr) -> bool:
        """Whether two expressions are proved to be equal."""
        first, second = sorted(json.dumps(as_json(each)) for each in (a, b))
        return self._verdict(first, second)

    def warm(self) -> None:
        """Wait until the process has loaded sympy."""
        self._ask('["sym", "x"]', '["sym", "x"]')

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return self._worker.process.pid if self._worker is not None else None

    @property
    def asked(self) -> int:
        """How many comparisons the process was asked for."""
        return self._verdict.cache_info().misses

    def close(self) -> None:
        """End the process."""
        with self._lock:
            if self._worker is not None:
                self._worker.stop()
            self._worker = None

    def _ask(self, a: str, b: str) -> bool:
        patience = PATIENCE * self.seconds
        question = json.dumps([json.loads(a), json.loads(b), self.seconds, patience, self.memory])
        with self._lock:
            for _ in range(2):  # something else may have ended the process: then once more, in a new one
                if self._worker is None or self._worker.owner != os.getpid():  # a fork has no share in it
                    self._worker = _Worker()
                reply: object = None
                try:
                    reply = self._worker.ask(question, patience + SLACK)
                finally:  # also when interrupted: a late reply must not become the next one
                    if not isinstance(reply, bool):
                        self._worker.stop()
                        self._worker = None
                if isinstance(reply, bool):
                    return reply
        return False


class _Worker:
    """A running `answers_worker`: one line of JSON in, one line out."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._loaded = False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - `stop` closes it
        # -P: neither this folder nor the current one may hide a module. A group of its own: Ctrl-C is not for it.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            process_group=0,
        )
        self.stop = weakref.finalize(self, _stop, self.process, self._errors, self.owner)

    def ask(self, question: str, seconds: float) -> object:
        """The reply to a question, or None if there is none in time; raises RuntimeError if it did not start."""
        if not self._loaded and self._reply(START) != "ready":
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip()
            raise RuntimeError(f"the process that compares answers did not start: {said or 'no reply'}")
        self._loaded = True
        try:
            self._pipe(self.process.stdin).write(question.encode() + b"\n")
        except BrokenPipeError:
            return None
        return self._reply(seconds)

    def _reply(self, seconds: float) -> object:
        source = self._pipe(self.process.stdout)
        ready = select.select([source], [], [], seconds)[0]
        line = source.readline() if ready else b""
        return json.loads(line) if line.endswith(b"\n") else None

    @staticmethod
    def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
        assert pipe is not None  # as asked for above
        return pipe


def _stop(process: subprocess.Popen[bytes], errors: IO[bytes], owner: int) -> None:
    if owner == os.getpid():
        process.kill()
        process.communicate()  # closes the pipes and waits
        errors.close()
