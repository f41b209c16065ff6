"""The loop of a session: lines of a person or of a pipe, one after the other."""

from __future__ import annotations

import contextlib
import io
import signal
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.text import Text

from agent.interface.common import make_console
from agent.interface.control.server import ControlServer
from agent.interface.session.session import PAUSED, HungUp, Leave, Session
from agent.interface.session.store import state_folder
from agent.interface.terminal.interrupts import BetweenImports
from agent.interface.text import visible
from agent.recipes.recipe import Recipe

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

_FILES = ("/save", "/load", "/replay")


def run_repl(recipe: Recipe) -> int:
    """Talk to a person, or to a pipe, until the input ends. Returns the exit code."""
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    session = Session(recipe, make_console(), echo=not interactive, person=interactive)
    try:
        with contextlib.suppress(Leave), ControlServer(session.surface, "session"):
            if interactive:
                _talk(session)
            else:
                _read_lines(session)
    finally:
        session.close()
        session.settle()
    return 0


def _read_lines(session: Session) -> None:
    """Answer a pipe, line by line; bytes that are no text are shown by their escapes."""
    session.console.is_interactive = False
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="backslashreplace")
    for line in sys.stdin:
        session.handle(line)


def _hang_up(number: int, frame: object) -> None:
    raise HungUp


def _talk(session: Session) -> None:
    """Answer a person, until the input ends; when the terminal goes, what there is of a search is kept."""
    for each in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(each, _hang_up)
    signal.signal(signal.SIGINT, BetweenImports())
    prompt = make_prompt(session)
    session.console.print(Text.assemble(("stepwell  ", "bold"), (visible(session.summary), "dim")))
    session.console.print(Text("Type a question, or /help.", style="dim"))
    while True:
        try:
            if session.queue and session.run is None:
                text = session.queue.pop(0)
                session.say(Text(f"> {visible(text)}", style="bold"))
            else:
                text = prompt.prompt()
        except KeyboardInterrupt:
            if session.run is None:
                continue  # the line is cleared
            text = "/stop"
        except EOFError:
            text = "/quit"
        try:
            session.handle(text)
        except KeyboardInterrupt:
            session.console.print(Text("stopped", style="yellow"))


def make_prompt(session: Session) -> PromptSession[str]:
    """The line editor: history on disk, completion with TAB, the settings in a bar below."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
    from prompt_toolkit.document import Document
    from prompt_toolkit.history import FileHistory, History, InMemoryHistory
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
    from prompt_toolkit.shortcuts import CompleteStyle

    class Commands(Completer):
        """Commands and their values; file names where a file is expected."""

        def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
            line = document.text_before_cursor.lstrip()
            if line.startswith("@"):
                yield from PathCompleter(expanduser=True).get_completions(Document(line[1:]), complete_event)
                return
            if not line.startswith("/"):
                return
            command, _, rest = line.partition(" ")
            if command in _FILES and line != command:
                yield from PathCompleter(expanduser=True).get_completions(Document(rest), complete_event)
                return
            word = line.rpartition(" ")[2]
            for value in session.completions(line):
                yield Completion(value, start_position=-len(word))

    history: History = InMemoryHistory()
    with contextlib.suppress(OSError):
        file = state_folder() / "history"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        history = FileHistory(str(file))
    keys = KeyBindings()

    @keys.add("escape", "enter")
    def new_line(event: KeyPressEvent) -> None:
        """Alt-Enter: a question of several lines."""
        event.current_buffer.insert_text("\n")

    return PromptSession(
        message=lambda: "paused> " if session.run is not None else "> ",
        key_bindings=keys,
        history=history,
        completer=Commands(),
        complete_while_typing=False,
        complete_style=CompleteStyle.MULTI_COLUMN,
        reserve_space_for_menu=4,
        auto_suggest=AutoSuggestFromHistory(),
        bottom_toolbar=lambda: session.summary if session.run is None else PAUSED,
        enable_suspend=True,
    )
