"""One number or expression with what stands around it: a currency, words, a unit, a base, colons."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

from envs.math.answer_algebra import (
    IMAGINARY,
    MINUS_ONE,
    Call,
    Expr,
    Num,
    Pow,
    Prod,
    Sum,
    negated,
    renamed,
    symbols,
    walk,
)
from envs.math.answer_formula import (
    ALLOWED_IN_UNITS,
    FUNCTIONS,
    MAX_DIGITS,
    MULTIPLES,
    NO_UNITS,
    PARTS,
    Formula,
    Token,
    Unreadable,
    fraction_of_units,
    number_of,
    split,
    words,
)
from envs.math.answer_units import CURRENCIES, LETTERS, Unit, read_unit
from envs.math.answer_values import Based, Quantity, Ratio, Value

_NAMED_BASES = {
    "two": 2, "binary": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "octal": 8, "oct": 8, "bin": 2, "nine": 9, "ten": 10,
    "decimal": 10, "eleven": 11, "twelve": 12, "sixteen": 16, "hex": 16, "hexadecimal": 16,
}  # fmt: skip


def based_number(tokens: list[Token]) -> Value | None:
    """A number in another base than ten; None for other tokens."""
    text = "".join(token.text + (" " if token.kind == "word" else "") for token in tokens).strip()
    match = re.fullmatch(
        r"(-?)[({]?(-?[\dA-Fa-f]+(?:\.[\dA-Fa-f]+)?)[)}]?\s*"
        r"(?:_\{?\s*\(?(?:base\s*)?(\d+|[a-z]+)\s*\)?\}?|[({]?\s*(?:in)?base\s*(\d+|[a-z]+)\s*[)}]?|[({]?(?:in)?((?:binary|octal|hex)[a-z]*)[)}]?)",
        re.sub(r"\s+", "", text),
    )
    if match is None or any(b.space and a.kind == b.kind == "number" for a, b in pairwise(tokens)):
        return None
    if not re.search(r"\d", match[2]) and not re.fullmatch("[A-F]{2,}", match[2]) and match[3] != "16":
        return None
    name = match[3] or match[4] or match[5]
    base = _NAMED_BASES.get(name) if name.isalpha() else int(name)
    if base is None or not 2 <= base <= 36:
        return None
    digits = (match[1] + match[2]).removeprefix("--").upper()
    whole = digits.lstrip("-").replace(".", "")
    if not whole.isalnum() or any(int(digit, 36) >= base for digit in whole):
        return None  # 3a_1 is a product
    sign = "-" if digits.startswith("-") else ""
    front, _, back = digits.lstrip("-").partition(".")
    if base == 10:
        return Quantity(number_of(digits) if not sign else negated(number_of(digits[1:])))
    back = back.rstrip("0")
    return Based(sign + (front.lstrip("0") or "0") + ("." + back if back else ""), base)


def ratio(tokens: list[Token]) -> Value:
    """Two to six numbers with colons between them, or a time of the day."""
    parts = [part for _, part in split(tokens, frozenset(":"))]
    if not 2 <= len(parts) <= 6 or not all(parts):
        raise Unreadable("a colon")
    last = quantity(parts[-1])
    exprs = [Formula(list(part), units=False).whole() for part in parts[:-1]] + [last.expr]
    clock = (
        len(parts) in (2, 3)
        and all(len(part[0].text) == 2 for part in parts[1:])
        and all(part[0].text.isdigit() for part in parts)
        and int(parts[0][0].text) < 25 and int(parts[1][0].text) < 60
    )  # fmt: skip
    return Ratio(tuple(exprs), clock, last.unit)


_CURRENCIES = words("dollars dollar euros cents rupees usd gbp rubles cad aud") | frozenset(
    name for currency, codes in CURRENCIES.items() for name in (currency, *codes)
)
_SHORT_MULTIPLES = {"k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9}  # behind a currency


def _is_currency(token: Token) -> bool:
    return token.text.strip(". ") == "Rs" or token.text.lower() in _CURRENCIES or token.text == "pounds sterling"


def quantity(tokens: list[Token]) -> Quantity:
    """A number or an expression, with the unit that stands before or behind it."""
    tokens = list(tokens)
    sign, unit_words = 1, list[str]()
    while tokens and tokens[0].kind == "word" and tokens[0].text.lower() in ("negative", "minus") and len(tokens) > 1:
        sign, tokens = -sign, tokens[1:]
    if (
        len(tokens) > 2
        and tokens[0].text in "+-"
        and (tokens[1].text in ("\\currency", "Rs") or tokens[1].kind == "text" or _is_currency(tokens[1]))
    ):
        sign, tokens = (-sign if tokens[0].text == "-" else sign), tokens[1:]
    if tokens and tokens[0].text == "\\currency":
        unit_words, tokens = ["dollars"], tokens[1:]
    elif tokens and tokens[0].kind in ("text", "word") and len(tokens) > 1:
        word = tokens[0].text.lower().strip(". ")
        after = 2 if tokens[1].text == "." else 1
        if word in ("us", "a", "c") and tokens[1].text == "\\currency":
            unit_words, tokens = ["dollars"], tokens[2:]
        elif _is_currency(tokens[0]) and tokens[after : after + 1]:
            unit_words, tokens = ["rupees" if word == "rs" else word], tokens[after:]
        elif word in ("hk", "nz", "r", "mx") and tokens[1].text == "\\currency":
            unit_words, tokens = ["reais" if word == "r" else "dollars"], tokens[2:]
        elif word in ("exactly", "only", "approximately", "about", "approx", "roughly") and len(tokens) > 1:
            tokens = tokens[1:]
    if _degrees_in_sum(tokens):  # 180^\circ - 2\alpha
        tokens, unit_words = [token for token in tokens if token.text != "\\degree"], ["degree"]
    scale = 1
    if unit_words and len(tokens) == 2 and tokens[0].kind == "number" and tokens[1].text in _SHORT_MULTIPLES:
        scale, tokens = _SHORT_MULTIPLES[tokens[1].text], tokens[:1]
    parser = Formula(tokens)
    expr = parser.sum()
    expr = imaginary(expr) if scale == 1 else Prod((expr, Num(Fraction(scale))))
    rest = parser.tokens[parser.index :]
    expr, rest, factor_words = _multiplied(expr, rest)
    unit = _unit_of(rest, unit_words, bool(factor_words))
    if isinstance(unit, Unit) and len(rest) == 1 and rest[0].text in LETTERS and rest[0].kind == "word":
        unit = replace(unit, letter=rest[0].text)
    if sign < 0:
        expr = negated(expr)
    if isinstance(unit, Quantity):  # 3 hours 30 minutes
        whole = added([Quantity(expr, _first_unit(rest)), unit])
        if not isinstance(whole, Quantity):
            raise Unreadable("two quantities")
        return whole
    return Quantity(scientific(expr), unit)


def _degrees_in_sum(tokens: list[Token]) -> bool:
    """Whether terms of a sum are in degrees, and nothing is a function of them."""
    after = [tokens[k + 1].text if k + 1 < len(tokens) else "+" for k, t in enumerate(tokens) if t.text == "\\degree"]
    if not after or any(token.kind == "text" or token.text.removeprefix("\\") in FUNCTIONS for token in tokens):
        return False
    return any(token.text in ("+", "-") for token in tokens[1:]) and all(text in "+-)}" for text in after)


def _first_unit(rest: list[Token]) -> Unit | None:
    end = next((k for k, token in enumerate(rest) if token.kind == "number"), len(rest))
    return read_unit(" ".join(token.text for token in rest[:end]))


def _multiplied(expr: Expr, rest: list[Token]) -> tuple[Expr, list[Token], list[str]]:
    """The number with the words behind it that multiply it: "5 million", "3 halves", "5 cubed"."""
    used = list[str]()
    while rest and rest[0].kind in ("word", "text"):
        words = rest[0].text.split()
        if not words:
            rest = rest[1:]
            continue
        word = words[0].lower().strip(".,")
        singular = word[:-1] if word.endswith("s") else word
        more = [Token(rest[0].kind, " ".join(words[1:]), True)] if words[1:] else []
        if singular == "halve":
            singular = "half"
        if word in MULTIPLES or (singular in MULTIPLES and word != "scores"):
            expr = Prod((expr, Num(Fraction(MULTIPLES.get(word, MULTIPLES.get(singular, 1))))))
        elif singular in PARTS:
            expr = Prod((expr, Num(Fraction(1, PARTS[singular]))))
        elif word in ("squared", "cubed"):
            expr = Pow(expr, Num(Fraction(2 if word == "squared" else 3)))
        elif word == "factorial":
            expr = Call("factorial", (expr,))
        else:
            break
        used.append(word)
        rest = more + rest[1:]
    return expr, rest, used


def _unit_of(rest: list[Token], words: list[str], multiplied: bool) -> Unit | Quantity | None:
    """The unit that the tokens behind a number name; raises Unreadable for what is no unit."""
    if any(token.kind in ("number", "sci") and (not k or rest[k - 1].text not in ("^", "{", "-"))
           for k, token in enumerate(rest)):  # fmt: skip
        start = next(k for k, token in enumerate(rest) if token.kind in ("number", "sci"))
        if not start:
            raise Unreadable("two numbers")
        return quantity(rest[start:])
    pieces = list(words)
    if rest and rest[0].text == "\\frac" and (fraction := fraction_of_units(rest)):
        top, bottom, after = fraction
        rest = [*top, Token("other", "/"), *bottom, *rest[after:]]
    if rest and rest[0].text == "(" and rest[-1].text == ")":
        rest = rest[1:-1]
    if rest and "'" in (rest[0].text, rest[-1].text):
        raise Unreadable("a prime behind a number")
    if rest and rest[0].text.lower().split(" ")[0] in ("to", "by", "than", "over"):
        raise Unreadable("words that are no unit")
    for token in rest:
        if token.kind in ("word", "text"):
            lower = token.text.lower().split()
            if any(
                re.search(r"[=<>+]|(?<![\^{-])\d", word) or word.strip(".,()") in NO_UNITS - ALLOWED_IN_UNITS
                for word in lower
            ):
                raise Unreadable("words that are no unit")
            pieces.append(token.text.strip("()").replace("$", "dollars"))
        elif token.text == "\\degree":
            pieces.append("degree")
        elif token.text == "\\%":
            pieces.append("percent")
        elif token.text == "\\currency":
            pieces.append("dollars")
        elif token.text in ("^", "/", "{", "}", "-", "\\cdot", ".", "'") or token.kind == "number":
            pieces.append(token.text)
        else:
            raise Unreadable(f"{token.text} behind a number")
    if not pieces:
        return None
    joined = " ".join(pieces)
    if multiplied and joined.lower().startswith("of "):
        joined = joined[3:]
    unit = read_unit(re.sub(r"\s*\^\s*\{?\s*(-?)\s*(\d)\s*\}?", r"^\1\2", joined))
    if unit is None:
        raise Unreadable("no unit")
    return unit if unit != Unit() else None


def imaginary(expr: Expr) -> Expr:
    """``I`` and ``j`` as the imaginary unit where they are the only letter of a formula with a number."""
    names = symbols(expr)
    if (
        names in ({"I"}, {"j"})
        and any(isinstance(node, Num) and abs(node.value) != 1 for node in walk(expr))
        and not any(node == IMAGINARY for node in walk(expr))
    ):
        return renamed(expr, {"I": IMAGINARY, "j": IMAGINARY})
    if names in ({"I"}, {"j"}) and isinstance(expr, Sum) and not any(node == IMAGINARY for node in walk(expr)):
        return renamed(expr, {"I": IMAGINARY, "j": IMAGINARY})
    return expr


def scientific(expr: Expr) -> Expr:
    r"""``6.72 \cdot 10^{-5}`` as a number with the value of its last digit."""
    sign = 1
    if isinstance(expr, Prod) and len(expr.factors) == 2 and expr.factors[0] == MINUS_ONE:
        sign, expr = -1, expr.factors[1]
    match expr:
        case Prod((Num() as mantissa, Pow(Num(ten), Num(power)))) if ten == 10 and power.denominator == 1:
            if mantissa.unit is not None and abs(power) <= MAX_DIGITS:
                scale = Fraction(10) ** int(power)
                return Num(sign * mantissa.value * scale, mantissa.unit * scale, mantissa.digits)
    return negated(expr) if sign < 0 else expr


def added(values: list[Quantity]) -> Value | None:
    """One quantity of several, each in a smaller unit than the one before; None for others."""
    units = [value.unit for value in values if value.unit is not None]
    if len(units) < len(values):
        return None
    first = units[0]
    if any(unit.dimension != first.dimension or unit.offset or unit.label for unit in units):
        return None
    if any(a.scale <= b.scale for a, b in pairwise(units)):
        return None
    terms = [Prod((value.expr, Num(unit.scale / first.scale))) for value, unit in zip(values, units, strict=True)]
    return Quantity(Sum(tuple(terms)), first)


def expression(tokens: list[Token]) -> Expr:
    """An expression without a unit."""
    value = quantity(tokens)
    if value.unit is not None:
        raise Unreadable("a unit in a relation")
    return value.expr
