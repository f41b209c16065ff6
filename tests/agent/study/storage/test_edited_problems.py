"""Studies whose problems were edited, or became more, since their file was written."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.interface.cli import main
from agent.recipes.recipe import Component
from agent.study.results_db import StudyFile
from agent.study.run import measure, open_study, study_problems
from agent.study.study import Study
from agent.study.table import summarize
from envs.messages import UsageError
from tests.agent.study.test_study import TOY, content

ROWS = [
    {"problem": "What is 2 + 3?", "answer": "6"},
    {"problem": "What is 7 + 4?", "answer": "12"},
    {"problem": "What is 1 + 1?", "answer": "2"},
]


def data(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def study(path: Path, n: int = 3, seeds: tuple[int, ...] = (0,)) -> Study:
    return Study(
        environments=(Component("math", {"data": str(path)}),),
        policies=(Component("scripted"),),
        strategies=(Component("majority"),),
        budgets=(2,),
        seeds=seeds,
        n=n,
        split="test",
    )


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return data(tmp_path / "mine.jsonl", ROWS)


def verdicts(path: Path) -> dict[str, Any]:
    with StudyFile(path) as file:
        return {row["id"]: row["correct"] for row in file.results()}


def edited(rows: list[dict[str, str]], at: int, **change: str) -> list[dict[str, str]]:
    return [row | change if index == at else row for index, row in enumerate(rows)]


def test_a_corrected_gold_answer_is_refused_and_then_judged_anew(tmp_path: Path, mine: Path) -> None:
    out, fresh = tmp_path / "s.sqlite", tmp_path / "fresh.sqlite"
    measure(study(mine), out)
    before = out.read_bytes()
    data(mine, edited(edited(ROWS, 0, answer="5"), 1, answer="11"))
    for seeds in ((0,), (0, 1)):  # with nothing to run, and with something
        with pytest.raises(UsageError, match=r"the gold answer of 2 differ, e\.g\. .*--regrade"):
            measure(study(mine, seeds=seeds), out)
        assert out.read_bytes() == before
    measure(study(mine, seeds=(0, 1)), out, regrade=True)
    measure(study(mine, seeds=(0, 1)), fresh)
    assert content(out) == content(fresh)
    with StudyFile(out) as file:
        assert {row["answer"] for row in file.rows("SELECT answer FROM problems")} == {"5", "11", "2"}
    measure(study(mine, seeds=(0, 1)), out)  # it is that of the edited data now


def test_another_question_or_a_lost_one_is_refused(tmp_path: Path, mine: Path) -> None:
    out = tmp_path / "s.sqlite"
    measure(study(mine), out)
    before = out.read_bytes()
    for rows in (edited(ROWS, 0, problem="What is 2 + 4?"), ROWS[1:], [*ROWS[1:], {"problem": "x?", "answer": "1"}]):
        data(mine, rows)
        for regrade in (False, True):
            with pytest.raises(UsageError, match=r"1 of 3 are not drawn any more|other problems|belongs to another"):
                measure(study(mine, n=len(rows)), out, regrade=regrade)
            assert out.read_bytes() == before


def test_added_rows_are_searched_too(tmp_path: Path, mine: Path) -> None:
    out = tmp_path / "s.sqlite"
    measure(study(mine), out)
    data(mine, [*ROWS, {"problem": "What is 5 + 5?", "answer": "10"}])
    measure(study(mine, n=4), out)
    with StudyFile(out) as file:
        assert len(file.results()) == file.total() == 4
        assert [row["run"] for row in file.results()].count(2) == 1


@pytest.mark.parametrize("sizes", [(5, 12), (3, 5, 40), (12, 13)])
def test_the_number_of_problems_can_grow(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    path = tmp_path / "toy.sqlite"
    for n in sizes:
        measure(replace(TOY, n=n), path)
        with StudyFile(path) as file:
            assert len(file.results()) == file.total() == 6 * n
            assert {line["n"] for line in summarize(file)} == {n}
            for row in file.results()[::5]:  # results have gone with their problems
                graph = file.graph((row["cell"], row["problem"]))
                assert graph.problem.id == row["id"]
    before = path.read_bytes()
    with pytest.raises(UsageError, match=rf"n: {sizes[-1]} there, 2 now"):
        measure(replace(TOY, n=2), path)
    assert path.read_bytes() == before
    measure(replace(TOY, n=sizes[-1]), path)  # nothing is left to run
    with StudyFile(path) as file:
        assert len(file.rows("SELECT * FROM runs")) == len(sizes) + 1
        results = {
            (row["cell"], row["id"]): (row["answer"], row["correct"], row["generated"]) for row in file.results()
        }
    measure(replace(TOY, n=sizes[-1]), tmp_path / "fresh.sqlite")
    with StudyFile(tmp_path / "fresh.sqlite") as file:
        for row in file.results():
            same = results.get((row["cell"], row["id"]))
            assert same in (None, (row["answer"], row["correct"], row["generated"]))


def test_problems_and_cells_can_grow_at_once(tmp_path: Path) -> None:
    path = tmp_path / "toy.sqlite"
    measure(replace(TOY, n=4), path)
    measure(replace(TOY, n=9, seeds=(0, 1, 2), budgets=(2, 4)), path)
    with StudyFile(path) as file:
        assert len(file.results()) == file.total() == 3 * 2 * 3 * 9


def test_an_environment_that_asks_otherwise_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "toy.sqlite"
    measure(replace(TOY, n=4), path)
    before = path.read_bytes()
    problems = study_problems(replace(TOY, n=4))
    environment, drawn = problems["toy"]
    other = [replace(drawn[0], question=drawn[0].question + " "), *drawn[1:]]
    with pytest.raises(UsageError, match=r"the question of 1 differs, e\.g\. of"):
        open_study(replace(TOY, n=4), path, {"toy": (environment, other)})
    assert path.read_bytes() == before


def test_the_command_line_says_how_to_go_on(
    tmp_path: Path, mine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["eval", "--env", "math", "--set", f"environment.data={mine}", "--policy", "scripted", "--verifier", "none",
             "--strategy", "majority", "-n", "3", "--budget", "2", "--json"]  # fmt: skip
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["results"][0]["accuracy"] > 0
    data(mine, [row | {"answer": "777"} for row in ROWS])
    assert main(words) == 2
    assert "--regrade judges what is stored by the new answers" in capsys.readouterr().err
    assert main([*words, "--regrade"]) == 0
    assert json.loads(capsys.readouterr().out)["results"][0]["accuracy"] == 0
