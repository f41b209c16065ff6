r"""Exact comparison of mathematical expressions, with bounded time and memory and without any computer algebra system.

An expression becomes a quotient of two polynomials with rational coefficients. Its variables are *atoms*: symbols,
the constants pi, e and i, fractional powers of primes (the square root of 12 is two times the power 1/2 of 3),
logarithms of primes, powers with a symbol in the exponent. Such atoms satisfy no relation but those that are applied
here, so that two quotients are equal if and only if their cross product vanishes. What else may stand in an answer
(sin x, the root of a sum) is an *opaque* atom: where those remain the values at a few points prove a difference, and
whether it is an equality is left open.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

MAX_TERMS = 400  # of a polynomial
MAX_BITS = 1 << 17  # of a coefficient
MAX_WORK = 40_000  # products of two terms, in one expression or one comparison
MAX_KEY = 4000  # characters of the name of an opaque atom
MAX_PRIME = 10_000  # integers are factored by trial division up to here
MAX_MAGNITUDE = 1e5  # arguments of exponential and trigonometric functions in numerical evaluation
PRIME = (1 << 127) - 1

# --------------------------------------------------------------------------------------------------------- expressions


@dataclass(frozen=True)
class Num:
    """An exact rational number; `unit` is the value of its last digit where it was written as a decimal."""

    value: Fraction
    unit: Fraction | None = None
    digits: int = 0


@dataclass(frozen=True)
class Const:
    """One of ``pi``, ``e``, ``i`` and ``oo`` (infinity)."""

    name: str


@dataclass(frozen=True)
class Sym:
    """A variable."""

    name: str


@dataclass(frozen=True)
class Sum:
    """A sum of terms."""

    terms: tuple[Expr, ...]


@dataclass(frozen=True)
class Prod:
    """A product of factors."""

    factors: tuple[Expr, ...]


@dataclass(frozen=True)
class Pow:
    """A power; a quotient is a product with the power -1, an n-th root the power 1/n."""

    base: Expr
    exponent: Expr


@dataclass(frozen=True)
class Call:
    """A function of its arguments."""

    name: str
    arguments: tuple[Expr, ...]


Expr = Num | Const | Sym | Sum | Prod | Pow | Call

ONE, MINUS_ONE = Num(Fraction(1)), Num(Fraction(-1))
PI, E, IMAGINARY, OO = Const("pi"), Const("e"), Const("i"), Const("oo")


def negated(expr: Expr) -> Expr:
    """Minus an expression; a number stays one."""
    return Num(-expr.value, expr.unit, expr.digits) if isinstance(expr, Num) else Prod((MINUS_ONE, expr))


def times(a: Expr, b: Expr) -> Expr:
    """A product, in one level of nesting however many factors follow each other."""
    return Prod((*a.factors, b)) if isinstance(a, Prod) else Prod((a, b))


def over(top: Expr, bottom: Expr) -> Expr:
    """A quotient."""
    return times(top, Pow(bottom, MINUS_ONE))


def minus(a: Expr, b: Expr) -> Expr:
    """A difference."""
    return Sum((a, negated(b)))


def children(expr: Expr) -> tuple[Expr, ...]:
    """The parts of an expression."""
    match expr:
        case Sum(terms):
            return terms
        case Prod(factors):
            return factors
        case Pow(base, exponent):
            return (base, exponent)
        case Call(_, arguments):
            return arguments
    return ()


def walk(expr: Expr) -> Iterator[Expr]:
    """An expression and all its parts."""
    stack = [expr]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(children(node))


def symbols(expr: Expr) -> set[str]:
    """The names of its variables."""
    return {node.name for node in walk(expr) if isinstance(node, Sym)}


def renamed(expr: Expr, names: Mapping[str, Expr]) -> Expr:
    """The expression with some of its variables replaced."""
    match expr:
        case Sym(name):
            return names.get(name, expr)
        case Sum(terms):
            return Sum(tuple(renamed(term, names) for term in terms))
        case Prod(factors):
            return Prod(tuple(renamed(factor, names) for factor in factors))
        case Pow(base, exponent):
            return Pow(renamed(base, names), renamed(exponent, names))
        case Call(name, arguments):
            return Call(name, tuple(renamed(argument, names) for argument in arguments))
    return expr


def as_json(expr: Expr) -> Any:
    """Nested lists, for another process."""
    match expr:
        case Num(value):
            return ["num", hex(value.numerator), hex(value.denominator)]
        case Const(name):
            return ["const", name]
        case Sym(name):
            return ["sym", name]
        case Call(name, arguments):
            return ["call", name, *map(as_json, arguments)]
    return [type(expr).__name__.lower(), *map(as_json, children(expr))]


# ---------------------------------------------------------------------------------------------------- polynomials

Monomial = tuple[tuple[str, Fraction], ...]
Poly = dict[Monomial, Fraction]
_UNIT: Poly = {(): Fraction(1)}
_HALF = Fraction(1, 2)
_COSINES = {
    Fraction(0): ((Fraction(1), 1),), Fraction(1, 12): ((Fraction(1, 4), 6), (Fraction(1, 4), 2)),
    Fraction(1, 6): ((_HALF, 3),), Fraction(1, 5): ((Fraction(1, 4), 1), (Fraction(1, 4), 5)),
    Fraction(1, 4): ((_HALF, 2),), Fraction(1, 3): ((_HALF, 1),),
    Fraction(2, 5): ((Fraction(-1, 4), 1), (Fraction(1, 4), 5)),
    Fraction(5, 12): ((Fraction(1, 4), 6), (Fraction(-1, 4), 2)), _HALF: (),
}  # fmt: skip
"""cos(r pi) as a sum of rational multiples of square roots."""


class TooLarge(Exception):
    """An expression beyond the limits of exact arithmetic."""


class Undefined(ValueError):
    """An expression without a value, such as a division by zero."""


@lru_cache(maxsize=1 << 12)
def _factors(number: int) -> tuple[tuple[int, int], ...] | None:
    """Primes with their powers; None where trial division does not end."""
    if number.bit_length() > 512:
        return None
    found, prime = list[tuple[int, int]](), 2
    while prime <= MAX_PRIME and prime * prime <= number:
        power = 0
        while number % prime == 0:
            number //= prime
            power += 1
        if power:
            found.append((prime, power))
        prime += 1 + prime % 2
    if number > 1:
        if number > MAX_PRIME**2:
            root = math.isqrt(number)
            if root * root != number or root > MAX_PRIME**2:
                return None
            found.append((root, 2))
        else:
            found.append((number, 1))
    return tuple(found)


class Exact:
    """Turns expressions into quotients of polynomials, within the limits; one for each comparison."""

    def __init__(self) -> None:
        self._work = 0
        self._squares: dict[str, tuple[int, Poly]] = {}  # an atom's power that is a polynomial
        self._known: dict[Expr, tuple[Poly, Poly]] = {}

    def quotient(self, expr: Expr) -> tuple[Poly, Poly]:
        """Numerator and denominator.

        Raises:
            TooLarge: beyond the limits.
            Undefined: for a division by zero.
        """
        if expr not in self._known:
            self._known[expr] = self._quotient(expr)
        return self._known[expr]

    def _quotient(self, expr: Expr) -> tuple[Poly, Poly]:
        match expr:
            case Num(value):
                return self._constant(value), _UNIT
            case Const("i"):
                return {(("i", Fraction(1)),): Fraction(1)}, _UNIT
            case Const("oo"):
                raise Undefined("infinity in an expression")
            case Const(name):
                return {((name, Fraction(1)),): Fraction(1)}, _UNIT
            case Sym(name):
                return {((f"_{name}", Fraction(1)),): Fraction(1)}, _UNIT
            case Sum(terms):
                total: tuple[Poly, Poly] = {}, _UNIT
                for term in terms:
                    total = self._plus(total, self.quotient(term))
                return total
            case Prod(factors):
                top, bottom = _UNIT, _UNIT
                for factor in factors:
                    more = self.quotient(factor)
                    top, bottom = self.times(top, more[0]), self.times(bottom, more[1])
                return top, bottom
            case Pow(base, exponent):
                return self._power(base, exponent)
            case Call(name, arguments):
                return self._call(name, arguments)

    def constant(self, expr: Expr) -> Fraction | None:
        """Its value, if it is rational."""
        top, bottom = self.quotient(expr)
        if not top:
            return Fraction(0)
        if set(top) != {()} or set(bottom) != {()}:
            first, other = next(iter(top)), next(iter(bottom))
            ratio = top[first] / bottom.get(first, bottom[other])
            crossed = self.plus(top, {key: -ratio * value for key, value in bottom.items()})
            return None if crossed else ratio
        return top[()] / bottom[()]

    # ------------------------------------------------------------------------------------------------- arithmetic

    def _spend(self, work: int) -> None:
        self._work += work
        if self._work > MAX_WORK:
            raise TooLarge

    def _constant(self, value: Fraction) -> Poly:
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
            raise TooLarge
        return {(): value} if value else {}

    def plus(self, a: Poly, b: Poly) -> Poly:
        """The sum of two polynomials."""
        total = dict(a)
        for key, value in b.items():
            if new := total.get(key, Fraction(0)) + value:
                total[key] = new
            else:
                total.pop(key, None)
        if len(total) > MAX_TERMS:
            raise TooLarge
        self._spend(len(b))
        return total

    def times(self, a: Poly, b: Poly) -> Poly:
        """The product of two polynomials, reduced."""
        if a == _UNIT or b == _UNIT:
            return b if a == _UNIT else a
        self._spend(len(a) * len(b))
        total: Poly = {}
        for first, x in a.items():
            for second, y in b.items():
                value = x * y
                if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
                    raise TooLarge
                if value.numerator.bit_length() > 2000:
                    self._spend(value.numerator.bit_length() // 100)
                for key, more in self._product(first, second, value).items():
                    if new := total.get(key, Fraction(0)) + more:
                        total[key] = new
                    else:
                        total.pop(key, None)
            if len(total) > MAX_TERMS:
                raise TooLarge
        return total

    def _product(self, a: Monomial, b: Monomial, value: Fraction) -> Poly:
        """Two monomials' product, with what is known of powers of its atoms applied."""
        if not a or not b:
            return {a or b: value}
        powers = dict(a)
        for atom, exponent in b:
            powers[atom] = powers.get(atom, Fraction(0)) + exponent
        return self._reduced(powers, value)

    def _reduced(self, powers: dict[str, Fraction], value: Fraction) -> Poly:
        rest: Poly = _UNIT
        for atom in list(powers):
            exponent = powers[atom]
            if atom == "i":
                turns = int(exponent) % 4
                powers[atom] = Fraction(turns % 2)
                value = -value if turns > 1 else value
            elif atom[0] == "#":  # a prime
                whole = math.floor(exponent)
                if abs(whole) * atom.__len__() * 4 > MAX_BITS:
                    raise TooLarge
                powers[atom] = exponent - whole
                value *= Fraction(int(atom[1:])) ** whole
            elif atom in self._squares:
                period, square = self._squares[atom]
                whole = math.floor(exponent / period)
                if whole > 0:
                    powers[atom] = exponent - whole * period
                    rest = self.times(rest, self._whole_power(square, whole))
        key = tuple(sorted((atom, exponent) for atom, exponent in powers.items() if exponent))
        return {key: value} if rest is _UNIT else self.times({key: value}, rest)

    def _plus(self, a: tuple[Poly, Poly], b: tuple[Poly, Poly]) -> tuple[Poly, Poly]:
        if a[1] == b[1]:
            return self.plus(a[0], b[0]), a[1]
        return self.plus(self.times(a[0], b[1]), self.times(b[0], a[1])), self.times(a[1], b[1])

    def _whole_power(self, base: Poly, exponent: int) -> Poly:
        if len(base) == 1:
            ((key, value),) = base.items()
            if exponent * max(value.numerator.bit_length() - 1, value.denominator.bit_length() - 1) > MAX_BITS:
                raise TooLarge
            return self._reduced({atom: power * exponent for atom, power in key}, value**exponent)
        if exponent > MAX_TERMS:
            raise TooLarge
        result, factor = _UNIT, base
        while exponent:
            if exponent % 2:
                result = self.times(result, factor)
            exponent //= 2
            if exponent:
                factor = self.times(factor, factor)
        return result

    # ------------------------------------------------------------------------------------------------------ powers

    def _power(self, base: Expr, exponent: Expr) -> tuple[Poly, Poly]:
        index = self.constant(exponent)
        if index is not None:
            if index == 0:
                return _UNIT, _UNIT
            top, bottom = self.quotient(base)
            if index < 0:
                if not top:
                    raise Undefined("a division by zero")
                top, bottom, index = bottom, top, -index
            if index.denominator == 1:
                if index > MAX_BITS:
                    raise TooLarge
                power = self._whole_power(top, int(index)) if top else top
                inverse = self._whole_power(bottom, int(index))
            else:
                power, inverse = self._root(top, index), self._root(bottom, index)
            if len(inverse) == 1:  # a denominator of one term goes into the numerator
                ((key, value),) = inverse.items()
                negative = self._reduced({atom: -each for atom, each in key}, 1 / value)
                return self.times(power, negative), _UNIT
            return power, inverse
        return self._symbolic_power(base, exponent)

    def _root(self, poly: Poly, index: Fraction) -> Poly:
        """A fractional power of a polynomial."""
        if not poly:
            return poly
        if len(poly) > 1:
            content = self._content(poly)
            inside = {key: value / content for key, value in poly.items()}
            atom = f"?root({_key(inside)})"
            whole = math.floor(index)
            self._squares[atom] = (1, inside)
            outside = self._root({(): content}, index)
            part: Poly = {((atom, index - whole),): Fraction(1)}
            return self.times(self.times(outside, part), self._whole_power(inside, whole) if whole else _UNIT)
        ((key, value),) = poly.items()
        result: Poly = _UNIT
        if value < 0:
            if index.denominator % 2:
                result = {(): Fraction(-1 if index.numerator % 2 else 1)}
            elif index.denominator == 2:
                result = self._reduced({"i": Fraction(index.numerator)}, Fraction(1))
            else:
                result = {((f"?unit({index})", Fraction(1)),): Fraction(1)}
        powers = dict[str, Fraction]()
        for number, sign in ((abs(value.numerator), Fraction(1)), (value.denominator, Fraction(-1))):
            primes = _factors(number)
            if primes is None:
                powers[f"?#{number}"] = sign * index
                self._squares[f"?#{number}"] = (1, {(): Fraction(number)})
            else:
                for prime, times_in in primes:
                    powers[f"#{prime}"] = powers.get(f"#{prime}", Fraction(0)) + sign * times_in * index
        for atom, power in key:
            raised = power * index
            even = index.denominator % 2 == 0 and power % 2 == 0 and raised.denominator == 1 and raised % 2 == 1
            if atom == "i":
                powers["?" + _key({key: Fraction(1)}) + f"^{index}"] = Fraction(1)
            elif even and atom[0] in "_?":
                powers[f"?abs({_key({((atom, Fraction(1)),): Fraction(1)})}/{_key(_UNIT)})"] = raised
            else:
                powers[atom] = powers.get(atom, Fraction(0)) + raised
        return self.times(result, self._reduced(powers, Fraction(1)))

    @staticmethod
    def _content(poly: Poly) -> Fraction:
        tops, bottoms = [abs(value.numerator) for value in poly.values()], [v.denominator for v in poly.values()]
        return Fraction(math.gcd(*tops), math.lcm(*bottoms))

    def _symbolic_power(self, base: Expr, exponent: Expr) -> tuple[Poly, Poly]:
        """A power whose exponent is no rational number: a product over the terms of the exponent."""
        (top, bottom), (upper, lower) = self.quotient(base), self.quotient(exponent)
        if not top:
            raise Undefined("a power of zero")
        if set(lower) != {()} or len(top) != 1 or set(bottom) != {()} or top[next(iter(top))] < 0:
            return {
                ((f"?pow({_key(top)}/{_key(bottom)},{_key(upper)}/{_key(lower)})", Fraction(1)),): Fraction(1)
            }, _UNIT
        ((key, value),) = top.items()
        value /= bottom[()]
        bases = dict(key)
        for number, sign in ((value.numerator, Fraction(1)), (value.denominator, Fraction(-1))):
            primes = _factors(number)
            if primes is None:
                raise TooLarge
            for prime, times_in in primes:
                bases[f"#{prime}"] = bases.get(f"#{prime}", Fraction(0)) + sign * times_in
        result = _UNIT
        for atom, power in bases.items():
            for term, factor in upper.items():
                result = self.times(result, self._atom_power(atom, term, power * factor / lower[()]))
        return result, _UNIT

    def _atom_power(self, atom: str, term: Monomial, factor: Fraction) -> Poly:
        """An atom to the power of a monomial times a number."""
        if not term:
            if atom[0] == "#" or atom != "i":
                return self._reduced({atom: factor}, Fraction(1))
            return {((f"?i^{factor}", Fraction(1)),): Fraction(1)}
        if atom == "e" and term == (("i", Fraction(1)), ("pi", Fraction(1))):
            return self.plus(self._cosine(factor), self.times(self._cosine(_HALF - factor), self._imaginary()))
        if atom == "e" and len(term) == 1 and term[0][0][:2] == "ln" and term[0][1] == 1:  # e^(2 ln 3)
            return self._reduced({f"#{term[0][0][2:]}": factor}, Fraction(1))
        opaque = "?" if atom == "i" or any(name == "i" or name[0] == "?" for name, _ in term) else ""
        return {((f"{opaque}^{atom}({_key({term: Fraction(1)})})", factor),): Fraction(1)}

    @staticmethod
    def _imaginary() -> Poly:
        return {(("i", Fraction(1)),): Fraction(1)}

    # --------------------------------------------------------------------------------------------------- functions

    def _cosine(self, turn: Fraction) -> Poly:
        """cos(turn pi)."""
        turn = abs(turn) % 2
        turn = min(turn, 2 - turn)
        known = _COSINES.get(min(turn, 1 - turn))
        if known is None:
            return {((f"?cos(pi {turn})", Fraction(1)),): Fraction(1)}
        total: Poly = {}
        for factor, number in known:
            root = self._root({(): Fraction(number)}, _HALF)
            total = self.plus(total, {key: value * factor for key, value in root.items()})
        return {key: -value for key, value in total.items()} if turn > _HALF else total

    def _call(self, name: str, arguments: tuple[Expr, ...]) -> tuple[Poly, Poly]:
        if name in ("sin", "cos", "tan", "cot", "sec", "csc") and len(arguments) == 1:
            return self._trigonometric(name, arguments[0])
        if name == "ln":
            return self._logarithm(arguments[0])
        if name == "abs":
            return self._absolute(arguments[0])
        values = [self.constant(argument) for argument in arguments]
        known = [value for value in values if value is not None]
        if len(known) == len(values) and (result := _of_numbers(name, known)) is not None:
            return self._constant(result), _UNIT
        if name in ("floor", "ceil") and not symbols(arguments[0]):
            value = numeric(arguments[0])
            if value is not None and not value.imaginary and abs(value.real - round(value.real)) > 1000 * value.error:
                return self._constant(Fraction(int((math.floor if name == "floor" else math.ceil)(value.real)))), _UNIT
        keys = ",".join(f"{_key(top)}/{_key(bottom)}" for top, bottom in map(self.quotient, arguments))
        opaque = "_" if name.startswith("apply ") and "?" not in keys else "?"  # nothing is known of a named function
        return {((f"{opaque}{name}({keys})", Fraction(1)),): Fraction(1)}, _UNIT

    def _trigonometric(self, name: str, argument: Expr) -> tuple[Poly, Poly]:
        top, bottom = self.quotient(argument)
        pi = (("pi", Fraction(1)),)
        sign = 1
        if set(bottom) == {()} and set(top) <= {pi}:
            turn = top.get(pi, Fraction(0)) / bottom[()]
            sine, cosine = self._cosine(_HALF - turn), self._cosine(turn)
        else:
            if top and top[min(top)] < 0:
                sign, top = -1, {key: -value for key, value in top.items()}
            key = f"{_key(top)}/{_key(bottom)}"
            sine = {((f"?sin({key})", Fraction(1)),): Fraction(sign)}
            cosine = {((f"?cos({key})", Fraction(1)),): Fraction(1)}
            one: Poly = {(): Fraction(1)}
            square: Poly = {((f"?sin({key})", Fraction(2)),): Fraction(-1)}
            self._squares[f"?cos({key})"] = (2, self.plus(one, square))
        pairs = {
            "sin": (sine, _UNIT), "cos": (cosine, _UNIT), "tan": (sine, cosine), "cot": (cosine, sine),
            "sec": (_UNIT, cosine), "csc": (_UNIT, sine),
        }  # fmt: skip
        if not pairs[name][1]:
            raise Undefined(f"{name} has no value there")
        return pairs[name]

    def _logarithm(self, argument: Expr) -> tuple[Poly, Poly]:
        top, bottom = self.quotient(argument)
        if not top:
            raise Undefined("the logarithm of zero")
        total: Poly = {}
        for poly, sign in ((top, Fraction(1)), (bottom, Fraction(-1))):
            ((key, value),) = poly.items() if len(poly) == 1 else [((), Fraction(0))]
            primes = [_factors(number) for number in (value.numerator, value.denominator)] if value > 0 else [None]
            if None in primes or any(atom[0] not in "#e" or atom[:2] == "?#" for atom, _ in key):
                if poly == _UNIT:
                    continue
                return {((f"?ln({_key(top)}/{_key(bottom)})", Fraction(1)),): Fraction(1)}, _UNIT
            for found, way in zip(primes, (1, -1), strict=False):
                for prime, times_in in found or ():
                    total = self.plus(total, {((f"ln{prime}", Fraction(1)),): sign * way * times_in})
            for atom, power in key:
                log: Monomial = () if atom == "e" else ((f"ln{atom[1:]}", Fraction(1)),)
                total = self.plus(total, {log: sign * power})
        return total, _UNIT

    def _absolute(self, argument: Expr) -> tuple[Poly, Poly]:
        top, bottom = self.quotient(argument)
        if not symbols(argument):
            parts = [self._absolute_constant(poly) for poly in (top, bottom)]
            if parts[0] is not None and parts[1] is not None:
                return parts[0], parts[1]
        if top and top[min(top)] < 0:
            top = {key: -value for key, value in top.items()}
        return {((f"?abs({_key(top)}/{_key(bottom)})", Fraction(1)),): Fraction(1)}, _UNIT

    def _absolute_constant(self, poly: Poly) -> Poly | None:
        """Of a constant: its sign by its value, or the root of its squared parts."""
        if any(atom[0] in "?_" for key in poly for atom, _ in key):
            return None
        real = {key: value for key, value in poly.items() if ("i", Fraction(1)) not in key}
        other = {
            tuple(pair for pair in key if pair[0] != "i"): value
            for key, value in poly.items()
            if ("i", Fraction(1)) in key
        }
        if other:
            return self._root(self.plus(self.times(real, real), self.times(other, other)), _HALF)
        size = sum(_float_of(key) * float(value) for key, value in real.items()) if len(real) > 1 else 0.0
        if len(real) == 1:
            size = float(next(iter(real.values())))
        if len(real) > 1 and abs(size) < 1e-6 * sum(abs(_float_of(key) * float(value)) for key, value in real.items()):
            return None
        return {key: -value for key, value in real.items()} if size < 0 else real


def _float_of(key: Monomial) -> float:
    size = 1.0
    for atom, power in key:
        value = math.pi if atom == "pi" else math.e if atom == "e" else 0.0
        if atom[0] == "#":
            value = float(atom[1:])
        elif atom[:2] == "ln":
            value = math.log(float(atom[2:]))
        size *= value ** float(power)
    return size


def _of_numbers(name: str, values: list[Fraction]) -> Fraction | None:
    """Functions of rational numbers with a rational value."""
    if name == "floor":
        return Fraction(math.floor(values[0]))
    if name == "ceil":
        return Fraction(math.ceil(values[0]))
    if name in ("max", "min"):
        return (max if name == "max" else min)(values)
    if any(value.denominator != 1 for value in values):
        return None
    whole = [int(value) for value in values]
    if name == "gcd":
        return Fraction(math.gcd(*whole))
    if name == "lcm" and all(abs(value).bit_length() < 4096 for value in whole) and len(whole) < 30:
        return Fraction(math.lcm(*whole))
    if name == "mod" and whole[1]:
        return Fraction(whole[0] % whole[1])
    if name == "factorial" and whole[0] >= 0:
        if whole[0] > 10_000:
            raise TooLarge
        return Fraction(math.factorial(whole[0]))
    if name == "binomial" and len(whole) == 2 and whole[0] >= 0 and whole[1] >= 0:
        if whole[0] > 10_000:
            raise TooLarge
        return Fraction(math.comb(*whole))
    return None


def _key(poly: Poly) -> str:
    text = "+".join(f"{value}[{' '.join(map(_pair, key))}]" for key, value in sorted(poly.items()))
    if len(text) > MAX_KEY:
        raise TooLarge
    return text


def _pair(pair: tuple[str, Fraction]) -> str:
    return f"{pair[0]}^{pair[1]}"


# ----------------------------------------------------------------------------------------------------- comparison


def equal(a: Expr, b: Expr) -> bool | None:
    """Whether two expressions are equal; None where their values agree and it was not shown why.

    An expression that can neither be worked out exactly nor evaluated is equal only to itself.
    """
    if a == b:
        return True
    ends = infinite(a), infinite(b)
    if any(ends):
        return ends[0] == ends[1]
    exact = Exact()
    try:
        (top, bottom), (other, under) = exact.quotient(a), exact.quotient(b)
        if not bottom or not under:
            return False
        crossed = exact.times(other, bottom)
        difference = exact.plus(exact.times(top, under), {key: -value for key, value in crossed.items()})
        if not difference:
            return True
        if not any("?" in atom for key in difference for atom, _ in key):
            return False
    except Undefined:
        return False
    except (TooLarge, RecursionError):
        residues = modular(a), modular(b)
        if None not in residues and residues[0] != residues[1]:
            return False
    return None if _agree(a, b) else False


def proportional(a: Expr, b: Expr) -> bool | None:
    """Whether two expressions vanish together: one is the other times a number that is not zero."""
    exact = Exact()
    try:
        top, other = exact.quotient(a)[0], exact.quotient(b)[0]
        if not top or not other:
            return not top and not other
        first = max(top, key=lambda key: (sum(power for _, power in key), key))
        if first not in other:
            return False
        ratio = top[first] / other[first]
        return all(top.get(key) == ratio * value for key, value in other.items()) and len(top) == len(other)
    except Undefined:
        return False
    except (TooLarge, RecursionError):
        return None


def sign_of_ratio(a: Expr, b: Expr) -> int:
    """The sign of the number by which two proportional expressions differ; 0 where it is not known."""
    first, second = (numeric(each, point=0) for each in (a, b))
    if first is None or second is None or not first.real or not second.real:
        return 0
    return 1 if (first.real > 0) == (second.real > 0) else -1


def infinite(expr: Expr) -> int:
    """1 or -1 for plus and minus infinity, 2 for what has no value because of an infinity, 0 without any."""
    if not any(isinstance(node, Const) and node.name == "oo" for node in walk(expr)):
        return 0
    match expr:
        case Const("oo"):
            return 1
        case Prod(factors):
            signs = [infinite(factor) or _sign_of_number(factor) for factor in factors]
            if sum(bool(infinite(factor)) for factor in factors) == 1 and set(signs) <= {1, -1}:
                return math.prod(signs)
        case Sum(terms) if sum(bool(infinite(term)) for term in terms) == 1:
            return sum(infinite(term) for term in terms)
    return 2


def _sign_of_number(expr: Expr) -> int:
    return 2 if not isinstance(expr, Num) or not expr.value else 1 if expr.value > 0 else -1


@lru_cache(maxsize=1 << 12)
def modular(expr: Expr) -> int | None:
    """Its value modulo a large prime where variables have values drawn by their names; None where it has none.

    Sums, products and quotients are respected, so that different residues prove different expressions.
    """
    try:
        return _modular(expr)
    except (ValueError, RecursionError):
        return None


def _modular(expr: Expr) -> int:
    match expr:
        case Num(value):
            return value.numerator * pow(value.denominator, -1, PRIME) % PRIME
        case Sym(name) | Const(("pi" | "e") as name):
            return int.from_bytes(hashlib.sha256(name.encode()).digest()) % PRIME
        case Sum(terms):
            return sum(map(_modular, terms)) % PRIME
        case Prod(factors):
            result = 1
            for factor in factors:
                result = result * _modular(factor) % PRIME
            return result
        case Pow(base, exponent):
            index = _small(exponent)
            if index is None:
                raise ValueError("no residue")
            return pow(_modular(base), index, PRIME)
        case Call("factorial", (argument,)):
            count = _small(argument)
            if count is None or not 0 <= count <= 20_000:
                raise ValueError("no residue")
            result = 1
            for each in range(2, count + 1):
                result = result * each % PRIME
            return result
    raise ValueError("no residue")


def _small(expr: Expr) -> int | None:
    """A whole number of at most MAX_BITS bits."""
    try:
        value = Exact().constant(expr)
    except (TooLarge, Undefined):
        return None
    return int(value) if value is not None and value.denominator == 1 and abs(value) < 1 << 4096 else None


# ------------------------------------------------------------------------------------------------------ numerical


@dataclass(frozen=True)
class Value:
    """A numerical value (mpmath numbers), and how far it may be off by rounding."""

    real: Any
    imaginary: Any
    error: Any


@lru_cache(maxsize=1 << 12)
def numeric(expr: Expr, point: int | None = None, digits: int = 60) -> Value | None:
    """Its value to about `digits` digits; None for variables (unless a point is asked for) and beyond the limits.

    Args:
        expr: an expression.
        point: the number of a point at which variables have values drawn by their names, between 0.2 and 0.8.
        digits: decimal digits to work with.
    """
    if sum(1 for _ in walk(expr)) > 500:
        return None
    mp = _precision(digits)
    try:
        value, error = _evaluate(expr, point, mp)
        value = mp.mpc(value)
        if not mp.isfinite(value) or not mp.isfinite(error):
            return None
        return Value(value.real, value.imag if abs(value.imag) > 1000 * error else mp.mpf(0), error)
    except (ValueError, ArithmeticError, RecursionError, TypeError, NotImplementedError):
        return None


_contexts = threading.local()


def _precision(digits: int) -> Any:
    """The arithmetic of mpmath with so many digits; each thread has its own."""
    if not hasattr(_contexts, "own"):
        from mpmath.ctx_mp import MPContext

        _contexts.own = MPContext()
    _contexts.own.dps = digits
    return _contexts.own


def _evaluate(expr: Expr, point: int | None, mp: Any) -> tuple[Any, Any]:
    """A value and a bound of its error, to first order."""
    match expr:
        case Num(number):
            if max(number.numerator.bit_length(), number.denominator.bit_length()) > MAX_BITS:
                raise ValueError("too large")
            value = mp.mpf(number.numerator) / number.denominator
            return value, mp.eps * abs(value)
        case Const(name):
            if name == "oo":
                raise ValueError("infinite")
            return +{"pi": mp.pi, "e": mp.e, "i": mp.mpc(0, 1)}[name], 4 * mp.eps
        case Sym(name):
            if point is None:
                raise ValueError("a variable")
            drawn = int.from_bytes(hashlib.sha256(f"{point}/{name}".encode()).digest()[:12])
            return mp.mpf(drawn) / (1 << 96) * 0.6 + 0.2, mp.eps
    values = [_evaluate(child, point, mp) for child in children(expr)]
    arguments, errors = [value for value, _ in values], [error for _, error in values]
    match expr:
        case Sum():
            result, error = mp.fsum(arguments), mp.fsum(errors)
        case Prod():
            result = mp.fprod(arguments)
            error = mp.fsum(
                each * mp.fprod(abs(other) for j, other in enumerate(arguments) if j != k)
                for k, each in enumerate(errors)
            )
        case Pow():
            base, index = arguments
            result = _numeric_power(base, index, mp)
            error = (
                abs(result) * (abs(index) * errors[0] / abs(base) + abs(mp.log(base)) * errors[1])
                if base
                else mp.mpf(0)
            )
        case Call(name, _):
            result, error = _numeric_call(name, arguments, errors, mp)
    if result and mp.mag(result) > 1 << 40:
        raise ValueError("too large")
    return result, error + mp.eps * abs(result) * 4


def _numeric_power(base: Any, exponent: Any, mp: Any) -> Any:
    if abs(exponent) > 1e9 or (base and abs(exponent * mp.log(abs(base))) > 1e10):
        raise ValueError("too large")
    inverse = 1 / exponent if exponent and not mp.im(exponent) else mp.mpf(0)
    nearest = int(mp.nint(inverse))
    odd = abs(inverse - nearest) < mp.mpf(10) ** -40 and nearest % 2
    if odd and abs(inverse) > 1 and not mp.im(base) and mp.re(base) < 0:
        return -((-base) ** exponent)  # the real root, as it is meant in schools
    return base**exponent


def _numeric_call(name: str, arguments: list[Any], errors: list[Any], mp: Any) -> tuple[Any, Any]:
    most = 1e9 if name == "factorial" else MAX_MAGNITUDE
    if any(abs(argument) > most for argument in arguments) and name not in ("abs", "ln", "max", "min"):
        raise ValueError("too large")
    functions = {
        "sin": mp.sin, "cos": mp.cos, "tan": mp.tan, "cot": mp.cot, "sec": mp.sec, "csc": mp.csc, "arcsin": mp.asin,
        "arccos": mp.acos, "arctan": mp.atan, "sinh": mp.sinh, "cosh": mp.cosh, "tanh": mp.tanh, "ln": mp.log,
        "abs": abs, "factorial": mp.factorial, "binomial": mp.binomial, "floor": mp.floor, "ceil": mp.ceil,
        "max": max, "min": min, "conj": mp.conj, "re": mp.re, "im": mp.im,
    }  # fmt: skip
    if name not in functions:
        raise ValueError("unknown")
    result, first = functions[name](*arguments), errors[0]
    slope = {  # how fast the function changes there, or more
        "ln": 1 / abs(arguments[0]) if arguments[0] else mp.inf, "factorial": abs(result) * 30,
        "binomial": abs(result) * 1000, "sinh": 1 + abs(result), "cosh": 1 + abs(result),
        **dict.fromkeys(("tan", "cot", "sec", "csc"), 1 + abs(result) ** 2),
    }.get(name, mp.mpf(1))  # fmt: skip
    if name in ("arcsin", "arccos"):
        room = abs(1 - arguments[0] ** 2)
        return result, first / mp.sqrt(room) if room > first else mp.sqrt(first) * 2
    return result, slope * max(errors) * len(errors)


def rational_value(value: Value) -> Fraction | None:
    """The real number that was worked out, as a fraction; None for one that is not real, or very large or small."""
    from mpmath.libmp import to_rational

    if value.imaginary or (value.real and abs(value.real._mpf_[2] + value.real._mpf_[3]) > 1 << 13):
        return None
    top, bottom = to_rational(value.real._mpf_)
    return Fraction(int(top), int(bottom))


def _agree(a: Expr, b: Expr) -> bool:
    """Whether the values of two expressions can be had and agree; their digits follow the numbers in them."""
    names = symbols(a) | symbols(b)
    written = sum(
        len(str(node.value)) for each in (a, b) for node in walk(each)
        if isinstance(node, Num) and max(node.value.numerator.bit_length(), node.value.denominator.bit_length()) < 3000
    )  # fmt: skip
    exponents = sum(
        min(abs(int(node.exponent.value)), 400) for each in (a, b) for node in walk(each)
        if isinstance(node, Pow) and isinstance(node.exponent, Num)
    )  # fmt: skip
    digits = 60 + min(2 * (written + exponents), 800)
    compared = False
    for point in range(2 if names else 1):
        first, second = numeric(a, point, digits), numeric(b, point, digits)
        if first is None or second is None:
            continue
        compared = True
        mp = _precision(digits)
        if abs(mp.mpc(first.real - second.real, first.imaginary - second.imaginary)) > 1000 * (
            first.error + second.error
        ):
            return False
    return compared
