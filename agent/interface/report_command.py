"""What ``stepwell report`` prints and writes, and what a study shows when it is over."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.interface.problem_view import problem_view
from agent.interface.study_tables import study_view, votes_view
from agent.interface.text import json_text, unicode_of, visible
from agent.study.problem_report import find_problems, problem_report
from agent.study.results_db import StudyFile
from agent.study.table import revoted, summarize, uniform_votes, vote_table
from agent.study.table_formats import FORMATS
from envs.messages import UsageError, require
from envs.options import choose
from verifiers.voting import Vote

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class ReportOptions:
    """What to show of a file of results.

    Args:
        baseline: what lines are compared with (`agent.study.table.summarize`).
        rule, aggregate: of other votes than the study's; None for its own.
        votes: accuracy under every vote too.
        holm: p-values after Holm's correction too.
        problem: the id or number of one problem, whose searches are shown in place of the table.
        json: print JSON.
        table: print the table in one of `agent.study.table_formats.FORMATS`.
        out: where JSON or that table goes; None prints it.
    """

    baseline: str | None = None
    rule: str | None = None
    aggregate: str | None = None
    votes: bool = False
    holm: bool = False
    problem: str | None = None
    json: bool = False
    table: str | None = None
    out: Path | None = None

    def check(self, path: Path) -> None:
        """Refuse what does not go together, before anything is read.

        Raises:
            UsageError: saying what to leave out or to add.
        """
        if self.table is not None:
            choose(self.table, FORMATS, "table")
        if self.out is not None:
            if self.table is None and not self.json:
                raise UsageError("--out is for --table or --json; add one of them")
            if self.out.exists() and path.exists() and self.out.samefile(path):
                raise UsageError(f"--out {self.out} is the file of results itself; give another file")
        others = {
            "--table": self.table, "--vote": self.rule, "--aggregate": self.aggregate, "--votes": self.votes,
            "--holm": self.holm, "--baseline": self.baseline,
        }  # fmt: skip
        if self.problem is not None and (wrong := [name for name, value in others.items() if value]):
            raise UsageError(f"--problem shows the searches themselves; leave {', '.join(wrong)} out")


def show(path: Path, options: ReportOptions, console: Console) -> None:
    """Print what was asked for of a file of results.

    Raises:
        UsageError: when there is no such file, problem, vote, baseline or table.
    """
    options.check(path)
    look = (console.width, unicode_of(console))
    with StudyFile(path) as file:
        if options.problem is not None:
            reports = [problem_report(file, number) for number in find_problems(file, options.problem)]
            if options.json:
                _write(json_text({"file": str(path), "problems": reports}) + "\n", options.out)
            else:
                for report in reports:
                    console.print(problem_view(report, *look))
            return
        summaries = summarize(file, _rows(file, options), options.baseline)
        if options.json:
            _write(json_text({"file": str(path), "config": file.config, "results": summaries}) + "\n", options.out)
            return
        if options.table is not None:
            _write(FORMATS[options.table](file.config, summaries, options.holm), options.out)
            return
        console.print(study_view(file.config, summaries, *look, holm=options.holm))
        if options.votes:
            console.print(votes_view(vote_table(file), uniform_votes(file), *look))
    console.print(f"results in {path}", style="dim", soft_wrap=True, markup=False)


def _rows(file: StudyFile, options: ReportOptions) -> Sequence[Mapping[str, Any]]:
    """The results, under the vote that was asked for."""
    rows = file.results()
    if options.rule is None and options.aggregate is None:
        return rows
    own = file.config["vote"]
    try:
        vote = Vote(options.rule or own["rule"], options.aggregate or own["aggregate"])  # type: ignore[arg-type]
    except ValueError as error:
        raise UsageError(str(error)) from None
    return revoted(file, rows, vote)


def _write(text: str, out: Path | None) -> None:
    if out is None:
        print(visible(text), end="")
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    print(out)


def draw(path: Path, folder: Path) -> None:
    """Draw every figure that the study allows, as PNG, PDF and SVG; one that would say nothing says why.

    Raises:
        UsageError: when the packages that draw are not installed.
    """
    try:
        require("study", "pandas", "matplotlib")
    except ImportError as error:
        raise UsageError(str(error)) from None
    from agent.study.plots import FIGURES, save

    folder.mkdir(parents=True, exist_ok=True)
    with StudyFile(path) as file:
        for name, make in FIGURES.items():
            try:
                figure = make(file)
            except ValueError as error:
                print(f"{name}: not drawn, as {visible(str(error))}", file=sys.stderr)
                continue
            for written in save(figure, folder / name):
                print(written)
