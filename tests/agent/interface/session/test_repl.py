"""The session in a real pseudo-terminal: keys in, a screen out (pyte keeps the screen as a terminal would)."""

import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pexpect
import pytest

from agent.build import parts
from agent.interface.session.session import Leave, Session
from agent.interface.terminal.console import PlainConsole
from agent.recipes.recipe import Recipe, load_recipe
from envs.registry import load_environment
from tests.terminals import CTRL_C, CTRL_D, TAB, UP, Terminal

ROOT = Path(__file__).parents[4]
QUESTIONS = [problem.question for problem in load_environment("toy").problems("test", 3)]
LARGE = "45 with 1 7 10"  # thousands of payments: minutes of search with the delay


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return os.environ | {
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "PYTHONIOENCODING": "utf-8",
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture
def open_terminal(environment: dict[str, str]) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_one(*arguments: str) -> Terminal:
        terminal = Terminal(["--env", "toy", *arguments], environment)
        opened.append(terminal)
        terminal.expect("Type a question, or /help.")
        terminal.expect(">")
        return terminal

    yield open_one
    for terminal in opened:
        terminal.child.close(force=True)


def test_a_question_shows_the_tree_and_the_answer_and_the_tree_can_be_asked(
    open_terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    terminal = open_terminal("--strategy", "beam", "--budget", "8")
    terminal.enter(QUESTIONS[0])
    screen = terminal.expect("cost ")
    assert "●" in screen
    assert "answer" in screen
    assert "╰─" in screen

    terminal.clear()
    terminal.enter("/why 1")
    assert "status " in terminal.expect("siblings")

    terminal.enter("/why 99999")
    terminal.expect("no node 99999; the tree has nodes 0 to")

    file = tmp_path / "search.json"
    terminal.enter(f"/save {file}")
    terminal.expect("saved to")
    assert file.stat().st_size > 100

    terminal.clear()
    terminal.enter(f"/load {file}")
    assert "answer" in terminal.expect("cost ")
    terminal.clear()
    terminal.enter("/tree")
    assert "●" in terminal.expect("0 ● ")

    terminal.type(CTRL_D)
    terminal.child.expect(pexpect.EOF)
    terminal.child.wait()
    assert terminal.child.exitstatus == 0


def test_the_tree_grows_while_it_searches_and_ctrl_c_keeps_the_best_answer(
    open_terminal: Callable[..., Terminal],
) -> None:
    terminal = open_terminal("--strategy", "mcts", "--budget", "4000", "--set", "policy.delay=0.05")
    terminal.enter(LARGE)
    terminal.expect("leading: ")
    first = terminal.wait(lambda screen: " nodes" in screen, "the figures of the growing tree")
    terminal.wait(lambda screen: " nodes" in screen and screen != first, "a tree that has grown")
    rows = [line for line in terminal.read().splitlines() if "─ " in line]
    assert 0 < len(rows) < 40
    terminal.type(CTRL_C)
    terminal.expect("paused>")
    terminal.type(CTRL_C)
    screen = terminal.expect("cost ")
    assert "stopped by a person" in screen
    assert "answer" in screen
    assert "none: no candidate" not in screen
    terminal.enter("/budget 2")  # and the session goes on
    terminal.expect("budget samples=2")


def test_history_completion_and_the_nearest_command(open_terminal: Callable[..., Terminal]) -> None:
    terminal = open_terminal()
    terminal.type("/strat" + TAB)
    terminal.expect("> /strategy")
    terminal.type(" bea" + TAB)
    terminal.expect("> /strategy beam")
    terminal.type("\r")
    terminal.expect("others: ")

    terminal.type("half a line" + CTRL_C)
    terminal.enter("/sed 4")
    terminal.expect("unknown command /sed; did you mean '/seed'?")
    terminal.enter("/strategy baem")
    terminal.expect("strategy 'baem' is not known; did you mean 'beam'?")
    terminal.enter("/seed 12")
    terminal.expect("seed 12")

    terminal.clear()
    terminal.type(UP)
    terminal.expect("> /seed 12")
    terminal.enter("")
    terminal.enter("/quit")
    terminal.child.expect(pexpect.EOF)

    terminal = open_terminal()  # history outlives the session
    terminal.type(UP)
    terminal.expect("> /quit")


def test_a_paste_of_several_questions_is_several_questions(open_terminal: Callable[..., Terminal]) -> None:
    terminal = open_terminal("--strategy", "greedy")
    terminal.type("\x1b[200~" + "\n".join(["/seed 3", *QUESTIONS[:2]]) + "\x1b[201~")
    terminal.expect(QUESTIONS[1])
    assert "answer" not in terminal.read()  # nothing runs before Enter
    terminal.enter("")
    screen = terminal.wait(lambda text: text.count("cost ") == 2, "two answers")
    assert "seed 3" in screen


def test_a_wrong_setting_changes_nothing(open_terminal: Callable[..., Terminal]) -> None:
    terminal = open_terminal()
    terminal.enter("/policy nobody")
    terminal.expect("policy 'nobody' is not known")
    terminal.enter("/budget -")
    terminal.expect("expected a number")
    terminal.enter(QUESTIONS[0])
    terminal.expect("cost ")


def test_a_pipe_gets_plain_lines(environment: dict[str, str]) -> None:
    lines = ["/strategy beam", QUESTIONS[0], "/tree 3", "/sed 1", "/quit", "never read"]
    done = subprocess.run(
        [sys.executable, "-m", "agent.interface.cli", "--env", "toy"],
        input="\n".join(lines),
        cwd=ROOT,
        env=environment | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "answer" in done.stdout
    assert "did you mean '/seed'?" in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stdout.isascii()
    assert "never read" not in done.stdout


def test_a_dumb_terminal_works(environment: dict[str, str]) -> None:
    environment["TERM"] = "dumb"
    terminal = Terminal(["--env", "toy", "--strategy", "greedy"], environment)
    try:
        terminal.expect(">")
        terminal.enter(QUESTIONS[0])
        assert "answer" in terminal.expect("cost ")
        terminal.type(CTRL_D)
        terminal.child.expect(pexpect.EOF)
    finally:
        terminal.child.close(force=True)


@pytest.mark.parametrize("seconds", [0.3, 0.8, 1.5, 2.5])
def test_ctrl_c_while_models_are_loaded_leaves_a_session_that_answers(
    environment: dict[str, str], seconds: float
) -> None:
    terminal = Terminal([], environment)  # arithmetic: the first question imports torch
    try:
        terminal.expect("Type a question, or /help.")
        terminal.expect(">")
        terminal.enter("2 + 2")
        time.sleep(seconds)
        terminal.type(CTRL_C)
        terminal.wait(lambda screen: "stopped" in screen or "cost " in screen, "the end of the first question")
        terminal.enter("2 + 2")
        terminal.wait(lambda screen: "answer  4  ✓ right" in screen, "an answer", seconds=90)
        terminal.enter("/quit")
        terminal.child.expect(pexpect.EOF)
        assert "Traceback" not in (terminal.child.before or "")
        terminal.child.close()
        assert terminal.child.exitstatus == 0
    finally:
        terminal.child.close(force=True)


@pytest.mark.parametrize("line", ["/policy arithmetic-l", "/verifier arithmetic-prm-offpolicy", "/load no.json"])
def test_ctrl_c_in_a_command_that_comes_first_leaves_a_session_that_answers(
    environment: dict[str, str], line: str
) -> None:
    terminal = Terminal([], environment)  # such a command imports torch before it is refused or done
    try:
        terminal.expect("Type a question, or /help.")
        terminal.expect(">")
        terminal.enter(line)
        time.sleep(0.1)
        terminal.type(CTRL_C)
        time.sleep(0.2)
        terminal.enter("2 + 2")
        terminal.wait(lambda screen: "answer  4  ✓ right" in screen, "an answer", seconds=90)
        terminal.enter("/quit")
        terminal.child.expect(pexpect.EOF)
        terminal.child.close()
        assert terminal.child.exitstatus == 0
    finally:
        terminal.child.close(force=True)


def session_of(recipe: Recipe, **options: Any) -> tuple[Session, io.StringIO]:
    file = io.StringIO()
    return Session(recipe, PlainConsole(file=file, width=100), **options), file


def test_every_error_is_a_line_and_the_models_stay(tmp_path: Path) -> None:
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(3)\n")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    deep = tmp_path / "deep.json"
    deep.write_text("[" * 200_000)
    session, file = session_of(load_recipe("toy"))
    session.handle(QUESTIONS[0])
    loaded = session.solver
    for line, said in (
        (f"/env {tmp_path / 'leaves.py'}", "failed to load: SystemExit: 3"),
        (f"/policy {folder}", ""),
        (f"/load {deep}", "deep.json is not a saved search: it is no JSON object"),
        (f"/load {tmp_path}", "there is no file"),
        (f"/load {tmp_path}", "is a folder, not a saved search"),
        (f"@{tmp_path}", "is a folder; @FILE asks what is in a file"),
        ("/vote max last extra", "expected RULE, or RULE AGGREGATE, e.g. /vote max last"),
        ("/policy hf:", "policy 'hf:' names no model; expected hf:MODEL"),
        ("/verifier vllm:", "verifier 'vllm:' names no model; expected vllm:MODEL"),
        ("/load", "expected a file name"),
        ("/why ²", "expected the number of a node"),
        ("/tree " + "9" * 5000, "expected a number of rows"),
        ("/strategy beam branch", "cannot read 'branch' after 'beam'; expected OPTION=VALUE, e.g. branch=2"),
        ("/strategy branch=", ""),
        ("/budget " + "9" * 5000, ""),
        ("/sed 1", "did you mean '/seed'?"),
    ):
        file.truncate(0)
        session.handle(line)
        out = file.getvalue().strip("\x00")
        assert said in out, line
        assert out.count("\n") == 1, line
        assert "Traceback" not in out
    assert session.solver is loaded
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(loaded), "submit", lambda *given: [][0])
        session.handle(QUESTIONS[0])
    assert "IndexError: list index out of range" in file.getvalue()
    session.handle(QUESTIONS[0])
    assert "FLOP" in file.getvalue().rsplit("cost ", 1)[1]


def test_long_lines_break_between_words() -> None:
    file = io.StringIO()
    session = Session(load_recipe("toy"), PlainConsole(file=file, width=40, force_terminal=True, no_color=True))
    for line in ("/strategy baem", "/env tyo", "/load nowhere.json", "/temperature"):
        file.seek(0)
        file.truncate()
        session.handle(line)
        shown = [re.sub(r"\x1b\[[\d;]*m", "", row) for row in file.getvalue().splitlines()]
        assert max(map(len, shown)) <= 40
        wide, screen = session_of(load_recipe("toy"))
        wide.handle(line)
        assert " ".join(shown).split() == screen.getvalue().split()  # no word is cut


def test_a_search_of_another_environment_says_how_to_switch(tmp_path: Path) -> None:
    session, _ = session_of(load_recipe("toy"))
    session.handle(QUESTIONS[0])
    session.handle(f"/save {tmp_path / 'toy.json'}")
    other, file = session_of(load_recipe("arithmetic"))
    other.handle(f"/load {tmp_path / 'toy.json'}")
    assert "holds a search in environment 'toy'; the environment here is 'arithmetic'; /env toy" in file.getvalue()
    assert other._solver is None  # nothing was loaded for it
    assert other._loading is None


def test_words_that_people_type_are_commands() -> None:
    session, file = session_of(load_recipe("toy"))
    for line in ("help", "?", "HELP", "/HELP", " help "):
        file.truncate(0)
        session.handle(line)
        assert "/strategy [NAME" in file.getvalue()
        assert "/tree [ROWS]" in file.getvalue()
        assert "Signs in the tree:" in file.getvalue()
    for line in ("quit", "exit", "/quit", "Exit"):
        with pytest.raises(Leave):
            session.handle(line)


def test_a_tick_stands_only_where_the_answer_is_right() -> None:
    session, file = session_of(load_recipe("toy", ["strategy=beam", "budget.samples=8"]))
    session.handle(QUESTIONS[0])
    solution = session.last()
    for correct, sign, others in ((True, "✓", "✗"), (False, "✗", "✓"), (None, "■", "✓✗")):
        session.solution = replace(solution, correct=correct)
        for command in ("/tree", "/answers"):
            file.truncate(0)
            session.handle(command)
            out = file.getvalue()
            assert not set(others) & set(out)
            assert sign in out


def test_a_setting_tells_what_is_in_force() -> None:
    session, file = session_of(load_recipe("toy"))
    session.handle("/strategy beam branch=2")
    assert "in force: beam (width 8, branch 2, temperature 1" in file.getvalue()
    session.handle("/verifier")
    assert next(each.summary for each in parts("verifier") if each.name == "table") in file.getvalue()


def test_without_an_answer_the_most_promising_path_is_shown() -> None:
    session, file = session_of(load_recipe("toy", ["strategy=beam"]))
    session.handle("/budget tokens=1")
    session.handle(LARGE)
    solution = session.last()
    assert solution.answer is None
    assert "none: no candidate finished; the most promising path is shown" in file.getvalue()
    session.handle("/answers")
    assert "there are no answers" in file.getvalue()


def test_piped_answers_stand_under_their_questions(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agent.interface.cli", "--env", "toy", "--strategy", "greedy"],
        input="\n".join([*QUESTIONS[:2], "/seed 4", "@no.txt"]).encode() + b"\n\xff\n",
        cwd=ROOT,
        env=environment,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert [line for line in lines if line.startswith("> ")] == [
        *(f"> {q}" for q in QUESTIONS[:2]),
        "> /seed 4",
        "> @no.txt",
        r"> \xff",
    ]
    assert all(line == line.rstrip() for line in lines)
