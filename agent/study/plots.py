"""Figures of a study (extra ``study``).

Each function takes an open `agent.study.results_db.StudyFile` and returns a Figure.

They are made to be printed: every strategy has a colour (of Okabe and Ito 2008, which the colour-blind can tell apart),
a marker and a line style of its own, the same in all figures; each figure says how many problems and which seeds it
rests on and what its bars are, and `save` writes PNG, PDF and SVG. Intervals are of 95 %. A study of several
environments, policies or verifiers has one panel for each combination. A figure that would say nothing raises
ValueError with the reason.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, wraps
from itertools import product
from pathlib import Path
from typing import Any, Literal, TypeVar, cast
from unicodedata import east_asian_width

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, FixedLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox

from agent.build import NO_VERIFIER
from agent.planning.plan_file import EASY, HARD
from agent.study import analysis
from agent.study.results_db import StudyFile
from agent.study.table import GROUP, short_labels, uniform_answers, uniform_votes

Compute = Literal["flops", "flop_equivalents", "generated", "samples"]
AXES: dict[str, str] = {
    "flops": "FLOPs per problem, policy and verifier",
    "flop_equivalents": "FLOP-equivalents per problem",
    "generated": "policy tokens generated per problem",
    "samples": "samples per problem",
}
_UNITS = {"flops": "FLOP", "flop_equivalents": "FLOP", "generated": "tokens", "samples": "samples"}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe-Ito, less its yellow
MARKERS = "os^DvPXp"
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
_Draw = TypeVar("_Draw", bound=Callable[..., Figure])
_FONT = "DejaVu Sans"  # comes with matplotlib
_TITLE = 8.0  # points
_STYLE: dict[str, Any] = {
    "font.size": 8, "axes.titlesize": _TITLE, "axes.labelsize": 8, "legend.fontsize": 7, "xtick.labelsize": 7,
    "ytick.labelsize": 7, "axes.spines.top": False, "axes.spines.right": False, "lines.markersize": 4,
    "lines.linewidth": 1.2, "legend.handlelength": 3.6,
    "pdf.fonttype": 42, "ps.fonttype": 42, "svg.hashsalt": "stepwell", "legend.frameon": False,
}  # fmt: skip
_DIVERGING = "PuOr"  # orange and purple, told apart by the colour-blind
_PANEL = (3.1, 2.5)  # inches
_ACROSS = 3  # panels beside each other at most
_NOTE = 6.5  # points, of the small print
_LEGEND = 48  # characters on a line of the legend
_BAR: dict[str, Any] = {"capsize": 2, "elinewidth": 0.7, "capthick": 0.7}


def _styled(draw: _Draw) -> _Draw:
    """A figure in our style, and in fonts that have the letters of the study's names."""

    @wraps(draw)
    def drawn(file: StudyFile, *options: Any, **named: Any) -> Figure:
        names = "".join(str(name) for cell in file.cells() for name in cell.values())
        with matplotlib.rc_context(_STYLE | {"font.family": fonts_for(names)}):
            return draw(file, *options, **named)

    return cast(_Draw, drawn)


def fonts_for(text: str) -> list[str]:
    """The families to draw a text in: matplotlib's own, and installed ones that have letters which it lacks."""
    families = [_FONT]
    lacking = set(text) - letters_of(_FONT)
    while lacking:
        others = sorted({font.name for font in fontManager.ttflist if font.style == "normal"} - {_FONT})
        best = max(others, key=lambda family: len(lacking & letters_of(family)), default=_FONT)
        if not lacking & letters_of(best):
            break
        families.append(best)
        lacking -= letters_of(best)
    return families


@cache
def letters_of(family: str) -> frozenset[str]:
    """The characters that a family of installed fonts has; none where it cannot be drawn, as fonts of bitmaps."""
    if family.startswith("Last Resort"):  # a box for every character
        return frozenset()
    try:
        font = get_font(findfont(FontProperties(family=family)))
        font.set_size(8, 72)
        return frozenset(map(chr, font.get_charmap()))
    except (RuntimeError, OSError):
        return frozenset()


@dataclass(frozen=True)
class Style:
    """How a strategy looks in all figures: keywords of matplotlib's, by ``vars(style)``."""

    color: str
    marker: str
    ls: Any

    @classmethod
    def number(cls, at: int) -> Style:
        """The look of the strategy with a number; 56 strategies look different."""
        return cls(COLOURS[at % len(COLOURS)], MARKERS[at % len(MARKERS)], LINES[at % len(LINES)])


@_styled
def accuracy_vs_compute(file: StudyFile, x: Compute | None = None) -> Figure:
    """Accuracy of each strategy over what its budgets cost (log scale), with intervals.

    Args:
        file: of the study.
        x: what the cost is counted in; by default the first of FLOPs, tokens and samples that is known of most lines.
    """
    table, x = _costed(_table(file), x)
    names = _Names(file)
    figure, panels = _panels(table)
    for axes, lines in panels:
        for strategy, line in lines.groupby("strategy", sort=False):
            _errors(axes, line.sort_values(x), x, "accuracy", **vars(names.style[strategy]))
        _percent(axes)
        logarithmic(axes, AXES[x])
    _legend(figure, names.handles(table["strategy"].unique()))
    _small_print(figure, file, names, [_sizes(table), "bars: 95 % intervals"])
    return figure


@_styled
def frontier(file: StudyFile) -> Figure:
    """What is worth its compute: every line as a point, and the best accuracy that each amount of compute reaches.

    All policies and verifiers of an environment share a panel. The lines that beat everything cheaper are numbered and
    told in the legend. They are picked on the very problems that they are shown on, which flatters them: the figure
    says so, and the band around the frontier is the interval of each picked line alone.
    """
    table, x = _costed(_table(file), None)
    names = _Names(file)
    environments = list(table["environment"].unique())
    figure, all_axes = _grid(len(environments), 1.3)
    handles: list[Line2D] = []
    labels = []
    for axes, environment in zip(all_axes, environments, strict=True):
        points = table[table["environment"] == environment].sort_values([x, "accuracy"])
        for row in points.itertuples():
            style = names.of_point(row.policy, row.strategy)
            _errors(axes, pd.DataFrame([row]), x, "accuracy", color=style.color, marker=style.marker, alpha=0.8)
        best = points[points["accuracy"] > points["accuracy"].shift(fill_value=-1.0).cummax()]
        _staircase(axes, best, x, points[x].max())
        _percent(axes)
        logarithmic(axes, AXES[x])
        _title(axes, environment)
        picked = list(enumerate(best.itertuples(), 1))
        everything = list(points[[x, "accuracy"]].itertuples(index=False, name=None))
        labels.append((axes, everything, [(str(number), (getattr(row, x), row.accuracy)) for number, row in picked]))
        heading = "frontier" if len(environments) == 1 else f"frontier, {environment}"
        handles.append(Line2D([], [], color="black", lw=1, label=_text(heading)))
        for number, row in picked:
            cost = EngFormatter(unit=_UNITS[x])(float(f"{getattr(row, x):.3g}"))
            told = f"{names.full(row)}: {row.accuracy:.0%} ({row.low:.0%} to {row.high:.0%}), {cost}"
            handles.append(Line2D([], [], ls="", marker=f"${number}$", ms=5, mew=0.2, color="black", label=_text(told)))
    _legend(figure, [*names.point_handles(table), *handles])
    _small_print(
        figure,
        file,
        names,
        [
            _sizes(table),
            "bars and band: 95 % intervals",
            "the frontier is picked on the same problems that it is shown on, which flatters it",
        ],
    )
    for axes, everything, numbered in labels:
        _place(figure, axes, everything, numbered)
    return figure


@_styled
def accuracy_by_difficulty(file: StudyFile, bins: Literal["absolute", "quantile"] = "absolute") -> Figure:
    """Accuracy of each strategy at its largest budget, by bin of difficulty, with intervals.

    Raises:
        ValueError: when the study has no independent samples to know the difficulty by
            (`agent.study.analysis.difficulty`).
    """
    names = _Names(file)
    frame = _largest_budgets(analysis.by_difficulty(file, bins))
    shown = len(frame.drop_duplicates(["strategy", "budget"]))
    figure, panels = _panels(frame, scale=max(1.0, 0.06 * shown * frame["bin"].nunique()))
    for axes, lines in panels:
        order = ["easy", "medium", "hard"] if bins == "absolute" else sorted(lines["bin"].unique())
        order = [name for name in order if name in set(lines["bin"])]
        groups = list(lines.groupby(["strategy", "budget"], sort=False))
        for at, ((strategy, _), line) in enumerate(groups):
            places = [order.index(name) + 0.8 * ((at + 0.5) / len(groups) - 0.5) for name in line["bin"]]
            style = names.style[strategy]
            _errors(axes, line.assign(place=places), "place", "accuracy", color=style.color, fmt=style.marker)
        counts = lines.groupby("bin")["problems"].max()
        axes.set_xticks(range(len(order)), [f"{name}\nn = {counts[name]}" for name in order])
        for border in range(1, len(order)):
            axes.axvline(border - 0.5, color="0.85", lw=0.6)
        axes.set_xlim(-0.5, len(order) - 0.5)
        _percent(axes)
    _legend(figure, names.handles(frame["strategy"].unique(), frame, lines=False))
    what = "five bins of equally many problems, 1 the easiest"
    if bins == "absolute":
        what = f"easy from {EASY:.0%}, medium from {HARD:.0%}, hard below"
    print_ = f"difficulty: share of the policy's own samples that are right (pass@1), {what}"
    _small_print(figure, file, names, [_seeds(file), "bars: 95 % intervals", print_])
    return figure


@_styled
def votes_heat_map(file: StudyFile) -> Figure:
    """Accuracy of each strategy at its largest budget under every rule and aggregation.

    The colour is the difference to the study's own vote, written below the accuracy with its paired interval.

    Raises:
        ValueError: when no line has scores, or no vote chooses otherwise than another
            (`agent.study.table.uniform_votes`).
    """
    silent = uniform_votes(file)
    frame = analysis.vote_sensitivity(file)
    if frame.empty:
        raise ValueError("no line of the study has scores")
    frame = _said(_largest_budgets(frame), silent)
    names, own = _Names(file), file.config["vote"]
    lines = list(frame.groupby(list(GROUP), sort=False))
    figure, all_axes = _grid(len(lines), 1.0)
    bound = max(0.01, frame["difference"].abs().max())
    norm = CenteredNorm(0, 100 * bound)
    for axes, (labels, line) in zip(all_axes, lines, strict=True):
        where = dict(zip(GROUP, labels, strict=True))
        values = {(row.aggregate, row.rule): row for row in line.itertuples()}
        ways, rules = list(dict.fromkeys(line["aggregate"])), list(dict.fromkeys(line["rule"]))
        grid = [[100 * values[how, rule].difference for rule in rules] for how in ways]
        axes.imshow(grid, cmap=_DIVERGING, norm=norm, aspect="auto")
        for (i, how), (j, rule) in product(enumerate(ways), enumerate(rules)):
            row = values[how, rule]
            text = f"{row.accuracy:.1%}"
            if row.difference or (rule, how) != (own["rule"], own["aggregate"]):
                span = (100 * each for each in (row.difference, row.difference_low, row.difference_high))
                text += "\n{:+.1f}\n({:+.1f} to {:+.1f})".format(*span)
            shade = "white" if abs(grid[i][j]) > 55 * bound else "black"
            axes.text(j, i, text, ha="center", va="center", color=shade, fontsize=5.5)
        axes.set_xticks(range(len(rules)), rules)
        axes.set_yticks(range(len(ways)), ways)
        axes.tick_params(length=0)
        title = f"{names.strategy[where['strategy']]} @ {where['budget']}, {where['policy']}, {where['verifier']}"
        _title(axes, title)
    label = f"points more than with the study's vote\n({own['rule']} of {own['aggregate']})"
    figure.colorbar(ScalarMappable(norm, _DIVERGING), ax=all_axes, shrink=0.8, label=label)
    left = [f"{environment} left out, as {why}" for environment, why in silent.items()]
    _small_print(figure, file, names, [_sizes(_table(file)), "differences with paired 95 % intervals", *left])
    return figure


@_styled
def reliability_diagram(file: StudyFile, how: str = "last", bins: int = 10) -> Figure:
    """The share of candidates that are right over their score, of each strategy at its largest budget.

    On the diagonal a score is the probability of being right.

    Raises:
        ValueError: when no line has scores, or the answers are all alike (`agent.study.table.uniform_answers`).
    """
    silent = uniform_answers(file)
    frame = analysis.reliability(file, how, bins)
    if frame.empty:
        raise ValueError("no line of the study has scores")
    frame = _said(_largest_budgets(frame), silent)
    names = _Names(file)
    figure, panels = _panels(frame)
    for axes, lines in panels:
        axes.plot([0, 1], [0, 1], color="0.6", lw=0.8)
        groups = list(lines.groupby("strategy", sort=False))
        for at, (strategy, line) in enumerate(groups):  # a little apart, or bars lie on top of each other
            apart = 0.5 / bins * ((at + 0.5) / len(groups) - 0.5)
            _errors(
                axes, line.assign(place=line["score"] + apart), "place", "right", lw=0.8, **vars(names.style[strategy])
            )
        _percent(axes, "candidates that are right")
        axes.set_xlabel(f"score ({how} of the steps)")
    _legend(figure, names.handles(frame["strategy"].unique(), frame))
    left = [f"{environment} left out, as {why}" for environment, why in silent.items()]
    bars = "bars: 95 % intervals, as if each problem had one candidate in a bin; strategies a little apart"
    _small_print(figure, file, names, [_sizes(_table(file)), bars, "grey line: a score that is a probability", *left])
    return figure


@_styled
def risk_coverage(file: StudyFile) -> Figure:
    """The share of wrong answers over the share of searches answered, the surest first; the largest budget of each.

    Raises:
        ValueError: when no line tells its searches apart by how sure they are.
    """
    frame = _largest_budgets(analysis.risk_coverage(file))
    several = frame.groupby(list(GROUP))["coverage"].transform("size") > 1 if len(frame) else frame.empty
    frame = frame[several] if len(frame) else frame
    if frame.empty or frame["risk"].nunique() == 1:
        raise ValueError("no line tells its searches apart by how sure they are")
    names = _Names(file)
    figure, panels = _panels(frame)
    for axes, lines in panels:
        for strategy, line in lines.groupby("strategy", sort=False):
            style = names.style[strategy]
            axes.plot(line["coverage"], line["risk"], color=style.color, ls=style.ls, drawstyle="steps-post")
            last = line.iloc[[-1]]
            _errors(axes, last, "coverage", "risk", **vars(style))
        _percent(axes, "wrong, of those answered")
        axes.set_xlabel("searches answered")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.set_xlim(0, 1.03)
        axes.set_ylim(bottom=0)
    _legend(figure, names.handles(frame["strategy"].unique(), frame))
    sure = "the surest first: the planner's own estimate, else the share of the vote"
    _small_print(figure, file, names, [_sizes(_table(file)), "bars: 95 % intervals where all are answered", sure])
    return figure


def accuracy_vs_equivalents(file: StudyFile) -> Figure:
    """`accuracy_vs_compute` over FLOP-equivalents; raises ValueError where the memory traffic is unknown."""
    return accuracy_vs_compute(file, "flop_equivalents")


FIGURES = {
    "accuracy-vs-compute": accuracy_vs_compute,
    "accuracy-vs-flop-equivalents": accuracy_vs_equivalents,
    "frontier": frontier,
    "accuracy-by-difficulty": accuracy_by_difficulty,
    "votes": votes_heat_map,
    "reliability": reliability_diagram,
    "risk-coverage": risk_coverage,
}
"""All figures, by the name that ``stepwell report --plots`` gives their files."""


@matplotlib.rc_context(_STYLE)
def save(figure: Figure, path: Path) -> list[Path]:
    """Write a figure as PNG (300 dpi), PDF (fonts embedded) and SVG; the same figure makes the same files.

    Args:
        figure: of this module, or any other.
        path: without a suffix.
    """
    made = []
    for suffix, metadata in ((".png", {}), (".pdf", {"CreationDate": None}), (".svg", {"Date": None})):
        made.append(path.with_name(path.name + suffix))
        figure.savefig(made[-1], dpi=300, metadata=metadata)
    return made


# -------------------------------------------------------------------------------------------------------- the numbers


def _table(file: StudyFile) -> pd.DataFrame:
    table = analysis.table(file)
    if table.empty:
        raise ValueError("no search is over of which it is known whether it is right")
    return table


def _costed(table: pd.DataFrame, x: Compute | None) -> tuple[pd.DataFrame, Compute]:
    """The lines whose cost is above 0 (a log scale has no other), and the measure that is so for most of them.

    The FLOPs of a served model may not be known; what failed at once cost nothing.
    """
    measures: list[Compute] = ["flops", "generated", "samples"] if x is None else [x]
    known = max(measures, key=lambda name: (table[name] > 0).sum())  # the first of equals
    costed = table[table[known] > 0]
    if costed.empty:
        raise ValueError(f"no cost of the searches is known ({', '.join(measures)})")
    return costed, known


def _largest_budgets(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of each strategy at the last of its budgets."""
    if frame.empty:
        return frame
    last = frame.drop_duplicates(["environment", "policy", "verifier", "strategy"], keep="last")[list(GROUP)]
    return frame.merge(last, on=list(GROUP))


def _said(frame: pd.DataFrame, silent: Mapping[str, str]) -> pd.DataFrame:
    """The rows of the environments that are not silent."""
    told = frame[~frame["environment"].isin(list(silent))]
    if told.empty:
        raise ValueError("; ".join(f"in {environment} {why}" for environment, why in silent.items()))
    return told


# ---------------------------------------------------------------------------------------------------------- the words


class _Names:
    """What strategies are called, and how they look, in every figure of a study."""

    def __init__(self, file: StudyFile) -> None:
        labels = list(dict.fromkeys(cell["strategy"] for cell in file.cells()))
        self.strategy, self.notes = short_labels(labels)
        self.style = {label: Style.number(at) for at, label in enumerate(labels)}
        self.policies = list(dict.fromkeys(cell["policy"] for cell in file.cells()))
        verifiers = {cell["verifier"] for cell in file.cells()} - {NO_VERIFIER}
        self._with_verifier = len(verifiers) > 1

    def handles(self, strategies: Sequence[str], frame: pd.DataFrame | None = None, lines: bool = True) -> list[Line2D]:
        """The legend of some strategies; with the budgets that they have in a frame, if one is given."""
        made = []
        for label in strategies:
            style, text = self.style[label], self.strategy[label]
            if frame is not None:
                budgets = dict.fromkeys(frame[frame["strategy"] == label]["budget"])
                text += f" @ {', '.join(budgets)}"
            made.append(Line2D([], [], label=_text(text), **vars(style if lines else replace(style, ls=""))))
        return made

    def of_point(self, policy: str, strategy: str) -> Style:
        """The look of a line in the frontier: where there are several policies, these have the colours."""
        style = self.style[strategy]
        if len(self.policies) == 1:
            return style
        return Style(Style.number(self.policies.index(policy)).color, style.marker, style.ls)

    def point_handles(self, table: pd.DataFrame) -> list[Line2D]:
        """The legend of the points of the frontier."""
        strategies = table["strategy"].unique()
        if len(self.policies) == 1:
            pairs = [(self.style[label].color, self.style[label].marker, self.strategy[label]) for label in strategies]
        else:
            pairs = [("0.3", self.style[label].marker, self.strategy[label]) for label in strategies]
        made = [Line2D([], [], ls="", color=colour, marker=marker, label=_text(name)) for colour, marker, name in pairs]
        if len(self.policies) > 1:
            shown = [(at, name) for at, name in enumerate(self.policies) if name in set(table["policy"])]
            made += [Line2D([], [], color=Style.number(at).color, lw=4, label=_text(name)) for at, name in shown]
        return made

    def full(self, row: Any) -> str:
        """A line of the study, as far as it is not clear what it is."""
        parts = [f"{self.strategy[row.strategy]} @ {row.budget}"]
        parts += [row.policy] if len(self.policies) > 1 else []
        parts += [row.verifier] if self._with_verifier and row.verifier != NO_VERIFIER else []
        return ", ".join(parts)


def _text(text: str) -> str:
    """A text that matplotlib takes as it is: no mathematics, and no underscore in front, which would hide it.

    A character that none of the fonts in use has is escaped, in place of a box that is the same for all of them.
    """
    letters = frozenset().union(*map(letters_of, matplotlib.rcParams["font.family"]))
    shown = (each if each in letters else each.encode("unicode_escape").decode() for each in " ".join(text.split()))
    escaped = "".join(shown).replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped


def _wrapped(text: str, letters: int) -> list[str]:
    """A text on lines as wide as so many letters; those of East Asia are twice as wide."""
    wide = sum(east_asian_width(each) in "WF" for each in text)
    return textwrap.wrap(text, max(1, letters * len(text) // (len(text) + wide or 1)), break_on_hyphens=False)


def _title(axes: Axes, text: str) -> None:
    """Write a title on as many lines as the width of the axes asks for."""
    place = axes.get_subplotspec()
    assert place is not None  # all of ours are cells of a grid
    width = axes.figure.get_figwidth() / place.get_gridspec().ncols  # type: ignore[union-attr]
    letters = int((width - 0.6) * 72 / (0.6 * _TITLE))
    axes.set_title("\n".join(_wrapped(_text(text), max(12, letters))))


def _sizes(table: pd.DataFrame) -> str:
    """How many problems each line rests on."""
    least, most = int(table["n"].min()), int(table["n"].max())
    return f"n = {most} problems" if least == most else f"n = {least} to {most} problems"


def _seeds(file: StudyFile) -> str:
    seeds = file.config["seeds"]
    return f"{'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}"


def _small_print(figure: Figure, file: StudyFile, names: _Names, parts: Sequence[str]) -> None:
    """What the figure rests on, below it."""
    seeds = [_seeds(file)] if _seeds(file) not in parts else []
    text = "; ".join([parts[0], *seeds, *parts[1:], *(f"everywhere {note}" for note in names.notes)])
    lines = _wrapped(_text(text), int(figure.get_figwidth() * 72 / _NOTE * 1.7))
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=_NOTE, color="0.25")


# --------------------------------------------------------------------------------------------------------- the drawing


def _grid(panels: int, scale: float = 1.0) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels, at most `_ACROSS` beside each other."""
    down = -(-panels // _ACROSS)
    across = -(-panels // down)
    figure = Figure(figsize=(_PANEL[0] * scale * across, _PANEL[1] * min(scale, 1.3) * down), layout="constrained")
    all_axes = list(figure.subplots(down, across, squeeze=False).flat)
    for axes in all_axes[panels:]:
        axes.remove()
    return figure, all_axes[:panels]


def _panels(frame: pd.DataFrame, scale: float = 1.0) -> tuple[Figure, Iterator[tuple[Axes, pd.DataFrame]]]:
    """A figure with one panel per environment, policy and verifier; lines without a verifier are in each of theirs."""
    scored = frame[frame["verifier"] != NO_VERIFIER]
    setups = scored if len(scored) else frame
    keys = ["environment", "policy", "verifier"]
    combinations = list(setups[keys].drop_duplicates().itertuples(index=False, name=None))
    free = frame[["environment", "policy"]].drop_duplicates().itertuples(index=False, name=None)
    covered = {combination[:2] for combination in combinations}
    combinations += [(*each, NO_VERIFIER) for each in free if each not in covered]
    figure, all_axes = _grid(len(combinations), scale)
    for axes in all_axes[1:]:
        axes.sharey(all_axes[0])

    def panels() -> Iterator[tuple[Axes, pd.DataFrame]]:
        for axes, (environment, policy, verifier) in zip(all_axes, combinations, strict=True):
            here = (frame["environment"] == environment) & (frame["policy"] == policy)
            lines = frame[here & frame["verifier"].isin([verifier, NO_VERIFIER])]
            title = f"{environment}: {policy}" + ("" if verifier == NO_VERIFIER else f", {verifier}")
            _title(axes, title)
            yield axes, lines

    return figure, panels()


def _legend(figure: Figure, handles: Sequence[Line2D]) -> None:
    """One legend for all panels, beside them; the figure gets as much wider and higher as that takes."""
    for handle in handles:
        handle.set_label("\n".join(_wrapped(str(handle.get_label()), _LEGEND)))
    legend = figure.legend(handles=handles, loc="outside right upper")
    box = legend.get_window_extent()
    width, height = (size / figure.dpi for size in (box.width, box.height))
    figure.set_size_inches(figure.get_figwidth() + width, max(figure.get_figheight(), height + 0.6))


def _errors(axes: Axes, line: pd.DataFrame, x: str, y: str, **style: Any) -> None:
    spread = [(line[y] - line["low"]).clip(lower=0), (line["high"] - line[y]).clip(lower=0)]
    axes.errorbar(line[x], line[y], yerr=spread, **_BAR, **style)


def _staircase(axes: Axes, best: pd.DataFrame, x: str, end: float) -> None:
    """The frontier, and the intervals of the lines that it is made of."""
    places = [*best[x], end]
    low, middle, high = ([*best[name], best[name].iloc[-1]] for name in ("low", "accuracy", "high"))
    axes.step(places, middle, where="post", color="black", lw=1, zorder=1)
    axes.fill_between(places, low, high, step="post", color="0.5", alpha=0.15, lw=0, zorder=0)


def logarithmic(axes: Axes, label: str) -> None:
    """Give axes on which everything is drawn a log scale of x with a few round ticks (`log_ticks`), and a label."""
    axes.set_xscale("log")
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(FixedLocator(log_ticks(*axes.get_xlim())))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.set_xlabel(label)


def log_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """At most `most` round numbers between two positive ones, as evenly as a log scale allows.

    Where a log scale has fewer than three such (600 to 900), they are those of a linear one.
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    sparse = [[10.0**decade for decade in decades if decade % step == 0] for step in range(len(decades), 0, -1)]
    parts = ((1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7))
    dense = [[part * 10.0**decade for decade in decades for part in each] for each in parts]
    found: list[float] = []
    for ticks in (*sparse, *dense):
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(found) < len(inside) <= most:
            found = inside
    if len(found) < 3:
        even = MaxNLocator(most - 1, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        linear = [float(tick) for tick in even if low <= tick <= high]
        found = max(found, linear, key=len)
    return found


def _percent(axes: Axes, what: str = "accuracy") -> None:
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_ylabel(what)
    axes.grid(alpha=0.3, lw=0.5)


Point = tuple[float, float]


def _place(figure: Figure, axes: Axes, points: Sequence[Point], labels: Sequence[tuple[str, Point]]) -> None:
    """Write short labels beside their points, where they touch no other label and none of the points.

    The layout is fixed by that: what is known of the places is known of this size alone.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    scale = figure.dpi / 72
    places = [axes.transData.transform(point) for point in points]
    taken = [Bbox.from_bounds(x - 3 * scale, y - 3 * scale, 6 * scale, 6 * scale) for x, y in places]
    ways = [(x * reach, y * reach) for reach in (7, 11, 15, 20) for x, y in
            ((-1, 1), (1, -1), (-1, 0), (1, 1), (-1, -1), (1, 0), (0, 1), (0, -1))]  # fmt: skip
    for text, point in labels:
        for way in ways:
            label = axes.annotate(text, point, xytext=way, textcoords="offset points", ha="center", va="center",
                                  fontsize=7, fontweight="bold", zorder=5)  # fmt: skip
            box = label.get_window_extent()
            inside = axes.bbox.contains(box.x0, box.y0) and axes.bbox.contains(box.x1, box.y1)
            if (inside and not any(box.overlaps(other) for other in taken)) or way == ways[-1]:
                taken.append(box)
                break
            label.remove()
