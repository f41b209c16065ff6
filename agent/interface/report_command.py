"""What ``stepwell report`` prints and writes, and what a study shows when it is over.

With ``--html`` that is a page (`agent.report`): of a study, or of saved searches.
"""

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

_STUDY = b"SQLite format 3\0"  # how a database of SQLite begins


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
        html: where a page goes (`agent.interface.report_page`), in place of all that is printed.
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
    html: Path | None = None

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
        summaries = summarize(file, rows_of(file, options), options.baseline)
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


def rows_of(file: StudyFile, options: ReportOptions) -> Sequence[Mapping[str, Any]]:
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


# ------------------------------------------------------------------------------------------------------------ pages


def check_files(paths: Sequence[Path], options: ReportOptions) -> None:
    """Refuse files and options that do not go together.

    Raises:
        UsageError: saying what to leave out or to add.
    """
    searches = [path for path in paths if _is_search(path)]
    if options.html is None:
        if len(paths) > 1:
            raise UsageError(f"{len(paths)} files given; without --html one file of results is shown")
        if searches:
            raise UsageError(f"{paths[0]} is no file of results; a saved search is shown by --html OUT")
        return
    if len(paths) > 1 and len(searches) < len(paths):
        other = next(path for path in paths if path not in searches)
        raise UsageError(f"{other} is no saved search (.json); a page holds one study, or any number of searches")
    printed = {"--table": options.table, "--json": options.json, "--votes": options.votes, "--holm": options.holm}
    if wrong := [name for name, value in printed.items() if value]:
        raise UsageError(f"{', '.join(wrong)} print; the page has all of it: leave {', '.join(wrong)} or --html out")
    chosen = {
        "--baseline": options.baseline, "--vote": options.rule, "--aggregate": options.aggregate,
        "--problem": options.problem,
    }  # fmt: skip
    if searches and (wrong := [name for name, value in chosen.items() if value is not None]):
        raise UsageError(f"{', '.join(wrong)} are for a study; {paths[0]} is a saved search")
    for path in paths:
        if options.html.exists() and path.exists() and options.html.samefile(path):
            raise UsageError(f"--html {options.html} is the file that is read itself; give another file")


def _is_search(path: Path) -> bool:
    """Whether a file is to be read as a saved search: by its name, unless it begins as a study does."""
    if path.suffix not in (".json", ".graphml"):
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(_STUDY)) != _STUDY
    except OSError:  # said by what reads it
        return True


def write_page(paths: Sequence[Path], options: ReportOptions, trust: bool = False) -> None:
    """Write the page, and print its name.

    Raises:
        UsageError, OSError: a file cannot be read, or the page cannot be written.
    """
    from agent.report.pages import save, write_searches, write_study
    from agent.report.saved_searches import saved_search

    assert options.html is not None
    if not _is_search(paths[0]):
        with StudyFile(paths[0], trust=trust) as file:
            problems = None if options.problem is None else find_problems(file, options.problem)
            rows = rows_of(file, options)
            save(options.html, lambda out: write_study(out, file, rows, options.baseline, problems))
    else:
        searches = [(path.stem, *saved_search(path, trust)) for path in paths]
        notes = list(dict.fromkeys(note for _, _, note in searches if note))
        for note in notes:
            print(f"note: {visible(note)}", file=sys.stderr)
        save(options.html, lambda out: write_searches(out, [each[:2] for each in searches], notes))
    print(options.html)
