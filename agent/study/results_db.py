"""The file of a study: one SQLite database that says all about itself, and outlives a kill at any moment.

=============  =====================================================================================================
table          a row
=============  =====================================================================================================
study          a fact: ``config`` (JSON, with the digests of the weights) and its ``fingerprint``
runs           a process that wrote here: when it began, versions of Python and packages, the commit, the machine
cells          a combination: its label on each axis
environments   an environment: its step delimiter
problems       a problem: its environment, id, question, gold answer, prompt and facts (JSON)
results        a search: its answer and whether it is right (failures are wrong; NULL without a gold answer), what it
               cost, the plan (JSON), why it stopped, its error, the run that made it
candidates     a finished trajectory that votes: its answer, the first candidate with the same answer (``same``),
               whether it is right, how often it was drawn, its steps (JSON: text, tokens, score, observation if any)
votes          the answer of a search under one rule and one aggregation of scores
graphs         the whole search: `SearchGraph.to_json`, JSON compressed by zlib
=============  =====================================================================================================

Each search is one transaction of a write-ahead log: it is there whole or not at all. After a loss of power the last
few may be missing, and are then run again; nothing else can be lost. Times are the one thing that a second run changes.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import json
import operator
import os
import platform
import sqlite3
import subprocess
import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, SupportsIndex

from agent.recipes.files import refuse_code
from agent.search.engine import UNAVAILABLE
from agent.search.graph import SearchGraph
from agent.study.rows import COSTS, Place, Result, sanitized
from envs.core import Environment, Problem
from envs.messages import RecipeError, differences
from envs.registry import load_environment
from policies.training.jsonl_log import fingerprint

FORMAT = 1  # of the file; a change of meaning needs another number
APPLICATION = 0x53747077  # "Stpw": marks a database as ours
_PACKAGES = ("stepwell", "torch", "transformers", "tokenizers", "numpy", "networkx")
_SCHEMA = f"""
CREATE TABLE study (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE runs (run INTEGER PRIMARY KEY, began TEXT NOT NULL, about TEXT NOT NULL);
CREATE TABLE cells (cell INTEGER PRIMARY KEY, environment TEXT NOT NULL, policy TEXT NOT NULL, verifier TEXT NOT NULL,
    strategy TEXT NOT NULL, budget TEXT NOT NULL, seed INTEGER NOT NULL);
CREATE TABLE environments (environment TEXT PRIMARY KEY, delimiter TEXT NOT NULL);
CREATE TABLE problems (problem INTEGER PRIMARY KEY, environment TEXT NOT NULL, id TEXT NOT NULL, question TEXT NOT NULL,
    answer TEXT, prompt TEXT NOT NULL, meta TEXT NOT NULL, UNIQUE (environment, id));
CREATE TABLE results (cell INTEGER NOT NULL, problem INTEGER NOT NULL, run INTEGER NOT NULL, answer TEXT, node INTEGER,
    correct INTEGER, confidence REAL NOT NULL, drawn INTEGER NOT NULL, stopped TEXT NOT NULL, error TEXT, plan TEXT,
    {", ".join(f"{name} REAL NOT NULL" for name in COSTS)}, PRIMARY KEY (cell, problem));
CREATE TABLE candidates (cell INTEGER NOT NULL, problem INTEGER NOT NULL, node INTEGER NOT NULL, answer TEXT NOT NULL,
    same INTEGER NOT NULL, correct INTEGER, count INTEGER NOT NULL, steps TEXT NOT NULL,
    PRIMARY KEY (cell, problem, node)) WITHOUT ROWID;
CREATE TABLE votes (cell INTEGER NOT NULL, problem INTEGER NOT NULL, rule TEXT NOT NULL, aggregate TEXT NOT NULL,
    answer TEXT, correct INTEGER, confidence REAL NOT NULL, PRIMARY KEY (cell, problem, rule, aggregate)) WITHOUT ROWID;
CREATE TABLE graphs (cell INTEGER NOT NULL, problem INTEGER NOT NULL, graph BLOB NOT NULL, PRIMARY KEY (cell, problem));
"""
_OF_A_SEARCH = ("results", "candidates", "votes", "graphs")
_OF_CELLS = {"environments", "policies", "verifiers", "strategies", "budgets", "seeds", "only", "exclude"}
_DIGESTS = {"weights", "plans"}


def about_this_run() -> dict[str, Any]:
    """Versions, commit and machine, for the record."""
    about: dict[str, Any] = {"python": platform.python_version(), "machine": platform.platform()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            about[package] = importlib.metadata.version(package)
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        told = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
        about["commit"] = told.stdout.strip()
    return about


# ------------------------------------------------------------------------------------------------------- the file


class StudyFile:
    """A study's results. A context manager; open it for reading as it is, for writing with `for_writing`.

    It can be read while it is written to, by any number of readers.

    Args:
        path: of the file.
        environments: of its problems, by label, where they are not made anew as the file names them.
        trust: let the file name modules and files, whose code then runs, where an environment is needed.

    Raises:
        RecipeError: when there is no such file, it is no study, or of another format.
    """

    def __init__(
        self, path: str | Path, environments: Mapping[str, Environment] | None = None, trust: bool = False
    ) -> None:
        self.path = Path(path)
        self._given, self._trust = dict(environments or {}), trust
        if not self.path.is_file():
            raise RecipeError(f"there is no file {str(path)!r}")
        self._lock: int | None = None
        self._run = 0
        self._connect(f"{self.path.absolute().as_uri()}?mode=ro")
        try:
            self._check()
        except BaseException:
            self.close()
            raise

    @classmethod
    def for_writing(
        cls,
        path: Path,
        config: Mapping[str, Any],
        cells: Sequence[Mapping[str, Any]],
        problems: Mapping[str, tuple[Environment, Sequence[Problem]]],
    ) -> StudyFile:
        """Open a study's file to write results, and make it if there is none.

        Args:
            path: made, with its folder, if it does not exist.
            config: what the results depend on; a file of another configuration is refused, unless all that it lacks are
                cells: then it gets them.
            cells: their labels by axis.
            problems: environments and their problems, by label.

        Raises:
            RecipeError: when the file belongs to another study, is none of ours, or is being written to.
        """
        file = cls.__new__(cls)
        file.path, file._lock, file._run = path, None, 0
        file._given, file._trust = {label: environment for label, (environment, _) in problems.items()}, False
        path.parent.mkdir(parents=True, exist_ok=True)
        file._take_lock()
        try:
            file._connect(path.absolute().as_uri())
            file._open(config, cells, problems)
        except BaseException:
            file.close()
            raise
        return file

    def _connect(self, uri: str) -> None:
        self._environments = dict(self._given)
        self.connection = sqlite3.connect(uri, uri=True, timeout=60, isolation_level=None)
        self.connection.row_factory = sqlite3.Row

    def _check(self) -> None:
        try:
            mark = self.connection.execute("PRAGMA application_id").fetchone()[0]
            version = self.connection.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.DatabaseError:
            mark = version = None
        if mark != APPLICATION:
            raise RecipeError(f"{self.path} is not a file of a study; give another file")
        if version != FORMAT:
            raise RecipeError(f"{self.path} has format {version}, this version reads {FORMAT}; give another file")

    def _open(
        self,
        config: Mapping[str, Any],
        cells: Sequence[Mapping[str, Any]],
        problems: Mapping[str, tuple[Environment, Sequence[Problem]]],
    ) -> None:
        try:
            new = not self.connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        except sqlite3.DatabaseError:
            new = False
        grows = False
        if not new:
            self._check()
            grows = self.fact("fingerprint") != fingerprint(config)
            if grows and not self._can_grow(config := json.loads(json.dumps(config)), cells):
                what = "; ".join(differences(self.config, config))
                raise RecipeError(
                    f"{self.path} belongs to another study ({what});"
                    " give another --out, or a study with all of its cells to go on"
                )
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = NORMAL")
        with self._transaction():
            if new:
                self._make()
            if grows:
                self._renumber(cells)
            if new or grows:
                self._describe(config, cells, problems)
            began, about = datetime.now(UTC).isoformat(timespec="seconds"), json.dumps(about_this_run())
            cursor = self.connection.execute("INSERT INTO runs (began, about) VALUES (?, ?)", (began, about))
            self._run = cursor.lastrowid or 0

    def _make(self) -> None:
        for statement in _SCHEMA.split(";"):
            self.connection.execute(statement)
        self.connection.execute(f"PRAGMA application_id = {APPLICATION}")
        self.connection.execute(f"PRAGMA user_version = {FORMAT}")

    def _can_grow(self, config: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> bool:
        """Whether a configuration has all the cells that there are, and what these depend on is the same."""
        ours = self.config
        same = all(ours.get(key) == config.get(key) for key in {*ours, *config} - _OF_CELLS - _DIGESTS)
        for key in _DIGESTS:
            mine, theirs = ours.get(key, {}), config.get(key, {})
            same = same and all(mine[each] == theirs[each] for each in mine.keys() & theirs.keys())
        return same and all(cell in cells for cell in self._labels().values())

    def _labels(self) -> dict[int, dict[str, Any]]:
        """The cells that there are, by number."""
        return {cell.pop("cell"): cell for cell in self.cells()}

    def _renumber(self, cells: Sequence[Mapping[str, Any]]) -> None:
        """Give the cells that there are the numbers that they have among others."""
        numbers = {number: cells.index(cell) for number, cell in self._labels().items()}
        for table in _OF_A_SEARCH:
            self.connection.execute(f"UPDATE {table} SET cell = -1 - cell")
            for before, now in numbers.items():
                self.connection.execute(f"UPDATE {table} SET cell = ? WHERE cell = ?", (now, -1 - before))
        for table in ("study", "cells"):
            self.connection.execute(f"DELETE FROM {table}")

    def _describe(
        self,
        config: Mapping[str, Any],
        cells: Sequence[Mapping[str, Any]],
        problems: Mapping[str, tuple[Environment, Sequence[Problem]]],
    ) -> None:
        """Write what the study is, but for what is there."""
        for key, value in (("config", json.dumps(config)), ("fingerprint", fingerprint(config))):
            self._insert("study", {"key": key, "value": value})
        for number, cell in enumerate(cells):
            self._insert("cells", {"cell": number, **cell})
        there = {row[0] for row in self.connection.execute("SELECT environment FROM environments")}
        for label, (environment, drawn) in problems.items():
            if label in there:
                continue
            self._insert("environments", {"environment": label, "delimiter": environment.delimiter})
            for problem in drawn:
                self._insert(
                    "problems",
                    {
                        "environment": label,
                        "id": problem.id,
                        "question": sanitized(problem.question),
                        "answer": sanitized(problem.answer),
                        "prompt": sanitized(environment.prompt(problem)),
                        "meta": json.dumps(dict(problem.meta)),
                    },
                )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def _insert(self, table: str, row: Mapping[str, Any]) -> None:
        places = ", ".join("?" * len(row))
        self.connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", tuple(row.values()))

    def _take_lock(self) -> None:
        """One writer at a time. The lock is a file beside ours: closing a database file would drop SQLite's own."""
        name = self.path.with_name(self.path.name + ".lock")
        while self._lock is None:
            lock = os.open(name, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if name.exists() and os.path.samestat(os.fstat(lock), name.stat()):
                    self._lock = lock
            except OSError:
                raise RecipeError(
                    f"{self.path} is being written to by another run; wait for it or give another --out"
                ) from None
            finally:
                if self._lock is None:  # taken, or removed by its last holder meanwhile
                    os.close(lock)

    # ------------------------------------------------------------------------------------------------------ writing

    def write(self, *results: Result) -> None:
        """Add results, all of them or none."""
        with self._transaction():
            for result in results:
                place = result.place._asdict()
                self._insert("results", place | {"run": self._run} | result.row)
                for each in result.candidates:
                    self._insert("candidates", place | each)
                for each in result.votes:
                    self._insert("votes", place | each)
                if result.graph is not None:
                    self._insert("graphs", place | {"graph": result.graph})

    def forget_errors(self, unavailable_only: bool = False) -> int:
        """Drop the results that failed, so that they are run again; returns how many there were.

        Args:
            unavailable_only: only those that failed because a model could not be reached.
        """
        query = "SELECT cell, problem FROM results WHERE error IS NOT NULL AND (stopped = ? OR ?)"
        return self._forget(query, (UNAVAILABLE, not unavailable_only))

    def forget_cut_cells(self) -> int:
        """Drop the results of cells that are not complete; returns how many there were."""
        return self._forget(
            """SELECT cell, problem FROM results JOIN cells USING (cell) JOIN (SELECT environment, count(*) AS whole
            FROM problems GROUP BY environment) USING (environment) JOIN (SELECT cell, count(*) AS there
            FROM results GROUP BY cell) USING (cell) WHERE there < whole"""
        )

    def _forget(self, query: str, parameters: Sequence[Any] = ()) -> int:
        places = [tuple(row) for row in self.rows(query, parameters)]
        with self._transaction():
            for table in _OF_A_SEARCH:
                self.connection.executemany(f"DELETE FROM {table} WHERE cell = ? AND problem = ?", places)
        return len(places)

    def close(self) -> None:
        """Close the file. The last writer leaves a single file, which can be read where nothing can be written."""
        if hasattr(self, "connection"):
            if self._run:
                with contextlib.suppress(sqlite3.OperationalError):  # somebody reads
                    self.connection.execute("PRAGMA journal_mode = DELETE")
            self.connection.close()
        if self._lock is not None:
            self.path.with_name(self.path.name + ".lock").unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> StudyFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------------ reading

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """What a query answers."""
        return self.connection.execute(query, parameters).fetchall()

    def fact(self, key: str) -> str:
        """A fact of the table ``study``."""
        value: str = self.rows("SELECT value FROM study WHERE key = ?", (key,))[0][0]
        return value

    @property
    def config(self) -> dict[str, Any]:
        """What was studied: the keys of the study's YAML file, and the digests of the weights."""
        config: dict[str, Any] = json.loads(self.fact("config"))
        return config

    def cells(self) -> list[dict[str, Any]]:
        """The cells in order, each with its labels."""
        return [dict(row) for row in self.rows("SELECT * FROM cells ORDER BY cell")]

    def problem_numbers(self) -> dict[tuple[str, str], int]:
        """The number of each problem, by environment and id."""
        return {(row["environment"], row["id"]): row["problem"] for row in self.rows("SELECT * FROM problems")}

    def done(self) -> dict[Place, tuple[bool, bool]]:
        """The places that have a result: whether it is right, and whether it failed."""
        query = "SELECT cell, problem, correct, error IS NOT NULL FROM results"
        return {Place(row[0], row[1]): (bool(row[2]), bool(row[3])) for row in self.rows(query)}

    def unavailable(self) -> tuple[int, str] | None:
        """How many searches failed because a model could not be reached, and how one of them did; None for none."""
        count, error = self.rows("SELECT count(*), min(error) FROM results WHERE stopped = ?", (UNAVAILABLE,))[0]
        return (count, error) if count else None

    def total(self) -> int:
        """How many results there will be."""
        total: int = self.rows("SELECT count(*) FROM cells JOIN problems USING (environment)")[0][0]
        return total

    def results(self) -> list[dict[str, Any]]:
        """All results with the labels of their cells and the problem's id, level and number, in order."""
        query = """SELECT environment, policy, verifier, strategy, budget, seed, id,
            json_extract(meta, '$.level') AS level, results.*
            FROM results JOIN cells USING (cell) JOIN problems USING (problem, environment) ORDER BY cell, problem"""
        return [dict(row) for row in self.rows(query)]

    def candidates(self) -> Iterator[dict[str, Any]]:
        """All candidates in order, their cells' and problems' numbers with them."""
        return map(dict, self.connection.execute("SELECT * FROM candidates ORDER BY cell, problem, node"))

    def votes(self) -> list[dict[str, Any]]:
        """The outcome of every vote, in order."""
        return [dict(row) for row in self.rows("SELECT * FROM votes ORDER BY cell, problem, rule, aggregate")]

    def raw_graphs(self) -> Iterator[tuple[Place, dict[str, Any]]]:
        """The graphs as JSON, in order; no environment is needed to read them."""
        cursor = self.connection.execute("SELECT cell, problem, graph FROM graphs ORDER BY cell, problem")
        return ((Place(row[0], row[1]), json.loads(zlib.decompress(row[2]))) for row in cursor)

    def environment(self, label: str) -> Environment:
        """The environment of a label: the one that was given, or as the file names it, made once.

        Raises:
            ValueError: there is no such label.
            RecipeError: it cannot be made, or the file would run code (`agent.recipes.files.refuse_code`).
        """
        if label in self._environments:
            return self._environments[label]
        configs = self.config["environments"]
        names = [each if isinstance(each, str) else each["name"] for each in configs]
        for name, config in zip(names, configs, strict=True):
            options = {} if isinstance(config, str) else {key: config[key] for key in config if key != "name"}
            if label == " ".join([name, *(f"{key}={value}" for key, value in options.items())]):
                if not self._trust:
                    allow = "--trust, or the environment: StudyFile(path, environments={label: environment})"
                    refuse_code({"environment": config}, str(self.path), allow)
                self._environments[label] = load_environment(name, **options)
                return self._environments[label]
        raise ValueError(f"no environment {label!r}; allowed: {', '.join(names)}")

    def graph(self, place: tuple[SupportsIndex, SupportsIndex]) -> SearchGraph:
        """One search as a graph.

        Args:
            place: the numbers of its cell and its problem, e.g. a `Place`; of any type of whole numbers, numpy's too.

        Raises:
            KeyError: when there is none at that place.
        """
        cell, problem = map(operator.index, place)  # SQLite finds nothing by the integers of numpy
        query = """SELECT environment, graph FROM graphs JOIN cells USING (cell) WHERE cell = ? AND problem = ?"""
        known = all(abs(number) < 2**63 for number in (cell, problem))  # SQLite holds no others
        found = self.rows(query, (cell, problem)) if known else []
        if not found:
            raise KeyError(f"no graph of cell {cell} and problem {problem}")
        environment = self.environment(found[0]["environment"])
        return SearchGraph.from_json(json.loads(zlib.decompress(found[0]["graph"])), environment)
