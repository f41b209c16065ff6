"""One problem of a study in a terminal: the question, every search of it, and the paths that led to the answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agent.interface.terminal.tables import VOID, Column, table_width, tables
from agent.interface.text import brief, quantity, visible, wrapped
from agent.interface.tree_view import score_text
from agent.study.table import short_labels

_ANSWER = (16, 40)  # columns of a terminal that answers get, at least and at most; longer ones take several lines
_SHOWN = 120  # characters of an answer in the table; the path has all of it


def problem_view(report: Mapping[str, Any], width: int, unicode: bool = True) -> Group:
    """A problem of `agent.study.problem_report.problem_report`, `width` columns wide.

    Equal paths are shown once, with the cells that found them. Nothing is called right that is not known to be.
    """
    facts = Table.grid(padding=(0, 2))
    rows = {"problem": f"{report['problem']}: {report['id']}", "environment": brief(report["environment"])}
    rows |= {"question": report["question"], "gold answer": "none" if report["answer"] is None else report["answer"]}
    for key, value in report["meta"].items():
        rows.setdefault(key, brief(value if isinstance(value, str) else json.dumps(value)))
    for name, text in rows.items():
        facts.add_row(Text(visible(name), style="dim"), Text(visible(text)))
    searches = report["searches"]
    parts: list[RenderableType] = [facts]
    if searches:
        paths = _paths(searches)
        numbers = {at: str(number) for number, members in enumerate(paths, 1) for at in members}
        for title, members in _setups(searches).items():
            parts += [Text(visible(title), style="dim")] if title else []
            parts += tables(*_columns(searches, members, numbers, width), width, unicode)
        parts += [each for number, path in enumerate(paths, 1) for each in _path_view(number, path, searches, unicode)]
    if report["lacking"]:
        parts.append(Text(f"not searched yet: {_cells(report['lacking'])}", style="yellow"))
    return Group(*parts)


def _paths(searches: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """The searches, by their place in the list, that ended with the same path and verdict; in order of the first."""
    groups: dict[str, list[int]] = {}
    for at, search in enumerate(searches):
        if search["path"]:
            texts = [(step["text"], step["observation"]) for step in search["path"]]
            groups.setdefault(json.dumps([texts, search["answer"], search["correct"]]), []).append(at)
    return list(groups.values())


def _setups(searches: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """The searches, by their place in the list, of each policy and verifier, under a title; "" if there is but one."""
    names = {axis: short_labels(dict.fromkeys(each[axis] for each in searches))[0] for axis in ("policy", "verifier")}
    groups: dict[str, list[int]] = {}
    for at, search in enumerate(searches):
        title = ", ".join(f"{axis} {short[search[axis]]}" for axis, short in names.items())
        groups.setdefault(title, []).append(at)
    return groups if len(groups) > 1 else {"": list(range(len(searches)))}


def _columns(
    everything: Sequence[Mapping[str, Any]], members: Sequence[int], numbers: Mapping[int, str], width: int
) -> tuple[list[Column], list[list[Column]]]:
    """The labels of some searches, and what they found and cost."""
    short, _ = short_labels(dict.fromkeys(search["strategy"] for search in everything))
    searches = [everything[at] for at in members]
    labels = [Column("strategy", [visible(short[search["strategy"]]) for search in searches], left=True)]
    labels.append(Column("cell", [str(search["cell"]) for search in searches]))
    labels.append(Column("budget", [visible(search["budget"]) for search in searches]))
    if len({search["seed"] for search in everything}) > 1:
        labels.append(Column("seed", [str(search["seed"]) for search in searches]))
    verdicts = Column("verdict", [verdict(search) for search in searches], left=True)
    path = Column("path", [numbers.get(at, VOID) for at in members])
    room = width - table_width([*labels, verdicts, path, Column("", [""])])
    found = [Column("answer", [_answer(search, room) for search in searches], left=True), verdicts, path]
    costs = [search["cost"] for search in searches]
    cost = [
        Column("samples", [f"{each['samples']:.2f}" for each in costs]),
        Column("tokens", [quantity(each["policy_tokens"] + each["verifier_tokens"]) for each in costs]),
        Column("FLOP", [quantity(each["flops"]) for each in costs]),
        Column("seconds", [f"{each['seconds']:.2f}" for each in costs]),
    ]
    return labels, [found, cost]


def verdict(search: Mapping[str, Any]) -> str:
    """What is known of a search's answer, in a word."""
    if search["error"] is not None:
        return "failed"
    if search["answer"] is None:
        return "no answer"
    return "unknown" if search["correct"] is None else "right" if search["correct"] else "wrong"


def _answer(search: Mapping[str, Any], room: int) -> str:
    text = search["answer"] if search["error"] is None else search["error"]
    if text is None:
        return VOID
    least, most = _ANSWER
    return "\n".join(wrapped(brief(visible(text), _SHOWN), min(max(room, least), most))) or '""'


def _cells(numbers: Sequence[int]) -> str:
    return f"cell{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _path_view(
    number: int, members: Sequence[int], searches: Sequence[Mapping[str, Any]], unicode: bool
) -> list[RenderableType]:
    """A path once, with the scores of the first search that found it."""
    first = searches[members[0]]
    what = verdict(first)
    scores = {json.dumps([step["score"] for step in searches[at]["path"]]) for at in members}
    title = Text(f"\npath {number}, {_cells([searches[at]['cell'] for at in members])}: ", style="bold")
    title.append(what, style={"right": "green", "wrong": "red"}.get(what, ""))
    if first["answer"] is None:
        title.append("; the most promising trajectory")
    if len(scores) > 1:
        title.append(f"; the scores are those of cell {first['cell']}", style="dim")
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    for depth, step in enumerate(first["path"], 1):
        table.add_row(str(depth), score_text(step["score"], unicode), Text(visible(step["text"])))
        if step["observation"]:
            table.add_row("", "", Text(visible(f"{'→' if unicode else '->'} {step['observation']}"), style="dim"))
    return [title, table]
