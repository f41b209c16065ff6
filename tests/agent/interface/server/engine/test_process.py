"""A server of two processes, as they end: neither outlives the other, and nobody is left waiting."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from agent.interface.server.core import Refused
from agent.interface.server.engine.process import EngineProcess
from agent.recipes.recipe import Component, Recipe
from envs.messages import UsageError
from tests.agent.interface.server.serving import CLIENT, QUESTION, serving

ROOT = Path(__file__).parents[5]
LONG = {"model": "stepwell/mcts-256", "messages": [{"role": "user", "content": QUESTION}]}
TOY = Recipe(Component("toy"), Component("scripted"), Component("table"))


class Served:
    """`stepwell serve` with a slow policy, one search at a time.

    Attributes:
        process: that was started; it leads a group of its own.
        engine: the other process.
        environment: of both: the folder of their socket for `stepwell ctl` is theirs alone.
        url: of the server.
    """

    def __init__(self, folder: Path) -> None:
        self.environment = os.environ | {"XDG_RUNTIME_DIR": str(folder)}
        options = "--port 0 --env toy --set policy.delay=0.1 --limit concurrency=1 --limit grace=1"
        words = ["serve", *options.split(), "--graphs", f"{folder}/graphs"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "agent.interface.cli", *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=self.environment, process_group=0,
        )  # fmt: skip
        assert self.process.stdout is not None
        found = re.search(r"http://\S+(?=/v1)", self.process.stdout.readline())
        assert found is not None
        self.url = found[0]
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        (self.engine,) = map(int, children.split())

    def post(self, **fields: Any) -> httpx2.Response:
        return CLIENT.post(f"{self.url}/v1/chat/completions", json=LONG | fields)

    def ask(self, count: int, **fields: Any) -> tuple[list[threading.Thread], list[httpx2.Response]]:
        """Requests under way, and where their replies will be."""
        replies: list[httpx2.Response] = []
        asking = [threading.Thread(target=lambda: replies.append(self.post(**fields))) for _ in range(count)]
        for each in asking:
            each.start()
        return asking, replies

    def wait_for(self, running: int, waiting: int) -> None:
        deadline = time.monotonic() + 20
        while CLIENT.get(f"{self.url}/health").json() != {"status": "ok", "running": running, "waiting": waiting}:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def served() -> Iterator[Served]:
    if not Path("/proc/self/task").is_dir():
        pytest.skip("looks for processes in /proc")
    with tempfile.TemporaryDirectory() as folder:  # of a short name, as sockets want it
        made = Served(Path(folder))
        try:
            yield made
        finally:
            if made.process.poll() is None:
                made.process.kill()
            made.process.communicate(timeout=30)
            wait_for_end(made.engine)


def wait_for_end(process: int) -> None:
    """Wait until a process is gone, or waits for nobody but its parent."""
    deadline = time.monotonic() + 30
    while alive(process):
        assert time.monotonic() < deadline, f"process {process} lives on"
        time.sleep(0.05)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_an_engine_that_is_killed_leaves_nobody_waiting(served: Served) -> None:
    """Those at work, after the first byte and before it, and those in the queue are told; then the server ends."""
    with CLIENT.stream("POST", f"{served.url}/v1/chat/completions", json=LONG | {"stream": True}) as stream:
        lines = stream.iter_lines()
        assert next(lines)
        asking, replies = served.ask(2)
        served.wait_for(1, 2)
        os.kill(served.engine, signal.SIGKILL)
        said = [line for line in lines if "error" in line]
    for each in asking:
        each.join(10)
    assert json.loads(said[-1].removeprefix("data: "))["error"]["message"].startswith("the search was lost")
    assert [reply.status_code for reply in replies] == [500, 500]
    _, errors = served.process.communicate(timeout=30)
    assert served.process.returncode == 1
    assert "the process of the engine was killed by signal 9" in errors
    assert errors.rstrip().endswith("stepwell: the process of the engine has died; start the server again")
    assert "Traceback" not in errors


def test_no_engine_outlives_a_server_that_is_killed(served: Served) -> None:
    """Not even with searches at work."""
    with CLIENT.stream("POST", f"{served.url}/v1/chat/completions", json=LONG | {"stream": True}) as stream:
        assert next(stream.iter_lines())
        os.kill(served.process.pid, signal.SIGKILL)
    began = time.monotonic()
    wait_for_end(served.engine)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("to_all", [True, False])
def test_a_signal_ends_the_searches_before_the_engine(served: Served, to_all: bool) -> None:
    """Whether it is sent to all processes of a service, or, as Ctrl-C, to the group of the terminal."""
    asking, replies = served.ask(1)
    served.wait_for(1, 0)
    time.sleep(1.0)  # until it has an answer
    if to_all:
        os.kill(served.engine, signal.SIGTERM)
        os.kill(served.process.pid, signal.SIGTERM)
    else:
        os.killpg(served.process.pid, signal.SIGINT)
    asking[0].join(20)
    (search,) = replies[0].json()["stepwell"]["searches"]
    assert search["stopped"] == "the server is shutting down"
    _, errors = served.process.communicate(timeout=30)
    assert not alive(served.engine)
    assert "Traceback" not in errors
    assert "the process of the engine" not in errors


def test_searches_are_steered_by_the_process_that_was_started(served: Served) -> None:
    asking, replies = served.ask(1)
    served.wait_for(1, 0)
    command = [sys.executable, "-m", "agent.interface.cli", "ctl", "stop", f"{served.process.pid}/1"]
    said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=served.environment, timeout=60)
    assert said.stdout == "stop: done\n", said
    asking[0].join(20)
    assert replies[0].json()["stepwell"]["searches"][0]["stopped"] == "stopped by a person"


def test_an_engine_that_cannot_load_says_why(tmp_path: Path) -> None:
    engine = EngineProcess({"toy": Recipe(Component("toy"), Component("nothing"))}, 1, tmp_path, 1)
    with pytest.raises(UsageError, match="nothing"):
        engine.ready()
    engine.join()


def test_an_engine_that_dies_before_it_is_ready_is_said(tmp_path: Path) -> None:
    engine = EngineProcess({"toy": TOY}, 1, tmp_path, 1)
    engine._process.kill()
    with pytest.raises(UsageError, match="ended before its models were loaded"):
        engine.ready()
    engine.join()


_BUSY = """
import socket, sys, threading, time
from agent.interface.server.engine import process
process.PATIENCE = 0.1
connection = socket.socket(fileno=int(sys.argv[1]))
threading.Thread(target=process._watch, args=(connection.fileno(),), daemon=True).start()
print("busy", flush=True)
time.sleep(60)
"""


def test_a_process_that_is_busy_with_something_else_ends_too() -> None:
    """While it loads a model, for example: nobody reads then that the connection has closed."""
    ours, theirs = socket.socketpair()
    with theirs:
        words = [sys.executable, "-c", _BUSY, str(theirs.fileno())]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, cwd=ROOT, pass_fds=[theirs.fileno()])
    with process, ours:
        assert process.stdout is not None
        assert process.stdout.readline() == b"busy\n"
        ours.sendall(b"x")  # this is not the end
        time.sleep(0.5)
        assert process.poll() is None
        ours.close()
        assert process.wait(10) == 1


def test_a_search_that_the_engine_cannot_begin_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next one is not."""
    from agent.interface.server.engine import searcher

    with serving() as running:
        with monkeypatch.context() as patched:
            patched.setattr(searcher, "strategy_of", lambda recipe: 1 / 0)
            assert running.post().status_code == 500
        assert running.load() == {"running": 0, "waiting": 0}
        assert running.post().status_code == 200


def test_a_result_that_cannot_be_made_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from agent.interface.server.engine import searcher

    def fail(*_: object) -> Refused:
        raise ZeroDivisionError

    with serving() as running:
        with monkeypatch.context() as patched:
            patched.setattr(searcher, "result_of", fail)
            refused = running.post()
        assert refused.status_code == 500
        assert refused.json()["error"]["message"].startswith("the result could not be made")
        assert running.post().status_code == 200
