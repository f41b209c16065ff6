"""Intervals on known numbers."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.study.statistics import (
    GrowingClusters,
    clustered,
    difference_seen,
    holm,
    paired_difference,
    paired_p_value,
    problems_needed,
    wilson,
)


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


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), min_size=1, max_size=30))
def test_clusters_that_grow_have_the_interval_of_what_they_hold(marks: list[tuple[str, bool]]) -> None:
    growing, known = GrowingClusters(), dict[str, list[float]]()
    for cluster, mark in marks:
        growing.add(cluster, mark)
        known.setdefault(cluster, []).append(float(mark))
        assert growing.interval() == pytest.approx(clustered(known)[1])
    assert (growing.marked, growing.count) == (sum(mark for _, mark in marks), len(marks))


def test_paired_differences_of_means_over_seeds() -> None:
    # differences 0.5, -0.5, 0 and 1: sum 1, squares 1.5, n 4
    first, second = {"a": 0.5, "b": 1.0, "c": 0.5, "d": 0.0}, {"a": 1.0, "b": 0.5, "c": 0.5, "d": 1.0}
    mean, low, high = paired_difference(first, second)
    assert mean == pytest.approx(0.25)
    assert (low, high) == pytest.approx((1 / 6 - 0.49898, 1 / 6 + 0.49898), abs=1e-4)


def test_the_p_value_goes_with_the_interval() -> None:
    # 10 problems gained, b lost, of 100: the interval leaves 0 out exactly when the p-value is below 0.05
    for lost in range(12):
        first = {str(i): float(i < lost) for i in range(100)}
        second = {str(i): float(lost <= i < lost + 10) for i in range(100)}
        _, low, high = paired_difference(first, second)
        assert (paired_p_value(first, second) < 0.05) == (low > 0 or high < 0), lost
    # gained 10, lost 0, n 100: centre 10 / 102, error sqrt(11 - 100 / 102) / 102, so z is 3.15931
    assert paired_p_value({str(i): 0.0 for i in range(100)}, {str(i): float(i < 10) for i in range(100)}) == (
        pytest.approx(0.001581, abs=2e-6)
    )
    assert paired_p_value({"a": 1.0}, {"a": 1.0}) == 1.0
    assert paired_p_value({"a": 1.0}, {"b": 1.0}) == 1.0


def test_holm_multiplies_by_the_hypotheses_that_are_left() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=30))
def test_holm_keeps_the_order_and_makes_nothing_smaller(values: list[float]) -> None:
    found = holm(values)
    assert all(
        value <= corrected <= min(1.0, len(values) * value) for value, corrected in zip(values, found, strict=True)
    )
    order = sorted(range(len(values)), key=values.__getitem__)
    assert [found[at] for at in order] == sorted(found)


def test_problems_needed_by_hand() -> None:
    # d 0.1, q 0.2: (1.959964 sqrt 0.2 + 0.841621 sqrt 0.19)^2 / 0.01 = (0.876523 + 0.366854)^2 / 0.01 = 154.6
    assert problems_needed(0.1, 0.2) == 155
    assert problems_needed(0.05, 0.2) == 626
    assert problems_needed(0.2, 0.2) == 37
    assert problems_needed(0.1, 0.2, power=0.5) == 77  # (1.959964^2 * 0.2) / 0.01 = 76.8
    for wrong in ((0.0, 0.2), (0.3, 0.2), (0.1, 1.1), (0.1, 0.2, 1.0), (0.1, 0.2, 0.4)):
        with pytest.raises(ValueError, match="0 < difference <= differing <= 1"):
            problems_needed(*wrong)


@given(st.integers(20, 5000), st.floats(0.05, 1), st.floats(0.5, 0.99))
def test_the_difference_that_is_seen_is_the_number_of_problems_the_other_way_round(
    n: int, differing: float, power: float
) -> None:
    found = difference_seen(n, differing, power)
    if found is None:
        assert problems_needed(differing, differing, power) > n
    else:
        assert abs(problems_needed(found, differing, power) - n) <= 1


def test_so_many_problems_do_show_the_difference() -> None:
    """Drawn: of 155 problems a tenth are gained net, a fifth differ; four in five such studies have p below 0.05."""
    rng, seen = random.Random(0), 0
    n, gained, lost = problems_needed(0.1, 0.2), 0.15, 0.05
    for _ in range(1000):
        draws = [rng.random() for _ in range(n)]
        first = {str(i): float(draw < lost) for i, draw in enumerate(draws)}
        second = {str(i): float(lost <= draw < lost + gained) for i, draw in enumerate(draws)}
        seen += paired_p_value(first, second) < 0.05
    assert 0.75 < seen / 1000 < 0.85
    assert difference_seen(1, 0.2) is None
    with pytest.raises(ValueError, match="problems is 0"):
        difference_seen(0, 0.2)
