"""Studies on the terminal: tables of results, votes, listings, progress."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.box import ASCII2, SIMPLE_HEAD, Box
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from agent.interface.text import brief, duration, quantity
from agent.study.progress import Progress as StudyProgress
from envs.plugins import Listed

# ----------------------------------------------------------------------------------------------------- evaluations


class _Eta(ProgressColumn):
    """Time left, or that it cannot be told yet."""

    def render(self, task: Task) -> Text:
        eta = task.fields["eta"]
        return Text("time left: too early to tell" if eta is None else f"about {duration(eta)} left", style="cyan")


class ProgressLine:
    """The progress bar of a study: a context manager to be called with each `agent.study.progress.Progress`.

    Where the terminal cannot redraw, a line is printed every ten seconds.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._printed = time.monotonic()
        self._bar = Progress(
            BarColumn(bar_width=None),
            TextColumn("{task.description}"),
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


def study_view(config: Mapping[str, Any], summaries: Sequence[Mapping[str, Any]], unicode: bool = True) -> Group:
    """The results of a study: for each environment, policy and verifier, accuracy (by level too) and cost of each line.

    Lines without a verifier have tables of their own only if there are several verifiers.
    """
    mark = "±" if unicode else "+-"
    parts: list[RenderableType] = []
    for environment, policy in dict.fromkeys((each["environment"], each["policy"]) for each in summaries):
        lines = [each for each in summaries if (each["environment"], each["policy"]) == (environment, policy)]
        verifiers = list(dict.fromkeys(line["verifier"] for line in lines))
        scoring = [name for name in verifiers if name != "none"]
        blocks = [lines]
        if len(scoring) > 1:
            blocks = [[line for line in lines if line["verifier"] == name] for name in verifiers]
        for block in blocks:
            verifier = next((line["verifier"] for line in block if line["verifier"] != "none"), "none")
            title = f"{brief(environment)} {config['split']}; policy {brief(policy)}, verifier {brief(verifier)}"
            parts += _setup_view(title, config, block, unicode, mark)
    parts.append(
        Text(
            f"{mark} is half the width of the 95 % interval; what a line cost is the mean per search; seconds are those"
            " of a search among others",
            style="dim",
        )
    )
    failed = sum(summary["errors"] for summary in summaries)
    if failed:
        parts.append(Text(f"{failed} searches failed and count as wrong; the file has their errors", style="yellow"))
    return Group(*parts)


def _setup_view(
    title: str, config: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], unicode: bool, mark: str
) -> list[RenderableType]:
    """The tables of one environment, policy and verifier."""
    box = SIMPLE_HEAD if unicode else ASCII2
    seeds = config["seeds"]
    title += (
        f", vote {config['vote']['rule']} of {config['vote']['aggregate']}, temperature {config['temperature']:g},"
        f" {config['n']} problems, {'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}"
    )
    levels = sorted({level for line in lines for level in line["levels"]})
    compared = next((line["versus"] for line in lines if "versus" in line), None)
    right = _columns(box, "right", "95 %", *(f"level {level}" if len(levels) <= 6 else level for level in levels))
    headers = ("samples", "policy tokens", "verifier tokens", "FLOP", "seconds")
    cost = _columns(box, *headers, *([f"versus {compared}"] if compared else []))
    for line in lines:
        names = (line["strategy"], line["budget"])
        if not line["n"]:
            right.add_row(*names, "-")
            cost.add_row(*names, "-")
            continue
        (low, high), spent = line["interval"], line["cost"]
        right.add_row(
            *names,
            f"{line['accuracy']:.1%}" + (f" of {line['n']}" if line["n"] < config["n"] else ""),
            f"{100 * low:.1f} to {100 * high:.1f}",
            *(_level_text(line["levels"].get(level), mark) for level in levels),
        )
        difference = line.get("difference")
        cost.add_row(
            *names,
            f"{spent['samples']:.2f}",
            quantity(spent["generated"] + spent["prefilled"]),
            quantity(spent["verifier_tokens"]),
            quantity(spent["policy_flops"] + spent["verifier_flops"]),
            f"{spent['seconds']:.2f}",
            *(["{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * part for part in difference))] if difference else []),
        )
    return [Text(title, style="dim"), right, cost]


def votes_view(tables: Sequence[tuple[str, Mapping[tuple[str, str], float]]], unicode: bool = True) -> Group:
    """Accuracy under every vote, by line of a study: a title and the accuracy by (rule, aggregate)."""
    parts: list[RenderableType] = []
    for title, accuracies in tables:
        rules, ways = (list(dict.fromkeys(key[at] for key in accuracies)) for at in (0, 1))
        table = Table(box=SIMPLE_HEAD if unicode else ASCII2, pad_edge=False)
        table.add_column("scores")
        for rule in rules:
            table.add_column(rule, justify="right")
        for how in ways:
            table.add_row(how, *(f"{accuracies[rule, how]:.1%}" for rule in rules))
        parts += [Text(title, style="dim"), table]
    return Group(*parts)


def _columns(box: Box, *headers: str) -> Table:
    table = Table(box=box, pad_edge=False)
    table.add_column("strategy", overflow="ellipsis")
    for header in ("budget", *headers):
        table.add_column(header, justify="right")
    return table


def _level_text(level: Mapping[str, Any] | None, mark: str) -> str:
    if level is None:
        return "-"
    low, high = level["interval"]
    return f"{level['accuracy']:.0%} {mark}{(high - low) * 50:.0f}"


def listing(groups: Mapping[str, Sequence[Listed]]) -> Table:
    """Names with a line each, under titles; what failed to load is red."""
    table = Table.grid(padding=(0, 2))
    for at, (title, entries) in enumerate(groups.items()):
        if at:
            table.add_row("")
        table.add_row(Text(title, style="bold"))
        for entry in entries:
            table.add_row(Text(f"  {entry.name}"), Text(entry.line, style="red" if entry.failure else "dim"))
        if not entries:
            table.add_row(Text("  (none)", style="dim"))
    return table
