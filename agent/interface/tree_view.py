"""How searches, solutions and results look in a terminal. Plain text where there is no colour and no Unicode.

A tick stands only where an answer is known to be right; `legend` tells what every sign means.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from agent.interface.text import brief, duration, quantity, unicode_of, visible
from agent.search.graph import SearchGraph
from agent.search.solution import Solution, leading_path

_BARS = " ▁▂▃▄▅▆▇█"
FRAME = 0.08  # seconds between two drawings of a growing tree
OBSERVED = 300  # characters of an observation that are shown
LABEL = 1000  # characters of a step that a row of the tree has at most
_STYLES = ((0.7, "green"), (0.3, "yellow"), (-math.inf, "red"))


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


def legend(unicode: bool = True) -> list[tuple[str, str]]:
    """The signs of the tree, each with what it means."""
    signs = ("●", "■", "✓ ✗", "⊘", "×4", "+3", "n 5", "▆ 0.69") if unicode else (
        "*", "[end]", "[right] [wrong]", "[cut]", "x4", "+3", "n 5", "0.69"
    )  # fmt: skip
    meanings = (
        "on the path of the leading answer",
        "ended with an answer",
        "the answer that was chosen is right, is wrong: only where the right one is known",
        "ended without an answer",
        "drawn four times",
        "three more children that are not shown",
        "visited five times (mcts)",
        "the verifier's score of the step, from 0 to 1",
    )
    return list(zip(signs, meanings, strict=True))


def _sign(graph: SearchGraph, node: int, correct: bool | None, unicode: bool) -> tuple[str, str] | None:
    """What stands behind a node that ended, and its style.

    Args:
        graph: of the node.
        node: any.
        correct: whether the answer that the search chose is right, if that is known.
        unicode: draw more than ASCII.
    """
    status, chosen = graph[node]["status"], graph.outcome
    if status == "truncated":
        return ("⊘" if unicode else "[cut]"), "red"
    if status != "terminated":
        return None
    if correct is None or chosen is None or chosen.answer is None or graph[node]["answer"] != chosen.answer:
        return ("■" if unicode else "[end]"), "dim"
    if correct:
        return ("✓" if unicode else "[right]"), "green"
    return ("✗" if unicode else "[wrong]"), "red"


def search_tree(
    graph: SearchGraph,
    rows: int,
    width: int,
    unicode: bool = True,
    best: Sequence[int] | None = None,
    correct: bool | None = None,
) -> Table:
    """The search tree in at most `rows` lines, the best path marked, each node with its number, score and count.

    Args:
        graph: finished or growing.
        rows: lines there are.
        width: columns there are.
        unicode: draw with box characters; with ASCII otherwise.
        best: nodes of the path to mark; the leading candidate's if not given.
        correct: whether the answer that was chosen is right, if that is known.
    """
    path = set(leading_path(graph) if best is None else best)
    shown = visible_nodes(graph, sorted(path), max(1, rows))
    pipe, fork, last, blank = ("│  ", "├─ ", "╰─ ", "   ") if unicode else ("|  ", "|- ", "`- ", "   ")
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True, width=1)
    table.add_column(no_wrap=True, overflow="ellipsis" if unicode else "crop", max_width=max(10, width - 24))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)

    waiting = [(0, "", "")]  # not a recursion: a path may be longer than Python's stack
    while waiting:
        node, guide, joint = waiting.pop()
        row = graph[node]
        children = graph.children(node)
        kept = [child for child in children if child in shown]
        on_path = node in path
        text = graph.problem.question if node == 0 else row["text"]
        style = "bold" if on_path else "dim" if row["pruned"] or not row["count"] else ""
        label = Text(guide + joint, style="dim")
        label.append(brief(visible(text), LABEL) or "(empty step)", style=style)
        label.append(observed(row, unicode))
        if sign := _sign(graph, node, correct, unicode):
            label.append(f" {sign[0]}", style=sign[1])
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
        waiting += [(child, below, last if child == kept[-1] else fork) for child in reversed(kept)]
    return table


def observed(row: Mapping[str, Any], unicode: bool = True) -> Text:
    """The environment's reply to the step of a node, in a line; empty if it gave none."""
    text = " ".join(visible(row["observation"]).split())
    more = ("…" if unicode else "...") if len(text) > OBSERVED else ""
    return Text(f" {'→' if unicode else '->'} {text[:OBSERVED]}{more}" if text else "", style="cyan")


def search_view(graph: SearchGraph, rows: int, width: int, seconds: float, unicode: bool = True) -> Group:
    """What is shown while a search runs: one line of figures, then the growing tree."""
    lead = graph.choice()
    limit = graph.context.budget.samples
    figures = [
        f"{graph.samples():.1f}" + (f" of {limit:g}" if limit else "") + " samples",
        f"{len(graph) - 1} nodes",
        f"{len(graph.finished())} finished",
        duration(seconds),
    ]
    line = Text((" · " if unicode else " | ").join(figures), style="dim", no_wrap=True, overflow="ellipsis")
    if lead.answer is not None:
        share = f" ({lead.confidence:.0%})" if lead.confidence else ""  # what nothing has scored has no share
        answer = brief(visible(lead.answer))
        line = Text.assemble(("leading: ", "dim"), (answer, "bold"), f"{share}  ", line)
        line.no_wrap, line.overflow = True, "ellipsis"
    return Group(line, search_tree(graph, rows - 1, width, unicode, leading_path(graph)))


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
        facts.append(f"answer {visible(row['answer'])}")
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
            text = visible(other["text"])
            parts.append(Text.assemble(f"  {child:>4}  ", score_text(other["score"], unicode), f"  {text}{note}"))
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
        text = Text(visible(row["text"])).append(observed(row, unicode))
        table.add_row(Text(str(step), style="dim"), text, score_text(row["score"], unicode))
    return table


def plan_lines(graph: SearchGraph) -> list[str]:
    """What was done and why, a line for each decision."""
    plan, strategy = graph.info.get("plan"), graph.info.get("strategy", {})
    if not plan:
        return [visible(f"{call_text(strategy.get('name', '?'), strategy)}, as asked")]
    return [visible(line) for line in (call_text(plan["strategy"], plan["knobs"]), *plan["reasons"])]


def call_text(name: str, knobs: Mapping[str, Any]) -> str:
    """A strategy with its knobs, e.g. ``beam (width 16, branch 4)``."""
    given = {key: value for key, value in knobs.items() if key != "name" and value is not False}
    text = ", ".join(key if value is True else f"{key} {_knob(value)}" for key, value in given.items())
    return f"{name} ({text})" if text else name


def _knob(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def cost_texts(spent: Mapping[str, Any]) -> list[str]:
    """What a search cost, policy and verifier apart; nothing where that was not recorded."""
    if not spent:
        return []
    return [
        f"{spent['samples']:.1f} sample-equivalents, {duration(spent['seconds'])}",
        f"policy {quantity(spent['generated'])} tokens generated, {quantity(spent['prefilled'])} read,"
        f" {quantity(spent['policy_flops'], 'FLOP')}",
        f"verifier {quantity(spent['verifier_tokens'])} tokens, {quantity(spent['verifier_flops'], 'FLOP')}",
    ]


def solution_view(solution: Solution, unicode: bool = True) -> Group:
    """A solution for people: the chosen steps with their scores, then `facts_view`.

    Without an answer, the steps are those of the most promising path.
    """
    facts = facts_view(solution, unicode)
    end = leading_path(solution.graph)[-1]
    if end == solution.graph.root:
        return Group(facts)
    return Group(steps_table(solution.graph, end, unicode), Text(""), facts)


def facts_view(solution: Solution, unicode: bool = True) -> Table:
    """The answer and how sure it is, the plan and why, the cost."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    if solution.answer is None:
        partial = "; the most promising path is shown" if len(leading_path(solution.graph)) > 1 else ""
        facts.add_row("answer", Text(f"none: no candidate finished{partial}", style="bold yellow"))
    else:
        answer = Text(visible(solution.answer), style="bold")
        if solution.correct is not None:
            right = ("  ✓ right" if unicode else "  right", "green")
            wrong = (f"  {'✗ ' if unicode else ''}wrong, {visible(str(solution.problem.answer))} is right", "red")
            answer.append(*(right if solution.correct else wrong))
        facts.add_row("answer", answer)
        facts.add_row("vote", Text(vote_text(solution)))
    for title, lines in (("plan", plan_lines(solution.graph)), ("cost", cost_texts(solution.spent))):
        for at, line in enumerate(lines):
            facts.add_row("" if at else title, Text(line))
    stopped = solution.graph.info.get("stopped", "finished")
    if stopped != "finished":
        facts.add_row("ended", Text(visible(stopped), style="yellow"))
    if solution.error is not None:
        facts.add_row("error", Text(visible(solution.error), style="red"))
    if solution.spent.get("unscored"):
        facts.add_row("warning", Text(f"{solution.spent['unscored']} steps got no score (NaN)", style="yellow"))
    return facts


def vote_text(solution: Solution) -> str:
    """The standing of the answers, heaviest first."""
    total = sum(group.count for group in solution.groups)
    first = solution.groups[0]
    others = ", ".join(f"{brief(visible(group.answer))} ({group.count})" for group in solution.groups[1:4])
    more = len(solution.groups) - 4
    text = f"{first.count} of {total} candidates"
    if solution.confidence or any(group.best.scores for group in solution.groups):
        text = f"{solution.confidence:.0%} of the vote, {text}"
    else:
        text += ", none of them scored"
    return text + (f"; others: {others}" if others else "") + (f" and {more} more" if more > 0 else "")


def answers_view(solution: Solution, unicode: bool = True) -> Table:
    """Every answer that was found, heaviest first: its votes, its best score, and the node that `/why` explains."""
    table = Table.grid(padding=(0, 2))
    for justify in ("right", "right", "right", "right", "left"):
        table.add_column(justify=justify, no_wrap=justify == "right")
    table.add_row(*(Text(name, style="dim") for name in ("node", "vote", "samples", "score", "answer")))
    total = sum(group.weight for group in solution.groups)
    for group in solution.groups:
        row = solution.graph[group.best.node]
        answer = Text(visible(group.answer))
        sign = _sign(solution.graph, group.best.node, solution.correct, unicode)
        if sign and group.answer == solution.answer:
            answer.append(f" {sign[0]}", style=sign[1])
        share = f"{group.weight / total:.0%}" if total else "-"
        table.add_row(str(group.best.node), share, str(group.count), score_text(row["score"], unicode), answer)
    return table


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
