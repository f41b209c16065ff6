"""Clients that leave, wait, crowd in or read slowly, and a server that ends: nothing works for nobody."""

import asyncio
import socket
import struct
import threading
import time
from typing import Any

import httpx2
import pytest

from agent.interface.server import service
from agent.interface.server.core import Progress
from agent.interface.server.limits import ServerLimits
from agent.search.budget import Budget
from agent.solver import Solver
from envs.toy import Toy
from policies.scripted import ScriptedPolicy
from tests.agent.interface.server.serving import CLIENT, Watched, serving
from verifiers.table import TableVerifier

ANSWERED = b'"finish_reason":"stop"'
LONG: dict[str, Any] = {"strategy": {"name": "beam", "branch": 2}, "budget": 64}


def calls_after(policy: Watched, moment: float) -> int:
    return sum(when > moment for when, _ in policy.calls)


def leave(made: socket.socket, how: str) -> None:
    """Go away: properly, with a reset (as when a process is killed), or by closing the half that writes."""
    if how == "reset":
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if how == "half":
        made.shutdown(socket.SHUT_WR)
    else:
        made.close()


@pytest.mark.parametrize("how", ["close", "reset", "half"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_search_at_once(stream: bool, how: str) -> None:
    """Before the first byte: no call of the model comes later than one step after that."""
    with serving(policy=Watched(delay=0.05)) as running:
        made = running.connect(stream=stream, **LONG)
        running.wait_for(lambda: len(running.policy.calls) >= 1, "the search has begun")
        leave(made, how)
        left = time.monotonic()
        running.wait_for(lambda: running.load()["running"] == 0, "the search is freed")
        assert time.monotonic() - left < 1.0
        time.sleep(0.3)
        assert calls_after(running.policy, left) <= 1
        assert running.policy.cancelled == {scope for _, scope in running.policy.calls}
        assert running.server.metrics.cancelled._value.get() == 1
        made.close()


def test_a_client_that_leaves_in_mid_stream_frees_its_search() -> None:
    with serving(policy=Watched(delay=0.4)) as running:
        made = running.connect(stream=True, **LONG)
        received = b""
        while b"reasoning_content" not in received:
            received += made.recv(4096)
        leave(made, "reset")
        left = time.monotonic()
        running.wait_for(lambda: running.load()["running"] == 0, "the search is freed")
        time.sleep(1.0)
        assert calls_after(running.policy, left) <= 1


def test_a_client_that_leaves_the_queue_leaves_no_trace() -> None:
    with serving(ServerLimits(concurrency=1, grace=5.0)) as running:
        running.policy.gate.clear()
        first = running.connect()
        running.wait_for(lambda: running.load()["running"] == 1, "the first one is at work")
        second = running.connect()
        running.wait_for(lambda: running.load()["waiting"] == 1, "the second one waits")
        leave(second, "close")
        running.wait_for(lambda: running.load()["waiting"] == 0, "the second one is gone")
        running.policy.gate.set()
        assert ANSWERED in running.rest(first)
        assert len({scope for _, scope in running.policy.calls}) == 1


def test_a_full_queue_is_said_with_the_time_to_wait() -> None:
    with serving(ServerLimits(concurrency=1, queue=1, grace=5.0)) as running:
        running.policy.gate.clear()
        waiting = [running.connect(), running.connect()]
        running.wait_for(lambda: running.load() == {"running": 1, "waiting": 1}, "both are there")
        refused = running.post()
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["type"] == "rate_limit_error"
        running.policy.gate.set()
        for each in waiting:
            assert ANSWERED in running.rest(each)
        assert running.post().status_code == 200


def test_a_deadline_brings_the_best_answer_so_far() -> None:
    with serving(policy=Watched(delay=0.2)) as running:
        began = time.monotonic()
        reply = running.post(strategy="mcts", budget=200, deadline=1.0)
        assert 1.0 <= time.monotonic() - began < 3.0
        (search,) = reply.json()["stepwell"]["searches"]
        assert search["stopped"] == "the deadline has passed"
        assert 0 < search["spent"]["samples"] < 200


def test_a_deadline_that_passes_in_the_queue_is_said() -> None:
    with serving(ServerLimits(concurrency=1, grace=5.0)) as running:
        running.policy.gate.clear()
        first = running.connect()
        running.wait_for(lambda: running.load()["running"] == 1, "the first one is at work")
        refused = running.post(deadline=0.2)
        assert refused.status_code == 503
        assert "waited for a place" in refused.json()["error"]["message"]
        first.close()


def test_a_search_that_a_person_ends_is_counted_as_such() -> None:
    with serving(policy=Watched(delay=0.05)) as running:
        made = running.connect(**LONG)
        running.wait_for(lambda: len(running.policy.calls) >= 2, "it is at work")
        (handle,) = running.engine.searcher.surface.searches()
        handle.do("stop", who="ada")
        assert b"stopped by a person" in running.rest(made)
        counted = CLIENT.get(running.url.removesuffix("/v1") + "/metrics").text
        assert 'stepwell_searches_total{stopped="by_hand"} 1.0' in counted


def test_a_silent_stream_says_that_it_lives() -> None:
    with serving(ServerLimits(keep_alive=0.2, grace=5.0)) as running:
        running.policy.gate.clear()
        made = running.connect(stream=True)
        began, received = time.monotonic(), b""
        while received.count(b": the search goes on\n\n") < 4:
            received += made.recv(4096)
        assert time.monotonic() - began < 1.0 + 5 * 0.2 + 0.5  # a second without any byte, at most
        running.policy.gate.set()
        received += running.rest(made)
        assert b'"finish_reason":"stop"' in received
        assert received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


def test_a_client_that_takes_nothing_is_left() -> None:
    """Its search ends, once what it is sent is more than the buffers between the two hold."""
    with serving(ServerLimits(stall=0.5, grace=5.0)) as running:
        running.policy.gate.clear()
        with running.connect(stream=True) as made:
            running.wait_for(lambda: running.load()["running"] == 1, "it is at work")
            (call,) = {search.call for search in running.server.service._running.values()}
            loop = running.server.service._loop
            assert loop is not None
            for _ in range(60):
                loop.call_soon_threadsafe(call.post, Progress(0, "x" * 500_000))
            running.wait_for(lambda: running.load()["running"] == 0, "it is left")
            assert made.fileno() >= 0


def test_the_end_of_the_server_waits_for_searches() -> None:
    with serving(ServerLimits(grace=20.0), policy=Watched(delay=0.1)) as running:
        replies: list[httpx2.Response] = []
        asking = threading.Thread(target=lambda: replies.append(running.post(**LONG)))
        asking.start()
        running.wait_for(lambda: running.load()["running"] == 1, "it is at work")
        running.end()
        asking.join(20)
        (reply,) = replies
        assert reply.status_code == 200
        assert reply.json()["stepwell"]["searches"][0]["stopped"] == "finished"


def test_the_end_of_the_server_brings_the_best_answer_so_far() -> None:
    with serving(ServerLimits(grace=0.5, concurrency=1), policy=Watched(delay=0.05)) as running:
        replies: dict[int, httpx2.Response] = {}

        def ask(number: int) -> None:
            replies[number] = running.post(strategy="mcts", budget=256)

        asking = [threading.Thread(target=ask, args=(number,)) for number in range(2)]
        begun: list[threading.Thread] = []
        for each in asking:
            each.start()
            begun.append(each)
            running.wait_for(lambda: sum(running.load().values()) == len(begun), "it has come")
        running.wait_for(lambda: len(running.policy.calls) > 8, "it has some answers")
        running.end()
        for each in asking:
            each.join(20)
        (search,) = replies[0].json()["stepwell"]["searches"]
        assert search["stopped"] == "the server is shutting down"
        assert search["answer"] is not None
        assert replies[1].status_code == 503


def test_many_clients_share_batches_and_nothing_is_mixed_up() -> None:
    """Forty at once get, each, what the same search finds alone."""
    questions = [f"{amount} with 1 5 7" for amount in range(5, 25)]
    alone = Solver(Toy(), ScriptedPolicy(Toy()), TableVerifier(Toy()))
    with serving() as running:
        found: dict[int, dict[str, Any]] = {}

        def ask(number: int) -> None:
            turns = [{"role": "user", "content": questions[number % 20]}]
            found[number] = running.post(messages=turns, strategy="best-of-n", budget=4, seed=number).json()

        running.policy.gate.clear()  # until all are there
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
        for each in threads:
            each.start()
        running.wait_for(lambda: running.load()["running"] == 40, "all are at work")
        running.policy.gate.set()
        for each in threads:
            each.join(30)
        assert len({reply["id"] for reply in found.values()}) == 40
        for number, reply in found.items():
            solution = alone.solve(questions[number % 20], "best-of-n", Budget(samples=4), number)
            (search,) = reply["stepwell"]["searches"]
            assert reply["choices"][0]["message"]["content"] == solution.answer
            assert {**search["spent"], "seconds": 0} == {**solution.spent, "seconds": 0}


def test_failures_of_the_policy_have_the_right_status() -> None:
    with serving() as running:
        for failure, status in (
            (ConnectionError("http://10.1.2.3:8000 is down"), 503),
            (ValueError("the prompt is too long"), 400),
            (RuntimeError("secret place"), 500),
        ):
            running.policy.fail = failure
            for stream in (False, True):  # nothing was sent yet, so that even a stream has it
                reply = running.post(stream=stream)
                assert reply.status_code == status
                message = reply.json()["error"]["message"]
                assert "10.1.2.3" not in message
                assert "secret" not in message


def test_a_failure_after_the_first_byte_is_an_event() -> None:
    with serving(policy=Watched(delay=0.3)) as running:
        made = running.connect(stream=True, **LONG)
        received = made.recv(4096)
        running.wait_for(lambda: len(running.policy.calls) >= 4, "it is under way")
        running.policy.fail = ConnectionError("gone")
        received += running.rest(made)
        assert received.startswith(b"HTTP/1.1 200")
        assert b'data: {"error":{"message":"a model could not be reached' in received


def test_an_engine_that_dies_is_said() -> None:
    class Mortal(Watched):
        def poll(self) -> Any:
            raise SystemExit

    with serving(policy=Mortal()) as running:
        assert running.post().status_code == 500
        assert running.post().status_code == 503
        assert CLIENT.get(running.url.removesuffix("/v1") + "/health").json()["status"] == "failed"


def test_a_dead_engine_leaves_nobody_waiting() -> None:
    """Neither those at work nor those in the queue, and a place that becomes free is given to nobody."""

    class Mortal(Watched):
        def poll(self) -> Any:
            self.gate.wait()
            raise SystemExit

    with serving(ServerLimits(concurrency=2, grace=5.0), policy=Mortal()) as running:
        running.policy.gate.clear()
        made = [running.connect() for _ in range(5)]
        running.wait_for(lambda: running.load() == {"running": 2, "waiting": 3}, "all are there")
        running.policy.gate.set()
        for each in made:
            each.settimeout(5.0)
            reply = running.rest(each)
            assert reply.startswith(b"HTTP/1.1 500")
            assert b"the search was lost" in reply
        assert running.load() == {"running": 0, "waiting": 0}


def test_a_request_that_is_read_while_an_engine_dies_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mortal(Watched):
        def poll(self) -> Any:
            raise SystemExit

    with serving(policy=Mortal()) as running:
        catalog, reading, dead = running.server.catalog, threading.Event(), threading.Event()
        plan = catalog.plan

        def slow(*arguments: Any) -> Any:
            reading.set()
            dead.wait(10)
            return plan(*arguments)

        monkeypatch.setattr(catalog, "plan", slow)
        made = running.connect()
        reading.wait(10)
        monkeypatch.undo()
        assert running.post().status_code == 500
        dead.set()
        assert running.rest(made).startswith(b"HTTP/1.1 503")


def test_the_end_of_the_server_does_not_wait_for_a_model_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(Watched):
        def poll(self) -> Any:
            self.gate.wait()
            return super().poll()

    monkeypatch.setattr(service, "EXTRA", 0.5)
    with serving(ServerLimits(grace=0.1), policy=Hanging()) as running:
        running.policy.gate.clear()
        with running.connect():
            running.wait_for(lambda: running.load()["running"] == 1, "it is at work")
            began = time.monotonic()
            asyncio.run(running.server.service.drain())
            assert 0.5 < time.monotonic() - began < 5.0
