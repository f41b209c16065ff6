"""The HTTP client: it gets through faults, gives up with a clear error, and never tells the key."""

import socket
import time
from collections.abc import Hashable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from policies.models import http_client as remote
from policies.models.http_client import Client, Limits, ServerRefused, ServerUnavailable, Unreadable
from tests.servers import Faults, Reply, Server

QUICK = Limits(timeout=3.0, patience=300.0, pause=0.01, longest_pause=0.1)


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
        clients.append(client := Client(server.url, Limits(patience=0)))
        for i in range(64):
            client.submit(i, "/echo", {"say": i}, one)
        assert gather(client, 64) == {i: i for i in range(64)}


def test_no_more_calls_are_in_flight_than_allowed(clients: list[Client]) -> None:
    with Server({"/v1/echo": echo}) as server:
        clients.append(client := Client(server.url, Limits(connections=3)))
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
        clients.append(client := Client(server.url, Limits(patience=0.2, pause=0.02)))
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
        clients.append(client := Client(server.url, Limits(patience=60, pause=0.02, longest_pause=0.1)))
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
        clients.append(client := Client(server.url, Limits(pause=0.01)))
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
    for nothing in (None, "-3", "nan", "inf", "soon", "Sun, 06 Nov 1994 08:49:37 GMT"):
        assert remote._after(nothing) == 0.0
    busy = {"/v1/busy": lambda body: (429, {"error": "busy"})}
    with Server(busy, Faults(rate=1.0, kinds=["429"])) as server:
        clients.append(client := Client(server.url, Limits(patience=0.005)))
        client.submit("a", "/busy", {}, one)  # the server asks for 0.01 s
        assert "it asks to wait 0.01 s" in str(gather(client, 1)["a"])


def test_a_reply_that_does_not_end_is_cut(clients: list[Client], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_LARGEST", 1000)
    with Server({"/v1/echo": echo}) as server:
        clients.append(client := Client(server.url, Limits(patience=0, pause=0.01)))
        client.submit("a", "/echo", {"say": "x" * 2000}, one)
        assert isinstance(gather(client, 1)["a"], ServerUnavailable)


def test_a_proxy_is_not_asked_for_what_is_on_this_machine(
    clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with Server({"/v1/echo": echo}) as server:
        clients.append(client := Client(server.url, Limits(patience=0)))
        client.submit("a", "/echo", {"say": 1}, one)
        assert gather(client, 1) == {"a": 1}


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x/v1", "http://key@host/v1", "http:///v1", ""])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="base_url"):
        Client(url)


def test_limits_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="timeout -1 given"):
        Limits(timeout=-1)


def _until(holds: Any, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)
