"""Curves worked out by hand; the script of docs/findings.md on tiny studies of the lab."""

import math
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pandas", reason="pandas is not installed (extra: study)")
pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra: study)")

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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


def test_the_oracle_is_judged_on_other_runs_than_it_chooses_by() -> None:
    # it expects a to solve the first half and b the second; in the judged runs only a solves anything, at double price
    known, judged = rows(), rows()
    judged["correct"] = (judged["strategy"] == "a").astype(int)
    judged["flops"] *= 2
    judged = judged.iloc[::-1]  # problems are told by their id, not by their place
    right, flops = Curves.of(judged).oracle([("a", "4"), ("b", "4")], 15.0, Curves.of(known))
    assert right.to_dict() == dict.fromkeys(PROBLEMS[:4], 1.0) | dict.fromkeys(PROBLEMS[4:], 0.0)
    assert flops.to_dict() == dict.fromkeys(PROBLEMS[:4], 20.0) | dict.fromkeys(PROBLEMS[4:], 40.0)
    with pytest.raises(ValueError, match="a budget of 9 FLOPs"):
        Curves.of(judged).oracle([("a", "4"), ("b", "4")], 9.0, Curves.of(known))


def flips(chances: NDArray[np.float64], costs: list[float], replays: int) -> list[Curves]:
    """Two halves of the runs of problems with such a chance on each line."""
    rng = np.random.default_rng(0)
    lines = pd.MultiIndex.from_tuples([("line", str(cost)) for cost in range(len(costs))])
    problems = [f"p{number}" for number in range(len(chances))]
    flops = pd.DataFrame(np.tile(costs, (len(chances), 1)), problems, lines)
    drawn = [rng.binomial(replays, chances) / replays for _ in range(2)]
    return [Curves(pd.DataFrame(each, problems, lines), flops) for each in drawn]


def oracles(halves: list[Curves], budget: float) -> tuple[float, float]:
    """What is right by the oracle that knows the other half, and by the one that knows how the same half ends."""
    lines = list(halves[0].right.columns)
    known = [halves[half].expected(lines, halves[1 - half]) for half in (0, 1)]
    fair = [half.oracle(lines, budget, each)[0].mean() for half, each in zip(halves, known, strict=True)]
    same = [half.oracle(lines, budget)[0].mean() for half in halves]
    return sum(fair) / 2, sum(same) / 2


@pytest.mark.parametrize("replays", [1, 3, 10])
@pytest.mark.parametrize("chance", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("costs", [[1.0] * 6, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]])
def test_nothing_is_gained_by_choosing_among_equal_coins(replays: int, chance: float, costs: list[float]) -> None:
    halves = flips(np.full((2000, 6), chance), costs, replays)
    fair, flattered = oracles(halves, 8.0)
    noise = math.sqrt(chance * (1 - chance) / (2000 * 2 * replays))
    assert abs(fair - chance) < 4 * noise
    assert flattered - chance > 10 * noise


@pytest.mark.parametrize("replays", [1, 8, 1000])
def test_what_the_chances_are_worth_lies_between_the_two_oracles(replays: int) -> None:
    chances = np.random.default_rng(1).uniform(size=(2000, 4))
    fair, flattered = oracles(flips(chances, [1.0] * 4, replays), 1.0)
    best, true = chances.mean(0).max(), chances.max(1).mean()  # 0.5 and 0.8
    assert best < fair < true + 0.005
    assert true - 0.005 < flattered
    assert true - fair < {1: 0.2, 8: 0.04, 1000: 0.005}[replays]


def test_few_runs_are_believed_as_far_as_other_problems_repeat_them() -> None:
    # half of the problems can be solved by the dear line alone, one run in four; the rest by nothing
    chances = np.zeros((2000, 2))
    chances[:1000, 1] = 0.25
    halves = flips(chances[np.random.default_rng(0).permutation(2000)], [1.0, 2.0], 1)
    lines = list(halves[0].right.columns)
    expected = halves[0].expected(lines, halves[1]).right["line", "1"].groupby(halves[1].right["line", "1"]).mean()
    assert expected[1.0] == pytest.approx(0.25, abs=0.08)  # one of these is solved for sure, by one run in four
    assert expected[0.0] == pytest.approx(0.107, abs=0.02)  # Bayes: 0.5 * 0.75 * 0.25 / 0.875
    blind = halves[0].oracle(lines, 2.0, halves[1])[0].mean()  # takes the cheap line wherever one run failed
    fair = halves[0].oracle(lines, 2.0, halves[0].expected(lines, halves[1]))[0].mean()
    assert blind < 0.05 < 0.1 < fair


def test_the_share_of_a_gap() -> None:
    fixed, oracle = (pd.Series([mark] * 100) for mark in (0.4, 0.6))
    assert gap_closed(fixed, pd.Series([0.5] * 100), oracle) == pytest.approx((0.5, 0.5, 0.5))
    value, low, high = gap_closed(fixed, pd.Series([0.4, 0.6] * 50), oracle)
    assert value == pytest.approx(0.5)
    assert 0.3 < low < 0.45 < 0.55 < high < 0.7
    assert gap_closed(fixed, pd.Series([0.7] * 100), oracle)[0] == pytest.approx(1.5)  # the planner stops by its looks
    assert all(map(math.isnan, gap_closed(oracle, fixed, fixed)))
    value, low, high = gap_closed(fixed, oracle, pd.Series([1.0] * 45 + [0.0] * 55))  # a gap that may be none
    assert value > 0
    assert math.isnan(low)
    assert math.isnan(high)
