"""How a study that has not been run looks in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from agent.interface.terminal.tables import VOID, Column, tables
from agent.interface.text import brief, duration, json_text, unicode_of, visible
from agent.study.dry_run import DIFFERENCES, dry_run
from agent.study.run import study_problems
from agent.study.study import Study

if TYPE_CHECKING:
    from rich.console import Console


def show_dry_run(study: Study, out: Path, concurrency: int, as_json: bool, console: Console) -> None:
    """Print what a study would do."""
    plan = dry_run(study, study_problems(study, out), out, concurrency)
    if as_json:
        print(json_text(plan))
    else:
        console.print(dry_run_view(plan, console.width, unicode_of(console)))


def dry_run_view(plan: Mapping[str, Any], width: int, unicode: bool = True) -> Group:
    """What `agent.study.dry_run.dry_run` found out, `width` columns wide."""
    facts = Table.grid(padding=(0, 2))
    counts = f"{plan['cells']:,} cells, {plan['searches']:,} searches"
    rows = {"study": f"{counts}, {plan['done']:,} of them done"}
    for axis, labels in plan["axes"].items():
        rows[axis] = ", ".join(map(brief, labels))
    rows["problems"] = ", ".join(f"{n:,} of {brief(label)}" for label, n in plan["problems"].items())
    rows["problems"] += f" ({plan['split']} split)"
    rows["samples"] = "as many as the budgets allow" if plan["samples"] is None else f"at most {plan['samples']:,}"
    rows["time"] = _time(plan)
    rows["file"] = plan["file"]
    for name, text in rows.items():
        facts.add_row(Text(name, style="dim"), Text(visible(text)))
    n = min(plan["problems"].values())
    title = f"\nWhat {n:,} problems show of two strategies (paired, two-sided 5 %, power 80 %, one seed):"
    shows = plan["shows"]
    labels = [Column("problems that only\none of them solves", [f"{each['differing']:.0%}" for each in shows])]
    columns = [Column("least\ndifference", [_points(each["least_difference"]) for each in shows])]
    for difference in DIFFERENCES:
        needed = [each["problems_needed"].get(f"{difference:g}") for each in shows]
        cells = [VOID if each is None else f"{each:,}" for each in needed]
        columns.append(Column(f"problems for\n{100 * difference:g} points", cells))
    parts = [facts, Text(title), *tables(labels, [columns], width, unicode)]
    if any(each["least_difference"] is None for each in shows):
        few = f"{_TOO_FEW}: {n:,} problems cannot show any difference that such strategies can have; take more"
        parts.append(Text(f"({few})", style="dim"))
    if plan["measured"]:
        parts.append(Text(f"(the last row is the median of the comparisons in {plan['file']})", style="dim"))
    return Group(*parts)


_TOO_FEW = "too few"


def _points(share: float | None) -> str:
    return _TOO_FEW if share is None else f"{100 * share:.1f} points"


def _time(plan: Mapping[str, Any]) -> str:
    if plan["done"] == plan["searches"]:
        return "nothing is left to do"
    if plan["seconds"] is None:
        return (
            f"not known: no search of {plan['untimed']} of the cells has been timed. Run a few problems first"
            " (--set n=5 --out FILE), then --dry-run --out FILE"
        )
    return f"about {duration(plan['seconds'])} for what is left, {plan['concurrency']} searches at once, as in the file"
