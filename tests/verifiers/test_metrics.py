import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifiers.metrics import agreement, auroc, auroc_within, best_threshold, ece, first_below


def test_auroc_on_numbers_worked_by_hand() -> None:
    # positives 0.9, 0.4; negatives 0.5, 0.4, 0.1: of 6 pairs 3 + (0 + 1/2 + 1) are in order
    assert auroc([0.9, 0.4, 0.5, 0.4, 0.1], [True, True, False, False, False]) == pytest.approx(4.5 / 6)
    assert auroc([0.1, 0.2], [False, True]) == 1
    assert auroc([0.1, 0.2], [True, False]) == 0
    assert auroc([0.3] * 5, [True, False, True, False, False]) == 0.5
    assert math.isnan(auroc([0.3], [True]))
    assert math.isnan(auroc([], []))


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.booleans()), max_size=30))
def test_auroc_counts_pairs(pairs: list[tuple[float, bool]]) -> None:
    good, bad = [s for s, label in pairs if label], [s for s, label in pairs if not label]
    if good and bad:
        want = sum((a > b) + (a == b) / 2 for a, b in product(good, bad)) / (len(good) * len(bad))
        assert auroc([s for s, _ in pairs], [label for _, label in pairs]) == pytest.approx(want)


def test_auroc_within_is_the_mean_over_groups_that_have_both_labels() -> None:
    groups = [
        [(0.1, False), (0.9, True)],
        [(0.8, False), (0.7, True), (0.9, True)],
        [(0.5, True), (0.6, True)],
    ]
    assert auroc_within(groups) == pytest.approx((1 + 0.5) / 2)
    assert math.isnan(auroc_within(groups[2:]))


def test_ece_on_numbers_worked_by_hand() -> None:
    # two of ten bins: scores 0.31, 0.33 against targets 0, 1 (gap 0.64 - 1 = -0.36), score 1.0 against 0.5 (gap 0.5)
    assert ece([0.31, 0.33, 1.0], [0.0, 1.0, 0.5], bins=10) == pytest.approx((0.36 + 0.5) / 3)
    assert ece([0.2, 0.8], [0.2, 0.8]) == pytest.approx(0)
    assert ece([0.0, 1.0], [1.0, 0.0]) == 1
    assert math.isnan(ece([], []))


def test_the_first_wrong_step() -> None:
    assert first_below([0.9, 0.5, 0.2], 0.5) == 2
    assert first_below([0.9, 0.5, 0.2], 0.1) is None
    scores = [[0.9, 0.8], [0.9, 0.3], [0.6, 0.2], [0.4, 0.9]]
    errors = [None, 1, 1, 0]
    assert agreement(scores, errors, 0.5) == 1
    assert agreement(scores, errors, 0.7) == 0.75
    assert agreement(scores, errors, 0.25) == 0.5
    assert best_threshold(scores, errors) == 0.41
    assert math.isnan(agreement([], [], 0.5))
