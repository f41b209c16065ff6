"""The report on a trained process reward model as a table, with a verdict: whether a search is helped by it.

What is enough within a problem was seen in the lab: a model of 0.62 there lost to majority voting in every search. The
other two bounds are rules of thumb.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Bound:
    """What is enough of a figure of `verifiers.training.report.report`.

    Args:
        key: of the figure.
        name: for people.
        enough: the least, or the most if less is better, that is.
        says: what it tells.
        cure: what raises it.
        less: whether less is better.
    """

    key: str
    name: str
    enough: float
    says: str
    cure: str
    less: bool = False

    def met(self, value: float) -> bool:
        """Whether a value is enough."""
        return value <= self.enough if self.less else value >= self.enough


BOUNDS = (
    Bound("auroc", "AUROC", 0.75, "can this prefix still end right? 0.5 is chance", "more problems and rollouts"),
    Bound(
        "auroc_within",
        "within a problem",
        0.65,
        "which of two solutions is right? 0.5 is chance",
        "extra_layers: 2 or more, a better backbone, and problems that the policy solves now and then",
    ),
    Bound("ece", "ECE", 0.05, "how far scores are from frequencies", "more problems, uniform_weight: 1", less=True),
)
_OTHERS = {
    "auroc_all": "AUROC, finished ones included",
    "auroc_exact": "AUROC against the exact checker",
    "first_error": "first wrong step found",
    "first_error_wrong": "the same, of wrong solutions",
}


def report_table(report: Mapping[str, Any], width: int = 100) -> str:
    """The figures of a report, what is enough, and the verdict, as lines of text."""
    table = Table(box=None, pad_edge=False)
    for column in ("figure", "value", "enough", "what it says"):
        table.add_column(column, no_wrap=column != "what it says")
    for bound in BOUNDS:
        value = report.get(bound.key)
        wanted = f"{'<=' if bound.less else '>='} {bound.enough:g}"
        table.add_row(bound.name, _number(value), f"{wanted} {_mark(bound, value)}", bound.says)
    for key, name in _OTHERS.items():
        if report.get(key) is not None:
            table.add_row(name, _number(report[key]), "", "")
    console = Console(width=width, color_system=None, highlight=False)
    with console.capture() as made:
        console.print(table)
    counted = f"on {report['solutions']:,} held-out solutions, {report['unfinished_prefixes']:,} unfinished prefixes"
    return "\n".join([counted, *(line.rstrip() for line in made.get().splitlines()), verdict(report)])


def verdict(report: Mapping[str, Any]) -> str:
    """Whether the model is good enough to search with, and what to do if it is not."""
    unknown = [bound for bound in BOUNDS if report.get(bound.key) is None]
    if unknown:
        names = ", ".join(bound.name for bound in unknown)
        return f"verdict: cannot be told ({names}): the held-out problems all ended alike; take more of them (held_out)"
    short = [bound for bound in BOUNDS if not bound.met(report[bound.key])]
    if not short:
        return "verdict: enough to search with; next: stepwell calibrate"
    cures = "; ".join(f"{bound.name}: {bound.cure}" for bound in short)
    return f"verdict: too weak, a vote without it may do as well. What helps: {cures}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _mark(bound: Bound, value: float | None) -> str:
    return "" if value is None else "yes" if bound.met(value) else "no"
