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
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, SupportsIndex

from agent.recipes.files import refuse_code
from agent.search.engine import UNAVAILABLE
from agent.search.graph import SearchGraph
from agent.study.rows import COSTS, LATER, STEERED, Place, Result
from agent.study.storage.database_errors import check_readable, check_writable, database_errors
from agent.study.storage.edited_problems import ProblemChanges, problem_row
from agent.study.storage.packed_graphs import unpack
from agent.study.storage.regrading import Statement, regraded
from envs.core import Environment, Problem
from envs.guarded import guard
from envs.messages import UsageError, differences
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
_DIGESTS = {"weights", "models", "plans"}
_GROWING = {"n"}  # may be more than it was
_HISTORY = {"draws"}  # the values that n had
_LABELS = ("environment", "policy", "verifier", "strategy", "budget", "seed")
_TRIES, _NEARLY_ALL = 3, 0.9  # runs in which a search may fail as its model is out of reach, and the share of answers
_PATIENCE = 5  # seconds that another program may hold the file when it is opened
_LONG_PATIENCE = 60  # the same in the middle of a run, where more is lost


@lru_cache(maxsize=1)
def _tables() -> dict[str, list[str]]:
    """The columns of each table of `_SCHEMA`."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(_SCHEMA)
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")] for name in names}


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

    It can be read while it is written to, by any number of readers. A file may come from a stranger: only tables of
    ours are read, and graphs are unpacked with a limit.

    Args:
        path: of the file.
        environments: of its problems, by label, where they are not made anew as the file names them.
        trust: let the file name modules and files, whose code then runs, where an environment is needed.

    Raises:
        UsageError: when there is no such file, it is no study, damaged, locked by another program, or of another
            format. Every method raises it, with the name of the file, where the file cannot be read or written.
    """

    def __init__(
        self, path: str | Path, environments: Mapping[str, Environment] | None = None, trust: bool = False
    ) -> None:
        self.path = Path(path)
        self._given, self._trust = dict(environments or {}), trust
        check_readable(self.path)
        self._lock: int | None = None
        self._told: frozenset[str] = frozenset()  # models that were told from others when it was opened
        self._run = 0
        self._connect(f"{self.path.absolute().as_uri()}?mode=ro")
        try:
            self._check()
            self._check_facts()
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
        regrade: bool = False,
    ) -> StudyFile:
        """Open a study's file to write results, and make it if there is none.

        Nothing is written before all checks have passed: what is refused is left as it was.

        Args:
            path: made, with its folder, if it does not exist.
            config: what the results depend on; a file of another configuration is refused, unless all that it lacks are
                cells or problems: then it gets them.
            cells: their labels by axis.
            problems: environments and their problems, by label.
            regrade: judge what is stored by the gold answers of `problems`, where those of the file differ.

        Raises:
            UsageError: when the file belongs to another study, its problems are not these, it is none of ours, or it
                is being written to.
        """
        file = cls.__new__(cls)
        file.path, file._lock, file._run = path, None, 0
        file._given, file._trust = {label: environment for label, (environment, _) in problems.items()}, False
        file._told = frozenset(config.get("models", {}))
        check_writable(path)
        file._take_lock()
        try:
            file._connect(path.absolute().as_uri())
            file._open(config, cells, problems, regrade)
        except BaseException:
            file.close()
            raise
        return file

    def _connect(self, uri: str) -> None:
        self._environments = dict(self._given)
        with self._errors():
            self.connection = sqlite3.connect(uri, uri=True, timeout=_PATIENCE, isolation_level=None)
            self.connection.row_factory = sqlite3.Row
            self.connection.execute("PRAGMA trusted_schema = OFF")

    def _errors(self) -> contextlib.AbstractContextManager[None]:
        return database_errors(self.path)

    def _check(self) -> None:
        """Refuse a file that is not a study of this format, with its tables as `_SCHEMA` has them and no views."""
        with self._errors():
            mark = self.connection.execute("PRAGMA application_id").fetchone()[0]
            version = self.connection.execute("PRAGMA user_version").fetchone()[0]
        if mark != APPLICATION:
            raise UsageError(f"{self.path} is not a file of a study; give another file")
        if version != FORMAT:
            raise UsageError(f"{self.path} has format {version}, this version reads {FORMAT}; give another file")
        foreign = self.rows(
            "SELECT type, name FROM sqlite_master WHERE type NOT IN ('table', 'index')"
            " OR (type = 'index' AND sql IS NOT NULL) OR sql LIKE 'CREATE VIRTUAL%'"
        )
        if foreign:
            kind, name = foreign[0]
            raise UsageError(f"{self.path} holds a {kind} {str(name)[:40]!r}, which no study has; give another file")
        for table, columns in _tables().items():
            found = {row["name"]: row["hidden"] for row in self.rows(f"PRAGMA table_xinfo({table})")}
            lacking = [column for column in columns if found.get(column, column not in LATER)]
            if lacking:
                what = f"no table {table!r}" if not found else f"no column {lacking[0]!r} in its table {table!r}"
                raise self._damaged(f"it has {what}")

    def _columns_of_results(self) -> list[str]:
        return [row["name"] for row in self.rows("PRAGMA table_info(results)")]

    def _check_facts(self) -> None:
        """Refuse a file that does not say what was studied."""
        if not self.rows("SELECT 1 FROM cells LIMIT 1") or not isinstance(self.config.get("environments"), list):
            raise self._damaged("it does not say what was studied")

    def _open(
        self,
        config: Mapping[str, Any],
        cells: Sequence[Mapping[str, Any]],
        problems: Mapping[str, tuple[Environment, Sequence[Problem]]],
        regrade: bool,
    ) -> None:
        with self._errors():
            new = not self.connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        grows, changes = False, ProblemChanges()
        if not new:
            self._check()
            self._check_facts()
            config = self._with_history(config)
            grows = self.fact("fingerprint") != fingerprint(config)
            if grows and not self._can_grow(config := json.loads(json.dumps(config)), cells):
                what = "; ".join(differences(self.config, {**config, "draws": self.config.get("draws")}))
                raise UsageError(
                    f"{self.path} belongs to another study ({what});"
                    " give another --out, or a study with all of its cells and problems to go on"
                )
            changes = ProblemChanges.between(self.rows("SELECT * FROM problems"), problems)
            if refusal := changes.refusal(regrade):
                raise UsageError(f"{self.path}: {refusal}")
        judged = self._judge_again(changes, problems)  # may raise, so it comes before all writing
        with self._errors():
            self.connection.execute("PRAGMA journal_mode = WAL")
            self.connection.execute("PRAGMA synchronous = NORMAL")
            self.connection.execute(f"PRAGMA busy_timeout = {1000 * _LONG_PATIENCE}")
        with self._transaction():
            if new:
                self._make()
            for column in sorted(LATER - set(self._columns_of_results())):
                self.connection.execute(f"ALTER TABLE results ADD COLUMN {column} REAL NOT NULL DEFAULT 0")
            if grows:
                self._renumber(cells)
            if new or grows:
                self._describe(config, cells)
            if new or grows or changes.new:
                self._write_problems(problems)
            for statement, parameters in judged:
                self.connection.execute(statement, parameters)
            began, about = datetime.now(UTC).isoformat(timespec="seconds"), json.dumps(about_this_run())
            cursor = self.connection.execute("INSERT INTO runs (began, about) VALUES (?, ?)", (began, about))
            self._run = cursor.lastrowid or 0

    def _make(self) -> None:
        for statement in _SCHEMA.split(";"):
            self.connection.execute(statement)
        self.connection.execute(f"PRAGMA application_id = {APPLICATION}")
        self.connection.execute(f"PRAGMA user_version = {FORMAT}")

    def _with_history(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """A configuration with what the file alone knows.

        These are the models that cannot be told from others now, and the draws by which its problems became as many.
        """
        ours = self.config
        known = {**ours.get("models", {}), **config.get("models", {})}
        draws = ours.get("draws", [ours.get("n")])
        if draws[-1] != config["n"]:
            draws = [*draws, config["n"]]
        return {**config, **({"models": known} if known else {}), **({"draws": draws} if len(draws) > 1 else {})}

    def note_model(self, label: str, digest: str) -> None:
        """Record what a model is, once it is loaded, unless it was known when the file was opened.

        Args:
            label: of the model.
            digest: what tells it from others under that label; empty if that is not known.

        Raises:
            UsageError: it is not the one that the file has results of.
        """
        config = self.config
        models = config.get("models", {})
        if not digest or label in self._told or models.get(label) == digest:
            return
        if label in models:
            raise UsageError(
                f"{self.path} belongs to another study (model {label}: {models[label]} there, {digest} now);"
                " give another --out"
            )
        config["models"] = {**models, label: digest}
        with self._transaction():
            for key, value in (("config", json.dumps(config)), ("fingerprint", fingerprint(config))):
                self.connection.execute("UPDATE study SET value = ? WHERE key = ?", (value, key))

    def _can_grow(self, config: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> bool:
        """Whether a configuration has all the cells that there are, and what these depend on is the same."""
        ours = self.config
        same = all(
            ours.get(key) == config.get(key) for key in {*ours, *config} - _OF_CELLS - _DIGESTS - _GROWING - _HISTORY
        )
        same = same and all(ours.get(key, 0) <= config[key] for key in _GROWING)
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
        self.connection.execute("DELETE FROM study WHERE key IN ('config', 'fingerprint')")
        self.connection.execute("DELETE FROM cells")

    def _describe(self, config: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> None:
        """Write what the study is."""
        for key, value in (("config", json.dumps(config)), ("fingerprint", fingerprint(config))):
            self._insert("study", {"key": key, "value": value})
        for number, cell in enumerate(cells):
            self._insert("cells", {"cell": number, **cell})

    def _write_problems(self, problems: Mapping[str, tuple[Environment, Sequence[Problem]]]) -> None:
        """Write environments and problems in their order; those that are there get the numbers that they have in it."""
        before = {(row["environment"], row["id"]): dict(row) for row in self.rows("SELECT * FROM problems")}
        for table in ("environments", "problems"):
            self.connection.execute(f"DELETE FROM {table}")
        number, moved = 0, []
        for label, (environment, drawn) in problems.items():
            self._insert("environments", {"environment": label, "delimiter": environment.delimiter})
            for problem in drawn:
                number += 1
                row = before.get((label, problem.id)) or {"environment": label} | problem_row(environment, problem)
                moved += [(row["problem"], number)] if "problem" in row else []
                self._insert("problems", row | {"problem": number})
        if any(old != new for old, new in moved):
            self._move_problems(moved)

    def _move_problems(self, moved: Sequence[tuple[int, int]]) -> None:
        """Give results other numbers of problems: (old, new)."""
        self.connection.execute("CREATE TEMP TABLE moved (old INTEGER PRIMARY KEY, new INTEGER NOT NULL)")
        self.connection.executemany("INSERT INTO moved VALUES (?, ?)", moved)
        for table in _OF_A_SEARCH:  # by way of negative numbers, which are nobody's
            self.connection.execute(f"UPDATE {table} SET problem = -(SELECT new FROM moved WHERE old = problem)")
            self.connection.execute(f"UPDATE {table} SET problem = -problem")
        self.connection.execute("DROP TABLE moved")

    def _judge_again(
        self, changes: ProblemChanges, problems: Mapping[str, tuple[Environment, Sequence[Problem]]]
    ) -> list[Statement]:
        """What judges the results of problems by other gold answers; answers are checked before anything is written."""
        statements: list[Statement] = []
        numbers = self.problem_numbers() if changes.answers else {}
        for label, ids in changes.answers.items():
            environment, drawn = problems[label]
            for problem in drawn:
                if problem.id in ids:
                    statements += regraded(self.rows, numbers[label, problem.id], environment, problem)
        return statements

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # a full disk has undone it already
                    self.connection.execute("ROLLBACK")
                raise

    def _insert(self, table: str, row: Mapping[str, Any]) -> None:
        places = ", ".join("?" * len(row))
        self.connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", tuple(row.values()))

    def _take_lock(self) -> None:
        """One writer at a time. The lock is a file beside ours: closing a database file would drop SQLite's own."""
        name = self.path.with_name(self.path.name + ".lock")
        while self._lock is None:
            try:
                lock = os.open(name, os.O_RDWR | os.O_CREAT, 0o644)
            except OSError as error:
                raise UsageError(f"{self.path} cannot be written to: {name.name}: {error.strerror}") from None
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if name.exists() and os.path.samestat(os.fstat(lock), name.stat()):
                    self._lock = lock
            except OSError:
                raise UsageError(
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

    def forget_errors(self) -> int:
        """Drop the results that failed, so that they are run again; returns how many there were."""
        return self._forget("SELECT cell, problem FROM results WHERE error IS NOT NULL")

    def forget_unavailable(self) -> int:
        """Drop the results that failed because a model could not be reached; returns how many there were.

        One that failed so in `_TRIES` runs, though nearly all searches with its models were answered, has failed for
        good: it is kept, as any other error.
        """
        query = f"""SELECT cell, problem, policy, verifier, json_array({", ".join(_LABELS)}, id) AS name
            FROM results JOIN cells USING (cell) JOIN problems USING (problem, environment) WHERE stopped = ?"""
        failed = self.rows(query, (UNAVAILABLE,))
        if not failed:
            return 0
        answered = {
            (policy, verifier): good >= _NEARLY_ALL * whole
            for policy, verifier, good, whole in self.rows(
                """SELECT policy, verifier, sum(error IS NULL), count(*) FROM results JOIN cells USING (cell)
                GROUP BY policy, verifier"""
            )
        }
        known = self.rows("SELECT value FROM study WHERE key = 'tries'")
        tries: dict[str, int] = json.loads(known[0][0]) if known else {}
        for row in failed:
            if answered[row["policy"], row["verifier"]]:
                tries[row["name"]] = tries.get(row["name"], 0) + 1
        final = [(row["cell"], row["problem"]) for row in failed if tries.get(row["name"], 0) >= _TRIES]
        with self._transaction():
            self.connection.execute("INSERT OR REPLACE INTO study VALUES ('tries', ?)", (json.dumps(tries),))
            self.connection.executemany("UPDATE results SET stopped = 'error' WHERE cell = ? AND problem = ?", final)
        return self._forget("SELECT cell, problem FROM results WHERE stopped = ?", (UNAVAILABLE,))

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
                with contextlib.suppress(sqlite3.Error):  # somebody reads, or the disk is full
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

    def _repr_html_(self) -> str:
        """The page of the study in a frame, for notebooks; of the trees as many as a notebook's file can hold."""
        from agent.report.pages import NOTEBOOK_TREES, in_notebook, study_page

        return in_notebook(study_page(self, NOTEBOOK_TREES))

    # ------------------------------------------------------------------------------------------------------ reading

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """What a query answers."""
        with self._errors():
            return self.connection.execute(query, parameters).fetchall()

    def fact(self, key: str) -> str:
        """A fact of the table ``study``."""
        found = self.rows("SELECT value FROM study WHERE key = ?", (key,))
        if not found or not isinstance(found[0][0], str):
            raise self._damaged(f"it lacks its {key}")
        value: str = found[0][0]
        return value

    def _damaged(self, what: str) -> UsageError:
        return UsageError(f"{self.path} is a damaged study: {what}; give another file")

    @property
    def config(self) -> dict[str, Any]:
        """What was studied: the keys of the study's YAML file, and the digests of the weights."""
        try:
            config = json.loads(self.fact("config"))
        except (ValueError, RecursionError) as error:
            if isinstance(error, UsageError):
                raise
            raise self._damaged(f"its configuration is no JSON ({error})") from None
        if not isinstance(config, dict):
            raise self._damaged("its configuration is no mapping")
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

    def steered(self) -> int:
        """How many searches a person steered."""
        steered: int = self.rows("SELECT count(*) FROM results WHERE stopped LIKE ?", (f"%{STEERED}",))[0][0]
        return steered

    def total(self) -> int:
        """How many results there will be."""
        total: int = self.rows("SELECT count(*) FROM cells JOIN problems USING (environment)")[0][0]
        return total

    def results(self) -> list[dict[str, Any]]:
        """All results with the labels of their cells and the problem's id, level and number, in order."""
        query = """SELECT environment, policy, verifier, strategy, budget, seed, id,
            json_extract(meta, '$.level') AS level, results.*
            FROM results JOIN cells USING (cell) JOIN problems USING (problem, environment) ORDER BY cell, problem"""
        rows = [dict(row) for row in self.rows(query)]
        later = dict.fromkeys(LATER, 0.0)
        for row in rows:
            row |= {**later, **row}
            for column in ("confidence", "drawn", *COSTS):
                if not isinstance(row[column], int | float):
                    raise self._damaged(f"{column} of a result is {str(row[column])[:40]!r}, no number")
        return rows

    def candidates(self) -> Iterator[dict[str, Any]]:
        """All candidates in order, their cells' and problems' numbers with them."""
        query = """SELECT *, CASE WHEN json_valid(steps) THEN json_type(steps) = 'array' END AS sound FROM candidates
            ORDER BY cell, problem, node"""
        for row in self._each(query):
            candidate = dict(row)
            if not candidate.pop("sound"):
                raise self._damaged("the steps of a candidate are no JSON list")
            yield candidate

    def _each(self, query: str) -> Iterator[sqlite3.Row]:
        """The rows of a query, one by one."""
        with self._errors():
            cursor = self.connection.execute(query)
        while True:
            with self._errors():
                row = cursor.fetchone()
            if row is None:
                return
            yield row

    def votes(self) -> list[dict[str, Any]]:
        """The outcome of every vote, in order."""
        return [dict(row) for row in self.rows("SELECT * FROM votes ORDER BY cell, problem, rule, aggregate")]

    def raw_graphs(self) -> Iterator[tuple[Place, dict[str, Any]]]:
        """The graphs as JSON, in order; no environment is needed to read them."""
        for row in self._each("SELECT cell, problem, graph FROM graphs ORDER BY cell, problem"):
            yield Place(row[0], row[1]), self._unpacked(row[2])

    def _unpacked(self, packed: object) -> dict[str, Any]:
        try:
            return unpack(packed)
        except ValueError as error:
            raise self._damaged(str(error)) from None

    def environment(self, label: str) -> Environment:
        """The environment of a label: the one that was given, or as the file names it, made once.

        Raises:
            ValueError: there is no such label.
            UsageError: it cannot be made, or the file would run code (`agent.recipes.files.refuse_code`).
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
                self._environments[label] = guard(load_environment(name, **options))
                return self._environments[label]
        raise ValueError(f"no environment {label!r}; allowed: {', '.join(names)}")

    def graph(self, place: tuple[SupportsIndex, SupportsIndex]) -> SearchGraph:
        """One search as a graph.

        Args:
            place: the numbers of its cell and its problem, e.g. a `Place`; of any type of whole numbers, numpy's too.

        Raises:
            KeyError: when there is none at that place.
        """
        found = self._graph_row(place)
        environment = self.environment(found["environment"])
        raw = self._unpacked(found["graph"])
        try:
            return SearchGraph.from_json(raw, environment)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise self.damaged_graph(place, error) from None

    def raw_graph(self, place: tuple[SupportsIndex, SupportsIndex]) -> dict[str, Any]:
        """One search as JSON, as `raw_graphs` gives all; raises KeyError when there is none at that place."""
        return self._unpacked(self._graph_row(place)["graph"])

    def damaged_graph(self, place: tuple[SupportsIndex, SupportsIndex], error: Exception) -> UsageError:
        """What to raise for a stored graph that cannot be read."""
        cell, problem = map(operator.index, place)
        return self._damaged(f"the graph of cell {cell} and problem {problem} is no graph ({error})")

    def _graph_row(self, place: tuple[SupportsIndex, SupportsIndex]) -> sqlite3.Row:
        cell, problem = map(operator.index, place)  # SQLite finds nothing by the integers of numpy
        query = """SELECT environment, graph FROM graphs JOIN cells USING (cell) WHERE cell = ? AND problem = ?"""
        known = all(abs(number) < 2**63 for number in (cell, problem))  # SQLite holds no others
        found = self.rows(query, (cell, problem)) if known else []
        if not found:
            raise KeyError(f"no graph of cell {cell} and problem {problem}")
        return found[0]
