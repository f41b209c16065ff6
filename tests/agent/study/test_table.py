"""Tables, one problem, and dry runs of studies written by hand, of any labels, answers and costs."""

import csv
import io
import itertools
import json
import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.interface.cli import main
from agent.recipes.recipe import Component
from agent.study.dry_run import dry_run, what_shows
from agent.study.problem_report import find_problems, problem_report
from agent.study.results_db import StudyFile
from agent.study.rows import COSTS, VOTES, Place, Result, vote_row
from agent.study.run import measure, study_problems
from agent.study.study import Study
from agent.study.table import (
    level_order,
    marks_by_problem,
    short_labels,
    summarize,
    uniform_answers,
    uniform_votes,
    versus_text,
    vote_table,
)
from agent.study.table_formats import csv_table, latex_table, markdown_table
from envs.core import Problem
from envs.messages import UsageError
from envs.toy import Toy

Answers = Callable[[int, int], Sequence[tuple[str, bool | None, float]]]  # cell, problem: answer, right, score


def labels(strategy: str = "best-of-n", budget: str = "4", **others: Any) -> dict[str, Any]:
    given = {"environment": "toy", "policy": "p", "verifier": "v", "strategy": strategy, "budget": budget, "seed": 0}
    return given | others


def written(
    path: Path,
    cells: Sequence[Mapping[str, Any]],
    answers: Answers,
    problems: int = 4,
    gold: bool = True,
    flops: float = 100.0,
    level: Callable[[int], Any] = lambda problem: problem,
) -> Path:
    """A file in which every search draws the given answers, in two steps each, and votes by score."""
    vote = {"rule": "vote", "aggregate": "last"}
    config = {"environments": ["toy"], "split": "test", "n": problems, "seeds": [0], "vote": vote, "temperature": 1.0}
    drawn = [
        Problem(f"toy/{number}", f"question {number}", "9" if gold else None, {"level": level(number)})
        for number in range(1, problems + 1)
    ]
    environments = dict.fromkeys((cell["environment"] for cell in cells), (Toy(), drawn))
    with StudyFile.for_writing(path, config, cells, environments) as file:
        numbers = file.problem_numbers()
        for cell, each in enumerate(cells):
            for problem in range(1, problems + 1):
                place = Place(cell, numbers[each["environment"], f"toy/{problem}"])
                file.write(_search(place, answers(cell, problem), gold, flops * (cell + 1)))
    return path


def _search(place: Place, answers: Sequence[tuple[str, bool | None, float]], gold: bool, flops: float) -> Result:
    firsts: dict[str, int] = {}
    candidates: list[dict[str, Any]] = []
    for node, (answer, right, score) in enumerate(answers, 1):
        texts = (f"think of {answer}", f"#### {answer}")
        steps = [{"text": text, "tokens": 5, "score": score} for text in texts]
        right_or_not = None if right is None else int(right)
        candidates.append(
            {"node": 2 * node, "answer": answer, "same": firsts.setdefault(answer, 2 * node), "correct": right_or_not}
            | {"count": 1, "steps": json.dumps(steps)}
        )
    votes = [vote_row(candidates, vote) for vote in VOTES]
    chosen = next(vote for vote in votes if (vote["rule"], vote["aggregate"]) == ("vote", "last"))
    first = next((each["node"] for each in candidates if each["answer"] == chosen["answer"]), None)
    row = {"node": first, "drawn": len(candidates), "stopped": "finished", "error": None, "plan": None}
    row |= {key: chosen[key] for key in ("answer", "confidence")}
    row |= {"correct": chosen["correct"] if gold else None} | dict.fromkeys(COSTS, 0.0)
    row |= {"samples": 4.0, "policy_flops": flops, "seconds": 2.0}
    return Result(place, row, candidates, votes)


def right_below(bound: int) -> Answers:
    return lambda cell, problem: [("9", True, 0.5)] if problem < bound + cell else [("8", False, 0.5)]


def report(path: Path, *words: str) -> list[dict[str, Any]]:
    del words
    with StudyFile(path) as file:
        return summarize(file)


# ----------------------------------------------------------------------------------------------------- comparisons


def test_versus_means_one_thing_at_the_same_budget(tmp_path: Path) -> None:
    cells = [labels(strategy, budget) for strategy in ("best-of-n", "beam") for budget in ("4", "16")]
    cells.append(labels("beam", "64"))
    lines = report(written(tmp_path / "a.sqlite", cells, right_below(1)))
    # best-of-n is right on 0 and 1 of 4, beam on 2, 3, and 4: the difference is to best-of-n at its own budget
    assert [line.get("difference", (None,))[0] for line in lines] == [None, None, 0.5, 0.5, None]
    assert [line.get("versus_budget") for line in lines] == [None, None, "4", "16", None]
    assert [line.get("paired") for line in lines] == [None, None, 4, 4, None]
    assert versus_text([line for line in lines if "versus" in line]) == (
        "versus best-of-n: difference in points to best-of-n at the same budget, over the 4 problems of both, paired,"
        " with its 95 % interval"
    )


def test_what_has_one_budget_is_compared_with_at_that_one(tmp_path: Path) -> None:
    cells = [labels("greedy", "1", verifier="none"), labels("beam", "4"), labels("beam", "16")]
    lines = report(written(tmp_path / "a.sqlite", cells, right_below(1)))
    assert [line.get("versus_budget") for line in lines] == [None, "1", "1"]
    assert "greedy at budget 1, over" in versus_text([line for line in lines if "versus" in line])


def test_another_axis_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "a.sqlite", [labels(budget=budget) for budget in ("4", "16")], right_below(1))
    assert main(["report", str(path), "--baseline", "budget=4"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "versus budget 4" in out
    assert "difference in points to budget 4, over the 4 problems of both" in out
    with StudyFile(path) as file:
        line = summarize(file, baseline="budget=4")[1]
    assert line["difference"][0] == line["differing"] == 0.25


def test_which_of_two_verifiers_is_not_guessed(tmp_path: Path) -> None:
    cells = [labels(verifier="good"), labels(verifier="bad"), labels("majority", verifier="none")]
    path = written(tmp_path / "a.sqlite", cells, right_below(1))
    with StudyFile(path) as file:
        assert ["difference" in line for line in summarize(file)] == [False, False, False]
        assert ["difference" in line for line in summarize(file, baseline="majority")] == [True, True, False]


def test_many_comparisons_are_corrected_together(tmp_path: Path) -> None:
    cells = [labels(strategy) for strategy in ("best-of-n", "beam", "dvts", "mcts")]
    lines = report(written(tmp_path / "a.sqlite", cells, right_below(1)))
    values = [line["p"] for line in lines[1:]]
    assert values == sorted(values, reverse=True)
    assert lines[3]["p_holm"] == pytest.approx(min(1.0, 3 * values[2]))
    assert "p_holm" not in lines[0]


def test_what_nobody_knows_is_not_wrong(tmp_path: Path) -> None:
    path = written(tmp_path / "a.sqlite", [labels()], lambda cell, problem: [("9", None, 0.5)], gold=False)
    with StudyFile(path) as file:
        (line,) = summarize(file)
        assert (line["n"], line["searches"], line["accuracy"], line["levels"]) == (0, 4, None, {})
        assert uniform_answers(file) == {"toy": "there is no answer of which it is known whether it is right"}
    assert marks_by_problem([{"id": "a", "seed": 0, "correct": None}, {"id": "b", "seed": 0, "correct": 0}]) == {
        "b": [0.0]
    }


def test_levels_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    path = written(tmp_path / "a.sqlite", [labels()], right_below(2), problems=11)
    assert list(report(path)[0]["levels"]) == [str(number) for number in range(1, 12)]
    assert sorted(["hard", "10", "2.5", "easy", "-1"], key=level_order) == ["-1", "2.5", "10", "easy", "hard"]


# ------------------------------------------------------------------------------------------------- what says nothing


def test_votes_that_cannot_differ_are_left_out_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proving = written(tmp_path / "a.sqlite", [labels()], lambda cell, problem: [("9", True, 0.5), ("3*3", True, 0.6)])
    with StudyFile(proving) as file:
        assert vote_table(file) == []
        assert uniform_votes(file) == {"toy": "every answer that was found is right"}
    assert main(["report", str(proving), "--votes"]) == 0
    out = capsys.readouterr().out
    assert "no votes of toy to compare: every answer that was found is right" in out
    assert "product" not in out
    alike = written(tmp_path / "b.sqlite", [labels()], right_below(2))  # right ones and wrong ones, never together
    with StudyFile(alike) as file:
        assert uniform_answers(file) == {}
        assert uniform_votes(file) == {"toy": "every vote chooses as well as the others"}
    telling = written(
        tmp_path / "c.sqlite",
        [labels(), labels(environment="toy problems=2")],
        lambda cell, problem: (
            [("9", True, 0.9), ("8", False, 0.3), ("8", False, 0.3)] if cell == 0 else [("7", False, 0.5)]
        ),
    )
    with StudyFile(telling) as file:
        assert uniform_votes(file) == {"toy problems=2": "no answer that was found is right"}
        assert [title for title, _ in vote_table(file)] == ["best-of-n @ 4; toy, p, v"]


# ------------------------------------------------------------------------------------------------------------ labels


def test_what_labels_have_in_common_is_told_once() -> None:
    short, notes = short_labels(["beam branch=2 width=16", "beam branch=4 width=16", "best-of-n", "dvts width=16"])
    assert list(short.values()) == ["beam branch=2", "beam branch=4", "best-of-n", "dvts width=16"]
    assert notes == ["beam: width=16"]
    short, notes = short_labels(["math levels=[1, 2] n=3", "math levels=[1, 3] n=3"])
    assert list(short.values()) == ["math levels=[1, 2]", "math levels=[1, 3]"]
    pages = ["math template=" + "word " * 90 + end for end in ("a", "b")]
    short, _ = short_labels(pages)
    assert len(set(short.values())) == 2
    assert max(map(len, short.values())) < 60
    assert short_labels(["beam"]) == ({"beam": "beam"}, [])


# ------------------------------------------------------------------------------------------------------------ tables


STRATEGIES = [f"beam branch={branch} width=16 aggregate=product" for branch in (2, 4, 8)]
LONG = ["best-of-n", *STRATEGIES, *(f"lookahead k={k} name={'long' * 6}{k}" for k in (1, 2))]


def long_study(path: Path) -> Path:
    cells = [labels(strategy, budget) for strategy in LONG for budget in ("4", "samples=16,flops=1e12")]
    return written(path, cells, right_below(1), problems=11, flops=1e9)


def blocks(out: str) -> list[list[str]]:
    """The rows of every table: the lines between a rule and the next blank one."""
    found = re.findall(r"^ ?[─+|-]{9,}.*\n((?:.*\S.*\n)+?)(?=\s*\n|\S)", out, flags=re.M)
    return [text.splitlines() for text in found]


@pytest.mark.parametrize("width", [40, 50, 60, 80, 100, 120, 200])
def test_no_table_is_wider_than_the_terminal_and_rows_stay_apart(
    tmp_path: Path, width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = long_study(tmp_path / "a.sqlite")
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["report", str(path), "--holm"]) == 0
    out = capsys.readouterr().out
    tables = out[: out.index("results in ")]
    assert max(map(len, tables.splitlines())) <= width
    assert "…" not in tables
    assert "\x1b" not in out
    with StudyFile(path) as file:
        for line in summarize(file):
            low, high = (100 * end for end in line["interval"])
            assert f"{low:.1f} to {high:.1f}" in tables  # never over two lines
            if "difference" in line:
                assert "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * each for each in line["difference"])) in tables
    words = " ".join(re.findall(r"\S+", tables))
    for branch in (2, 4, 8):
        assert f"branch={branch}" in words
    assert tables.count("width=16") == 1  # what is common is told once
    assert "everywhere beam: width=16 aggregate=product" in words


def test_rows_that_differ_in_one_label_have_no_column_for_the_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    budgets = written(tmp_path / "a.sqlite", [labels(budget=budget) for budget in ("4", "16")], right_below(1))
    assert main(["report", str(budgets)]) == 0
    out = capsys.readouterr().out
    assert "strategy best-of-n" in out.splitlines()[0]
    assert not re.search(r"^ best-of-n", out, flags=re.M)
    strategies = written(tmp_path / "b.sqlite", [labels(), labels("beam")], right_below(1))
    assert main(["report", str(strategies)]) == 0
    assert ", budget 4," in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize("failed", [1, 2])
def test_failures_are_counted_below_the_table(tmp_path: Path, failed: int, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "a.sqlite", [labels()], right_below(3))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE results SET error = 'the wire was cut' WHERE problem <= ?", (failed,))
    connection.close()
    assert main(["report", str(path)]) == 0
    assert f"searches that failed and count as wrong: {failed}; the file has their errors" in capsys.readouterr().out


def test_labels_of_a_stranger_do_nothing_to_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "beam [red]x=\x1b[2J\x1b]0;title\x07\u202e"
    path = written(tmp_path / "a.sqlite", [labels(evil), labels("dvts")], right_below(1))
    tables = [["--table", kind] for kind in ("csv", "markdown", "latex")]
    for words in ([], ["--votes"], ["--problem", "1"], *tables):
        assert main(["report", str(path), *words]) == 0
        out = capsys.readouterr().out
        assert not {"\x1b", "\x07", "\u202e"} & set(out), words
        assert "red" in out


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_holds_every_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = long_study(tmp_path / "a.sqlite")
    assert main(["report", str(path), "--table", "csv"]) == 0
    rows = read_csv(capsys.readouterr().out)
    with StudyFile(path) as file:
        lines = summarize(file)
    assert len(rows) == len(lines) == 12
    for row, line in zip(rows, lines, strict=True):
        assert (row["strategy"], row["budget"]) == (line["strategy"], line["budget"])
        assert float(row["accuracy"]) == line["accuracy"]
        assert (float(row["low"]), float(row["high"])) == line["interval"]
        assert float(row["flops"]) == line["cost"]["policy_flops"]
        assert float(row["level 10"]) == line["levels"]["10"]["accuracy"]
        assert row["difference"] == ("" if "difference" not in line else str(line["difference"][0]))
        assert row["p_holm"] == ("" if "p_holm" not in line else str(line["p_holm"]))


def test_no_label_is_a_formula_of_a_spreadsheet(tmp_path: Path) -> None:
    path = written(tmp_path / "a.sqlite", [labels("=1+1"), labels("@x\ny", policy="-p")], right_below(1))
    with StudyFile(path) as file:
        rows = read_csv(csv_table(file.config, summarize(file)))
    assert [(row["strategy"], row["policy"]) for row in rows] == [("'=1+1", "p"), ("'@x y", "'-p")]


def test_markdown_and_latex_are_well_formed_and_say_what_they_are_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = [labels("a|b_c"), labels("50% & $x$ #1 {~^\\}"), labels("beam")]
    path = written(tmp_path / "a.sqlite", cells, right_below(1), flops=4e9)
    assert main(["report", str(path), "--table", "markdown", "--holm"]) == 0
    caption, _, head, rule, *rows = capsys.readouterr().out.splitlines()
    for part in ("environment toy", "4 problems of the test split", "seed 0", "95 %", r"versus a\|b\_c", "budget 4"):
        assert part in caption
    cells_of = [re.split(r"(?<!\\)\|", line)[1:-1] for line in (head, rule, *rows)]
    assert {len(each) for each in cells_of} == {len(cells_of[0])}
    assert [each.strip() for each in cells_of[0]] == [
        "strategy", "right (%)", "95 %", r"versus a\|b\_c", "p (Holm)", "samples", "GFLOP",
    ]  # fmt: skip
    assert [each[-1].strip() for each in cells_of[2:]] == ["4.00", "8.00", "12.0"]
    assert main(["report", str(path), "--table", "latex"]) == 0
    out = capsys.readouterr().out
    body = [line for line in out.splitlines() if line.endswith(r"\\")]
    assert r"50\% \& \$x\$ \#1 \{\textasciitilde{}\textasciicircum{}\textbackslash{}\}" in out
    assert len({len(re.findall(r"(?<!\\)&", line)) for line in body}) == 1
    assert "$+$25.0 (" in out
    assert out.count("{") - out.count(r"\{") == out.count("}") - out.count(r"\}")


def test_tables_of_nothing_are_tables(tmp_path: Path) -> None:
    path = written(tmp_path / "a.sqlite", [labels(), labels("beam")], right_below(1), problems=1)
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM results")
    connection.close()
    with StudyFile(path) as file:
        config, lines = file.config, summarize(file)
    for make in (csv_table, markdown_table, latex_table):
        assert "beam" in make(config, lines, True)
    assert main(["report", str(path), "--votes", "--holm"]) == 0


def test_where_a_table_goes_and_what_does_not_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "a.sqlite", [labels()], right_below(1))
    out = tmp_path / "new" / "table.csv"
    assert main(["report", str(path), "--table", "csv", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert read_csv(out.read_text())[0]["strategy"] == "best-of-n"
    before = path.read_bytes()
    for words, message in (
        (["--table", "cvs"], "unknown table 'cvs'; did you mean 'csv'? allowed: csv, markdown, latex"),
        (["--out", str(out)], "--out is for --table or --json; add one of them"),
        (["--json", "--out", str(path)], "is the file of results itself; give another file"),
        (["--problem", "1", "--votes", "--table", "csv"], "leave --table, --votes out"),
        (["--vote", "most"], "allowed: majority, max, vote"),
    ):
        assert main(["report", str(path), *words]) == 2
        assert message in capsys.readouterr().err
    assert path.read_bytes() == before
    with pytest.raises(SystemExit):
        main(["report", str(path), "--json", "--table", "csv"])


# -------------------------------------------------------------------------------------------------------- one problem


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "toy.sqlite"
    strategies = (Component("greedy"), Component("best-of-n"), Component("beam", {"branch": 2}))
    study = Study((Component("toy"),), (Component("scripted"),), strategies, (4,), (Component("table"),), n=12)
    measure(study, path)
    return path


def test_the_path_of_a_problem_is_that_of_the_answer(toy: Path) -> None:
    seen = set()
    with StudyFile(toy) as file:
        for number in range(1, 13):
            found = problem_report(file, number)
            assert found["lacking"] == []
            assert [search["strategy"] for search in found["searches"]] == ["greedy", "best-of-n", "beam branch=2"]
            for search in found["searches"]:
                graph = file.graph((search["cell"], number))
                texts = [step["text"] for step in search["path"]]
                node = file.rows("SELECT node FROM results WHERE cell = ? AND problem = ?", (search["cell"], number))[
                    0
                ][0]
                seen.add((search["answer"] is None, search["correct"]))
                if node is not None:
                    assert texts == [graph[each]["text"] for each in graph.path(node)[1:]]
                    assert graph[node]["answer"] == search["answer"]
                assert search["cost"]["samples"] > 0
    assert {(False, True), (False, False)} <= seen


def test_a_problem_is_found_by_its_id_and_its_number(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with StudyFile(toy) as file:
        (name,) = (row["id"] for row in file.rows("SELECT id FROM problems WHERE problem = 3"))
        assert find_problems(file, name) == find_problems(file, "3") == find_problems(file, "03") == [3]
        for wrong in ("0", "13", "²", "-1", "", "toy"):
            with pytest.raises(UsageError, match=r"unknown problem .*a number from 1 to 12, or an id: .* and 2 more"):
                find_problems(file, wrong)
        with pytest.raises(UsageError, match=re.escape(f"did you mean {name!r}?")):
            find_problems(file, f"{name}x")
    assert main(["report", str(toy), "--problem", name]) == 0
    out = capsys.readouterr().out
    for part in (name, "gold answer", "greedy", "beam branch=2", "path 1, cell", "verdict", "FLOP"):
        assert part in out
    assert "✓" not in out
    assert main(["report", str(toy), "--problem", "3", "--json"]) == 0
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert problem["id"] == name
    assert main(["report", str(toy), "--problem", "x"]) == 2


def test_nothing_is_called_right_that_is_not_known_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "a.sqlite", [labels()], lambda cell, problem: [("9", None, 0.5)], gold=False)
    assert main(["report", str(path), "--problem", "1"]) == 0
    out = capsys.readouterr().out
    assert "unknown" in out
    assert "right" not in out
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE results SET error = 'OSError: gone', answer = NULL, node = NULL")
        connection.execute("DELETE FROM results WHERE problem = 2")
    connection.close()
    assert main(["report", str(path), "--problem", "1"]) == 0
    out = capsys.readouterr().out
    assert "failed" in out
    assert "OSError: gone" in out
    assert main(["report", str(path), "--problem", "2"]) == 0
    assert "not searched yet: cell 0" in capsys.readouterr().out


def test_equal_paths_are_shown_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = [labels(budget=budget) for budget in ("4", "8", "16")]
    path = written(tmp_path / "a.sqlite", cells, lambda cell, problem: [("9" if cell < 2 else "8", cell < 2, 0.5)])
    assert main(["report", str(path), "--problem", "1"]) == 0
    out = capsys.readouterr().out
    assert "path 1, cells 0, 1: right" in out
    assert "path 2, cell 2: wrong" in out
    assert out.count("think of 9") == 1


# ------------------------------------------------------------------------------------------------------------ dry run


def test_a_dry_run_runs_nothing_and_counts_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "toy.sqlite"
    assert main(["study", "toy", "--dry-run", "--set", "n=7", "--out", str(path)]) == 0
    out = capsys.readouterr().out
    # greedy once, five strategies at three budgets and two seeds
    for part in ("31 cells, 217 searches, 0 of them done", "at most 987", "not known", "What 7 problems show"):
        assert part in out
    assert not path.exists()
    assert main(["study", "toy", "--dry-run", "--set", "n=7", "--out", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["searches"] == 217


def test_time_is_estimated_from_the_searches_of_the_same_cells(tmp_path: Path) -> None:
    path = tmp_path / "toy.sqlite"
    parts = (Component("toy"),), (Component("scripted"),), (Component("best-of-n"),)
    small = Study(*parts, (4,), (Component("table"),), n=3)
    large = replace(small, n=9, seeds=(0, 1))
    measure(small, path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE results SET seconds = 8")
    connection.close()
    plan = dry_run(large, study_problems(large), path, 4)
    assert (plan["searches"], plan["done"], plan["untimed"]) == (18, 3, 0)
    assert plan["seconds"] == pytest.approx(15 * 8 / 4)
    assert plan["measured"] == []  # there is nothing to compare
    assert dry_run(small, study_problems(small), path, 4)["seconds"] == 0
    other = Study(*parts, (4, 8), (Component("table"),), n=3)
    assert dry_run(other, study_problems(other), path, 4)["seconds"] is None
    assert dry_run(other, study_problems(other), path, 4)["untimed"] == 1


def test_how_often_strategies_differ_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "toy.sqlite"
    assert main(["study", "toy", "--out", str(path), "--set", "n=12"]) == 0
    with StudyFile(path) as file:
        shares = sorted(line["differing"] for line in summarize(file)[1:])
    assert 0 < shares[7] < 1
    capsys.readouterr()
    assert main(["study", "toy", "--out", str(path), "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["measured"] == [shares[7]]  # of fifteen comparisons with greedy decoding
    assert plan["shows"][-1]["differing"] == shares[7]
    assert main(["study", "toy", "--out", str(path), "--dry-run"]) == 0
    assert "the last row is the median of the comparisons in" in capsys.readouterr().out


def test_what_problems_show() -> None:
    rows = what_shows(155)
    assert [row["differing"] for row in rows] == [0.1, 0.2, 0.4]
    assert rows[1]["least_difference"] == pytest.approx(0.1, abs=2e-3)
    assert rows[1]["problems_needed"] == {"0.02": 3923, "0.05": 626, "0.1": 155}
    assert what_shows(5)[0]["least_difference"] is None
    for first, second in itertools.pairwise(rows):
        assert first["least_difference"] < second["least_difference"]
