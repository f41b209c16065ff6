"""Curves worked out by hand; the script of docs/findings.md on tiny studies of the lab."""

import math
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pandas", reason="pandas is not installed (extra: study)")
pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra: study)")

import pandas as pd

from agent.recipes.recipe import Component
from agent.study.equal_compute import Curves, difference, gap_closed, matched, ratio
from agent.study.run import measure
from agent.study.study import Study

ROOT = Path(__file__).parents[3]
PROBLEMS = [f"p{number}" for number in range(8)]
EASY = dict.fromkeys(PROBLEMS[:4], "1") | dict.fromkeys(PROBLEMS[4:], "2")


def rows() -> pd.DataFrame:
    """Two seeds; `a` solves the first half of the problems, `b` the second, `c` all of them at ten times the price."""
    solved = {"a": PROBLEMS[:4], "b": PROBLEMS[4:], "c": PROBLEMS}
    costs = {"a": 10.0, "b": 20.0, "c": 200.0}
    marks = [(problem, each, seed) for each in solved for problem in PROBLEMS for seed in (0, 1)]
    frame = pd.DataFrame(marks, columns=["id", "strategy", "seed"]).assign(budget="4")
    frame["correct"] = [int(problem in solved[each]) for problem, each, _ in marks]
    return frame.assign(flops=frame["strategy"].map(costs))


def test_lines_within_what_may_be_spent() -> None:
    curves = Curves.of(rows())
    assert set(curves.lines("abc")) == {("a", "4"), ("b", "4"), ("c", "4")}
    assert curves.lines("abc", samples=3) == []
    assert curves.lines("abc", flops=20.0) == [("a", "4"), ("b", "4")]
    assert curves.lines("b") == [("b", "4")]
    assert curves.best(curves.lines("abc")) == ("c", "4")
    assert curves.best(curves.lines("ab")) == ("a", "4")  # as good, and cheaper


def test_budgets_that_count_no_samples_allow_any_number() -> None:
    curves = Curves.of(rows().assign(budget="flops=1e9"))
    assert curves.lines("a") == [("a", "flops=1e9")]
    assert curves.lines("a", samples=1000) == []
    assert Curves.of(rows().assign(budget="samples=4,flops=1e9")).lines("a", samples=4) == [
        ("a", "samples=4,flops=1e9")
    ]


def test_the_envelope_knows_the_difficulty_and_is_judged_on_the_other_half() -> None:
    curves = Curves.of(rows())
    bins = pd.Series(EASY)
    right, flops = curves.envelope(curves.lines("ab"), bins)
    assert right.mean() == 1.0
    assert flops.mean() == 15.0
    assert sorted(right.index) == PROBLEMS
    # in a bin where every other problem is for one strategy, what one half chooses is wrong for the other
    mixed = rows()
    mixed.loc[mixed["strategy"] == "a", "correct"] = [
        int(problem in PROBLEMS[::2]) for problem in PROBLEMS for _ in (0, 1)
    ]
    mixed.loc[mixed["strategy"] == "b", "correct"] = [
        int(problem in PROBLEMS[1::2]) for problem in PROBLEMS for _ in (0, 1)
    ]
    curves = Curves.of(mixed)
    assert curves.envelope(curves.lines("ab"), bins)[0].mean() == 0.0


def test_differences_are_paired_and_ratios_have_an_interval() -> None:
    curves = Curves.of(rows())
    found = difference(curves.right["a", "4"], curves.right["c", "4"])
    assert found[0] == 0.5
    assert found[1] < 0.5 < found[2]
    assert ratio(curves.flops["c", "4"], curves.flops["a", "4"]) == (20.0, 20.0, 20.0)
    uneven = pd.Series([1.0, 3.0] * 4, PROBLEMS)
    value, low, high = ratio(uneven, curves.flops["a", "4"])
    assert value == pytest.approx(0.2)
    assert low < value < high


def test_training_that_was_saved_is_shared_among_the_queries() -> None:
    # 600 FLOPs saved, and 10 queries of 5 tokens: 60 more on each
    assert matched((400.0, 1000.0), (5.0, 20.0), 100.0, 0.5) == 20.0 + 60.0
    assert matched((1000.0, 1000.0), (5.0, 20.0), 100.0, 0.5) == 20.0


def test_the_script_prints_every_table_and_draws_the_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(part: str, policies: str, verifiers: str, strategies: str, budgets: tuple[int, ...], **more: Any) -> None:
        parts = [tuple(map(Component, names.split())) for names in (policies, strategies, verifiers)]
        study = Study((Component("arithmetic"),), parts[0], parts[1], budgets, parts[2], n=5, graphs=False, **more)
        measure(study, tmp_path / f"findings-arithmetic{part}.sqlite")

    run("", "arithmetic-s", "arithmetic-prm", "greedy majority best-of-n dvts", (1, 4), seeds=(0, 1))
    run("-majority", "arithmetic-s", "none", "majority", (8,))
    run("-planner", "arithmetic-s", "arithmetic-prm", "auto", (1, 4))
    run("-ladder", "arithmetic-xs arithmetic-m", "none arithmetic-prm-offpolicy", "greedy majority best-of-n", (4,))
    run("-parts", "arithmetic-s arithmetic-xs", "arithmetic-prm-offpolicy", "best-of-n dvts", (4,))
    picture = tmp_path / "figure.png"
    monkeypatch.setattr(sys, "argv", ["findings.py", str(tmp_path), str(picture)])
    script = runpy.run_path(str(ROOT / "docs" / "findings.py"), run_name="__main__")
    printed = capsys.readouterr().out
    for title in script["SECTIONS"]:
        _, _, rest = printed.partition(f"## arithmetic. {title}\n\n")
        head, _, *body = rest.split("\n\n")[0].splitlines()
        assert body, title
        assert {row.count("|") for row in body} == {head.count("|")}
    assert "| auto @ 4 |" in printed
    assert "| majority @ 4 |" in printed
    assert "| majority @ 8 |" in printed
    assert "arithmetic-m: " in printed
    lab = script["Lab"](tmp_path, "arithmetic")
    assert lab.prm("arithmetic-xs") == "arithmetic-prm-offpolicy"  # its own in the ladder
    assert lab.prm("arithmetic-s") == "arithmetic-prm"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_lagrangian_oracle_by_hand() -> None:
    # a solves the first half for 10, b the second for 20; c, which solves all for 200, is never needed
    curves = Curves.of(rows())
    lines = curves.lines("abc")
    right, flops = curves.oracle(lines, 15.0)
    assert right.mean() == 1.0
    assert flops.tolist() == [10.0] * 4 + [20.0] * 4
    right, flops = curves.oracle(lines, 14.0)  # one problem of the second half would have to be given up: all are alike
    assert (right.mean(), flops.mean()) == (0.5, 10.0)
    right, _ = curves.oracle(curves.lines("c"), 200.0)
    assert right.mean() == 1.0
    with pytest.raises(ValueError, match="a budget of 9 FLOPs is less than the cheapest lines cost"):
        curves.oracle(lines, 9.0)


def test_the_share_of_a_gap() -> None:
    assert gap_closed(0.4, 0.5, 0.6) == pytest.approx(0.5)
    assert math.isnan(gap_closed(0.6, 0.5, 0.6))
