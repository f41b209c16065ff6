"""Files of studies that are damaged, locked, read-only or made by a stranger: one line that names the file."""

import os
import resource
import shutil
import signal
import sqlite3
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from agent.interface.cli import main
from agent.study import results_db
from agent.study.export import EXPORTS
from agent.study.results_db import StudyFile
from agent.study.rows import _storable
from agent.study.run import measure
from agent.study.storage.packed_graphs import pack, unpack
from agent.study.table import summarize
from envs.messages import UsageError
from tests.agent.study.test_study import TOY

SMALL = replace(TOY, n=4, seeds=(0,))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "sound.sqlite"
    measure(SMALL, path)
    return path


@pytest.fixture
def path(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(sound, tmp_path / "mine.sqlite"))


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def test_a_file_from_before_memory_traffic_is_read_and_goes_on(path: Path) -> None:
    with StudyFile(path) as file:
        assert all(line["cost"]["flop_equivalents"] > line["cost"]["policy_flops"] for line in summarize(file))
        before = file.total()
    drop = [f"ALTER TABLE results DROP COLUMN {column}" for column in ("policy_reads", "verifier_reads")]
    change(path, *drop, "DELETE FROM results WHERE cell = 0", "DELETE FROM candidates WHERE cell = 0",
           "DELETE FROM votes WHERE cell = 0", "DELETE FROM graphs WHERE cell = 0")  # fmt: skip
    with StudyFile(path) as file:
        assert all(line["cost"]["flop_equivalents"] is None for line in summarize(file))
    measure(SMALL, path)
    with StudyFile(path) as file:
        assert len(file.results()) == before
        known = [line["cost"]["flop_equivalents"] is not None for line in summarize(file)]
        assert known == [True] + [False] * (len(known) - 1)


def read_all(path: Path) -> None:
    with StudyFile(path) as file:
        summarize(file)
        list(file.candidates())
        file.votes()
        for place, _ in list(file.raw_graphs()):
            file.graph(place)


def refused(act: Callable[[], object], path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        act()
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


# ------------------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("DROP TABLE votes", "no table 'votes'"),
        ("ALTER TABLE results DROP COLUMN drawn", "no column 'drawn' in its table 'results'"),
        ("DELETE FROM study", "lacks its config"),
        ("DELETE FROM cells", "does not say what was studied"),
        ("UPDATE study SET value = substr(value, 1, 40) WHERE key = 'config'", "configuration is no JSON"),
        ("UPDATE study SET value = '[1]' WHERE key = 'config'", "configuration is no mapping"),
        ("UPDATE study SET value = replace(hex(zeroblob(50000)), '0', '[') WHERE key = 'config'", "is no JSON"),
        ("UPDATE study SET value = x'ff' WHERE key = 'config'", "lacks its config"),
        ("UPDATE results SET samples = 'many'", "samples of a result is 'many', no number"),
        ("UPDATE results SET confidence = x'00ff'", "confidence of a result"),
        ("UPDATE candidates SET steps = substr(steps, 1, 20)", "steps of a candidate are no JSON list"),
        ("UPDATE candidates SET steps = '7'", "steps of a candidate are no JSON list"),
        ("UPDATE graphs SET graph = substr(graph, 1, 30)", "a graph is cut off"),
        ("UPDATE graphs SET graph = x'00112233'", "a graph is damaged"),
        ("UPDATE graphs SET graph = 'text'", "a graph is not packed"),
        ("UPDATE results SET error = CAST(x'fffe41' AS TEXT)", "UTF-8"),
    ],
)
def test_damage_is_told_in_a_line_that_names_the_file(path: Path, statement: str, words: str) -> None:
    change(path, statement)
    assert words in refused(lambda: read_all(path), path)


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE results RENAME TO hidden; CREATE VIEW results AS WITH RECURSIVE c(x) AS"
        " (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT * FROM c, hidden",
        "CREATE VIEW extra AS SELECT 1",
        "CREATE TRIGGER grow AFTER INSERT ON runs BEGIN DELETE FROM results; END",
        "CREATE INDEX slow ON results (abs(answer))",
        "CREATE VIRTUAL TABLE words USING fts5(text)",
    ],
)
def test_only_tables_of_ours_are_read(path: Path, statement: str) -> None:
    change(path, *statement.split("; ") if "TRIGGER" not in statement else [statement])
    for act in (lambda: read_all(path), lambda: measure(SMALL, path)):
        assert "which no study has" in refused(act, path)


def test_computed_columns_are_none_of_ours(path: Path) -> None:
    change(
        path,
        "ALTER TABLE votes RENAME TO hidden",
        "CREATE TABLE votes (cell, problem, rule, aggregate, answer, correct, confidence AS (abs(cell)))",
    )
    assert "no column 'confidence' in its table 'votes'" in refused(lambda: read_all(path), path)


def test_zeroed_and_random_pages_are_never_a_traceback(path: Path, sound: Path) -> None:
    whole, size = sound.read_bytes(), 4096
    told = 0
    for page in range(len(whole) // size):
        for filling in (bytes(size), os.urandom(size)):
            path.write_bytes(whole[: page * size] + filling + whole[(page + 1) * size :])
            try:
                read_all(path)
            except UsageError as error:
                told += str(path) in str(error)
    assert told > 5


def test_a_graph_is_unpacked_within_bounds(path: Path) -> None:
    bomb = zlib.compress(bytes(400 << 20), 9)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE graphs SET graph = ?", (bomb,))
        connection.commit()
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "unpacks to more than" in refused(lambda: read_all(path), path)
    assert "unpacks to more than" in refused(lambda: EXPORTS["graphml"]([StudyFile(path)], path.parent / "g", 9), path)
    assert time.monotonic() - began < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB
    graph = {"nodes": [{"text": "a" * 50, "id": i} for i in range(10_000)]}
    assert unpack(pack(graph)) == graph


# --------------------------------------------------------------------------------------------- what is no file


def test_what_is_no_file_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = tmp_path / "link.sqlite"
    link.symlink_to(tmp_path / "nowhere" / "x.sqlite")
    os.mkfifo(tmp_path / "pipe")
    for place, words in (
        (tmp_path, "is a folder"),
        (link, "is a link to"),
        (Path("/dev/null"), "is a device or a pipe"),
        (tmp_path / "pipe", "is a device or a pipe"),
    ):
        for act in (lambda place=place: StudyFile(place), lambda place=place: measure(SMALL, place)):
            assert words in refused(act, place)
    (tmp_path / "file").write_text("x")
    inside = tmp_path / "file" / "s.sqlite"
    assert "cannot be made" in refused(lambda: measure(SMALL, inside), inside)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "link.sqlite", "pipe"]


@pytest.mark.parametrize(("mode", "words"), [(os.R_OK, "cannot be read"), (os.W_OK, "cannot be written to")])
def test_access_that_is_denied_is_told(path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, words: str) -> None:
    access = os.access
    monkeypatch.setattr(os, "access", lambda place, asked: access(place, asked) and not asked & mode)
    before = path.read_bytes()
    assert words in refused(lambda: measure(SMALL, path), path)
    assert path.read_bytes() == before


def as_nobody(act: Callable[[], None]) -> int:
    """The exit code of a process of another user."""
    child = os.fork()
    if not child:
        try:
            os.setgid(65534)
            os.setuid(65534)
            act()
            os._exit(0)
        except UsageError as error:
            sys.stderr.write(str(error))
            os._exit(3)
        except BaseException:
            os._exit(9)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_read_only_database_is_an_error_of_ours(path: Path) -> None:
    def write() -> None:
        file = StudyFile.__new__(StudyFile)
        file.path, file._lock, file._run = path, None, 0
        file._given, file._trust = {}, False
        file._connect(path.absolute().as_uri())
        with file._transaction():
            file._insert("study", {"key": "a", "value": "b"})

    for folder in path.absolute().parents:
        if folder.stat().st_uid == 0 and len(folder.parts) > 2:
            folder.chmod(0o755)
    path.chmod(0o444)
    assert as_nobody(write) == 3


def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "full.sqlite"
    words = ["eval", "--env", "toy", "--policy", "scripted", "--verifier", "table", "--strategy", "beam branch=2",
             "-n", "30", "--budget", "4", "--json", "--out", str(out)]  # fmt: skip
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        assert main(words) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    told = capsys.readouterr().err
    assert str(out) in told
    assert "Traceback" not in told
    assert main(words) == 0  # with room again it goes on
    with StudyFile(out) as file:
        assert len(file.results()) == 30


# ---------------------------------------------------------------------------------------------------- a lock


@pytest.fixture
def held(path: Path) -> Iterator[Path]:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield path
        other.execute("ROLLBACK")


def test_a_locked_file_says_so_soon(held: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_db, "_PATIENCE", 0.2)
    before = held.read_bytes()
    for act in (lambda: StudyFile(held), lambda: measure(SMALL, held)):
        began = time.monotonic()
        assert "is locked by another program" in refused(act, held)
        assert time.monotonic() - began < 5
    assert held.read_bytes() == before


def test_patience_with_a_lock_is_short() -> None:
    assert results_db._PATIENCE <= 10


# ------------------------------------------------------------------------------------------------- large numbers


@pytest.mark.parametrize("seed", [2**64, 10**19, 99999999999999999999999, -(2**63) - 1])
def test_seeds_that_no_file_holds_are_refused(tmp_path: Path, seed: int) -> None:
    with pytest.raises(UsageError, match=rf"seed {seed} given; allowed: whole numbers of 64 bits"):
        replace(SMALL, seeds=(seed,))


@pytest.mark.parametrize("seed", [2**63 - 1, -(2**63)])
def test_the_largest_seeds_are_held(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "s.sqlite"
    measure(replace(SMALL, seeds=(seed,), n=1), path)
    with StudyFile(path) as file:
        assert {row["seed"] for row in file.results()} == {seed}


def test_costs_beyond_all_measure_are_held() -> None:
    assert _storable(10**400) == 1e300
    assert _storable(2**63) == float(2**63)
    assert isinstance(_storable(2**63 - 1), int)
