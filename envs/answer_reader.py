r"""Reads an answer into one typed value (`envs.answer_values`), by its own text alone and in bounded time.

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
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from envs.answer_algebra import (
    E, I, MINUS_ONE, ONE, OO, PI, Call, Const, Expr, Num, Pow, Prod, Sum, Sym, children, equal, negated, numeric, over, rational_value,
    renamed, symbols, times, walk,
)  # fmt: skip
from envs.answer_text import GREEK, clean, unwrapped
from envs.answer_units import LETTERS, Unit, known, read_unit
from envs.answer_values import (
    HUNDRED, Assignments, Based, Choice, Collection, Equation, Inequality, Interval, Matrix, Named, Quantity, Ratio,
    Sequence, Text, Union, Value, is_percentage,
)  # fmt: skip

MAX_ANSWER = 1000  # characters
MAX_DIGITS = 400  # of a number as it is written
MAX_DEPTH = 40  # of nested brackets
MAX_ITEMS = 64  # of a list
SIGNIFICANT = 6  # digits from which on a decimal may stand for the number that it is rounded from


class Unreadable(ValueError):
    """A text that is no value of the kind that was tried."""


# -------------------------------------------------------------------------------------------------------------- words

FUNCTIONS = {
    "sin": "sin", "cos": "cos", "tan": "tan", "cot": "cot", "sec": "sec", "csc": "csc", "cosec": "csc", "sinh": "sinh",
    "cosh": "cosh", "tanh": "tanh", "arcsin": "arcsin", "arccos": "arccos", "arctan": "arctan", "asin": "arcsin",
    "acos": "arccos", "atan": "arctan", "ln": "ln", "log": "log", "lg": "log", "exp": "exp", "gcd": "gcd", "lcm": "lcm",
    "cis": "cis", "max": "max", "min": "min", "Re": "re", "Im": "im",
}  # fmt: skip
_INVERSES = {"sin": "arcsin", "cos": "arccos", "tan": "arctan"}
_CONSTANTS = {"pi": PI, "infty": OO, "infinity": OO, "inf": OO, "oo": OO, "imath": I}
_MULTIPLES = {
    "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "quadrillion": 10**15,
    "quintillion": 10**18, "lakh": 10**5, "crore": 10**7, "dozen": 12, "ten": 10, "gross": 144, "score": 20,
}  # fmt: skip
_PARTS = {
    "half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8,
    "ninth": 9, "tenth": 10, "eleventh": 11, "twelfth": 12, "sixteenth": 16, "twentieth": 20, "hundredth": 100,
    "thousandth": 1000, "millionth": 10**6, "billionth": 10**9,
}  # fmt: skip
_NO_UNITS = frozenset(
    "and or not no nor anything something nothing than plus minus times by to the power over choose mod modulo if except "
    "but unless any other both either neither is are was equals equal maybe about approximately around infinity "
    "infinities factorial negative positive remainder base squares cubes roots root power powers inverse reciprocal bar prime choose twice double triple st nd rd th "
    "january february march april may june july august september october november december jan feb mar apr jun jul aug "
    "sept oct nov dec"
    .split()
)  # fmt: skip
_ALLOWED_IN_UNITS = frozenset("to the is by than over".split())
_LITTLE_WORDS = frozenset("no on up in at by so do go me he we us it an am is to of my".split())
_SEPARATORS = frozenset(("and", "or", "&"))
_VERBS = frozenset(
    "has have had is are was were be gets get got makes make made earns earn earned needs need needed spends spend spent "
    "pays pay paid costs cost sells sell sold left remain remains eats eat ate takes take took equals equal gives give "
    "gave totals used uses use buys buy bought reads read wrote runs ran walks walked total saves save saved weighs "
    "weigh drove drives lasts contains contain holds hold".split()
)  # fmt: skip
_FREE_WORDS = frozenset("exactly only just therefore thus so hence answer result value now total then precisely".split())


def is_word(letters: str) -> bool:
    """Whether a run of letters is a word and not a product of variables."""
    small = letters.lower()
    if len(letters) < 3:
        return small in _LITTLE_WORDS
    ordered = sorted(small)
    run = all(ord(b) - ord(a) in (0, 1) for a, b in zip(ordered, ordered[1:], strict=False))
    return not run and bool(re.search("[aeiouy]", small)) and bool(re.search("[^aeiou]", small))


# ------------------------------------------------------------------------------------------------------------- tokens


@dataclass(frozen=True)
class Token:
    """A piece of LaTeX: a number, a word, a command, the words in a ``\\text``, or one character."""

    kind: str
    text: str
    space: bool = False


_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<sci>(?:\d+(?:\.\d*)?|\.\d+)[eE][-+]?\d+(?![\d.]))
    |(?P<number>\d{1,3}(?:\\thousands\ ?\d{3})+(?:\.\d+)?|\d+\.\d+|\.\d+|\d+\.(?!\d)|\.(?=\s*\\(?:overline|dot\b))|\d+)
    |(?P<command>\\[a-zA-Z]+|\\.)
    |(?P<word>[a-zA-Z]+)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_LINE_OVER = re.compile(r"\s*\\(?:overline|dot)\b")
_GROUPS = re.compile(r"(?<![\d.])[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?(?![\d]|,\d)")
_OPENING = {"(", "[", "\\{", "\\langle", "\\lfloor", "\\lceil", "{"}
_CLOSING = {")", "]", "\\}", "\\rangle", "\\rfloor", "\\rceil", "}"}


def tokens_of(text: str) -> list[Token]:
    """The tokens of a clean text; raises Unreadable for nesting beyond MAX_DEPTH."""
    found, depth, index, space = list[Token](), 0, 0, False
    while index < len(text):
        if not depth and (group := _GROUPS.match(text, index)) and (not found or found[-1].text != "." or space):
            found.append(Token("number", group[0].replace(",", ""), space))
            index, space = group.end(), False
            continue
        match = _TOKEN.match(text, index)
        if match is None:
            raise Unreadable(text)
        index, kind, piece = match.end(), str(match.lastgroup), match[0]
        if kind == "space":
            space = True
            continue
        if piece in (r"\text", r"\words") and kind == "command":
            content, index = _text_argument(text, index, piece)
            found.extend(_text_tokens(content, space))
            space = True
            continue
        if kind == "number":
            piece = re.sub(r"\\thousands ?", "", piece)
            if not _LINE_OVER.match(text, index):
                piece = piece.rstrip(".")
        depth += (piece in _OPENING and piece != "{") - (piece in _CLOSING and piece != "}")
        depth = max(depth, 0)
        if depth > MAX_DEPTH:
            raise Unreadable(text)
        found.append(Token(kind, piece, space))
        space = False
    return found


def _text_argument(text: str, index: int, command: str) -> tuple[str, int]:
    if command == r"\words":
        return text[index:].strip(), len(text)
    match = re.compile(r"\s*\{").match(text, index)
    if match is None:
        return "", index
    depth, end = 1, match.end()
    while end < len(text) and depth:
        depth += (text[end] == "{") - (text[end] == "}")
        end += 1
    return text[match.end() : end - 1], end


def _text_tokens(content: str, space: bool) -> list[Token]:
    r"""What is in a ``\text``: a separator, numbers, or words."""
    stripped = content.strip()
    bare = stripped.strip(",. ").lower()
    if bare in _SEPARATORS:
        return [Token("separator", bare, True)]
    if stripped in ("i", "e", "d", "I", "j") and not re.search(r"\s", content):
        return [Token("word", stripped, space)]
    if not stripped:
        return []
    if stripped in FUNCTIONS and stripped not in ("min", "max", "sec"):
        return [Token("command", f"\\{stripped}", space)]
    if re.search(r"\d|[()]", stripped) and re.fullmatch(r"[-\d\s.,()a-zA-Z:/$'%+]*", stripped):
        return [Token(each.kind, each.text, each.space or not k) for k, each in enumerate(tokens_of(stripped))]
    if stripped in ("\\%", "%"):
        return [Token("command", "\\%", space)]
    return [Token("text", stripped, space)]


def split(tokens: list[Token], marks: frozenset[str], kinds: tuple[str, ...] = ()) -> list[tuple[str, list[Token]]]:
    """The parts between marks outside of all brackets, each with the mark before it."""
    parts: list[tuple[str, list[Token]]] = [("", [])]
    depth, bars = 0, False
    for index, token in enumerate(tokens):
        if token.text in _OPENING and token.kind != "text":
            depth += 1
        elif token.text in _CLOSING and token.kind != "text":
            depth -= 1
        elif token.text == "|" and not depth:
            bars = not bars
        if depth <= 0 and not bars and (token.kind in kinds or (token.kind != "text" and token.text in marks)):
            if token.text == "|" or index < 0:
                continue
            parts.append((token.text, []))
        else:
            parts[-1][1].append(token)
    return parts


# -------------------------------------------------------------------------------------------------------- expressions


class Formula:
    """A parser of expressions: recursive descent over tokens."""

    def __init__(self, tokens: list[Token], units: bool = True) -> None:
        self.tokens = tokens
        self.index = 0
        self.depth = 0
        self.units = units  # whether letters may be a unit
        self.plain = False  # whether what was read is a number as it is written

    def peek(self, ahead: int = 0) -> Token | None:
        """A token to come."""
        index = self.index + ahead
        return self.tokens[index] if index < len(self.tokens) else None

    def text(self, ahead: int = 0) -> str:
        """The text of a token to come that is no ``\\text``."""
        token = self.peek(ahead)
        return token.text if token is not None and token.kind != "text" else ""

    def take(self, text: str) -> None:
        """Go past a token; raises Unreadable where another one stands."""
        if self.text() != text:
            raise Unreadable(f"{text} expected")
        self.index += 1

    def whole(self) -> Expr:
        """The expression that all tokens make."""
        expr = self.sum()
        if self.peek() is not None:
            raise Unreadable("something behind an expression")
        return expr

    # ------------------------------------------------------------------------------------------------- precedence

    def sum(self) -> Expr:
        """Terms with signs."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("too deep")
        terms = [self._signed()]
        while self.text() in ("+", "-"):
            self.plain = False
            terms.append(self._signed())
        self.depth -= 1
        return terms[0] if len(terms) == 1 else Sum(tuple(terms))

    def _signed(self) -> Expr:
        sign = 1
        while self.text() in ("+", "-"):
            sign = -sign if self.text() == "-" else sign
            self.index += 1
        term = self.product()
        return negated(term) if sign < 0 else term

    def product(self) -> Expr:
        """Factors, written side by side or with a sign between them."""
        start = self.index
        result = self.power()
        self.plain = isinstance(result, Num) and all(token.kind == "number" for token in self.tokens[start : self.index])
        literal = self.plain
        factors = 1
        while (token := self.peek()) is not None:
            if token.text == "\\cdot" and token.kind == "command":
                self.index += 1
                result = times(result, self._factor())
            elif token.text == "/" and token.kind == "other":
                if self.peek(1) is not None and self._begins_unit(self.peek(1), numeric_so_far(result), literal):
                    break
                self.index += 1
                result = over(result, self._factor())
            elif token.text in ("\\bmod", "\\mod", "\\pmod"):
                raise Unreadable("a congruence")
            elif self._begins_factor(token) and not self._begins_unit(token, numeric_so_far(result), literal):
                if token.kind in ("number", "sci") and (factors > 0 and self.tokens[self.index - 1].kind in ("number", "sci")):
                    mixed = self._mixed(result)
                    if mixed is None:
                        raise Unreadable("two numbers side by side")
                    result = mixed
                    continue
                if token.kind in ("number", "sci") and not (token.space is False and self.text(-1) in (")", "}")):
                    if self.tokens[self.index - 1].kind == "number":
                        raise Unreadable("two numbers side by side")
                if token.text == "\\frac" and literal and isinstance(result, Num) and result.value.denominator == 1:
                    part = self.power()
                    value = ratio_of(part)
                    if value is not None and 0 < value < 1:
                        result, literal = Num(result.value + value), False
                        self.plain = True
                        continue
                    result = times(result, part)
                else:
                    result = times(result, self.power())
            else:
                break
            factors += 1
            self.plain = literal = False
        return result

    def _mixed(self, whole: Expr) -> Expr | None:
        """``137 1/2``."""
        if (
            isinstance(whole, Num) and whole.value.denominator == 1
            and self.text(1) == "/" and (bottom := self.peek(2)) is not None and bottom.kind == "number"
            and self.peek() is not None
        ):  # fmt: skip
            top = self.tokens[self.index]
            if top.text.isdigit() and bottom.text.isdigit() and 0 < int(top.text) < int(bottom.text):
                self.index += 3
                return Num(whole.value + Fraction(int(top.text), int(bottom.text)))
        return None

    def _factor(self) -> Expr:
        sign = 1
        while self.text() in ("+", "-"):
            sign = -sign if self.text() == "-" else sign
            self.index += 1
        factor = self.power()
        return negated(factor) if sign < 0 else factor

    def _begins_factor(self, token: Token) -> bool:
        if token.kind in ("number", "sci", "word"):
            return True
        if token.kind == "command":
            name = token.text[1:]
            return (
                name in ("frac", "sqrt", "binom", "dbinom", "tbinom", "cbrt", "lfloor", "lceil", "overline", "mathbb", "begin")
                or name in FUNCTIONS or name in _CONSTANTS or name in GREEK
            ) and name != "mathbb"  # fmt: skip
        return token.kind == "other" and token.text in "([{" or (token.text == "|" and self._bar_opens())

    def _bar_opens(self) -> bool:
        return False

    def _begins_unit(self, token: Token | None, numeric: bool, literal: bool) -> bool:
        """Whether letters behind what was read are a unit (see the head of this file)."""
        if token is None or not self.units or self.depth > 1:
            return False
        if token.kind == "text":
            return True
        if self.text() == "\\frac" and numeric and _fraction_of_units(self.tokens[self.index :]):
            return True
        if self.text() == "(" and numeric and token.space:  # 42 (dollars)
            end = next((k for k in range(self.index, len(self.tokens)) if self.tokens[k].text == ")"), 0)
            inside = self.tokens[self.index + 1 : end]
            return bool(inside) and all(each.kind in ("word", "text") and len(each.text) > 2 for each in inside)
        if token.kind != "word" or not numeric:
            return False
        word, behind = token.text, self.index > 0 and self.tokens[self.index - 1].kind in ("number", "sci")
        minutes = word == "min" and self.text(1) not in ("(", "\\{", "_")
        if (word in FUNCTIONS and not minutes) or word in _CONSTANTS or word in GREEK:
            return False
        if self.text() == "/":
            return known(word) or is_word(word)
        if len(word) == 1:
            following = self.tokens[self.index + 1] if self.index + 1 < len(self.tokens) else None
            apart = following is None or following.text in ("/", "^")
            return word in LETTERS and token.space and literal and behind and apart
        if word.lower() in ("am", "pm") or (word.lower() in ("sq", "cu", "fl") and token.space):
            return True
        if known(word):
            return token.space or len(word) > 3 or word in _ATTACHED
        return (token.space and is_word(word)) or word.lower() in _MULTIPLES or word.lower().rstrip("s") in _PARTS

    # ----------------------------------------------------------------------------------------------------- powers

    def power(self) -> Expr:
        """A primary with what stands behind it: powers, factorials, degrees."""
        base = self.primary()
        while True:
            text = self.text()
            if text == "^":
                self.index += 1
                base = Pow(base, self._exponent())
            elif text == "!":
                self.index += 1
                if self.text() == "!":
                    raise Unreadable("a double factorial")
                base = Call("factorial", (base,))
            elif text == "\\degree" and not self.units:
                self.index += 1
                base = Prod((base, PI, Num(Fraction(1, 180))))
            else:
                return base

    def _exponent(self) -> Expr:
        if self.text() == "{":
            return self.group()
        if self.text() in ("-", "+"):
            sign = self.text()
            self.index += 1
            inner = self.power()
            return negated(inner) if sign == "-" else inner
        token = self.peek()
        if token is not None and token.kind == "number" and len(token.text) > 1 and not token.space:
            self.index += 1
            return number_of(token.text)
        if token is not None and token.kind == "word" and len(token.text) > 1 and token.text not in _CONSTANTS:
            self._split_word(token)
        inner = self.primary()
        if self.text() == "^":  # 2^3^2 is 2^(3^2)
            self.index += 1
            return Pow(inner, self._exponent())
        return inner

    def _split_word(self, token: Token) -> None:
        letters = [Token("word", letter, token.space and not k) for k, letter in enumerate(token.text)]
        self.tokens[self.index : self.index + 1] = letters

    def group(self) -> Expr:
        """What is in braces, or the one token that LaTeX takes without them."""
        token = self.peek()
        if token is None:
            raise Unreadable("an argument is missing")
        if token.text == "{" and token.kind == "other":
            inside, self.index = self._enclosed("{", "}")
            return Formula(inside, units=False)._inner(self.depth)
        if token.kind == "number":  # \frac12
            self.tokens[self.index : self.index + 1] = [
                Token("number", digit, token.space and not k) for k, digit in enumerate(token.text)
            ]
            if not token.text[0].isdigit():
                raise Unreadable("a decimal without braces")
        elif token.kind == "word" and len(token.text) > 1 and token.text not in _CONSTANTS:
            self._split_word(token)
        return self.primary()

    def _inner(self, depth: int) -> Expr:
        self.depth = depth
        return self.whole()

    def _enclosed(self, opening: str, closing: str) -> tuple[list[Token], int]:
        depth, index = 0, self.index
        while index < len(self.tokens):
            token = self.tokens[index]
            if token.kind != "text":
                depth += (token.text == opening) - (token.text == closing)
            if not depth:
                return self.tokens[self.index + 1 : index], index + 1
            index += 1
        raise Unreadable("a bracket is not closed")

    # ---------------------------------------------------------------------------------------------------- primary

    def primary(self) -> Expr:
        """A number, a letter, a function or what is in brackets."""
        token = self.peek()
        if token is None or token.kind in ("text", "separator"):
            raise Unreadable("an expression is missing")
        if token.kind in ("number", "sci"):
            return self._number(token)
        if token.kind == "word":
            return self._word(token)
        if token.kind == "command":
            return self._command(token.text[1:])
        if token.text in ("(", "[", "{"):
            closing = {"(": ")", "[": "]", "{": "}"}[token.text]
            inside, after = self._enclosed(token.text, closing)
            expr = Formula(inside, units=False)._inner(self.depth)
            self.index = after
            return expr
        if token.text == "|":
            inside, after = self._bars()
            expr = Call("abs", (Formula(inside, units=False)._inner(self.depth),))
            self.index = after
            return expr
        raise Unreadable(f"{token.text} in an expression")

    def _bars(self) -> tuple[list[Token], int]:
        for index in range(self.index + 1, len(self.tokens)):
            if self.tokens[index].text == "|":
                return self.tokens[self.index + 1 : index], index + 1
        raise Unreadable("a bar is not closed")

    def _number(self, token: Token) -> Expr:
        self.index += 1
        text = token.text
        if self.text() in ("\\overline", "\\dot"):
            return self._repeating(text)
        if self.text() == "\\ldots" and "." in text:
            self.index += 1
            return _continued(text)
        if self.text() == "_":
            raise Unreadable("a number in another base")
        return number_of(text)

    def _repeating(self, text: str) -> Expr:
        r"""``0.1\overline{23}``, ``0.\dot{1}2\dot{3}``."""
        if "." not in text:
            raise Unreadable("a line over digits")
        repeated, dots = "", 0
        while (name := self.text()) in ("\\overline", "\\dot") or (dots == 1 and self.peek() is not None):
            if name in ("\\overline", "\\dot"):
                self.index += 1
                dots += 1 if name == "\\dot" else 0
                inside, self.index = self._enclosed("{", "}")
                repeated += "".join(token.text for token in inside)
            elif (token := self.peek()) is not None and token.kind == "number" and not token.space:
                repeated += token.text
                self.index += 1
            else:
                break
            if name == "\\overline" or dots == 2:
                break
        if not repeated.isdigit() or len(repeated) + len(text) > MAX_DIGITS:
            raise Unreadable("what is repeated is no digits")
        return _with_period(text, repeated)

    def _word(self, token: Token) -> Expr:
        word = token.text
        if word in FUNCTIONS and len(word) > 1:
            return self._function(word)
        if word == "sqrt" or word == "cbrt":
            return self._command(word)
        if word in _CONSTANTS:
            self.index += 1
            return _CONSTANTS[word]
        if word in GREEK:
            self.index += 1
            return self._symbol(word)
        if len(word) > 1:
            head = next((name for name in ("sqrt", "pi") if word.startswith(name) or word.endswith(name)), None)
            if head == "pi" and len(word) == 3 and word.startswith("pi"):
                self.tokens[self.index : self.index + 1] = [Token("word", "pi", token.space), Token("word", word[2:])]
                return self.primary()
            if len(word) > 12 or (len(word) > 3 and is_word(word)):
                raise Unreadable("a word in a formula")
            self._split_word(token)
            return self.primary()
        self.index += 1
        if word == "i" and self.text() not in ("_", "'"):
            return I
        if word == "e" and self.text() not in ("_", "'"):
            return E
        return self._symbol(word)

    def _symbol(self, name: str) -> Expr:
        """A variable with its primes, its subscript and, for the usual names of functions, its argument."""
        while self.text() == "'":
            name += "'"
            self.index += 1
        if self.text() == "_":
            self.index += 1
            name += "_" + self._subscript()
        if name[0] in "fghFGHP" and self.text() == "(" and len(name.rstrip("'")) == 1:
            inside, after = self._enclosed("(", ")")
            arguments = [Formula(part, units=False)._inner(self.depth) for _, part in split(inside, frozenset(","))]
            self.index = after
            return Call(f"apply {name}", tuple(arguments))
        return Sym(name)

    def _subscript(self) -> str:
        token = self.peek()
        if token is None:
            raise Unreadable("a subscript is missing")
        if token.text == "{" and token.kind == "other":
            inside, self.index = self._enclosed("{", "}")
            return "".join(each.text for each in inside)
        if token.kind == "word" and len(token.text) > 1 or token.kind == "number" and len(token.text) > 1:
            self.tokens[self.index : self.index + 1] = [
                Token(token.kind, token.text[0]), Token(token.kind, token.text[1:])
            ]  # fmt: skip
            token = self.tokens[self.index]
        self.index += 1
        return token.text

    def _command(self, name: str) -> Expr:
        self.index += 1
        if name == "frac":
            top = self.group()
            return over(top, self.group())
        if name in ("sqrt", "cbrt"):
            index: Expr = Num(Fraction(3 if name == "cbrt" else 2))
            if self.text() == "[":
                inside, self.index = self._enclosed("[", "]")
                index = Formula(inside, units=False)._inner(self.depth)
            inner = self.primary() if self.text() == "(" else self.group()
            return Pow(inner, Pow(index, MINUS_ONE) if not isinstance(index, Num) else _inverse(index))
        if name in ("binom", "dbinom", "tbinom"):
            top = self.group()
            return Call("binomial", (top, self.group()))
        if name in ("lfloor", "lceil"):
            closing = "\\rfloor" if name == "lfloor" else "\\rceil"
            self.index -= 1
            inside, after = self._enclosed("\\" + name, closing)
            expr = Call("floor" if name == "lfloor" else "ceil", (Formula(inside, units=False)._inner(self.depth),))
            self.index = after
            return expr
        if name == "overline":
            return Call("conj", (self.group(),))
        if name in FUNCTIONS:
            self.index -= 1
            return self._function(name)
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        if name in GREEK:
            return self._symbol(name.removeprefix("var"))
        raise Unreadable(f"the command {name}")

    def _function(self, word: str) -> Expr:
        r"""``\sin^2 x``, ``\log_2 8``, ``\max(1, 2)``."""
        self.index += 1
        name, base, exponent = FUNCTIONS[word], None, None
        if self.text() == "_":
            self.index += 1
            base = self.group()
        if self.text() == "^":
            self.index += 1
            exponent = self._exponent()
            if exponent == MINUS_ONE or exponent == Prod((MINUS_ONE, ONE)):
                if name not in _INVERSES:
                    raise Unreadable("the inverse of a function")
                name, exponent = _INVERSES[name], None
        if self.text() == "_" and base is None:
            self.index += 1
            base = self.group()
        arguments = self._arguments(name)
        result = self._applied(name, base, arguments)
        return result if exponent is None else Pow(result, exponent)

    def _arguments(self, name: str) -> tuple[Expr, ...]:
        if self.text() in ("(", "["):
            closing = ")" if self.text() == "(" else "]"
            inside, after = self._enclosed(self.text(), closing)
            parts = [Formula(part, units=False)._inner(self.depth) for _, part in split(inside, frozenset(","))]
            if after < len(self.tokens) and self.tokens[after].text in ("^",) and name not in ("max", "min"):
                self.index = after  # sin(x)^2
                return tuple(parts)
            self.index = after
            return tuple(parts)
        if self.text() == "{" or self.text() == "\\{":
            closing = "}" if self.text() == "{" else "\\}"
            inside, self.index = self._enclosed(self.text(), closing)
            return tuple(Formula(part, units=False)._inner(self.depth) for _, part in split(inside, frozenset(",")))
        factors = [self._plain_factor()]
        while (token := self.peek()) is not None and self._begins_factor(token) and not self._names_function(token):
            if token.text in ("(", "["):
                break
            factors.append(self._plain_factor())
        result = factors[0] if len(factors) == 1 else Prod(tuple(factors))
        if self.text() == "/" and (after := self.peek(1)) is not None and after.kind == "number":
            self.index += 1
            result = over(result, self._plain_factor())
        return (self._degrees(result),)

    def _degrees(self, expr: Expr) -> Expr:
        if self.text() == "\\degree":
            self.index += 1
            return Prod((expr, PI, Num(Fraction(1, 180))))
        return expr

    def _plain_factor(self) -> Expr:
        return self._factor()

    @staticmethod
    def _names_function(token: Token) -> bool:
        return token.text.removeprefix("\\") in FUNCTIONS and len(token.text) > 1

    @staticmethod
    def _applied(name: str, base: Expr | None, arguments: tuple[Expr, ...]) -> Expr:
        if name in ("ln", "log", "exp") and len(arguments) != 1:
            raise Unreadable("a function of several arguments")
        if name == "log":
            if base is not None:
                return over(Call("ln", arguments), Call("ln", (base,)))
            return Prod((Call("ln", arguments), Sym("1/ln(base)")))  # of a base that is not named
        if base is not None:
            raise Unreadable("a subscript of a function")
        if name == "exp":
            return Pow(E, arguments[0])
        if name == "cis":
            return Sum((Call("cos", arguments), Prod((I, Call("sin", arguments)))))
        return Call(name, arguments)


def _fraction_of_units(tokens: list[Token]) -> tuple[list[Token], list[Token], int] | None:
    r"""What stands in ``\frac{\text{m}}{\text{s}}``, and how many tokens it is."""
    groups, index = list[list[Token]](), 1
    for _ in range(2):
        if index >= len(tokens) or tokens[index].text != "{" or tokens[index].kind == "text":
            return None
        end = next((k for k in range(index, len(tokens)) if tokens[k].text == "}" and tokens[k].kind != "text"), None)
        if end is None:
            return None
        groups.append(tokens[index + 1 : end])
        index = end + 1
    both = groups[0] + groups[1]
    named = any(token.kind == "text" or (token.kind == "word" and len(token.text) > 1 and known(token.text)) for token in both)
    if not named or not all(token.kind in ("text", "word", "number") or token.text in "^" for token in both):
        return None
    return groups[0], groups[1], index


_ATTACHED = frozenset("cm mm km kg mg ml mL ft lb lbs oz mph kph hr hrs min mins sec gal yd yds USD kWh kW".split())


def _inverse(index: Num) -> Expr:
    if not index.value:
        raise Unreadable("a root of index zero")
    return Num(1 / index.value)


def numeric_so_far(expr: Expr) -> bool:
    """Whether an expression has no variable."""
    return not symbols(expr)


def ratio_of(expr: Expr) -> Fraction | None:
    """The value of a quotient of two numbers as they are written."""
    match expr:
        case Num(value):
            return value
        case Prod((Num(top), Pow(Num(bottom), Num(power)))) if power == -1 and bottom:
            return top / bottom
        case Prod((Num(sign), *rest)) if sign == -1 and rest:
            value = ratio_of(rest[0] if len(rest) == 1 else Prod(tuple(rest)))
            return None if value is None else -value
    return None


def number_of(text: str) -> Num:
    """A number as it is written, with the value of its last digit if it is a decimal."""
    if len(text) > MAX_DIGITS:
        raise Unreadable("too many digits")
    mantissa, _, power = text.lower().partition("e")
    if power and abs(int(power)) > MAX_DIGITS:
        raise Unreadable("too large a power of ten")
    scale = Fraction(10) ** int(power or 0)
    places = len(mantissa.partition(".")[2])
    digits = len(mantissa.replace(".", "").lstrip("0"))
    value = Fraction(mantissa) * scale
    return Num(value, scale / 10**places if places else None, digits if places else 0)


def _with_period(text: str, period: str) -> Num:
    before, _, after = text.partition(".")
    start = Fraction(f"{before or '0'}.{after or '0'}")
    return Num(start + Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(after)))


def _continued(text: str) -> Num:
    """``0.333...`` has a period if its digits end in three times the same, or twice the same two or more."""
    after = text.partition(".")[2]
    for length in range(1, 13):
        times = 3 if length == 1 else 2
        period = after[len(after) - length :]
        if len(after) >= times * length and after.endswith(period * times):
            start = after
            while start.endswith(period):
                start = start[: len(start) - length]
            return _with_period(f"{text.partition('.')[0]}.{start}", period)
    value = number_of(text)
    return Num(value.value, value.unit, max(value.digits, 0))


# ----------------------------------------------------------------------------------------------------- values


_RELATIONS = frozenset(("=", "\\approx", "<", ">", "\\le", "\\ge", "\\ne", "\\in"))
_EVERYTHING = Sequence((Quantity(negated(OO)), Quantity(OO)))
_NO_SOLUTION = frozenset("nosolution nosolutions norealsolution norealsolutions emptyset nullset".split())


@lru_cache(maxsize=1 << 14)
def read(answer: str) -> Value | None:
    """The value of an answer; `Text` where it is no mathematics; None for one that is empty or too long."""
    if len(answer) > MAX_ANSWER:
        return None
    text = clean(answer)
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
    return Text(key) if key else None


def _read(text: str) -> Value:
    if text.startswith("\\words "):
        return _read_words(text.removeprefix("\\words "))
    if choice := _choice(text):
        return choice
    if sentence := _sentence(text):
        return _read(sentence)
    if _GROUPED.fullmatch(text):
        text = re.sub(r"(?<=\d) (?=\d{3}(?!\d))", "", text)
    tokens = _marked(tokens_of(text))
    if not tokens:
        raise Unreadable(text)
    if all(token.kind in ("word", "text") or token.text in "'-." for token in tokens):
        word = _only_words(text, tokens)
        if word is not None:
            return word
    return value_of(tokens)


_GROUPED = re.compile(r"[-+]?(?:\\currency )?[1-9]\d{0,2}(?: \d{3})+(?:\.\d+)?(?:\s*[a-zA-Z\\{}]+)?")
_CHOICE = re.compile(r"\(\s*([A-Za-z])\s*\)|([A-Z])")
_CHOICE_WORD = re.compile(r"(?:option|choice|answer)\s*:?\s*\(?([A-Za-z])\)?(?:\s*[:.,]\s*(.+))?", re.IGNORECASE | re.DOTALL)
_CHOICE_TEXT = re.compile(r"(?:\(([A-Ja-j])\)|([A-J])\s*[).:])\s*(?:[:.]\s*|-\s+)?(\S.*)", re.DOTALL)


def _choice(text: str) -> Value | None:
    bare = text.strip()
    bare = re.sub(r"\\text\s*\{\s*(\(?[A-Za-z]\)?\s*[.:)]?)\s*\}", r"\1 ", bare).strip()
    if match := _CHOICE.fullmatch(bare.rstrip(".:) ") if not bare.startswith("(") else bare):
        letter = match[1] or match[2]
        return Choice(letter.upper()) if bare not in ("i", "e") else None
    if match := _CHOICE_WORD.fullmatch(re.sub(r"\\words |\\text\s*|[{}]", " ", bare).strip()):
        return Choice(match[1].upper(), read(match[2]) if match[2] else None)
    marked = bool(re.match(r"\\text\s*\{\s*\([A-J]\)\s*\}", text.strip())) or bool(re.match(r"\{\s*\([A-J]\)\s*\}", bare))
    bare = re.sub(r"\\text\s*\{\s*\(?([A-J])\s*(\)|:|\.)\s*([^{}]*)\}", r"\1\2 \3", bare)
    bare = re.sub(r"^\{\s*\(([A-J])\)\s*\}", r"(\1)", bare)
    if match := _CHOICE_TEXT.fullmatch(bare):
        letter, rest = match[1] or match[2], match[3]
        if match[1] and not marked and (match[1].islower() or re.match(r"[-+^*/=!_(]|\\cdot|\\cup|\\le|\\ge|<|>", rest)):
            return None  # a product or a formula in parentheses
        value = read(rest)
        return Choice(letter.upper(), value) if value is not None else None
    return None


def _read_words(words: str) -> Value:
    if choice := _choice(words):
        return choice
    if not re.search(r"\d", words):
        value = _as_text(words)
        if value is None:
            raise Unreadable(words)
        key = value.key if isinstance(value, Text) else ""
        if key in _NO_SOLUTION:
            return Collection(())
        if key in ("allrealnumbers", "allreals", "realnumbers"):
            return _EVERYTHING
        if len(key) == 1:
            return Choice(key.upper())
        return value
    return _read(words)


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
        if word in FUNCTIONS or word in _CONSTANTS or word in GREEK:
            return None
        repeated = len(word) > 2 and len(set(word)) < len(word)  # as a product it would be a power
        if not (word.isupper() or is_word(word) or repeated or not word.islower() or len(word) > 4):
            return None
        return _read_words(word)
    if all(len(word) == 1 or word in FUNCTIONS or word in _CONSTANTS or word in GREEK for word in joined):
        return None
    if any(is_word(word) for word in joined) and not any(word in FUNCTIONS for word in joined) and "-" not in text[:1]:
        if len(tokens) > len(joined) and not all(is_word(word) or len(word) < 3 for word in joined):
            return None
        return _read_words(text)
    return None


def _sentence(text: str) -> str | None:
    """The number of a sentence with one number, ``She has 18 eggs``, if a verb stands before it."""
    plain = re.sub(r"\\words |\\text\s*\{([^{}]*)\}", r" \1 ", text)
    match = re.fullmatch(
        r"((?:[A-Za-z][A-Za-z'-]*,?\s+)+)(-?\s*(?:\\currency )?[\d.,]*\d(?:/\d+)?(?:\s*\\%)?)((?:\s+[A-Za-z'-]+)*)\s*", plain
    )
    if match is None:
        return None
    before = [word.strip(",").lower() for word in match[1].split()]
    if before[-1] in ("exactly", "only", "just") and len(before) > 1:
        before.pop()
    if before[-1] not in _VERBS or any(word in _NO_UNITS - _ALLOWED_IN_UNITS for word in before if word not in _VERBS):
        return None
    return match[2] + match[3]


def _marked(tokens: list[Token]) -> list[Token]:
    """"and" and "or" as separators."""
    return [
        Token("separator", token.text.lower(), True)
        if token.kind == "word" and token.text.lower() in ("and", "or")
        else token
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
    if any(token.text == "\\cup" for token in tokens) or _has_plain_union(tokens):
        return _union(tokens)
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
            depth += (token.text in _OPENING) - (token.text in _CLOSING)
        if depth == 0:
            return index == len(tokens) - 1
    return False


def _set(tokens: list[Token]) -> Value:
    if not tokens:
        return Collection(())
    bar = next((i for i, token in enumerate(tokens) if token.text in ("|", ":") and token.kind == "other"), None)
    if bar is not None and bar < len(tokens) - 1 and bar <= 3:
        return _item(tokens[bar + 1 :])  # {x | x > 2}
    parts = [part for _, part in split(tokens, frozenset((",", ";")), ("separator",)) if part]
    if len(parts) > MAX_ITEMS:
        raise Unreadable("too many elements")
    return _collection([_item_or_nested(part) for part in parts])


def _item_or_nested(tokens: list[Token]) -> Value:
    return value_of(tokens) if tokens[0].text in _OPENING else _item(tokens)


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
    if first.text == "]" and last.text == "[" and len(tokens) > 3:  # ]2,5[
        parts = split(tokens[1:-1], frozenset((",", ";")))
        if len(parts) == 2:
            return Sequence(tuple(value_of(part) for _, part in parts))
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
    parts = [part for _, part in split(tokens[1:-1], frozenset((",", ";")))]
    if len(parts) < 2 or len(parts) > MAX_ITEMS or not all(parts):
        return None
    items = tuple(value_of(part) for part in parts)
    if len(items) == 2 and "[" in pair or "]" in pair:
        low, high = items if len(items) == 2 else (None, None)
        if isinstance(low, Quantity) and isinstance(high, Quantity) and low.unit is None and high.unit is None:
            return _interval(low.expr, high.expr, (pair[0] == "[", pair[1] == "]"))
        if pair != ("[", "]"):
            raise Unreadable("an interval of other things than numbers")
    return Sequence(items)


def _interval(low: Expr, high: Expr, closed: tuple[bool, bool]) -> Value:
    if not any(closed):
        return Sequence((Quantity(low), Quantity(high)))
    if low == high and all(closed):
        return Quantity(low)
    return Interval(low, high, closed)


def _environment(tokens: list[Token]) -> Value | None:
    if tokens[0].text == "\\mathbb":
        names = "".join(token.text for token in tokens[1:])
        return _EVERYTHING if names in ("{R}", "R") else None
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
    entries = [[value_of(cell) for _, cell in split(row, frozenset("&"))] for row in rows]
    if not entries or sum(map(len, entries)) > 100 or len({len(row) for row in entries}) != 1:
        raise Unreadable("a matrix with rows of different lengths")
    if len(entries[0]) == 1:
        return Sequence(tuple(row[0] for row in entries)) if len(entries) > 1 else entries[0][0]
    return Matrix(tuple(map(tuple, entries)))


def _has_plain_union(tokens: list[Token]) -> bool:
    return any(
        token.kind == "word" and token.text == "U" and 0 < k < len(tokens) - 1
        and tokens[k - 1].text in (")", "]", "}", "\\}") and tokens[k + 1].text in ("(", "[", "{", "\\{")
        for k, token in enumerate(tokens)
    )  # fmt: skip


def _union(tokens: list[Token]) -> Value:
    names = split(tokens, frozenset(("\\in", "=")))
    if len(names) == 2 and _name(names[0][1]) is not None:
        return _named(names[0][1], _union(names[1][1]))
    parts = [part for _, part in split(tokens, frozenset(("\\cup", "U")))]
    values = [value_of(part) for part in parts]
    if not all(isinstance(value, Sequence | Interval | Collection | Quantity) for value in values):
        raise Unreadable("a union of other things than sets")
    if all(isinstance(value, Collection | Quantity) for value in values):
        return _collection(values)
    return Union(tuple(values))


# ----------------------------------------------------------------------------------------------------------- lists


def _list(parts: list[tuple[str, list[Token]]]) -> Value:
    if len(parts) > MAX_ITEMS:
        raise Unreadable("too many parts")
    if len(parts) == 1:
        return _item(parts[0][1])
    if compound := _compound(parts):
        return compound
    values = [value_of(part) if part[0].text in _OPENING else _item(part) for _, part in parts]
    names = [value.name for value in values if isinstance(value, Named)]
    if all(isinstance(value, Named) for value in values):
        inside = [value.value for value in values if isinstance(value, Named)]
        if any(isinstance(value, Interval | Sequence | Union) for value in inside) and len(set(names)) == 1:
            first = values[0]
            assert isinstance(first, Named)
            return Named(first.name, _joined(parts, inside), first.symbol)
        if len(set(names)) == 1:
            first = values[0]
            assert isinstance(first, Named)
            return Named(first.name, _collection(inside), first.symbol)
        return Assignments(tuple(value for value in values if isinstance(value, Named)))
    if isinstance(values[0], Named) and len(names) == 1:  # x = 1, 2
        return Named(values[0].name, _joined(parts, [values[0].value, *values[1:]]), values[0].symbol)
    return _joined(parts, values)


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
    if any(a.scale <= b.scale for a, b in zip(units, units[1:], strict=False)):
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
    if any(mark in ("<", ">", "\\le", "\\ge", "\\ne") for mark in marks):
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
    r"(?:[a-zA-Z]|\\[a-zA-Z]+)'*(?:\^\\?\*)?(?:_(?:\w|\{[^{}]*\}|\\[a-zA-Z]+|\{?\\text ?\{?[^{}]*\}?\}?))?'*(?:\([^()=]*\)|\[[^\[\]=]*\])?"
)
_LONG_NAME = re.compile(
    r"m?\\(?:angle|triangle|overline|measuredangle|Delta|square) ?\{?[A-Za-z]{1,4}'?\}?|[A-Z]{2,4}'?(?:_\w)?(?:\^2)?"
    r"|\|[^|=<>,]{1,20}\||\[[A-Z]{3,6}\]|\(?(?:[a-zA-Z]|\\[a-z]+)(?:_\w)?(?:,(?:[a-zA-Z]|\\[a-z]+)(?:_\w)?)+\)"
    r"|[a-zA-Z]{2,}\([^()=]{0,30}\)|\\(?:sin|cos|tan|cot|sec|csc) ?(?:[A-Z]|\\[a-z]+|\\angle ?[A-Z]+|[a-z]|\([^()=]{1,12}\))"
    r"|[a-zA-Z]\^\{?-1\}?\([^()=]{1,20}\)|[A-Z]{2}(?:[-+][A-Z]{2}){1,4}|\\\|[^=]{1,20}\\\||\|\|[^=]{1,20}\|\|"
    r"|n\([A-Z]\)|\\mathbb\{E\}\[[^\[\]]*\]|[A-Za-z]\([^=]{1,40}\)"
)
_SUM_NAME = re.compile(r"[a-wA-W](?:[-+]?[a-wA-W]){1,5}")


def _name(tokens: list[Token]) -> str | None:
    """The name that tokens before an equality sign are: empty for one that distinguishes nothing."""
    if not tokens or len(tokens) > 30:
        return None
    if all(token.kind == "text" or (token.kind == "word" and (len(token.text) > 2 or token.text.lower() in _FILL))
           or token.text in ".,:'-" for token in tokens):  # fmt: skip
        text = " ".join(token.text for token in tokens)
        if not (len(tokens) == 1 and tokens[0].kind == "word" and tokens[0].text.isupper()):
            return "" if not any(word in ("not", "no") for word in text.lower().split()) else None
    if any(token.text in ("\\lim", "\\int", "\\sum", "\\prod", "\\deg") for token in tokens):
        return ""
    text = "".join(
        f" {token.text}" if token.kind in ("word", "text") and k and tokens[k - 1].kind == "command" else token.text
        for k, token in enumerate(tokens)
    )
    while "( " in text:
        text = text.replace("( ", "(")
    if text in ("i", "e", "\\pi", "\\infty"):
        return None
    if _SIMPLE_NAME.fullmatch(text) and text.removeprefix("\\") not in FUNCTIONS:
        head = text.partition("_")[0].partition("(")[0]
        if head.startswith("\\") and head[1:].rstrip("'") not in GREEK:
            return text if _LONG_NAME.fullmatch(text) else None
        return text
    if _LONG_NAME.fullmatch(text):
        return text
    if _SUM_NAME.fullmatch(text) and not re.search("[ie]$", text) and len(set(re.findall("[a-zA-Z]", text))) == len(
        re.findall("[a-zA-Z]", text)
    ):
        return text
    if any(token.kind == "text" for token in tokens) and not any(token.kind in ("number", "sci") for token in tokens):
        return ""
    return None


_FILL = frozenset("of the a an is in to at".split())


def _named(tokens: list[Token], value: Value) -> Value:
    name = _name(tokens) or ""
    if isinstance(value, Named):
        return value
    if name.startswith("(") and name.endswith(")"):
        name = ""
    symbol: Expr | None = None
    if len(name) == 1 or name.removeprefix("\\") in GREEK:
        symbol = Sym(name.removeprefix("\\"))
    return Named(name, value, symbol)


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
        return _named(sides[1], _interval(low, high, closed))
    if len(marks) > 1:
        raise Unreadable("several relations")
    mark = marks[0]
    if _name(sides[1]) is not None and _name(sides[0]) is None:
        sides, mark = sides[::-1], _TURNED[mark]
    if _name(sides[0]) is not None and not symbols(right := _expression(sides[1])):
        closed_end = mark in ("\\le", "\\ge")
        if mark == "\\ne":
            everything = (_interval(negated(OO), right, (False, False)), _interval(right, OO, (False, False)))
            return _named(sides[0], Union(everything))
        low, high = (right, OO) if mark in (">", "\\ge") else (negated(OO), right)
        return _named(sides[0], _interval(low, high, (closed_end and high == OO, closed_end and high != OO)))
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
    if any(token.text in ("\\pm", "\\mp") for token in tokens):
        return _both_signs(tokens)
    if any(token.text == ":" for token in tokens):
        return _ratio(tokens)
    if all(token.kind in ("word", "text") for token in tokens) and (
        words := _only_words(" ".join(f"\\text{{{t.text}}}" if t.kind == "text" else t.text for t in tokens), tokens)
    ):
        return words
    return _quantity(tokens)


_NAMED_BASES = {
    "two": 2, "binary": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "octal": 8, "nine": 9, "ten": 10,
    "decimal": 10, "eleven": 11, "twelve": 12, "sixteen": 16, "hex": 16, "hexadecimal": 16,
}  # fmt: skip


def _based(tokens: list[Token]) -> Value | None:
    text = "".join(token.text + (" " if token.kind == "word" else "") for token in tokens).strip()
    match = re.fullmatch(
        r"[({]?(-?[\dA-Fa-f]+(?:\.[\dA-Fa-f]+)?)[)}]?\s*(?:_\{?\s*\(?(?:base\s*)?(\d+|[a-z]+)\s*\)?\}?|[({]?\s*(?:in )?base\s*(\d+|[a-z]+)\s*[)}]?)",
        re.sub(r"\s+", "", text) if "base" not in text else text.replace(" ", "").replace("inbase", "base"),
    )
    if match is None or any(b.space and a.kind == b.kind == "number" for a, b in zip(tokens, tokens[1:], strict=False)):
        return None
    if not re.search(r"\d", match[1]) and not re.fullmatch("[A-F]{2,}", match[1]):
        return None
    name = match[2] or match[3]
    base = _NAMED_BASES.get(name) if name.isalpha() else int(name)
    if base is None or not 2 <= base <= 36:
        return None
    digits = match[1].upper()
    whole = digits.lstrip("-").replace(".", "")
    if not whole.isalnum() or any(int(digit, 36) >= base for digit in whole):
        return None  # 3a_1 is a product
    sign = "-" if digits.startswith("-") else ""
    front, dot, back = digits.lstrip("-").partition(".")
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


_CURRENCIES = frozenset("dollars dollar euros euro cents yen rupees usd eur gbp won rubles inr cad aud".split())


def _is_currency(token: Token) -> bool:
    return token.text.strip(". ") == "Rs" or token.text.lower() in _CURRENCIES or token.text == "pounds sterling"


def _quantity(tokens: list[Token]) -> Quantity:
    tokens = list(tokens)
    sign, unit_words = 1, list[str]()
    while tokens and tokens[0].kind == "word" and tokens[0].text.lower() in ("negative", "minus") and len(tokens) > 1:
        sign, tokens = -sign, tokens[1:]
    if len(tokens) > 2 and tokens[0].text in "+-" and (
        tokens[1].text in ("\\currency", "Rs") or tokens[1].kind == "text" or _is_currency(tokens[1])
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
            unit_words, tokens = [word], tokens[after:]
        elif word in ("exactly", "only", "approximately", "about", "approx", "roughly") and len(tokens) > 1:
            tokens = tokens[1:]
    parser = Formula(tokens)
    expr = parser.sum()
    expr = imaginary(expr)
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
        if word in _MULTIPLES or singular in _MULTIPLES and word != "scores":
            expr = Prod((expr, Num(Fraction(_MULTIPLES.get(word, _MULTIPLES.get(singular, 1))))))
        elif singular in _PARTS:
            expr = Prod((expr, Num(Fraction(1, _PARTS[singular]))))
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
    if rest and rest[0].text == "\\frac" and (fraction := _fraction_of_units(rest)):
        top, bottom, after = fraction
        rest = [*top, Token("other", "/"), *bottom, *rest[after:]]
    if rest and rest[0].text == "(" and rest[-1].text == ")":
        rest = rest[1:-1]
    if rest and "'" in (rest[0].text, rest[-1].text):
        raise Unreadable("a prime behind a number")
    for token in rest:
        if token.kind in ("word", "text"):
            lower = token.text.lower().split()
            if any(re.search(r"\d|[=<>+]", word) or word.strip(".,()") in _NO_UNITS - _ALLOWED_IN_UNITS for word in lower):
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
    if names in ({"I"}, {"j"}) and any(isinstance(node, Num) and abs(node.value) != 1 for node in walk(expr)) and not any(
        node == I for node in walk(expr)
    ):
        return renamed(expr, {"I": I, "j": I})
    if names in ({"I"}, {"j"}) and isinstance(expr, Sum) and not any(node == I for node in walk(expr)):
        return renamed(expr, {"I": I, "j": I})
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


__all__ = ["MAX_ANSWER", "Const", "Unreadable", "children", "read", "unwrapped"]
