r"""Reads an answer into one typed value (`envs.math.answer_values`), by its own text alone and in bounded time.

What is ambiguous by its writing is decided here, and only here:

* A comma between digits is a thousands separator if groups of three digits follow without a space, outside of
  brackets and braces, and the first group does not begin with 0: ``2,100`` is a number, ``2, 100`` and ``\{2,100\}``
  are two.
* A list without brackets has no order; parentheses, angle brackets and a column of a matrix have one. Two ends in
  parentheses are a pair and an open interval, which are the same. A set of one element is the element.
* Letters behind a number are a unit if they are in ``\text`` or are a known unit or a word and stand apart from it:
  ``5 cm``, ``12 apples``; ``6xyz`` and ``2ab`` are products. One letter is a unit only behind a plain number and a
  space (``42 L``); behind anything with a variable or a root, letters are variables.
* ``i`` is the imaginary unit, and so are ``I`` and ``j`` where they are the only letter of a formula with numbers;
  ``e`` is the base of the natural logarithm.
* A single letter is a choice. Letters without digits are words if they are capitals, or three and more with a vowel.
* ``x = 5`` names a value; ``2 + 2 = 4`` is 4, if that is true; ``a + b = 7`` names a value unless the letters are the
  coordinates x, y and z; every other equation stays an equation.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

from envs.math.answer_algebra import (
    IMAGINARY,
    MINUS_ONE,
    ONE,
    OO,
    Call,
    Expr,
    Num,
    Pow,
    Prod,
    Sum,
    Sym,
    equal,
    negated,
    numeric,
    over,
    rational_value,
    renamed,
    symbols,
    walk,
)
from envs.math.answer_forms import fixed_form, plain_text
from envs.math.answer_formula import (
    ALLOWED_IN_UNITS,
    AXES,
    CLOSING,
    CONSTANTS,
    FUNCTIONS,
    MAX_DIGITS,
    MULTIPLES,
    NO_UNITS,
    OPENING,
    PARTS,
    VERBS,
    Formula,
    Token,
    Unreadable,
    fraction_of_units,
    is_word,
    number_of,
    split,
    tokens_of,
    words,
)
from envs.math.answer_sets import EVERYTHING, Pieces, combined, interval
from envs.math.answer_text import GREEK, clean
from envs.math.answer_units import CURRENCIES, Unit, known, read_unit
from envs.math.answer_values import (
    HUNDRED,
    Assignments,
    Based,
    Choice,
    Collection,
    Equation,
    Inequality,
    Interval,
    Matrix,
    Named,
    Quantity,
    Ratio,
    Sequence,
    Text,
    Union,
    Value,
    is_percentage,
)

MAX_ANSWER = 1000  # characters
MAX_ITEMS = 64  # of a list
SIGNIFICANT = 6  # digits from which on a decimal may stand for the number that it is rounded from


# ----------------------------------------------------------------------------------------------------- values


_RELATIONS = frozenset(("=", "\\approx", "<", ">", "\\le", "\\ge", "\\ne", "\\in"))
_NO_SOLUTION = words("nosolution nosolutions norealsolution norealsolutions emptyset nullset")


@lru_cache(maxsize=1 << 14)
def read(answer: str) -> Value | None:
    """The value of an answer; `Text` where it is no mathematics; None for one that is empty or too long."""
    if len(answer) > MAX_ANSWER:
        return None
    text = clean(answer)
    if re.fullmatch(r"\s*\\?\{\s*\\?\}\s*", answer):
        return Collection(())
    if not text.strip("\\ {}()[]$.,;:"):
        return None
    try:
        return _read(text)
    except (ValueError, RecursionError, ArithmeticError):
        return _as_text(text)


def _as_text(text: str) -> Value | None:
    plain = re.sub(r"\\words |\\text\s*(?=\{)|\\thousands ?", " ", text)
    words = [word for word in re.findall(r"\\?[a-zA-Z]+|\d+|[^\sa-zA-Z\d]", plain) if word not in ".,;:'\"-{}"]
    if len(words) > 1 and words[0].lower() in ("a", "an", "the"):
        words = words[1:]
    key = "".join(words).casefold()
    return Text(_SYNONYMS.get(key, key)) if key else None


_SYNONYMS = {
    "doesnotexist": "dne", "limitdoesnotexist": "dne", "infinitelymanysolutions": "infinitelymany",
    "infinitesolutions": "infinitelymany", "infinitenumberofsolutions": "infinitelymany",
}  # fmt: skip


def _read(text: str) -> Value:
    if text.startswith("\\words "):
        return _read_words(text.removeprefix("\\words "))
    if choice := _choice(text):
        return choice
    found = fixed_form(plain := plain_text(text)) or _all_but(plain)
    if found is not None:
        return _read(clean(found)) if isinstance(found, str) else found
    if sentence := _sentence(text):
        return _read(sentence)
    if (lead := _LEAD.match(text)) and not _forbids(lead[0]):
        return _read(text[lead.end() :])
    if _GROUPED.fullmatch(text):
        text = re.sub(r"(?<=\d) (?=\d{3}(?!\d))", "", text)
    tokens = _marked(_without_hyphens(tokens_of(text)))
    if not tokens:
        raise Unreadable(text)
    if all(token.kind in ("word", "text") or token.text in "'-." for token in tokens):
        word = _only_words(text, tokens)
        if word is not None:
            return word
    return value_of(tokens)


def _forbids(lead: str) -> bool:
    """Whether words before a value say that it is another one, or none."""
    words = lead.lower().replace(":", "").split()
    return words not in (["either"], ["both"]) and any(word in NO_UNITS for word in words)


_ALL_BUT = re.compile(
    r"(?:all|any|every)\s(?:real numbers?|reals|real values?(?: of [a-z])?|real [a-z]|x"
    r"|(?:numbers?|values?)(?: of [a-z])?)"
    r"(?:,?\s(?:except|but|other than|besides)(?:\sfor|\swhen|\sat)?\s?(.+))?",
    re.IGNORECASE,
)


def _all_but(text: str) -> Value | None:
    """``all real numbers except 3``."""
    match = _ALL_BUT.fullmatch(text)
    if match is None:
        return None
    others = read(match[1]) if match[1] else Collection(())
    others = others.value if isinstance(others, Named) else others
    return combined([EVERYTHING, others], frozenset.difference) if others else None


_LEAD = re.compile(
    r"(?:\\therefore|\\implies|\\Rightarrow|\\to(?=\s)|(?:therefore|thus|so|hence),?(?=\s)|(?:either|both)(?=\s.*\b(?:and|or)\b)"
    r"|an?(?=\s-?[\d.]+\s?(?:\\%|[a-z]{3}))|[A-Za-z]{3,}(?: [A-Za-z]{2,}){0,3}\s?:"
    r"(?=[^:]*\d[^:]*$))\s*(?=\S)",
    re.IGNORECASE,
)
_GROUPED = re.compile(r"[-+]?(?:\\currency )?[1-9]\d{0,2}(?: \d{3})+(?:\.\d+)?(?:\s*[a-zA-Z\\{}]+)?")
_CHOICE = re.compile(r"\(\s*([A-Za-z])\s*\)|([A-Z])|([a-j])\)")
_CHOICE_WORD = re.compile(
    r"(?:the\s)?(?:correct\s|right\s|best\s)?(?:answer\s)?(?:option|choice|answer|letter)(?:\s+is)?\s*:?\s*\(?([A-Za-z])\)?(?:\s*[:.,]\s*(.+))?",
    re.IGNORECASE | re.DOTALL,
)
_REASON = re.compile(r"(?:\(([A-J])\)|([A-J])[).]?),?\s+(?:because|since|as (?:it|the|this))\s.*", re.DOTALL)
_CHOICE_TEXT = re.compile(r"(?:\(([A-Ja-j])\)|([A-J])\s*[).:])\s*(?:[:.]\s*|-\s+)?(\S.*)", re.DOTALL)


def _choice(text: str) -> Value | None:
    bare = text.strip()
    bare = re.sub(r"\\text\s*\{\s*(\(?[A-Za-z]\)?\s*[.:)]?)\s*\}", r"\1 ", bare).strip()
    if match := _CHOICE.fullmatch(bare.rstrip(".:) ") if bare[:1].isupper() else bare):
        letter = match[1] or match[2] or match[3]
        return Choice(letter.upper()) if bare not in ("i", "e") else None
    if match := _CHOICE_WORD.fullmatch(re.sub(r"\\words |\\text\s*|[{}]", " ", bare).strip()):
        return Choice(match[1].upper(), read(match[2]) if match[2] else None)
    if match := _REASON.fullmatch(re.sub(r"\\words |\\text\s*|[{}]", " ", bare).strip()):
        return Choice((match[1] or match[2]).upper())
    marked = bool(re.match(r"\\text\s*\{\s*\([A-J]\)\s*\}", text.strip())) or bool(
        re.match(r"\{\s*\([A-J]\)\s*\}", bare)
    )
    bare = re.sub(r"\\text\s*\{\s*\(?([A-J])\s*(\)|:|\.)\s*([^{}]*)\}", r"\1\2 \3", bare)
    bare = re.sub(r"^\{\s*\(([A-J])\)\s*\}", r"(\1)", bare)
    if match := _CHOICE_TEXT.fullmatch(bare):
        letter, rest = match[1] or match[2], match[3]
        if re.match(r"[,&]|\\text\s*\{\s*(?:and|or|,)|(?:and|or)\b", rest):
            return None  # the first of several
        if match[1] and not marked and (match[1].islower() or _goes_on(bare[: match.start(3)], rest)):
            return None  # a product or a formula in parentheses
        value = read(rest)
        return Choice(letter.upper(), value) if value is not None else None
    return None


def _goes_on(before: str, rest: str) -> bool:
    """Whether a formula goes on behind ``(C)``; ``(C) -5`` is a choice, ``(C)-5`` and ``(C) - 5`` are none."""
    if re.match(r"[-+]\S", rest):
        return not before[-1:].isspace()
    return bool(re.match(r"[-+^*/=!_(]|\\cdot|\\cup|\\le|\\ge|<|>", rest))


def _read_words(words: str) -> Value:
    if choice := _choice(words):
        return choice
    if not re.search(r"\d", words):
        if several := _several_words(words):
            return several
        value = _as_text(words)
        if value is None:
            raise Unreadable(words)
        key = value.key if isinstance(value, Text) else ""
        if key in _NO_SOLUTION:
            return Collection(())
        if key in ("allrealnumbers", "allreals", "realnumbers"):
            return EVERYTHING
        if len(key) == 1:
            return Choice(key.upper())
        return value
    return _read(words)


def _several_words(words: str) -> Value | None:
    """``Fred and Mary`` in any order; ``Fred or Mary`` is another answer."""
    parts = re.split(r"(\s*(?:,\s*and|,\s*or|,|\band|\bor)\s+)", words)
    if len(parts) < 3 or not all(0 < len(part.split()) <= 3 for part in parts[::2]):
        return None
    values = [_read_words(part) for part in parts[::2]]
    if not all(isinstance(value, Text | Choice) for value in values):
        return None
    return Union(tuple(values)) if any("or" in mark for mark in parts[1::2]) else Collection(tuple(values))


def _only_words(text: str, tokens: list[Token]) -> Value | None:
    """Letters alone: words, or the product of variables that they may be (None)."""
    joined = [token.text for token in tokens if token.kind in ("word", "text")]
    if any(token.kind == "text" for token in tokens):
        return _read_words(re.sub(r"\\text\s*\{([^{}]*)\}", r" \1 ", text))
    if len(joined) == 1 and len(tokens) == 1:
        word = joined[0]
        if len(word) == 1:
            if word in "ie":
                return None
            return Choice(word.upper())
        if word in FUNCTIONS or word in CONSTANTS or word in GREEK:
            return None
        repeated = len(word) > 2 and len(set(word)) < len(word)  # as a product it would be a power
        if not (word.isupper() or is_word(word) or repeated or word.istitle() or len(word) > 4):
            return None
        return _read_words(word)
    if all(len(word) == 1 or word in FUNCTIONS or word in CONSTANTS or word in GREEK for word in joined):
        return None
    if any(is_word(word) for word in joined) and not any(word in FUNCTIONS for word in joined) and "-" not in text[:1]:
        if len(tokens) > len(joined) and not all(is_word(word) or len(word) < 3 for word in joined):
            return None
        return _read_words(text)
    return None


def _sentence(text: str) -> str | None:
    """The number of a sentence with one number, ``She has 18 eggs``, if a verb stands before it."""
    plain = re.sub(r"\\words |\\text\s*\{([^{}]*)\}", r" \1 ", text).strip()
    match = re.fullmatch(
        r"((?:[A-Za-z][A-Za-z'-]*,?\s+)+)(-?\s*(?:\\currency )?[\d.,]*\d(?:/\d+)?(?:\s*\\%)?)((?:\s+[A-Za-z'-]+)*)\s*",
        plain,
    )
    if match is None:
        return None
    before = [word.strip(",").lower() for word in match[1].split()]
    if before[-1] in ("exactly", "only", "just") and len(before) > 1:
        before.pop()
    if before[-1] not in VERBS or any(word in NO_UNITS - ALLOWED_IN_UNITS for word in before if word not in VERBS):
        return None
    return match[2] + match[3]


def _without_hyphens(tokens: list[Token]) -> list[Token]:
    """``7-inch`` as ``7 inch``."""
    found = list[Token]()
    for k, token in enumerate(tokens):
        after = tokens[k + 1 : k + 2]
        if token.text == "-" and not token.space and k and tokens[k - 1].kind == "number" and after and (
            after[0].kind == "word" and not after[0].space and is_word(after[0].text) and known(after[0].text)
        ) and after[0].text not in FUNCTIONS:  # fmt: skip
            tokens[k + 1] = Token("word", after[0].text, True)
        else:
            found.append(tokens[k])
    return found


def _marked(tokens: list[Token]) -> list[Token]:
    """The words and, or as separators, and the sign & outside of matrices."""
    joins = ("and", "or") if any(token.text == "\\begin" for token in tokens) else ("and", "or", "&", "\\&")
    return [
        Token("separator", token.text.lower(), True) if token.kind != "text" and token.text.lower() in joins else token
        for token in tokens
    ]


def value_of(tokens: list[Token]) -> Value:
    """The value of a list of tokens; raises Unreadable."""
    if not tokens:
        raise Unreadable("nothing")
    if tokens[0].kind != "text" and tokens[0].text in ("\\{", "{") and _closes_at_end(tokens):
        return _set(tokens[1:-1])
    if whole := _bracketed(tokens):
        return whole
    if tokens[0].text == "(" and tokens[-1].text == ")" and len(tokens) > 2 and _closes_at_end(tokens):
        return value_of(tokens[1:-1])
    if len(split(marked := _between_sets(tokens), frozenset(), ("operation",))) > 1:
        return _combined(marked)
    parts = split(tokens, frozenset((",", ";")), ("separator",))
    while len(parts) > 1 and not parts[-1][1]:
        parts.pop()
    if len(parts) > 1:
        return _list([(mark, part) for mark, part in parts if part])
    return _item(tokens)


def _closes_at_end(tokens: list[Token]) -> bool:
    depth = 0
    for index, token in enumerate(tokens):
        if token.kind != "text":
            depth += (token.text in OPENING) - (token.text in CLOSING)
        if depth == 0:
            return index == len(tokens) - 1
    return False


def _set(tokens: list[Token]) -> Value:
    if not tokens:
        return Collection(())
    bar = next((i for i, token in enumerate(tokens) if token.text in ("|", ":") and token.kind == "other"), None)
    if bar is not None and bar < len(tokens) - 1 and (bar <= 3 or tokens[1].text == "\\in"):
        return value_of(tokens[bar + 1 :])  # {x | x > 2}
    parts = [part for _, part in split(tokens, frozenset((",", ";")), ("separator",)) if part]
    if len(parts) > MAX_ITEMS:
        raise Unreadable("too many elements")
    values = list(dict.fromkeys(_item_or_nested(part) for part in parts))
    return _list([(",", part) for part in parts]) if len(values) > 1 and _are_named(values) else _collection(values)


def _are_named(values: list[Value]) -> bool:
    return all(isinstance(value, Named) for value in values)


def _item_or_nested(tokens: list[Token]) -> Value:
    return value_of(tokens) if tokens[0].text in OPENING else _item(tokens)


def _collection(values: list[Value]) -> Value:
    flat = list[Value]()
    for value in values:
        flat.extend(value.items if isinstance(value, Collection) else (value,))
    if len(flat) > MAX_ITEMS:
        raise Unreadable("too many elements")
    return flat[0] if len(flat) == 1 else Collection(tuple(flat))


def _bracketed(tokens: list[Token]) -> Value | None:
    """A tuple, an interval or a vector: brackets round all, with a comma inside."""
    first, last = tokens[0], tokens[-1]
    if (first.text == "]" and last.text in "[]") or (first.text == "[" and last.text == "["):  # ]2,5[
        parts = split(tokens[1:-1], frozenset((",", ";")))
        if len(parts) == 2 and all(part for _, part in parts):
            ends = [_expression(part) for _, part in parts]
            return interval(ends[0], ends[1], (first.text == "[", last.text == "]"))
    if first.text == "\\begin" or first.text in ("\\mathbb",):
        return _environment(tokens)
    if len(tokens) == 1 and first.text == "\\emptyset":
        return Collection(())
    pair = (first.text, last.text)
    if pair not in (("(", ")"), ("[", "]"), ("(", "]"), ("[", ")"), ("\\langle", "\\rangle"), ("<", ">")):
        return None
    if first.text == "<":
        tokens = [Token("command", "\\langle"), *tokens[1:-1], Token("command", "\\rangle")]
    if not _closes_at_end(tokens):
        return None
    inside = [part for _, part in split(tokens[1:-1], frozenset((",", ";")))]
    if len(inside) < 2 or len(inside) > MAX_ITEMS or not all(inside):
        return None
    if pair == ("[", "]") and all(part[0].text == "[" and part[-1].text == "]" for part in inside):  # [[1,2],[3,4]]
        return _matrix([[cell for _, cell in split(part[1:-1], frozenset(","))] for part in inside])
    items = tuple(value_of(part) for part in inside)
    if len(items) == 2 and ("[" in pair or "]" in pair):
        low, high = items
        if isinstance(low, Quantity) and isinstance(high, Quantity) and low.unit is None and high.unit is None:
            return interval(low.expr, high.expr, (pair[0] == "[", pair[1] == "]"))
        if pair != ("[", "]"):
            raise Unreadable("an interval of other things than numbers")
    return Sequence(items)


def _environment(tokens: list[Token]) -> Value | None:
    if tokens[0].text == "\\mathbb":
        names = "".join(token.text for token in tokens[1:])
        return EVERYTHING if names in ("{R}", "R") else None
    text = "".join(token.text for token in tokens[1:4])
    if text not in ("{pmatrix}", "{array}"):
        return None
    if [token.text for token in tokens[-4:-1]] != ["\\end", "{", text[1:-1]]:
        return None
    inside = tokens[4:-4]
    if text == "{array}" and inside and inside[0].text == "{":
        end = next((i for i, token in enumerate(inside) if token.text == "}"), 0)
        inside = inside[end + 1 :]
    rows = [part for _, part in split(inside, frozenset(("\\\\",))) if part]
    return _matrix([[cell for _, cell in split(row, frozenset("&"))] for row in rows])


def _matrix(rows: list[list[list[Token]]]) -> Value:
    entries = [[value_of(cell) for cell in row] for row in rows]
    if not entries or sum(map(len, entries)) > 100 or len({len(row) for row in entries}) != 1:
        raise Unreadable("a matrix with rows of different lengths")
    if len(entries[0]) == 1:
        return Sequence(tuple(row[0] for row in entries)) if len(entries) > 1 else entries[0][0]
    return Matrix(tuple(map(tuple, entries)))


_OPERATIONS: dict[str, Callable[[Pieces, Pieces], Pieces]] = {
    "\\cup": frozenset.union, "U": frozenset.union, "\\cap": frozenset.intersection,
    "\\setminus": frozenset.difference, "\\backslash": frozenset.difference, "-": frozenset.difference,
}  # fmt: skip


def _between_sets(tokens: list[Token]) -> list[Token]:
    """The tokens, with operations between sets as separators: ``U`` and ``-`` are some only next to brackets."""
    marked = list(tokens)
    for k, token in enumerate(tokens[1:-1], 1):
        opens = tokens[k + 1].text in ("(", "[", "{", "\\{")
        plain = token.text == "U" and token.kind == "word" and opens and tokens[k - 1].text in (")", "]", "}", "\\}")
        taken_away = token.text == "-" and tokens[k + 1].text == "\\{"
        if plain or taken_away or (token.kind == "command" and token.text in _OPERATIONS):
            marked[k] = Token("operation", token.text)
    return marked


def _combined(tokens: list[Token]) -> Value:
    """Sets with operations between them, perhaps with a name."""
    names = split(tokens, frozenset(("\\in", "=")))
    if len(names) == 2 and _name(names[0][1]) is not None:
        return _named(names[0][1], _combined(names[1][1]))
    parts = split(tokens, frozenset(), ("operation",))
    values = [_set_of(part) for _, part in parts]
    if not all(isinstance(value, Sequence | Interval | Union | Collection | Quantity) for value in values):
        raise Unreadable("an operation on other things than sets")
    operations = {_OPERATIONS[mark] for mark, _ in parts[1:]}
    if operations == {frozenset.union} and all(isinstance(value, Collection | Quantity) for value in values):
        return _collection(values)
    result: Value | None = values[0]
    for (mark, _), value in zip(parts[1:], values[1:], strict=True):
        result = combined([result, value], _OPERATIONS[mark]) if result is not None else None
    if result is None and operations == {frozenset.union}:
        return Union(tuple(values))
    if result is None:
        raise Unreadable("sets that have no order")
    return result


def _set_of(tokens: list[Token]) -> Value:
    return EVERYTHING if [token.text for token in tokens] == ["R"] else value_of(tokens)


# ----------------------------------------------------------------------------------------------------------- lists


def _list(parts: list[tuple[str, list[Token]]]) -> Value:
    if len(parts) > MAX_ITEMS:
        raise Unreadable("too many parts")
    if len(parts) == 1:
        return _item(parts[0][1])
    if compound := _compound(parts):
        return compound
    values = [value_of(part) if part[0].text in OPENING else _item(part) for _, part in parts]
    names = [value.name for value in values if isinstance(value, Named)]
    if all(isinstance(value, Named) for value in values):
        inside = [value.value for value in values if isinstance(value, Named)]
        first = values[0]
        if len(set(names)) == 1 and isinstance(first, Named):
            sets = any(isinstance(value, Interval | Sequence | Union) for value in inside)
            ranges = sets and all(
                any(token.text in _ORDER or token.text == "\\in" for token in part) for _, part in parts
            )
            value = (_both(parts, inside) if ranges else None) or (
                _joined(parts, inside) if sets else _collection(inside)
            )
            return Named(first.name, value, first.symbol)
        return Assignments(tuple(value for value in values if isinstance(value, Named)))
    if isinstance(values[0], Named) and len(names) == 1:  # x = 1, 2
        given = [values[0].value, *values[1:]]
        excluded = any(token.text == "\\ne" for token in parts[0][1])  # x is neither of them
        result = combined(given, frozenset.difference) if excluded else _joined(parts, given)
        return Named(values[0].name, result or _fail(), values[0].symbol)
    return _joined(parts, values)


def _both(parts: list[tuple[str, list[Token]]], ranges: list[Value]) -> Value | None:
    """``x > 2 and x < 5`` holds between 2 and 5, ``x < 2, x > 5`` in two ranges, as nothing is in both."""
    if all(mark != "or" for mark, _ in parts[1:]):
        common = combined(ranges, frozenset.intersection)
        if common != Collection(()):
            return common
    return combined(ranges, frozenset.union)


def _joined(parts: list[tuple[str, list[Token]]], values: list[Value]) -> Value:
    """Intervals with "or" between them are a union; all else is a list."""
    intervals = [isinstance(value, Interval | Sequence | Union) for value in values]
    if all(intervals) and all(mark == "or" for mark, _ in parts[1:]):
        flat = list[Value]()
        for value in values:
            flat.extend(value.parts if isinstance(value, Union) else (value,))
        return Union(tuple(flat))
    if any(isinstance(value, Text) and len(value.key) > 40 for value in values):
        raise Unreadable("a sentence")
    if all(isinstance(value, Text | Choice) for value in values) and any(mark == "or" for mark, _ in parts):
        return Union(tuple(values))
    return _collection(values)


def _compound(parts: list[tuple[str, list[Token]]]) -> Value | None:
    """``3 dollars and 50 cents``: each unit is smaller than the one before, of one dimension."""
    if any(mark == "or" for mark, _ in parts) or len(parts) > 3:
        return None
    values = [_try_item(part) for _, part in parts]
    if not all(isinstance(value, Quantity) and value.unit is not None and value.unit.dimension for value in values):
        return None
    return _added([value for value in values if isinstance(value, Quantity)])


def _added(values: list[Quantity]) -> Value | None:
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


def _try_item(tokens: list[Token]) -> Value | None:
    try:
        return _item(tokens)
    except Unreadable:
        return None


# ------------------------------------------------------------------------------------------------------ relations


def _item(tokens: list[Token]) -> Value:
    """One part of a list: a named value, an equation, an inequality, or a plain value."""
    parts = split(tokens, _RELATIONS)
    marks = [mark for mark, _ in parts[1:]]
    if not marks:
        return _plain(tokens)
    if any(mark in _ORDER for mark in marks):
        return _inequality(marks, [part for _, part in parts])
    if marks[0] == "\\in":
        if len(marks) > 1:
            raise Unreadable("several relations")
        value = value_of(parts[1][1])
        if not isinstance(value, Sequence | Interval | Union | Collection):
            raise Unreadable("an element of no set")
        return _named(parts[0][1], value) if _name(parts[0][1]) is not None else _fail()
    return _chain(parts)


def _fail() -> Value:
    raise Unreadable("a relation")


def _chain(parts: list[tuple[str, list[Token]]]) -> Value:
    """Sides with equality signs between them."""
    if not parts[0][1]:  # = 5
        parts = parts[1:]
    if not parts or not all(part for _, part in parts):
        raise Unreadable("a side is missing")
    if len(parts) == 1:
        return value_of(parts[0][1])
    names = list[list[Token]]()
    while len(parts) > 1 and _name(parts[0][1]) is not None:
        names.append(parts[0][1])
        parts = parts[1:]
    if len(parts) > 1:
        approximate = next((k for k, (mark, _) in enumerate(parts) if k and mark == "\\approx"), len(parts))
        parts = parts[:approximate]
    if not names and len(parts) == 2 and _name(parts[1][1]) is not None:  # 5 = x
        value = _value_or_equation([parts[0]])
        return _named(parts[1][1], value)
    if len(parts) == 1 and names and _name(names[0]):
        return _named(names[0], _side(parts[0][1]))
    value = _value_or_equation(parts)
    return _named(names[0], value) if names else value


def _side(tokens: list[Token]) -> Value:
    """One side of an equation, where a single letter is a variable."""
    if len(tokens) == 1 and tokens[0].kind == "word" and len(tokens[0].text) == 1:
        return _quantity(tokens)
    return value_of(tokens)


def _value_or_equation(parts: list[tuple[str, list[Token]]]) -> Value:
    if len(parts) == 1:
        return value_of(parts[0][1])
    values = [_side(part) for _, part in parts]
    percents = [is_percentage(value) for value in values]
    if any(percents) and not all(percents):  # 1/2 = 0.5 = 50%
        values = [
            Quantity(over(value.expr, Num(HUNDRED))) if percent and isinstance(value, Quantity) else value
            for value, percent in zip(values, percents, strict=True)
        ]
    quantities = [value for value in values if isinstance(value, Quantity)]
    if len(quantities) == len(values):
        first = quantities[0]
        if all(_holds(first.expr, other.expr) for other in quantities[1:]):
            unit = next((value.unit for value in reversed(quantities) if value.unit), None)
            return Quantity(first.expr if not _is_rough(first.expr) else quantities[-1].expr, unit)
        if len(quantities) == 2:
            return Equation(quantities[0].expr, quantities[1].expr)
        raise Unreadable("an equation of several sides")
    if all(value == values[0] for value in values):
        return values[0]
    raise Unreadable("an equation of other things than expressions")


def _is_rough(expr: Expr) -> bool:
    return isinstance(expr, Num) and expr.unit is not None


def _holds(a: Expr, b: Expr) -> bool:
    """Whether a step of a computation is right, with decimals as good as they are written."""
    if equal(a, b):
        return True
    for rough, fine in ((a, b), (b, a)):
        if isinstance(rough, Num) and rough.unit is not None and not symbols(fine) and rough.digits >= 2:
            value = numeric(fine)
            exact = rational_value(value) if value is not None else None
            if exact is not None:
                return abs(exact - rough.value) < rough.unit
    return False


_SIMPLE_NAME = re.compile(
    r"(?:[a-zA-Z]|\\[a-zA-Z]+)'*(?:\^\\?\*)?(?:_(?:\w|\{[^{}]*\}|\\[a-zA-Z]+|\{?\\text ?\{?[^{}]*\}?\}?))?'*"
    r"(?:\([^()=]*\)|\[[^\[\]=]*\])?"
)
_LONG_NAME = re.compile(
    r"m?\\(?:angle|triangle|overline|measuredangle|Delta|square) ?\{?[A-Za-z]{1,4}'?\}?|[A-Z]{2,4}'?(?:_\w)?(?:\^2)?"
    r"|\|[^|=<>,]{1,20}\||\[[A-Z]{3,6}\]|\(?(?:[a-zA-Z]|\\[a-z]+)(?:_\w)?(?:,(?:[a-zA-Z]|\\[a-z]+)(?:_\w)?)+\)"
    r"|[a-zA-Z]{2,}\([^()=]{0,30}\)"
    r"|\\(?:sin|cos|tan|cot|sec|csc)(?:\^\{?\d\}?)? ?(?:[A-Z]|\\[a-z]+|\\angle ?[A-Z]+|[a-z]|\([^()=]{1,12}\))"
    r"|[a-zA-Z]\^\{?-1\}?\([^()=]{1,20}\)|[A-Z]{2}(?:[-+][A-Z]{2}){1,4}|\\\|[^=]{1,20}\\\||\|\|[^=]{1,20}\|\|"
    r"|\([a-zA-Z](?:\\circ |\\cdot |[-+/])[a-zA-Z]\)\([^()=]*\)|\\?#\(?[A-Z]\)?|\\sigma(?:_\w)?\^\{?2\}?"
    r"|n\([A-Z]\)|\\mathbb\{E\}\[[^\[\]]*\]|[A-Za-z]\((?:[^()]|\([^()]{0,20}\)){1,40}\)|\\frac\{d[a-z]?\}\{d[a-z]\}"
)
_SUM_NAME = re.compile(r"[a-wA-W](?:[-+]?[a-wA-W]){1,5}")


def _name(tokens: list[Token]) -> str | None:
    """The name that tokens before an equality sign are: empty for one that distinguishes nothing."""
    if not tokens or len(tokens) > 30:
        return None
    if all(token.kind == "text" or (token.kind == "word" and (len(token.text) > 2 or token.text.lower() in _FILL))
           or token.text in ".,:'-#" for token in tokens):  # fmt: skip
        text = " ".join(token.text for token in tokens)
        if not (len(tokens) == 1 and tokens[0].kind == "word" and tokens[0].text.isupper()):
            return "" if not any(word in ("not", "no") for word in text.lower().split()) else None
    if any(token.text in ("\\lim", "\\int", "\\sum", "\\prod", "\\det", "\\dim") for token in tokens):
        return ""
    if tokens[0].text in _OF_VARIABLES and any(token.kind == "word" for token in tokens):
        return ""
    text = "".join(
        f" {token.text}" if token.kind in ("word", "text") and k and tokens[k - 1].kind == "command" else token.text
        for k, token in enumerate(tokens)
    )
    while "( " in text:
        text = text.replace("( ", "(")
    text = re.sub(r"^\{(\w)\}", r"\1", text)
    if text in ("i", "e", "\\pi", "\\infty"):
        return None
    if _SIMPLE_NAME.fullmatch(text) and text.removeprefix("\\") not in FUNCTIONS:
        head = text.partition("_")[0].partition("(")[0]
        if head.startswith("\\") and head[1:].rstrip("'") not in GREEK:
            return text if _LONG_NAME.fullmatch(text) else None
        return text
    if _LONG_NAME.fullmatch(text):
        return text
    if (
        _SUM_NAME.fullmatch(text)
        and not re.search("[ie]$", text)
        and len(set(re.findall("[a-zA-Z]", text))) == len(re.findall("[a-zA-Z]", text))
    ):
        return text
    if any(token.kind == "text" for token in tokens) and not any(token.kind in ("number", "sci") for token in tokens):
        return ""
    return None


_OF_VARIABLES = frozenset(("\\max", "\\min", "\\sup", "\\arg", "\\deg", "\\Re", "\\Im"))
_FILL = words("of the a an is in to at")


def _named(tokens: list[Token], value: Value) -> Value:
    name = _name(tokens) or ""
    if isinstance(value, Named):
        return value
    symbol: Expr | None = None
    if len(name) == 1 or name.removeprefix("\\") in GREEK:
        symbol = Sym(name.removeprefix("\\"))
    return Named(name, value, symbol)


_ORDER = frozenset(("<", ">", "\\le", "\\ge", "\\ne"))
_TURNED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le", "\\ne": "\\ne"}


def _inequality(marks: list[str], sides: list[list[Token]]) -> Value:
    if not all(sides):
        raise Unreadable("a side is missing")
    if len(marks) == 2 and "\\ne" not in marks:
        if {marks[0], marks[1]} <= {">", "\\ge"}:
            marks, sides = [_TURNED[mark] for mark in reversed(marks)], sides[::-1]
        if not {marks[0], marks[1]} <= {"<", "\\le"} or _name(sides[1]) is None:
            raise Unreadable("a double inequality")
        low, high = _expression(sides[0]), _expression(sides[2])
        closed = (marks[0] == "\\le", marks[1] == "\\le")
        return _named(sides[1], interval(low, high, closed))
    if len(marks) > 1:
        raise Unreadable("several relations")
    mark = marks[0]
    if _name(sides[1]) is not None and _name(sides[0]) is None:
        sides, mark = sides[::-1], _TURNED[mark]
    if mark == "\\ne" and _name(sides[0]) is not None:
        others = combined([EVERYTHING, value_of(sides[1])], frozenset.difference)
        if others is not None:
            return _named(sides[0], others)
    if _name(sides[0]) is not None and not symbols(right := _expression(sides[1])):
        closed_end = mark in ("\\le", "\\ge")
        if sides[0][0].text == "|":  # |x| < 2
            if len(sides[0]) != 3:
                raise Unreadable("the size of other things than a variable")
            near = interval(negated(right), right, (mark == "\\le" or mark == ">",) * 2)
            far = combined([EVERYTHING, near], frozenset.difference)
            return _named(sides[0][1:2], (near if mark in ("<", "\\le") else far) or _fail())
        low, high = (right, OO) if mark in (">", "\\ge") else (negated(OO), right)
        return _named(sides[0], interval(low, high, (closed_end and high == OO, closed_end and high != OO)))
    left, right = _expression(sides[0]), _expression(sides[1])
    if mark in (">", "\\ge"):
        left, right, mark = right, left, _TURNED[mark]
    return Inequality(left, right, mark)


def _expression(tokens: list[Token]) -> Expr:
    value = _quantity(tokens)
    if value.unit is not None:
        raise Unreadable("a unit in a relation")
    return value.expr


# ----------------------------------------------------------------------------------------------------- plain values

_AXES = frozenset(f"\\{axis}" for axis in AXES)


def _plain(tokens: list[Token]) -> Value:
    """An expression, perhaps with a unit; a ratio; a number in another base; an expression with two signs."""
    if tokens and tokens[0].text in ("\\approx", "="):
        tokens = tokens[1:]
    if not tokens:
        raise Unreadable("nothing")
    if whole := _bracketed(tokens):
        return whole
    if based := _based(tokens):
        return based
    if changed := _changed(tokens):
        return changed
    if any(token.text in _AXES for token in tokens):
        return _vector(tokens)
    if any(token.text in ("\\pm", "\\mp") for token in tokens):
        return _both_signs(tokens)
    if any(token.text == ":" for token in tokens):
        return _ratio(tokens)
    if all(token.kind in ("word", "text") for token in tokens) and (
        words := _only_words(" ".join(f"\\text{{{t.text}}}" if t.kind == "text" else t.text for t in tokens), tokens)
    ):
        return words
    return _quantity(tokens)


def _changed(tokens: list[Token]) -> Value | None:
    """A matrix with a factor before it, or a matrix or a vector transposed."""
    power = next((k for k, token in enumerate(tokens) if token.text == "^" and _is_turn(tokens[k + 1 :])), 0)
    if power:
        value = _bracketed(tokens[:power])
        if isinstance(value, Matrix):
            columns = tuple(zip(*value.rows, strict=True))
            return Matrix(columns) if len(columns[0]) > 1 else Sequence(tuple(column[0] for column in columns))
        column = tokens[0].text == "\\begin" and isinstance(value, Sequence)
        return Matrix((value.items,)) if column and isinstance(value, Sequence) else value
    start = next((k for k, token in enumerate(tokens) if token.text == "\\begin"), 0)
    value = _environment(tokens[start:]) if start else None
    if not isinstance(value, Matrix | Sequence):
        return None
    front = tokens[: start - 1] if tokens[start - 1].text == "\\cdot" else tokens[:start]
    if len(split(front[1:], frozenset("+-"))) > 1:
        raise Unreadable("a sum with a matrix")
    factor = MINUS_ONE if [token.text for token in front] == ["-"] else Formula(front, units=False).whole()
    if isinstance(value, Sequence):
        return Sequence(tuple(_scaled(item, factor) for item in value.items))
    return Matrix(tuple(tuple(_scaled(item, factor) for item in row) for row in value.rows))


def _is_turn(tokens: list[Token]) -> bool:
    return "".join(token.text for token in tokens).strip("{}") in ("T", "\\top", "'", "\\intercal")


def _scaled(value: Value, factor: Expr) -> Value:
    if not isinstance(value, Quantity):
        raise Unreadable("an entry that is no number")
    return Quantity(Prod((factor, value.expr)), value.unit)


def _vector(tokens: list[Token]) -> Value:
    r"""``2\mathbf{i} + \mathbf{j}``; with one of these letters alone, it is a letter."""
    used = [axis for axis in AXES if any(token.text == f"\\{axis}" for token in tokens)]
    if len(used) < 2:
        return _plain([Token("word", token.text[-1]) if token.text in _AXES else token for token in tokens])
    expr = Formula(list(tokens), units=False).whole()
    axes = AXES if "veck" in used else AXES[:2]
    nought: dict[str, Expr] = {axis: Num(Fraction(0)) for axis in AXES}
    parts = [renamed(expr, {**nought, axis: ONE}) for axis in axes]
    if equal(expr, Sum(tuple(Prod((part, Sym(axis))) for part, axis in zip(parts, axes, strict=True)))) is not True:
        raise Unreadable("no vector")
    return Sequence(tuple(Quantity(part) for part in parts))


_NAMED_BASES = {
    "two": 2, "binary": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "octal": 8, "oct": 8, "bin": 2, "nine": 9, "ten": 10,
    "decimal": 10, "eleven": 11, "twelve": 12, "sixteen": 16, "hex": 16, "hexadecimal": 16,
}  # fmt: skip


def _based(tokens: list[Token]) -> Value | None:
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


def _both_signs(tokens: list[Token]) -> Value:
    places = [k for k, token in enumerate(tokens) if token.text in ("\\pm", "\\mp") and token.kind == "command"]
    if len(places) > 3:
        raise Unreadable("too many signs")
    values = list[Value]()
    for upper in ("+", "-"):
        lower = "-" if upper == "+" else "+"
        signed = [
            Token("other", upper if token.text == "\\pm" else lower, token.space) if k in places else token
            for k, token in enumerate(tokens)
        ]
        values.append(_plain(signed))
    return _collection(values)


def _ratio(tokens: list[Token]) -> Value:
    parts = [part for _, part in split(tokens, frozenset(":"))]
    if not 2 <= len(parts) <= 6 or not all(parts):
        raise Unreadable("a colon")
    last = _quantity(parts[-1])
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


def _quantity(tokens: list[Token]) -> Quantity:
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
    if sign < 0:
        expr = negated(expr)
    if isinstance(unit, Quantity):  # 3 hours 30 minutes
        whole = _added([Quantity(expr, _first_unit(rest)), unit])
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
        return _quantity(rest[start:])
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
