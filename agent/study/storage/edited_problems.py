"""Whether the problems of a study are those that its file has results of: data files and environments are edited."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.study.rows import sanitized
from envs.core import Environment, Problem
from envs.guarded import EnvironmentFailure
from envs.messages import short

_ASKED, _JUDGED = ("question", "prompt"), ("answer", "meta")  # what the policy reads, and what answers are judged by
Problems = Mapping[str, tuple[Environment, Sequence[Problem]]]


def problem_row(environment: Environment, problem: Problem) -> dict[str, Any]:
    """A problem as a row of the file, without its environment's label and its number."""
    try:
        prompt = environment.prompt(problem)
    except EnvironmentFailure:  # the search of this problem fails of it, and the others go on
        prompt = ""
    return {
        "id": problem.id,
        "question": sanitized(problem.question),
        "answer": sanitized(problem.answer),
        "prompt": sanitized(prompt),
        "meta": json.dumps(dict(problem.meta)),
    }


@dataclass(frozen=True)
class ProblemChanges:
    """How the problems of a study differ from those in its file, by environment and id.

    Args:
        gone: in the file and not drawn any more.
        new: drawn now, of an environment that the file has.
        asked: another question or prompt under the same id.
        answers: judged by something else than they were: the gold answer, or the facts that go with it.
        words: an example of each kind of difference, for an error.
    """

    gone: Mapping[str, Sequence[str]] = field(default_factory=dict)
    new: Mapping[str, Sequence[str]] = field(default_factory=dict)
    asked: Mapping[str, Sequence[str]] = field(default_factory=dict)
    answers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    words: Sequence[str] = ()

    @classmethod
    def between(cls, rows: Sequence[Any], problems: Problems) -> ProblemChanges:
        """Compare the rows of the table ``problems`` with what is drawn now.

        An environment that only one of the two has is no difference.
        """
        stored: dict[str, dict[str, Any]] = {}
        for row in rows:
            stored.setdefault(row["environment"], {})[row["id"]] = row
        kinds: dict[str, dict[str, list[str]]] = {"gone": {}, "new": {}, "asked": {}, "answers": {}}
        examples: dict[str, str] = {}
        for label in stored.keys() & problems.keys():
            environment, drawn = problems[label]
            before, now = stored[label], {problem.id: problem_row(environment, problem) for problem in drawn}
            for kind, ids in _kinds(before, now).items():
                if ids:
                    kinds[kind][label] = ids
                    examples.setdefault(kind, _words(kind, ids, before, now))
        return cls(**kinds, words=[examples[kind] for kind in ("gone", "asked", "answers") if kind in examples])

    def refusal(self, regrade: bool) -> str | None:
        """Why the file cannot be gone on with, and what to do; None where it can.

        Args:
            regrade: gold answers may differ: what is stored is judged by the new ones.
        """
        if not (self.gone or self.asked or (self.answers and not regrade)):
            return None
        way = "give another --out, or the problems as they were"
        if not (self.gone or self.asked):
            way = "--regrade judges what is stored by the new answers; or give another --out"
        return f"its problems are not those of the study any more ({'; '.join(self.words)}); {way}"


def _kinds(before: Mapping[str, Any], now: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    def differ(columns: Sequence[str]) -> list[str]:
        return [id for id in before if id in now and any(before[id][key] != now[id][key] for key in columns)]

    return {
        "gone": [id for id in before if id not in now],
        "new": [id for id in now if id not in before],
        "asked": differ(_ASKED),
        "answers": differ(_JUDGED),
    }


def _words(kind: str, ids: Sequence[str], before: Mapping[str, Any], now: Mapping[str, Mapping[str, Any]]) -> str:
    """How many problems differ in this way, and how the first does."""
    first, count = ids[0], len(ids)
    if kind == "gone":
        return f"{count} of {len(before)} are not drawn any more, e.g. {short(before[first]['question'])}"
    if kind == "new":
        return f"{count} are new"
    columns = _ASKED if kind == "asked" else _JUDGED
    key = next(column for column in columns if before[first][column] != now[first][column])
    what = {"answer": "gold answer", "meta": "facts"}.get(key, key)
    old, new = short(before[first][key]), short(now[first][key])
    return f"the {what} of {count} differ{'s' if count == 1 else ''}, e.g. of {short(first)}: {old} there, {new} now"
