r"""Answers of a fixed form, which no grammar of formulas reads: dates, times, angles in minutes, ordinals, shares."""

from __future__ import annotations

import re
from fractions import Fraction

from envs.math.answer_algebra import Num
from envs.math.answer_formula import PARTS, number_of
from envs.math.answer_units import Unit, read_unit
from envs.math.answer_values import Based, Quantity, Ratio, Text, Value


def fixed_form(text: str) -> Value | str | None:
    """The value of an answer in one of these forms, or the same answer as a formula to read; None for other answers."""
    forms = (_date, _time, _duration, _angle, _ordinal, _prefixed, _proportion, _and_a_part, _half, _of_integers)
    return next((found for form in forms if (found := form(text)) is not None), None)


def plain_text(text: str) -> str:
    """The words of an answer as such."""
    return " ".join(re.sub(r"\\words |\\text\s*\{([^{}]*)\}", r"\1", text).split())


_MONTH = (
    r"(jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)\.?"
)
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAY = r"(\d{1,2})(?:st|nd|rd|th)?"
_DATE = re.compile(rf"(?:{_MONTH} {_DAY}|(?:the )?{_DAY}(?: of)? {_MONTH})(?:,? (\d{{4}}))?", re.IGNORECASE)


def _date(text: str) -> Text | None:
    """``May 12``, ``12 May``, ``the 12th of May, 2024``, ``2024-05-12``; ``5/12/2024`` for whatever day that is."""
    if iso := re.fullmatch(r"([12]\d{3})-(0[1-9]|1[012])-([0-3]\d)", text):
        return Text(f"{_MONTHS[int(iso[2]) - 1]} {int(iso[3])} {iso[1]}")
    if re.fullmatch(r"\d{1,2}/\d{1,2}/[12]\d{3}", text):
        return Text(text)
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    month, day = (match[1], match[2]) if match[1] else (match[4], match[3])
    return Text(f"{month[:3].lower()} {int(day)} {match[5] or ''}".strip())


def _time(text: str) -> Value | None:
    """Noon and midnight."""
    match = re.fullmatch(r"(?:12(?::00)?\s*)?(noon|midnight)", text, re.IGNORECASE)
    hour = Num(Fraction(12))
    return match and Ratio((hour, Num(Fraction(0))), True, Unit(label="pm" if match[1].lower() == "noon" else "am"))


def _duration(text: str) -> str | None:
    """``2h 15m``."""
    match = re.fullmatch(r"(\d+)\s?h\s?(\d+)\s?m(?:in)?\.?(?:\s?(\d+)\s?s)?", text)
    return match and f"{match[1]} hours {match[2]} minutes" + (f" {match[3]} seconds" if match[3] else "")


_NUMBER = r"(\d+(?:\.\d+)?)"
_ANGLE = re.compile(rf"(-?){_NUMBER}\s*\\degree\s*(?:{_NUMBER}\s*')?\s*(?:{_NUMBER}\s*(?:''|\"))?")
_HEIGHT = re.compile(rf"(\d+)\s*'\s*{_NUMBER}\s*(?:''|\")")


def _angle(text: str) -> Value | None:
    """Degrees, minutes and seconds of an angle; feet and inches."""
    if match := _ANGLE.fullmatch(text):
        size = sum(Fraction(part or 0) / 60**k for k, part in enumerate(match.groups()[1:]))
        return Quantity(Num(-size if match[1] else size), read_unit("degree")) if match[3] or match[4] else None
    match = _HEIGHT.fullmatch(text)
    return match and Quantity(Num(12 * Fraction(match[1]) + Fraction(match[2])), read_unit("inch"))


_ORDINALS = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"]


def _ordinal(text: str) -> Value | None:
    """``3rd`` and ``the third``."""
    match = re.fullmatch(
        rf"(?:the )?(?:(\d{{0,8}}(?:1\dth|(?<!1)(?:1st|2nd|3rd|[04-9]th)))|({'|'.join(_ORDINALS)}))",
        text,
        re.IGNORECASE,
    )
    return match and Quantity(
        Num(Fraction((match[1] or "")[:-2] or _ORDINALS.index(match[2].lower()) + 1)), Unit(label="in order")
    )


def _prefixed(text: str) -> Value | None:
    """``0b101``, ``0o17``, ``0xff``."""
    match = re.fullmatch(r"0(b)[01]+|0(o)[0-7]+|0(x)[\da-f]+", text, re.IGNORECASE)
    return match and Based(text[2:].lstrip("0").upper() or "0", {"b": 2, "o": 8, "x": 16}[text[1].lower()])


def _proportion(text: str) -> Value | None:
    """``3 to 4``, which is 3:4, and ``3 out of 4``, which is three quarters."""
    if share := re.fullmatch(r"(\d{1,9}) (?:out of|in|in every|out of every) (\d{1,9})", text):
        part, whole = int(share[1]), int(share[2])
        return Quantity(Num(Fraction(part, whole))) if 0 < part < whole else None
    match = re.fullmatch(rf"{_NUMBER}\s*to\s*{_NUMBER}(?:\s*to\s*{_NUMBER})?", text)
    return match and Ratio(tuple(number_of(part) for part in match.groups() if part))


def _and_a_part(text: str) -> str | None:
    """``3 and a half``; ``3 and 1/2 hours``, as two values would both have a unit."""
    if parts := re.fullmatch(r"(\d{1,9}) and (\d{1,3})\s?/\s?(\d{1,3})( (?!and|or)[a-zA-Z]{2,}(?: [a-zA-Z]+)*)", text):
        whole, top, bottom, unit = parts.groups()
        return rf"{whole}\frac{{{top}}}{{{bottom}}}{unit}" if 0 < int(top) < int(bottom) else None
    match = re.fullmatch(r"(-?\d{1,9}) and (?:a|one)[ -]([a-z]+)(.*)", text)
    if match is None or match[2] not in PARTS:
        return None
    return rf"{match[1]}\frac{{1}}{{{PARTS[match[2]]}}}{match[3]}"


def _half(text: str) -> str | None:
    """``half an hour``, ``an hour and a half``, ``a quarter of a mile``."""
    if match := re.fullmatch(r"(?:an?|one) ([a-z]+) and a half", text, re.IGNORECASE):
        return rf"\frac{{3}}{{2}} {match[1]}"
    match = re.fullmatch(r"(?:a |one[ -])?([a-z]+)(?: of)? an? ([a-z]+)", text, re.IGNORECASE)
    size = PARTS.get(match[1].lower()) if match else None
    return rf"\frac{{1}}{{{size}}} {match[2]}" if match and size else None


_OF_INTEGERS = re.compile(
    r"(.*?)[\s,;(]*(?:\b(?:where|for|with|and)\s)?(?:(?:any|all|every|some)\s)?(?:integers?\s(?P<before>[a-zA-Z])"
    r"|(?P<letter>[a-zA-Z])\s*(?:\\in\s*(?:\\mathbb\s*)?\{?\s*Z\s*\}?|(?:is\s)?(?:an|any)\sinteger))[\s)]*"
)


def _of_integers(text: str) -> str | None:
    r"""``n\pi, n \in \mathbb{Z}``: whatever the letter is, it runs through the integers."""
    match = _OF_INTEGERS.fullmatch(text)
    if match is None:
        return None
    letter = match["before"] or match["letter"]
    standing = rf"(?<![a-zA-Z\\]){letter}(?![a-zA-Z])"
    if not re.search(standing, match[1]) or (letter != "k" and re.search(r"(?<![a-zA-Z\\])k(?![a-zA-Z])", match[1])):
        return None
    return re.sub(standing, "k", match[1])
