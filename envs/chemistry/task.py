"""What a question of stoichiometry asks for: kinds, amounts, tolerances."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from envs.chemistry.formulas import (
    AMOUNT,
    ELECTRON,
    MASS,
    UNITS,
    VOLUME,
    Equation,
    Quantity,
    species,
)

TOLERANCE = Fraction(1, 200)
"""Quantities are the same when they differ by at most this share of the larger: right to about three digits."""

DIGITS = 4  # significant, of an answer
WORKING_DIGITS = 5  # on the way, so that rounding never uses the tolerance up
LETTERS = "abcdefghij"  # coefficients to be found, in the order of the equation

# ----------------------------------------------------------------------------------------------------------- questions

Kind = Literal["balance", "molar mass", "convert", "amount", "limiting", "left", "yield"]


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
class ChemistryTask:
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
