"""What a model, a problem, a file or an error says is shown on a terminal and in a log, and never obeyed by them."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loguru import logger
from rich.table import Table
from rich.text import Text

from agent.interface.common import quiet
from agent.interface.terminal.console import PlainConsole
from agent.interface.text import MESSAGE, json_text, message, visible

ROOT = Path(__file__).parents[3]
COMMANDS = "\x1b]0;PWNED\x07 \x1b[7;7H\x1b[8m \x1b]52;c;ZXZpbA==\x07 \x9b31m \x7f \x00 \r"
DIRECTIONS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u2028\u2029\u200b\ufeff"
BRACKETS = "[a, b] [/x] [red]r[/red] [/] :x:"
EVIL = f"{COMMANDS} {DIRECTIONS} {BRACKETS}"
RAW = re.compile(
    r"\x1b\]|\x1b\[7;7H|\x1b\[8m|\x9b|\x7f|\x00|[\u202a-\u202e\u2066-\u2069\u200e\u200f\u2028\u2029\u200b\ufeff]"
)

ENVIRONMENT = f'''
"""Every text that it gives is hostile."""
from dataclasses import replace
from envs import Problem, State, UnreadableQuestion, termination, transition

EVIL = {EVIL!r}


class Evil:
    """Two steps and an answer."""

    name, delimiter, max_steps = "evil", "|", 4

    def read(self, question):
        if question == "unreadable":
            raise UnreadableQuestion(EVIL)
        if question == "broken":
            raise ValueError(EVIL)
        return Problem(question, question, answer="7" + EVIL)

    def prompt(self, problem):
        return problem.question

    def initial(self, problem):
        return State(problem)

    def options(self, state):
        return {{EVIL: 1.0}} if not state.steps else {{f"#### {{n}}{{EVIL}}": 1.0 for n in (7, 8, 9)}}

    def step(self, state, step):
        after = state.then(replace(step, observation="seen " + EVIL))
        return termination(after) if self.answer(after) is not None else transition(after)

    def answer(self, state):
        text = state.texts[-1] if state.texts else ""
        return text[5:] if text.startswith("#### ") else None

    def check(self, problem, answer):
        return problem.answer == answer

    def same(self, a, b):
        return a == b

    def problems(self, split, n, seed=0):
        return [self.read(f"{{split}} {{number}}") for number in range(n)]
'''


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    file = tmp_path / "evil.py"
    file.write_text(ENVIRONMENT)
    rest = ["--policy", "scripted", "--verifier", "none", "--strategy", "majority", "--budget", "8"]
    return ["--env", str(file), *rest]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    own = {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
    return os.environ | own | {"XDG_STATE_HOME": str(tmp_path)}


def spawn(words: list[str], environment: dict[str, str]) -> "pexpect.spawn[str]":
    command = ["-m", "agent.interface.cli", *words]
    child: pexpect.spawn[str] = pexpect.spawn(
        sys.executable, command, cwd=ROOT, env=environment, dimensions=(50, 150), encoding="utf-8", timeout=60
    )
    return child


def test_a_terminal_gets_nothing_raw_from_solve(words: list[str], environment: dict[str, str]) -> None:
    child = spawn(["solve", "In the interval [a, b] and [/x]", "--tree", *words], environment)
    child.expect(pexpect.EOF)
    child.close()
    out = child.before or ""
    assert "In the interval [a, b] and [/x]" in out
    assert BRACKETS in out
    assert r"\x1b]0;PWNED\x07" in out
    assert "others: " in out
    assert not RAW.search(out)
    assert child.exitstatus == 0


def test_a_terminal_gets_nothing_raw_in_a_session(
    words: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    child = spawn(words, environment)
    child.logfile_read = log = io.StringIO()
    file = tmp_path / "search.json"
    child.expect("or /help")
    lines = [
        "the interval [a, b] and [/x]", "/tree", "/why 1", "/answers", f"/save {file}", f"/load {file}", "broken",
        "unreadable", "/load [/x]", "/policy [/x]", "[/x]", "/seed 5",
    ]  # fmt: skip
    for line in lines:
        child.expect_exact("\x1b[?2004h")  # the line editor is ready
        child.send(line + "\r")
    child.expect("seed 5")
    child.send("/quit\r")
    child.expect(pexpect.EOF)
    child.close()
    out = log.getvalue()
    assert not RAW.search(out)
    assert out.count(r"\x1b]0;PWNED\x07") > 10
    assert "there is no file '[/x]'" in out
    assert "policy '[/x]' is not known" in out
    assert child.exitstatus == 0


def test_json_is_the_same_value_and_nothing_raw(words: list[str], environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "agent.interface.cli", "solve", "[/x]", "--json", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert not RAW.search(done.stdout)
    assert json.loads(done.stdout)["steps"][0]["text"].startswith("\x1b]0;PWNED\x07")


@given(st.text(st.characters()))
def test_visible_text_has_only_characters_to_be_seen(text: str) -> None:
    assert visible(text).replace("\n", "").isprintable()
    assert json.loads(json_text({"text": text})) == {"text": text}
    assert json_text([text]).replace("\n", "").isprintable()
    assert visible(visible(text)) == visible(text)


def test_what_is_harmless_stays() -> None:
    for text in ("Größe ≤ 6\n  ×", "数学", "[a, b]", "e\u0301", "👍🏽"):
        assert visible(text) == text
    assert visible("a\tb\u00a0c\r\nd") == "a b c\nd"
    assert visible("\u202e\x1b\x9b\x7f\ud800") == r"\u202e\x1b\x9b\x7f\ud800"


def test_the_console_cleans_whatever_is_printed_and_reads_no_markup() -> None:
    file = io.StringIO()
    console = PlainConsole(file=file, width=200, force_terminal=True, color_system="truecolor")
    table = Table(EVIL)
    table.add_row(EVIL)
    table.add_row(Text(EVIL, style="red"))
    for thing in (EVIL, Text(EVIL, style="bold"), table):
        console.print(thing)
    assert not RAW.search(file.getvalue())
    assert file.getvalue().count("[a, b] [/x] [red]r[/red] [/] :x:") == 5


def test_lines_of_a_file_do_not_end_in_blanks() -> None:
    file = io.StringIO()
    table = Table.grid()
    table.add_row("a", "long")
    table.add_row("b", "")
    PlainConsole(file=file, width=80).print(table)
    assert file.getvalue() == "along\nb\n"


def test_a_log_line_is_one_line_of_characters(capsys: pytest.CaptureFixture[str]) -> None:
    quiet("WARNING")
    logger.warning("said: {}", EVIL + "\n12:00:00 ERROR forged")
    err = capsys.readouterr().err
    assert not RAW.search(err)
    assert BRACKETS in err
    assert [line for line in err.splitlines() if line[:1] != " "] == err.splitlines()[:1]


def test_the_message_of_an_error_is_one_line_with_an_end() -> None:
    assert message(ValueError("a\n\x1b[8mb")) == r"a \x1b[8mb"
    assert message(KeyError("hidden_size")) == "KeyError: 'hidden_size'"
    assert message(MemoryError()) == "MemoryError"
    assert message(ValueError()) == "ValueError"
    assert len(message(ValueError("x" * 4_000_000))) == MESSAGE
