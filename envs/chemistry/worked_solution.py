"""Write worked solutions: what policies are trained on."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from fractions import Fraction

from envs.chemistry.formulas import (
    AMOUNT,
    MASS,
    UNITS,
    VOLUME,
    Dimension,
    Equation,
    balance,
    species,
    write_number,
    write_quantity,
)
from envs.chemistry.lines import Form
from envs.chemistry.solution import Truth
from envs.chemistry.task import LETTERS, WORKING_DIGITS, Amount, ChemistryTask

# ----------------------------------------------------------------------------------------------------- worked solutions


def work(task: ChemistryTask, truth: Truth) -> Iterator[str]:
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

    def react(self, task: ChemistryTask) -> Iterator[str]:
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


def work_balance(equation: Equation, rng: random.Random) -> Iterator[str]:
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
