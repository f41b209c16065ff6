"""Formulas, equations and quantities: what the chemistry environment reckons with.

Formulas and atomic masses are molmass's, balancing is the null space of the matrix of elements (sympy), and
quantities are exact fractions with units. Everything here reads hostile text: lengths and counts are bounded, and
every error is a ValueError that says what is wrong.
"""

from __future__ import annotations

import decimal
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from envs.messages import require

require("chemistry", "molmass", "sympy")  # imported where they are used

MAX_FORMULA = 60  # characters
MAX_ATOMS = 9999
MAX_SPECIES = 10  # in an equation
MAX_EQUATION = 1000  # characters, with LaTeX
MAX_DIGITS = 15  # of a number, before and after the point
MAX_DEPTH = 20

# ------------------------------------------------------------------------------------------------------------ formulas

ELECTRON = "e^-"
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_DIGITS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
_SUPERSCRIPT = re.compile(r"([⁰¹²³⁴-⁹]?)([⁺⁻])")
_PART = r"(?:[A-Z][a-z]?|[(\[](?=[A-Z(\[])|[)\]]|(?<=[A-Za-z)\]])\d{1,3}(?!\d))+"
_FORMULA = re.compile(rf"({_PART})(?:[·.*•](\d{{1,2}})?({_PART}))?(?:\^(\d?)([+-]))?", re.ASCII)
_PHASE = re.compile(r"\s*\((?:s|l|g|aq)\)$")


@dataclass(frozen=True)
class Species:
    """A substance.

    Args:
        text: its formula, as this module writes it: ``CuSO4·5H2O``, ``Fe^3+``.
        atoms: (element, count), in the order of the alphabet.
        charge: in elementary charges.
        molar_mass: in g/mol.
    """

    text: str
    atoms: tuple[tuple[str, int], ...]
    charge: int
    molar_mass: Fraction


_LATEX = (
    (r"\\(?:ce|text|mathrm|mathbf|mathsf|boxed)\s*\{((?:[^{}]|\{[^{}]*\})*)\}", r"\1"),
    (r"\$|\\[(\[\])]", ""),
    (r"\\[,;:! ]|~", " "),
    (r"\\(?:x?(?:long)?rightarrow|to)(?![a-z])(?:\s*\{[^{}]*\})?", "->"),
    (r"\\rightleftharpoons", "⇌"),
    (r"\\cdot(?![a-z])", "·"),
    (r"\\times(?![a-z])", "×"),
    (r"\\%", "%"),
    (r"_\{(\d+)\}|_(\d)", r"\1\2"),
    (r"\^\{(\d?)([+-])\}", r"^\1\2"),
    (r"\^\{([+-])(\d)\}|\^([+-])(\d)(?![+-])", r"^\2\4\1\3"),
)
_ENDS = r"(?=\s|$|\+|\((?:s|l|g|aq)\)|<?[-=]+>|→|⟶|⇌|⇄|=)"
_ION = re.compile(rf"(?<![A-Za-z0-9^])(\d*\s?)([A-Z(\[][A-Za-z0-9()\[\]]*|e)(\s\d)?([+-]){_ENDS}", re.ASCII)
_CLUSTERS = ("I3", "Br3", "Cl3")  # with one charge; of the other elements a digit before the sign is that of the charge


def plain(text: str) -> str:
    r"""A text without LaTeX, with charges behind a caret: ``MnO4-`` is ``MnO4^-``, ``\ce{SO4^{2-}}`` is ``SO4^2-``.

    A digit before a sign is the charge where the ion is an element or stands in brackets (``Fe2+``, ``[Fe(CN)6]3-``),
    and the last of two digits is one elsewhere (``SO42-``); a single one counts atoms (``NO3-``).
    """
    for written, simply in _LATEX:
        while (simpler := re.sub(written, simply, text)) != text:
            text = simpler
    text = _SUPERSCRIPT.sub(lambda match: "^" + match[1].translate(_DIGITS) + ("+" if match[2] == "⁺" else "-"), text)
    return _ION.sub(_with_caret, text.translate(_SUBSCRIPTS).replace("−", "-").strip())


def _with_caret(match: re.Match[str]) -> str:
    coefficient, formula, size, sign = match.groups()
    if size:
        return f"{coefficient}{formula}^{size.strip()}{sign}"
    digits = re.search(r"\d*$", formula)
    count = len(digits[0]) if digits else 0
    alone = re.fullmatch(r"[A-Z][a-z]?\d|.*\]\d", formula) and formula not in _CLUSTERS
    if alone or count == 2:
        return f"{coefficient}{formula[:-1]}^{formula[-1]}{sign}"
    return f"{coefficient}{formula}^{sign}"


@lru_cache(maxsize=1 << 12)
def species(text: str) -> Species:
    """Read a formula: ``Ca(OH)2``, ``CuSO4·5H2O``, ``SO4^2-``, ``SO42-``, with or without a phase such as ``(aq)``."""
    try:
        return _species(text)
    except ValueError:
        simply = plain(text) if len(text) <= 2 * MAX_FORMULA else text
        if simply == text:
            raise
        return _species(simply)


def _species(text: str) -> Species:
    import molmass

    if text.strip() == ELECTRON:
        return Species(ELECTRON, (), -1, Fraction(0))
    plain = _PHASE.sub("", text.strip().translate(_SUBSCRIPTS))
    plain = _SUPERSCRIPT.sub(lambda match: "^" + match[1].translate(_DIGITS) + ("+" if match[2] == "⁺" else "-"), plain)
    match = _FORMULA.fullmatch(plain) if len(plain) <= MAX_FORMULA else None
    if match is None:
        raise ValueError(f"{text[:MAX_FORMULA]!r} is not a formula such as Ca(OH)2, CuSO4·5H2O or SO4^2-")
    base, waters, water, size, sign = match.groups()
    neutral = f"{base}.{waters or ''}{water}" if water else base
    try:
        formula = molmass.Formula(neutral, parse_groups=False, parse_oligos=False, parse_fractions=False)
        atoms = tuple(sorted((item.symbol, item.count) for item in formula.composition().values()))
    except molmass.FormulaError as error:
        raise ValueError(f"{text!r} is not a formula: {str(error).splitlines()[0]}") from None
    if not all(symbol.isalpha() for symbol, _ in atoms):
        raise ValueError(f"{text!r} has an isotope in it")
    if sum(count for _, count in atoms) > MAX_ATOMS:
        raise ValueError(f"{text!r} has more than {MAX_ATOMS} atoms")
    charge = int(sign + (size or "1")) if sign else 0
    shown = neutral.replace(".", "·") + (f"^{size if size != '1' else ''}{sign}" if charge else "")
    return Species(shown, atoms, charge, Fraction(str(round(formula.mass, 6))))


# ----------------------------------------------------------------------------------------------------------- equations

_ARROW = re.compile(r"\s*(?:(?<!\^)<?[-=]+>|→|⟶|⇌|⇄|=)\s*")
_PLUS = re.compile(r"(?<!\^)(?<!\^\d)\+")
_TERM = re.compile(r"\s*(\d{1,6}|[a-z](?![a-z]))?\s*\*?\s*([A-Z(\[].*?|e\^-)\s*", re.ASCII)


@dataclass(frozen=True)
class Equation:
    """A reaction, balanced or not.

    Args:
        reactants: formulas on the left.
        products: formulas on the right.
    """

    reactants: tuple[str, ...]
    products: tuple[str, ...]

    @property
    def species(self) -> tuple[str, ...]:
        """All formulas, from the left."""
        return self.reactants + self.products

    def write(self, coefficients: Sequence[object] = ()) -> str:
        """Its text, with coefficients if given (1 is not written)."""
        labels = [f"{c} " if c != 1 else "" for c in coefficients] or [""] * len(self.species)
        terms = [label + text for label, text in zip(labels, self.species, strict=True)]
        sides = terms[: len(self.reactants)], terms[len(self.reactants) :]
        return " -> ".join(" + ".join(side) for side in sides)

    def rows(self) -> Mapping[str, tuple[int, ...]]:
        """What is conserved: for each element (and ``charge``), the count in each species, negative in products."""
        known = [species(text) for text in self.species]
        signs = [1] * len(self.reactants) + [-1] * len(self.products)
        elements = dict.fromkeys(symbol for each in known for symbol, _ in each.atoms)
        rows = {
            symbol: tuple(sign * dict(each.atoms).get(symbol, 0) for sign, each in zip(signs, known, strict=True))
            for symbol in elements
        }
        if any(each.charge for each in known):
            rows["charge"] = tuple(sign * each.charge for sign, each in zip(signs, known, strict=True))
        return rows


@lru_cache(maxsize=1 << 12)
def read_equation(text: str) -> tuple[Equation, tuple[str, ...]]:
    """Read an equation and its coefficients: whole numbers, single letters, or '' where there is none."""
    try:
        return _read_equation(text)
    except ValueError:
        simply = plain(text) if len(text) <= MAX_EQUATION else text
        if simply == text:
            raise
        return _read_equation(simply)


def _read_equation(text: str) -> tuple[Equation, tuple[str, ...]]:
    sides = _ARROW.split(text.strip())
    if len(sides) != 2 or not all(sides):
        raise ValueError("an equation has two sides, such as H2 + O2 -> H2O")
    found: list[list[str]] = []
    coefficients: list[str] = []
    for side in sides:
        terms = _PLUS.split(side)
        if len(terms) + len(coefficients) > MAX_SPECIES:
            raise ValueError(f"more than {MAX_SPECIES} substances")
        matches = [_TERM.fullmatch(term) for term in terms]
        for term, match in zip(terms, matches, strict=True):
            if match is None:
                raise ValueError(f"{term.strip()[:MAX_FORMULA]!r} is not a substance")
        coefficients += [match[1] or "" for match in matches if match]
        found.append([species(match[2]).text for match in matches if match])
    equation = Equation(tuple(found[0]), tuple(found[1]))
    if len(set(equation.species)) < len(equation.species):
        raise ValueError("a substance appears twice")
    return equation, tuple(coefficients)


@lru_cache(maxsize=1 << 12)
def balance(equation: Equation) -> tuple[int, ...]:
    """The smallest whole coefficients that conserve every element and the charge; ValueError if not exactly one way."""
    import sympy

    basis = sympy.Matrix(list(equation.rows().values())).nullspace()
    if not basis:
        raise ValueError(f"{equation.write()} cannot be balanced")
    if len(basis) > 1:
        raise ValueError(f"{equation.write()} can be balanced in more than one way")
    values = [Fraction(int(value.p), int(value.q)) for value in basis[0]]
    if not (all(value > 0 for value in values) or all(value < 0 for value in values)):
        raise ValueError(f"{equation.write()} cannot be balanced with every substance on its side")
    whole = [abs(value) * math.lcm(*(value.denominator for value in values)) for value in values]
    divisor = math.gcd(*(int(value) for value in whole))
    return tuple(int(value) // divisor for value in whole)


# ---------------------------------------------------------------------------------------------------------- quantities

Dimension = tuple[int, int, int]
"""Exponents of mass, amount and volume."""

MASS, AMOUNT, VOLUME, NUMBER = (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0)
MOLAR_MASS, CONCENTRATION = (1, -1, 0), (0, 1, -1)

UNITS: dict[str, tuple[Fraction, Dimension]] = {
    "g/mol": (Fraction(1), MOLAR_MASS),
    "kg/mol": (Fraction(1000), MOLAR_MASS),
    "mol/L": (Fraction(1), CONCENTRATION),
    "mmol/L": (Fraction(1, 1000), CONCENTRATION),
    "kg": (Fraction(1000), MASS),
    "mg": (Fraction(1, 1000), MASS),
    "g": (Fraction(1), MASS),
    "mmol": (Fraction(1, 1000), AMOUNT),
    "mol": (Fraction(1), AMOUNT),
    "mL": (Fraction(1, 1000), VOLUME),
    "L": (Fraction(1), VOLUME),
    "%": (Fraction(1, 100), NUMBER),
}
"""Each unit in g, mol and L, and its dimension; a definition, so exact."""


@dataclass(frozen=True)
class Quantity:
    """A value in g, mol and L (and their quotients), and its dimension."""

    value: Fraction
    dimension: Dimension

    def near(self, other: Quantity, tolerance: Fraction) -> bool:
        """Same dimension, and apart by at most `tolerance` of the larger."""
        apart = abs(self.value - other.value)
        return self.dimension == other.dimension and apart <= tolerance * max(abs(self.value), abs(other.value))


_UNIT = "|".join(sorted(UNITS, key=len, reverse=True))
_DECIMAL = rf"\d{{1,{MAX_DIGITS}}}(?:\.\d{{1,{MAX_DIGITS}}})?"
_TOKEN = re.compile(rf"\s*(?:({_DECIMAL})(?![\d.])|({_UNIT})(?![A-Za-z])|([-+*/()]))", re.ASCII)
QUANTITY = re.compile(rf"\s*(-?{_DECIMAL})\s*({_UNIT})\s*", re.ASCII)


def read_quantity(text: str) -> Quantity | None:
    """A number with a unit, or None."""
    match = QUANTITY.fullmatch(text.replace("−", "-"))
    if match is None:
        return None
    factor, dimension = UNITS[match[2]]
    return Quantity(Fraction(match[1]) * factor, dimension)


UNIT_WORDS = {
    "mol": r"moles?|mols",
    "mmol": r"millimoles?|mmols",
    "g": r"grams?|grammes?|gm",
    "kg": r"kilograms?|kilogrammes?|kgs",
    "mg": r"milligrams?|milligrammes?|mgs",
    "L": r"lit(?:er|re)s?|l",
    "mL": r"millilit(?:er|re)s?|ml",
    "%": r"percent",
}
"""Other ways to write a unit, each a regular expression."""

_INVERSE = r"(?:\^?\{?[-−]1\}?|⁻¹|\^1-|\^-¹)"  # as it is written, and as `plain` leaves it
_WORDY = tuple(
    (re.compile(rf"(?<![A-Za-z(\[])(?:{pattern})(?![A-Za-z(\[])", re.ASCII), unit)
    for pattern, unit in (
        (rf"(?:g|grams?)\s*(?:/\s*mole|per\s+mole?|[·*]?\s*mol\s*{_INVERSE})", "g/mol"),
        (rf"(?:mol|moles?)\s*(?:/\s*lit(?:er|re)|per\s+lit(?:er|re)|[·*]?\s*L\s*{_INVERSE})", "mol/L"),
        *((words, unit) for unit, words in UNIT_WORDS.items()),
    )
)
_THOUSANDS = re.compile(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?![\d,])", re.ASCII)
_POWER = re.compile(
    r"(\d{1,15}(?:\.\d{1,15})?)\s*(?:[×x*]\s*10\s*\^?\s*\{?([-−]?\d{1,2})\}?|[eE]([-+]?\d{1,2}))(?!\d)", re.ASCII
)


def with_symbols(text: str) -> str:
    """A text with units as symbols, numbers without commas between thousands and without powers of ten."""
    text = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)
    for pattern, unit in _WORDY:
        text = pattern.sub(unit, text)
    return _POWER.sub(_written_out, text)


def _written_out(match: re.Match[str]) -> str:
    power = int((match[2] or match[3]).replace("−", "-"))
    return format(decimal.Decimal(match[1]).scaleb(power), "f")


def write_quantity(quantity: Quantity, unit: str, digits: int) -> str:
    """The value in a unit, rounded to significant digits, without an exponent."""
    return f"{write_number(quantity.value / UNITS[unit][0], digits)} {unit}"


def write_number(value: Fraction, digits: int) -> str:
    """A number rounded to significant digits, without an exponent."""
    context = decimal.Context(prec=digits)
    return format(context.divide(decimal.Decimal(value.numerator), decimal.Decimal(value.denominator)), "f")


@lru_cache(maxsize=1 << 14)  # searches read the same lines again and again
def work_out(text: str) -> tuple[Quantity, bool]:
    """The quantity an expression such as ``10 g / 2.016 g/mol`` comes to, and whether there is a unit in it."""
    parser = _Parser(text)
    value = parser.sum()
    if parser.peek():
        raise ValueError(f"{parser.peek()!r} is not expected there")
    return value, any(token in UNITS for token in parser.tokens)


class _Parser:
    """Recursive descent over ``+ - * / ( )``; a unit belongs to the number or the parenthesis before it."""

    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        self.at = self.depth = end = 0
        text = text.replace("×", "*").replace("·", "*").replace("−", "-").strip()
        while end < len(text):
            match = _TOKEN.match(text, end)
            if match is None:
                raise ValueError(f"cannot read {text[end : end + 12]!r}")
            self.tokens.append(match.group().strip())
            end = match.end()

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def sum(self) -> Quantity:
        left = self.product()
        while self.peek() in ("+", "-"):
            sign = 1 if self.take() == "+" else -1
            right = self.product()
            if right.dimension != left.dimension:
                raise ValueError("quantities of different kinds are added")
            left = Quantity(left.value + sign * right.value, left.dimension)
        return left

    def product(self) -> Quantity:
        left = self.factor()
        while self.peek() in ("*", "/"):
            power = 1 if self.take() == "*" else -1
            left = _times(left, self.factor(), power)
        return left

    def factor(self) -> Quantity:
        self.depth += 1
        token = self.take()
        if self.depth > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} deep")
        if token == "(":
            inner = self.sum()
            if self.take() != ")":
                raise ValueError("a parenthesis is not closed")
        elif token[:1].isdigit():
            inner = Quantity(Fraction(token), NUMBER)
        else:
            raise ValueError(f"a number is expected before {token!r}" if token else "the expression is not complete")
        self.depth -= 1
        if self.peek() in UNITS:
            factor, dimension = UNITS[self.take()]
            inner = _times(inner, Quantity(factor, dimension), 1)
        return inner


def _times(left: Quantity, right: Quantity, power: int) -> Quantity:
    if power < 0 and not right.value:
        raise ValueError("a division by zero")
    value = left.value * right.value if power > 0 else left.value / right.value
    mass, amount, volume = (a + power * b for a, b in zip(left.dimension, right.dimension, strict=True))
    return Quantity(value, (mass, amount, volume))
