"""What an answer can be: one typed value, read from its text by `envs.math.answer_reader`."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from envs.math.answer_algebra import Expr
from envs.math.answer_units import Unit


@dataclass(frozen=True)
class Quantity:
    """A number or an expression, with the unit that was named."""

    expr: Expr
    unit: Unit | None = None


@dataclass(frozen=True)
class Based:
    """A number in another base than ten, by its digits."""

    digits: str
    base: int


@dataclass(frozen=True)
class Ratio:
    """Numbers with colons between them: a ratio, or a time of the day."""

    parts: tuple[Expr, ...]
    clock: bool = False
    unit: Unit | None = None


@dataclass(frozen=True)
class Equation:
    """Two sides that are said to be equal, neither of them a bare name."""

    left: Expr
    right: Expr


@dataclass(frozen=True)
class Inequality:
    """``left < right`` (or at most, if `closed`; or not equal) between expressions that give no interval."""

    left: Expr
    right: Expr
    relation: str


@dataclass(frozen=True)
class Named:
    """A value with the name that it is given; names of several letters distinguish nothing and are empty."""

    name: str
    value: Value
    symbol: Expr | None = None


@dataclass(frozen=True)
class Assignments:
    """Several named values, ``x = 1, y = 2``."""

    parts: tuple[Named, ...]


@dataclass(frozen=True)
class Sequence:
    """In order: a tuple, a point, a vector, a column of a matrix, and the open interval of two ends."""

    items: tuple[Value, ...]


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`, with at least one end in it."""

    low: Expr
    high: Expr
    closed: tuple[bool, bool]
    unit: Unit | None = None


@dataclass(frozen=True)
class Union:
    """A union of intervals and sets, in any order."""

    parts: tuple[Value, ...]


@dataclass(frozen=True)
class Collection:
    """A set, or a list without brackets: in any order."""

    items: tuple[Value, ...]


@dataclass(frozen=True)
class Matrix:
    """Rows of entries."""

    rows: tuple[tuple[Value, ...], ...]


@dataclass(frozen=True)
class Choice:
    """A letter of several choices, with what stands behind it."""

    letter: str
    value: Value | None = None


@dataclass(frozen=True)
class Text:
    """Words, or what could not be read: compared without capitals, articles, spaces and punctuation."""

    key: str


Value = (
    Quantity | Based | Ratio | Equation | Inequality | Named | Assignments | Sequence | Interval | Union | Collection
    | Matrix | Choice | Text
)  # fmt: skip


def is_percentage(value: Value) -> bool:
    """Whether a value is a number of percents."""
    return isinstance(value, Quantity) and value.unit is not None and value.unit.dimension == (("percent", 1),)


HUNDRED = Fraction(100)
