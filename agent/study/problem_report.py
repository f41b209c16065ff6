"""One problem of a study: what every search of it found, and how."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from agent.search.solution import leading_path
from agent.study.results_db import StudyFile
from agent.study.rows import Place
from agent.study.table import GROUP
from envs.messages import UsageError, nearest

SHOWN = 10  # ids that an error lists


def find_problems(file: StudyFile, wanted: str) -> list[int]:
    """The numbers of the problems with an id (one in each environment at most), or the problem with a number.

    Raises:
        UsageError: when there is none, with the nearest id.
    """
    rows = file.rows("SELECT problem, id FROM problems ORDER BY problem")
    found = [row["problem"] for row in rows if row["id"] == wanted]
    if not found and wanted.isdecimal():
        found = [row["problem"] for row in rows if str(row["problem"]) == wanted.lstrip("0")]
    if not found:
        ids = [row["id"] for row in rows]
        few = ", ".join(ids[:SHOWN]) + (f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else "")
        raise UsageError(
            f"unknown problem {wanted!r}{nearest(wanted, ids) or ';'} allowed: a number from 1 to {len(ids)}, or an id:"
            f" {few}"
        )
    return found


def problem_report(file: StudyFile, number: int) -> dict[str, Any]:
    """A problem and its searches, JSON-ready, in the order of the cells.

    ``searches`` hold the labels of the cell (``agent.study.table.GROUP`` and ``seed``), the ``answer``, whether it is
    ``correct`` (None where nobody knows), the ``cost``, the ``error`` and the ``path`` of the leader: the steps of the
    trajectory that gave the answer, each with its text, score and observation. Without an answer the path is that of
    the leading trajectory, if the graph was kept, and else None.

    Args:
        file: of the study.
        number: of the problem in the file.
    """
    problem = dict(file.rows("SELECT * FROM problems WHERE problem = ?", (number,))[0])
    cells = {cell["cell"]: cell for cell in file.cells() if cell["environment"] == problem["environment"]}
    query = "SELECT * FROM results WHERE problem = ? ORDER BY cell"
    searches = [_search(file, cells[row["cell"]], dict(row)) for row in file.rows(query, (number,))]
    facts = {key: problem[key] for key in ("environment", "id", "question", "answer", "prompt")}
    lacking = [cell["cell"] for cell in cells.values() if cell["cell"] not in {each["cell"] for each in searches}]
    return {
        "problem": number,
        **facts,
        "meta": json.loads(problem["meta"]),
        "searches": searches,
        "lacking": lacking,
    }


def _search(file: StudyFile, cell: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    costs = {
        "samples": row["samples"],
        "policy_tokens": row["generated"] + row["prefilled"],
        "verifier_tokens": row["verifier_tokens"],
        "flops": row["policy_flops"] + row["verifier_flops"],
        "seconds": row["seconds"],
    }
    found = {"cell": cell["cell"]} | {key: cell[key] for key in (*GROUP, "seed")}
    found |= {"answer": row["answer"], "correct": None if row["correct"] is None else bool(row["correct"])}
    found |= {key: row[key] for key in ("confidence", "stopped", "error")}
    return found | {"cost": costs, "path": _path(file, Place(row["cell"], row["problem"]), row["node"])}


def _path(file: StudyFile, place: Place, node: int | None) -> list[dict[str, Any]] | None:
    query = "SELECT steps FROM candidates WHERE cell = ? AND problem = ? AND node = ?"
    if node is not None and (found := file.rows(query, (*place, node))):
        return [_step(step) for step in json.loads(found[0]["steps"])]
    try:
        graph = file.graph(place)
    except (KeyError, ValueError):  # the graph was not kept, or its environment is not here
        return None
    return [_step(graph[each]) for each in leading_path(graph)[1:]]


def _step(step: Mapping[str, Any]) -> dict[str, Any]:
    return {"text": step["text"], "score": step["score"], "observation": step.get("observation")}
