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
from fractions import Fraction
from functools import lru_cache

from envs.math.answer_algebra import (
    MINUS_ONE,
    ONE,
    OO,
    Expr,
    Num,
    Prod,
    Sum,
    Sym,
    equal,
    minus,
    negated,
    numeric,
    over,
    rational_value,
    renamed,
    symbols,
)
from envs.math.answer_forms import fixed_form, plain_text
from envs.math.answer_formula import (
    ALLOWED_IN_UNITS,
    AXES,
    CLOSING,
    CONSTANTS,
    FUNCTIONS,
    NO_UNITS,
    OPENING,
    VERBS,
    Formula,
    Token,
    Unreadable,
    is_word,
    split,
    tokens_of,
    words,
)
from envs.math.answer_names import name_of, named
from envs.math.answer_quantities import added, based_number, expression, quantity, ratio
from envs.math.answer_sets import EVERYTHING, Operation, combined, interval
from envs.math.answer_text import GREEK, clean
from envs.math.answer_units import known
from envs.math.answer_values import (
    HUNDRED,
    Assignments,
    Choice,
    Collection,
    Equation,
    Inequality,
    Interval,
    Matrix,
    Named,
    Quantity,
    Sequence,
    Text,
    Union,
    Value,
    is_percentage,
)

MAX_ANSWER = 1000  # characters
MAX_ITEMS = 64  # of a list


# ----------------------------------------------------------------------------------------------------- values


_RELATIONS = frozenset(("=", "\\approx", "<", ">", "\\le", "\\ge", "\\ne", "\\in"))
_NO_SOLUTION = re.compile(
    r"(?:there(?:is|are|exists?))?no(?:real|such)?solutions?(?:exists?)?|(?:the)?(?:empty|null)set"
)


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
    plain = re.sub(r"^[\s{]*(?:an?|the)\s+(?=\S)", "", plain, flags=re.IGNORECASE)
    words = [word for word in re.findall(r"\\?[a-zA-Z]+|\d+|[^\sa-zA-Z\d]", plain) if word not in ".,;:'\"-{}"]
    key = "".join(words).casefold()
    return Text(_SYNONYMS.get(key, key)) if key else None


_SYNONYMS = {
    "doesnotexist": "dne", "limitdoesnotexist": "dne", "infinitelymanysolutions": "infinitelymany",
    "infinitesolutions": "infinitelymany", "infinitenumberofsolutions": "infinitelymany",
}  # fmt: skip


def _read(text: str) -> Value:
    if reasoned := _WITH_A_REASON.fullmatch(plain := plain_text(text)):
        return Text(reasoned[1].casefold())
    if text.startswith("\\words "):
        return _read_words(text.removeprefix("\\words "))
    if choice := _choice(text):
        return choice
    found = fixed_form(plain) or _all_but(plain)
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


_WITH_A_REASON = re.compile(
    r"(yes|no|true|false)(?:[,.;:]\s(?:because|since|as|it|they|there|the|this|that|he|she|we|you|for)|\s(?:because|since))"
    r"\s.+",
    re.IGNORECASE | re.DOTALL,
)


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
        if _NO_SOLUTION.fullmatch(key):
            return Collection(())
        if key in ("allrealnumbers", "allreals", "realnumbers"):
            return EVERYTHING
        if len(key) == 1:
            return Choice(key.upper())
        return value
    return _read(words)


def _several_words(words: str) -> Value | None:
    """``Fred and Mary`` in any order; ``Fred or Mary`` is another answer."""
    parts = re.split(r"(\s*,\s*(?:(?:and|or)\s+)?|\s+(?:and|or)\s+)", words)
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


_AMOUNTS = words(
    "total sum distance area volume height length width depth radius perimeter price cost profit speed rate amount"
    " probability value score weight mass age maximum minimum average mean"
)


def _sentence(text: str) -> str | None:
    """The number of a sentence with one number, ``She has 18 eggs``, if a verb or "a total of" stands before it."""
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
    if before[-1] == "of" and len(before) > 1 and before[-2] in _AMOUNTS:
        before[-2:] = ["is"]
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
        inside = tokens[1:-1]
        grouped = tokens[0].text == "{" and inside and inside[0].text in OPENING and _closes_at_end(inside)
        return value_of(inside) if grouped else _set(inside)
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
    if tokens[0].text == "{" and _closes_at_end(tokens):  # braces of LaTeX within those of the set
        return _set(tokens[1:-1])
    bar = next((i for i, token in enumerate(tokens) if token.text in ("|", ":") and token.kind == "other"), None)
    if bar is not None and bar < len(tokens) - 1 and (bar <= 3 or tokens[1].text == "\\in"):
        return value_of(tokens[bar + 1 :])  # {x | x > 2}
    parts = [part for _, part in split(tokens, frozenset((",", ";")), ("separator",)) if part]
    if len(parts) > MAX_ITEMS:
        raise Unreadable("too many elements")
    values = list(dict.fromkeys(_element(part) for part in parts))
    if len(values) > 1 and all(isinstance(value, Named) for value in values):
        return _list([(",", part) for part in parts])
    return Collection(tuple(values)) if any(map(_is_set, parts)) else _collection(values)


def _is_set(tokens: list[Token]) -> bool:
    """Whether an element of a list is itself a set: it stays together, and one element makes no number of it."""
    marked = tokens[0].text == "\\{" or (tokens[0].text == "{" and any(token.text == "," for token in tokens))
    return [token.text for token in tokens] == ["\\emptyset"] or (marked and _closes_at_end(tokens))


def _element(tokens: list[Token]) -> Value:
    value = value_of(tokens) if tokens[0].text in OPENING else _item(tokens)
    return Collection((value,)) if _is_set(tokens) and isinstance(value, Quantity | Choice) else value


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
            return _between(parts[0][1], parts[1][1], (first.text == "[", last.text == "]"))
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
    rows = [part for _, part in split(tokens[1:-1], frozenset(";"))]
    if pair == ("[", "]") and 1 < len(rows) < len(inside):  # [1, 2; 3, 4]
        return _matrix([[cell for _, cell in split(row, frozenset(","))] for row in rows])
    if len(inside) < 2 or len(inside) > MAX_ITEMS or not all(inside):
        return None
    if pair == ("[", "]") and all(part[0].text == "[" and part[-1].text == "]" for part in inside):  # [[1,2],[3,4]]
        return _matrix([[cell for _, cell in split(part[1:-1], frozenset(","))] for part in inside])
    if len(inside) == 2 and pair in (("(", "]"), ("[", ")")):
        return _between(inside[0], inside[1], (pair[0] == "[", pair[1] == "]"))
    if len(inside) == 2 and pair == ("[", "]") and all(isinstance(_side(part), Quantity) for part in inside):
        return _between(inside[0], inside[1], (True, True))
    return Sequence(tuple(value_of(part) for part in inside))


def _between(low: list[Token], high: list[Token], closed: tuple[bool, bool]) -> Value:
    """An interval; a unit behind one of its ends is that of both."""
    ends = quantity(low), quantity(high)
    units = {end.unit for end in ends if end.unit is not None}
    if len(units) > 1:
        raise Unreadable("an interval between two units")
    return interval(ends[0].expr, ends[1].expr, closed, units.pop() if units else None)


def _environment(tokens: list[Token]) -> Value | None:
    if tokens[0].text == "\\mathbb":
        names = "".join(token.text for token in tokens[1:])
        return EVERYTHING if names in ("{R}", "R") else None
    text = "".join(token.text for token in tokens[1:4])
    if text not in ("{pmatrix}", "{array}"):
        return None
    ends = [k for k, token in enumerate(tokens) if token.text == "\\end"]
    if [token.text for token in tokens[-4:-1]] != ["\\end", "{", text[1:-1]] or ends != [len(tokens) - 4]:
        return None
    inside = tokens[4:-4]
    if text == "{array}" and inside and inside[0].text == "{":
        end = next((i for i, token in enumerate(inside) if token.text == "}"), 0)
        inside = inside[end + 1 :]
    rows = [part for _, part in split(inside, frozenset(("\\\\",))) if part]
    return _matrix([[cell for _, cell in split(row, frozenset("&"))] for row in rows])


def _matrix(rows: list[list[list[Token]]]) -> Value:
    entries = [[_side(cell) for cell in row] for row in rows]
    if not entries or sum(map(len, entries)) > 100 or len({len(row) for row in entries}) != 1:
        raise Unreadable("a matrix with rows of different lengths")
    if len(entries[0]) == 1:
        return Sequence(tuple(row[0] for row in entries)) if len(entries) > 1 else entries[0][0]
    return Matrix(tuple(map(tuple, entries)))


_OPERATIONS: dict[str, Operation] = {
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
    if len(names) == 2 and name_of(names[0][1]) is not None:
        return named(names[0][1], _combined(names[1][1]))
    parts = split(tokens, frozenset(), ("operation",))
    values = [_set_of(part) for _, part in parts]
    if not all(isinstance(value, Sequence | Interval | Union | Collection | Quantity) for value in values):
        raise Unreadable("an operation on other things than sets")
    operations = {_OPERATIONS[mark] for mark, _ in parts[1:]}
    if operations == {frozenset.union} and all(isinstance(value, Collection | Quantity) for value in values):
        return _collection(values)
    result = combined(values, *(_OPERATIONS[mark] for mark, _ in parts[1:]))
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
    values = [_element(part) for _, part in parts]
    if any(_is_set(part) for _, part in parts) and all(isinstance(value, Collection) for value in values):
        return Collection(tuple(values))
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
    return added([value for value in values if isinstance(value, Quantity)])


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
        if not isinstance(value, Sequence | Interval | Union | Collection) and not _is_set(parts[1][1]):
            raise Unreadable("an element of no set")
        return named(parts[0][1], value) if name_of(parts[0][1]) is not None else _fail()
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
    while len(parts) > 1 and name_of(parts[0][1]) is not None:
        names.append(parts[0][1])
        parts = parts[1:]
    if len(parts) > 1:
        approximate = next((k for k, (mark, _) in enumerate(parts) if k and mark == "\\approx"), len(parts))
        parts = parts[:approximate]
    if not names and len(parts) == 2 and name_of(parts[1][1]) is not None:  # 5 = x
        value = _value_or_equation([parts[0]])
        return named(parts[1][1], value)
    if len(parts) == 1 and names and name_of(names[0]):
        return named(names[0], _side(parts[0][1]))
    value = _value_or_equation(parts)
    return named(names[0], value) if names else value


def _side(tokens: list[Token]) -> Value:
    """One side of an equation, where a single letter is a variable."""
    if len(tokens) == 1 and tokens[0].kind == "word" and len(tokens[0].text) == 1:
        return quantity(tokens)
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


_ORDER = frozenset(("<", ">", "\\le", "\\ge", "\\ne"))
_TURNED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le", "\\ne": "\\ne"}


def _inequality(marks: list[str], sides: list[list[Token]]) -> Value:
    if not all(sides):
        raise Unreadable("a side is missing")
    if len(marks) == 2 and "\\ne" not in marks:
        if {marks[0], marks[1]} <= {">", "\\ge"}:
            marks, sides = [_TURNED[mark] for mark in reversed(marks)], sides[::-1]
        if not {marks[0], marks[1]} <= {"<", "\\le"} or name_of(sides[1]) is None:
            raise Unreadable("a double inequality")
        closed = (marks[0] == "\\le", marks[1] == "\\le")
        return named(sides[1], _between(sides[0], sides[2], closed))
    if len(marks) > 1:
        raise Unreadable("several relations")
    mark = marks[0]
    if name_of(sides[1]) is not None and name_of(sides[0]) is None:
        sides, mark = sides[::-1], _TURNED[mark]
    if mark == "\\ne" and name_of(sides[0]) is not None:
        others = combined([EVERYTHING, value_of(sides[1])], frozenset.difference)
        if others is not None:
            return named(sides[0], others)
    end = quantity(sides[1])
    right = end.expr
    if name_of(sides[0]) is not None and not symbols(right):
        closed_end = mark in ("\\le", "\\ge")
        if sides[0][0].text == "|":  # |x| < 2
            if len(sides[0]) != 3 or end.unit is not None:
                raise Unreadable("the size of other things than a variable")
            near = interval(negated(right), right, (mark == "\\le" or mark == ">",) * 2)
            far = combined([EVERYTHING, near], frozenset.difference)
            return named(sides[0][1:2], (near if mark in ("<", "\\le") else far) or _fail())
        low, high = (right, OO) if mark in (">", "\\ge") else (negated(OO), right)
        return named(sides[0], interval(low, high, (closed_end and high == OO, closed_end and high != OO), end.unit))
    left, right = expression(sides[0]), expression(sides[1])
    if mark in (">", "\\ge"):
        left, right, mark = right, left, _TURNED[mark]
    return _solved(left, right, mark) or Inequality(left, right, mark)


def _solved(left: Expr, right: Expr, mark: str) -> Value | None:
    """The values for which an inequality holds that is linear in the one variable that it has."""
    difference = minus(left, right)
    names = symbols(difference)
    if len(names) != 1:
        return None
    symbol = Sym(names.pop())
    start = renamed(difference, {symbol.name: Num(Fraction(0))})
    slope = minus(renamed(difference, {symbol.name: ONE}), start)
    size = numeric(slope)
    rate = rational_value(size) if size is not None else None
    if not rate or equal(difference, Sum((start, Prod((slope, symbol))))) is not True:
        return None
    bound, closed = over(negated(start), slope), mark == "\\le"
    if mark == "\\ne":
        values = combined([EVERYTHING, Quantity(bound)], frozenset.difference)
    elif rate > 0:
        values = interval(negated(OO), bound, (False, closed))
    else:
        values = interval(bound, OO, (closed, False))
    return Named(symbol.name, values, symbol) if values is not None else None


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
    if based := based_number(tokens):
        return based
    if changed := _changed(tokens):
        return changed
    if any(token.text in _AXES for token in tokens):
        return _vector(tokens)
    if any(token.text in ("\\pm", "\\mp") for token in tokens):
        return _both_signs(tokens)
    if any(token.text == ":" for token in tokens):
        return ratio(tokens)
    if all(token.kind in ("word", "text") for token in tokens) and (
        words := _only_words(" ".join(f"\\text{{{t.text}}}" if t.kind == "text" else t.text for t in tokens), tokens)
    ):
        return words
    return quantity(tokens)


def _changed(tokens: list[Token]) -> Value | None:
    """A sum of matrices with factors, or a matrix or a vector transposed."""
    power = next((k for k, token in enumerate(tokens) if token.text == "^" and _is_turn(tokens[k + 1 :])), 0)
    if power:
        value = _bracketed(tokens[:power])
        if isinstance(value, Matrix):
            columns = tuple(zip(*value.rows, strict=True))
            return Matrix(columns) if len(columns[0]) > 1 else Sequence(tuple(column[0] for column in columns))
        column = tokens[0].text == "\\begin" and isinstance(value, Sequence)
        return Matrix((value.items,)) if column and isinstance(value, Sequence) else value
    if not any(token.text == "\\begin" for token in tokens):
        return None
    terms = [_multiple(mark, term) for mark, term in split(tokens, frozenset("+-")) if term]
    if len({tuple(map(len, rows)) for rows in terms}) > 1:
        raise Unreadable("a sum of matrices of different sizes")
    rows = [
        [Sum(cells) if len(cells) > 1 else cells[0] for cells in zip(*row, strict=True)]
        for row in zip(*terms, strict=True)
    ]
    entries = tuple(tuple(map(Quantity, row)) for row in rows)
    return Matrix(entries) if len(entries[0]) > 1 else Sequence(tuple(row[0] for row in entries))


def _multiple(mark: str, tokens: list[Token]) -> list[list[Expr]]:
    """The entries of a matrix with a sign and factors before or behind it."""
    start = next((k for k, token in enumerate(tokens) if token.text == "\\begin"), len(tokens))
    end = next((k for k in range(start, len(tokens)) if tokens[k].text == "\\end"), len(tokens)) + 4
    value = _environment(tokens[start:end]) if start < len(tokens) else None
    if not isinstance(value, Matrix | Sequence):
        raise Unreadable("a sum of a matrix and a number")
    factors: list[Expr] = [MINUS_ONE] if mark == "-" else []
    for part in (tokens[:start], tokens[end:]):
        bare = [token for k, token in enumerate(part) if token.text != "\\cdot" or 0 < k < len(part) - 1]
        factors += [Formula(bare, units=False).whole()] if bare else []
    rows = value.rows if isinstance(value, Matrix) else tuple((item,) for item in value.items)
    return [[Prod((*factors, _plain_number(cell))) for cell in row] for row in rows]


def _plain_number(value: Value) -> Expr:
    if not isinstance(value, Quantity) or value.unit is not None:
        raise Unreadable("an entry that is no number")
    return value.expr


def _is_turn(tokens: list[Token]) -> bool:
    return "".join(token.text for token in tokens).strip("{}") in ("T", "\\top", "'", "\\intercal")


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
