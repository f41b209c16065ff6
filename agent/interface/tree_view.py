"""How searches, solutions and results look in a terminal. Plain text where there is no colour and no Unicode.

A tick stands only where an answer is known to be right; `legend` tells what every sign means.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agent.interface.text import brief, duration, quantity, visible
from agent.search.context import Outcome
from agent.search.graph import SearchGraph
from agent.search.solution import Solution, leading_path
from agent.search.tree import Node

_BARS = " ▁▂▃▄▅▆▇█"
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


def visible_nodes(
    graph: SearchGraph, best: Sequence[int], rows: int, root: int = 0, size: int | None = None
) -> set[int]:
    """At most `rows` nodes worth showing: the best path first, then the most promising nodes with their ancestors.

    The root is always among them; a node is never shown without its parent.

    Args:
        graph: of the nodes.
        best: nodes of the best path.
        rows: nodes at most.
        root: only this node and what is below it.
        size: only nodes with a smaller number.
    """
    size = len(graph) if size is None else size
    inside = range(size) if root == 0 else _below(graph, root, size)
    shown = {root, *(node for node in best if node in inside)}
    if len(inside) <= rows:
        return {root, *inside}
    excluded = graph.steering.excluded

    def promise(node: int) -> tuple[bool, bool, float, int, int]:
        row = graph[node]
        return (row.count > 0, not row.pruned and node not in excluded, row.score or 0.0, row.visits, -node)

    for node in heapq.nlargest(rows + len(shown), inside, key=promise):
        if len(shown) >= rows:
            break
        lineage = set()
        while node not in shown:
            lineage.add(node)
            node = graph.parent(node) or 0
        if len(shown) + len(lineage) <= rows:
            shown |= lineage
    return shown


def _below(graph: SearchGraph, root: int, size: int) -> set[int]:
    """A node and all that is below it."""
    inside = {root}
    for node in range(root + 1, size):
        if graph.parent(node) in inside:
            inside.add(node)
    return inside


def legend(unicode: bool = True) -> list[tuple[str, str]]:
    """The signs of the tree, each with what it means."""
    signs = ("●", "▸", "■", "✓ ✗", "⊘", "×4", "+3", "n 5", "▆ 0.69") if unicode else (
        "*", ">", "[end]", "[right] [wrong]", "[cut off]", "x4", "+3", "n 5", "0.69"
    )  # fmt: skip
    meanings = (
        "on the path of the leading answer",
        "the search goes on from here: what a beam holds",
        "ended with an answer",
        "the answer that was chosen is right, is wrong: only where the right one is known",
        "ended without an answer",
        "drawn four times",
        "three more children that are not shown",
        "visited five times (mcts)",
        "the verifier's score of the step, from 0 to 1",
    )
    words = [
        ("dropped", "by the search: others scored higher; /why tells which"),
        ("cut", "by a person: nothing below is searched, or votes"),
        ("pinned", "by a person: it counts as promising, whatever its score"),
    ]
    return [*zip(signs, meanings, strict=True), *words]


def end_sign(graph: SearchGraph, node: int, correct: bool | None, unicode: bool) -> tuple[str, str] | None:
    """What stands behind a node that ended, and its style.

    Args:
        graph: of the node.
        node: any.
        correct: whether the answer that the search chose is right, if that is known.
        unicode: draw more than ASCII.
    """
    status, chosen = graph[node]["status"], graph.outcome
    if status == "truncated":
        return ("⊘" if unicode else "[cut off]"), "red"
    if status != "terminated":
        return None
    if correct is None or chosen is None or chosen.answer is None or graph[node]["answer"] != chosen.answer:
        return ("■" if unicode else "[end]"), "dim"
    if correct:
        return ("✓" if unicode else "[right]"), "green"
    return ("✗" if unicode else "[wrong]"), "red"


Row = tuple[tuple[str, str], ...]
"""A line of the tree: texts, each with its style. Rows that are equal look the same, and need not be drawn again."""


def search_tree(
    graph: SearchGraph,
    rows: int,
    width: int,
    unicode: bool = True,
    best: Sequence[int] | None = None,
    correct: bool | None = None,
    root: int = 0,
    always: Sequence[int] = (),
) -> RenderableType:
    """`tree_rows`, to be printed."""
    lines = tree_rows(graph, rows, width, unicode, best, correct, root, always=always)
    return Group(*(Text.assemble(*row, no_wrap=True, overflow="crop") for row in lines))


def tree_rows(
    graph: SearchGraph,
    rows: int,
    width: int,
    unicode: bool = True,
    best: Sequence[int] | None = None,
    correct: bool | None = None,
    root: int = 0,
    size: int | None = None,
    always: Sequence[int] = (),
) -> list[Row]:
    """The search tree in at most `rows` lines, the best path marked, each node with its number, score and count.

    Args:
        graph: finished or growing.
        rows: lines there are.
        width: columns there are.
        unicode: draw with box characters; with ASCII otherwise.
        best: nodes of the path to mark; the leading candidate's if not given.
        correct: whether the answer that was chosen is right, if that is known.
        root: draw what is below this node.
        size: draw the tree as it was when it had so many nodes, with the scores that it has now.
        always: children of the root that are drawn, whatever they promise.
    """
    size = len(graph) if size is None else size
    path = {node for node in (leading_path(graph) if best is None else best) if node < size}
    shown = visible_nodes(graph, sorted({*path, *always}), max(1, rows), root, size)
    pipe, fork, last, blank = ("│  ", "├─ ", "╰─ ", "   ") if unicode else ("|  ", "|- ", "`- ", "   ")
    asked, steering = set(graph.steering.asked), graph.steering
    found: list[tuple[int, str, str, Row, Row]] = []
    waiting = [(root, "", "")]  # not a recursion: a path may be longer than Python's stack
    while waiting:
        node, guide, joint = waiting.pop()
        row = graph[node]
        children = [child for child in graph.children(node) if child < size]
        kept = [child for child in children if child in shown]
        dropped = row.pruned or node in steering.excluded
        style = "bold" if node in path else "dim" if dropped or not row.count else ""
        text = graph.problem.question if node == 0 else row.text
        label = [(guide + joint, "dim"), (brief(visible(text), LABEL) or "(empty step)", style)]
        if reply := observed(row, unicode).plain:
            label.append((reply, "cyan"))
        if sign := end_sign(graph, node, correct, unicode):
            label.append((f" {sign[0]}", sign[1]))
        if len(children) > len(kept):
            label.append((f"  +{len(children) - len(kept)}", "dim"))
        marker = ("●" if unicode else "*") if node in path else ("▸" if unicode else ">") if node in asked else " "
        found.append((node, marker, _marks(graph, node, unicode), tuple(label), _score_cell(row, node, unicode)))
        below = guide + (blank if joint in ("", last) else pipe) if node != root else ""
        waiting += [(child, below, last if child == kept[-1] else fork) for child in reversed(kept)]
    return _lay_out(found, width, unicode)


def _score_cell(row: Node, node: int, unicode: bool) -> Row:
    if node == 0:
        return (("", ""),)
    text = score_text(row.score, unicode)
    return ((text.plain, str(text.style)),)


def _marks(graph: SearchGraph, node: int, unicode: bool) -> str:
    """What stands at the end of a row: visits, equal samples, what became of the node."""
    row, steering = graph[node], graph.steering
    marks = []
    if row.visits:
        marks.append(f"n {row.visits}")
    if row.count > 1:
        marks.append(f"×{row.count}" if unicode else f"x{row.count}")
    if node in steering.pinned:
        marks.append("pinned")
    if node in steering.cut:
        marks.append("cut")
    elif row.pruned and node not in steering.excluded:
        marks.append("dropped")
    return " ".join(marks)


def _lay_out(found: Sequence[tuple[int, str, str, Row, Row]], width: int, unicode: bool) -> list[Row]:
    """Cells in columns, the label cut where there is no more room."""
    numbers = max(len(str(node)) for node, *_ in found)
    scores = max(len(score[0][0]) for *_, score in found)
    marks = max(len(mark) for _, _, mark, _, _ in found)
    room = max(10, width - numbers - scores - marks - 5)
    labels = min(room, max(sum(cell_len(text) for text, _ in label) for *_, label, _ in found))
    rows = []
    for node, marker, mark, label, score in found:
        cells = [(f"{node:>{numbers}} ", "dim"), (f"{marker} ", "bold green")]
        left = labels
        for text, style in label:
            taken = cell_len(text)
            if taken > left:
                end = ("…" if unicode else "...") if left >= 3 else ""
                text = set_cell_size(text, left - len(end)) + end
                taken = left
            cells.append((text, style))
            left -= taken
        cells += [(" " * (left + 1), ""), (f"{score[0][0]:>{scores}}", score[0][1])]
        cells.append((f" {mark}" if mark else "", "dim"))
        rows.append(tuple(cell for cell in cells if cell[0]))
    return rows


def observed(row: Mapping[str, Any], unicode: bool = True) -> Text:
    """The environment's reply to the step of a node, in a line; empty if it gave none."""
    text = " ".join(visible(row["observation"]).split())
    more = ("…" if unicode else "...") if len(text) > OBSERVED else ""
    return Text(f" {'→' if unicode else '->'} {text[:OBSERVED]}{more}" if text else "", style="cyan")


def status_row(graph: SearchGraph, seconds: float, unicode: bool = True, lead: Outcome | None = None) -> Row:
    """One line of figures on a search under way: the leading answer, what is left of the budget, the tree."""
    lead = lead or graph.choice()
    budget, meter = graph.context.budget, graph.context.meter
    figures = [f"{graph.samples():.1f}" + (f" of {budget.samples:g}" if budget.samples else "") + " samples"]
    if (underway := graph.underway) is not None:
        figures.append(f"{underway.ended} of {underway.asked} have ended")
    if budget.tokens is not None:
        figures.append(f"{quantity(meter.generated + meter.prefilled)} of {quantity(budget.tokens)} tokens")
    if budget.flops is not None:
        figures.append(f"{quantity(meter.flops)} of {quantity(budget.flops, 'FLOP')}")
    figures += [f"{len(graph) - 1} nodes", f"{len(graph.finished())} finished"]
    figures.append(duration(seconds) + (f" of {duration(budget.seconds)}" if budget.seconds else ""))
    line = ((" · " if unicode else " | ").join(figures), "dim")
    if lead.answer is None and underway is not None and underway.leading is not None:
        answer, count = underway.leading
        return (
            ("so far: ", "dim"),
            (brief(visible(answer), 40), "bold"),
            (f" ({count} of {underway.ended})  ", ""),
            line,
        )
    if lead.answer is None:
        return (line,)
    share = f" ({lead.confidence:.0%})" if lead.confidence else ""  # what nothing has scored has no share
    return (("leading: ", "dim"), (brief(visible(lead.answer), 40), "bold"), (f"{share}  ", ""), line)


def search_rows(
    graph: SearchGraph, rows: int, width: int, seconds: float, unicode: bool = True, size: int | None = None
) -> list[Row]:
    """What is shown while a search runs: one line of figures, then the growing tree, or that of its first nodes."""
    lead = graph.choice()  # counted once: with many answers it is most of the work
    tree = tree_rows(graph, rows - 1, width, unicode, leading_path(graph, lead), size=size)
    if size is None or size >= len(graph):
        return [status_row(graph, seconds, unicode, lead), *tree]
    return [((f"{size} of {len(graph)} nodes, {duration(seconds)}", "dim"),), *tree]


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
    equivalents = spent.get("flop_equivalents", 0.0)
    return [
        f"{spent['samples']:.1f} sample-equivalents, {duration(spent['seconds'])}",
        f"policy {quantity(spent['generated'])} tokens generated, {quantity(spent['prefilled'])} read,"
        f" {quantity(spent['policy_flops'], 'FLOP')}",
        f"verifier {quantity(spent['verifier_tokens'])} tokens, {quantity(spent['verifier_flops'], 'FLOP')}",
        *([f"{quantity(equivalents, 'FLOP-equivalents')}, memory traffic included"] if equivalents else []),
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
        if solution.abstained:
            answer.append("  best guess", "yellow")
        facts.add_row("answer", answer)
        if solution.abstained and solution.plan is not None:
            sure = f"right with probability {solution.plan.get('probability', 0.0)}, less than asked for"
            facts.add_row("abstains", Text(visible(sure), style="yellow"))
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
    first = next((group for group in solution.groups if group.answer == solution.answer), None)
    if first is None:  # a person accepted the answer of a node that does not vote
        return "accepted by a person, without a vote"
    rest = [group for group in solution.groups if group is not first]
    others = ", ".join(f"{brief(visible(group.answer))} ({group.count})" for group in rest[:3])
    more = len(rest) - 3
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
        sign = end_sign(solution.graph, group.best.node, solution.correct, unicode)
        if sign and group.answer == solution.answer:
            answer.append(f" {sign[0]}", style=sign[1])
        share = f"{group.weight / total:.0%}" if total else "-"
        table.add_row(str(group.best.node), share, str(group.count), score_text(row["score"], unicode), answer)
    return table
