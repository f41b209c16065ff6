"""How searches, solutions and results look in a terminal. Plain text where there is no colour and no Unicode."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from agent.graph import SearchGraph
from agent.progress import Progress as StudyProgress
from agent.solver import Solution, leader

_BARS = " ▁▂▃▄▅▆▇█"
FRAME = 0.08  # seconds between two drawings of a growing tree
OBSERVED = 300  # characters of an observation that are shown
_STYLES = ((0.7, "green"), (0.3, "yellow"), (-math.inf, "red"))


def unicode_of(console: Console) -> bool:
    """Whether the terminal can show more than ASCII."""
    return console.encoding.lower().startswith("utf")


def brief(text: str, most: int = 100) -> str:
    """A text on one line, cut if it is long: options may hold a template of pages."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 3]}..."


def quantity(number: float, unit: str = "") -> str:
    """A count in at most four characters and a prefix: 950, 12.3 k, 4.56 G."""
    for size, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g} {prefix}{unit}"
    text = f"{number:.0f}" if number == int(number) else f"{number:.3g}"
    return f"{text} {unit}".rstrip()


def duration(seconds: float) -> str:
    """Seconds as people say them: 0.42 s, 12 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 10:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def score_text(score: float | None, unicode: bool = True) -> Text:
    """A step score with a small bar; a dash where there is none."""
    if score is None or math.isnan(score):
        return Text("  –   " if unicode else "  -   ", style="dim")
    style = next(style for least, style in _STYLES if score >= least)
    bar = _BARS[min(8, max(0, round(score * 8)))] + " " if unicode else ""
    return Text(f"{bar}{score:.2f}", style=style)


# ----------------------------------------------------------------------------------------------------------- the tree


def visible_nodes(graph: SearchGraph, best: Sequence[int], rows: int) -> set[int]:
    """At most `rows` nodes worth showing: the best path first, then the most promising nodes with their ancestors.

    The root is always among them; a node is never shown without its parent.
    """
    shown = {0, *best}
    data = graph.graph.nodes

    def promise(node: int) -> tuple[bool, bool, float, int, int]:
        row = data[node]
        score = row["score"] if row["score"] is not None else 0.0
        return (row["count"] > 0, not row["pruned"], score, row["visits"], -node)

    for node in sorted(data, key=promise, reverse=True):
        if len(shown) >= rows:
            break
        lineage = set(graph.path(node)) - shown
        if len(shown) + len(lineage) <= rows:
            shown |= lineage
    return shown


def search_tree(
    graph: SearchGraph, rows: int, width: int, unicode: bool = True, best: Sequence[int] | None = None
) -> Table:
    """The search tree in at most `rows` lines, the best path marked, each node with its number, score and count.

    Args:
        graph: finished or growing.
        rows: lines there are.
        width: columns there are.
        unicode: draw with box characters; with ASCII otherwise.
        best: nodes of the path to mark; the leading candidate's if not given.
    """
    path = set(leader(graph).path if best is None else best)
    shown = visible_nodes(graph, sorted(path), max(1, rows))
    pipe, fork, last, blank = ("│  ", "├─ ", "╰─ ", "   ") if unicode else ("|  ", "|- ", "`- ", "   ")
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True, width=1)
    table.add_column(no_wrap=True, overflow="ellipsis" if unicode else "crop", max_width=max(10, width - 24))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)

    def draw(node: int, guide: str, joint: str) -> None:
        row = graph[node]
        children = graph.children(node)
        kept = [child for child in children if child in shown]
        on_path = node in path
        text = graph.problem.question if node == 0 else row["text"]
        style = "bold" if on_path else "dim" if row["pruned"] or not row["count"] else ""
        label = Text(guide + joint, style="dim")
        label.append(" ".join(text.split()) or "(empty step)", style=style)
        label.append(observed(row, unicode))
        if row["status"] == "terminated":
            label.append(" ✓" if unicode else " [done]", style="green" if on_path else "dim green")
        elif row["status"] == "truncated":
            label.append(" ✗" if unicode else " [cut]", style="red")
        if len(children) > len(kept):
            label.append(f"  +{len(children) - len(kept)}", style="dim")
        marks = []
        if row["visits"]:
            marks.append(f"n {row['visits']}")
        if row["count"] > 1:
            marks.append(f"×{row['count']}" if unicode else f"x{row['count']}")
        table.add_row(
            Text(str(node), style="dim"),
            Text(("●" if unicode else "*") if on_path else " ", style="bold green"),
            label,
            Text("") if node == 0 else score_text(row["score"], unicode),
            Text(" ".join(marks), style="dim"),
        )
        below = guide + (blank if joint in ("", last) else pipe) if node else ""
        for child in kept:
            draw(child, below, last if child == kept[-1] else fork)

    draw(0, "", "")
    return table


def observed(row: Mapping[str, Any], unicode: bool = True) -> Text:
    """The environment's reply to the step of a node, in a line; empty if it gave none."""
    text = " ".join(row["observation"].split())
    more = ("…" if unicode else "...") if len(text) > OBSERVED else ""
    return Text(f" {'→' if unicode else '->'} {text[:OBSERVED]}{more}" if text else "", style="cyan")


def search_view(graph: SearchGraph, rows: int, width: int, seconds: float, unicode: bool = True) -> Group:
    """What is shown while a search runs: one line of figures, then the growing tree."""
    lead = leader(graph)
    limit = graph.info.get("budget", {}).get("samples")
    figures = [
        f"{graph.samples():.1f}" + (f" of {limit:g}" if limit else "") + " samples",
        f"{len(graph) - 1} nodes",
        f"{len(graph.finished())} finished",
        duration(seconds),
    ]
    line = Text((" · " if unicode else " | ").join(figures), style="dim", no_wrap=True, overflow="ellipsis")
    if lead.answer is not None:
        share = f" ({lead.confidence:.0%})" if lead.confidence else ""  # what nothing has scored has no share
        line = Text.assemble(("leading: ", "dim"), (lead.answer, "bold"), f"{share}  ", line)
        line.no_wrap, line.overflow = True, "ellipsis"
    return Group(line, search_tree(graph, rows - 1, width, unicode, lead.path))


def explain_node(graph: SearchGraph, node: int, unicode: bool = True) -> Group:
    """Why a node is in the tree and what became of it: its path with scores, its figures, its siblings.

    Raises:
        ValueError: when there is no such node.
    """
    if node not in graph.graph:
        raise ValueError(f"no node {node}; the tree has nodes 0 to {len(graph) - 1}")
    row = graph[node]
    parts: list[RenderableType] = [steps_table(graph, node, unicode)]
    facts = [f"status {row['status']}"]
    if row["answer"] is not None:
        facts.append(f"answer {row['answer']}")
    if row["score"] is not None:
        facts.append(f"score {row['score']:.4f}")
    facts.append(f"value {row['value']:.4f}" if row["value"] is not None else "no value")
    if row["visits"]:
        facts.append(f"visits {row['visits']}")
    facts += [f"sampled {row['count']} times", f"{row['tokens']} tokens", f"log-probability {row['logprob']:.2f}"]
    notes = {"pruned": row["pruned"], "rollout only": node and not row["count"], "no score: NaN": row["unscored"]}
    facts += [note for note, holds in notes.items() if holds]
    parts.append(Text((" · " if unicode else " | ").join(facts)))
    if node:
        parent = graph.parent(node)
        siblings = sorted(
            (child for child in graph.children(parent if parent is not None else 0) if child != node),
            key=lambda child: -(graph[child]["score"] or 0.0),
        )
        parts.append(Text(f"siblings: {len(siblings)}", style="dim"))
        for child in siblings[:8]:
            other = graph[child]
            note = " pruned" if other["pruned"] else ""
            parts.append(
                Text.assemble(f"  {child:>4}  ", score_text(other["score"], unicode), f"  {other['text']}{note}")
            )
        if len(siblings) > 8:
            parts.append(Text(f"  and {len(siblings) - 8} more", style="dim"))
    return Group(*parts)


# ------------------------------------------------------------------------------------------------------- solutions


def steps_table(graph: SearchGraph, node: int, unicode: bool = True) -> Table:
    """The steps from the root to a node, each with its number in the tree and its score."""
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    for step, at in enumerate(graph.path(node)[1:], 1):
        row = graph[at]
        text = Text(row["text"]).append(observed(row, unicode))
        table.add_row(Text(str(step), style="dim"), text, score_text(row["score"], unicode))
    return table


def plan_text(graph: SearchGraph) -> str:
    """What was done and why."""
    plan, strategy = graph.info.get("plan"), graph.info.get("strategy", {})
    if not plan:
        return f"{_call(strategy.get('name', '?'), strategy)}, as asked"
    return f"{_call(plan['strategy'], plan['knobs'])}: {'; '.join(plan['reasons'])}"


def _call(name: str, knobs: Mapping[str, Any]) -> str:
    given = {key: value for key, value in knobs.items() if key != "name" and value is not False}
    text = ", ".join(key if value is True else f"{key} {value:g}" for key, value in given.items())
    return f"{name} ({text})" if text else name


def cost_texts(spent: Mapping[str, Any]) -> list[str]:
    """What a search cost, policy and verifier apart."""
    return [
        f"{spent['samples']:.1f} sample-equivalents, {duration(spent['seconds'])}",
        f"policy {quantity(spent['generated'])} tokens generated, {quantity(spent['prefilled'])} read,"
        f" {quantity(spent['policy_flops'], 'FLOP')}",
        f"verifier {quantity(spent['verifier_tokens'])} tokens, {quantity(spent['verifier_flops'], 'FLOP')}",
    ]


def solution_view(solution: Solution, unicode: bool = True) -> Group:
    """A solution for people: the chosen steps with their scores, then `facts_view`."""
    facts = facts_view(solution, unicode)
    if solution.node is None:
        return Group(facts)
    return Group(steps_table(solution.graph, solution.node, unicode), Text(""), facts)


def facts_view(solution: Solution, unicode: bool = True) -> Table:
    """The answer and how sure it is, the plan and why, the cost."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    if solution.answer is None:
        facts.add_row("answer", Text("none: no candidate finished", style="bold yellow"))
    else:
        answer = Text(solution.answer, style="bold")
        if solution.correct is not None:
            right = ("  ✓ right" if unicode else "  right", "green")
            wrong = (f"  {'✗ ' if unicode else ''}wrong, {solution.problem.answer} is right", "red")
            answer.append(*(right if solution.correct else wrong))
        facts.add_row("answer", answer)
        facts.add_row("vote", vote_text(solution))
    facts.add_row("plan", plan_text(solution.graph))
    for at, line in enumerate(cost_texts(solution.spent)):
        facts.add_row("" if at else "cost", line)
    if solution.graph.info["stopped"] != "finished":
        facts.add_row("ended", Text(solution.graph.info["stopped"], style="yellow"))
    if solution.spent.get("unscored"):
        facts.add_row("warning", Text(f"{solution.spent['unscored']} steps got no score (NaN)", style="yellow"))
    return facts


def vote_text(solution: Solution) -> str:
    """The standing of the answers, heaviest first."""
    total = sum(group.count for group in solution.groups)
    first = solution.groups[0]
    others = ", ".join(f"{group.answer} ({group.count})" for group in solution.groups[1:4])
    more = len(solution.groups) - 4
    text = f"{first.count} of {total} candidates"
    if solution.confidence or any(group.best.scores for group in solution.groups):
        text = f"{solution.confidence:.0%} of the vote, {text}"
    else:
        text += ", none of them scored"
    return text + (f"; others: {others}" if others else "") + (f" and {more} more" if more > 0 else "")


# ---------------------------------------------------------------------------------------------------- live drawing


class Drawing:
    """Draws the growing tree, at most every `FRAME` seconds. Called with the graph in the thread that searches.

    Only that thread reads the graph while it grows; the terminal is shared through `rich.live.Live`, which locks.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.started = time.monotonic()
        self._last = 0.0
        self._live = Live(console=console, auto_refresh=False, transient=True, vertical_overflow="crop")

    def __call__(self, graph: SearchGraph) -> None:
        """Draw, unless that was just done."""
        now = time.monotonic()
        if now - self._last >= FRAME:
            rows, width = max(3, self.console.height - 2), self.console.width - 1
            view = search_view(graph, rows, width, now - self.started, unicode_of(self.console))
            self._live.update(view, refresh=True)
            self._last = time.monotonic()

    def __enter__(self) -> Drawing:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()


# ----------------------------------------------------------------------------------------------------- evaluations


class _Eta(ProgressColumn):
    """Time left, or that it cannot be told yet."""

    def render(self, task: Task) -> Text:
        eta = task.fields["eta"]
        return Text("time left: too early to tell" if eta is None else f"about {duration(eta)} left", style="cyan")


class ProgressLine:
    """The progress bar of a study: a context manager to be called with each `agent.progress.Progress`.

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


def listing(groups: Mapping[str, Mapping[str, str]]) -> Table:
    """Names with a line each, under titles."""
    table = Table.grid(padding=(0, 2))
    for at, (title, entries) in enumerate(groups.items()):
        if at:
            table.add_row("")
        table.add_row(Text(title, style="bold"))
        for name, what in entries.items():
            table.add_row(f"  {name}", Text(what, style="dim"))
        if not entries:
            table.add_row(Text("  (none)", style="dim"))
    return table
