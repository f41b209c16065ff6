"""Splits go by a digest of the text: the same everywhere, disjoint, and of about the sizes that were asked for."""

from collections import Counter

import pytest

from envs import split_of


def test_known_texts_stay_where_they_are() -> None:
    assert split_of("\ud800") in ("train", "calibration", "test")  # half a character is a text, too
    assert [split_of(text) for text in ("17 + 8", "3x + 5 = 20", "9 * 9")] == KNOWN


@pytest.mark.parametrize("parts", [5, 10])
def test_one_of_so_many_parts_is_for_test_and_one_for_calibration(parts: int) -> None:
    found = Counter(split_of(f"problem {number}", parts) for number in range(5000))
    assert set(found) == {"train", "calibration", "test"}
    for split in ("calibration", "test"):
        assert abs(found[split] / 5000 - 1 / parts) < 0.02


KNOWN = ["train", "train", "test"]
