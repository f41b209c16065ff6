r"""Sets of real numbers: unions, intersections and differences of intervals and points.

The ends of all intervals cut the line into points and open pieces between them; a set is the pieces that it has, by
their numbers from left to right. Each set comes out in one way of writing: ``[1,2] \cup [2,3]`` is ``[1,3]``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction

from envs.math.answer_algebra import OO, Expr, equal, infinite, negated, numeric, rational_value, symbols
from envs.math.answer_units import Unit
from envs.math.answer_values import Collection, Interval, Quantity, Sequence, Union, Value

_Ends = tuple[Expr, Expr, bool, bool]
Pieces = frozenset[int]
Operation = Callable[[Pieces, Pieces], Pieces]

EVERYTHING = Sequence((Quantity(negated(OO)), Quantity(OO)))


def combined(values: list[Value], *operations: Operation) -> Value | None:
    """Sets of numbers, from left to right; None where one is no such set or its ends cannot be ordered.

    Args:
        values: two or more sets.
        operations: between each two of them, or one for all.

    >>> combined([EVERYTHING, EVERYTHING], frozenset.difference)
    Collection(items=())
    """
    parts = [_parts(value) for value in values]
    ordered = _ordered(end for part in parts for piece in part or () for end in piece[:2])
    if ordered is None or None in parts:
        return None
    ends, places = ordered
    result, *others = (frozenset[int]().union(*(_pieces(piece, places) for piece in part or ())) for part in parts)
    for operation, other in zip(operations if len(operations) > 1 else operations * len(others), others, strict=True):
        result = operation(result, other)
    return _value(result, ends)


def interval(low: Expr, high: Expr, closed: tuple[bool, bool], unit: Unit | None = None) -> Value:
    """From one end to another; open at both ends, it is also a pair."""
    if not any(closed):
        return Sequence((Quantity(low, unit), Quantity(high, unit)))
    return Quantity(low, unit) if low == high and all(closed) else Interval(low, high, closed, unit)


def _parts(value: Value) -> list[_Ends] | None:
    """The ends of its intervals and points."""
    match value:
        case Quantity(expr, None):
            return [(expr, expr, True, True)]
        case Interval(low, high, closed, None):
            return [(low, high, *closed)]
        case Sequence((Quantity(low, None), Quantity(high, None))):
            return [(low, high, False, False)]
        case Union(items) | Collection(items):
            parts = [_parts(item) for item in items]
            return None if None in parts else [piece for part in parts for piece in part or ()]
    return None


def _ordered(ends: Iterable[Expr]) -> tuple[list[Expr], dict[Expr, int]] | None:
    """The finite ends from left to right, each once, and the place of each way to write one."""
    places = list[tuple[Fraction, Expr]]()
    for end in set(ends):
        if infinite(end) in (1, -1):
            continue
        value = None if symbols(end) else numeric(end)
        place = rational_value(value) if value is not None else None
        if place is None:
            return None
        places.append((place, end))
    ordered, found = list[Expr](), dict[Expr, int]()
    for _, end in sorted(places, key=lambda each: each[0]):
        verdict = equal(ordered[-1], end) if ordered else False
        if verdict is None:
            return None
        if not verdict:
            ordered.append(end)
        found[end] = len(ordered) - 1
    return ordered, found


def _pieces(ends: _Ends, places: dict[Expr, int]) -> Pieces:
    """Point k of the line is piece 2k + 1; before it is piece 2k."""
    low, high, low_closed, high_closed = ends
    beyond = max(places.values(), default=-1) + 1
    first = 2 * places.get(low, beyond) + (1 if low_closed else 2) if infinite(low) != -1 else 0
    last = 2 * places.get(high, beyond) + (1 if high_closed else 0) if infinite(high) != 1 else 2 * beyond
    return frozenset(range(first, last + 1))


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
