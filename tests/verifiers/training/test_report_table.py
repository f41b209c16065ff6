"""The report of a trained verifier as people read it."""

import re
from typing import Any

import pytest

from verifiers.training.report_table import report_table, verdict

REPORT: dict[str, Any] = {
    "solutions": 1200, "prefixes": 3000, "unfinished_prefixes": 2500, "auroc": 0.928, "auroc_all": 0.95, "ece": 0.004,
    "auroc_within": 0.915, "auroc_exact": 0.845, "threshold": 0.4, "first_error": 0.62, "first_error_wrong": None,
}  # fmt: skip


def test_a_report_is_a_table_with_a_verdict() -> None:
    lines = report_table(REPORT).splitlines()
    assert lines[0] == "on 1,200 held-out solutions, 2,500 unfinished prefixes"
    assert [line.split()[:1] for line in lines[1:5]] == [["figure"], ["AUROC"], ["within"], ["ECE"]]
    assert [line.split("  ")[0] for line in lines[5:8]] == [
        "AUROC, finished ones included", "AUROC against the exact checker", "first wrong step found"
    ]  # fmt: skip
    assert "0.928" in lines[2]
    assert ">= 0.75 yes" in lines[2]
    assert "<= 0.05 yes" in lines[4]
    assert lines[-1] == "verdict: enough to search with; next: stepwell calibrate"
    assert max(map(len, lines[:-1])) <= 100


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"auroc": 0.7}, "too weak.*AUROC: more problems and rollouts$"),
        ({"auroc_within": 0.62}, "too weak.*within a problem: extra_layers"),
        ({"ece": 0.23, "auroc": 0.7}, "too weak.*AUROC: more.*; ECE: more problems"),
        ({"auroc_within": None}, r"cannot be told \(within a problem\)"),
    ],
)
def test_the_verdict_says_what_is_short_and_what_helps(changed: dict[str, Any], said: str) -> None:
    assert re.search(said, verdict(REPORT | changed))
    assert report_table(REPORT | changed).splitlines()[-1] == verdict(REPORT | changed)
