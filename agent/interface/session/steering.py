"""Changing a search: one that is paused, or the last one, which is then open again."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from agent.interface.session.command import Command
from agent.search.control.arguments import COMMANDS

if TYPE_CHECKING:
    from agent.interface.session.session import Session

_SETTINGS = ("strategy", "budget")  # commands of the settings, too
_OTHERS = ("pause", "resume", *_SETTINGS)


def _steer(name: str, session: Session, text: str) -> None:
    session.steer(name, text)


def go(session: Session, text: str) -> None:
    """Let a paused search go on, or open the last one again; with another strategy if one is given."""
    session.go(text)


STEERING = {
    "/go": Command(go, "[STRATEGY]", "go on: with the paused search, or with the last one for as much again"),
    **{
        f"/{name}": Command(partial(_steer, name), command.usage, command.help)
        for name, command in COMMANDS.items()
        if name not in _OTHERS
    },
}
"""Commands that change a search."""
