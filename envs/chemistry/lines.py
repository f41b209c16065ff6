"""Read the lines that a policy writes: equations, limiting reactants, conversions, answers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from envs.chemistry.formulas import (
    UNITS,
    Equation,
    Quantity,
    plain,
    read_equation,
    read_quantity,
    species,
    with_symbols,
    work_out,
)
from envs.expressions import Expression, Number, Operation, Unknown, parse_sides

MAX_LINE = 600


# --------------------------------------------------------------------------------------------------------------- lines


@dataclass(frozen=True)
class Reaction:
    """An equation with coefficients, numbers or the letters of unknowns: ``2 H2 + O2 -> 2 H2O``."""

    equation: Equation
    coefficients: tuple[str, ...]


@dataclass(frozen=True)
class Demand:
    """A linear equation in the coefficients, perhaps of one element: ``H: 2a = 2c``, ``a = 1``.

    Args:
        element: what it is said to conserve, or ''.
        form: (letter, factor) of left minus right; the constant has the letter ''.
    """

    element: str
    form: tuple[tuple[str, Fraction], ...]


@dataclass(frozen=True)
class Limiting:
    """A line that names the limiting reactant: ``limiting: H2``."""

    substance: str


@dataclass(frozen=True)
class Claim:
    """A quantity, worked out: ``n(H2) / 2 = 10 g / 2.016 g/mol / 2 = 2.48 mol``.

    Args:
        name: ``n(H2)``, ``m(left O2)``, ``yield``.
        divisor: 1, or the coefficient it is divided by.
        sides: what it is said to be equal to.
    """

    name: str
    divisor: int
    sides: tuple[Quantity, ...]


Line = Reaction | Demand | Limiting | Claim

_CLAIM = re.compile(r"(?:([MnmVc])\s*\((used\s+|left\s+|obtained\s+)?(\S+)\)|(yield))\s*(?:/\s*(\d{1,6}))?\s*=(.*)")
_DEMAND = re.compile(r"(?:(charge|[A-Z][a-z]?)\s*:)?\s*([^:]*)")


@lru_cache(maxsize=1 << 14)  # searches read the same lines again and again
def read_line(text: str) -> Line | None:
    """Read a line of a solution that is not its answer, or None."""
    if len(text) > MAX_LINE:
        return None
    try:
        if match := re.fullmatch(r"limiting\s*:\s*(\S+)", text):
            return Limiting(species(match[1]).text)
        if match := _CLAIM.fullmatch(text):
            letter, which, substance, _, divisor, rest = match.groups()
            if letter == "M" and which:
                return None
            inner = f"{' '.join((which or '').split())} {species(substance).text}".strip() if letter else ""
            return Claim(f"{letter}({inner})" if letter else "yield", int(divisor or 1), _sides(rest))
        if "->" in text or "→" in text:
            return Reaction(*read_equation(text))
        match = _DEMAND.fullmatch(text)
        if match is None:
            return None
        return Demand(match[1] or "", _form(match[2]))
    except ValueError:
        return None


def _sides(text: str) -> tuple[Quantity, ...]:
    """Both sides of the equals signs; the last has a unit, and those without any are in that unit."""
    *others, last = [work_out(side) for side in text.split("=")]
    unit = next((unit for unit in sorted(UNITS, key=len, reverse=True) if text.rstrip().endswith(unit)), None)
    if not last[1] or unit is None:
        raise ValueError("the last side has no unit")
    factor, dimension = UNITS[unit]
    return (
        *(side if united else Quantity(side.value * factor, dimension) for side, united in others),
        last[0],
    )


def _form(text: str) -> tuple[tuple[str, Fraction], ...]:
    """Left minus right of an equation that is linear in its letters."""
    sides = parse_sides(text)
    if len(sides) != 2:
        raise ValueError("no equation")
    form = _minus(_linear(sides[0]), _linear(sides[1]))
    if not set(form) - {""}:
        raise ValueError("nothing to solve for")
    return tuple(sorted(form.items()))


Form = dict[str, Fraction]


def _linear(expression: Expression) -> Form:
    """Factor of each letter, and the constant under ''; ValueError if it is not linear or divides by zero."""
    match expression:
        case Number(value):
            return {"": value}
        case Unknown(name):
            return {name: Fraction(1)}
        case Operation(operator, left, right):
            a, b = _linear(left), _linear(right)
            if operator == "+":
                return _minus(a, {name: -factor for name, factor in b.items()})
            if operator == "-":
                return _minus(a, b)
            if operator == "*" and not set(a) - {""}:
                a, b = b, a
            by = b.get("", Fraction(0))
            if set(b) - {""} or (operator == "/" and not by):
                raise ValueError("not linear")
            return {name: factor * by if operator == "*" else factor / by for name, factor in a.items()}


def _minus(a: Form, b: Form) -> Form:
    return {name: a.get(name, Fraction(0)) - b.get(name, Fraction(0)) for name in {**a, **b}}


# ------------------------------------------------------------------------------------------------------------- answers


@dataclass(frozen=True)
class Stated:
    """A quantity that is said to be of a substance: ``24.76 g of CO2``, ``m(CO2) = 24.76 g``."""

    quantity: Quantity
    substance: str


Reading = Quantity | Stated | frozenset[tuple[str, str, int]] | str

_STATED = re.compile(
    r"(?:(?i:the\s+)?([MnmVc]|(?i:yield|answer|molar mass|mass|amount|volume|moles)))?\s*"
    r"(?:\((?:left\s+|obtained\s+)?(\S+?)\)|(?i:of)\s+(\S+)|(?<![A-Za-z])([A-Z]\S*)(?=\s*:))?\s*(?:=|:|\bis\b)\s*([^=]+)",
    re.ASCII,
)
_UNIT_OF = {"M": "g/mol", "n": "mol", "m": "g", "V": "L", "c": "mol/L"}
_REWRITTEN = (
    (r"^\W*([MnmVc])_\{?(?:\\(?:text|mathrm|ce)\s*)?\{?([A-Za-z0-9()_]+?)\}*\s*(?==)", r"\1(\2) "),  # m_{CO2}
    (r"\\[dt]?frac\s*\{\s*(?:\\(?:text|mathrm)\s*\{)?\s*(g|mol)\s*\}?\s*\}"
     r"\s*\{?\s*(?:\\(?:text|mathrm)\s*\{)?\s*(mol|L)\s*\}?\s*\}", r"\1/\2"),
    (r"(?<=[a-z])\s+/\s+(?=mol|L)", "/"),
    (r"(?<=\d)\s*\(([a-zA-Z]+(?:/[a-zA-Z]+)?)\)$", r" \1"),  # 24.76 (g)
    (r"(?<=[a-z])\s+\(([A-Z]\S*)\)\W*$", r" \1"),  # 24.76 g (CO2)
    (r"(?<![\w)\]])(\d+)\s*[·*]\s*(?=[A-Z(\[])", r"\1 "),  # 5·O2
)  # fmt: skip
_ABOUT = re.compile(r"^[\s*]*(?:≈|~|\\approx(?![a-zA-Z])|(?:about|approximately)\s)?\s*|[\s*]+$", re.IGNORECASE)
_QUANTITY_OF = re.compile(r"(-?[\d.]+\s*(?:[a-zA-Z]+/)?[a-zA-Z%]+)\s+(?:of\s+)?([A-Z(\[]\S*)", re.ASCII)


@lru_cache(maxsize=1 << 12)
def read_answer(text: str) -> Reading | None:
    """A quantity with its unit, a balanced equation (its sides may be in any order), or a formula; else None."""
    if len(text) > MAX_LINE:
        return None
    if (quantity := read_quantity(text)) is not None:
        return quantity
    for written, simply in _REWRITTEN:
        text = re.sub(written, simply, text)
    if (stated := _read_stated(with_symbols(plain(with_symbols(_ABOUT.sub("", text)))).rstrip(". "))) is not None:
        return stated
    text = re.sub(r"^(?:limiting|balanced)\s*:\s*", "", text.strip("* ").removesuffix("."), flags=re.IGNORECASE)
    try:
        equation, coefficients = read_equation(text)
        if not all(c == "" or c.isdigit() for c in coefficients):
            return None
        sides = ["left"] * len(equation.reactants) + ["right"] * len(equation.products)
        counts = (int(c or 1) for c in coefficients)
        return frozenset(zip(sides, equation.species, counts, strict=True))
    except ValueError:
        pass
    try:
        return species(text).text
    except ValueError:
        return None


def _read_stated(text: str) -> Quantity | Stated | None:
    """A quantity, perhaps of a substance that is named before or after it."""
    named = _STATED.fullmatch(text)
    what, *before, value = named.groups() if named else (None, text)
    after = _QUANTITY_OF.fullmatch(value)
    quantity = read_quantity(after[1] if after else value)
    try:
        names = {species(match).text for match in (*before, after and after[2]) if match}
    except ValueError:
        return None
    if quantity is None or len(names) > 1 or (named and not what and not names):
        return None
    if what in _UNIT_OF and quantity.dimension != UNITS[_UNIT_OF[what]][1]:
        return None  # n is no mass
    return Stated(quantity, *names) if names else quantity
