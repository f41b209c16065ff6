"""Read a question of stoichiometry in words."""

from __future__ import annotations

import re
from functools import lru_cache

from envs.chemistry.formulas import (
    AMOUNT,
    MASS,
    UNITS,
    VOLUME,
    plain,
    read_equation,
    species,
    with_symbols,
)
from envs.chemistry.task import Amount, ChemistryTask

MAX_QUESTION = 400  # characters

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
READABLE = (
    "the chemistry environment reads 'Balance: C3H8 + O2 -> CO2 + H2O', 'What is the molar mass of Ca(OH)2?', "
    "'How many mol are in 36 g of H2O?' and, after an equation and a colon, 'how many g of H2O form from 10 g of H2 "
    "and 20 g of O2?', 'which reactant is limiting for ...?', 'how many g of H2 are left from ...?', "
    "'what is the yield in % if ... give 5 g of H2O?'"
)


@lru_cache(maxsize=1 << 12)
def read_task(question: str) -> ChemistryTask:
    """Understand a question; raises ValueError with what is wrong."""
    try:
        return _read_task(question)
    except ValueError:
        simply = _simply(question) if len(question) <= MAX_QUESTION else question
        if simply == question:
            raise
        return _read_task(simply)


_OTHER_WORDS = (
    (r"(?<![\w^])(?:_+|\?)\s*(?=[A-Z(\[])", ""),  # a blank for a coefficient
    (r"(?i)\b(?:molecular|formula)\s+(?:weight|mass)\b", "molar mass"),
    (r"(?i)\bwhat\s+is\s+the\s+limiting\s+(?:reactant|reagent)\b", "which reactant is limiting"),
    (r"(?i)\bwhat\s+mass\s+of\s+(\S+)", r"how many g of \1"),
)


def _simply(question: str) -> str:
    """A question in the symbols and words that are read."""
    for pattern, simple in _OTHER_WORDS:
        question = re.sub(pattern, simple, question)
    return with_symbols(plain(question))


def _read_task(question: str) -> ChemistryTask:
    text = question.strip().rstrip("?!. ")
    if match := _BALANCE.fullmatch(text):
        return ChemistryTask("balance", read_equation(match[1])[0])
    if match := _MASS_OF.fullmatch(text):
        return ChemistryTask("molar mass", target=Amount(species(match[1]).text, "g"))
    if match := _CONVERT.fullmatch(text):
        given = _read_amount(match[2])
        return ChemistryTask("convert", None, (given,), Amount(given.substance, match[1], "", given.concentration))
    head, colon, rest = text.partition(":")
    equation = read_equation(head)[0]
    rest = rest.strip()
    if not colon:
        return ChemistryTask("balance", equation)
    if match := _AMOUNT.fullmatch(rest):
        return ChemistryTask("amount", equation, _read_amounts(match[2]), _read_target(match[1]))
    if match := _LIMITING.fullmatch(rest):
        return ChemistryTask("limiting", equation, _read_amounts(match[1]))
    if match := _LEFT.fullmatch(rest):
        return ChemistryTask("left", equation, _read_amounts(match[2]), _read_target(match[1]))
    if match := _YIELD.fullmatch(rest):
        return ChemistryTask("yield", equation, (*_read_amounts(match[1]), _read_amount(match[2])))
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
