"""Arithmetic expressions with exact fractions: read, checked, solved for one unknown, written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

MAX_DIGITS = 40  # of a number in a question, a line or an answer
MAX_DEPTH = 40

# ---------------------------------------------------------------------------------------------------- expressions


@dataclass(frozen=True)
class Number:
    """A leaf of the syntax tree: a number."""

    value: Fraction


@dataclass(frozen=True)
class Unknown:
    """The unknown of an equation."""

    name: str


@dataclass(frozen=True)
class Operation:
    """An inner node of the syntax tree: ``left operator right``."""

    operator: str
    left: Expression
    right: Expression


Expression = Number | Unknown | Operation

_TOKEN = re.compile(r"\s*(?:(\d+)|([a-zA-Z])|(\*\*|//|[-+*/()=]))")
OPERATORS = dict.fromkeys("×∙·⋅∗✕", "*") | dict.fromkeys("÷∕／⁄", "/") | dict.fromkeys("−–", "-")  # noqa: RUF001
"""Operators as people write them, and the ASCII character of each."""
_UNICODE = str.maketrans(OPERATORS | {"[": "(", "]": ")"})


class _Parser:
    """Recursive descent over ``+ - * / ( )``, unary minus and, for equations, implied products such as ``3x``."""

    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        self.depth = 0
        end = 0
        text = text.translate(_UNICODE).strip()
        while end < len(text):
            match = _TOKEN.match(text, end)
            if match is None or match.group() in ("**", "//"):
                raise ValueError(f"cannot read {text[end : end + 12].strip()!r}")
            if len(match.group(1) or "") > MAX_DIGITS:
                raise ValueError(f"a number of more than {MAX_DIGITS} digits")
            self.tokens.append(match.group().strip())
            end = match.end()
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def sum(self) -> Expression:
        left = self.product()
        while self.peek() in ("+", "-"):
            left = Operation(self.take(), left, self.product())
        return left

    def product(self) -> Expression:
        left = self.factor()
        while True:
            token = self.peek()
            if token in ("*", "/"):
                left = Operation(self.take(), left, self.factor())
            elif token == "(" or token.isalpha():  # 3x, 3(x + 4)
                left = Operation("*", left, self.factor())
            else:
                return left

    def factor(self) -> Expression:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} deep")
        token = self.take()
        try:
            if token == "-":
                inner = self.factor()
                if isinstance(inner, Number):
                    return Number(-inner.value)
                return Operation("*", Number(Fraction(-1)), inner)
            if token == "+":
                return self.factor()
            if token == "(":
                inner = self.sum()
                if self.take() != ")":
                    raise ValueError("a parenthesis is not closed")
                return inner
            if token.isdigit():
                return Number(Fraction(int(token)))
            if token.isalpha():
                return Unknown(token)
            raise ValueError(f"a number is expected before {token!r}" if token else "the expression is not complete")
        finally:
            self.depth -= 1


@lru_cache(maxsize=1 << 14)  # searches read the same lines again and again
def parse_sides(text: str) -> tuple[Expression, ...]:
    """Parse one expression, or the two sides of an equation; raises ValueError with what is wrong."""
    parser = _Parser(text)
    sides = [parser.sum()]
    while parser.peek() == "=":
        parser.take()
        sides.append(parser.sum())
    if parser.peek():
        raise ValueError(f"{parser.peek()!r} is not expected there")
    if len(sides) > 2:
        raise ValueError("more than one equals sign")
    return tuple(sides)


def unknowns(expression: Expression) -> frozenset[str]:
    """The names of the unknowns in an expression."""
    match expression:
        case Number():
            return frozenset()
        case Unknown(name):
            return frozenset({name})
        case Operation(_, left, right):
            return unknowns(left) | unknowns(right)


def linear(expression: Expression) -> tuple[Fraction, Fraction]:
    """(a, b) of a * unknown + b; raises ValueError if the expression is not linear or divides by zero."""
    match expression:
        case Number(value):
            return Fraction(0), value
        case Unknown():
            return Fraction(1), Fraction(0)
        case Operation(operator, left, right):
            (a, b), (c, d) = linear(left), linear(right)
            if operator == "+":
                return a + c, b + d
            if operator == "-":
                return a - c, b - d
            if operator == "*":
                if a and c:
                    raise ValueError("the unknown is multiplied by itself")
                return a * d + b * c, b * d
            if c:
                raise ValueError("the unknown is in a divisor")
            if not d:
                raise ValueError("a division by zero")
            return a / d, b / d


_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}


def write(expression: Expression) -> str:
    """Canonical text: single spaces around operators, only the parentheses that are needed."""
    match expression:
        case Number(value):
            return str(value)
        case Unknown(name):
            return name
        case Operation(operator, left, right):
            level = _PRECEDENCE[operator]
            first, second = write(left), write(right)
            if isinstance(left, Operation) and _PRECEDENCE[left.operator] < level:
                first = f"({first})"
            if isinstance(right, Operation) and _PRECEDENCE[right.operator] <= level:
                second = f"({second})"
            return f"{first} {operator} {second}"


def write_sides(sides: tuple[Expression, ...]) -> str:
    """Canonical text of an expression or an equation."""
    return " = ".join(write(side) for side in sides)
