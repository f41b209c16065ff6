"""Integer arithmetic and linear equations, solved one line per step: the domain of the lab.

A solution of ``(17 + 8) * 3 - 40`` is ``17 + 8 = 25``, ``25 * 3 = 75``, ``75 - 40 = 35``, ``#### 35``; one of
``3 * x + 5 = 20`` is ``3 * x = 15``, ``x = 5``, ``#### 5``. Five levels of difficulty differ in the number of
operations and the size of the numbers (`LEVELS`). Everything is exact (fractions), and no text is ever evaluated.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from envs.core import (
    SPLITS,
    Problem,
    Split,
    State,
    Step,
    Transition,
    UnreadableQuestion,
    termination,
    transition,
    truncation,
)
from envs.expressions import (
    MAX_DIGITS,
    Expression,
    Number,
    Operation,
    Unknown,
    linear,
    parse_sides,
    unknowns,
    write,
    write_sides,
)
from envs.messages import short
from envs.splits import draw_distinct, split_of

ANSWER_MARK = "#### "
LARGEST = 999  # numbers up to here are single tokens of the lab's models; generated problems never exceed it
MAX_QUESTION = 400  # characters
MAX_LINE = 120


@dataclass(frozen=True)
class ArithmeticLevel:
    """How hard the problems of a level are.

    Args:
        operations: fewest and most of an expression.
        leaf: largest number in the question, but for products and right sides.
        factor: largest factor.
        operators: drawn from with equal chances, repeats weigh.
        largest: largest absolute value on the way.
        equations: share of linear equations.
    """

    operations: tuple[int, int]
    leaf: int
    factor: int
    operators: str
    largest: int = LARGEST
    equations: float = 0.2


LEVELS: dict[int, ArithmeticLevel] = {
    1: ArithmeticLevel(operations=(1, 2), leaf=20, factor=5, operators="+++---*/"),
    2: ArithmeticLevel(operations=(3, 4), leaf=50, factor=9, operators="+++---*/", largest=150),
    3: ArithmeticLevel(operations=(4, 5), leaf=60, factor=9, operators="+++---*/", largest=200),
    4: ArithmeticLevel(operations=(5, 7), leaf=99, factor=12, operators="+++---*/", largest=300),
    5: ArithmeticLevel(operations=(6, 8), leaf=199, factor=39, operators="++--**/"),
}

WIDE: dict[int, ArithmeticLevel] = {
    1: ArithmeticLevel(operations=(1, 2), leaf=20, factor=5, operators="+++---*/"),
    2: ArithmeticLevel(operations=(2, 3), leaf=50, factor=9, operators="+++---**/"),
    3: ArithmeticLevel(operations=(3, 4), leaf=99, factor=12, operators="+++---**/"),
    4: ArithmeticLevel(operations=(4, 5), leaf=99, factor=19, operators="++--**/"),
    5: ArithmeticLevel(operations=(6, 8), leaf=199, factor=39, operators="++--**/"),
}
"""Larger numbers in fewer operations, to train on: they cover every expression of numbers up to `LARGEST`."""


def solve(sides: tuple[Expression, ...]) -> Fraction:
    """The value of an expression or the solution of a linear equation, exactly; raises ValueError if there is none."""
    if len(sides) == 1:
        if unknowns(sides[0]):
            raise ValueError("there is an unknown but no equals sign")
        return linear(sides[0])[1]
    if len(unknowns(sides[0]) | unknowns(sides[1])) != 1:
        raise ValueError("an equation needs exactly one unknown")
    (a, b), (c, d) = linear(sides[0]), linear(sides[1])
    if a == c:
        raise ValueError("the equation has no single solution")
    return (d - b) / (a - c)


def _apply(operator: str, a: Fraction, b: Fraction) -> Fraction | None:
    if operator == "+":
        return a + b
    if operator == "-":
        return a - b
    if operator == "*":
        return a * b
    return a / b if b else None


# ---------------------------------------------------------------------------------------- what is left to work out
# For checking, an expression is a sum of signed terms or a product of factors with exponents +1 and -1, with nested
# sums and products flattened, so that any order of work that mathematics allows is right.


@dataclass(frozen=True)
class _Group:
    kind: str  # "+" or "*"
    members: tuple[tuple[int, _Node], ...]  # sign of a term, exponent of a factor


_Node = Fraction | _Group


def _flatten(expression: Expression) -> _Node:
    match expression:
        case Number(value):
            return value
        case Operation(operator, left, right):
            kind = "+" if operator in "+-" else "*"
            inverse = 1 if operator in "+*" else -1
            return _group(kind, ((1, _flatten(left)), (inverse, _flatten(right))))
        case _:
            raise ValueError("an unknown in an expression")


def _group(kind: str, members: tuple[tuple[int, _Node], ...]) -> _Node:
    flat: list[tuple[int, _Node]] = []
    for inverse, node in members:
        if isinstance(node, _Group) and node.kind == kind:
            flat += [(inverse * inner, member) for inner, member in node.members]
        else:
            flat.append((inverse, node))
    match flat:
        case [(1, Fraction() as only)]:
            return only
        case [(-1, Fraction() as only)] if kind == "+":
            return -only
    return _Group(kind, tuple(flat))


def _reduce(node: _Node, operator: str, a: Fraction, b: Fraction, result: Fraction) -> _Node | None:
    """The node with one ``a operator b`` worked out as `result`, or None if there is nothing of the kind in it."""
    if not isinstance(node, _Group):
        return None
    kind = "+" if operator in "+-" else "*"
    if node.kind == kind:
        inverse = 1 if operator in "+*" else -1
        for overall in (1, -1):  # a + b also stands for -(-a - b); a * b for the divisors of 1 / (a * b)
            if (pair := _find_pair(node, overall, a, overall * inverse, b)) is not None:
                rest = tuple(member for i, member in enumerate(node.members) if i not in pair)
                return _group(kind, (*rest, (overall, result)))
    for i, (inverse, member) in enumerate(node.members):
        if (reduced := _reduce(member, operator, a, b, result)) is not None:
            return _group(node.kind, (*node.members[:i], (inverse, reduced), *node.members[i + 1 :]))
    return None


def _find_pair(group: _Group, sign_a: int, a: Fraction, sign_b: int, b: Fraction) -> tuple[int, int] | None:
    def matches(index: int, sign: int, value: Fraction) -> bool:
        inverse, node = group.members[index]
        if not isinstance(node, Fraction):
            return False
        return inverse * node == sign * value if group.kind == "+" else (inverse == sign and node == value)

    indices = range(len(group.members))
    for i in indices:
        if matches(i, sign_a, a):
            for j in indices:
                if j != i and matches(j, sign_b, b):
                    return i, j
    return None


def _read_operation(line: str) -> tuple[str, Fraction, Fraction, Fraction] | None:
    """(operator, a, b, c) of ``a operator b = c``, or None."""
    try:
        sides = parse_sides(line)
    except ValueError:
        return None
    match sides:
        case (Operation(operator, Number(a), Number(b)), Number(c)):
            return operator, a, b, c
    return None


@lru_cache(maxsize=1 << 12)  # answers come again and again, from siblings and in votes
def _read_number(text: str) -> Fraction | None:
    """A whole number, a decimal or a fraction, with thousands separators allowed; None if it is not one."""
    text = text.strip().replace("−", "-").replace(",", "")
    digits = rf"\d{{1,{MAX_DIGITS}}}"
    if re.fullmatch(rf"[-+]?\s*{digits}(?:\.{digits}|\s*/\s*{digits})?", text, flags=re.ASCII) is None:
        return None
    try:
        return Fraction(re.sub(r"\s+", "", text))
    except ZeroDivisionError:
        return None


# ------------------------------------------------------------------------------------------------------- questions

# How people and reasoning-gym word a question; what is left after these is the expression or the equation.
_LEAD = re.compile(
    r"^(?:(?:please\s+)?(?:calculate|compute|evaluate|simplify|work\s+out|solve"
    r"|what\s+is|what's|what\s+does|how\s+much\s+is)"
    r"(?:\s+the\s+(?:value|result)\s+of)?(?:\s+the\s+following(?:\s+\w+){0,2})?"
    r"|state\s+the\s+final\s+answer\s+to\s+the\s+following\s+arithmetic\s+problem"
    r"|(?:find|determine)\s+the\s+value\s+of(?:\s+[a-zA-Z]\s+(?:in\s+the\s+equation|that\s+satisfies))?"
    r"|solve\s+for\s+[a-zA-Z])\b\s*:?\s*",
    re.IGNORECASE,
)
_FOR = re.compile(r"^for\s+[a-zA-Z]\s*:\s*", re.IGNORECASE)
_TAIL = re.compile(r"\s*(?:equal(?:\s+to)?\s*)?(?:=\s*)?(?:[?.:]|(?<=[=?.:!])!)*\s*$", re.IGNORECASE)  # 5! is no 5
_WORD = re.compile(r"[^\W\d_]{2,}")
_READABLE = (
    "the arithmetic environment reads expressions of whole numbers with + - * / and parentheses, such as "
    "'(17 + 8) * 3 - 40', and linear equations in one unknown, such as '5x - 4 = 31'"
)


def _strip_words(question: str) -> str:
    text = _FOR.sub("", _LEAD.sub("", question.strip()))
    text = re.sub(r"\s+for\s+[a-zA-Z]\s*[?.!]*$", "", text)
    return _TAIL.sub("", text).replace(",", "") if text.strip() else text


class Arithmetic:
    """Expressions and linear equations. Conforms to `Environment`, `Demonstrator` and `StepChecker`.

    Args:
        levels: which of the levels 1 to 5 `problems` draws from, in equal shares (repeats weigh).
        wide: draw from `WIDE`, the levels to train on, in place of `LEVELS`.
    """

    name = "arithmetic"
    delimiter = "\n"
    max_steps = 14

    def __init__(self, levels: Sequence[int] = (1, 2, 3, 4, 5), wide: bool = False) -> None:
        wrong = [level for level in levels if level not in LEVELS]
        if wrong or not levels:
            raise ValueError(f"levels {list(levels)!r} given; allowed: one or more of {sorted(LEVELS)}")
        self.levels = tuple(levels)
        self.wide = wide

    # ------------------------------------------------------------------------------------------------- questions

    def read(self, question: str) -> Problem:
        """Read a question as people type it or as reasoning-gym words it; raises `UnreadableQuestion`."""
        if len(question) > MAX_QUESTION:
            raise UnreadableQuestion(f"a question of {len(question)} characters; at most {MAX_QUESTION} are read")
        try:
            text = _strip_words(question)
            if word := _WORD.search(text):
                raise ValueError(f"{short(word[0])} is a word and no number")
            sides = parse_sides(text)
            value = solve(sides)
            if _read_number(str(value)) is None:
                raise ValueError(f"its answer has more than {MAX_DIGITS} digits")
        except (ValueError, RecursionError) as error:
            raise UnreadableQuestion(f"cannot read {question!r}: {error}; {_READABLE}") from None
        return self._problem(sides, value, {})

    def _problem(self, sides: tuple[Expression, ...], value: Fraction, meta: dict[str, int]) -> Problem:
        canonical = write_sides(sides)
        return Problem(f"{self.name}/{canonical}", canonical, str(value), meta)

    def prompt(self, problem: Problem) -> str:
        """The canonical question on a line of its own."""
        return problem.question + "\n"

    # ---------------------------------------------------------------------------------------------------- the MDP

    def initial(self, problem: Problem) -> State:
        """The state before the first step."""
        return State(problem)

    def step(self, state: State, step: Step) -> Transition:
        """A line ``#### answer`` terminates; a line that is neither that nor an equation truncates, as does depth."""
        after = state.then(step)
        if self.answer(after) is not None:
            return termination(after)
        line = step.text.strip()
        if len(after.steps) >= self.max_steps or step.finish != "step" or len(line) > MAX_LINE or "=" not in line:
            return truncation(after)
        return transition(after) if _is_equation(line) else truncation(after)

    def answer(self, state: State) -> str | None:
        """The number after ``####`` in the last step, or None."""
        if not state.steps:
            return None
        line = state.steps[-1].text.strip()
        if not line.startswith(ANSWER_MARK.strip()) or len(line) > MAX_LINE:
            return None
        value = _read_number(line.removeprefix(ANSWER_MARK.strip()))
        return None if value is None else str(value)

    def check(self, problem: Problem, answer: str) -> bool:
        """Whether the answer has the gold answer's value."""
        return problem.answer is not None and self.same(problem.answer, answer)

    def same(self, a: str, b: str) -> bool:
        """Equality of values (0.5 and 1/2 are the same); texts that are no numbers are the same if equal."""
        first, second = _read_number(a), _read_number(b)
        return a.strip() == b.strip() if first is None or second is None else first == second

    def first_error(self, state: State) -> int | None:
        """Index of the first step that is not a right reduction (or not an equivalent equation), or None."""
        sides = parse_sides(state.problem.question)
        value = solve(sides)
        left = _flatten(sides[0]) if len(sides) == 1 else None
        names = unknowns(sides[0]) | unknowns(sides[-1])
        for index, step in enumerate(state.steps):
            line = step.text.strip()
            if len(line) > MAX_LINE:
                return index
            if line.startswith(ANSWER_MARK.strip()):
                if _read_number(line.removeprefix(ANSWER_MARK.strip())) != value:
                    return index
            elif left is None:
                if not _equivalent(line, names, value):
                    return index
            else:
                operation = _read_operation(line)
                if operation is None:
                    return index
                operator, a, b, c = operation
                reduced = _reduce(left, operator, a, b, c) if _apply(operator, a, b) == c else None
                if reduced is None:
                    return index
                left = reduced
        return None

    # -------------------------------------------------------------------------------------------------- problems

    def problems(self, split: Split, n: int, seed: int = 0) -> Sequence[Problem]:
        """`n` distinct problems of a split, the levels in turn; the same arguments give the same problems."""
        if split not in SPLITS:
            raise ValueError(f"split {split!r} given; allowed: {', '.join(SPLITS)}")
        return draw_distinct(self.stream(split, random.Random(f"{self.name}/{split}/{seed}")), n, split)

    def stream(self, split: Split, rng: random.Random) -> Iterator[Problem]:
        """Problems of a split without end, the levels in turn; they may repeat."""
        table = WIDE if self.wide else LEVELS
        while True:
            for level in self.levels:
                while True:
                    sides = _generate(level, table[level], rng)
                    if sides is not None and split_of(write_sides(sides)) == split:
                        break
                yield self._problem(sides, solve(sides), {"level": level})

    def demonstrate(self, problem: Problem, rng: random.Random) -> tuple[str, ...]:
        """A worked solution. Expressions: mostly from the left, now and then in another order that is as right."""
        sides = parse_sides(problem.question)
        lines = list(_work_out(sides[0], rng) if len(sides) == 1 else _solve_steps(sides))
        return (*lines, f"{ANSWER_MARK}{solve(sides)}")


@lru_cache(maxsize=1 << 16)  # siblings write the same lines, and each is read by the policy and by the search
def _is_equation(line: str) -> bool:
    try:
        parse_sides(line)
    except ValueError:
        return False
    return True


def _equivalent(line: str, names: frozenset[str], value: Fraction) -> bool:
    try:
        sides = parse_sides(line)
        return len(sides) == 2 and unknowns(sides[0]) | unknowns(sides[1]) == names and solve(sides) == value
    except ValueError:
        return False


def _work_out(expression: Expression, rng: random.Random) -> Iterator[str]:
    """Reduce ready operations until a number is left."""
    while isinstance(expression, Operation):
        ready = list(_ready(expression))
        path = ready[0] if rng.random() < 0.8 else rng.choice(ready)
        line, expression = _reduce_at(expression, path)
        yield line


def _ready(expression: Expression, path: str = "") -> Iterator[str]:
    """Paths (l, r) to the operations whose two sides are numbers, from the left."""
    if isinstance(expression, Operation):
        if isinstance(expression.left, Number) and isinstance(expression.right, Number):
            yield path
        else:
            yield from _ready(expression.left, path + "l")
            yield from _ready(expression.right, path + "r")


def _reduce_at(expression: Expression, path: str) -> tuple[str, Expression]:
    if not isinstance(expression, Operation):
        raise ValueError("a number has nothing to reduce")
    if path:
        if path[0] == "l":
            line, left = _reduce_at(expression.left, path[1:])
            return line, Operation(expression.operator, left, expression.right)
        line, right = _reduce_at(expression.right, path[1:])
        return line, Operation(expression.operator, expression.left, right)
    value = linear(expression)[1]
    return f"{write(expression)} = {value}", Number(value)


def _solve_steps(sides: tuple[Expression, ...]) -> Iterator[str]:
    """Open a product, collect the unknown, move the constant, divide: one line each, as far as needed."""
    name = next(iter(unknowns(sides[0]) | unknowns(sides[1])))
    (a, b), (c, d) = linear(sides[0]), linear(sides[1])
    previous = write_sides(sides)
    nothing = Fraction(0)
    for e, f, g, h in ((a, b, c, d), (a - c, b, nothing, d), (a - c, nothing, nothing, d - b)):
        line = f"{_write_linear(e, f, name)} = {_write_linear(g, h, name)}"
        if line != previous:
            yield line
            previous = line
    line = f"{name} = {(d - b) / (a - c)}"
    if line != previous:
        yield line


def _write_linear(a: Fraction, b: Fraction, name: str) -> str:
    term = "" if not a else name if a == 1 else f"{a} * {name}"
    if not term:
        return str(b)
    return term if not b else f"{term} + {b}" if b > 0 else f"{term} - {-b}"


# ------------------------------------------------------------------------------------------------------- generator


def _generate(level: int, bounds: ArithmeticLevel, rng: random.Random) -> tuple[Expression, ...] | None:
    """One draw of a level, or None when it breaks a bound and must be drawn again."""
    if rng.random() < bounds.equations:
        sides: tuple[Expression, ...] = _generate_equation(level, bounds, rng)
        steps = [number for line in _solve_steps(sides) for number in re.findall(r"\d+", line)]
        small = all(int(number) <= bounds.largest for number in steps + re.findall(r"\d+", write_sides(sides)))
        return sides if small else None
    made = _generate_tree(rng.randint(*bounds.operations), bounds, rng)
    return None if made is None else (made[0],)


def _generate_tree(operations: int, bounds: ArithmeticLevel, rng: random.Random) -> tuple[Expression, Fraction] | None:
    """A random expression and its value; every value on the way is a whole number of at most ``bounds.largest``."""
    if operations == 0:
        value = Fraction(rng.randint(1, bounds.leaf))
        return Number(value), value
    operator = rng.choice(bounds.operators)
    if operator in "*/":
        made = _generate_tree(operations - 1, bounds, rng)
        if made is None:
            return None
        left, value = made
        if operator == "*":
            if isinstance(left, Number):  # a product of two leaves: both within the level's factors or one of them
                value = Fraction(rng.randint(2, max(bounds.factor, 12 if bounds.leaf > 20 else 9)))
                left = Number(value)
            other = Fraction(rng.randint(2, bounds.factor))
        else:
            divisors = [d for d in range(2, min(bounds.factor, 12) + 1) if value % d == 0]
            if not divisors or not value:
                return None
            other = Fraction(rng.choice(divisors))
        swap = operator == "*" and rng.random() < 0.5
        pair: tuple[Expression, Expression] = (Number(other), left) if swap else (left, Number(other))
        result = _apply(operator, value, other)
    else:
        first = rng.randint(0, operations - 1) if rng.random() < 0.4 else operations - 1
        a = _generate_tree(first, bounds, rng)
        b = _generate_tree(operations - 1 - first, bounds, rng)
        if a is None or b is None:
            return None
        pair = (a[0], b[0])
        result = _apply(operator, a[1], b[1])
    if result is None or abs(result) > bounds.largest:
        return None
    return Operation(operator, *pair), result


def _generate_equation(level: int, bounds: ArithmeticLevel, rng: random.Random) -> tuple[Expression, Expression]:
    """``x + b = c`` at level 1, ``a * x + b = c`` at 2, the unknown on both sides from 3, a product from 4."""
    x: Expression = Unknown(rng.choice("xyzabn"))
    value = rng.randint(1, bounds.leaf) * (1 if level < 3 or rng.random() < 0.7 else -1)
    inner = rng.randint(1, bounds.leaf)

    def number(n: int) -> Number:
        return Number(Fraction(n))

    if level == 1:
        operator = rng.choice("+-*")
        left: Expression = Operation(operator, x, number(inner))
        if operator == "*":
            left = Operation("*", number(rng.randint(2, bounds.factor)), x)
    else:
        left = Operation("*", number(rng.randint(2, bounds.factor)), x)
        if level >= 4:
            left = Operation("*", number(rng.randint(2, 9)), Operation(rng.choice("+-"), x, number(rng.randint(1, 20))))
        left = Operation(rng.choice("+-"), left, number(inner))
    right_coefficient = rng.randint(2, bounds.factor) if level >= 3 and rng.random() < 0.7 else 0
    a, b = linear(left)
    if right_coefficient == a:
        right_coefficient = 0
    rest = a * value + b - right_coefficient * value
    right: Expression = Number(rest)
    if right_coefficient:
        term = Operation("*", number(right_coefficient), x)
        right = Operation("+" if rest >= 0 else "-", term, Number(abs(rest))) if rest else term
    return left, right
