"""OpenEnv servers: one that speaks the protocol and misbehaves, and one of the real package.

The real package needs a virtual environment of its own; ``STEPWELL_OPENENV_PYTHON`` names its interpreter.
"""

import contextlib
import json
import os
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("websocket", reason="websocket-client is not installed (extra: openenv)")
pytest.importorskip("wsproto", reason="wsproto is not installed (it comes with selenium)")

import wsproto
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Request, TextMessage

from envs.adapters.episodes import EpisodeLost
from envs.adapters.openenv import _Action
from envs.conformance import check_environment
from envs.core import Step
from envs.registry import UnusableEnvironment, load_environment
from tests.envs.adapters.openenv_sources import GUESSING

SCHEMA = {"properties": {"number": {"type": "integer", "minimum": 0, "maximum": 7}}, "required": ["number"]}


class Fake:
    """Speaks the protocol on a port of its own: the number is the seed modulo 8.

    Attributes:
        pages: what GET gives.
        odd: what is answered to a step in place of an observation: a text, or a number of bytes.
        opened: sessions so far.
    """

    def __init__(self) -> None:
        self.pages: dict[str, Any] = {"/schema": {"action": SCHEMA}, "/metadata": {"name": "guessing"}}
        self.odd: str | int | None = None
        self.opened = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        self.hang_up()

    def hang_up(self) -> None:
        """End the sessions."""
        for each in self._connections:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            head = connection.recv(1 << 16)
            path = head.split(b" ")[1].decode()
            if path == "/ws":
                self._session(connection, head)
                return
            page = self.pages.get(path)
            body = page if isinstance(page, bytes) else json.dumps(page).encode()
            status = b"404 Not Found" if page is None else b"200 OK"
            connection.sendall(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))

    def _session(self, connection: socket.socket, data: bytes) -> None:
        self.opened += 1
        protocol, number = wsproto.WSConnection(wsproto.ConnectionType.SERVER), 0
        while data:
            protocol.receive_data(data)
            for event in protocol.events():
                if isinstance(event, Request):
                    connection.sendall(protocol.send(AcceptConnection()))
                elif isinstance(event, CloseConnection):
                    return
                elif isinstance(event, TextMessage | BytesMessage):
                    asked = json.loads(event.data)
                    number = asked["data"].get("seed", number) % 8
                    said = self._answer(asked, number)
                    connection.sendall(protocol.send(TextMessage(data=said)))
            data = connection.recv(1 << 16)

    def _answer(self, asked: dict[str, Any], number: int) -> str:
        if asked["type"] == "reset":
            made: dict[str, Any] = {"observation": {"said": "Which?", "metadata": {"now": time.time()}}, "done": False}
        elif self.odd is not None:
            return "x" * self.odd if isinstance(self.odd, int) else self.odd
        else:
            right = asked["data"]["number"] == number
            seen = {"said": "Right." if right else "No."}
            made = {"observation": seen, "reward": float(right), "done": right}
        return json.dumps({"type": "observation", "data": made})


@pytest.fixture
def fake() -> Iterator[Fake]:
    server = Fake()
    yield server
    server.close()


def made(fake: Fake, **options: Any) -> Any:
    return load_environment("openenv", base_url=fake.url, **{"max_steps": 5, "step_timeout": 10.0, **options})


def test_a_solved_episode_proves_itself(fake: Fake) -> None:
    environment = made(fake)
    problem = environment.read("seed 11")
    prompt = "Act in guessing. Each line is one action: the integer 'number'.\nguessing, seed 11\nWhich?\n"
    assert environment.prompt(problem) == prompt
    state = environment.step(environment.initial(problem), Step("2")).state
    assert state.steps[-1].observation == "No."
    won = environment.step(state, Step("3"))
    assert (won.status, won.reward, environment.answer(won.state)) == ("terminated", 1.0, "2\n3")
    assert environment.step(state, Step("three")).status == "truncated"
    assert environment.check(problem, "3")
    assert not environment.check(problem, "4")
    assert set(environment.options(state)) == set("01234567")
    assert fake.opened == 1  # a session is used again
    environment.close()


def test_the_kit_finds_nothing_in_the_protocol(fake: Fake) -> None:
    environment = made(fake, sessions=2)
    check_environment(environment, n=4)
    environment.close()


def test_a_session_that_was_lost_is_opened_again(fake: Fake) -> None:
    environment = made(fake, sessions=3)
    state = environment.step(environment.initial(environment.read("seed 11")), Step("2")).state
    fake.hang_up()
    assert environment.step(state, Step("3")).status == "terminated"
    fake.hang_up()
    assert environment.prompt(environment.read("seed 5")).endswith("Which?\n")
    environment.close()


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ("garbage", "does not answer"),
        ('{"type": "observation", "data": {"observation": 5, "done": false}}', "sent no observation"),
        ('{"type": "observation", "data": {"observation": {}, "done": "no"}}', "sent no observation"),
        ('{"type": "error", "data": {"message": "full", "code": "CAPACITY_REACHED"}}', "full.*; give fewer sessions"),
        ('{"type": "error"}', "says"),
        ("[" * 100_000, "does not answer"),
        (5 << 20, "more than 4 MiB"),
    ],
)
def test_what_a_server_says_is_not_believed(fake: Fake, odd: Any, message: str) -> None:
    environment = made(fake)
    fake.odd = odd
    with pytest.raises(EpisodeLost, match=message):
        environment.step(environment.initial(environment.read("seed 3")), Step("3"))
    fake.odd = None
    assert environment.check(environment.read("seed 3"), "3")
    environment.close()


def test_an_action_that_the_server_refuses_ends_the_trajectory(fake: Fake) -> None:
    environment = made(fake)
    fake.odd = '{"type": "error", "data": {"message": "no", "code": "VALIDATION_ERROR"}}'
    assert environment.step(environment.initial(environment.read("seed 3")), Step("9")).status == "truncated"
    assert not environment.check(environment.read("seed 3"), "9")
    environment.close()


def test_an_action_may_hold_any_character_of_a_line(fake: Fake) -> None:
    fake.pages["/schema"] = {"action": {"properties": {"number": {"type": "string"}}}}
    environment = made(fake)
    problem = environment.read("seed 3")
    state = environment.step(environment.initial(problem), Step("a; b")).state
    fake.odd = '{"type": "observation", "data": {"observation": {"said": "No."}, "reward": 1, "done": true}}'
    won = environment.step(state, Step("c; d"))
    assert environment.answer(won.state) == "a; b\nc; d"
    assert environment.check(problem, "c; d")
    environment.close()


def test_a_server_that_says_nothing_is_not_waited_for(fake: Fake) -> None:
    environment = made(fake, step_timeout=0.3)
    fake.odd = ""
    with pytest.raises(EpisodeLost, match="does not answer"):
        environment.step(environment.initial(environment.read("seed 3")), Step("3"))
    environment.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": "localhost:8000"}, "is no address of a server"),
        ({"base_url": "http://127.0.0.1:1"}, "no OpenEnv server answers at http://127.0.0.1:1/schema"),
        ({"field": "nmber"}, "did you mean 'number'"),
        ({"sessions": 0}, "at least 1"),
        ({"base_ur": "x"}, "did you mean 'base_url'"),
    ],
)
def test_wrong_options_are_told(fake: Fake, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UnusableEnvironment, match=message):
        load_environment("openenv", **{"base_url": fake.url, **options})


@pytest.mark.parametrize(
    "page", [b"<html>", b"[]", b"[" * 100_000, b" " * (5 << 20)], ids=["html", "list", "deep", "big"]
)
def test_a_page_that_is_no_schema_is_told(fake: Fake, page: bytes) -> None:
    fake.pages["/schema"] = page
    with pytest.raises(UnusableEnvironment, match=r"gives no JSON|no JSON object|more than 4 MiB"):
        made(fake)


@pytest.mark.parametrize(
    ("schema", "line", "action"),
    [
        ({"properties": {"text": {"type": "string"}}, "required": ["text"]}, "a; b", {"text": "a; b"}),
        ({"properties": {"on": {"type": "boolean"}, "metadata": {}}}, "true", {"on": True}),
        ({"properties": {"x": {"type": "number"}}}, "-1.5", {"x": -1.5}),
        (
            {"properties": {"x": {"$ref": "#/$defs/X"}}, "$defs": {"X": {"type": "string", "enum": ["a"]}}},
            "a",
            {"x": "a"},
        ),
        ({"properties": {"x": {"type": "array"}}, "required": ["x"]}, '{"x": [1]}', {"x": [1]}),
        ({"properties": {"a": {"type": "string"}, "b": {"type": "string"}}}, '{"a": "1"}', {"a": "1"}),
        ({}, '{"any": 1}', {"any": 1}),
    ],
)
def test_an_action_is_its_only_field_or_json(schema: dict[str, Any], line: str, action: dict[str, Any]) -> None:
    assert _Action(schema, "").read(line) == action


@pytest.mark.parametrize(
    ("schema", "line"),
    [
        (SCHEMA, "1.0"),
        (SCHEMA, "true"),
        (SCHEMA, "9" * 5000),
        ({"properties": {"x": {"type": "number"}}}, "NaN"),
        ({"properties": {"x": {"type": "number"}}}, "1e999"),
        ({"properties": {"x": {"type": "number"}}}, "[1]"),
        ({"properties": {"x": {"type": "boolean"}}}, "1"),
        ({"properties": {"x": {"type": "string", "enum": ["a"]}}}, "b"),
        ({"properties": {"a": {"type": "array"}}, "required": ["a"]}, '{"b": 1}'),
        ({"properties": {"a": {"type": "array"}}, "required": ["a"]}, "{}"),
        ({}, "[1]"),
    ],
)
def test_what_is_no_action_is_refused(schema: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        _Action(schema, "").read(line)


# ----------------------------------------------------------------------------------------------------- the real package

PYTHON = os.environ.get("STEPWELL_OPENENV_PYTHON", "")
real = pytest.mark.skipif(not PYTHON, reason="STEPWELL_OPENENV_PYTHON names no interpreter that has openenv")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = Path(tmp_path_factory.mktemp("server")) / "guessing.py"
    program.write_text(GUESSING)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([PYTHON, "-I", str(program), str(port), "2"])
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health") as reply:
                assert reply.status == 200
                break
            time.sleep(0.2)
        yield url
    finally:
        process.kill()
        process.wait()


@real
@pytest.mark.parametrize("sessions", [1, 2])
def test_a_server_of_the_real_package_conforms(server: str, sessions: int) -> None:
    environment: Any = load_environment("openenv", base_url=server, max_steps=6, sessions=sessions)
    problem = environment.read("seed 3")
    assert "Act in Guessing. Each line is one action: the integer 'number': from 0 to 7.\n" in environment.prompt(
        problem
    )
    state = environment.step(environment.initial(problem), Step("4")).state
    assert state.steps[-1].observation == "Lower."
    assert environment.step(state, Step("9")).status == "truncated"  # the server's own rule
    assert environment.step(state, Step("3")).status == "terminated"
    assert environment.check(problem, "4\n3")
    check_environment(environment, n=4)
    environment.close()


@real
def test_too_many_sessions_are_told(server: str) -> None:
    environment: Any = load_environment("openenv", base_url=server, sessions=3)
    for seed in range(2):
        environment.prompt(environment.read(f"seed {seed}"))
    with pytest.raises(EpisodeLost, match="give fewer sessions, or start it with more"):
        environment.prompt(environment.read("seed 2"))
    environment.close()
