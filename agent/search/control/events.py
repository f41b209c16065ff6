"""What happened to the searches of a process, in order, for whoever asks "what is new since I looked?".

An event has a number, its cursor. Numbers grow by one and are never used twice; a client asks for what came after the
last one that it saw, so neither clocks nor reconnections lose or repeat anything. The log is bounded: what is too old
is dropped, and a client that comes too late is told how many events it missed.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import Any

KEPT = 20_000  # events; one takes about half a kilobyte


@dataclass(frozen=True)
class Event:
    """Something that happened to a search. It holds no text that a model wrote.

    Args:
        cursor: its number.
        search: the id of the search.
        kind: ``begun``, ``progress``, ``command`` or ``over``.
        at: seconds since the epoch.
        data: figures and names, JSON-ready.
    """

    cursor: int
    search: str
    kind: str
    at: float
    data: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"cursor": self.cursor, "search": self.search, "kind": self.kind, "at": round(self.at, 3), **self.data}


@dataclass(frozen=True)
class Events:
    """Some events, and where to go on.

    Args:
        events: oldest first.
        cursor: of the last event that was looked at; to be asked with next.
        missed: events after the cursor asked with that are dropped already.
    """

    events: tuple[Event, ...]
    cursor: int
    missed: int = 0


class EventLog:
    """Events in order; may be written and read by any thread."""

    def __init__(self, kept: int = KEPT) -> None:
        self._events: deque[Event] = deque(maxlen=kept)
        self._last = 0
        self._changed = threading.Condition()

    def add(self, search: str, kind: str, data: dict[str, Any]) -> None:
        """Note an event, and wake those that wait for one."""
        with self._changed:
            self._last += 1
            self._events.append(Event(self._last, search, kind, time.time(), data))
            self._changed.notify_all()

    def after(self, cursor: int, search: str | None = None, most: int = 1000, seconds: float = 0.0) -> Events:
        """The events after a cursor.

        Args:
            cursor: that of the last event seen; 0 for all that are kept.
            search: of this search only.
            most: events at most.
            seconds: how long to wait for one, if there is none.
        """
        end = time.monotonic() + seconds
        with self._changed:
            while True:
                found = self._after(cursor, search, most)
                left = end - time.monotonic()
                if found.events or left <= 0:
                    return found
                self._changed.wait(left)

    def _after(self, cursor: int, search: str | None, most: int) -> Events:
        if not 0 <= cursor <= self._last:  # of a process that is gone
            cursor = 0
        first = self._last - len(self._events)  # cursors up to here are dropped
        found: list[Event] = []
        reached = max(cursor, first)
        for event in islice(self._events, reached - first, None):
            if len(found) == most:
                break
            reached = event.cursor
            if search is None or event.search == search:
                found.append(event)
        return Events(tuple(found), reached, max(0, first - cursor))
