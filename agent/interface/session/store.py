"""Searches of sessions on disk: each is written as soon as it is over, and listed, searched and opened again.

In the user's state folder (``XDG_STATE_HOME``): a file a search, as ``/save`` writes it, and an index with a line each.
The oldest go when there are more than `KEPT`. What the files hold is checked like any stranger's when it is read.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from agent.search.control.steering import INFO
from agent.search.solution import Solution
from envs.messages import UsageError

KEPT = 500  # searches
_LINE = 4000  # characters of a question or an answer in the index
_INDEX = 16 << 20  # bytes of the index that are read, from its end


def state_folder() -> Path:
    """Where a user's sessions leave what outlives them (``XDG_STATE_HOME``)."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "stepwell"


@dataclass(frozen=True)
class Entry:
    """A search in the index.

    Args:
        number: by which it is opened.
        at: when it ended, ISO 8601.
        question: as it was read.
        answer: that was chosen; None without one.
        correct: whether it is right, if that is known.
        strategy: the name of it.
        environment: the name of it.
        samples: that were spent.
        steered: a person did something to it.
    """

    number: int
    at: str
    question: str
    answer: str | None
    correct: bool | None
    strategy: str
    environment: str
    samples: float
    steered: bool

    def matches(self, text: str) -> bool:
        """Whether a text is in its question, its answer or the names."""
        where = (self.question, self.answer or "", self.strategy, self.environment, self.at)
        return any(text.lower() in each.lower() for each in where)


class Store:
    """The searches of sessions on disk.

    Args:
        folder: of the files; made when the first search is kept.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or state_folder() / "searches"

    @property
    def _index(self) -> Path:
        return self.folder / "index.jsonl"

    def keep(self, solution: Solution) -> int:
        """Write a search; returns its number.

        Raises:
            OSError: it cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        number = self._claim()
        path = self.path(number)
        part = path.with_suffix(".part.json")
        solution.graph.save(part)
        part.chmod(0o600)
        part.replace(path)  # in one piece: whoever reads finds all of it
        info = solution.graph.info
        line = {
            "number": number,
            "at": datetime.now().astimezone().isoformat(timespec="seconds"),
            "question": solution.problem.question[:_LINE],
            "answer": None if solution.answer is None else solution.answer[:_LINE],
            "correct": solution.correct,
            "strategy": str((info.get("strategy") or {}).get("name", "")),
            "environment": str(info.get("environment", "")),
            "samples": float(solution.spent.get("samples", 0.0)),
            "steered": bool(info.get(INFO)),
        }
        with open(os.open(self._index, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as index:
            index.write(json.dumps(line).encode() + b"\n")
        self._forget()
        return number

    def _claim(self) -> int:
        """The next number, and its file, so that another session takes another one."""
        number = max((int(path.stem) for path in self.folder.glob("*.json") if path.stem.isdecimal()), default=0)
        while True:
            number += 1
            with suppress(FileExistsError):
                os.close(os.open(self.path(number), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
                return number

    def path(self, number: int) -> Path:
        """The file of a search."""
        return self.folder / f"{number:06d}.json"

    def entries(self, text: str = "") -> list[Entry]:
        """The searches that are there, oldest first; with a text, those that it is found in."""
        try:
            with self._index.open("rb") as file:
                file.seek(max(0, self._index.stat().st_size - _INDEX))
                lines = file.read().splitlines()
        except OSError:
            return []
        found: dict[int, Entry] = {}
        for line in lines:
            if (entry := _read(line)) is not None:
                found[entry.number] = entry
        return [entry for entry in found.values() if self.path(entry.number).exists() and entry.matches(text)]

    def find(self, number: int) -> Path:
        """The file of a search by its number; raises UsageError where there is none."""
        path = self.path(number)
        if not path.is_file():
            raise UsageError(f"there is no search {number} in the history; /history lists them")
        return path

    def _forget(self) -> None:
        """Remove the oldest searches where there are too many."""
        files = sorted(path for path in self.folder.glob("*.json") if path.stem.isdecimal())
        for path in files[:-KEPT]:
            path.unlink(missing_ok=True)


def _read(line: bytes) -> Entry | None:
    """A line of the index; None where it is torn, or none of ours."""
    try:
        raw: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    kinds: dict[str, tuple[type, ...]] = {
        "number": (int,), "at": (str,), "question": (str,), "answer": (str, type(None)), "correct": (bool, type(None)),
        "strategy": (str,), "environment": (str,), "samples": (float, int), "steered": (bool,),
    }  # fmt: skip
    if not isinstance(raw, dict) or not all(isinstance(raw.get(key), kind) for key, kind in kinds.items()):
        return None
    return Entry(**{key: raw[key] for key in kinds})
