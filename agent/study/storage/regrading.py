"""What a study found, judged by other gold answers: nothing is searched again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from agent.study.storage.edited_problems import problem_row
from agent.study.storage.packed_graphs import pack, unpack
from envs.core import Environment, Problem

Statement = tuple[str, tuple[Any, ...]]
Rows = Callable[[str, Sequence[Any]], Sequence[Any]]


def regraded(rows: Rows, number: int, environment: Environment, problem: Problem) -> Iterator[Statement]:
    """Statements that judge all that is stored of a problem by its gold answer.

    Args:
        rows: of a query on the file.
        number: of the problem in the file.
        environment: that checks answers.
        problem: with the new gold answer and facts.
    """
    row, known = problem_row(environment, problem), problem.answer is not None
    yield "UPDATE problems SET answer = ?, meta = ? WHERE problem = ?", (row["answer"], row["meta"], number)
    for table in ("candidates", "votes", "results"):
        yield f"UPDATE {table} SET correct = ? WHERE problem = ? AND answer IS NULL", (0 if known else None, number)
    answers = """SELECT answer FROM candidates WHERE problem = ?1 UNION SELECT answer FROM votes WHERE problem = ?1
        UNION SELECT answer FROM results WHERE problem = ?1"""
    for (answer,) in rows(answers, (number,)):
        if answer is None:
            continue
        verdict = int(environment.check(problem, answer)) if known else None
        for table in ("candidates", "votes", "results"):
            yield f"UPDATE {table} SET correct = ? WHERE problem = ? AND answer = ?", (verdict, number, answer)
    if known:
        yield "UPDATE results SET correct = 0 WHERE problem = ? AND error IS NOT NULL", (number,)
    for cell, packed in rows("SELECT cell, graph FROM graphs WHERE problem = ?", (number,)):
        graph = unpack(packed)
        graph["problem"] = {**graph["problem"], "answer": problem.answer, "meta": dict(problem.meta)}
        yield "UPDATE graphs SET graph = ? WHERE cell = ? AND problem = ?", (pack(graph), cell, number)
