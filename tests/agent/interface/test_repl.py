"""The session in a real pseudo-terminal: keys in, a screen out (pyte keeps the screen as a terminal would)."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pyte
import pytest

from envs.registry import load_environment

ROOT = Path(__file__).parents[3]
QUESTIONS = [problem.question for problem in load_environment("toy").problems("test", 3)]
LARGE = "45 with 1 7 10"  # thousands of payments: minutes of search with the delay
UP, TAB, CTRL_C, CTRL_D = "\x1b[A", "\t", "\x03", "\x04"


class Screen(pyte.Screen):
    """A screen that answers, as terminals do: the line editor asks where its cursor is."""

    answer: Callable[[str], object] = staticmethod(lambda data: None)

    def write_process_input(self, data: str) -> None:
        self.answer(data)


class Terminal:
    """A child process on a pseudo-terminal of 100 x 40, and what a person would see there."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self.screen = Screen(100, 40)
        self.stream = pyte.Stream(self.screen)
        self.child = pexpect.spawn(
            sys.executable,
            ["-m", "agent.interface.cli", *arguments],
            cwd=ROOT,
            env=environment,
            dimensions=(40, 100),
            encoding="utf-8",
            timeout=30,
        )
        self.screen.answer = self.child.send

    def read(self) -> str:
        """What has come by now, on the screen."""
        with contextlib.suppress(pexpect.TIMEOUT, pexpect.EOF):
            while True:
                self.stream.feed(self.child.read_nonblocking(65536, timeout=0.05))
        return "\n".join(line.rstrip() for line in self.screen.display)

    def wait(self, seen: Callable[[str], bool], what: str, seconds: float = 30) -> str:
        """Wait until the screen shows something; fails with the screen as it is."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            text = self.read()
            if seen(text):
                return text
            if not self.child.isalive():
                break
        pytest.fail(f"waited for {what}; the screen:\n{self.read()}")

    def expect(self, text: str) -> str:
        """Wait for a text on the screen."""
        return self.wait(lambda screen: text in screen, repr(text))

    def type(self, keys: str) -> None:
        self.child.send(keys)

    def enter(self, line: str) -> None:
        self.child.send(line + "\r")

    def clear(self) -> None:
        """Forget what is on the screen."""
        self.read()
        self.type("\x0c")  # Ctrl-L
        self.wait(lambda screen: screen.lstrip().startswith(">"), "a clear screen")


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
    screen = terminal.expect("cost ")
    assert "stopped" in screen
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
