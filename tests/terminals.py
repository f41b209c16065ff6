"""A child process on a pseudo-terminal, and what a person would see there (pyte keeps the screen)."""

import contextlib
import copy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pyte
import pytest

ROOT = Path(__file__).parents[1]
UP, TAB, CTRL_C, CTRL_D = "\x1b[A", "\t", "\x03", "\x04"


class Screen(pyte.Screen):
    """A screen that answers, as terminals do: the line editor asks where its cursor is. It has an alternate screen."""

    answer: Callable[[str], object] = staticmethod(lambda data: None)
    kept: tuple[Any, Any] | None = None

    def set_mode(self, *modes: int, **more: object) -> None:
        super().set_mode(*modes, **more)
        if 1049 in modes and self.kept is None:
            self.kept = copy.deepcopy((self.buffer, self.cursor))
            self.erase_in_display(2)

    def reset_mode(self, *modes: int, **more: object) -> None:
        super().reset_mode(*modes, **more)
        if 1049 in modes and self.kept is not None:
            self.buffer, self.cursor = self.kept
            self.kept = None
            self.dirty.update(range(self.lines))

    def write_process_input(self, data: str) -> None:
        self.answer(data)


class Terminal:
    """A child process on a pseudo-terminal, and what a person would see there."""

    def __init__(self, arguments: list[str], environment: dict[str, str], columns: int = 100, lines: int = 40) -> None:
        self.raw = ""
        self.screen = Screen(columns, lines)
        self.stream = pyte.Stream(self.screen)
        self.child = pexpect.spawn(
            sys.executable,
            ["-m", "agent.interface.cli", *arguments],
            cwd=ROOT,
            env=environment,
            dimensions=(lines, columns),
            encoding="utf-8",
            timeout=30,
        )
        self.screen.answer = self.child.send

    def read(self) -> str:
        """What has come by now, on the screen."""
        with contextlib.suppress(pexpect.TIMEOUT, pexpect.EOF):
            while True:
                came = self.child.read_nonblocking(65536, timeout=0.05)
                self.raw += came
                self.stream.feed(came)
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

    def resize(self, columns: int, lines: int) -> None:
        """As a person does with a window."""
        self.read()
        self.screen.resize(lines, columns)
        self.child.setwinsize(lines, columns)

    def clear(self) -> None:
        """Forget what is on the screen."""
        self.read()
        self.type("\x0c")  # Ctrl-L
        self.wait(lambda screen: screen.lstrip().startswith(">"), "a clear screen")
