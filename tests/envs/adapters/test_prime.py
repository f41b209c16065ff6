"""Environments of PrimeIntellect's `verifiers`: by a program that speaks the protocol, and with the real package.

The real package needs a virtual environment of its own; ``STEPWELL_PRIME_PYTHON`` names its interpreter.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from envs.adapters.child import ChildFailure
from envs.conformance import check_environment
from envs.core import Step, UnreadableQuestion
from envs.registry import UnusableEnvironment, load_environment
from tests.envs.adapters.prime_sources import V0, V1

# Speaks the protocol of `envs/adapters/prime_worker.py`: row n is won by the reply n. What it answers to `act` can be
# set by a file, and `die` ends it.
FAKE = """#!{python}
import json, pathlib, sys
here = pathlib.Path(__file__)
many = here.with_name("many").exists()
first = json.loads(sys.stdin.readline())
rows = int(here.with_name("rows").read_text())
say = lambda value: print(json.dumps(value), flush=True)
say({{"ok": {{"rows": rows, "many": many, "digest": str(rows)}}}})
runs = []
for line in sys.stdin:
    asked = json.loads(line)
    if asked["do"] == "questions":
        texts = ["" if many else f"Say {{n}}." for n in range(asked["first"], asked["last"])]
        say({{"ok": [None, *texts[1:]] if asked["first"] == 0 else texts}})
    elif asked["do"] == "begin":
        runs.append(asked["row"])
        begun = {{"text": "Say it.\\n\\n\\x1b[2JNow.", "over": False, "reward": 0.0}}
        say({{"ok": {{"episode": str(len(runs) - 1), **begun}}}})
    elif asked["do"] == "end":
        say({{"ok": None}})
    elif asked["text"] == "die":
        sys.exit(1)
    elif asked["text"] == "fail":
        say({{"error": "KeyError: 'x'"}})
    elif (odd := here.with_name("odd")).exists():
        print(odd.read_text(), flush=True)
    else:
        right = asked["text"] == str(runs[int(asked["episode"])])
        say({{"ok": {{"text": "" if right else "No.", "over": right or not many, "reward": float(right)}}}})
"""


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    program = tmp_path / "fake"
    program.write_text(FAKE.format(python=sys.executable))
    program.chmod(0o755)
    (tmp_path / "rows").write_text("400")
    return program


def made(fake: Path, many: bool = False, **options: Any) -> Any:
    if many:
        fake.with_name("many").touch()
    return load_environment("prime", environment="fake", python=str(fake), **options)


def test_a_reply_is_written_in_paragraphs(fake: Path) -> None:
    environment = made(fake)
    problem = environment.read("Say 7.")
    assert problem == environment.read("row 7")
    assert environment.prompt(problem) == "Say 7.\n\n"
    state = environment.step(environment.initial(problem), Step("Well,")).state
    ended = environment.step(state, Step("7", finish="answer"))
    assert (ended.status, ended.reward) == ("terminated", 0.0)
    assert environment.answer(ended.state) == "Well,\n\n7"
    assert environment.step(state, Step("7", finish="length")).status == "truncated"
    assert environment.check(problem, "7")
    assert not environment.check(problem, "8")
    assert not environment.check(problem, " ")
    assert environment.same("So it is\n#### 7", r"\boxed{7}")
    assert not environment.same("7", "8")


def test_replies_are_answered_and_states_restored(fake: Path) -> None:
    environment = made(fake, many=True, max_steps=3)
    problem = environment.read("row 5")
    assert environment.prompt(problem) == "Say it.\n[2JNow.\n\n"
    state = environment.step(environment.initial(problem), Step("4")).state
    assert state.steps[-1].observation == "No."
    won = environment.step(state, Step("5"))
    assert won.status == "terminated"
    assert environment.answer(won.state) == "4\n\n5"
    assert environment.step(won.state, Step("6")).status == "truncated"
    assert environment.step(state, Step("6")).status == "running"
    assert environment.check(problem, "4\n\n5")
    assert not environment.check(problem, "4")


def test_a_row_without_a_usable_question_is_left_out(fake: Path) -> None:
    environment = made(fake)
    with pytest.raises(UnreadableQuestion, match=r"give one of those, or 'row 7' \(rows 1 to 399\)"):
        environment.read("row 0")
    assert len({problem.id for problem in environment.problems("train", 250)}) == 250
    with pytest.raises(ValueError, match=r"400 problems of 'train' asked for; fake has \d+ \(option rows\)"):
        environment.problems("train", 400)


def test_a_process_that_dies_is_started_again(fake: Path) -> None:
    environment = made(fake)
    problem = environment.read("row 7")
    with pytest.raises(ChildFailure, match="environment 'fake' has ended"):
        environment.check(problem, "die")
    assert environment.check(problem, "7")
    environment.close()
    fake.with_name("rows").write_text("300")
    with pytest.raises(ChildFailure, match="its rows are not the same again"):
        environment.check(problem, "8")


def test_a_reply_that_makes_a_rubric_fail_is_wrong(fake: Path) -> None:
    environment = made(fake, many=True)
    problem = environment.read("row 7")
    assert not environment.check(problem, "fail")
    failed = environment.step(environment.initial(problem), Step("fail"))
    assert failed.status == "truncated"
    assert environment.answer(failed.state) is None
    assert environment.check(problem, "7")


@pytest.mark.parametrize(
    "said",
    [
        '{"ok": {"text": 5, "over": true, "reward": 1.0}}',
        '{"ok": {"text": "", "over": 1, "reward": 1.0}}',
        '{"ok": {"text": "", "over": true, "reward": "1"}}',
        '{"ok": []}',
        "garbage",
    ],
)
def test_what_a_process_says_is_not_believed(fake: Path, said: str) -> None:
    environment = made(fake)
    fake.with_name("odd").write_text(said)
    with pytest.raises(ChildFailure):
        environment.check(environment.read("row 7"), "7")


def test_a_reward_that_is_no_number_is_none(fake: Path) -> None:
    environment = made(fake)
    fake.with_name("odd").write_text('{"ok": {"text": "", "over": true, "reward": NaN}}')
    assert not environment.check(environment.read("row 7"), "7")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"python": "no-such-python"}, "python 'no-such-python' is no program"),
        ({"python": sys.prefix}, "did you mean '.*bin/python'"),
        ({"folder": "no-such-folder"}, "folder 'no-such-folder' is none"),
        ({"rows": 0}, "at least 1"),
        ({"enviroment": "x"}, "did you mean 'environment'"),
    ],
)
def test_wrong_options_are_told(fake: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UnusableEnvironment, match=message):
        load_environment("prime", **{"environment": "fake", "python": str(fake), **options})


def test_how_to_install_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STEPWELL_PRIME_PYTHON", raising=False)
    with pytest.raises(UnusableEnvironment, match=r"pip install verifiers.*STEPWELL_PRIME_PYTHON"):
        load_environment("prime", environment="sums")
    with pytest.raises(UnusableEnvironment, match="the package verifiers is not installed there"):
        load_environment("prime", environment="sums", python=sys.executable)


def test_the_kit_finds_nothing_in_the_protocol(fake: Path) -> None:
    check_environment(made(fake))
    check_environment(made(fake, many=True, max_steps=3))


# ----------------------------------------------------------------------------------------------------- the real package

PYTHON = os.environ.get("STEPWELL_PRIME_PYTHON", "")
OLD = bool(PYTHON) and subprocess.run([PYTHON, "-Ic", "import verifiers.legacy"], capture_output=True).returncode == 0
real = pytest.mark.skipif(not PYTHON, reason="STEPWELL_PRIME_PYTHON names no interpreter that has verifiers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = tmp_path_factory.mktemp("environments")
    for name, source in (V0 if OLD else V1).items():
        (made / f"{name}.py").write_text(source)
    return str(made)


@real
def test_a_rubric_judges_replies(folder: str) -> None:
    environment = load_environment("prime", environment="sums", folder=folder, args={"count": 300})
    problem = environment.read("row 5")
    assert environment.prompt(problem) == "Add.\n\nWhat is 5 + 6?\n\n"
    assert environment.check(problem, "5 and 6 are\n\n11")
    assert not environment.check(problem, "12")
    assert not environment.check(problem, "raise")
    check_environment(environment, n=4)


@real
def test_an_environment_answers_replies(folder: str) -> None:
    environment = load_environment("prime", environment="guessing", folder=folder)
    problem = environment.read("row 5")
    state = environment.step(environment.initial(problem), Step("4")).state
    assert state.steps[-1].observation == "It is higher."
    assert environment.step(state, Step("6")).state.steps[-1].observation == "It is lower."
    assert environment.step(state, Step("5")).status == "terminated"
    assert environment.check(problem, "4\n\n5")
    assert not environment.check(problem, "4\n\n6\n\n7")
    check_environment(environment, n=4)


@real
def test_a_wrong_name_is_told_with_the_nearest(folder: str) -> None:
    with pytest.raises(UnusableEnvironment, match="no environment 'summs' is installed there; did you mean 'sums'"):
        load_environment("prime", environment="summs", folder=folder)
    with pytest.raises(UnusableEnvironment, match=r"cuont|unexpected"):
        load_environment("prime", environment="sums", folder=folder, args={"cuont": 3})
