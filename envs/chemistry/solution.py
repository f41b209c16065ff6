"""Solve a task exactly."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from envs.chemistry.formulas import (
    AMOUNT,
    CONCENTRATION,
    MASS,
    MOLAR_MASS,
    NUMBER,
    VOLUME,
    Quantity,
    balance,
    read_quantity,
    species,
    write_quantity,
)
from envs.chemistry.task import DIGITS, TOLERANCE, Amount, ChemistryTask

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
def solve(task: ChemistryTask) -> Truth:
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
            return Truth(_rounded(amount_of(task.wanted, moles), task.wanted.unit), {}, values)
        case _:
            return _react(task, coefficients)


def _react(task: ChemistryTask, coefficients: dict[str, int]) -> Truth:
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


def _answer(task: ChemistryTask, moles: dict[str, Fraction], limiting: str | None, values: dict[str, Quantity]) -> str:
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
    return _rounded(amount_of(target, moles[name]), target.unit)


def amount_of(target: Amount, moles: Fraction) -> Quantity:
    """What `moles` of the target's substance amount to, in the target's unit."""
    per_mole = target.per_mole()
    return Quantity(moles * per_mole.value, per_mole.dimension)


def _values(task: ChemistryTask, moles: dict[str, Fraction]) -> dict[str, Quantity]:
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
