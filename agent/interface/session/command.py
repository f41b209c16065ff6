"""A command of the session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.interface.session.session import Session


@dataclass(frozen=True)
class Command:
    """A command.

    Args:
        run: does it, given what stands after its name.
        usage: its arguments, as help shows them.
        help: what it does, in a line.
    """

    run: Callable[[Session, str], None]
    usage: str
    help: str


def number(text: str) -> int | None:
    """A number of a node, of rows or of a search; None where the text is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None
