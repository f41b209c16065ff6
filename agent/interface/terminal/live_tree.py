"""The growing tree on a terminal: a screen of its own, of which only the rows that changed are written again.

At most ten frames a second, and so seldom that drawing takes a fiftieth of the time: the search is what time is for
(`tests/benchmarks/live_tree.py` measures it). The screen is the terminal's alternate one, so that what was printed
before stays as it was and a change of size leaves nothing behind. A search of less than `PATIENCE` is not shown at all.

A terminal that cannot address its cursor (``TERM=dumb``) gets a line now and then.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from types import TracebackType

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.style import Style

from agent.interface.text import unicode_of, visible
from agent.interface.tree_view import Row, search_rows, status_row
from agent.search.graph import SearchGraph

FRAME = 0.1  # seconds between two frames, at least
SHARE = 1 / 50  # of the time that may go into drawing
PATIENCE = 0.3  # seconds of search before anything is drawn
LINES = 2.0  # seconds between two lines on a terminal that has no cursor
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l\x1b[2J", "\x1b[?25h\x1b[?1049l"


class LiveTree:
    """Draws a growing tree. Called with the graph in the thread that searches, which alone reads the graph.

    Args:
        console: to draw on.
        hint: the last line of the screen.
    """

    def __init__(self, console: Console, hint: str = "") -> None:
        self.console = console
        self.hint = hint
        self.started = time.monotonic()
        self.spent = 0.0  # seconds that went into drawing
        self.frames = 0
        self._next = self.started + PATIENCE
        self._rows: list[Row] = []
        self._size = (0, 0)
        self._shown = False
        self._closed = False
        self._lock = threading.Lock()
        self._plain = not console.is_terminal or console.is_dumb_terminal
        self._styles: dict[str, str] = {}
        self._said = ""

    def __call__(self, graph: SearchGraph) -> None:
        """Draw, unless that was just done."""
        begun = time.monotonic()
        if begun < self._next and not self._resized():
            return
        with self._lock:
            if self._closed:
                return
            if self._plain:
                self._say(graph, begun)
            else:
                self._draw(graph, begun - self.started, None)
        took = time.monotonic() - begun
        self.spent += took
        self.frames += 1
        self._next = begun + max(LINES if self._plain else FRAME, took / SHARE)

    def _resized(self) -> bool:
        """Whether what is on the screen is laid out for another size."""
        return self._shown and self._terminal_size() != self._size

    def _say(self, graph: SearchGraph, now: float) -> None:
        row = status_row(graph, now - self.started, unicode_of(self.console))
        line = "".join(text for text, _ in row)
        if line != self._said:
            self.console.print(line[: max(20, self.console.width - 1)], style="dim", soft_wrap=True)
            self._said = line

    def show(self, graph: SearchGraph, size: int, seconds: float) -> None:
        """Draw the tree as it was when it had so many nodes, now."""
        self._draw(graph, seconds, size)

    def _draw(self, graph: SearchGraph, seconds: float, nodes: int | None) -> None:
        width, height = size = self._terminal_size()
        parts = []
        if not self._shown:
            parts.append(_ENTER)
            self._shown = True
        elif size != self._size:
            parts.append("\x1b[2J")
        if size != self._size:
            self._rows, self._size = [], size
        rows = search_rows(graph, max(2, height - 1), width - 1, seconds, unicode_of(self.console), nodes)
        rows = rows[: height - 1]
        rows += [()] * (height - 1 - len(rows))
        rows.append(((self.hint, "dim"),))
        for place, row in enumerate(rows):
            if place >= len(self._rows) or self._rows[place] != row:
                parts.append(f"\x1b[{place + 1};1H{self._line(row, width - 1)}\x1b[0m\x1b[K")
        self._rows = rows
        self._write("".join(parts))

    def _line(self, row: Row, width: int) -> str:
        """A row as the terminal gets it; every text is made visible, so that only our own codes are left."""
        parts, left = [], width
        for text, style in row:
            shown = visible(text).replace("\n", " ")
            if cell_len(shown) > left:  # rows are laid out to fit; the line of figures may be longer
                shown = set_cell_size(shown, left)
            left -= cell_len(shown)
            codes = self._codes(style)
            parts.append(f"{codes}{shown}\x1b[0m" if codes else shown)
        return "".join(parts)

    def _codes(self, style: str) -> str:
        if style not in self._styles:
            system = self.console._color_system
            made = Style.parse(style) if style else Style.null()
            if self.console.no_color:
                made = made.without_color
            self._styles[style] = made._make_ansi_codes(system) if system is not None and style else ""
        codes = self._styles[style]
        return f"\x1b[{codes}m" if codes else ""

    def _terminal_size(self) -> tuple[int, int]:
        """Columns and rows as they are now: a terminal may change its size at any time."""
        with suppress(OSError, ValueError):
            size = os.get_terminal_size(self.console.file.fileno())
            if size.columns and size.lines:
                return size.columns, size.lines
        return self.console.width, self.console.height

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # the terminal is gone: the search is not
            self.console.file.write(text)
            self.console.file.flush()

    def __enter__(self) -> LiveTree:
        return self

    def close(self) -> None:
        """Give the terminal its screen back; nothing is drawn any more."""
        with self._lock:
            self._closed = True
            if self._shown:
                self._write(_LEAVE)
                self._shown = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
