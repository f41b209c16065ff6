"""Figures of a study (extra ``study``).

Each function takes an open `agent.study.results_db.StudyFile` and returns a Figure.

A study of several environments, policies or verifiers has one panel for each combination; intervals are of 95 %.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullFormatter

from agent.build import NO_VERIFIER
from agent.study import analysis
from agent.study.results_db import StudyFile
from agent.study.table import GROUP

AXES = {"flops": "FLOPs per problem, policy and verifier", "samples": "samples per problem", "generated": "tokens"}
_SIZE = (5.2, 3.6)  # inches, of a panel


def accuracy_vs_compute(file: StudyFile, x: Literal["flops", "samples", "generated"] = "flops") -> Figure:
    """Accuracy of each strategy over what its budgets cost (log scale), with intervals."""
    colours = _colours(file)
    figure, panels = _panels(analysis.table(file))
    for axes, lines in panels:
        for strategy, line in lines.groupby("strategy", sort=False):
            line = line.sort_values(x)
            _errors(axes, line, x, label=strategy, color=colours[strategy], marker="o", capsize=2)
        _percent(axes)
        _logarithmic(axes, x)
        axes.legend(fontsize="small")
    return figure


def frontier(file: StudyFile) -> Figure:
    """What is worth its FLOPs: every line as a point, and the best accuracy that each amount of compute reaches.

    All policies and verifiers of an environment share a panel; only a line that beats everything cheaper is named.
    """
    table = analysis.table(file)
    environments = list(table["environment"].unique())
    figure = Figure(figsize=(_SIZE[0] * len(environments) * 1.25, _SIZE[1] * 1.25), layout="constrained")
    for axes, environment in zip(figure.subplots(1, len(environments), squeeze=False)[0], environments, strict=True):
        points = table[table["environment"] == environment].sort_values(["flops", "accuracy"])
        for policy, group in points.groupby("policy", sort=False):
            _errors(axes, group, "flops", label=policy, fmt="o", alpha=0.6, capsize=2)
        best = points[points["accuracy"] > points["accuracy"].shift(fill_value=-1.0).cummax()]
        steps = [*best["accuracy"], best["accuracy"].iloc[-1]]
        axes.step([*best["flops"], points["flops"].max()], steps, where="post", color="black", lw=1)
        for row in best.itertuples():
            axes.annotate(
                f"{row.strategy} @ {row.budget}",
                (row.flops, row.accuracy),
                xytext=(-3, 5),
                textcoords="offset points",
                fontsize="x-small",
                ha="right",
            )
        _percent(axes)
        axes.set_title(environment, fontsize="medium")
        axes.margins(x=0.15)
        _logarithmic(axes, "flops")
        axes.legend(fontsize="small", loc="lower right")
    return figure


def accuracy_by_difficulty(file: StudyFile, bins: Literal["absolute", "quantile"] = "absolute") -> Figure:
    """Bars: accuracy of each strategy at its largest budget, by bin of difficulty, with intervals."""
    colours = _colours(file)
    figure, panels = _panels(_largest_budgets(analysis.by_difficulty(file, bins)))
    for axes, lines in panels:
        names = list(dict.fromkeys(lines["bin"]))
        if bins == "absolute":
            names = [name for name in ("easy", "medium", "hard") if name in names]
        groups = list(lines.groupby(["strategy", "budget"], sort=False))
        width = 0.8 / len(groups)
        for at, ((strategy, budget), line) in enumerate(groups):
            places = [names.index(name) + (at + 0.5) * width - 0.4 for name in line["bin"]]
            axes.bar(places, line["accuracy"], width, label=f"{strategy} @ {budget}", color=colours[strategy])
            spread = [line["accuracy"] - line["low"], line["high"] - line["accuracy"]]
            axes.errorbar(places, line["accuracy"], yerr=[part.clip(lower=0) for part in spread], fmt="none",
                          ecolor="black", elinewidth=0.8, capsize=2)  # fmt: skip
        counts = lines.groupby("bin")["problems"].max()
        axes.set_xticks(range(len(names)), [f"{name}\n{counts[name]} problems" for name in names])
        _percent(axes)
        axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def votes_heat_map(file: StudyFile) -> Figure:
    """Accuracy of each strategy at its largest budget under every rule and aggregation, with half its interval.

    Raises:
        ValueError: when no line has scores.
    """
    frame = _largest_budgets(analysis.vote_sensitivity(file))
    if frame.empty:
        raise ValueError("no line of the study has scores")
    lines = list(frame.groupby(list(GROUP), sort=False))
    across = min(3, len(lines))
    down = -(-len(lines) // across)
    figure = Figure(figsize=(3.6 * across, 2.9 * down), layout="constrained")
    all_axes = list(figure.subplots(down, across, squeeze=False).flat)
    for axes, (labels, line) in zip(all_axes, lines, strict=False):
        grid = line.pivot(index="aggregate", columns="rule", values="accuracy")
        lows, highs = (line.pivot(index="aggregate", columns="rule", values=end) for end in ("low", "high"))
        low, high = frame["accuracy"].min(), frame["accuracy"].max()
        axes.imshow(grid, cmap="viridis", vmin=low, vmax=high, aspect="auto")
        for i, how in enumerate(grid.index):
            for j, rule in enumerate(grid.columns):
                shade = "black" if grid.loc[how, rule] > (low + high) / 2 else "white"
                text = f"{grid.loc[how, rule]:.1%}\n±{50 * (highs - lows).loc[how, rule]:.1f}"
                axes.text(j, i, text, ha="center", va="center", color=shade, fontsize="x-small")
        axes.set_xticks(range(len(grid.columns)), grid.columns)
        axes.set_yticks(range(len(grid.index)), grid.index)
        where = dict(zip(GROUP, labels, strict=True))
        title = f"{where['strategy']} @ {where['budget']}\n{where['policy']}, {where['verifier']}"
        axes.set_title(title, fontsize="small")
    for axes in all_axes[len(lines) :]:
        axes.set_visible(False)
    return figure


def reliability_diagram(file: StudyFile, how: str = "last", bins: int = 10) -> Figure:
    """The share of candidates that are right over their score, of each strategy at its largest budget.

    On the diagonal a score is the probability of being right.

    Raises:
        ValueError: when no line has scores.
    """
    frame = _largest_budgets(analysis.reliability(file, how, bins))
    if frame.empty:
        raise ValueError("no line of the study has scores")
    colours = _colours(file)
    figure, panels = _panels(frame)
    for axes, lines in panels:
        axes.plot([0, 1], [0, 1], color="grey", lw=0.8, ls="--")
        for (strategy, budget), line in lines.groupby(["strategy", "budget"], sort=False):
            spread = [(line["right"] - line["low"]).clip(lower=0), (line["high"] - line["right"]).clip(lower=0)]
            axes.errorbar(line["score"], line["right"], yerr=spread, label=f"{strategy} @ {budget}", marker="o", ms=3,
                          lw=1, elinewidth=0.5, color=colours[strategy])  # fmt: skip
        _percent(axes, "right")
        axes.set_xlabel(f"score ({how})")
        axes.legend(fontsize="x-small")
    return figure


FIGURES = {
    "accuracy-vs-compute": accuracy_vs_compute,
    "frontier": frontier,
    "accuracy-by-difficulty": accuracy_by_difficulty,
    "votes": votes_heat_map,
    "reliability": reliability_diagram,
}
"""All figures, by the name that ``stepwell report --plots`` gives their files."""


def _colours(file: StudyFile) -> dict[str, str]:
    """A colour for each strategy, the same in all panels."""
    strategies = dict.fromkeys(cell["strategy"] for cell in file.cells())
    return {strategy: f"C{at % 10}" for at, strategy in enumerate(strategies)}


def _largest_budgets(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of each strategy at the last of its budgets."""
    if frame.empty:
        return frame
    last = frame.drop_duplicates(["environment", "policy", "verifier", "strategy"], keep="last")[list(GROUP)]
    return frame.merge(last, on=list(GROUP))


def _panels(frame: pd.DataFrame) -> tuple[Figure, Iterator[tuple[Axes, pd.DataFrame]]]:
    """A figure with one panel per environment, policy and verifier; lines without a verifier are in each of theirs."""
    scored = frame[frame["verifier"] != NO_VERIFIER]
    setups = scored if len(scored) else frame
    keys = ["environment", "policy", "verifier"]
    combinations = list(setups[keys].drop_duplicates().itertuples(index=False, name=None))
    free = frame[["environment", "policy"]].drop_duplicates().itertuples(index=False, name=None)
    covered = {combination[:2] for combination in combinations}
    combinations += [(*each, NO_VERIFIER) for each in free if each not in covered]
    figure = Figure(figsize=(_SIZE[0] * len(combinations), _SIZE[1]), layout="constrained")
    all_axes = figure.subplots(1, len(combinations), squeeze=False, sharey=True)[0]

    def panels() -> Iterator[tuple[Axes, pd.DataFrame]]:
        for axes, (environment, policy, verifier) in zip(all_axes, combinations, strict=True):
            here = (frame["environment"] == environment) & (frame["policy"] == policy)
            lines = frame[here & frame["verifier"].isin([verifier, NO_VERIFIER])]
            title = f"{environment}: {policy}" + ("" if verifier == NO_VERIFIER else f", {verifier}")
            axes.set_title(title, fontsize="medium")
            yield axes, lines
            axes.label_outer(remove_inner_ticks=False)

    return figure, panels()


def _errors(axes: Axes, line: pd.DataFrame, x: str, **style: Any) -> None:
    spread = [(line["accuracy"] - line["low"]).clip(lower=0), (line["high"] - line["accuracy"]).clip(lower=0)]
    axes.errorbar(line[x], line["accuracy"], yerr=spread, **style)


def _logarithmic(axes: Axes, x: str) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.xaxis.set_minor_formatter(EngFormatter() if _narrow(axes) else NullFormatter())
    axes.tick_params(axis="x", which="minor", labelsize="x-small")
    axes.set_xlabel(AXES[x])


def _narrow(axes: Axes) -> bool:
    """Whether there may be no power of ten in sight."""
    low, high = axes.get_xlim()
    return bool(high < 10 * low)


def _percent(axes: Axes, what: str = "accuracy") -> None:
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_ylabel(what)
    axes.grid(alpha=0.3)
