"""The command line as people and scripts meet it: output, exit codes, errors in one line."""

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest

from agent.interface.cli import build_parser, main
from agent.interface.common import recipe_of
from agent.planning import fit_settings
from agent.planning.plan_file import Action, Calibration
from agent.planning.recorded_runs import Arm
from agent.recipes.recipe import Component
from envs.registry import load_environment
from policies.scripted import ScriptedPolicy

ROOT = Path(__file__).parents[3]
QUESTION = load_environment("toy").problems("test", 1)[0].question


def stepwell(*words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent.interface.cli", *words], cwd=ROOT, capture_output=True, text=True, timeout=timeout
    )


# --------------------------------------------------------------------------------------------------------- recipes


def test_flags_go_over_the_file_and_set_goes_over_flags(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("strategy: {name: mcts}\nseed: 5\nbudget: {samples: 4, seconds: 9}\n")
    words = [
        "solve",
        "1",
        "--config",
        str(file),
        "--strategy",
        "beam",
        "--set",
        "strategy.branch=2",
        "--aggregate",
        "min",
    ]
    recipe = recipe_of(build_parser().parse_strictly(words))
    assert recipe.strategy == Component("beam", {"branch": 2})
    assert (recipe.seed, recipe.budget.samples, recipe.budget.seconds) == (5, 4, 9)
    assert (recipe.vote.rule, recipe.vote.aggregate) == ("vote", "min")
    recipe = recipe_of(
        build_parser().parse_strictly([*words, "--budget", "seconds=2", "--seed", "6", "--set", "seed=7"])
    )
    assert (recipe.seed, recipe.budget.samples, recipe.budget.seconds) == (7, None, 2)


def test_an_environment_brings_its_own_recipe() -> None:
    recipe = recipe_of(build_parser().parse_strictly(["solve", "1", "--env", "toy"]))
    assert (recipe.environment.name, recipe.policy.name, recipe.verifier.name) == ("toy", "scripted", "table")
    assert recipe_of(build_parser().parse_strictly([])).policy.name == "arithmetic-s"


# ----------------------------------------------------------------------------------------------------------- solve


def test_solve_prints_steps_answer_plan_and_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solve", QUESTION, "--env", "toy", "--strategy", "beam", "--budget", "8", "--tree"]) == 0
    out = capsys.readouterr().out
    for part in (QUESTION, "answer", "vote", "plan", "beam", "sample-equivalents", "policy", "verifier", "FLOP"):
        assert part in out


def test_solve_prints_json_and_saves_the_graph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = tmp_path / "search.json"
    words = ["solve", QUESTION, "--env", "toy", "--strategy", "beam", "--json"]
    assert main([*words, "--graph", str(graph)]) == 0
    solution = json.loads(capsys.readouterr().out)
    assert solution["answer"] == solution["votes"][0]["answer"]
    assert solution["steps"]
    assert all(0 <= step["score"] <= 1 for step in solution["steps"])
    assert solution["spent"]["samples"] > 0
    assert solution["spent"]["generated"] > 0
    assert json.loads(graph.read_text())
    assert main([*words, "--graph", str(tmp_path / "search.graphml")]) == 0
    assert "<graphml" in (tmp_path / "search.graphml").read_text()
    again = json.loads(capsys.readouterr().out)
    for solved in (solution, again):
        del solved["spent"]["seconds"]
    assert again == solution


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["solve", "what?"], "what?"),
        (["solve", QUESTION, "--strategy", "baem"], "strategy 'baem' is not known; did you mean 'beam'? Allowed: "),
        (["solve", QUESTION, "--set", "stratgy=beam"], "unknown key 'stratgy'; did you mean 'strategy'?"),
        (
            ["solve", QUESTION, "--strategy", "beam", "--set", "strategy.brnch=2"],
            "has no option 'brnch'; did you mean 'branch'?",
        ),
        (
            ["solve", QUESTION, "--strategy", "beam", "--set", "strategy.branch=two"],
            "'branch' is 'two'; expected a whole",
        ),
        (["solve", QUESTION, "--policy", "nobody"], "policy 'nobody' is not known. Allowed: "),
        (["solve", QUESTION, "--policy", "hf:./nowhere"], "there is no folder 'nowhere'"),
        (
            ["solve", QUESTION, "--policy", "hf:x/y", "--set", "policy.topp=1"],
            "no option 'topp'; did you mean 'top_p'?",
        ),
        (["solve", QUESTION, "--policy", "hf:x/y", "--set", "policy.top_p=high"], "'top_p' is 'high'; expected a num"),
        (
            ["solve", QUESTION, "--policy", "hf:x/y", "--set", "policy.dtype=float2"],
            "'float2'; did you mean 'float32'?",
        ),
        (["solve", QUESTION, "--verifier", "tabel"], "'tabel'"),
        (["solve", QUESTION, "--budget", "lots"], "'samples' is 'lots'; expected a number"),
        (["solve", QUESTION, "--vote", "maximum"], "did you mean 'max'? allowed: majority, max, vote"),
        (["solve", QUESTION, "--vote", "maximum"], "--vote: 'rule' is 'maximum'"),
        (["solve", QUESTION, "--aggregate", "avg"], "--aggregate: 'aggregate' is 'avg'"),
        (["solve", QUESTION, "--set", "stratgy=beam"], "toy.yaml with --set: unknown key"),
        (["solve", QUESTION, "--strategy", "beam branch=2 branch=4"], "beam: 'branch' is given twice"),
        (["solve", QUESTION, "--temperature", "-1"], "'temperature' is -1.0; expected a number, at least 0"),
        (["solve", QUESTION, "--graph", "tree.png"], "must end in .json (loads again) or .graphml"),
        (["solve", QUESTION, "--config", "arithmetc"], "no recipe 'arithmetc'; did you mean 'arithmetic'?"),
        (["eval", "--total-budget", "lots"], "'samples' is 'lots'; expected a number"),
        (["eval", "--split", "tset"], "unknown split 'tset'; did you mean 'test'?"),
        (["eval", "--strategy", "beam", "mcts", "--set", "strategy.branch=2"], "--strategy 'beam branch=2' mcts"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = words if "--config" in words else [*words, "--env", "toy"]
    assert main(words) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize(
    "error",
    [
        sqlite3.OperationalError("database or disk is full"),
        zlib.error("incorrect data check"),
        OverflowError("too large"),
        RecursionError("maximum recursion depth exceeded"),
        MemoryError(),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        SystemExit(3),
        SystemExit("\x1b[8mbye"),
    ],
)
def test_what_files_and_numbers_raise_is_one_line(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*given: object) -> None:
        raise error

    monkeypatch.setattr("envs.registry.load_environment", fail)
    assert main(["check-env", "toy"]) in (1, 2)
    err = capsys.readouterr().err
    assert err.startswith("stepwell: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert "\x1b" not in err


def test_a_fault_of_the_program_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: object) -> None:
        raise KeyError("ours")

    monkeypatch.setattr("envs.registry.load_environment", fail)
    with pytest.raises(KeyError):
        main(["check-env", "toy"])


@pytest.mark.parametrize(
    "odd",
    [
        "    def read(self, question):\n        return {}[question]",
        "    def read(self, question):\n        return None",
        "    def problems(self, split, n, seed=0):\n        raise FileNotFoundError('data.csv')",
        "    def problems(self, split, n, seed=0):\n        return None",
        "    def problems(self, split):\n        return []",
        "    def prompt(self, problem):\n        return [problem.question]",
    ],
    ids=lambda odd: odd.partition("(")[0].split()[-1] + odd.partition("\n")[2],
)
def test_what_an_environment_does_wrong_is_one_line(
    odd: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "odd.py"
    file.write_text(f"from envs import Toy\n\n\nclass Odd(Toy):\n{odd}\n")
    chosen = ["--env", str(file), "--policy", "scripted", "--verifier", "none", "--strategy", "greedy"]
    for command in (["solve", "12 with 1 6 10"], ["eval", "-n", "2", "--out", str(tmp_path / "odd.sqlite")]):
        code = main([*command, *chosen])
        said = capsys.readouterr()
        assert code == 1 or "problems" in odd
        assert "Traceback" not in said.err
        assert code == 0 or re.search(r"odd\.py:Odd\): \w+\(|searches failed", said.err), said


def test_an_environment_that_ends_the_program_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "leaves.py"
    file.write_text("import sys\nsys.exit(3)\n")
    for words in (["check-env", str(file)], ["solve", "1", "--env", str(file)]):
        assert main(words) == 2
        assert "leaves.py' failed to load: SystemExit: 3" in capsys.readouterr().err


ENDING = "import os\nfrom envs import Toy\n\n\nclass Leaves(Toy):\n    def {}:\n        os._exit(0)\n"


@pytest.mark.parametrize(
    ("source", "code", "told"),
    [
        ("import os\nos._exit(0)\n", 2, "failed to load: SystemExit: 0"),
        (ENDING.format("same(self, a, b)"), 1, "- `same` never raises: same("),
        (ENDING.format("step(self, state, step)"), 1, "- `step` never raises: step("),
    ],
    ids=["as it is loaded", "as answers are compared", "at every step"],
)
def test_an_environment_that_ends_the_process_at_once_is_told(
    source: str, code: int, told: str, tmp_path: Path
) -> None:
    file = tmp_path / "leaves.py"
    file.write_text(source)
    command = [sys.executable, "-m", "agent.interface.cli", "check-env", str(file), "-n", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, told in done.stdout + done.stderr) == (code, True), done


# --------------------------------------------------------------------------------------------- studies that go wrong

EVAL = ["eval", "--env", "toy", "--strategy", "greedy", "--budget", "1", "-n", "3"]


def test_an_evaluation_in_which_searches_failed_ends_with_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "runs.sqlite")

    def fail(*given: object) -> None:
        raise KeyError("\x1b[8m[/x]")

    with monkeypatch.context() as patch:
        patch.setattr("policies.scripted.ScriptedPolicy._sample", fail)
        assert main([*EVAL, "--out", out]) == 1
        err = capsys.readouterr().err
        assert "3 of 3 searches failed and count as wrong" in err
        assert r"\x1b[8m[/x]" in err
        assert "\x1b" not in err
    assert main([*EVAL, "--out", str(tmp_path / "fine.sqlite")]) == 0
    assert main([*EVAL, "--out", out]) == 1
    assert "--retry-errors runs them again" in capsys.readouterr().err
    assert main([*EVAL, "--out", out, "--retry-errors"]) == 0
    assert "running again what failed: 3 of 3 results" in capsys.readouterr().err


@pytest.mark.parametrize("seed", ["99999999999999999999999", "-9223372036854775809"])
@pytest.mark.parametrize("option", ["--seed", "--problem-seed"])
def test_a_seed_that_is_too_large_is_refused(option: str, seed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*EVAL, option, seed]) == 2
    assert f"seed {seed} given; allowed: whole numbers of 64 bits" in capsys.readouterr().err


def test_a_damaged_file_of_results_is_one_line_that_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, broken = tmp_path / "whole.sqlite", tmp_path / "broken.sqlite"
    assert main([*EVAL, "--out", str(whole)]) == 0
    content = whole.read_bytes()
    refused = 0
    capsys.readouterr()
    for seed in range(12):
        rng, damaged = random.Random(seed), bytearray(content)
        for _ in range(60):
            damaged[rng.randrange(100, len(damaged))] = rng.randrange(256)
        broken.write_bytes(damaged)
        for words in (["report", str(broken), "--votes"], ["export", str(broken), "--to", "graphml"]):
            more = ["--out", str(tmp_path / "out")] if words[0] == "export" else []
            code, err = main([*words, *more]), capsys.readouterr().err
            refused += code != 0
            assert code == 0 or (str(broken) in err and err.count("\n") == 1), err
    assert refused > 6


def test_results_that_cannot_be_written_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link = tmp_path / "link.sqlite"
    link.symlink_to(tmp_path / "nowhere" / "x.sqlite")
    for out in (tmp_path, Path("/dev/null"), link):
        assert main([*EVAL, "--out", str(out)]) != 0
        err = capsys.readouterr().err
        assert str(out) in err
        assert err.count("\n") == 1, err


@pytest.mark.parametrize("question", ["-3+5", "-(3+5)", "-.5*4"])
def test_a_question_may_start_with_a_minus(question: str) -> None:
    arguments = build_parser().parse_strictly(["solve", question, "--seed", "2", "--temperature", "0"])
    assert (arguments.question, arguments.seed, arguments.temperature) == (question, 2, 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sovle", QUESTION], "unknown command 'sovle'; did you mean 'solve'?"),
        (["solve", QUESTION, "--stratgy", "beam"], "cannot use '--stratgy'; did you mean --strategy?"),
        (["solve", QUESTION, "-x"], "cannot use '-x'"),
        (["eval", "-n", "0"], "'0' given; a whole number of at least 1 is needed"),
        (["train"], "what to train? policy or prm"),
    ],
)
def test_wrong_usage_leaves_with_code_2(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_ctrl_c_prints_the_best_answer_so_far(capsys: pytest.CaptureFixture[str]) -> None:
    large = "45 with 1 7 10"  # thousands of payments: minutes of search with the delay
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        words = ["--env", "toy", "--strategy", "mcts", "--budget", "100000", "--set", "policy.delay=0.02", "--json"]
        assert main(["solve", large, *words]) == 130
    finally:
        timer.cancel()
    solution = json.loads(capsys.readouterr().out)
    assert solution["answer"] is not None
    assert solution["stopped"] == "stopped"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_calibrate_writes_what_the_planner_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "plans" / "toy.json"
    runs = tmp_path / "runs.jsonl"
    words = ["calibrate", "--env", "toy", "-n", "4", "--revise", "--beams", "--also", "particles"]
    words += ["--temperature", "0.7", "--out", str(out), "--runs", str(runs)]
    assert main(words) == 0
    assert capsys.readouterr().out.strip() == str(out)
    fitted = Calibration.load(out)
    assert fitted.temperature == 0.7
    online = fitted.online
    assert online is not None
    assert online.currency == "flops"
    tried = {"greedy", "majority", "best-of-n", "dvts", "beam", "revision", "particles"}
    assert tried == {move.strategy for move in online.moves}
    assert "beam branch=2 n=16" in {move.label for move in online.moves}
    kept, written = runs.read_bytes(), out.read_bytes()
    assert main(words) == 0  # nothing is left to run
    assert runs.read_bytes() == kept
    assert out.read_bytes() == written
    monkeypatch.setattr(ScriptedPolicy, "digest", lambda policy: "another", raising=False)
    assert main([*words, "--out", str(tmp_path / "new.json"), "--runs", str(tmp_path / "new.jsonl")]) == 0
    monkeypatch.setattr(ScriptedPolicy, "digest", lambda policy: "yet another")
    assert main([*words, "--runs", str(tmp_path / "new.jsonl")]) == 2
    assert "is of another policy under the same name" in capsys.readouterr().err
    for other, why in (("particle", "did you mean 'particles'"), ("majority", "draws independent samples")):
        assert main([*words, "--also", other]) == 2
        assert why in capsys.readouterr().err
    assert main([*words, "--distinct"]) == 2
    assert "policy 'scripted' cannot draw without replacement; leave --distinct out" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*words, "--distinct", "0"])
    assert "'0' given; a temperature above 0 is needed" in capsys.readouterr().err


def test_calibrate_prices_in_flop_equivalents_by_the_same_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fit_settings, "ARMS", (Arm("best-of-n", 64), Arm("best-of-n", 1, 1, {"temperature": 0.0})))
    monkeypatch.setattr(fit_settings, "MOVES", (Action("greedy", 1), Action("majority", 1)))
    out, runs = tmp_path / "plan.json", tmp_path / "runs.jsonl"
    words = ["calibrate", "--env", "toy", "-n", "2", "--out", str(out), "--runs", str(runs)]
    found = []
    for currency in ("flops", "flop-equivalents"):
        assert main([*words, "--currency", currency]) == 0
        online = Calibration.load(out).online
        assert online is not None
        found.append((online.currency, runs.read_bytes()))
    assert [currency for currency, _ in found] == ["flops", "flop-equivalents"]
    assert found[0][1] == found[1][1]
    assert main([*words, "--currency", "flop"]) == 2
    assert "did you mean 'flops'?" in capsys.readouterr().err


def test_calibrate_says_at_what_temperature_to_draw_without_replacement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = (Arm("best-of-n", 64), Arm("best-of-n", 1, 1, {"temperature": 0.0}))
    monkeypatch.setattr(fit_settings, "ARMS", few)
    monkeypatch.setattr(fit_settings, "MOVES", (Action("greedy", 1), Action("majority", 1), Action("majority", 2)))
    out = tmp_path / "plan.json"
    words = ["calibrate", "--env", "countdown", "--policy", "countdown-xs", "-n", "2", "--out", str(out)]
    for told, want in (([], 0.6), (["0.3"], 0.3)):
        assert main([*words, "--runs", str(tmp_path / f"{want}.jsonl"), "--distinct", *told]) == 0
        fitted = Calibration.load(out)
        assert fitted.online is not None
        assert (fitted.temperature, fitted.online.distinct) == (0.6, want)
        assert all(move.sharing < 1 for move in fitted.online.moves if move.strategy == "majority")
    out.write_text(out.read_text().replace('"distinct": 0.3', '"distinct": true'))
    with pytest.raises(ValueError, match="distinct is True, not a temperature or null; 'stepwell calibrate' fits it"):
        Calibration.load(out)


# ------------------------------------------------------------------------------------------------ start-up, lists


@pytest.mark.parametrize("columns", [60, 80, 132])
def test_help_is_as_wide_as_the_terminal(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for words in ([], ["eval"], ["study"], ["train", "policy"], ["serve"], ["ctl"], ["ctl", "expand"]):
        with pytest.raises(SystemExit):
            main([*words, "--help"])
        lines = capsys.readouterr().out.splitlines()
        # an example can be copied only where it is one line
        assert not [line for line in lines if len(line) > columns and not line.startswith("  stepwell ")]
        if words == ["eval"]:
            assert max(map(len, lines)) > columns - 20


def test_help_is_instant_and_imports_nothing_heavy() -> None:
    code = (
        "import sys, contextlib\n"
        "from agent.interface.cli import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        "heavy = {'torch', 'transformers', 'numpy', 'networkx', 'rich', 'yaml', 'prompt_toolkit'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "examples:" in done.stdout


def test_solving_never_imports_transformers() -> None:
    code = (
        "import sys\n"
        "from agent.interface.cli import main\n"
        f"assert main(['solve', {QUESTION!r}, '--env', 'toy']) == 0\n"
        "import policies.backends.lab, verifiers.backends.lab\n"
        "sys.exit('imported transformers' if 'transformers' in sys.modules else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_lists_have_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["envs"]) == 0
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    for name in ("arithmetic", "toy", "scripted", "table", "symbolic", "beam", "best-of-n", "mcts", "greedy"):
        assert any(line.split()[:1] == [name] and len(line.split()) > 3 for line in out.splitlines()), name


@pytest.fixture
def broken(tmp_path: Path) -> str:
    file = tmp_path / "broken.py"
    file.write_text("from envs import Toy\n\n\nclass Broken(Toy):\n    def same(self, a, b):\n        return a <= b\n")
    return str(file)


def test_check_env_says_what_conforms(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-env", "toy", "-n", "3"]) == 0
    assert capsys.readouterr().out == "environment 'toy' conforms: no rule is broken\n"
    assert main(["check-env", "arithmetic levels=[1]", "-n", "3", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    seconds = report.pop("seconds")
    assert report == {"environment": "arithmetic levels=[1]", "conforms": True, "broken": [], "untried": []}
    assert 0 < seconds["step"]["mean"] <= seconds["step"]["longest"]


def test_check_env_names_what_is_slow(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envs.conformance.SLOW", 0.0)  # as any machine is too slow for this
    assert main(["check-env", "toy", "-n", "1"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "environment 'toy' conforms: no rule is broken"
    assert any(re.match(r"slow: `step` took [\d.e-]+ s on average, [\d.e-]+ s at most \(\d+ calls; ", s) for s in lines)


def test_check_env_has_a_sentence_for_each_broken_rule(broken: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-env", broken, "-n", "3"]) == 1
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == f"environment {broken!r} breaks {len(lines)} rule(s):"
    assert any(re.fullmatch(r"- `same` is symmetric: same\(.*\) gave \w+, same\(.*\) \w+.*\.", s) for s in lines)
    assert main(["check-env", broken, "-n", "3", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["conforms"]
    assert [f"- {line}" for line in report["broken"]] == lines


@pytest.mark.parametrize(
    ("name", "message"),
    [("toi", "'toi' is not known; did you mean 'toy'?"), ("toy level=1", "has no option 'level'"), ("", "cannot read")],
)
def test_check_env_of_what_there_is_not(name: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-env", name]) == 2
    assert message in capsys.readouterr().err


def test_a_closed_pipe_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m agent.interface.cli models | true",
        shell=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert "Traceback" not in done.stderr
