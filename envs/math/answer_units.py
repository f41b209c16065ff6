"""Units of measurement and other words behind a number.

A unit is a dimension with a scale: products and quotients of named units, with powers (square metres, miles per
hour). Words that are no known unit (12 apples) are kept as a label. Two quantities whose units are of one dimension
are compared after conversion.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache


@dataclass(frozen=True)
class Unit:
    """What a number counts.

    Args:
        dimension: names of base dimensions with their powers, sorted.
        scale: how many base units it is; with an irrational factor pi where `dimension` says ``radian``.
        offset: what is added to the number before it is scaled (temperatures).
        label: the words themselves where they are no known unit.
        also: another dimension that its name may mean (pounds).
        letter: the one letter that it is written as, which may also be a factor.
    """

    dimension: tuple[tuple[str, int], ...] = ()
    scale: Fraction = Fraction(1)
    offset: Fraction = Fraction(0)
    label: str = ""
    also: str = ""
    letter: str = ""


CURRENCIES = {
    "euro": ("eur",), "yen": ("jpy",), "rupee": ("inr",), "ruble": ("rub",), "won": ("krw",), "peso": ("mxn", "php"),
    "yuan": ("cny", "rmb"), "franc": ("chf",), "krona": ("sek",), "krone": ("nok", "dkk"), "zloty": ("pln",),
    "reais": ("brl",), "rand": ("zar",), "sheqel": ("ils", "shekel"), "baht": ("thb",), "dong": ("vnd",),
    "lira": (), "naira": ("ngn",), "dirham": ("aed",), "riyal": ("sar",), "hryvnia": ("uah",),
}  # fmt: skip
"""Names of currencies other than dollars and pounds, and their codes."""


def _table() -> dict[str, tuple[str, Fraction, Fraction]]:
    table: dict[str, tuple[str, Fraction, Fraction]] = {}

    def add(dimension: str, scale: str, names: str, offset: str = "0") -> None:
        for name in names.split(","):
            table[name.strip()] = (dimension, Fraction(scale), Fraction(offset))

    metric = {
        "nano": "1/1000000000",
        "micro": "1/1000000",
        "milli": "1/1000",
        "centi": "1/100",
        "deci": "1/10",
        "kilo": "1000",
        "mega": "1000000",
        "giga": "1000000000",
    }
    short = {"n": "nano", "m": "milli", "c": "centi", "d": "deci", "k": "kilo", "M": "mega", "G": "giga"}
    for dimension, word, sign, unit, also in (
        ("length", "meter", "m", "1", "metre"), ("mass", "gram", "g", "1", "gramme"),
        ("volume", "liter", "L", "1/1000", "litre"), ("watt", "watt", "W", "1", ""), ("joule", "joule", "J", "1", ""),
        ("newton", "newton", "N", "1", ""), ("volt", "volt", "V", "1", ""), ("pascal", "pascal", "Pa", "1", ""),
        ("hertz", "hertz", "Hz", "1", ""), ("mole", "mole", "mol", "1", ""), ("ampere", "ampere", "A", "1", "amp"),
        ("ohm", "ohm", "ohm", "1", ""), ("byte", "byte", "B", "1", ""),
        ("electronvolt", "electronvolt", "eV", "1", "electron-volt"),
    ):  # fmt: skip
        for prefix, factor in (("", "1"), *metric.items()):
            scale = str(Fraction(factor) * Fraction(unit))
            add(dimension, scale, ",".join(prefix + name for name in (word, also) if name))
        for letter, prefix in (("", ""), *short.items()):
            add(dimension, str(Fraction(metric.get(prefix, "1")) * Fraction(unit)), letter + sign)
    for name in ("l", "ml", "dl", "cl"):
        table[name] = table[name[:-1] + "L"]
    add("length", "1000", "klick")
    add("length", "127/5000", "in, inch, inches")
    add("length", "381/1250", "ft, foot, feet")
    add("length", "1143/1250", "yd, yard")
    add("length", "201168/125", "mi, mile")
    add("volume", "473176473/125000000000", "gal, gallon")
    table["gal"] = table["gallon"] = ("volume", Fraction(473176473, 125000000000), Fraction(0))
    add("volume", str(Fraction(473176473, 500000000000)), "quart, qt")
    add("volume", str(Fraction(473176473, 1000000000000)), "pint, pt")
    add("volume", str(Fraction(473176473, 16000000000000)), "fl oz, fluid ounce")
    for name, word in (("microm", "meter"), ("microg", "gram"), ("micros", "second"), ("microL", "liter")):
        base, size, _ = table.get(word, ("time", Fraction(1), Fraction(0)))
        table[name] = (base, size / 10**6, Fraction(0))
    add("mass", "45359237/100000", "lb, lbs, pound")
    add("mass", str(Fraction(45359237, 1600000)), "oz, ounce")
    add("length", "1852", "nautical mile, nmi")
    add("length", "9460730472580800", "light year, light-year, lightyear, ly")
    add("area", "10000", "ha, hectare")
    add("area", "316160658/78125", "acre")
    add("volume", "1/1000000", "cc")
    add("mass", "1000000", "tonne, metric ton")
    add("mass", "907184740/1000", "ton")
    add("time", "1", "s, sec, second")
    add("time", "1/1000", "ms, millisecond")
    add("time", "60", "min, minute, mins")
    add("time", "3600", "h, hr, hour, hrs")
    add("time", "86400", "day")
    add("time", "604800", "week, wk")
    add("month", "1", "month, mo")
    add("month", "12", "year, yr, yrs")
    add("month", "120", "decade")
    add("month", "1200", "century, centuries")
    add("dollar", "1", "dollar, usd, buck, us dollar")
    add("dollar", "1/100", "cent, penny, pennies")
    for currency, codes in CURRENCIES.items():
        add(currency, "1", ",".join((currency, *codes, *(code.upper() for code in codes))))
    add("sterling", "1", "pounds sterling, pound sterling, gbp, GBP, quid")
    add("sterling", "1/100", "pence")
    add("rupee", "1", "Rs")
    add("degree", "1", "degree, deg")
    add("radian", "180", "radian, rad")  # of pi degrees
    add("percent", "1", "percent, pct, percentage point")
    add("percent", "1/10", "permille, per mille")
    add("percent", "1/100", "basis point, bp, bps")
    add("coulomb", "1", "C, coulomb")
    add("tesla", "1", "T, tesla")
    add("farad", "1", "F, farad")
    add("pascal", "100000", "bar")
    for letter, factor in (("", "1"), ("m", "1/1000"), ("k", "1000")):
        add("joule", factor, f"{letter}Nm")  # of a torque
    add("joule", "3600000", "kWh, kilowatt hour, kilowatt-hour")
    add("joule", "523/125", "cal, calorie")
    add("joule", "4184", "kcal, kilocalorie")
    for name in (
        "rpm",
        "mpg",
        "psi",
        "bpm",
        "fps",
        "horsepower",
        "hp",
        "teaspoon",
        "tablespoon",
        "tsp",
        "tbsp",
        "cup",
        "unit",
        "people",
        "dB",
        "ppm",
        "atm",
        "mmHg",
    ):
        add(name, "1", name)
    add("kelvin", "1", "K, kelvin")
    add("kelvin", "1", "celsius, degree celsius, degree centigrade, degree C", "27315/100")
    add("kelvin", "5/9", "fahrenheit, degree fahrenheit, degree F", "45967/100")
    table["mph"] = ("speed", Fraction(201168, 125) / 3600, Fraction(0))
    table["kph"] = table["kmph"] = ("speed", Fraction(1000, 3600), Fraction(0))
    return table


_NAMES = _table()
_DERIVED = {
    "volume": (("length", 3),), "area": (("length", 2),), "speed": (("length", 1), ("time", -1)),
    "newton": (("length", 1), ("mass", 1), ("time", -2)), "joule": (("length", 2), ("mass", 1), ("time", -2)),
    "watt": (("length", 2), ("mass", 1), ("time", -3)), "hertz": (("time", -1),),
}  # fmt: skip
_GRAMS = {"newton": 1000, "joule": 1000, "watt": 1000}  # the base unit of mass here is the gram
LETTERS = frozenset(["m", "s", "h", "g", "L", "l", "N", "K", "J", "W", "V", "A", "C", "F", "T"])
"""Units of one letter: only behind a plain number and a space; otherwise the letter is a variable."""
SHORT = frozenset(name for name in _NAMES if 2 <= len(name) <= 3 and name.isalpha())
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3, "squared": 2, "cubed": 3}
_FILLERS = frozenset(["of", "in", "the", "a", "an", "total", "each", "every", "per"])
_COMPARING = {"more": "more", "less": "fewer", "fewer": "fewer"}
_PLURALS = {
    "children": "child", "men": "man", "women": "woman", "feet": "foot", "mice": "mouse", "geese": "goose",
    "teeth": "tooth",
    "knives": "knife", "loaves": "loaf", "leaves": "leaf", "wolves": "wolf", "shelves": "shelf", "persons": "people",
    "person": "people", "qts": "qt", "pts": "pt", "kms": "km", "cms": "cm",
}  # fmt: skip
_PIECES = re.compile(r"\^?\{?(-?\d)\}?|[A-Za-z'-]+|/|\\cdot|[*·.]")


def known(word: str) -> bool:
    """Whether a word is the name of a unit."""
    return _find(word) is not None


def _find(word: str) -> tuple[str, Fraction, Fraction] | None:
    first, _, second = word.partition(" ")
    for name in (_PLURALS.get(word, word), word.lower(), f"{_singular(first)} {second}".lower()):
        if len(name) <= 2 and name not in (word, _PLURALS.get(word)):
            continue
        if name in _NAMES:
            return _NAMES[name]
        for ending in ("es", "s"):
            if len(name) - len(ending) > 2 and name.endswith(ending) and name.removesuffix(ending) in _NAMES:
                return _NAMES[name.removesuffix(ending)]
    return None


@lru_cache(maxsize=1 << 12)
def read_unit(words: str) -> Unit | None:
    r"""The unit that words, powers and slashes behind a number name; None for what is no such thing.

    >>> read_unit("square cm") == read_unit("cm^2")
    True
    """
    text = words.strip().strip(".").strip()
    if found := _find(re.sub(r"\s+", " ", text)):
        return replace(_unit([(found, 1)]), also="sterling" if text.lower() in ("pound", "pounds") else "")
    pieces = _pieces(text)
    if pieces is None:
        return None
    parts, sign, power, index = list[tuple[tuple[str, Fraction, Fraction], int]](), 1, 1, 0
    label = list[str]()
    while index < len(pieces):
        piece = pieces[index]
        pair = _find(" ".join(pieces[index : index + 2])) if index + 1 < len(pieces) else None
        if piece in ("/", "per"):
            sign = -1
        elif piece.lower() in ("square", "sq", "cubic", "cu") and index + 1 < len(pieces):
            power = _POWERS[piece.lower()]
        elif piece.lower() in ("squared", "cubed") and parts:
            parts[-1] = (parts[-1][0], parts[-1][1] * _POWERS[piece.lower()])
        elif re.fullmatch(r"-?\d", piece):
            if not parts:
                return None
            parts[-1] = (parts[-1][0], parts[-1][1] * int(piece))
        elif pair is not None:
            parts.append((pair, sign * power))
            power, index = 1, index + 1
        elif (found := _find(piece)) is not None:
            parts.append((found, sign * power))
            power = 1
        elif piece not in ("*", ".", "\\cdot"):
            label.append(piece)
        index += 1
    nouns = [_COMPARING.get(word, _singular(word)) for word in label if word not in _FILLERS and word[0].isalpha()]
    if len(nouns) > 1 and nouns[0] == "more":  # 5 more apples are 5 apples
        nouns = nouns[1:]
    named = " ".join(nouns)
    if (parts or "than" in nouns) and any(len(word) == 1 for word in nouns):
        return None  # 5 cm x, 5 less than x
    return replace(_unit(parts), label=named) if parts or label else None


def _pieces(text: str) -> list[str] | None:
    pieces, index = list[str](), 0
    while index < len(text):
        if text[index].isspace() or text[index] in "{}":
            index += 1
            continue
        match = _PIECES.match(text, index)
        if match is None:
            return None
        pieces.append(match[1] or match[0])
        index = match.end()
    return pieces or None


def _singular(word: str) -> str:
    word = word.lower().strip("-'.")
    if word in _PLURALS:
        return _PLURALS[word]
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if re.search("(?:x|ch|sh|ss|zz)es$", word):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _unit(parts: Iterable[tuple[tuple[str, Fraction, Fraction], int]]) -> Unit:
    parts = list(parts)
    powers, scale = dict[str, int](), Fraction(1)
    for (dimension, size, _), power in parts:
        for base, each in _DERIVED.get(dimension, ((dimension, 1),)):
            powers[base] = powers.get(base, 0) + each * power
        scale *= (size * _GRAMS.get(dimension, 1)) ** power
    offset = parts[0][0][2] if len(parts) == 1 else Fraction(0)
    return Unit(tuple(sorted((base, power) for base, power in powers.items() if power)), scale, offset)
