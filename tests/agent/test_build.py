"""From a recipe to its parts: what is wrong is refused before anything runs, and plug-ins are parts like others."""

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from loguru import logger
from rich.console import Console

import agent.build
from agent.build import check_parts, choices, models_of, parts
from agent.interface.cli import main
from agent.interface.session.session import Session
from agent.interface.session.settings import change
from agent.recipes.recipe import Recipe, load_recipe
from agent.solver import Solver
from agent.study.results_db import StudyFile
from agent.study.study import load_study
from envs import Toy
from envs.messages import UsageError
from tests.plugged import install

QUESTION = "14 with 1 3 7 10"


@pytest.fixture
def plugged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return install(tmp_path, monkeypatch)


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    said: list[str] = []
    handler = logger.add(lambda message: said.append(str(message)), level="WARNING", format="{message}")
    yield said
    logger.remove(handler)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("policy.rows=0", "policy 'arithmetic-s': 'rows' is 0; expected a whole number, at least 1"),
        ("policy.rows=-1", "'rows' is -1; expected a whole number, at least 1"),
        ("policy.rows=abc", "'rows' is 'abc'; expected a whole number, at least 1"),
        ("policy.row=4", "policy 'arithmetic-s' has no option 'row'; did you mean 'rows'?"),
        ("policy.step_tokens=0", "'step_tokens' is 0; expected a whole number, at least 1"),
        ("policy=arithmetic-x", "policy 'arithmetic-x' is not known; did you mean 'arithmetic-xs'?"),
        ("verifier.memory=abc", "verifier 'arithmetic-prm': 'memory' is 'abc'; expected a whole number, at least 0"),
        ("environment.levels=2", "environment 'arithmetic': 'levels' is 2; expected a list, each a whole number"),
        ("environment=aritmetic", "environment 'aritmetic' is not known; did you mean 'arithmetic'?"),
        ("strategy={name: beam, branch: 0}", "strategy beam: 'branch' is 0; expected a whole number, at least 1"),
        ("strategy={name: beam, branch: -3}", "'branch' is -3; expected a whole number, at least 1"),
        ("strategy={name: dvts, branch: 0}", "strategy dvts: 'branch' is 0"),
        ("strategy={name: lookahead, branch: 0}", "strategy lookahead: 'branch' is 0"),
        ("strategy={name: lookahead, k: -1}", "'k' is -1; expected a whole number, at least 0"),
        ("strategy={name: mcts, branch: 0}", "strategy mcts: 'branch' is 0"),
        ("strategy={name: mcts, c: -1}", "'c' is -1; expected a number, at least 0"),
        ("strategy={name: revision, ratio: 0}", "'ratio' is 0; expected a number, above 0"),
        ("strategy={name: table, probe: -1}", "'probe' is -1; expected a number, at least 0, at most 1"),
        ("strategy={name: majority, distinct: 1}", "'distinct' is 1; expected true or false"),
        ("strategy={name: beam, width: 4}", "strategy beam has no option 'width'"),
    ],
)
def test_what_is_wrong_is_one_clear_error_before_anything_runs(assignment: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        check_parts(load_recipe("arithmetic", [assignment]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["inf", "nan", "-1", "1e400"])
def test_a_temperature_is_a_finite_number(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solve", "1 + 2", "--temperature", text]) == 2
    assert "stepwell: --temperature: 'temperature' is " in (error := capsys.readouterr().err)
    assert "; expected a number, at least 0" in error


def test_a_study_is_checked_whole_before_it_begins(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(
        "environments: [toy]\npolicies: [scripted, {name: scripted, delay: long}]\n"
        "strategies: [majority]\nbudgets: [4]\n"
    )
    with pytest.raises(UsageError, match="policy 'scripted': 'delay' is 'long'; expected a number"):
        load_study(str(file))


# ------------------------------------------------------------------------------------------------- plug-ins


def test_a_strategy_of_somebody_else_works_everywhere(plugged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solve", "--env", "toy", "--strategy", "pairs pair=4", "--budget", "8", QUESTION]) == 0
    assert "pairs (" in capsys.readouterr().out
    assert main(["eval", "--env", "toy", "--strategy", "pairs", "beam", "-n", "2", "--out", "e.sqlite"]) == 0
    assert "pairs" in capsys.readouterr().out
    study = "environments: [purse]\npolicies: [guesser]\nverifiers: [judge]\n"
    Path("s.yaml").write_text(study + "strategies: [pairs, {name: pairs, pair: 1}]\nbudgets: [4]\nn: 2\n")
    assert main(["study", "s.yaml", "--out", "s.sqlite"]) == 0
    assert main(["report", "s.sqlite"]) == 0
    assert "pairs pair=1" in capsys.readouterr().out
    assert main(["export", "s.sqlite", "--to", "trl-prm", "--out", "prm.jsonl"]) == 0  # its environment is installed
    session, screen = open_session(load_recipe("toy"))
    session.handle("/strategy pairs pair=3")
    session.handle(QUESTION)
    assert "pairs (" in screen.getvalue()
    session.handle("/strategy pairs pair=0")
    assert "'pair' is 0; expected a whole number, at least 1" in screen.getvalue()
    assert list(session.completions("/strategy pai")) == ["pairs"]
    assert list(session.completions("/strategy pairs ")) == ["pair="]


def test_a_strategy_in_a_file_and_by_its_class(plugged: Path) -> None:
    for spec in ("others:Pairs", f"{plugged}:Pairs"):
        assert main(["solve", "--env", "toy", "--strategy", spec, "--budget", "4", QUESTION]) == 0


def test_a_strategy_that_needs_no_scores_says_so(plugged: Path) -> None:
    plain, frugal = ["solve", "--env", "toy", "--verifier", "none", QUESTION, "--strategy"], Path("frugal.py")
    assert main([*plain, "pairs"]) == 2
    frugal.write_text(
        "from dataclasses import dataclass\nfrom agent import Majority\n@dataclass(frozen=True)\n"
        "class Frugal(Majority):\n    '''Counts.'''\n"
    )
    assert main([*plain, "frugal.py"]) == 0


def test_the_solver_of_python_takes_a_plug_in_by_name(plugged: Path) -> None:
    recipe = load_recipe("toy", ["policy=guesser", "verifier=judge"])
    solution = Solver.from_recipe(recipe).solve(QUESTION, "pairs")
    assert solution.graph.info["strategy"]["name"] == "pairs"


def test_what_failed_to_load_is_listed_and_no_choice(plugged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("environment", "policy", "verifier", "strategy"):
        assert {"gone", "quits", "silent"} <= {each.name for each in parts(kind)}
        assert not {"gone", "quits", "silent"} & set(choices(kind))
    assert main(["models"]) == 0
    listed = " ".join(capsys.readouterr().out.split())
    for title in ("environments", "policies", "verifiers", "strategies"):
        assert title in listed
    assert listed.count("cannot be used: 'gone' (nowhere_at_all:Gone) failed to load: ModuleNotFoundError") == 4
    assert "Samples in pairs. (others)" in listed


# --------------------------------------------------------------------------- models of other environments


def test_a_model_that_was_trained_for_another_environment_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    recipe = Recipe()
    for kind, name in (("policies", "countdown-m"), ("verifiers", "countdown-prm")):
        folder = tmp_path / kind / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / "training.json").write_text('{"recipe": {"environment": {"name": "countdown"}}}')
        monkeypatch.setattr(getattr(agent.build, kind).registry, "WEIGHTS", tmp_path / kind)
    recipe = load_recipe("toy", ["policy=countdown-m", "verifier=countdown-prm"])
    agent.build.warn_of_others(recipe, Toy())
    assert warnings == [
        "policy countdown-m was trained for countdown, and this is toy: expect little of it\n",
        "verifier countdown-prm was trained for countdown, and this is toy: expect little of it\n",
    ]
    warnings.clear()
    models_of(load_recipe("toy"), Toy())
    assert warnings == []


# ---------------------------------------------------------------------------------------------- the session


def open_session(recipe: Recipe) -> tuple[Session, io.StringIO]:
    screen = io.StringIO()
    return Session(recipe, Console(file=screen, width=200)), screen


@pytest.mark.parametrize("name", ["countdown", "chemistry", "math", "toy", "reasoning-gym", "code", "arithmetic"])
def test_env_in_a_session_is_the_recipe_of_that_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    session, _ = open_session(load_recipe("toy", ["temperature=0.3", "budget.samples=5"]))
    monkeypatch.setattr(Session, "solver", None)  # nothing is loaded here
    change(session, "environment", name)
    assert session.recipe == load_recipe(name)


def test_options_of_an_environment_are_typed_in_a_session() -> None:
    session, screen = open_session(load_recipe("toy"))
    session.handle("/env chemistry levels=[2, 3]")
    assert session.recipe.environment.options == {"levels": [2, 3]}
    session.handle("/env levels=[1]")
    assert session.recipe.environment.options == {"levels": [1]}
    before = session.recipe
    for wrong, message in (
        ("/env levels=2", "environment 'chemistry': 'levels' is 2; expected a list, each a whole number"),
        ("/env chemistry levls=[2]", "has no option 'levls'; did you mean 'levels'?"),
        ("/env levels=[2", "chemistry levels, line 1"),
        ("/env toi", "environment 'toi' is not known; did you mean 'toy'?"),
        ("/strategy beam branch", "cannot read 'branch' after 'beam'; expected OPTION=VALUE, e.g. branch=2"),
        ("/strategy beam branch=0", "strategy beam: 'branch' is 0; expected a whole number, at least 1"),
        ("/temperature .inf", "'temperature' is inf; expected a number, at least 0"),
        ("/policy scripted delay=x", "policy 'scripted': 'delay' is 'x'; expected a number"),
    ):
        session.handle(wrong)
        assert message in screen.getvalue()
        assert session.recipe == before


def test_an_environment_without_a_recipe_keeps_what_is_set(plugged: Path) -> None:
    session, screen = open_session(load_recipe("toy"))
    session.handle("/env purse size=4")
    assert "purse size=4" in screen.getvalue()
    assert session.recipe == load_recipe("toy", ["environment={name: purse, size: 4}"])
    session.handle(f"/env {plugged}:Purse")
    session.handle(QUESTION)
    assert "answer" in screen.getvalue()


# ------------------------------------------------------------------------------------ study files are data


def test_a_study_file_runs_nothing_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["eval", "--env", "toy", "--strategy", "majority", "-n", "2", "--out", "s.sqlite"]) == 0
    evil = '{"name": "subprocess:run", "args": ["touch", "PWNED"]}'
    label = "subprocess:run args=['touch', 'PWNED']"
    with StudyFile("s.sqlite") as file:
        place = next(iter(file.done()))
    import sqlite3

    with sqlite3.connect("s.sqlite") as raw:
        raw.execute("UPDATE study SET value = replace(value, '\"toy\"', ?) WHERE key = 'config'", (evil,))
        for table in ("cells", "environments", "problems"):
            raw.execute(f"UPDATE {table} SET environment = ?", (label,))
    raw.close()
    capsys.readouterr()
    assert main(["report", "s.sqlite", "--votes"]) == 0
    for kind in ("trl-prm", "graphml"):
        assert main(["export", "s.sqlite", "--to", kind, "--out", kind]) == 2
        assert "names 'subprocess:run', which runs code" in capsys.readouterr().err
        assert main(["export", "s.sqlite", "--to", kind, "--out", kind, "--trust"]) == 2
        assert "does not say what it returns" in capsys.readouterr().err
    assert not Path("PWNED").exists()
    with StudyFile("s.sqlite", environments={label: Toy()}) as file:
        assert file.graph(place).problem.question


def test_solve_makes_environment_and_strategy_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def counted(name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **options: Any) -> Any:
            made.append(name)
            return inner(*given, **options)

        return call

    for name in ("load_environment", "make_strategy"):
        monkeypatch.setattr(agent.build, name, counted(name, getattr(agent.build, name)))
    assert main(["solve", "--env", "toy", "--strategy", "beam", "--budget", "4", QUESTION]) == 0
    assert sorted(made) == ["load_environment", "make_strategy"]
