r"""Parses the LaTeX of a formula: tokens, and a recursive descent over them into an expression.

Letters behind a number are a unit if they are in ``\text`` or are a known unit or a word and stand apart from it:
``5 cm``, ``12 apples``; ``6xyz`` and ``2ab`` are products. One letter is a unit only behind a plain number and a space
(``42 L``); behind anything with a variable or a root, letters are variables.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from envs.math.answer_algebra import (
    IMAGINARY,
    MINUS_ONE,
    ONE,
    OO,
    PI,
    Call,
    E,
    Expr,
    Num,
    Pow,
    Prod,
    Sum,
    Sym,
    negated,
    over,
    symbols,
    times,
)
from envs.math.answer_text import GREEK
from envs.math.answer_units import LETTERS, known

MAX_DIGITS = 400  # of a number as it is written
MAX_DEPTH = 40  # of nested brackets
SIGNIFICANT = 6  # digits from which on a decimal may stand for the number that it is rounded from


def words(text: str) -> frozenset[str]:
    """A set of words."""
    return frozenset(text.split())


class Unreadable(ValueError):
    """A text that is no value of the kind that was tried."""


# -------------------------------------------------------------------------------------------------------------- words

FUNCTIONS = {
    "sin": "sin", "cos": "cos", "tan": "tan", "cot": "cot", "sec": "sec", "csc": "csc", "cosec": "csc", "sinh": "sinh",
    "cosh": "cosh", "tanh": "tanh", "arcsin": "arcsin", "arccos": "arccos", "arctan": "arctan", "asin": "arcsin",
    "acos": "arccos", "atan": "arctan", "ln": "ln", "log": "log", "lg": "log", "exp": "exp", "gcd": "gcd", "lcm": "lcm",
    "cis": "cis", "max": "max", "min": "min", "Re": "re", "Im": "im",
}  # fmt: skip
_SYMMETRIC = ("gcd", "lcm", "max", "min")
_INVERSES = {"sin": "arcsin", "cos": "arccos", "tan": "arctan"}
AXES = ("veci", "vecj", "veck")
"""Unit vectors, as `envs.math.answer_text` writes them."""
CONSTANTS = {"pi": PI, "infty": OO, "infinity": OO, "inf": OO, "oo": OO, "imath": IMAGINARY}
MULTIPLES = {
    "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "quadrillion": 10**15,
    "quintillion": 10**18, "sextillion": 10**21, "septillion": 10**24, "octillion": 10**27, "nonillion": 10**30,
    "decillion": 10**33, "googol": 10**100, "myriad": 10**4, "lakh": 10**5, "crore": 10**7, "dozen": 12, "ten": 10,
    "gross": 144, "score": 20,
}  # fmt: skip
PARTS = {
    "half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8,
    "ninth": 9, "tenth": 10, "eleventh": 11, "twelfth": 12, "thirteenth": 13, "fourteenth": 14, "fifteenth": 15,
    "sixteenth": 16, "seventeenth": 17, "eighteenth": 18, "nineteenth": 19, "twentieth": 20, "thirtieth": 30,
    "fortieth": 40, "fiftieth": 50, "sixtieth": 60, "seventieth": 70, "eightieth": 80, "ninetieth": 90,
}  # fmt: skip
PARTS |= {f"{name}th": value for name, value in MULTIPLES.items() if name.endswith(("hundred", "thousand", "llion"))}
NO_UNITS = words(
    "and or not no nor anything something nothing than plus minus times by to the power over choose mod modulo if "
    "except but unless any other both either neither is are was equals equal maybe about approximately around "
    "infinity infinities factorial negative positive remainder base squares cubes roots root power powers inverse "
    "twos threes fours fives sixes sevens eights nines "
    "reciprocal prime choose twice double triple st nd rd th january february march april may june july "
    "zillion gazillion bazillion "
    "august september october november december jan feb mar apr jun jul aug sept oct nov dec"
)
ALLOWED_IN_UNITS = words("to the is by than over")
_LITTLE_WORDS = words("no on up in at by so do go me he we us it an am is to of my")
_SEPARATORS = frozenset(("and", "or", "&"))
VERBS = words(
    "has have had is are was were be gets get got makes make made earns earn earned needs need needed spends "
    "spend spent pays pay paid costs cost sells sell sold left remain remains eats eat ate takes take took equals "
    "equal gives give gave totals used uses use buys buy bought reads read wrote runs ran walks walked total "
    "saves save saved weighs weigh drove drives lasts contains contain holds hold"
)


def is_word(letters: str) -> bool:
    """Whether a run of letters is a word and not a product of variables."""
    small = letters.lower()
    if len(letters) < 3:
        return small in _LITTLE_WORDS
    ordered = sorted(small)
    run = all(ord(b) - ord(a) in (0, 1) for a, b in pairwise(ordered))
    return not run and bool(re.search("[aeiouy]", small)) and bool(re.search("[^aeiou]", small))


# ------------------------------------------------------------------------------------------------------------- tokens


@dataclass(frozen=True)
class Token:
    r"""A piece of LaTeX: a number, a word, a command, the words in a ``\text``, or one character."""

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
_GROUPS = re.compile(r"(?<![\d.])(?<!\d,)[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?(?![\d]|,\d)")
OPENING = {"(", "[", "\\{", "\\langle", "\\lfloor", "\\lceil", "{", "\\begin"}
CLOSING = {")", "]", "\\}", "\\rangle", "\\rfloor", "\\rceil", "}", "\\end"}


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
        if piece not in ("{", "}", r"\begin", r"\end"):
            depth += (piece in OPENING) - (piece in CLOSING)
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
    if unit := re.fullmatch(r"\(\s*([a-zA-Z]{2,}[a-zA-Z ]*)\)", stripped):  # (cm)
        return [Token("text", unit[1], True)]
    if re.search(r"\d|[()]", stripped) and re.fullmatch(r"[-\d\s.,()a-zA-Z:/$'%+]*", stripped):
        return [
            Token("text" if len(each.text) > 2 and is_word(each.text) else each.kind, each.text, each.space or not k)
            for k, each in enumerate(tokens_of(stripped))
        ]
    if stripped in ("\\%", "%"):
        return [Token("command", "\\%", space)]
    return [Token("text", stripped, space)]


def split(tokens: list[Token], marks: frozenset[str], kinds: tuple[str, ...] = ()) -> list[tuple[str, list[Token]]]:
    """The parts between marks outside of all brackets, each with the mark before it."""
    parts: list[tuple[str, list[Token]]] = [("", [])]
    depth, bars = 0, False
    for token in tokens:
        if token.text in OPENING and token.kind != "text":
            depth += 1
        elif token.text in CLOSING and token.kind != "text":
            depth -= 1
        elif token.text == "|" and not depth:
            bars = not bars
        if depth <= 0 and not bars and (token.kind in kinds or (token.kind != "text" and token.text in marks)):
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
        self.lettered = False  # whether a term before has a variable
        self.plain = False  # whether what was read is a number as it is written

    def peek(self, ahead: int = 0) -> Token | None:
        """A token to come."""
        index = self.index + ahead
        return self.tokens[index] if index < len(self.tokens) else None

    def text(self, ahead: int = 0) -> str:
        r"""The text of a token to come that is no ``\text``."""
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
            self.lettered = self.lettered or not numeric_so_far(terms[-1])
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
        self.plain = isinstance(result, Num) and all(
            token.kind == "number" for token in self.tokens[start : self.index]
        )
        literal = self.plain
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
                if token.kind in ("number", "sci") and self.tokens[self.index - 1].kind in ("number", "sci"):
                    mixed = self._mixed(result)
                    if mixed is None:
                        raise Unreadable("two numbers side by side")
                    result = mixed
                    continue
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
            self.plain, literal = False, _is_scientific(result)
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
                name in ("frac", "sqrt", "binom", "dbinom", "tbinom", "cbrt", "lfloor", "lceil", "overline")
                or name in FUNCTIONS
                or name in CONSTANTS
                or name in GREEK
                or name in AXES
            )
        return token.kind == "other" and token.text in "([{"

    def _begins_unit(self, token: Token | None, numeric: bool, literal: bool) -> bool:
        """Whether letters behind what was read are a unit (see the head of this file)."""
        if token is None or not self.units or self.depth > 1:
            return False
        if token.kind == "text":
            return True
        if self.text() == "\\frac" and numeric and fraction_of_units(self.tokens[self.index :]):
            return True
        if self.text() == "(" and numeric and token.space:  # 42 (dollars)
            end = next((k for k in range(self.index, len(self.tokens)) if self.tokens[k].text == ")"), 0)
            inside = self.tokens[self.index + 1 : end]
            return bool(inside) and all(each.kind in ("word", "text") and len(each.text) > 2 for each in inside)
        if token.kind != "word" or not numeric or self.lettered:
            return False
        word, behind = (
            token.text,
            self.index > 0
            and (self.tokens[self.index - 1].kind in ("number", "sci") or self.tokens[self.index - 1].text == "}"),
        )
        minutes = word == "min" and self.text(1) not in ("(", "\\{", "_")
        seconds = word == "sec" and self.text(1) in ("", ".", "/")
        if (word in FUNCTIONS and not minutes and not seconds) or word in CONSTANTS or word in GREEK:
            return False
        if self.text() == "/":
            return known(word) or is_word(word)
        if len(word) == 1:
            return word in LETTERS and token.space and literal and behind and self._is_apart()
        if word == "hr" and self.tokens[self.index - 1].kind == "command":  # 2\pi hr is 2\pi rh
            return False
        if word.lower() in ("am", "pm") or (word.lower() in ("sq", "cu", "fl") and token.space):
            return True
        if known(word):
            return token.space or len(word) > 3 or word in _ATTACHED
        return (token.space and is_word(word)) or word.lower() in MULTIPLES or word.lower().rstrip("s") in PARTS

    def _is_apart(self) -> bool:
        """Whether no variable follows the letter: nothing, a slash, a power, or another unit with a power below."""
        following = self.peek(1)
        if following is None or following.text in ("/", "^"):
            return True
        more = self.peek(2)
        if following.kind == "number" and more is not None and more.kind == "word" and known(more.text):
            return True  # 2 h 30 min
        rest = self.tokens[self.index :]
        return all(
            token.text in LETTERS or token.text in "\\cdot^{-}" or token.kind == "number" for token in rest
        ) and ([token.text for token in rest[:1] + rest[-1:]] == ["N", "m"] or any(token.text == "-" for token in rest))

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
        if token is not None and token.kind == "word" and len(token.text) > 1 and token.text not in CONSTANTS:
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
        elif token.kind == "word" and len(token.text) > 1 and token.text not in CONSTANTS:
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
        if self.text() == "\\ldots":
            self.index += 1
        if not repeated.isdigit() or (dots == 1 and len(repeated) > 1) or len(repeated) + len(text) > MAX_DIGITS:
            raise Unreadable("what is repeated is no digits")
        return _with_period(text, repeated)

    def _word(self, token: Token) -> Expr:
        word = token.text
        if word in FUNCTIONS and len(word) > 1:
            return self._function(word)
        if word == "sqrt" or word == "cbrt":
            return self._command(word)
        if word in CONSTANTS:
            self.index += 1
            return CONSTANTS[word]
        if word in GREEK:
            self.index += 1
            return self._symbol(word)
        if len(word) > 1:
            head = next((name for name in ("sqrt", "pi") if word.startswith(name) or word.endswith(name)), None)
            if head == "pi" and len(word) == 3 and word.startswith("pi"):
                self.tokens[self.index : self.index + 1] = [Token("word", "pi", token.space), Token("word", word[2:])]
                return self.primary()
            if len(word) > 12 or (len(word) > 3 and is_word(word)) or (len(word) > 2 and word.lower() in NO_UNITS):
                raise Unreadable("a word in a formula")
            self._split_word(token)
            return self.primary()
        self.index += 1
        if word == "i" and self.text() not in ("_", "'"):
            return IMAGINARY
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
        if (token.kind == "word" and len(token.text) > 1) or (token.kind == "number" and len(token.text) > 1):
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
        if name in CONSTANTS:
            return CONSTANTS[name]
        if name in GREEK:
            return self._symbol(name.removeprefix("var"))
        if name in AXES:
            return Sym(name)
        raise Unreadable(f"the command {name}")

    def _function(self, word: str) -> Expr:
        r"""``\sin^2 x``, ``\log_2 8``, ``\max(1, 2)``."""
        self.index += 1
        name = FUNCTIONS[word]
        base: Expr | None = None
        exponent: Expr | None = None
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
            self.index = after
            return tuple(parts)
        if self.text() == "{" or self.text() == "\\{":
            closing = "}" if self.text() == "{" else "\\}"
            inside, self.index = self._enclosed(self.text(), closing)
            return tuple(Formula(part, units=False)._inner(self.depth) for _, part in split(inside, frozenset(",")))
        factors = [self._factor()]
        while (token := self.peek()) is not None and self._begins_factor(token) and not self._names_function(token):
            if token.text in ("(", "["):
                break
            factors.append(self._factor())
        result = factors[0] if len(factors) == 1 else Prod(tuple(factors))
        if self.text() == "/" and (below := self.peek(1)) is not None and below.kind == "number":
            self.index += 1
            result = over(result, self._factor())
        return (self._degrees(result),)

    def _degrees(self, expr: Expr) -> Expr:
        if self.text() == "\\degree":
            self.index += 1
            return Prod((expr, PI, Num(Fraction(1, 180))))
        return expr

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
            return Sum((Call("cos", arguments), Prod((IMAGINARY, Call("sin", arguments)))))
        if name in _SYMMETRIC:
            return Call(name, tuple(sorted(arguments, key=repr)))
        return Call(name, arguments)


def fraction_of_units(tokens: list[Token]) -> tuple[list[Token], list[Token], int] | None:
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
    named = any(
        token.kind == "text" or (token.kind == "word" and len(token.text) > 1 and known(token.text)) for token in both
    )
    if not named or not all(token.kind in ("text", "word", "number") or token.text in "^" for token in both):
        return None
    return groups[0], groups[1], index


_ATTACHED = words("cm mm km kg mg ml mL ft lb lbs oz mph kph hr hrs min mins sec gal yd yds USD kWh kW")


def _inverse(index: Num) -> Expr:
    if not index.value:
        raise Unreadable("a root of index zero")
    return Num(1 / index.value)


def _is_scientific(expr: Expr) -> bool:
    match expr:
        case Prod((Num(), Pow(Num(ten), exponent))):
            return ten == 10 and not symbols(exponent)
    return False


def numeric_so_far(expr: Expr) -> bool:
    """Whether an expression has no variable."""
    return not symbols(expr)


def ratio_of(expr: Expr) -> Fraction | None:
    """The value of a quotient of two numbers as they are written."""
    match expr:
        case Num(number):
            return number
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
    """``0.333...``: the digits end in three times the same, or twice the same two or more, or are twice the same."""
    after = text.partition(".")[2]
    for length in range(1, 13):
        times = 3 if length == 1 and len(after) > 2 else 2
        period = after[len(after) - length :]
        if len(after) >= times * length and after.endswith(period * times):
            start = after
            while start.endswith(period):
                start = start[: len(start) - length]
            return _with_period(f"{text.partition('.')[0]}.{start}", period)
    value = number_of(text)
    if value.digits < SIGNIFICANT:
        raise Unreadable("a number that goes on, nobody knows how")
    return value
