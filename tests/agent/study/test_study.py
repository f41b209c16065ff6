"""Studies: what the cells are, results that outlive kill -9, failures that are kept, refusal of other studies."""

import itertools
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.interface.cli import main
from agent.interface.text import brief
from agent.recipes.recipe import Component
from agent.search.budget import Budget
from agent.search.control.steering import INFO
from agent.search.engine import UNAVAILABLE
from agent.search.graph import SearchGraph
from agent.search.requests import Search
from agent.solver import Solver
from agent.strategies import Beam
from agent.study.export import right_solutions
from agent.study.progress import Progress
from agent.study.results_db import StudyFile
from agent.study.rows import VOTES, Place, result_of, scores_of
from agent.study.run import measure, open_study, run_study, shared_models, study_problems
from agent.study.study import Study, load_study
from agent.study.table import revoted, summarize
from envs.messages import UsageError
from envs.toy import Toy
from policies.core import Propose
from policies.scripted import ScriptedPolicy
from verifiers.table import TableVerifier
from verifiers.voting import Vote

ROOT = Path(__file__).parents[3]
TOY = Study(
    environments=(Component("toy"),),
    policies=(Component("scripted"),),
    verifiers=(Component("table"),),
    strategies=(Component("majority"), Component("best-of-n"), Component("beam", {"branch": 2})),
    budgets=(4,),
    seeds=(0, 1),
    n=12,
)


def measured(study: Study, path: Path) -> Path:
    measure(study, path)
    return path


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return measured(TOY, tmp_path_factory.mktemp("study") / "toy.sqlite")


def content(path: Path) -> dict[str, list[Any]]:
    """All that a study found, without the times and the runs that made it."""
    with StudyFile(path) as file:
        results = [{key: row[key] for key in row if key not in ("seconds", "run")} for row in file.results()]
        graphs = [(place, graph) for place, graph in file.raw_graphs()]
        for _, graph in graphs:
            del graph["info"]["spent"]["seconds"]
        return {
            "results": results,
            "candidates": list(file.candidates()),
            "votes": file.votes(),
            "graphs": graphs,
            "table": [{**line, "cost": line["cost"] | {"seconds": None}} for line in summarize(file)],
        }


# ----------------------------------------------------------------------------------------------------------- cells


def labels(study: Study) -> list[str]:
    return [" ".join(map(str, list(cell.labels().values())[1:])) for cell in study.cells]


def test_what_a_strategy_does_not_depend_on_is_no_axis_of_its_own() -> None:
    study = replace(
        TOY,
        verifiers=(Component("table"), Component("symbolic")),
        strategies=(Component("greedy"), Component("majority"), Component("beam")),
        budgets=(2, 4),
    )
    assert labels(study)[:5] == [
        "scripted none greedy 1 0",
        "scripted none majority 2 0",
        "scripted none majority 2 1",
        "scripted none majority 4 0",
        "scripted none majority 4 1",
    ]
    assert len(study.cells) == 1 + 4 + 2 * 4


def test_strategies_that_ask_for_scores_do_not_run_without_a_verifier() -> None:
    assert labels(replace(TOY, verifiers=(Component("none"),), seeds=(0,))) == ["scripted none majority 4 0"]
    with pytest.raises(ValueError, match="no cell is left"):
        replace(TOY, verifiers=(Component("none"),), strategies=(Component("beam"),))


def test_rules_say_which_parts_go_together() -> None:
    study = replace(TOY, budgets=(4, 8), only=({"strategy": "beam"}, {"strategy": "best-of-n", "budget": [8]}))
    assert labels(replace(study, seeds=(0,))) == [
        "scripted table best-of-n 8 0",
        "scripted table beam branch=2 4 0",
        "scripted table beam branch=2 8 0",
    ]
    study = replace(study, exclude=({"strategy": "beam branch=2", "seed": 1}, {"budget": 8}))
    assert labels(study) == ["scripted table beam branch=2 4 0"]
    with pytest.raises(UsageError, match="unknown strategy in a rule 'bean'; did you mean 'beam'"):
        replace(TOY, exclude=({"strategy": "bean"},))
    with pytest.raises(UsageError, match="unknown axis 'polciy'; did you mean 'policy'"):
        replace(TOY, exclude=({"polciy": "scripted"},))


def test_a_study_is_read_from_yaml_and_checked(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "environments: [toy]\npolicies: [scripted]\nverifiers: [table]\nbudgets: [4, 'samples=8,seconds=9']\n"
        "strategies: [majority, {name: beam, branch: 2}]\nn: 5\nonly:\n  - {strategy: {name: beam, branch: 2}}\n"
    )
    study = load_study(str(file), ["seeds=[3]"])
    assert labels(study) == ["scripted table beam branch=2 4 3", "scripted table beam branch=2 samples=8,seconds=9 3"]
    assert load_study("toy").n == 100  # by name
    for wrong, message in (
        ("strategies=[beem]", "did you mean 'beam'"),
        ("strategies=[{name: beam, brunch: 2}]", "has no option 'brunch'; did you mean 'branch'?"),
        ("budgets=[0]", "allowed: a number above 0"),
        ("seed=[1]", "unknown key 'seed'; did you mean 'seeds'"),
    ):
        with pytest.raises(UsageError, match=message):
            load_study(str(file), [wrong])


def test_cells_that_share_models_share_an_engine() -> None:
    study = replace(TOY, verifiers=(Component("table"), Component("symbolic")), seeds=(0,))
    groups = [(recipe.verifier.name, len(numbers)) for recipe, numbers in shared_models(study)]
    assert groups == [("table", 3), ("symbolic", 2)]


# --------------------------------------------------------------------------------------------------------- results


def test_a_study_finds_what_the_solver_finds(toy: Path) -> None:
    environment, problems = study_problems(TOY)["toy"]
    with StudyFile(toy) as file:
        assert len(file.results()) == file.total() == 6 * 12
        for number, cell in enumerate(TOY.cells):
            recipe = TOY.recipe(cell)
            solver = Solver.from_recipe(recipe, environment)
            solution = solver.solve_recipe(problems[5], recipe)
            (row,) = [row for row in file.results() if (row["cell"], row["problem"]) == (number, 6)]
            assert (row["answer"], bool(row["correct"])) == (solution.answer, solution.correct)
            assert [row[key] for key in ("samples", "generated", "verifier_flops")] == [
                solution.spent[key] for key in ("samples", "generated", "verifier_flops")
            ]
            graph = file.graph((number, 6))
            for info in (graph.info, solution.graph.info):
                del info["spent"]["seconds"]
            assert graph == solution.graph


def test_every_vote_is_that_of_the_graph_and_needs_no_other_run(toy: Path) -> None:
    with StudyFile(toy) as file:
        rows = file.results()
        votes = {(row["cell"], row["problem"], row["rule"], row["aggregate"]): row for row in file.votes()}
        assert len(votes) == len(rows) * len(VOTES)
        for row in rows[::7]:
            graph = file.graph((row["cell"], row["problem"]))
            for vote in VOTES:
                groups = graph.tally(vote)
                found = votes[row["cell"], row["problem"], vote.rule, vote.aggregate]
                assert found["answer"] == (groups[0].answer if groups else None)
        again = revoted(file, rows, Vote())
        scored = [(a, b) for a, b in zip(rows, again, strict=True) if a["strategy"] != "majority"]
        assert all((a["answer"], a["correct"]) == (b["answer"], b["correct"]) for a, b in scored)
        assert summarize(file, revoted(file, rows, Vote("max"))) != summarize(file, rows)


def test_candidates_hold_steps_scores_and_verdicts(toy: Path) -> None:
    with StudyFile(toy) as file:
        for row in itertools.islice(file.candidates(), 60):
            graph = file.graph((row["cell"], row["problem"]))
            assert [step["text"] for step in json.loads(row["steps"])] == list(graph.state(row["node"]).texts)
            assert scores_of(row) == graph.scores(row["node"])
            assert bool(row["correct"]) == graph.environment.check(graph.problem, row["answer"])
            assert graph.environment.same(graph[row["same"]]["answer"], row["answer"])


def test_the_file_says_all_about_itself(toy: Path) -> None:
    with StudyFile(toy) as file:
        assert file.config == json.loads(json.dumps(TOY.to_config()))
        (run,) = file.rows("SELECT * FROM runs")
        assert json.loads(run["about"]).keys() >= {"python", "stepwell", "networkx"}
        assert [cell["strategy"] for cell in file.cells()][::2] == ["majority", "best-of-n", "beam branch=2"]
    assert load_study("arithmetic").to_config()["weights"].keys() == {
        "arithmetic-s", "arithmetic-m", "arithmetic-prm", "arithmetic-prm-offpolicy",
    }  # fmt: skip
    assert list(replace(TOY, strategies=(Component("auto"),)).to_config()["plans"]) == ["toy--scripted--table.json"]
    plain = sqlite3.connect(toy)  # any SQLite reads it
    assert plain.execute("SELECT sum(correct) FROM results").fetchone()[0] > 0
    plain.close()


def test_graphs_are_optional(tmp_path: Path) -> None:
    with StudyFile(measured(replace(TOY, graphs=False, seeds=(0,), n=3), tmp_path / "toy.sqlite")) as file:
        assert list(file.raw_graphs()) == []
        assert len(list(file.candidates())) > 3


def test_lines_pool_seeds_and_compare_with_the_baseline(toy: Path) -> None:
    with StudyFile(toy) as file:
        lines = summarize(file)
        assert [(line["strategy"], line["n"], line["searches"]) for line in lines] == [
            ("majority", 12, 24),
            ("best-of-n", 12, 24),
            ("beam branch=2", 12, 24),
        ]
        assert "difference" not in lines[0]
        assert lines[2]["difference"][0] == pytest.approx(lines[2]["accuracy"] - lines[0]["accuracy"])
        assert lines[2]["versus"] == "majority"
        assert summarize(file, baseline="best-of-n")[0]["versus"] == "best-of-n"
        assert summarize(file, baseline="strategy=beam branch=2")[0]["versus"] == "beam branch=2"
        assert "difference" not in summarize(file, baseline="policy=scripted")[2]  # it is its own
        for wrong, message in (("beams", "unknown strategy 'beams'"), ("polcy=a", "unknown axis 'polcy'")):
            with pytest.raises(UsageError, match=message):
                summarize(file, baseline=wrong)


def test_policies_are_compared_line_by_line(tmp_path: Path) -> None:
    policies = (Component("scripted"), Component("scripted", {"delay": 0.0}))
    measure(replace(TOY, policies=policies, seeds=(0,), budgets=(2, 4), n=3), tmp_path / "toy.sqlite")
    with StudyFile(tmp_path / "toy.sqlite") as file:
        lines = summarize(file, baseline="policy=scripted")
    assert ["difference" in line for line in lines] == [False] * 6 + [True] * 6
    assert all(line["difference"][0] == 0 for line in lines[6:])  # they are the same policy


# -------------------------------------------------------------------------------------------------------- failures


def test_a_failing_problem_is_kept_with_its_error_and_can_be_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, path = replace(TOY, seeds=(0,)), tmp_path / "toy.sqlite"
    bad = study_problems(study)["toy"][1][3].id
    answer = ScriptedPolicy._answer

    def fail(self: ScriptedPolicy, request: Propose) -> Any:
        if request.states[0].problem.id == bad:
            raise ValueError("the wire was cut")
        return answer(self, request)

    with monkeypatch.context() as patch:
        patch.setattr(ScriptedPolicy, "_answer", fail)
        measured(study, path)
    with StudyFile(path) as file:
        rows = file.results()
        failed = [row for row in rows if row["error"] is not None]
        assert len(rows) == 36
        assert {row["id"] for row in failed} == {bad}
        assert len(failed) == 3
        assert all(row["error"] == "ValueError: the wire was cut" and not row["correct"] for row in failed)
        assert [line["errors"] for line in summarize(file)] == [1, 1, 1]
    measured(study, path)  # it is done: a failure is not run again unasked
    with StudyFile(path) as file:
        assert sum(row["error"] is not None for row in file.results()) == 3
    problems = study_problems(study)
    with open_study(study, path, problems) as file:
        assert file.forget_errors() == 3
        run_study(study, file, problems)
    assert content(path) == content(measured(study, tmp_path / "whole.sqlite"))


def test_what_failed_as_a_model_could_not_be_reached_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*WORDS, "--out", str(tmp_path / "results.sqlite")]
    search = Beam.search

    def unreachable(self: Beam, graph: SearchGraph) -> Search[None]:
        if graph.info:
            raise ConnectionError("nobody is at home")
        yield from search(self, graph)

    with monkeypatch.context() as patch:
        patch.setattr(Beam, "search", unreachable)
        assert main(words) == 1
    told = capsys.readouterr()
    assert "30 of 60 failed, as a model could not be reached; the same command tries again" in told.err
    assert "ConnectionError: nobody is at home" in told.err
    assert main(words) == 0
    assert [line["errors"] for line in json.loads(capsys.readouterr().out)["results"]] == [0, 0]


def test_what_fails_every_time_though_its_model_answers_others_is_not_run_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, path = replace(TOY, seeds=(0,), n=12), tmp_path / "toy.sqlite"
    asked: list[str] = []
    bad = study_problems(study)["toy"][1][1].id
    search = Beam.search

    def unreachable(self: Beam, graph: SearchGraph) -> Search[None]:
        if down or graph.problem.id == bad:
            asked.append(graph.problem.id)
            raise ConnectionError("no usable reply")
        yield from search(self, graph)

    monkeypatch.setattr(Beam, "search", unreachable)
    study, down = replace(study, strategies=(Component("beam"),)), True
    for _ in range(5):  # it is down: that is no search's fault
        measure(study, path)
    assert len(asked) == 5 * 12
    down = False
    asked.clear()
    for _ in range(6):
        measure(study, path)
    assert len(asked) == 3
    with StudyFile(path) as file:
        assert [row["stopped"] for row in file.results() if row["error"]] == ["error"]
        assert file.unavailable() is None


def test_a_steered_search_whose_model_could_not_be_reached_is_run_again_as_any_other() -> None:
    solver = Solver(Toy(), ScriptedPolicy(Toy()), TableVerifier(Toy()))
    solution = solver.solve("29 with 1 6 10", Beam(4, 2), Budget(samples=4))
    solution.graph.info[INFO] = [{"what": "prune"}]
    assert result_of(Place(1, 1), solution).row["stopped"] == "finished (steered)"
    solution.graph.info["stopped"] = UNAVAILABLE
    assert result_of(Place(1, 1), solution).row["stopped"] == UNAVAILABLE


# ------------------------------------------------------------------------------------------------- what is refused


def test_a_file_of_another_study_is_refused_with_what_differs(toy: Path) -> None:
    before = toy.read_bytes()
    with pytest.raises(UsageError, match=r"belongs to another study \(n: 12 there, 11 now\)"):
        measured(replace(TOY, n=11), toy)
    assert toy.read_bytes() == before


def test_a_study_that_gets_more_cells_goes_on(tmp_path: Path) -> None:
    wider = replace(
        TOY,
        environments=(Component("toy"), Component("countdown")),
        policies=(Component("scripted"), Component("countdown-xs")),
        budgets=(2, 4),
        seeds=(0, 1, 2),
        only=(
            {"environment": "toy", "policy": "scripted"},
            {"environment": "countdown", "policy": "countdown-xs", "strategy": "majority", "budget": 2, "seed": 2},
        ),
        exclude=({"strategy": "beam", "budget": 2},),
    )
    fresh, path = measured(wider, tmp_path / "fresh.sqlite"), measured(TOY, tmp_path / "grown.sqlite")
    before = content(path)["results"]
    measured(wider, path)
    assert content(path) == content(fresh)
    with StudyFile(path) as file:
        runs = [row["run"] for row in file.results()]
        assert (runs.count(1), runs.count(2)) == (len(before), len(runs) - len(before))
        assert file.config == StudyFile(fresh).config
    with pytest.raises(UsageError, match=r"belongs to another study \(environments: .* now; .*budgets: "):
        measured(TOY, path)  # it would lose cells
    heated = replace(wider, seeds=(0, 1, 2, 3), temperature=0.5)
    with pytest.raises(UsageError, match=r"belongs to another study .*temperature: 1.0 there, 0.5 now"):
        measured(heated, path)
    assert content(path) == content(fresh)


@pytest.mark.parametrize("text", [b"hello\n", b"\xff\xfe\n", b"SQLite format 3\x00" + bytes(100)])
def test_a_file_that_is_no_study_is_refused_and_left_alone(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(text)
    for use in (lambda: measured(TOY, path), lambda: StudyFile(path)):
        with pytest.raises(UsageError, match="is not a file of a study"):
            use()
    assert path.read_bytes() == text
    other = sqlite3.connect(tmp_path / "other.sqlite")
    other.execute("CREATE TABLE mine (x)")
    other.close()
    with pytest.raises(UsageError, match="is not a file of a study"):
        measured(TOY, tmp_path / "other.sqlite")


def test_two_writers_are_refused_and_readers_are_not(tmp_path: Path) -> None:
    path, study = tmp_path / "toy.sqlite", replace(TOY, n=2)
    problems = study_problems(study)
    with open_study(study, path, problems) as file:
        for _ in range(2):  # the refusal takes no lock away
            with pytest.raises(UsageError, match="being written to by another run"):
                measure(study, path)
        run_study(study, file, problems)
        with StudyFile(path) as reader:
            assert len(reader.done()) == file.total()
    assert [each.name for each in tmp_path.iterdir()] == ["toy.sqlite"]


# --------------------------------------------------------------------------------------------------- real processes

KILLED = """
strategies: [majority, {name: beam, branch: 2}, mcts]
budgets: [4, 8]
environments: [toy]
policies: [{name: scripted, delay: 0.002}]
verifiers: [table]
n: 20
"""
# Forks a process that runs the command, and tells the parent its number: what has been imported need not be again.
NURSERY = """
import os, sys
import agent.interface.cli, agent.interface.tree_view, agent.study.table, agent.solver, agent.study.run
for line in sys.stdin:
    child = os.fork()
    if not child:
        os._exit(agent.interface.cli.main(line.split()))
    print(child, flush=True)
    print("ended", os.waitpid(child, 0)[1], flush=True)
"""


def finished(path: Path) -> int:
    try:
        with StudyFile(path) as file:
            return len(file.done())
    except (UsageError, sqlite3.OperationalError):
        return 0  # there is no file yet, or no table


def test_killed_at_twenty_random_points_it_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    study, path, whole = tmp_path / "study.yaml", tmp_path / "killed.sqlite", tmp_path / "whole.sqlite"
    study.write_text(KILLED)
    rng = random.Random(time.time_ns())
    points = sorted(rng.sample(range(115), 20))  # results that are there when it is killed, or a few more
    with subprocess.Popen(
        [sys.executable, "-c", NURSERY], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, bufsize=1,
    ) as nursery:  # fmt: skip
        assert nursery.stdin is not None
        assert nursery.stdout is not None

        def start(out: Path) -> int:
            nursery.stdin.write(f"study {study} --out {out} --concurrency 4 --json\n")  # type: ignore[union-attr]
            child = ""
            while not child.isdecimal():  # the output of the one before
                line = nursery.stdout.readline()  # type: ignore[union-attr]
                assert line, nursery.stderr.read()  # type: ignore[union-attr]
                child = line.strip()
            return int(child)

        def ended() -> int:
            line = ""
            while not line.startswith("ended"):
                line = nursery.stdout.readline()  # type: ignore[union-attr]
                assert line, nursery.stderr.read()  # type: ignore[union-attr]
            return int(line.split()[1])

        start(whole)
        assert ended() == 0
        kills = 0
        for point in points:
            child, give_up = start(path), time.monotonic() + 60
            time.sleep(rng.random() * 0.02)
            while finished(path) < point and time.monotonic() < give_up:
                time.sleep(0.002)
            os.kill(child, signal.SIGKILL)
            kills += ended() == signal.SIGKILL
        assert kills == 20
        assert finished(path) >= points[-1]
        start(path)
        assert ended() == 0
        nursery.stdin.close()
    assert content(path) == content(whole)
    with StudyFile(path) as file:
        assert len(file.results()) == file.total() == 120
        assert len({row["run"] for row in file.results()}) > 5  # that many of its runs got something done


WORDS = ["eval", "--env", "toy", "-n", "30", "--strategy", "beam", "best-of-n", "--budget", "4", "--json"]


def start(out: Path, *more: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "agent.interface.cli", *WORDS, "--out", str(out), *more],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_ctrl_c_keeps_what_has_finished_and_says_how_to_go_on(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    child = start(path, "--concurrency", "2", "--set", "policy.delay=0.01")
    while finished(path) < 5 and child.poll() is None:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert b"the same command goes on" in err
    assert b"Traceback" not in err
    assert json.loads(out)["results"][0]["n"] == finished(path)


# ---------------------------------------------------------------------------------------------------- the commands


def test_eval_is_a_study_of_one_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "results.sqlite"
    assert main([*WORDS, "--out", str(path)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [(line["strategy"], line["budget"], line["n"]) for line in report["results"]] == [
        ("beam", "4", 30),
        ("best-of-n", "4", 30),
    ]
    assert main([*WORDS, "--out", str(path), "--seed", "1"]) == 2
    assert "belongs to another study (seeds: [0] there, [1] now)" in capsys.readouterr().err


def test_the_table_of_a_study_and_its_votes(
    toy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["report", str(toy), "--votes", "--baseline", "best-of-n"]) == 0
    out = capsys.readouterr().out
    for part in ("toy test; policy scripted", "beam branch=2", "versus best-of-n", "95 %", "level", "product"):
        assert part in out
    assert main(["report", str(toy), "--vote", "max", "--aggregate", "min", "--json"]) == 0
    capsys.readouterr()
    assert main(["report", str(toy), "--vote", "most"]) == 2
    assert "allowed: majority, max, vote" in capsys.readouterr().err
    assert main(["report", str(toy.parent / "none.sqlite")]) == 2
    assert "there is no file" in capsys.readouterr().err


def test_a_template_of_pages_does_not_fill_a_table() -> None:
    label = "math delimiter=\n template=" + "Question: what?\n" * 500
    assert brief(label, 40) == "math delimiter= template=Question: wh..."
    assert brief("arithmetic levels=[1, 2]") == "arithmetic levels=[1, 2]"


def test_a_policy_learns_from_right_solutions_of_the_train_split_only(
    toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    train = measured(replace(TOY, split="train", graphs=False, seeds=(0,)), tmp_path / "train.sqlite")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "name: coins\nenvironment: toy\ntokens: 2000\nbatch_tokens: 256\n"
        "architecture: {hidden_size: 32, layers: 1, heads: 1, intermediate_size: 48}\n"
    )
    words = ["train", "policy", "--config", str(recipe), "--out", str(tmp_path / "coins"), "--from-study"]
    assert main([*words, str(toy)]) == 2
    assert "is a study of the test split; a policy learns from the train split only" in capsys.readouterr().err
    assert main([*words, str(train), "--set", "environment=arithmetic"]) == 2
    assert "is a study of toy; the recipe is for arithmetic" in capsys.readouterr().err
    assert main([*words, str(train), str(train)]) == 0
    record = json.loads((tmp_path / "coins" / "training.json").read_text())
    with StudyFile(train) as file:
        assert record["solutions"] == len(list(right_solutions(file))) > 12


def test_there_is_no_eta_before_there_is_something_to_tell() -> None:
    assert Progress(fraction=0.0, fresh=0.0, seconds=30).eta is None
    assert Progress(fraction=0.6, fresh=0.1, seconds=20).eta == pytest.approx(80)


def test_progress_counts_cells_problems_and_tokens(tmp_path: Path) -> None:
    seen: list[tuple[int, int, float]] = []
    look: Callable[[Progress], None] = lambda progress: seen.append((progress.done, progress.tokens, progress.fraction))  # noqa: E731
    problems = study_problems(TOY)
    with open_study(TOY, tmp_path / "toy.sqlite", problems) as file:
        run_study(TOY, file, problems, look)
    assert seen[-1][0] == 72
    assert seen[-1][1] > 72
    assert seen[-1][2] == pytest.approx(1.0)
    assert seen == sorted(seen)
