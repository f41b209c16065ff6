"""The control socket: for its owner alone, bounded, cleaned up; and `stepwell ctl` in front of it."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.interface.cli import main
from agent.interface.control import server as server_module
from agent.interface.control.client import ask, find, processes
from agent.interface.control.folder import check_folder, connect, folders, live_sockets, make_path
from agent.interface.control.server import CLIENTS, REQUEST, ControlServer
from agent.search.budget import Budget
from agent.search.control.handle import SearchHandle
from agent.search.control.steering import INFO
from agent.search.engine import Engine
from agent.search.graph import SearchGraph
from agent.solver import task
from agent.strategies import Mcts
from envs.toy import Toy
from policies.scripted import ScriptedPolicy
from verifiers.table import TableVerifier

TOY = Toy()
ROOT = Path(__file__).parents[4]


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A runtime folder of the test's own, with a short path."""
    import shutil
    import tempfile

    tmp_path_factory.getbasetemp()  # made before the folder for temporary files is another
    folder = Path(tempfile.mkdtemp(prefix="sw", dir="/tmp"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("COLUMNS", "120")
    yield folder
    shutil.rmtree(folder)


class Live:
    """A paused search in a thread, behind a socket."""

    def __init__(self) -> None:
        self.engine = Engine(TOY, ScriptedPolicy(TOY, delay=0.002), TableVerifier(TOY))
        self.handle: SearchHandle = self.engine.submit(task(TOY.read("29 with 1 6 10"), Mcts(64), Budget(samples=64)))
        self.handle.do("pause", who="test")
        self.thread = threading.Thread(target=lambda: list(self.engine.run()), daemon=True)
        self.thread.start()
        self.server = ControlServer(self.engine.surface, "solve", "a test")

    def end(self) -> SearchGraph:
        if self.handle.state != "over":
            self.handle.do("stop", who="test")
        graph = self.handle.result.result(20)
        self.thread.join(20)
        return graph


@pytest.fixture
def live() -> Iterator[Live]:
    made = Live()
    with made.server:
        yield made
        made.end()


def ctl(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    try:
        code = main(["ctl", *words])
    except SystemExit as error:
        code = int(str(error.code))
    out, err = capsys.readouterr()
    return code, out, err


def told(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    code, out, err = ctl(capsys, *words, "--json")
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


# ---------------------------------------------------------------------------------------------------------- the socket


def test_the_socket_is_its_owners_alone_and_goes_with_the_process(live: Live, runtime: Path) -> None:
    path = live.server.path
    assert path.parent == runtime / "stepwell"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    live.server.__exit__(None, None, None)
    assert not path.exists()
    assert live_sockets() == []


def test_a_folder_that_others_can_use_is_not_used(runtime: Path) -> None:
    folder = runtime / "stepwell"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(PermissionError, match="only you can use"):
        check_folder(folder)
    assert make_path(1).parent == folders()[1]
    link = runtime / "elsewhere"
    link.symlink_to(folder)
    with pytest.raises(PermissionError):
        check_folder(link)


def test_sockets_of_processes_that_were_killed_are_removed(runtime: Path) -> None:
    path = make_path(4711)
    old = socket.socket(socket.AF_UNIX)
    old.bind(str(path))
    old.close()
    assert path.exists()
    assert live_sockets() == []
    assert not path.exists()


def test_without_a_place_for_a_socket_the_search_runs_all_the_same(
    monkeypatch: pytest.MonkeyPatch, runtime: Path
) -> None:
    long = runtime / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(long))
    live = Live()
    with live.server:
        assert live_sockets() == []
    live.end()


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b"hello\n", "must be one line of JSON"),
        (b"[1]\n", "must be an object"),
        (b"[" * 50_000 + b"\n", "must be one line of JSON"),
        (b'{"op": "lsit"}\n', "did you mean 'list'"),
        (b'{"op": 3}\n', "unknown operation 3"),
        (b'{"op": "show"}\n', "search None given"),
        (b'{"op": "show", "search": "9"}\n', "there is no search '9'"),
        (b'{"op": "show", "search": "1", "rows": -1}\n', "rows -1 given"),
        (b'{"op": "events", "after": "x"}\n', "after 'x' given"),
        (b'{"op": "events", "search": 1}\n', "search 1 given"),
        (b'{"op": "do", "search": "1", "command": "prune", "arguments": 3}\n', "arguments 3 given"),
        (b'{"op": "do", "search": "1", "command": "prune", "arguments": {"node": 1e3}}\n', "expected the number"),
        (b'{"op": "do", "search": "1", "command": "prune", "arguments": {"node": 0}}\n', "the question itself"),
        (b'{"op": "do", "search": "1", "command": "undo", "key": 3}\n', "key 3 given; expected a text"),
        (b'{"op": "do", "search": "1", "command": "undo", "key": "' + b"x" * 101 + b'"}\n', "a key of 101 characters"),
        (b"\xff\xfe\n", "must be one line of JSON"),
        (b'"' + b"x" * (REQUEST + 10) + b'"\n', "more than 65,536 bytes"),
    ],
)
def test_whatever_a_client_sends_is_answered_in_a_line(live: Live, sent: bytes, message: str) -> None:
    with connect(live.server.path) as connection:
        connection.settimeout(20)
        connection.sendall(sent)
        reply = json.loads(connection.makefile("rb").readline())
    assert reply["ok"] is False
    assert message in reply["error"]
    assert ask(live.server.path, {"op": "list"})["searches"][0]["state"] == "paused"


def test_clients_that_say_nothing_hold_up_no_other_and_there_are_not_too_many(live: Live) -> None:
    silent = [connect(live.server.path) for _ in range(CLIENTS - 1)]
    assert ask(live.server.path, {"op": "list"})["searches"]
    silent += [connect(live.server.path) for _ in range(4)]
    reply = json.loads(silent[-1].makefile("rb").readline())
    assert "busy" in reply["error"]
    for connection in silent:
        connection.close()
    end = time.monotonic() + 20
    while True:
        try:
            assert ask(live.server.path, {"op": "list"})["searches"]
            break
        except Exception:
            assert time.monotonic() < end


def test_a_reply_that_is_too_large_is_an_error(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "REPLY", 300)
    with pytest.raises(ValueError, match="more than 300 bytes"):
        ask(live.server.path, {"op": "show", "search": "1"})


def test_a_model_that_is_busy_is_said_to_be(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "WAIT", 0.05)
    gate = threading.Event()
    live.handle.look(lambda graph: gate.wait(20))
    reply = ask(live.server.path, {"op": "do", "search": "1", "command": "prune", "arguments": {"node": 1}})
    assert reply["pending"]
    gate.set()


# ------------------------------------------------------------------------------------------------------- stepwell ctl


def test_searches_are_listed_shown_and_steered(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    (listed,) = told(capsys, "list")["searches"]
    assert (listed["id"], listed["state"], listed["problem"]) == ("1", "paused", "toy/29 with 1 6 10")
    assert listed["process"]["pid"] == os.getpid()
    made = told(capsys, "expand", "1", "0", "3", "--key", "a1")["made"]
    assert made
    again = told(capsys, "expand", "1", "0", "3", "--key", "a1")
    assert (again["changed"], again["made"]) == (False, made)
    tree = told(capsys, "show", "1")["tree"]
    assert [each["node"] for each in tree if each["parent"] == 0] == made
    assert told(capsys, "prune", "1", "1", "--dry-run") == {
        "search": "1", "command": "prune", "changed": True, "old": False, "new": True, "dry_run": True
    }  # fmt: skip
    assert not any(each.get("cut") for each in told(capsys, "show", "1")["tree"])
    assert told(capsys, "prune", "1", "1", "--who", "script 7")["changed"]
    assert not told(capsys, "prune", "1", "1")["changed"]
    assert told(capsys, "budget", "1", "samples=20", "seconds=50")["new"] == {"samples": 20, "seconds": 50}
    assert told(capsys, "strategy", "1", "beam", "branch=2")["new"]["name"] == "beam"
    assert told(capsys, "write", "1", "0", "1")["changed"]
    assert told(capsys, "resume", f"{os.getpid()}/1")["changed"]
    graph = live.handle.result.result(20)
    assert [record["who"] for record in graph.info[INFO]][2] == "script 7"
    assert graph.info["strategy"]["name"] == "beam"
    live.thread.join(20)
    code, _, err = ctl(capsys, "pause", "1")
    assert (code, "there is no search '1'" in err) == (1, True)
    assert told(capsys, "list")["searches"] == []
    assert [each["state"] for each in told(capsys, "list", "--all")["searches"]] == ["over"]


def test_texts_of_a_model_are_shown_only_when_asked_for(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    told(capsys, "write", "1", "0", "\x1b]0;owned\x07")
    for words in (("list",), ("show", "1"), ("events", "--after", "0")):
        code, out, _ = ctl(capsys, *words)
        assert code == 0
        assert "owned" not in out
        assert "owned" not in json.dumps(told(capsys, *words))
    code, out, _ = ctl(capsys, "show", "1", "--content")
    assert r"\x1b]0;owned" in out
    assert "\x1b" not in out
    code, out, _ = ctl(capsys, "show", "1", "--content", "--json")
    assert "\x1b" not in out
    assert "\x1b]0;owned\x07" in json.dumps(json.loads(out), ensure_ascii=False).replace("\\u001b", "\x1b").replace(
        "\\u0007", "\x07"
    )


def test_events_go_on_from_a_cursor(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    first = told(capsys, "events")
    assert [event["kind"] for event in first["events"]][:2] == ["begun", "command"]
    told(capsys, "expand", "1", "0")
    told(capsys, "show", "1")  # answered after the step, and what is told of it, is taken up
    later = told(capsys, "events", "1", "--after", str(first["cursor"]))
    assert "expand" in [event.get("command") for event in later["events"]]
    assert all(event["cursor"] > first["cursor"] for event in later["events"])
    begun = time.monotonic()
    assert told(capsys, "events", "--after", str(later["cursor"]), "--wait", "1")["events"] == []
    assert time.monotonic() - begun >= 1
    code, out, _ = ctl(capsys, "events")
    assert code == 0
    assert out.rstrip().splitlines()[-1].startswith("cursor ")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["pruen", "1", "1"], 2, "did you mean 'prune'"),
        (["prune", "1", "x"], 2, "invalid int value"),
        (["prune", "7", "1"], 1, "there is no search '7'; under way: "),
        (["strategy", "1", "baem"], 2, "did you mean 'beam'"),
        (["answer", "1", "0"], 2, "node 0 has no answer"),
        (["events", "--after", "-3"], 2, "a whole number from 0 on"),
        (["events", "--process", "1"], 1, "no such process searches"),
        ([], 2, "what to do?"),
    ],
)
def test_what_is_wrong_is_said_with_the_nearest_match(
    live: Live, capsys: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    given, out, err = ctl(capsys, *words)
    assert (given, out) == (code, "")
    assert message in err
    assert "Traceback" not in err


def test_nothing_is_under_way(capsys: pytest.CaptureFixture[str]) -> None:
    assert ctl(capsys, "list") == (0, "no search is under way\n", "")
    assert processes() == []


def test_the_same_id_in_two_processes_needs_the_process(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    with ControlServer(live.engine.surface, "eval"):
        code, _, err = ctl(capsys, "pause", "1")
        assert (code, "is one of several; name its process" in err) == (1, True)


def test_a_search_is_found_among_many_though_its_model_is_busy(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.interface.control.server.LISTED", 0)
    hold = threading.Event()
    live.handle.look(lambda graph: hold.wait(20))
    began = time.monotonic()
    try:
        assert find("1") == (processes(ids=True)[0], "1")
        assert time.monotonic() - began < 2.0  # which a list waits for figures
    finally:
        hold.set()


def test_a_suspended_process_holds_nobody_up(
    live: Live, runtime: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its connections are accepted by the system, and nobody reads them."""
    monkeypatch.setattr("agent.interface.control.client._SOON", 0.3)
    with socket.socket(socket.AF_UNIX) as suspended:
        suspended.bind(str(make_path(4711)))
        suspended.listen()
        began = time.monotonic()
        assert find("1")[1] == "1"
        code, out, _ = ctl(capsys, "list")
        assert (code, "1 " in out) == (0, True)
        assert time.monotonic() - began < 10.0


# ------------------------------------------------------------------------------------------------------- real processes


def _start(*words: str, **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "agent.interface.cli", *words]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ}, **more
    )


def _await_search(state: str = "running") -> dict[str, Any]:
    end = time.monotonic() + 60
    while True:
        found = [each for process in processes() for each in process.searches if each["state"] == state]
        if found:
            return found[0]
        assert time.monotonic() < end
        time.sleep(0.1)


def test_solve_is_paused_and_stopped_from_another_process(capsys: pytest.CaptureFixture[str]) -> None:
    slow = ("--env", "toy", "--policy", "scripted", "--set", "policy.delay=0.1", "--strategy", "mcts")
    process = _start("solve", "29 with 1 6 10", *slow, "--budget", "1000", "--json")
    try:
        _await_search()
        told(capsys, "pause", "1")
        before = told(capsys, "show", "1")["search"]["nodes"]
        time.sleep(0.5)
        assert told(capsys, "show", "1")["search"]["nodes"] == before
        told(capsys, "stop", "1")
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert json.loads(out)["stopped"] == "stopped by a person"
    assert process.returncode in (0, 1)


def test_a_process_that_is_killed_leaves_nothing_that_disturbs(runtime: Path) -> None:
    slow = ("--env", "toy", "--policy", "scripted", "--set", "policy.delay=0.1", "--strategy", "mcts")
    process = _start("solve", "29 with 1 6 10", *slow, "--budget", "1000")
    _await_search()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert list((runtime / "stepwell").glob("*.sock"))
    assert processes() == []
    assert not list((runtime / "stepwell").glob("*.sock"))


def test_a_steered_search_of_an_evaluation_is_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slow = ("--env", "toy", "--policy", "scripted", "--set", "policy.delay=0.1", "--strategy", "mcts")
    out = str(tmp_path / "e.sqlite")
    process = _start("eval", *slow, "--budget", "24", "-n", "2", "--split", "train", "--out", out, "--concurrency", "1")
    try:
        search = _await_search()
        told(capsys, "stop", str(search["id"]))
        other = _await_search()
        while other["id"] == search["id"]:
            other = _await_search()
        told(capsys, "cancel", str(other["id"]))
        _, err = process.communicate(timeout=90)
    finally:
        process.kill()
    assert "1 of 2 searches were steered by a person" in " ".join(err.split())
