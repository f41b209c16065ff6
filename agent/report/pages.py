"""Pages of searches and of studies, as texts and as files."""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from agent.report.page_file import PageWriter
from agent.report.search_data import graph_data, search_data
from agent.report.study_data import study_data
from agent.search.graph import SearchGraph
from agent.study.results_db import StudyFile
from agent.study.rows import Place, judged_rows
from envs.messages import UsageError

MOST_TREES = 48 << 20  # characters of packed searches in the page of a study
NOTEBOOK_TREES = 4 << 20  # the same in a notebook, whose file holds its output
_FRAME = 640  # pixels of height in a notebook


def write_searches(out: IO[str], searches: Sequence[tuple[str, Mapping[str, Any]]], notes: Sequence[str] = ()) -> None:
    """Write the page of some searches.

    Args:
        out: the open file.
        searches: of `agent.report.search_data`, each with its name, e.g. that of its file.
        notes: what a reader must know of them.
    """
    writer = PageWriter(out, searches[0][1]["problem"]["question"])
    entries = []
    for name, data in searches:
        problem = f"{data['problem']['id']}\n{data['problem']['question']}"  # those of one problem can be compared
        entries.append({"name": name, "problem": problem, "place": writer.search(data)})
    writer.finish({"kind": "searches", "searches": entries, "notes": list(notes)})


def search_page(graph: SearchGraph) -> str:
    """The page of one search as a text."""
    out = io.StringIO()
    write_searches(out, [(str(graph.info.get("strategy", {}).get("name", "search")), graph_data(graph))])
    return out.getvalue()


def write_study(
    out: IO[str],
    file: StudyFile,
    rows: Sequence[Mapping[str, Any]] | None = None,
    baseline: str | None = None,
    problems: Sequence[int] | None = None,
    most: int = MOST_TREES,
) -> None:
    """Write the page of a study.

    Args:
        out: the open file.
        file: of the study.
        rows: the results, where they are not `StudyFile.results`: those under another vote.
        baseline: what lines are compared with at first (`agent.study.table.summarize`).
        problems: the numbers of those whose trees the page has; None for all. The results of all problems are there.
        most: characters of packed trees; the page says which trees it lacks.

    Raises:
        UsageError: there is no such baseline, or the file is damaged.
    """
    rows = file.results() if rows is None else rows
    data = study_data(file, rows, baseline)
    writer = PageWriter(out, f"Study: {', '.join(dict.fromkeys(line['environment'] for line in data['lines']))}")
    data["results"]["place"] = places = _write_trees(writer, file, rows, problems, most)
    kept = {Place(*row) for row in file.rows("SELECT cell, problem FROM graphs")}
    lacking = sum(each is None and Place(row["cell"], row["problem"]) in kept
                  for each, row in zip(places, rows, strict=True))  # fmt: skip
    data |= {
        "kind": "study",
        "file": file.path.name,
        "trees_kept": len(kept),
        "trees_left_out": lacking,
        "trees_wanted": problems is None,
    }
    writer.finish(data)


def _write_trees(
    writer: PageWriter,
    file: StudyFile,
    rows: Sequence[Mapping[str, Any]],
    problems: Sequence[int] | None,
    most: int,
) -> list[tuple[int, int] | None]:
    """The place of each result's tree in the page, problem by problem, so that those that are there are complete."""
    at = {Place(row["cell"], row["problem"]): number for number, row in enumerate(rows)}
    places: list[tuple[int, int] | None] = [None] * len(rows)
    wanted = None if problems is None else set(problems)
    stored: dict[int, list[Place]] = {}
    for cell, problem in file.rows("SELECT cell, problem FROM graphs ORDER BY problem, cell"):
        if wanted is None or problem in wanted:
            stored.setdefault(problem, []).append(Place(cell, problem))
    for group in stored.values():
        if writer.size >= most:
            break
        for place in group:
            if place in at:
                places[at[place]] = writer.search(_stored(file, place))
    return places


def _stored(file: StudyFile, place: Place) -> dict[str, Any]:
    query = "SELECT * FROM candidates WHERE cell = ? AND problem = ? ORDER BY node"
    candidates = [dict(row) for row in file.rows(query, place)]
    try:
        return search_data(file.raw_graph(place), judged_rows(candidates))
    except UsageError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise file.damaged_graph(place, error) from None


def study_page(file: StudyFile, most: int = MOST_TREES) -> str:
    """The page of a study as a text."""
    out = io.StringIO()
    write_study(out, file, most=most)
    return out.getvalue()


def in_notebook(page: str) -> str:
    """A page in a frame, as notebooks show it: what is in the frame can reach nothing outside of it."""
    return (
        f'<iframe srcdoc="{html.escape(page)}" sandbox="allow-scripts" allow="clipboard-write" loading="lazy"'
        f' title="Stepwell" width="100%" height="{_FRAME}" style="border: 1px solid #8884; border-radius: 6px">'
        "</iframe>"
    )


def save(path: Path, write: Callable[[IO[str]], None]) -> None:
    """Make a file by a function that writes to it; a page that fails half-way leaves what was there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.part")
    try:
        with half.open("w", encoding="utf-8", newline="\n") as out:
            write(out)
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)
