"""The console that everything is printed on: what a stranger wrote is text there, never markup and never a command.

`agent.interface.text.visible` is applied to all that is printed, whoever prints it. Views that lay texts out apply it
themselves before, so that what they measure is what is shown. No string is read as rich markup or as the name of an
emoji: ``[a, b]`` and ``:x:`` are mathematics.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from agent.interface.text import visible


class PlainConsole(Console):
    """A rich console that shows texts as they are written.

    Where the output is no terminal, lines do not end in blanks: what fills a table up is for the eye only.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As the base class does, with the texts made visible; the codes that rich itself writes stay."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(visible(segment.text), segment.style)

    def print(self, *objects: Any, **options: Any) -> None:
        """As the base class does; see the class."""
        if self.is_terminal:
            super().print(*objects, **options)
            return
        with self.capture() as captured:
            super().print(*objects, **options)
        self.file.write(re.sub(r"[^\S\n]+$", "", captured.get(), flags=re.MULTILINE))
        self.file.flush()
