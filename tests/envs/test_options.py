"""Options: types, ranges, groups, and that no value is too large to be refused in a line."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict, Unpack

import pytest

from envs.messages import UsageError, short
from envs.options import Above, AtLeast, Group, check_ranges, checked_options, convert, options_of


@dataclasses.dataclass(frozen=True)
class Limits:
    calls: Annotated[int, AtLeast(1)] = 4
    pause: Annotated[float, Above(0)] | None = None

    def __post_init__(self) -> None:
        check_ranges(self)


class More(TypedDict, total=False):
    votes: Annotated[int, AtLeast(1)]


def make(  # type: ignore[no-untyped-def]
    model: str,
    environment: object,
    depth: Annotated[int, AtLeast(1, 9)] = 3,
    *,
    limits: Annotated[Limits, Group()] = Limits(),
    free=None,
    **more: Unpack[More],
) -> object:
    return None


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (1e6, int, 1000000),
        (3, float, 3.0),
        ("x", Path, Path("x")),
        (Path("x"), str | Path, Path("x")),
        ([1, 2.0], Sequence[int], (1, 2)),
        ((1, 2), list[int], [1, 2]),
        (["a", "b"], str | Sequence[str], ("a", "b")),
        ({1: 2}, Mapping[str, float], {"1": 2.0}),
        ({("a",): {"b": 1.0}}, Mapping[tuple[str, ...], Mapping[str, float]], {("a",): {"b": 1.0}}),
        (len, Callable[[str], int] | None, len),
        (None, Annotated[int, AtLeast(1)] | None, None),
        ({3}, set[int], {3}),
        (5, Any, 5),
        (0, Annotated[float, AtLeast(0, 1)], 0.0),
    ],
)
def test_values_are_converted_to_their_types(value: object, kind: object, expected: object) -> None:
    converted = convert(value, kind, "test", "key")
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (0, Annotated[int, AtLeast(1)], "test: 'key' is 0; expected a whole number, at least 1"),
        ("abc", Annotated[int, AtLeast(1)], "'key' is 'abc'; expected a whole number, at least 1"),
        (0, Annotated[int, AtLeast(1)] | None, "'key' is 0; expected a whole number, at least 1 or null"),
        (0.0, Annotated[float, Above(0, 1)], "'key' is 0.0; expected a number, above 0, at most 1"),
        (1.5, Annotated[float, AtLeast(0, 1)], "expected a number, at least 0, at most 1"),
        (float("inf"), float, "'key' is inf; expected a number"),
        (float("nan"), Annotated[float, AtLeast(0)], "'key' is nan; expected a number, at least 0"),
        (float("inf"), int, "'key' is inf; expected a whole number"),
        (True, int, "'key' is True; expected a whole number"),
        (1, bool, "'key' is 1; expected true or false"),
        (1, Literal[True], "'key' is 1; allowed: True"),
        ("slo", Literal["slow", "fast"], "'key' is 'slo'; did you mean 'slow'? allowed: slow, fast"),
        ("abc", Sequence[str], "'key' is 'abc'; expected a list, each a text"),
        (2, Sequence[int], "'key' is 2; expected a list, each a whole number"),
        ([0], Sequence[Annotated[int, AtLeast(1)]], "'key[0]' is 0; expected a whole number, at least 1"),
        (3, Callable[[], None], "'key' is 3; expected a function"),
        (10**400, int, "'key' is <a number of 1329 bits>; expected a whole number"),
        (3, Limits, "'key' is 3; expected a mapping"),
    ],
)
def test_what_is_wrong_is_said_with_what_is_allowed(value: object, kind: object, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        convert(value, kind, "test", "key")


def test_options_are_read_off_a_signature() -> None:
    options = options_of(make, given=2)
    assert list(options.kinds) == ["depth", "calls", "pause", "free", "votes"]
    assert options.kinds["free"] is Any
    assert not options.others
    given = checked_options(options, {"depth": 9, "calls": 2.0, "free": "x", "votes": 3}, "part")
    assert options.arguments(given) == {"depth": 9, "free": "x", "votes": 3, "limits": Limits(2)}
    for wrong, message in (
        ({"calls": 0}, "part: 'calls' is 0; expected a whole number, at least 1"),
        ({"vote": 1}, "part has no option 'vote'; did you mean 'votes'? allowed: depth, calls, pause, free, votes"),
        ({"depth": 10}, "part: 'depth' is 10; expected a whole number, at least 1, at most 9"),
        ({"votes": 0}, "part: 'votes' is 0"),
        ({"environment": 1}, "part has no option 'environment'"),
    ):
        with pytest.raises(UsageError, match=re.escape(message)):
            checked_options(options, wrong, "part")


def test_a_class_whose_annotations_cannot_be_read_is_not_checked() -> None:
    class Odd:
        def __init__(self, size: "NotThere" = 3) -> None: ...  # type: ignore[name-defined] # noqa: F821

    assert checked_options(options_of(Odd), {"size": "any"}, "odd") == {"size": "any"}


def test_what_is_made_by_hand_keeps_its_ranges_too() -> None:
    assert Limits(1, 0.5) == Limits(calls=1, pause=0.5)
    for wrong in ({"calls": 0}, {"pause": 0.0}, {"pause": float("inf")}):
        with pytest.raises(ValueError, match="expected a"):
            Limits(**wrong)


def test_no_value_makes_a_long_error() -> None:
    bomb: Any = ["x"] * 9
    for _ in range(8):
        bomb = [bomb] * 9  # nine to the ninth, once it is written out
    for value in (bomb, {"a": bomb}, "x" * 10**6, 10**5000, [10**5000], {"k" * 10**5: bomb}):
        assert len(short(value)) < 500
        with pytest.raises(UsageError) as caught:
            convert(value, float, "test", "key")
        assert len(str(caught.value)) < 600
    with pytest.raises(UsageError) as caught:
        checked_options(options_of(make, 2), {"x" * 10**6: 1}, "part")
    assert len(str(caught.value)) < 600
