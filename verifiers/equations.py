r"""Scores without a model: whether the arithmetic that a solution writes down holds.

Small models set a problem up rightly and miscalculate, or write an equation that fits the answer they want. Each
``a = b`` of numbers with an operation on one side at least is checked; what is not arithmetic (variables, words) says
nothing. Of g equations that hold and b that do not up to a step, the step's score is

    (g + 1/2) / (g + b + 1),

the mean of a share under Jeffreys' prior: 1/2 where nothing was written, and more the more holds.

What is read: numbers with thousands separators, decimals and percent signs, ``+ - * / ^``, brackets, signs and LaTeX
as models write them (``\times``, ``\frac{3}{4}``, ``\$``), units after numbers (``3 boxes * 4 pens per box = 12 pens``)
and "20 % of 50". A result counts as written: to its last digit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

from envs.core import Environment, Step
from policies.service import QueuedService
from verifiers.core import Score, Scored

_LONGEST = 2_000  # characters of a line
_TOKENS = 64  # of a side
_POWER = 12  # largest exponent
_SIZE = 10**18  # of a number or a result

_LATEX = (
    (re.compile(r"\\(?:text|mathrm|textbf|mathbf|operatorname)\s*\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"((\1)/(\2))"),
    (re.compile(r"\\(?:times|cdot|ast)(?![a-zA-Z])"), "*"),
    (re.compile(r"\\div(?![a-zA-Z])"), "/"),
    (re.compile(r"\\approx(?![a-zA-Z])"), "="),
    (re.compile(r"\\(?:left|right|displaystyle|quad|qquad)(?![a-zA-Z])"), " "),
    (re.compile(r"\\[()\[\]$%,;:!& ]"), lambda match: "%" if match[0] == r"\%" else " "),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"[$£€]|\*\*|&"), " "),
    (re.compile(r"(?<=[\d)])\s*[xX]\s*(?=[\d(])"), "*"),
)
_SIGNS = str.maketrans("×∙·⋅∗÷∕−–≈[]{}", "*****//--=()()")  # noqa: RUF001
_BULLET = re.compile(r"\s*(?:[-*•+]|\d{1,3}[.)]|#+)\s+")
_NOT_ASSERTED = re.compile(r"[=<>!:]=|=[<>=]|[<>≤≥≠?]")
_TOKEN = re.compile(r"(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)|([-+*/^()%])|([^\W\d_]+)|(\S)")


class EquationVerifier(QueuedService[Score, Scored]):
    """The share of a solution's equations that hold, as a `Verifier`; the module says how.

    Args:
        environment: of the states; not looked at.
    """

    name = "equations"
    parameters = 0

    def __init__(self, environment: Environment) -> None:
        super().__init__()

    def _answer(self, request: Score) -> Scored:
        return Scored(tuple(self._scores(state.steps) for state in request.states))

    def _scores(self, steps: Sequence[Step]) -> tuple[float, ...]:
        held = failed = 0
        scores = []
        for step in steps:
            told = check_equations(step.text)
            held += sum(told)
            failed += len(told) - sum(told)
            scores.append((held + 0.5) / (held + failed + 1))
        return tuple(scores)


@lru_cache(maxsize=1 << 14)
def check_equations(text: str) -> tuple[bool, ...]:
    """Whether each equation of numbers in a text holds, in order."""
    return tuple(holds for line in text.splitlines() for holds in _of_line(line[:_LONGEST]))


def _of_line(line: str) -> Iterator[bool]:
    if "=" not in line and "≈" not in line and "approx" not in line:
        return
    if bullet := _BULLET.match(line):
        line = line[bullet.end() :]
    for pattern, by in _LATEX:
        line = pattern.sub(by, line)
    line = line.translate(_SIGNS)
    if _NOT_ASSERTED.search(line):
        return
    sides = [list(_tokens(side)) for side in line.split("=")]
    for left, right in pairwise(sides):
        before, after = _last(left), _first(right)
        if not any(token in "+-*/^%" for token in [*before[1:], *after[1:]]):
            continue
        one, other = _value(before), _value(after)
        if one is not None and other is not None:
            yield abs(one - other) <= max(_slack(before), _slack(after))


# ------------------------------------------------------------------------------------------------------- the sides


def _tokens(side: str) -> Iterator[str]:
    """Numbers, operators, ``w`` for a word, ``;`` for anything else."""
    for number, operator, word, other in _TOKEN.findall(side):
        if number:
            yield number.replace(",", "")
        elif operator:
            yield operator
        elif word:
            yield "of" if word.lower() == "of" else "w"
        elif other:
            yield ";"


def _runs(tokens: Sequence[str]) -> Iterator[list[str]]:
    """What may be one expression each, units left out; an empty one where a word or a sign stands instead."""
    run: list[str] = []
    unit = False  # whether a word has followed the operand
    for token in tokens:
        operand = bool(run) and (run[-1] in (")", "%") or run[-1][0] in ".0123456789")
        if token == "of" and operand and not unit:
            run.append("*")
        elif token in ("w", "of"):
            if not operand:
                yield run
                run = [";"]  # an unknown: what goes on from it is not arithmetic
            unit = operand
        elif token == ";":
            yield run
            run, unit = [], False
        elif token[0] in ".0123456789(" and (unit or operand):
            yield run
            run, unit = [token], False
        elif run == [";"] and token[0] in ".0123456789(":
            yield run
            run = [token]
        else:
            run.append(token)
            unit = False
    yield run


def _last(tokens: Sequence[str]) -> list[str]:
    *_, last = _runs(tokens)
    return last[-_TOKENS - 1 :]


def _first(tokens: Sequence[str]) -> list[str]:
    return next(_runs(tokens))[: _TOKENS + 1]


def _slack(side: Sequence[str]) -> Fraction:
    """How far a side may be off: the last digit of a decimal, half of the last of a whole number, nothing for terms."""
    if len(side) != 1:
        return Fraction(0)
    _, point, decimals = side[0].partition(".")
    return Fraction(1, 10 ** len(decimals)) if point else Fraction(1, 2)


class _Unreadable(Exception):
    """A side is no arithmetic, or too large."""


def _value(side: Sequence[str]) -> Fraction | None:
    """The value of a side; None if it is no arithmetic."""
    if not side or len(side) > _TOKENS:
        return None
    try:
        value, rest = _sum(side)
    except (_Unreadable, ZeroDivisionError):
        return None
    return None if rest else value


def _bounded(value: Fraction) -> Fraction:
    """A value; powers of powers would take all time and memory."""
    if abs(value) > _SIZE or value.denominator > _SIZE:
        raise _Unreadable
    return value


def _sum(tokens: Sequence[str]) -> tuple[Fraction, Sequence[str]]:
    value, tokens = _product(tokens)
    while tokens and tokens[0] in "+-":
        term, rest = _product(tokens[1:])
        value, tokens = value + term if tokens[0] == "+" else value - term, rest
    return value, tokens


def _product(tokens: Sequence[str]) -> tuple[Fraction, Sequence[str]]:
    value, tokens = _power(tokens)
    while tokens and tokens[0] in "*/":
        factor, rest = _power(tokens[1:])
        value, tokens = _bounded(value * factor if tokens[0] == "*" else value / factor), rest
    return value, tokens


def _power(tokens: Sequence[str]) -> tuple[Fraction, Sequence[str]]:
    if tokens and tokens[0] == "-":
        value, tokens = _power(tokens[1:])
        return -value, tokens
    value, tokens = _operand(tokens)
    if tokens and tokens[0] == "^":
        exponent, tokens = _operand(tokens[1:])
        if exponent.denominator != 1 or not 0 <= exponent <= _POWER:
            raise _Unreadable
        value = _bounded(value**exponent.numerator)
    return value, tokens


def _operand(tokens: Sequence[str]) -> tuple[Fraction, Sequence[str]]:
    if not tokens:
        raise _Unreadable
    if tokens[0] == "(":
        value, tokens = _sum(tokens[1:])
        if not tokens or tokens[0] != ")":
            raise _Unreadable
        tokens = tokens[1:]
    elif tokens[0][0] in ".0123456789" and len(tokens[0]) <= 18:
        value, tokens = Fraction(tokens[0]), tokens[1:]
    else:
        raise _Unreadable
    if tokens and tokens[0] == "%":
        return value / 100, tokens[1:]
    return value, tokens
