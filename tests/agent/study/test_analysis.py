"""Analyses on a study written by hand, where every figure can be worked out; figures and exports of a real one."""

import json
import math
import runpy
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pandas", reason="pandas is not installed (extra: study)")
pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra: study)")

import pandas as pd

from agent.interface.cli import main
from agent.recipes.recipe import Component
from agent.study import analysis
from agent.study.export import preferences, right_solutions, stepwise, text_of
from agent.study.results_db import StudyFile
from agent.study.rows import COSTS, VOTES, Place, Result, vote_row
from agent.study.run import measure
from agent.study.study import Study
from agent.study.table import summarize
from envs.arithmetic import Arithmetic
from envs.core import State, Step
from envs.messages import UsageError

ROOT = Path(__file__).parents[3]
QUESTIONS = ("7 + 8 - 2", "9 + 9 - 1", "5 * 2 + 1")
RIGHT = {"7 + 8 - 2": ("7 + 8 = 15", "15 - 2 = 13", "#### 13"), "9 + 9 - 1": ("9 + 9 = 18", "18 - 1 = 17", "#### 17")}


def candidate(node: int, texts: Sequence[str], scores: Sequence[float], right: bool, same: int, count: int = 1) -> Any:
    steps = [{"text": text, "tokens": len(text), "score": score} for text, score in zip(texts, scores, strict=True)]
    return {
        "node": node, "answer": texts[-1].removeprefix("#### "), "same": same, "correct": int(right), "count": count,
        "steps": json.dumps(steps),
    }  # fmt: skip


def result(place: Place, candidates: list[dict[str, Any]], drawn: int, **costs: float) -> Result:
    votes = [vote_row(candidates, vote) for vote in VOTES]
    chosen = next(vote for vote in votes if (vote["rule"], vote["aggregate"]) == ("vote", "last"))
    row = {"node": 0, "drawn": drawn, "stopped": "finished", "error": None, "plan": None}
    row |= {key: chosen[key] for key in ("answer", "correct", "confidence")} | dict.fromkeys(COSTS, 0.0) | costs
    return Result(place, row, candidates, votes)


@pytest.fixture(scope="module")
def byhand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudyFile]:
    """Best-of-n with 4 samples on three problems, the same samples judged by two verifiers.

    Problem 1: right 3 of 4, problem 2: right once and wrong three times, problem 3: wrong throughout.
    """
    path = tmp_path_factory.mktemp("hand") / "study.sqlite"
    environment = Arithmetic()
    config: Mapping[str, Any] = {"environments": ["arithmetic"], "split": "test", "n": 3, "seeds": [0]}
    labels = {"environment": "arithmetic", "policy": "p", "strategy": "best-of-n", "budget": "4", "seed": 0}
    cells = [{**labels, "verifier": "good"}, {**labels, "verifier": "bad"}]
    problems = {"arithmetic": (environment, [environment.read(question) for question in QUESTIONS])}
    one, two = (RIGHT[question] for question in QUESTIONS[:2])
    wrong_one = ("7 + 8 = 14", "14 - 2 = 12", "#### 12")
    wrong_two = ("9 + 9 = 18", "18 - 1 = 16", "#### 16")
    wrong_three = ("5 * 2 = 12", "12 + 1 = 13", "#### 13")
    with StudyFile.for_writing(path, config, cells, problems) as file:
        for cell, high, low in ((0, 0.9, 0.1), (1, 0.2, 0.4)):  # the second prefers what is wrong
            sure, unsure = (high, high, high), (high, low, low)
            judged = [
                [candidate(3, one, sure, True, 3, 3), candidate(6, wrong_one, unsure, False, 6)],
                [candidate(3, two, sure, True, 3), candidate(6, wrong_two, unsure, False, 6, 3)],
                [candidate(3, wrong_three, (low, low, low), False, 3, 4)],
            ]
            for number, candidates in enumerate(judged, 1):
                file.write(result(Place(cell, number), candidates, 4, policy_flops=30.0, verifier_flops=70.0))
    with StudyFile(path) as file:
        yield file


def test_candidates_and_results_are_frames(byhand: StudyFile) -> None:
    frame = analysis.candidates(byhand)
    assert len(frame) == 10
    first = frame.iloc[0]
    assert (first["texts"], first["scores"], first["count"]) == (RIGHT["7 + 8 - 2"], (0.9, 0.9, 0.9), 3)
    assert first["product"] == pytest.approx(0.729)
    assert analysis.results(byhand)["flops"].tolist() == [100.0] * 6
    assert set(analysis.votes(byhand)["rule"]) == {"majority", "max", "vote"}


def test_regret_is_what_a_perfect_choice_would_add(byhand: StudyFile) -> None:
    # good: votes 2.7 against 0.1, then 0.9 against 0.3: both right; bad: 0.6 against 0.4, then 0.2 against 1.2: one
    frame = analysis.regret(byhand)
    assert frame["accuracy"].tolist() == pytest.approx([2 / 3, 1 / 3])
    assert frame["oracle"].tolist() == pytest.approx([2 / 3, 2 / 3])
    assert frame["regret"].tolist() == pytest.approx([0, 1 / 3])
    assert (frame["low"] < frame["regret"]).all()


def test_votes_are_counted_from_what_is_stored(byhand: StudyFile) -> None:
    frame = analysis.vote_sensitivity(byhand)
    by = frame.set_index(["verifier", "rule", "aggregate"])["accuracy"]
    assert len(frame) == 2 * 12
    assert by["bad", "majority", "last"] == pytest.approx(1 / 3)
    assert by["bad", "max", "last"] == 0  # 0.4 beats 0.2 twice
    assert by["good", "max", "min"] == pytest.approx(2 / 3)


def test_votes_are_compared_with_what_was_chosen(byhand: StudyFile) -> None:
    frame = analysis.vote_sensitivity(byhand).set_index(["verifier", "rule", "aggregate"])
    # the second chose rightly on one problem of three by a vote of last; by max of last on none
    assert frame.loc[("bad", "vote", "last"), "difference"] == 0
    assert frame.loc[("bad", "max", "last"), "difference"] == pytest.approx(-1 / 3)
    assert (frame["difference_low"] < frame["difference"]).all()


def test_calibration(byhand: StudyFile) -> None:
    frame = analysis.calibration(byhand).set_index("verifier")
    # good: four right at 0.9, eight wrong at 0.1
    assert frame.loc["good", "score"] == pytest.approx((4 * 0.9 + 8 * 0.1) / 12)
    assert frame.loc["good", "right"] == pytest.approx(1 / 3)
    assert frame.loc["good", "ece"] == pytest.approx(0.1)
    assert frame.loc["good", ["auroc", "within"]].tolist() == [1.0, 1.0]
    assert frame.loc["bad", ["auroc", "within"]].tolist() == [0.0, 0.0]
    bins = analysis.reliability(byhand)
    good = bins[bins["verifier"] == "good"]
    assert good["bin"].tolist() == [1, 9]
    assert good["candidates"].tolist() == [8, 4]
    assert good["right"].tolist() == [0.0, 1.0]
    assert (good["low"] <= good["right"]).all()


def test_agreement_of_two_verifiers_on_the_same_trajectories(byhand: StudyFile) -> None:
    (row,) = analysis.agreement(byhand).to_dict("records")
    assert (row["first"], row["second"], row["trajectories"]) == ("good", "bad", 5)
    assert row["within"] == pytest.approx(-1)
    assert row["difference"] == pytest.approx((2 * 0.2 + 3 * 0.4 - 2 * 0.9 - 3 * 0.1) / 5)
    assert (row["auroc_first"], row["auroc_second"]) == (1.0, 0.0)
    assert row["same_choice"] == pytest.approx(2 / 3)


def test_where_it_goes_wrong_and_whether_that_is_seen(byhand: StudyFile) -> None:
    frame = analysis.first_wrong(byhand).set_index("verifier")
    # wrong: at step 1 of 3, 2 of 3 and 1 of 3
    assert frame.loc["good", "wrong"] == 3
    assert frame.loc["good", "unseen"] == 0
    assert frame.loc["good", "first"] == pytest.approx(4 / 3)
    assert frame.loc["good", "relative"] == pytest.approx(4 / 9)
    assert frame.loc["good", "at"] == pytest.approx((0.9 + 0.1 + 0.1) / 3)
    assert frame.loc["good", "before"] == pytest.approx(0.9)


def test_difficulty_and_its_bins(byhand: StudyFile) -> None:
    known = analysis.difficulty(byhand)
    assert known["pass_at_1"].tolist() == pytest.approx([0.75, 0.25, 0.0])
    assert known["samples"].tolist() == [4, 4, 4]
    absolute = analysis.by_difficulty(byhand)
    assert absolute["bin"].tolist() == ["easy", "medium", "hard"] * 2
    assert absolute["accuracy"].tolist() == [1, 1, 0, 1, 0, 0]
    quantile = analysis.by_difficulty(byhand, "quantile")
    assert quantile["bin"].tolist() == ["1", "2", "4"] * 2
    with pytest.raises(ValueError, match="difficulty needs independent samples"):
        analysis.difficulty(_only(byhand, "beam"))


def _only(file: StudyFile, strategy: str) -> Any:
    """The same results under another strategy's name."""

    class Renamed:
        def results(self) -> list[dict[str, Any]]:
            return [row | {"strategy": strategy} for row in file.results()]

    return Renamed()


def test_length_bias_is_measured_at_equal_correctness() -> None:
    # two groups; scores rise by 0.1 per token in each, whatever the groups' own levels
    rows = [("a", 1, x, 0.1 * x) for x in (1, 2, 3)] + [("b", 0, x, 0.5 - 0.1 * (10 - x)) for x in (8, 9, 10)]
    assert analysis._within(rows, 200) == pytest.approx((1, 1, 1))
    value, _, _ = analysis._within([("a", 1, 1, 0.5), ("b", 1, 9, 0.9)], 50)  # nothing to compare within a problem
    assert math.isnan(value)


def test_a_verifier_that_likes_short_steps_is_found_out(byhand: StudyFile) -> None:
    frame = analysis.length_bias(byhand, resamples=50)
    assert frame["candidates"].tolist() == [5, 5]
    assert frame["solution"].isna().all()  # each problem has one candidate of a kind


# ------------------------------------------------------------------------------------------------------ a real study


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "toy.sqlite"
    study = Study(
        (Component("toy"),), (Component("scripted"),),
        (Component("majority"), Component("best-of-n"), Component("beam"), Component("lookahead")),
        (2, 8), (Component("table"),), n=15, split="train",
    )  # fmt: skip
    measure(study, path)
    return path


def test_the_shape_of_the_searches_is_that_of_the_graphs(toy: Path) -> None:
    with StudyFile(toy) as file:
        frame = analysis.shape(file)
        spent = analysis.compute(file)
        graphs = [file.graph(Place(7, number)) for number in range(1, 16)]  # lookahead @ 8
    last = frame.iloc[-1]
    assert (last["strategy"], last["budget"]) == ("lookahead", "8")
    assert last["nodes"] == pytest.approx(sum(len(graph) - 1 for graph in graphs) / 15)
    assert last["candidates"] == pytest.approx(sum(len(graph.finished()) for graph in graphs) / 15)
    assert last["deepest"] == pytest.approx(sum(max(graph[n]["depth"] for n in graph.graph) for graph in graphs) / 15)
    assert (frame["diversity"] <= frame["answers"] + 1e-9).all()
    assert spent[["kept", "dropped", "rollouts"]].sum(axis=1).tolist() == pytest.approx([1.0] * 8)
    assert (spent["policy_share"] + spent["verifier_share"]).tolist() == pytest.approx([1.0] * 8)
    rollouts = spent.set_index("strategy")["rollouts"]
    assert (rollouts["lookahead"] > 0).all()
    assert (rollouts["beam"] == 0).all()


def test_there_is_no_regret_where_all_answers_are_right(toy: Path, tmp_path: Path) -> None:
    with sqlite3.connect(shutil.copy(toy, tmp_path / "study.sqlite")) as connection:
        connection.execute("UPDATE candidates SET correct = 1")
    connection.close()
    with StudyFile(tmp_path / "study.sqlite") as file:
        assert analysis.regret(file).empty
    with StudyFile(toy) as file:
        assert len(analysis.regret(file)) == 8


def test_the_bins_of_a_line_are_in_order_whatever_the_seeds(tmp_path: Path) -> None:
    study = Study(
        (Component("toy"),), (Component("scripted"),), (Component("best-of-n"), Component("beam")), (2, 8),
        (Component("table"),), n=9, seeds=(0, 1, 2),
    )  # fmt: skip
    measure(study, tmp_path / "study.sqlite")
    with StudyFile(tmp_path / "study.sqlite") as file:
        frame = analysis.reliability(file)
    for _, line in frame.groupby(["strategy", "budget"]):
        assert line["bin"].tolist() == sorted(set(line["bin"]))
        assert line.index.tolist() == list(range(line.index[0], line.index[-1] + 1))


def test_the_script_of_the_guide_draws_a_figure_in_twenty_lines(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = ROOT / "docs" / "figure.py"
    assert len(script.read_text().splitlines()) <= 20
    monkeypatch.setattr(sys, "argv", ["figure.py", str(toy), str(tmp_path / "figure.png")])
    space = runpy.run_path(str(script))
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert len(space["lines"]) == 8


def test_a_graph_is_found_by_any_whole_numbers(toy: Path) -> None:
    with StudyFile(toy) as file:
        row = analysis.results(file).iloc[-1]
        for place in ((row.cell, row.problem), (int(row.cell), int(row.problem)), Place(row.cell, row.problem)):
            assert file.graph(place).problem.id == row.id
        for missing in ((99, 1), (row.cell, 10**30), (-1, row.problem)):
            with pytest.raises(KeyError, match="no graph of cell"):
                file.graph(missing)
        with pytest.raises(TypeError):
            file.graph((1.5, 1))  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------------- exports


def export(toy: Path, kind: str, out: Path) -> int:
    return main(["export", str(toy), "--to", kind, "--out", str(out)])


def test_parquet_reads_back(toy: Path, tmp_path: Path) -> None:
    assert export(toy, "parquet", tmp_path) == 0
    with StudyFile(toy) as file:
        results, candidates = analysis.results(file), analysis.candidates(file)
    back = pd.read_parquet(tmp_path / "results.parquet")
    assert back["answer"].tolist() == results["answer"].tolist()
    assert back["flops"].tolist() == results["flops"].tolist()
    assert [tuple(each) for each in pd.read_parquet(tmp_path / "candidates.parquet")["texts"]] == list(
        candidates["texts"]
    )


def test_graphml_of_every_search(toy: Path, tmp_path: Path) -> None:
    import networkx as nx

    assert export(toy, "graphml", tmp_path) == 0
    assert len(list(tmp_path.iterdir())) == 8 * 15
    with StudyFile(toy) as file:
        graph = file.graph(Place(4, 2))
    loaded = nx.read_graphml(tmp_path / "cell-4-problem-2.graphml", node_type=int)
    assert sorted(loaded.nodes) == sorted(graph.graph.nodes)
    assert [loaded.nodes[node]["text"] for node in sorted(loaded)] == [graph[node]["text"] for node in sorted(loaded)]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_supervised_examples_are_right_solutions_as_the_policy_writes_them(toy: Path, tmp_path: Path) -> None:
    assert export(toy, "trl-sft", tmp_path / "sft.jsonl") == 0
    made = lines(tmp_path / "sft.jsonl")
    assert all(set(row) == {"prompt", "completion"} for row in made)
    assert len({(row["prompt"], row["completion"]) for row in made}) == len(made) > 10
    with StudyFile(toy) as file:
        environment = file.environment("toy")
        assert max(sum(row["prompt"] == other["prompt"] for other in made) for row in made) <= 4
        assert [(prompt, text_of(parts)) for prompt, parts in right_solutions(file, most=1)] == [
            (row["prompt"], row["completion"])
            for at, row in enumerate(made)
            if not at or made[at - 1]["prompt"] != row["prompt"]
        ]
    for row in made:
        problem = environment.read(row["prompt"].strip())
        state = State(problem, tuple(Step(text) for text in row["completion"].split(environment.delimiter)))
        answer = environment.answer(state)
        assert answer is not None
        assert environment.check(problem, answer)


def test_observations_are_parts_of_a_solution_that_are_not_learnt(tmp_path: Path) -> None:
    path, environment = tmp_path / "tool.sqlite", Arithmetic()
    config: Mapping[str, Any] = {"environments": ["arithmetic"], "split": "train", "n": 1, "seeds": [0]}
    labels = {"environment": "arithmetic", "policy": "p", "strategy": "best-of-n", "budget": "4", "seed": 0}
    problems = {"arithmetic": (environment, [environment.read(QUESTIONS[0])])}
    told = candidate(3, RIGHT[QUESTIONS[0]], (0.9, 0.9, 0.9), True, 3, 3)
    told["steps"] = json.dumps([step | {"observation": "told"} for step in json.loads(told["steps"])])
    with StudyFile.for_writing(path, config, [labels | {"verifier": "v"}], problems) as file:
        file.write(result(Place(0, 1), [told], 4, policy_flops=30.0, verifier_flops=70.0))
    first, second, third = RIGHT[QUESTIONS[0]]
    with StudyFile(path) as file:
        ((_, parts),) = right_solutions(file)
    assert parts == ((f"{first}\n", True), ("told\n", False), (f"{second}\n", True), ("told\n", False), (third, True))
    assert text_of(parts) == f"{first}\ntold\n{second}\ntold\n{third}"


def test_preference_pairs_prefer_right_to_wrong_of_the_same_problem(byhand: StudyFile) -> None:
    pairs = list(preferences(byhand))
    assert pairs == [
        {"prompt": f"{question}\n", "chosen": "\n".join(RIGHT[question]), "rejected": "\n".join(wrong)}
        for question, wrong in (
            ("7 + 8 - 2", ("7 + 8 = 14", "14 - 2 = 12", "#### 12")),
            ("9 + 9 - 1", ("9 + 9 = 18", "18 - 1 = 16", "#### 16")),
        )
    ]


def test_labels_of_steps_are_whether_any_trajectory_through_them_ended_right(toy: Path, tmp_path: Path) -> None:
    assert export(toy, "trl-prm", tmp_path / "prm.jsonl") == 0
    made = lines(tmp_path / "prm.jsonl")
    assert all(set(row) == {"prompt", "completions", "labels"} for row in made)
    assert all(len(row["labels"]) == len(row["completions"]) for row in made)
    assert {row["labels"][-1] for row in made} == {True, False}
    for row in made:
        assert row["labels"] == sorted(row["labels"], reverse=True)  # hope that is lost does not come back
    hopeful = [row for row in made if row["labels"][0] and not row["labels"][-1]]
    assert hopeful  # wrong in the end, but another trajectory made it from the same first step
    with StudyFile(toy) as file:
        right = [row for row in stepwise(file, most=1000) if row["labels"][-1]]
    for row in hopeful:
        start = row["completions"][: sum(row["labels"])]
        assert any(other["prompt"] == row["prompt"] and other["completions"][: len(start)] == start for other in right)


def test_exports_say_what_they_cannot_do(
    toy: Path, byhand: StudyFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(toy, "trl-pro", tmp_path / "x") == 2
    assert "did you mean 'trl-prm'" in capsys.readouterr().err
    assert main(["export", str(byhand.path), "--to", "trl-sft", "--out", str(tmp_path / "x")]) == 0
    assert "note: these are problems of the test split" in capsys.readouterr().err
    with pytest.raises(UsageError, match="has no graphs; labels of steps need a study with 'graphs: true'"):
        list(stepwise(byhand))


def test_reading_a_study_needs_neither_pandas_nor_torch(toy: Path) -> None:
    show = f"agent.interface.cli.main(['report', {str(toy)!r}])"
    code = f"import sys, agent.interface.cli; {show}; print({{'pandas', 'torch'}} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "set()"


def test_risk_over_coverage_by_hand(byhand: StudyFile, tmp_path: Path) -> None:
    """Three searches: right and 0.9 sure, wrong and 0.6 sure, right and 0.6 sure by the planner's word."""
    path = tmp_path / "study.sqlite"
    shutil.copy(byhand.path, path)
    plan = {"strategy": "online", "knobs": {}, "reasons": [], "probability": 0.6, "abstained": True}
    changes = [
        ("confidence = 0.9, correct = 1", 1),
        ("confidence = 0.6, correct = 0", 2),
        (f"confidence = 1, correct = 1, plan = '{json.dumps(plan)}'", 3),
    ]
    with sqlite3.connect(path) as connection:
        for change, problem in changes:
            connection.execute(f"UPDATE results SET {change} WHERE cell = 0 AND problem = {problem}")
    connection.close()
    with StudyFile(path) as file:
        frame = analysis.risk_coverage(file)
        line = frame[frame["verifier"] == "good"]
        assert line["threshold"].tolist() == [0.9, 0.6]
        assert line["coverage"].tolist() == pytest.approx([1 / 3, 1])
        assert line["risk"].tolist() == pytest.approx([0, 1 / 3])
        assert line["aurc"].tolist() == pytest.approx([2 / 9] * 2)  # 1/3 of the width at 0, 2/3 of it at 1/3
        (summary, other) = summarize(file)
        assert (summary["abstained"], summary["accuracy_answered"]) == (1, 0.5)
        assert other["abstained"] == 0
