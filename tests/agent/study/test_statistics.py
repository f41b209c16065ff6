"""Intervals on known numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.study.statistics import clustered, paired_difference, wilson


def test_the_wilson_interval_on_published_numbers() -> None:
    # Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    for right, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson(right, n) == pytest.approx((low, high), abs=5e-5)
    assert wilson(0, 0) == (0.0, 1.0)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_wilson_interval_holds_the_proportion(pair: tuple[int, int]) -> None:
    right, n = pair
    low, high = wilson(right, n)
    assert 0 <= low <= right / n + 1e-12
    assert right / n - 1e-12 <= high <= 1


def test_the_paired_difference_uses_shared_problems_only_and_is_never_certain() -> None:
    first = {"a": True, "b": False, "c": False, "d": True, "only": True}
    second = {"a": True, "b": True, "c": True, "d": False}
    mean, low, high = paired_difference(first, second)
    assert mean == pytest.approx(0.25)
    # gained 2, lost 1, n 4: centre 1/6, half 1.959964 / 6 * sqrt(4 - 1/6)
    assert (low, high) == pytest.approx((1 / 6 - 0.63957, 1 / 6 + 0.63957), abs=1e-4)
    mean, low, high = paired_difference(first, first)
    assert mean == 0
    assert low < 0 < high


def test_one_mark_per_problem_is_a_plain_proportion() -> None:
    mean, interval = clustered({str(i): [float(i < 30)] for i in range(100)})
    assert mean == pytest.approx(0.3)
    assert interval == pytest.approx(wilson(30, 100))


def test_seeds_that_agree_are_worth_no_more_than_one() -> None:
    same = clustered({str(i): [float(i < 30)] * 5 for i in range(100)})
    assert same[1] == pytest.approx(wilson(30, 100))
    assert clustered({str(i): [1.0] * 5 for i in range(100)})[1] == pytest.approx(wilson(100, 100))


def test_seeds_that_differ_within_problems_only_all_count() -> None:
    assert clustered({str(i): [1.0, 0.0] for i in range(100)})[1] == pytest.approx(wilson(100, 200))
    mixed = clustered({str(i): [float(i % 4 < 2), float(i % 2)] for i in range(100)})  # as if 200 coins were thrown
    assert mixed[1] == pytest.approx(wilson(100, 200))


def test_paired_differences_of_means_over_seeds() -> None:
    # differences 0.5, -0.5, 0 and 1: sum 1, squares 1.5, n 4
    first, second = {"a": 0.5, "b": 1.0, "c": 0.5, "d": 0.0}, {"a": 1.0, "b": 0.5, "c": 0.5, "d": 1.0}
    mean, low, high = paired_difference(first, second)
    assert mean == pytest.approx(0.25)
    assert (low, high) == pytest.approx((1 / 6 - 0.49898, 1 / 6 + 0.49898), abs=1e-4)
