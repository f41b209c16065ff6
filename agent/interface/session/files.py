"""Searches that are kept: saved, loaded, and those of all sessions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from agent.interface.session.command import Command, number
from agent.interface.text import brief, unicode_of, visible
from agent.interface.tree_view import solution_view
from agent.solver import graph_writer
from envs.messages import UsageError

if TYPE_CHECKING:
    from agent.interface.session.session import Session

_LISTED = 20  # searches of the history


def save(session: Session, text: str) -> None:
    """Write the search to a file."""
    if not text:
        session.last()
        raise UsageError("/save: expected a file name, e.g. /save search.json")
    path = Path(text).expanduser()
    write = graph_writer(path)
    session.look(write)
    session.say(Text(f"saved to {visible(str(path))}"))


def load(session: Session, text: str) -> None:
    """Read a search that was saved, for all that looks at one; that needs no models."""
    if not text:
        raise UsageError("/load: expected a file name, e.g. /load search.json")
    _open(session, text)


def history(session: Session, text: str) -> None:
    """List the searches of all sessions, those in which a text is found, or open one by its number."""
    if (chosen := number(text)) is not None:
        _open(session, str(session.store.find(chosen)))
        return
    entries = session.store.entries(text)
    if not entries:
        raise UsageError(f"nothing in the history holds {brief(text, 60)!r}" if text else "the history is empty")
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right")
    for _ in range(5):
        table.add_column(no_wrap=True)
    for each in entries[-_LISTED:]:
        sign = {True: " ✓", False: " ✗", None: ""}[each.correct] if unicode_of(session.console) else ""
        answer = "none" if each.answer is None else brief(visible(each.answer), 30) + sign
        table.add_row(
            Text(str(each.number), style="bold"),
            Text(visible(each.at)[:16].replace("T", " "), style="dim"),
            brief(visible(each.question), 48),
            answer,
            visible(f"{each.strategy}, {each.samples:.0f}"),
            "steered" if each.steered else "",
        )
    session.console.print(table)
    if len(entries) > _LISTED:
        session.say(Text(f"and {len(entries) - _LISTED} older ones; /history TEXT finds them", style="dim"))
    session.say(Text("/history N opens one", style="dim"))


def _open(session: Session, name: str) -> None:
    session.refuse_in_pause("another search cannot be opened")
    solution = session.opened(name)
    session.console.print(solution_view(solution, unicode_of(session.console)))
    session.solution, session.focus = solution, 0


FILES = {
    "/history": Command(history, "[TEXT | N]", "searches of all sessions: list, find, open number N"),
    "/save": Command(save, "FILE", "the search, as .json (to load again) or .graphml"),
    "/load": Command(load, "FILE", "a search saved as .json"),
}
"""Commands about what is kept."""
