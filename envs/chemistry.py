"""Balancing, molar masses, stoichiometry and limiting reagents, one line per step.

A solution of ``H2 + O2 -> H2O: how many g of H2O form from 10.0 g of H2?`` is::

    2 H2 + O2 -> 2 H2O
    M(H2) = 2 * 1.0079 = 2.0159 g/mol
    n(H2) = 10.0 g / 2.0159 g/mol = 4.9606 mol
    n(H2O) = 4.9606 mol * 2 / 2 = 4.9606 mol
    M(H2O) = 2 * 1.0079 + 15.999 = 18.015 g/mol
    m(H2O) = 4.9606 mol * 18.015 g/mol = 89.366 g
    #### 89.37 g

An equation is balanced by naming the coefficients a, b, c ..., writing what each element demands, choosing one of them
and solving for the others. Every line is checked against the exact solution: equations and coefficients exactly,
quantities with their units to a relative tolerance of `TOLERANCE`.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from envs.arithmetic import Expression, Number, Operation, Unknown, parse_sides
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
from envs.reactions import ACIDS, family
from envs.substances import (
    AMOUNT,
    CONCENTRATION,
    ELECTRON,
    MASS,
    MOLAR_MASS,
    NUMBER,
    UNITS,
    VOLUME,
    Dimension,
    Equation,
    Quantity,
    balance,
    plain,
    read_equation,
    read_quantity,
    species,
    with_symbols,
    work_out,
    write_number,
    write_quantity,
)

ANSWER_MARK = "#### "
TOLERANCE = Fraction(1, 200)
"""Quantities are the same when they differ by at most this share of the larger: right to about three digits."""

DIGITS = 4  # significant, of an answer
WORKING_DIGITS = 5  # on the way, so that rounding never uses the tolerance up
MAX_QUESTION = 400  # characters
MAX_LINE = 600
SLIP = 0.06  # how often the student of `options` is wrong, to how often right
LETTERS = "abcdefghij"  # coefficients to be found, in the order of the equation

# ----------------------------------------------------------------------------------------------------------- questions

Kind = Literal["balance", "molar mass", "convert", "amount", "limiting", "left", "yield"]

_UNIT = "|".join(unit for unit in sorted(UNITS, key=len, reverse=True) if UNITS[unit][1] in (MASS, AMOUNT, VOLUME))
_VALUE = r"\d{1,9}(?:\.\d{1,9})?"
_SUBSTANCE = rf"(?:({_VALUE})\s*mol/L\s+)?(\S+)"
_TARGET = re.compile(rf"({_UNIT})\s+of\s+{_SUBSTANCE}")
_GIVEN = re.compile(rf"({_VALUE})\s*({_UNIT})\s+of\s+{_SUBSTANCE}")
_BALANCE = re.compile(
    r"(?:please\s+)?balance(?:\s+(?:the|this|following|chemical|redox|ionic|net|unbalanced|half))*"
    r"(?:[\s-]+(?:equation|reaction))?\s*:?\s+(.+)",
    re.I,
)
_MASS_OF = re.compile(r"(?i:(?:(?:what\s+is|what's|find|calculate)\s+)?(?:the\s+)?molar\s+mass\s+of)\s+(\S+)")
_CONVERT = re.compile(rf"(?i:how\s+many)\s+({_UNIT})\s+(?i:are\s+(?:there\s+)?in)\s+(.+)")
_AMOUNT = re.compile(
    r"(?i:how\s+many)\s+(.+?)\s+(?i:forms?\s+from|(?:is|are|can\s+be)\s+(?:formed|produced|made|obtained)\s+from|reacts?\s+with|(?:is|are)\s+needed\s+for)\s+(.+)"
)
_LIMITING = re.compile(r"(?i:which\s+(?:reactant|reagent)\s+is\s+limiting\s+(?:for|in|with))\s+(.+)")
_LEFT = re.compile(r"(?i:how\s+many)\s+(.+?)\s+(?i:(?:is|are)\s+left\s+(?:from|of))\s+(.+)")
_YIELD = re.compile(r"(?i:what\s+is\s+the\s+(?:percent\s+)?yield(?:\s+in\s+%)?\s+if)\s+(.+?)\s+(?i:gives?)\s+(.+)")
_READABLE = (
    "the chemistry environment reads 'Balance: C3H8 + O2 -> CO2 + H2O', 'What is the molar mass of Ca(OH)2?', "
    "'How many mol are in 36 g of H2O?' and, after an equation and a colon, 'how many g of H2O form from 10 g of H2 "
    "and 20 g of O2?', 'which reactant is limiting for ...?', 'how many g of H2 are left from ...?', "
    "'what is the yield in % if ... give 5 g of H2O?'"
)


@dataclass(frozen=True)
class Level:
    """How hard the problems of a level are.

    Args:
        kinds: of question, drawn with equal chances, with the families of reactions they are about.
        units: of the amounts, drawn with equal chances, repeats weigh.
        reagents: amounts given of a reaction.
    """

    kinds: tuple[tuple[Kind, tuple[str, ...]], ...]
    units: tuple[str, ...] = ("g", "g", "mol")
    reagents: int = 1


_EASY = ("synthesis", "decomposition")
_PLAIN = ("displacement", "neutralisation", "carbonate", "burning")
_HARD = ("combustion", "precipitation", "redox")
_MANY_UNITS = ("g", "g", "g", "mol", "kg", "mg", "mmol")

LEVELS: dict[int, Level] = {
    1: Level((("balance", _EASY), ("molar mass", _EASY), ("convert", _EASY))),
    2: Level((("balance", _PLAIN), ("molar mass", (*_PLAIN, *_HARD)), ("convert", _PLAIN)), _MANY_UNITS),
    3: Level((("balance", ("combustion", "precipitation")), ("amount", _EASY), ("amount", _PLAIN)), _MANY_UNITS),
    4: Level((("limiting", _PLAIN), ("amount", _HARD)), _MANY_UNITS, reagents=2),
    5: Level((("balance", ("redox", "ionic")), ("left", _HARD), ("yield", _HARD)), _MANY_UNITS, reagents=2),
}


@dataclass(frozen=True)
class Amount:
    """So much of a substance, or, without a value, what is asked for.

    Args:
        substance: its formula.
        unit: of mass, amount or volume.
        value: as written in the question.
        concentration: in mol/L, of a solution.
    """

    substance: str
    unit: str
    value: str = ""
    concentration: str = ""

    def __str__(self) -> str:
        solution = f"{self.concentration} mol/L " if self.concentration else ""
        return f"{self.value} {self.unit} of {solution}{self.substance}".strip()

    @property
    def quantity(self) -> Quantity:
        """The value with its unit."""
        factor, dimension = UNITS[self.unit]
        return Quantity(Fraction(self.value) * factor, dimension)

    def per_mole(self) -> Quantity:
        """What one mole comes to, in the dimension of the unit."""
        dimension = UNITS[self.unit][1]
        if dimension == MASS:
            if self.substance == ELECTRON:
                raise ValueError("electrons are counted in mol, not weighed")
            return Quantity(species(self.substance).molar_mass, MASS)
        if dimension == AMOUNT:
            return Quantity(Fraction(1), AMOUNT)
        if not self.concentration:
            raise ValueError(f"a volume of {self.substance} needs its concentration, as in 25 mL of 0.1 mol/L HCl")
        return Quantity(1 / Fraction(self.concentration), VOLUME)

    def moles(self) -> Fraction:
        """The amount in mol."""
        return self.quantity.value / self.per_mole().value


@dataclass(frozen=True)
class Task:
    """A question, understood.

    Args:
        kind: of what is asked.
        equation: of the reaction; None where there is none.
        given: the amounts in the question; of a yield, the last one is what was obtained.
        target: the substance and unit asked for.
    """

    kind: Kind
    equation: Equation | None = None
    given: tuple[Amount, ...] = ()
    target: Amount | None = None

    def __str__(self) -> str:
        head = f"{self.equation.write()}: " if self.equation else ""
        given = " and ".join(map(str, self.given))
        match self.kind:
            case "balance":
                return f"Balance: {head.removesuffix(': ')}"
            case "molar mass":
                return f"What is the molar mass of {self.wanted.substance}?"
            case "convert":
                return f"How many {self.wanted.unit} are in {given}?"
            case "amount":
                return f"{head}how many {self.target} {self._relation()} {given}?"
            case "limiting":
                return f"{head}which reactant is limiting for {given}?"
            case "left":
                return f"{head}how many {self.target} are left from {given}?"
            case "yield":
                return f"{head}what is the yield in % if {' and '.join(map(str, self.used))} give {self.given[-1]}?"

    def _relation(self) -> str:
        if self.wanted.substance in self.reaction.products:
            return "form from"
        return "react with" if self.given[0].substance in self.reaction.reactants else "are needed for"

    @property
    def reaction(self) -> Equation:
        """The equation, where there is one."""
        assert self.equation is not None
        return self.equation

    @property
    def wanted(self) -> Amount:
        """The target, where there is one."""
        assert self.target is not None
        return self.target

    @property
    def used(self) -> tuple[Amount, ...]:
        """The amounts that react."""
        return self.given[:-1] if self.kind == "yield" else self.given


@lru_cache(maxsize=1 << 12)
def read_task(question: str) -> Task:
    """Understand a question; raises ValueError with what is wrong."""
    try:
        return _read_task(question)
    except ValueError:
        simply = with_symbols(plain(question)) if len(question) <= MAX_QUESTION else question
        if simply == question:
            raise
        return _read_task(simply)


def _read_task(question: str) -> Task:
    text = question.strip().rstrip("?!. ")
    if match := _BALANCE.fullmatch(text):
        return Task("balance", read_equation(match[1])[0])
    if match := _MASS_OF.fullmatch(text):
        return Task("molar mass", target=Amount(species(match[1]).text, "g"))
    if match := _CONVERT.fullmatch(text):
        given = _read_amount(match[2])
        return Task("convert", None, (given,), Amount(given.substance, match[1], "", given.concentration))
    head, colon, rest = text.partition(":")
    equation = read_equation(head)[0]
    rest = rest.strip()
    if not colon:
        return Task("balance", equation)
    if match := _AMOUNT.fullmatch(rest):
        return Task("amount", equation, _read_amounts(match[2]), _read_target(match[1]))
    if match := _LIMITING.fullmatch(rest):
        return Task("limiting", equation, _read_amounts(match[1]))
    if match := _LEFT.fullmatch(rest):
        return Task("left", equation, _read_amounts(match[2]), _read_target(match[1]))
    if match := _YIELD.fullmatch(rest):
        return Task("yield", equation, (*_read_amounts(match[1]), _read_amount(match[2])))
    raise ValueError(f"{rest!r} is no question about a reaction")


def _read_amounts(text: str) -> tuple[Amount, ...]:
    return tuple(_read_amount(part) for part in re.split(r"\s*,\s*(?:and\s+)?|\s+and\s+", text))


def _read_amount(text: str) -> Amount:
    match = _GIVEN.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no amount such as '36 g of H2O' or '25 mL of 0.1 mol/L HCl'")
    return Amount(species(match[4]).text, match[2], match[1], match[3] or "")


def _read_target(text: str) -> Amount:
    match = _TARGET.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no unit and substance such as 'g of H2O'")
    return Amount(species(match[3]).text, match[1], "", match[2] or "")


# ----------------------------------------------------------------------------------------------------------- solutions


@dataclass(frozen=True)
class Truth:
    """The exact solution of a task.

    Args:
        answer: as a solution writes it, rounded to `DIGITS`.
        coefficients: of each substance in the balanced equation.
        values: what each name stands for: ``n(H2)``, ``m(left O2)``, ``yield``.
        limiting: the reactant that is used up first, if it is clear which.
    """

    answer: str
    coefficients: dict[str, int]
    values: dict[str, Quantity]
    limiting: str | None = None

    def value(self, name: str) -> Quantity | None:
        """What a name stands for; molar masses are known of every substance."""
        if name.startswith("M("):
            return Quantity(species(name[2:-1]).molar_mass, MOLAR_MASS)
        return self.values.get(name)


@lru_cache(maxsize=1 << 12)
def solve(task: Task) -> Truth:
    """Solve a task exactly; raises ValueError if it makes no sense, with the reason."""
    for amount in task.given:
        if not all(Fraction(value) for value in (amount.value, amount.concentration or "1")):
            raise ValueError(f"{amount} is nothing")
    coefficients = dict(zip(task.equation.species, balance(task.equation), strict=True)) if task.equation else {}
    match task.kind:
        case "balance":
            return Truth(task.reaction.write(tuple(coefficients.values())), coefficients, {})
        case "molar mass":
            quantity = Quantity(species(task.wanted.substance).molar_mass, MOLAR_MASS)
            return Truth(_rounded(quantity, "g/mol"), {}, {})
        case "convert":
            moles = task.given[0].moles()
            values = _values(task, {task.wanted.substance: moles})
            return Truth(_rounded(_amount_of(task.wanted, moles), task.wanted.unit), {}, values)
        case _:
            return _react(task, coefficients)


def _react(task: Task, coefficients: dict[str, int]) -> Truth:
    used = [amount.substance for amount in task.used]
    others = [task.given[-1].substance] if task.kind == "yield" else []
    for substance in (*used, *others, *([task.target.substance] if task.target else [])):
        if substance not in coefficients:
            raise ValueError(f"{substance} is not in the equation")
    if len(set(used)) < len(used):
        raise ValueError("a substance is given twice")
    if (len(used) > 1 or task.kind != "amount") and not set(used) <= set(task.reaction.reactants):
        raise ValueError("the amounts given must be of reactants")
    ratios = sorted((amount.moles() / coefficients[amount.substance], amount.substance) for amount in task.used)
    extent = ratios[0][0]
    clear = len(ratios) > 1 and ratios[1][0] - extent > TOLERANCE * ratios[1][0]
    limiting = ratios[0][1] if clear else None
    moles = {substance: extent * count for substance, count in coefficients.items()}
    for amount in task.used:
        reacting, present = moles[amount.substance], amount.moles()
        moles |= {
            amount.substance: present,
            f"used {amount.substance}": reacting,
            f"left {amount.substance}": present - reacting,
        }
    if task.kind == "yield":
        moles[f"obtained {others[0]}"] = task.given[-1].moles()
    values = _values(task, moles)
    answer = _answer(task, moles, limiting, values)
    return Truth(answer, coefficients, values, limiting)


def _answer(task: Task, moles: dict[str, Fraction], limiting: str | None, values: dict[str, Quantity]) -> str:
    """The answer of a task about a reaction; adds ``yield`` to the values."""
    if task.kind == "limiting":
        if limiting is None:
            raise ValueError("no reactant is limiting")
        return limiting
    if task.kind == "yield":
        obtained = task.given[-1].substance
        if obtained not in task.reaction.products:
            raise ValueError(f"{obtained} is no product")
        values["yield"] = Quantity(moles[f"obtained {obtained}"] / moles[obtained], NUMBER)
        if values["yield"].value > 1:
            raise ValueError(f"{task.given[-1]} is more than can form")
        return _rounded(values["yield"], "%")
    target = task.wanted
    given = [amount.substance for amount in task.given]
    if (task.kind == "left") != (target.substance in given):
        raise ValueError(f"{target.substance} is {'not ' if task.kind == 'left' else ''}given")
    if task.kind == "left" and (limiting is None or limiting == target.substance):
        raise ValueError(f"nothing is left of {target.substance}")
    name = f"left {target.substance}" if task.kind == "left" else target.substance
    return _rounded(_amount_of(target, moles[name]), target.unit)


def _amount_of(target: Amount, moles: Fraction) -> Quantity:
    per_mole = target.per_mole()
    return Quantity(moles * per_mole.value, per_mole.dimension)


def _values(task: Task, moles: dict[str, Fraction]) -> dict[str, Quantity]:
    """Amounts and masses of everything; volumes and concentrations of solutions."""
    values: dict[str, Quantity] = {}
    solutions = {each.substance: each for each in (*task.given, task.target) if each and each.concentration}
    for name, amount in moles.items():
        substance = name.rpartition(" ")[2]
        values[f"n({name})"] = Quantity(amount, AMOUNT)
        values[f"m({name})"] = Quantity(amount * species(substance).molar_mass, MASS)
        if substance in solutions:
            concentration = Fraction(solutions[substance].concentration)
            values[f"V({name})"] = Quantity(amount / concentration, VOLUME)
            values[f"c({substance})"] = Quantity(concentration, CONCENTRATION)
    return values


def _rounded(quantity: Quantity, unit: str) -> str:
    text = write_quantity(quantity, unit, DIGITS)
    if read_quantity(text) is None:
        raise ValueError("its answer is too large or too small to be written")
    return text


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
    """``limiting: H2``."""

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

_STATED = re.compile(r"(?:[MnmVc]\s*\((?:left\s+|obtained\s+)?(\S+?)\)|(?:the\s+)?yield)\s*=\s*([^=]+)", re.ASCII)
_QUANTITY_OF = re.compile(r"(-?[\d.]+\s*(?:[a-zA-Z]+/)?[a-zA-Z%]+)\s+(?:of\s+)?([A-Z(\[]\S*)", re.ASCII)


@lru_cache(maxsize=1 << 12)
def read_answer(text: str) -> Reading | None:
    """A quantity with its unit, a balanced equation (its sides may be in any order), or a formula; else None."""
    if len(text) > MAX_LINE:
        return None
    if (quantity := read_quantity(text)) is not None:
        return quantity
    if (stated := _read_stated(with_symbols(plain(with_symbols(text))).rstrip(". "))) is not None:
        return stated
    text = re.sub(r"^limiting\s*:\s*", "", text.strip().removesuffix("."))
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
    after = _QUANTITY_OF.fullmatch(named[2] if named else text)
    quantity = read_quantity(after[1] if after else named[2] if named else text)
    try:
        names = {species(match).text for match in (named and named[1], after and after[2]) if match}
    except ValueError:
        return None
    if quantity is None or len(names) > 1:
        return None
    return Stated(quantity, *names) if names else quantity


def _is_of(task: Task, answer: str) -> bool:
    """Whether the substance that an answer names, if it does, is the one that is asked about."""
    reading = read_answer(answer)
    if not isinstance(reading, Stated):
        return True
    return reading.substance == (task.given[-1] if task.kind == "yield" else task.wanted).substance


def _bucket(question: str) -> Split:
    """Splits are a property of the question itself, so they are disjoint whatever the seed."""
    digit = hashlib.sha256(question.encode()).digest()[0] % 10
    return "test" if digit == 0 else "calibration" if digit == 1 else "train"


class Chemistry:
    """Balancing, molar masses, stoichiometry, limiting reagents. Conforms to `Demonstrator` and `StepChecker` too.

    Args:
        levels: which of the levels 1 to 5 `problems` draws from, in equal shares (repeats weigh).
    """

    name = "chemistry"
    delimiter = "\n"
    max_steps = 40

    def __init__(self, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> None:
        wrong = [level for level in levels if level not in LEVELS]
        if wrong or not levels:
            raise ValueError(f"levels {list(levels)!r} given; allowed: one or more of {sorted(LEVELS)}")
        self.levels = tuple(levels)

    # ------------------------------------------------------------------------------------------------- questions

    def read(self, question: str) -> Problem:
        """Read a question; raises `UnreadableQuestion`."""
        if len(question) > MAX_QUESTION:
            raise UnreadableQuestion(f"a question of {len(question)} characters; at most {MAX_QUESTION} are read")
        try:
            return self._problem(read_task(question), {})
        except ValueError as error:
            raise UnreadableQuestion(f"cannot read {question!r}: {error}; {_READABLE}") from None

    def _problem(self, task: Task, meta: dict[str, int]) -> Problem:
        return Problem(f"{self.name}/{task}", str(task), solve(task).answer, {"kind": task.kind, **meta})

    def prompt(self, problem: Problem) -> str:
        """The question on a line of its own."""
        return problem.question + "\n"

    # ---------------------------------------------------------------------------------------------------- the MDP

    def initial(self, problem: Problem) -> State:
        """The state before the first step."""
        return State(problem)

    def step(self, state: State, step: Step) -> Transition:
        """A line ``#### answer`` terminates; one that `read_line` cannot read truncates, as does depth."""
        after = state.then(step)
        if self.answer(after) is not None:
            return termination(after)
        if len(after.steps) >= self.max_steps or step.finish != "step" or read_line(step.text.strip()) is None:
            return truncation(after)
        return transition(after)

    def answer(self, state: State) -> str | None:
        """The quantity, equation or formula after ``####`` in the last step, or None."""
        if not state.steps:
            return None
        line = state.steps[-1].text.strip()
        text = line.removeprefix(ANSWER_MARK.strip()).strip()
        return text if text != line and read_answer(text) is not None else None

    def check(self, problem: Problem, answer: str) -> bool:
        """Whether the answer is the gold answer: to the tolerance, with its unit; coefficients exactly."""
        if problem.answer is None or read_answer(answer) is None or not self.same(problem.answer, answer):
            return False
        return _is_of(read_task(problem.question), answer)

    def same(self, a: str, b: str) -> bool:
        """Quantities within the tolerance (0.5 mol is 500 mmol), equations and formulas by what they say."""
        first, second = read_answer(a), read_answer(b)
        if isinstance(first, Stated) and isinstance(second, Stated) and first.substance != second.substance:
            return False
        first, second = (each.quantity if isinstance(each, Stated) else each for each in (first, second))
        if isinstance(first, Quantity) and isinstance(second, Quantity):
            return first.near(second, TOLERANCE)
        return a.strip() == b.strip() if first is None or second is None else first == second

    def first_error(self, state: State) -> int | None:
        """Index of the first line that is not true of this problem, or None."""
        task = read_task(state.problem.question)
        truth = solve(task)
        scale: Fraction | None = None  # coefficients over the smallest whole ones, once one has been chosen
        for index, step in enumerate(state.steps):
            text = step.text.strip()
            if text.startswith(ANSWER_MARK.strip()):
                said = text.removeprefix(ANSWER_MARK.strip()).strip()
                right = self.same(truth.answer, said) and _is_of(task, said)
            else:
                line = read_line(text)
                if isinstance(line, Demand):
                    right, scale = _meets(line, task, scale)
                else:
                    right = line is not None and _is_true(line, task, truth)
            if not right:
                return index
        return None

    # -------------------------------------------------------------------------------------------------- problems

    def problems(self, split: Split, n: int, seed: int = 0) -> Sequence[Problem]:
        """`n` distinct problems of a split, the levels in turn; the same arguments give the same problems."""
        if split not in SPLITS:
            raise ValueError(f"split {split!r} given; allowed: {', '.join(SPLITS)}")
        stream = self.stream(split, random.Random(f"{self.name}/{split}/{seed}"))
        chosen: dict[str, Problem] = {}
        while len(chosen) < n:
            problem = next(stream)
            chosen.setdefault(problem.id, problem)
        return list(chosen.values())

    def stream(self, split: Split, rng: random.Random) -> Iterator[Problem]:
        """Problems of a split without end, the levels in turn; they may repeat."""
        while True:
            for level in self.levels:
                while _bucket(str(task := _draw(LEVELS[level], rng))) != split:
                    pass
                yield self._problem(task, {"level": level})

    def demonstrate(self, problem: Problem, rng: random.Random) -> tuple[str, ...]:
        """A worked solution; where the order is free, it varies with `rng`."""
        task = read_task(problem.question)
        truth = solve(task)
        lines = _work_balance(task.reaction, rng) if task.kind == "balance" else _work(task, truth)
        return (*lines, f"{ANSWER_MARK}{truth.answer}")

    # ------------------------------------------------------------------------------------------ for fakes and tests

    def options(self, state: State) -> Mapping[str, float]:
        """Steps that a student would take, with weights: the next one, now and then with a wrong number in it.

        After a slip the answer is wrong, but not always in the same way.
        """
        texts = self.demonstrate(state.problem, random.Random(state.problem.id))
        if len(state.steps) >= len(texts):
            return {}
        text = texts[len(state.steps)]
        firsts = [match.start() for match in re.finditer(r"(?<![\d.])\d", text)]
        wrong = [f"{text[:at]}{int(text[at]) % 9 + 1}{text[at + 1 :]}" for at in firsts]
        if wrong and text is texts[-1] and self.first_error(state) is not None:
            return dict.fromkeys(wrong, 1.0)
        return {text: 1.0} | dict.fromkeys(wrong, SLIP / (len(wrong) or 1))


# ------------------------------------------------------------------------------------------------------ checking lines


def _is_true(line: Reaction | Limiting | Claim, task: Task, truth: Truth) -> bool:
    match line:
        case Limiting(substance):
            return substance == truth.limiting
        case Claim(name, divisor, sides):
            value = truth.value(name)
            if value is None or divisor not in (1, truth.coefficients.get(name[2:-1], 1)):
                return False
            share = Quantity(value.value / divisor, value.dimension)
            return all(side.near(share, TOLERANCE) for side in sides)
        case Reaction(equation, coefficients):
            if task.equation is None:
                return False
            if equation == task.equation and coefficients == tuple(LETTERS[: len(coefficients)]):
                return True
            said = read_answer(equation.write(tuple(int(c or 1) if (c or "1").isdigit() else c for c in coefficients)))
            return said == read_answer(task.equation.write(tuple(truth.coefficients.values())))


def _meets(demand: Demand, task: Task, scale: Fraction | None) -> tuple[bool, Fraction | None]:
    """Whether a linear equation holds for the coefficients, and their scale after it."""
    if task.equation is None:
        return False, scale
    exact = dict(zip(LETTERS, map(Fraction, balance(task.equation)), strict=False))
    form = dict(demand.form)
    constant = form.pop("", Fraction(0))
    if not set(form) <= set(exact):
        return False, scale
    if demand.element:
        row = task.equation.rows().get(demand.element, ())
        said = [form.get(letter, Fraction(0)) for letter in exact]
        factors = {a / b for a, b in zip(said, row, strict=False) if b}
        parallel = len(factors) == 1 and 0 not in factors and all(b or not a for a, b in zip(said, row, strict=False))
        return bool(row) and not constant and parallel, scale
    total = sum((factor * exact[letter] for letter, factor in form.items()), Fraction(0))
    if not constant or scale is not None:
        return total * (scale or 1) + constant == 0, scale
    chosen = -constant / total if total else Fraction(0)
    return chosen > 0, chosen if chosen > 0 else None


# ----------------------------------------------------------------------------------------------------- worked solutions


def _work(task: Task, truth: Truth) -> Iterator[str]:
    """The lines of a solution, but for balancing."""
    worker = _Worker(truth)
    match task.kind:
        case "molar mass":
            yield worker.molar_mass(task.wanted.substance)
        case "convert":
            (given,), target = task.given, task.wanted
            if UNITS[given.unit][1] == UNITS[target.unit][1]:
                symbol = _SYMBOLS[UNITS[given.unit][1]]
                yield f"{symbol}({given.substance}) = {given.value} {given.unit} = {truth.answer}"
            else:
                yield from worker.to_moles(given, given.substance)
                yield from worker.from_moles(target, target.substance)
        case _:
            yield from worker.react(task)


_SYMBOLS = {MASS: "m", AMOUNT: "n", VOLUME: "V"}


class _Worker:
    """Writes lines about the values of one solution, each molar mass once."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self.weighed: set[str] = set()

    def said(self, name: str, unit: str) -> str:
        value = self.truth.value(name)
        assert value is not None
        return write_quantity(value, unit, WORKING_DIGITS)

    def molar_mass(self, substance: str) -> str:
        self.weighed.add(substance)
        atoms = species(substance).atoms
        masses = [write_number(species(symbol).molar_mass, WORKING_DIGITS) for symbol, _ in atoms]
        terms = [f"{count} * {mass}" if count > 1 else mass for (_, count), mass in zip(atoms, masses, strict=True)]
        total = self.said(f"M({substance})", "g/mol")
        return f"M({substance}) = {' + '.join(terms)} = {total}" if terms != masses[:1] else f"M({substance}) = {total}"

    def to_moles(self, amount: Amount, name: str) -> Iterator[str]:
        """From a given amount to the amount in mol."""
        dimension = UNITS[amount.unit][1]
        base = f"{amount.value} {amount.unit}"
        whole = f"{_SYMBOLS[dimension]}({name})"
        if UNITS[amount.unit][0] != 1:
            yield f"{whole} = {base} = {(base := self.said(whole, _BASE[dimension]))}"
        elif dimension == AMOUNT:
            yield f"{whole} = {base}"
        if dimension == MASS:
            if amount.substance not in self.weighed:
                yield self.molar_mass(amount.substance)
            molar_mass = self.said(f"M({amount.substance})", "g/mol")
            yield f"n({name}) = {base} / {molar_mass} = {self.said(f'n({name})', 'mol')}"
        if dimension == VOLUME:
            yield f"n({name}) = {base} * {amount.concentration} mol/L = {self.said(f'n({name})', 'mol')}"

    def from_moles(self, target: Amount, name: str) -> Iterator[str]:
        """From the amount in mol to the unit asked for."""
        dimension = UNITS[target.unit][1]
        whole = f"{_SYMBOLS[dimension]}({name})"
        moles, base = self.said(f"n({name})", "mol"), self.said(whole, _BASE[dimension])
        if dimension == MASS:
            if target.substance not in self.weighed:
                yield self.molar_mass(target.substance)
            yield f"{whole} = {moles} * {self.said(f'M({target.substance})', 'g/mol')} = {base}"
        if dimension == VOLUME:
            yield f"{whole} = {moles} / {target.concentration} mol/L = {base}"
        if UNITS[target.unit][0] != 1:
            yield f"{whole} = {base} = {self.said(whole, target.unit)}"

    def react(self, task: Task) -> Iterator[str]:
        """Balanced equation, amounts, the limiting reactant, and what follows from it."""
        counts, values = self.truth.coefficients, self.truth.values
        yield task.reaction.write(tuple(counts.values()))
        for amount in task.used:
            yield from self.to_moles(amount, amount.substance)
        ratios = {each.substance: values[f"n({each.substance})"].value / counts[each.substance] for each in task.used}
        if len(ratios) > 1:
            for substance, ratio in ratios.items():
                moles, count = self.said(f"n({substance})", "mol"), counts[substance]
                share = write_number(ratio, WORKING_DIGITS)
                yield f"n({substance}) / {count} = {moles} / {count} = {share} mol"
        if self.truth.limiting:
            yield f"limiting: {self.truth.limiting}"
        if task.kind == "limiting":
            return
        base = min(ratios, key=lambda substance: ratios[substance])
        wanted = task.given[-1].substance if task.kind == "yield" else task.wanted.substance
        name = f"used {wanted}" if task.kind == "left" else wanted
        moles = self.said(f"n({name})", "mol")
        yield f"n({name}) = {self.said(f'n({base})', 'mol')} * {counts[wanted]} / {counts[base]} = {moles}"
        if task.kind == "left":
            left = self.said(f"n(left {wanted})", "mol")
            yield f"n(left {wanted}) = {self.said(f'n({wanted})', 'mol')} - {moles} = {left}"
            yield from self.from_moles(task.wanted, f"left {wanted}")
        elif task.kind == "yield":
            yield from self.to_moles(task.given[-1], f"obtained {wanted}")
            obtained = self.said(f"n(obtained {wanted})", "mol")
            yield f"yield = {obtained} / {moles} = {self.said('yield', '%')}"
        else:
            yield from self.from_moles(task.wanted, wanted)


_BASE: dict[Dimension, str] = {MASS: "g", AMOUNT: "mol", VOLUME: "L"}


def _work_balance(equation: Equation, rng: random.Random) -> Iterator[str]:
    """Name the coefficients, write what each element demands, choose one, and solve for the others."""
    exact = dict(zip(LETTERS, map(Fraction, balance(equation)), strict=False))
    letters = list(exact)
    yield equation.write(letters)
    rows = list(equation.rows().items())
    if rng.random() < 0.5:
        rng.shuffle(rows)
    forms: list[Form] = []
    for element, row in rows:
        forms.append({letter: Fraction(count) for letter, count in zip(letters, row, strict=True) if count})
        yield f"{element}: {_write_form(forms[-1])}"
    chosen = letters[0] if rng.random() < 0.8 else rng.choice(letters)
    scale = 1 / exact[chosen]
    yield f"{chosen} = 1"
    forms = [_put(form, chosen, {"": Fraction(1)}) for form in forms]
    while forms := [form for form in forms if set(form) - {""}]:
        form = min(forms, key=lambda form: len(set(form) - {""}))
        letter = min(set(form) - {""}, key=lambda letter: (abs(form[letter]) != 1, letter))
        others = {name: -factor / form[letter] for name, factor in form.items() if name != letter}
        forms.remove(form)
        if set(others) <= {""}:
            yield f"{letter} = {exact[letter] * scale}"
            forms = [_put(form, letter, others) for form in forms]
            continue
        yield _write_form({letter: Fraction(1)} | {name: -factor for name, factor in others.items()})
        changed = [_put(each, letter, others) for each in forms if letter in each]
        yield from (_write_form(each) for each in changed if set(each) - {""})
        forms = [each for each in forms if letter not in each] + changed + [form]


def _put(form: Form, letter: str, value: Form) -> Form:
    """The form with a letter replaced by what it is equal to."""
    factor = form.get(letter, Fraction(0))
    names = {**form, **value}
    replaced = {name: form.get(name, Fraction(0)) + factor * value.get(name, Fraction(0)) for name in names}
    return {name: count for name, count in replaced.items() if count and name != letter}


def _write_form(form: Form) -> str:
    """The equation that a form is zero, in whole numbers, with what is negative on the right."""
    denominator = math.lcm(*(factor.denominator for factor in form.values()))
    whole = {name: int(factor * denominator) for name, factor in form.items()}
    divisor = math.gcd(*whole.values())
    sides: tuple[list[str], list[str]] = ([], [])
    for name, factor in whole.items():
        count = abs(factor) // divisor
        sides[factor < 0].append(f"{count if count > 1 or not name else ''}{name}")
    return " = ".join(" + ".join(side) or "0" for side in sides)


# ------------------------------------------------------------------------------------------------------------- drawing


def _draw(level: Level, rng: random.Random) -> Task:
    """A task of a level."""
    kind, families = rng.choice(level.kinds)
    equation = rng.choice(family(rng.choice(families)))
    if kind == "balance":
        return Task(kind, equation)
    if kind == "molar mass":
        compounds = [text for text in equation.species if len(species(text).atoms) > 1]
        return Task(kind, target=Amount(rng.choice(compounds), "g"))
    if kind == "convert":
        return _draw_conversion(rng.choice(equation.species), level, rng)
    counts = dict(zip(equation.species, balance(equation), strict=True))
    reagents = rng.sample(equation.reactants, min(level.reagents, len(equation.reactants)))
    if kind != "amount" and len(reagents) < 2:
        return _draw(level, rng)
    extent = Fraction(10 ** rng.uniform(-1.5, 0.5))
    excess = [Fraction(1), *(Fraction(rng.uniform(1.3, 3)) for _ in reagents[1:])]
    given = [
        _draw_amount(substance, extent * counts[substance] * more, level, rng)
        for substance, more in zip(reagents, excess, strict=True)
    ]
    shown = tuple(rng.sample(given, len(given)))
    if kind == "limiting":
        return Task(kind, equation, shown)
    if kind == "left":
        return Task(kind, equation, shown, Amount(reagents[-1], rng.choice(level.units)))
    product = rng.choice(equation.products)
    if kind == "yield":
        share = Fraction(rng.uniform(0.5, 0.98))
        return Task(kind, equation, (*shown, _draw_amount(product, extent * counts[product] * share, level, rng)))
    others = [text for text in equation.species if text not in reagents]
    if all(_dissolves(text) for text in equation.reactants) and level.reagents == 1:
        (base,) = set(equation.reactants) - set(reagents)
        first, second = (Fraction(rng.randint(50, 500), 1000) for _ in range(2))
        dissolved = Amount(
            reagents[0], "mL", write_number(Fraction(rng.randint(50, 999), 10), 3), write_number(first, 3)
        )
        return Task(kind, equation, (dissolved,), Amount(base, "mL", "", write_number(second, 3)))
    return Task(kind, equation, shown, Amount(rng.choice(others), rng.choice(level.units)))


def _dissolves(substance: str) -> bool:
    return substance in ACIDS or substance in ("LiOH", "NaOH", "KOH", "Ba(OH)2")


def _draw_conversion(substance: str, level: Level, rng: random.Random) -> Task:
    given = _draw_amount(substance, Fraction(10 ** rng.uniform(-2, 1)), level, rng)
    unit = rng.choice([unit for unit in level.units if unit != given.unit])
    return Task("convert", None, (given,), Amount(substance, unit))


def _draw_amount(substance: str, moles: Fraction, level: Level, rng: random.Random) -> Amount:
    unit = rng.choice(level.units)
    quantity = _amount_of(Amount(substance, unit), moles)
    return Amount(substance, unit, write_number(quantity.value / UNITS[unit][0], 3))
