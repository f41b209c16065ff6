r"""Sets of real numbers: unions, intersections and differences of intervals and points.

The ends of all intervals cut the line into points and open pieces between them; a set is the pieces that it has, by
their numbers from left to right. Each set comes out in one way of writing: ``[1,2] \cup [2,3]`` is ``[1,3]``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import reduce

from envs.math.answer_algebra import OO, Expr, equal, infinite, negated, numeric, rational_value, symbols
from envs.math.answer_values import Collection, Interval, Quantity, Sequence, Union, Value

_Ends = tuple[Expr, Expr, bool, bool]
Pieces = frozenset[int]

EVERYTHING = Sequence((Quantity(negated(OO)), Quantity(OO)))


def combined(values: list[Value], operation: Callable[[Pieces, Pieces], Pieces]) -> Value | None:
    """Sets of numbers, each combined with the next; None where one is no such set or its ends cannot be ordered.

    >>> combined([EVERYTHING, EVERYTHING], frozenset.difference)
    Collection(items=())
    """
    parts = [_parts(value) for value in values]
    ordered = _ordered(end for part in parts for piece in part or () for end in piece[:2])
    if ordered is None or None in parts:
        return None
    sets = [frozenset[int]().union(*(_pieces(piece, ordered) for piece in part or ())) for part in parts]
    return _value(reduce(operation, sets), ordered)


def interval(low: Expr, high: Expr, closed: tuple[bool, bool]) -> Value:
    """From one end to another; open at both ends, it is also a pair."""
    if not any(closed):
        return Sequence((Quantity(low), Quantity(high)))
    return Quantity(low) if low == high and all(closed) else Interval(low, high, closed)


def _parts(value: Value) -> list[_Ends] | None:
    """The ends of its intervals and points."""
    match value:
        case Quantity(expr, None):
            return [(expr, expr, True, True)]
        case Interval(low, high, closed):
            return [(low, high, *closed)]
        case Sequence((Quantity(low, None), Quantity(high, None))):
            return [(low, high, False, False)]
        case Union(items) | Collection(items):
            parts = [_parts(item) for item in items]
            return None if None in parts else [piece for part in parts for piece in part or ()]
    return None


def _ordered(ends: Iterable[Expr]) -> list[Expr] | None:
    """The finite ends from left to right, each once."""
    places = list[tuple[Fraction, Expr]]()
    for end in set(ends):
        if infinite(end) in (1, -1):
            continue
        value = None if symbols(end) else numeric(end)
        place = rational_value(value) if value is not None else None
        if place is None:
            return None
        places.append((place, end))
    ordered = list[Expr]()
    for _, end in sorted(places, key=lambda each: each[0]):
        verdict = equal(ordered[-1], end) if ordered else False
        if verdict is None:
            return None
        if not verdict:
            ordered.append(end)
    return ordered


def _pieces(ends: _Ends, ordered: list[Expr]) -> Pieces:
    """Point k of the line is piece 2k + 1; before it is piece 2k."""
    low, high, low_closed, high_closed = ends
    first = 2 * _index(low, ordered) + (1 if low_closed else 2) if infinite(low) != -1 else 0
    last = 2 * _index(high, ordered) + (1 if high_closed else 0) if infinite(high) != 1 else 2 * len(ordered)
    return frozenset(range(first, last + 1))


def _index(end: Expr, ordered: list[Expr]) -> int:
    return next((k for k, each in enumerate(ordered) if equal(each, end)), len(ordered))


def _value(pieces: Pieces, ordered: list[Expr]) -> Value:
    runs = list[list[int]]()
    for piece in sorted(pieces):
        if runs and runs[-1][-1] == piece - 1:
            runs[-1].append(piece)
        else:
            runs.append([piece])
    ends = [negated(OO), *ordered, OO]
    values = [
        interval(ends[(run[0] + 1) // 2], ends[run[-1] // 2 + 1], (bool(run[0] % 2), bool(run[-1] % 2))) for run in runs
    ]
    if len(values) == 1:
        return values[0]
    return Collection(tuple(values)) if all(isinstance(each, Quantity) for each in values) else Union(tuple(values))
