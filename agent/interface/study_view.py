"""Studies on the terminal: tables of results, votes, listings, progress."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from agent.interface.text import duration, quantity, visible
from agent.study.progress import Progress as StudyProgress
from envs.plugins import Listed

# ----------------------------------------------------------------------------------------------------- evaluations


class _Eta(ProgressColumn):
    """Time left, or that it cannot be told yet; nothing when all is done."""

    def render(self, task: Task) -> Text:
        eta = task.fields["eta"]
        left = "time left: too early to tell" if eta is None else f"about {duration(eta)} left"
        return Text("" if task.finished else left, style="cyan", no_wrap=True)


class ProgressLine:
    """The progress bar of a study: a context manager to be called with each `agent.study.progress.Progress`.

    Where the terminal cannot redraw, a line is printed every ten seconds.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._printed = time.monotonic()
        self._bar = Progress(
            BarColumn(bar_width=None),
            TextColumn("{task.description}", markup=False),
            _Eta(),
            console=console,
            expand=True,
            disable=not console.is_interactive,
        )
        self._task = self._bar.add_task("", total=1.0, eta=None)

    def __call__(self, progress: StudyProgress) -> None:
        """Show where the study stands."""
        parts = [f"{progress.cells_done}/{progress.cells} cells"] if progress.cells > 1 else []
        parts += [f"{progress.done}/{progress.total} problems"]
        parts += [f"{progress.correct / progress.done:.1%} right"] if progress.done else []
        parts += [f"{quantity(progress.tokens)} tokens"] if progress.tokens else []
        parts += [f"{progress.errors} failed"] if progress.errors else []
        text = "  ".join(parts)
        self._bar.update(self._task, description=text, completed=progress.fraction, eta=progress.eta)
        if self._bar.disable and time.monotonic() - self._printed >= 10:
            left = "" if progress.eta is None else f"  about {duration(progress.eta)} left"
            self.console.print(text + left, soft_wrap=True)
            self._printed = time.monotonic()

    def __enter__(self) -> ProgressLine:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


def listing(groups: Mapping[str, Sequence[Listed]]) -> Table:
    """Names with a line each, under titles; what failed to load is red."""
    table = Table.grid(padding=(0, 2))
    for at, (title, entries) in enumerate(groups.items()):
        if at:
            table.add_row("")
        table.add_row(Text(title, style="bold"))
        for entry in entries:
            line = Text(visible(entry.line), style="red" if entry.failure else "dim")
            table.add_row(Text(visible(f"  {entry.name}")), line)
        if not entries:
            table.add_row(Text("  (none)", style="dim"))
    return table
