"""The reading of equations that says where the solutions of word problems go wrong."""

import pytest

from tests.benchmarks.equations import compute, holds, judge


@pytest.mark.parametrize(
    ("expression", "result", "true"),
    [
        ("4 * 6", "24", True),
        ("$1,200 / 12", "$100", True),
        ("2 + 3 * 4 - 1", "13", True),
        ("10 / 3", "3.33", True),
        ("20% * 50", "10", True),
        ("1 / 4", "25%", True),
        ("4 * 6", "26", False),
        ("2 * 3", "600", False),
        ("5 / 0", "0", False),
    ],
)
def test_equations_are_computed_again(expression: str, result: str, true: bool) -> None:
    assert holds(expression, result) == true


def test_products_come_first() -> None:
    assert compute("10 - 2 x 3") == 4


def test_the_first_false_equation_is_found() -> None:
    assert judge(["Step 1: 2 + 2 = 4 rolls", "Step 2: 4 * $3 = $13, and 1 + 1 = 3."]) == ("arithmetic", 1)
    assert judge(["Step 1: he has 2 + 2 = 4 rolls", "#### 4"]) == ("setup", None)
    assert judge(["Step 1: he has some rolls", "#### 4"]) == ("no equation", None)
