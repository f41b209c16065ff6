"""The HTTP client: it gets through faults, gives up with a clear error, and never tells the key."""

import gzip
import socket
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from loguru import logger

from policies.servers import http_client as remote
from policies.servers.http_client import Client, ConnectionLimits, ServerRefused, ServerUnavailable, Unreadable
from tests.servers import Faults, Reply, Server

QUICK = ConnectionLimits(timeout=3.0, patience=300.0, pause=0.01, longest_pause=0.1)


def echo(body: dict[str, Any]) -> Reply:
    return 200, {"choices": [body.get("say")], "usage": {}}


def one(reply: Any) -> Any:
    if len(reply["choices"]) != 1:
        raise Unreadable("one choice is wanted")
    return reply["choices"][0]


def refuse(body: dict[str, Any]) -> Reply:
    return 422, {"detail": [{"msg": "no such thing"}]}


@pytest.fixture
def clients() -> Iterator[list[Client]]:
    made: list[Client] = []
    yield made
    for client in made:
        client.close()


def gather(client: Client, count: int, seconds: float = 60.0) -> dict[Hashable, Any]:
    found: dict[Hashable, Any] = {}
    end = time.monotonic() + seconds
    while len(found) < count and time.monotonic() < end:
        for key, value in client.collect(0.1):
            assert key not in found
            found[key] = value
    return found


def test_64_calls_at_once_to_localhost_come_back_whatever_fails(clients: list[Client]) -> None:
    with Server({"/v1/echo": echo}, Faults(rate=0.4)) as server:
        clients.append(client := Client(server.url, QUICK))
        for i in range(150):
            client.submit(i, "/echo", {"say": i}, one)
        assert gather(client, 150, 300.0) == {i: i for i in range(150)}
        assert set(server.failed) >= {"500", "503", "429", "hang", "reset", "cut", "garbage", "choices"}
        assert 1 < server.most <= 64


def test_localhost_may_mean_an_address_where_nobody_listens(
    clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo

    def both(host: Any, port: Any, *rest: Any, **named: Any) -> list[Any]:
        found = [entry for entry in resolve(host, port, *rest, **named) if entry[0] == socket.AF_INET]
        sixth = [(socket.AF_INET6, *entry[1:4], ("::1", port, 0, 0)) for entry in found]
        return [*sixth, *found] if host in ("localhost", b"localhost") else found

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with Server({"/v1/echo": echo}) as server:
        clients.append(client := Client(server.url, ConnectionLimits(patience=0)))
        for i in range(64):
            client.submit(i, "/echo", {"say": i}, one)
        assert gather(client, 64) == {i: i for i in range(64)}


def test_no_more_calls_are_in_flight_than_allowed(clients: list[Client]) -> None:
    with Server({"/v1/echo": echo}) as server:
        clients.append(client := Client(server.url, ConnectionLimits(connections=3)))
        for i in range(50):
            client.submit(i, "/echo", {"say": i}, one)
        assert len(gather(client, 50)) == 50
        assert server.most <= 3


def test_what_the_server_refuses_is_not_asked_again_and_its_words_are_told(clients: list[Client]) -> None:
    with Server({"/v1/refuse": refuse}) as server:
        clients.append(client := Client(server.url, QUICK))
        client.submit("a", "/refuse", {}, one)
        client.submit("b", "/nowhere", {}, one)
        found = gather(client, 2)
        assert isinstance(found["a"], ServerRefused)
        assert "/v1/refuse refused with 422" in str(found["a"])
        assert "no such thing" in str(found["a"])
        assert found["b"].status == 404
        assert server.asked["/v1/refuse"] == 1


def test_the_key_comes_from_the_environment_and_is_in_no_message(
    clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "s3cret")
    with Server({"/v1/echo": echo}, key="s3cret") as server:
        clients.append(client := Client(server.url, QUICK, key_variable="MY_KEY"))
        client.submit("right", "/echo", {"say": 1}, one)
        assert gather(client, 1) == {"right": 1}
        server.key = "another"
        client.submit("wrong", "/echo", {"say": 1}, one)
        message = str(gather(client, 1)["wrong"])
        assert "refused with 401" in message
        assert "MY_KEY was sent" in message
        assert "s3cret" not in message


def test_a_server_that_stays_down_is_a_clear_error_and_later_calls_fail_after_one_attempt(
    clients: list[Client],
) -> None:
    with Server({"/v1/echo": echo}) as server:
        clients.append(client := Client(server.url, ConnectionLimits(patience=0.2, pause=0.02)))
        server.stop()
        client.submit("first", "/echo", {}, one)
        first = gather(client, 1)["first"]
        client.submit("later", "/echo", {}, one)
        later = gather(client, 1)["later"]
    assert isinstance(first, ServerUnavailable)
    assert server.url in str(first)
    assert "patience is 0.2 s" in str(first)
    assert "in 1 attempt(s), the last: " in str(later)
    with pytest.raises(ServerUnavailable, match="is the server running there"):
        client.get("/models")


def test_calls_outlive_a_restart(clients: list[Client]) -> None:
    with Server({"/v1/echo": echo}, Faults(rate=0.5, kinds=["hang"])) as server:
        clients.append(client := Client(server.url, ConnectionLimits(patience=60, pause=0.02, longest_pause=0.1)))
        for i in range(20):
            client.submit(i, "/echo", {"say": i}, one)
        first = gather(client, 5)
        server.stop()  # about half of the calls hang in it
        server.faults = None
        for i in range(20, 30):
            client.submit(i, "/echo", {"say": i}, one)
        time.sleep(0.05)
        server.start()
        assert first | gather(client, 30 - len(first)) == {i: i for i in range(30)}


def test_cancelled_calls_are_closed_and_the_others_go_on(clients: list[Client]) -> None:
    with Server({"/v1/echo": echo}, Faults(rate=1.0, kinds=["hang"])) as server:
        clients.append(client := Client(server.url, ConnectionLimits(pause=0.01)))
        client.submit("a", "/echo", {"say": 1}, one)
        client.submit("b", "/echo", {"say": 2}, one)
        _until(lambda: server.open == 2)
        client.cancel(["a"])
        _until(lambda: server.open == 1)
        server.faults = None
        server.stop()
        server.start()
        assert gather(client, 1) == {"b": 2}
        assert client.collect(0.05) == []


def test_after_closing_a_client_may_be_used_again(clients: list[Client]) -> None:
    with Server({"/v1/echo": echo}) as server:
        clients.append(client := Client(server.url, QUICK))
        for say in (1, 2):
            client.submit("a", "/echo", {"say": say}, one)
            assert gather(client, 1) == {"a": say}
            client.close()
            client.close()
        assert client.collect(0.0) == []


def test_how_long_a_server_asks_to_wait_is_read_from_numbers_and_dates(clients: list[Client]) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert remote._after("7") == 7.0
    assert 80 < remote._after(soon) <= 90
    for nothing in (
        None,
        "-3",
        "nan",
        "inf",
        "soon",
        "Sun, 06 Nov 1994 08:49:37 GMT",
        f"Mon, 01 Jan {'9' * 20} 00:00:00 GMT",
    ):
        assert remote._after(nothing) == 0.0
    busy = {"/v1/busy": lambda body: (429, {"error": "busy"})}
    with Server(busy, Faults(rate=1.0, kinds=["429"])) as server:
        clients.append(client := Client(server.url, ConnectionLimits(patience=0.005)))
        client.submit("a", "/busy", {}, one)  # the server asks for 0.01 s
        assert "it asks to wait 0.01 s" in str(gather(client, 1)["a"])


def test_a_server_that_wants_money_is_asked_once(clients: list[Client]) -> None:
    asked = list[Any]()

    def unpaid(body: Any) -> tuple[int, Any]:
        asked.append(body)
        return 429, {"error": {"message": "You exceeded your current quota, please check your plan and billing"}}

    with Server({"/v1/unpaid": unpaid}) as server:
        clients.append(client := Client(server.url, QUICK))
        client.submit("a", "/unpaid", {}, one)
        assert isinstance(gather(client, 1)["a"], ServerRefused)
    assert len(asked) == 1


def test_a_reply_that_is_longer_than_it_can_need_to_be_is_not_read_and_fails_soon(clients: list[Client]) -> None:
    with Server({"/v1/echo": echo}) as server:
        clients.append(client := Client(server.url, QUICK))
        client.submit("a", "/echo", {"say": "x" * 3000}, one, 2048)
        found = gather(client, 1)["a"]
        assert isinstance(found, ServerRefused)
        assert "a reply of more than 2 KiB" in str(found)
        assert server.asked["/v1/echo"] == 4


def serve_raw(answer: Callable[[socket.socket], None]) -> str:
    """Serve whatever is written to the connections, in threads that end with the test's process; the URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def one_by_one() -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=safely, args=(connection,), daemon=True).start()

    def safely(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65536)
            answer(connection)

    threading.Thread(target=one_by_one, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


def endless(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")


def packed(coding: str, content: bytes) -> Callable[[socket.socket], None]:
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    return lambda connection: connection.sendall(head + content)


BOMB = gzip.compress(b"[" + b" " * (256 << 20) + b"]", 9)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (endless, "a reply of more than 256 KiB"),
        (packed("gzip", BOMB), "a reply of more than 256 KiB"),
        (packed("gzip, gzip", gzip.compress(BOMB)), "in the coding 'gzip, gzip'"),
        (packed("br", b"x" * 100), "in the coding 'br'"),
    ],
)
def test_64_replies_that_are_far_too_large_take_little_memory_and_time(
    clients: list[Client], answer: Callable[[socket.socket], None], words: str
) -> None:
    clients.append(client := Client(serve_raw(answer), QUICK))
    tracemalloc.start()
    started = time.monotonic()
    for i in range(64):
        client.submit(i, "/echo", {}, one, 256 << 10)
    found = gather(client, 64)
    seconds = time.monotonic() - started
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert all(isinstance(each, ServerRefused) and words in str(each) for each in found.values())
    assert peak < 100 << 20
    assert seconds < 30


@pytest.mark.parametrize(
    ("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("x-gzip", gzip.compress), ("", bytes)]
)
def test_a_reply_that_is_packed_though_it_was_not_asked_for_is_read(
    clients: list[Client], coding: str, pack: Callable[[bytes], bytes]
) -> None:
    clients.append(client := Client(serve_raw(packed(coding, pack(b'{"choices": [7]}'))), QUICK))
    assert client.ask("/echo", {}, one) == 7


def test_a_packed_reply_that_is_damaged_is_asked_for_again(clients: list[Client]) -> None:
    answers = [packed("gzip", b"no gzip"), packed("gzip", gzip.compress(b'{"choices": [7]}')[:20])]
    right = packed("gzip", gzip.compress(b'{"choices": [7]}'))
    url = serve_raw(lambda connection: (answers.pop() if answers else right)(connection))
    clients.append(client := Client(url, QUICK))
    assert client.ask("/echo", {}, one) == 7


def test_what_a_server_says_reaches_no_terminal_as_it_is(clients: list[Client]) -> None:
    said = "\x1b]0;owned\x07\x9b31m\u202ewrong " + "x" * 10_000
    with Server({"/v1/echo": lambda body: (400, {"error": {"message": said}})}) as server:
        clients.append(client := Client(server.url, QUICK))
        with pytest.raises(ServerRefused, match=r"owned.*wrong x") as caught:
            client.ask("/echo", {}, one)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700


def test_a_key_is_not_told_in_part_where_words_are_cut(clients: list[Client], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "s3cret" * 5)
    said = "y" * 485 + "s3cret" * 5
    with Server({"/v1/echo": lambda body: (400, {"error": {"message": said}})}) as server:
        clients.append(client := Client(server.url, QUICK, key_variable="MY_KEY"))
        with pytest.raises(ServerRefused, match="yyy") as caught:
            client.ask("/echo", {}, one)
    assert "s3c" not in str(caught.value)


@pytest.fixture
def log() -> Iterator[list[str]]:
    said: list[str] = []
    sink = logger.add(said.append, format="{message}")
    yield said
    logger.remove(sink)


def test_waiting_for_a_server_that_fails_is_said_and_its_end_too(
    clients: list[Client], log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_TROUBLED", 0.1)
    state = {"status": 503}
    routes = {"/v1/echo": lambda body: (state["status"], {"choices": [1], "message": "busy {x}"})}
    with Server(routes, Faults(0.0)) as server:
        clients.append(client := Client(server.url, QUICK))
        for i in range(3):
            client.submit(i, "/echo", {}, one)
        _until(lambda: len(log) >= 2)
        assert f"{server.url}: no usable reply for" in log[0]
        assert "3 call(s) wait; the last failure: 503 busy {x}; patience is 300 s" in log[0]
        state["status"] = 200
        assert gather(client, 3) == {0: 1, 1: 1, 2: 1}
        count = len(log)
        client.ask("/echo", {}, one)
        time.sleep(0.3)
        assert len(log) == count
    assert count < 10  # twice as long each time


def test_waiting_for_a_server_that_says_nothing_is_said(
    clients: list[Client], log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_TROUBLED", 0.1)
    monkeypatch.setattr(remote, "_QUIET", 0.2)
    with Server({"/v1/echo": echo}, Faults(rate=1.0, kinds=["hang"])) as server:
        clients.append(client := Client(server.url, QUICK))
        client.submit("a", "/echo", {}, one)
        _until(lambda: bool(log))
        assert "1 call(s) wait; none has failed" in log[0]
        client.cancel(["a"])
        _until(lambda: server.open == 0)


def test_a_proxy_is_not_asked_for_what_is_on_this_machine(
    clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with Server({"/v1/echo": echo}) as server:
        clients.append(client := Client(server.url, ConnectionLimits(patience=0)))
        client.submit("a", "/echo", {"say": 1}, one)
        assert gather(client, 1) == {"a": 1}


@pytest.mark.parametrize(
    "url",
    [
        *("localhost:8000", "ftp://x/v1", "http://key@host/v1", "http:///v1", ""),
        *("http://127.0.0.1:65536/v1", "http://[::1]:99999/v1", "http://host:-1/v1"),
        *("http://host/v1?key=1", "http://host/v1#part"),
    ],
)
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="base_url"):
        Client(url)


def test_limits_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="'timeout' is -1; expected a number, above 0"):
        ConnectionLimits(timeout=-1)


def _until(holds: Any, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)
