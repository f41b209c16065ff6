"""What ``stepwell ctl`` prints for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agent.interface.control.client import Process
from agent.interface.terminal.tables import Column, table_width, tables
from agent.interface.text import brief, duration, visible
from agent.interface.tree_view import call_text


def list_view(found: Sequence[Process], width: int, unicode: bool = True) -> RenderableType:
    """A row a search; in a narrow terminal in several tables, with the number of the search in each."""
    rows = [(process, each) for process in found for each in process.searches]
    if not rows:
        return Text("no search is under way", style="dim")
    shown = rows[:_LISTED]
    searches = [each for _, each in shown]
    label = Column("search", [f"{process.pid}/{each['id']}" for process, each in shown], left=True)
    figures = [
        Column("state", [_state(each) for each in searches], left=True),
        Column("spent", [_spent(each) for each in searches], left=True),
        Column("nodes", [str(each.get("nodes", "")) for each in searches]),
        Column("time", [duration(each["seconds"]) if "seconds" in each else "" for each in searches]),
        Column("strategy", [_strategy_name(each) for each in searches], left=True),
        Column("by", [visible(str(process.about.get("command"))) for process, _ in shown], left=True),
    ]
    room = min(_PROBLEM, width - table_width([label, Column("", [""])]))
    problems = [_fitting(" ".join(visible(str(each.get("problem", ""))).split()), room) for each in searches]
    parts = tables([label], [figures, [Column("problem", problems, left=True)]], width, unicode)
    left_out = sum(process.left_out for process in found) + max(0, len(rows) - _LISTED)
    if left_out:
        parts.append(Text(f"and {left_out} more; --json lists more of them", style="dim"))
    return Group(*parts)


_PROBLEM = 60  # columns of a terminal that a problem gets
_LISTED = 50  # searches that are shown to a person


def _fitting(text: str, width: int) -> str:
    """The beginning of a text that takes more columns."""
    return text if cell_len(text) <= width else f"{set_cell_size(text, width - 3).rstrip()}..."


def _state(search: dict[str, Any]) -> str:
    return str(search["state"]) + ("\n(model busy)" if search.get("busy") else "")


def _spent(search: dict[str, Any]) -> str:
    return f"{search['samples']:.1f} of {_limits(search)}".replace(", ", ",\n") if "samples" in search else ""


def _strategy_name(search: dict[str, Any]) -> str:
    strategy = search.get("strategy")
    return visible(str(strategy.get("name", ""))) if isinstance(strategy, dict) else ""


def _limits(search: dict[str, Any]) -> str:
    budget = search.get("budget") or {}
    return ", ".join(f"{value:g} {name}" for name, value in budget.items()) or "no limit"


def show_view(told: dict[str, Any]) -> RenderableType:
    """Figures, what people did, and the nodes."""
    search, leading = told["search"], told["leading"]
    parts: list[RenderableType] = [
        Text(f"search {search['id']} {search['state']}: {visible(brief(str(search['problem']), 200))}", style="bold"),
        Text(
            f"{search['samples']:.1f} of {_limits(search)}, {search['nodes']} nodes, {search['finished']} finished, "
            f"{duration(search['seconds'])}"
        ),
    ]
    if leading["node"] is not None:
        answer = f" {visible(leading['answer'])}" if leading.get("answer") else ""
        parts.append(Text(f"leading: node {leading['node']}{answer}, {leading['confidence']:.0%} of the vote"))
    for record in told["steering"]:
        parts.append(Text(record_text(record), style="yellow"))
    table = Table.grid(padding=(0, 1))
    for each in told["tree"]:
        score = "" if each["score"] is None else f"{each['score']:.2f}"
        flags = [name for name in ("pruned", "cut", "pinned") if each.get(name)]
        text = brief(visible(str(each.get("text", ""))), 100)
        answer = f" = {brief(visible(each['answer']))}" if each.get("answer") else ""
        table.add_row(
            Text(str(each["node"]), style="dim"),
            Text("  " * min(20, each["depth"]) + (text or each["status"]) + answer),
            score,
            f"x{each['count']}" if each["count"] > 1 else "",
            Text(" ".join(flags), style="dim"),
        )
    parts.append(table)
    if told["left_out"]:
        parts.append(Text(f"and {told['left_out']} more nodes (--rows)", style="dim"))
    return Group(*parts)


def record_text(record: dict[str, Any]) -> str:
    """What a person did, in a line."""
    what, who = str(record["what"]), visible(str(record.get("who", "")))
    node = f" {record['node']}" if record.get("node") is not None else ""
    change = ""
    if what in ("budget", "strategy", "only"):
        change = f" {_short(record['old'])} -> {_short(record['new'])}"
    elif what == "undo":
        change = f" {record.get('undone', '')}"
    elif record.get("text"):
        change = f" {brief(visible(str(record['text'])))!r}"
    made = f", nodes {', '.join(map(str, record['made'][:8]))}" if record.get("made") else ""
    return f"{who or 'somebody'}: {what}{node}{change}{made} (after {record.get('samples', 0):.1f} samples)"


def events_view(told: dict[str, Any]) -> RenderableType:
    """A line an event, and the cursor."""
    lines = []
    for event in told["events"]:
        rest = {key: value for key, value in event.items() if key not in ("cursor", "search", "kind", "at")}
        when = datetime.fromtimestamp(event["at"]).astimezone().strftime("%H:%M:%S")
        facts = "  ".join(f"{key} {visible(brief(str(value), 60))}" for key, value in rest.items() if value is not None)
        lines.append(Text(f"{event['cursor']:>6}  {when}  search {event['search']}  {event['kind']:<8}  {facts}"))
    if told["missed"]:
        lines.insert(0, Text(f"{told['missed']} events are too old and were dropped", style="yellow"))
    lines.append(Text(f"cursor {told['cursor']}", style="dim"))
    return Group(*lines)


def outcome_view(told: dict[str, Any]) -> RenderableType:
    """What a command did."""
    if told.get("pending"):
        return Text(f"{told['command']}: under way; the model is still busy", style="yellow")
    if not told["changed"]:
        return Text(f"{told['command']}: it was so already", style="dim")
    did = "would be done" if told["dry_run"] else "done"
    made = ""
    if "made" in told:
        made = f"; new nodes: {', '.join(map(str, told['made']))}" if told["made"] else "; nothing new was drawn"
    change = ""
    if told["command"] in ("budget", "strategy", "only"):
        change = f", {_short(told['old'])} -> {_short(told['new'])}"
    return Text(f"{told['command']}: {did}{change}{made}")


def _short(value: Any) -> str:
    """A budget, a strategy or some nodes, in words."""
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        return brief(visible(call_text(value["name"], value)))
    if isinstance(value, dict):
        parts = (f"{each:g} {key}" if isinstance(each, float) else f"{each} {key}" for key, each in value.items())
        return brief(visible(", ".join(parts))) or "no limit"
    if isinstance(value, list):
        return brief(visible(", ".join(map(str, value)))) or "everywhere"
    return brief(visible(str(value)))
