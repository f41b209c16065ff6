"""Draw problems, by level."""

from __future__ import annotations

import random
from dataclasses import dataclass
from fractions import Fraction

from envs.chemistry.formulas import (
    UNITS,
    balance,
    species,
    write_number,
)
from envs.chemistry.reactions import ACIDS, family
from envs.chemistry.solution import amount_of
from envs.chemistry.task import Amount, ChemistryTask, Kind


@dataclass(frozen=True)
class ChemistryLevel:
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

LEVELS: dict[int, ChemistryLevel] = {
    1: ChemistryLevel((("balance", _EASY), ("molar mass", _EASY), ("convert", _EASY))),
    2: ChemistryLevel((("balance", _PLAIN), ("molar mass", (*_PLAIN, *_HARD)), ("convert", _PLAIN)), _MANY_UNITS),
    3: ChemistryLevel(
        (("balance", ("combustion", "precipitation")), ("amount", _EASY), ("amount", _PLAIN)), _MANY_UNITS
    ),
    4: ChemistryLevel((("limiting", _PLAIN), ("amount", _HARD)), _MANY_UNITS, reagents=2),
    5: ChemistryLevel((("balance", ("redox", "ionic")), ("left", _HARD), ("yield", _HARD)), _MANY_UNITS, reagents=2),
}


# ------------------------------------------------------------------------------------------------------------- drawing


def draw_task(level: ChemistryLevel, rng: random.Random) -> ChemistryTask:
    """A task of a level."""
    kind, families = rng.choice(level.kinds)
    equation = rng.choice(family(rng.choice(families)))
    if kind == "balance":
        return ChemistryTask(kind, equation)
    if kind == "molar mass":
        compounds = [text for text in equation.species if len(species(text).atoms) > 1]
        return ChemistryTask(kind, target=Amount(rng.choice(compounds), "g"))
    if kind == "convert":
        return _draw_conversion(rng.choice(equation.species), level, rng)
    counts = dict(zip(equation.species, balance(equation), strict=True))
    reagents = rng.sample(equation.reactants, min(level.reagents, len(equation.reactants)))
    if kind != "amount" and len(reagents) < 2:
        return draw_task(level, rng)
    extent = Fraction(10 ** rng.uniform(-1.5, 0.5))
    excess = [Fraction(1), *(Fraction(rng.uniform(1.3, 3)) for _ in reagents[1:])]
    given = [
        _draw_amount(substance, extent * counts[substance] * more, level, rng)
        for substance, more in zip(reagents, excess, strict=True)
    ]
    shown = tuple(rng.sample(given, len(given)))
    if kind == "limiting":
        return ChemistryTask(kind, equation, shown)
    if kind == "left":
        return ChemistryTask(kind, equation, shown, Amount(reagents[-1], rng.choice(level.units)))
    product = rng.choice(equation.products)
    if kind == "yield":
        share = Fraction(rng.uniform(0.5, 0.98))
        return ChemistryTask(
            kind, equation, (*shown, _draw_amount(product, extent * counts[product] * share, level, rng))
        )
    others = [text for text in equation.species if text not in reagents]
    if all(_dissolves(text) for text in equation.reactants) and level.reagents == 1:
        (base,) = set(equation.reactants) - set(reagents)
        first, second = (Fraction(rng.randint(50, 500), 1000) for _ in range(2))
        dissolved = Amount(
            reagents[0], "mL", write_number(Fraction(rng.randint(50, 999), 10), 3), write_number(first, 3)
        )
        return ChemistryTask(kind, equation, (dissolved,), Amount(base, "mL", "", write_number(second, 3)))
    return ChemistryTask(kind, equation, shown, Amount(rng.choice(others), rng.choice(level.units)))


def _dissolves(substance: str) -> bool:
    return substance in ACIDS or substance in ("LiOH", "NaOH", "KOH", "Ba(OH)2")


def _draw_conversion(substance: str, level: ChemistryLevel, rng: random.Random) -> ChemistryTask:
    given = _draw_amount(substance, Fraction(10 ** rng.uniform(-2, 1)), level, rng)
    unit = rng.choice([unit for unit in level.units if unit != given.unit])
    return ChemistryTask("convert", None, (given,), Amount(substance, unit))


def _draw_amount(substance: str, moles: Fraction, level: ChemistryLevel, rng: random.Random) -> Amount:
    unit = rng.choice(level.units)
    quantity = amount_of(Amount(substance, unit), moles)
    return Amount(substance, unit, write_number(quantity.value / UNITS[unit][0], 3))
