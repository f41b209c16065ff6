"""The served planner is the studied one, and what lies behind the server may be a server that fails."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from agent.interface.cli import main
from agent.interface.server.engine.searcher import solvers_of
from agent.interface.server.limits import ServerLimits
from agent.recipes.recipe import Recipe, load_recipe
from agent.study.results_db import StudyFile
from envs.toy import Toy
from policies.backends.openai import ServedPolicy
from policies.registry import load_policy
from tests.agent.interface.server.serving import CLIENT, QUESTION, EngineThread, Running, serving
from tests.servers import Faults, Script, Server, openai_routes

N = 50


def running_of(recipe: Recipe) -> Running:
    """A server of a recipe, with its models."""
    recipes, limits = {"arithmetic": recipe}, ServerLimits(grace=5.0)
    return Running(EngineThread(recipes, solvers_of(recipes), limits), limits)


def test_fifty_problems_get_the_answers_plans_and_costs_of_an_evaluation(tmp_path: Path) -> None:
    """The same planner, strategy by strategy; however many run at once."""
    words = ["eval", "--env", "arithmetic", "-n", str(N), "--strategy", "auto", "--budget", "4", "--json"]
    assert main([*words, "--out", str(tmp_path / "eval.sqlite")]) == 0
    recipe = load_recipe("arithmetic", ["budget.samples=4"])
    running = running_of(recipe)
    try:
        with StudyFile(tmp_path / "eval.sqlite") as file:
            studied = {row["problem"]: row for row in file.results()}
            graphs = {place.problem: graph for place, graph in file.raw_graphs()}

            def ask(number: int) -> dict[str, Any]:
                turns = [{"role": "user", "content": graphs[number]["problem"]["question"]}]
                reply = running.post(model="arithmetic", messages=turns).json()
                (search,) = reply["stepwell"]["searches"]
                assert (reply["choices"][0]["message"]["content"] or None) == search["answer"]
                return dict(search)

            with ThreadPoolExecutor(16) as pool:
                found = dict(zip(studied, pool.map(ask, studied), strict=True))
            assert len(found) == N
            for number, search in found.items():
                info = graphs[number]["info"]
                assert search["answer"] == info["answer"] == studied[number]["answer"]
                assert search["confidence"] == info["confidence"]
                assert search["plan"] == json.loads(json.dumps(info["plan"]))
                assert search["stopped"] == info["stopped"]
                assert {**search["spent"], "seconds": 0} == {**info["spent"], "seconds": 0}
    finally:
        running.end()
        running.join()


def test_a_planner_that_abstains_says_no_answer() -> None:
    recipe = load_recipe("arithmetic", ["strategy.abstain=1.0", "budget.samples=2"])
    running = running_of(recipe)
    try:
        reply = running.post(model="arithmetic", messages=[{"role": "user", "content": "(17 + 8) * 3 - 40"}]).json()
        (search,) = reply["stepwell"]["searches"]
        assert search["abstained"]
        assert search["answer"]
        assert reply["choices"][0]["message"]["content"] is None
        assert reply["choices"][0]["message"]["refusal"].startswith("the planner abstains")
    finally:
        running.end()
        running.join()


# ------------------------------------------------------------------------------------------- a server behind the server


@pytest.fixture
def behind() -> Iterator[Server]:
    with Server(openai_routes(Script(Toy(), [Toy().read(QUESTION)]), context=16384)) as server:
        yield server


def policy_of(server: Server, **options: Any) -> Any:
    quick = {"timeout": 4.0, "patience": 60.0, "pause": 0.01, "longest_pause": 0.1}
    return load_policy("openai:scripted", Toy(), base_url=server.url, **(quick | options))


def test_a_policy_server_that_fails_three_calls_in_ten_changes_no_answer(behind: Server) -> None:
    with serving(policy=policy_of(behind)) as running:
        sound = [running.post(model="stepwell/best-of-n-4", seed=seed).json() for seed in range(8)]
        behind.faults = Faults(0.3, kinds=["500", "503", "429", "reset", "cut", "garbage"])
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda seed: running.post(model="stepwell/best-of-n-4", seed=seed), range(8)))
        assert sum(behind.failed.values()) > 3
        for reply, other in zip(replies, sound, strict=True):
            assert reply.status_code == 200
            assert reply.json()["choices"][0]["message"]["content"] == other["choices"][0]["message"]["content"]
            assert reply.json()["usage"] == other["usage"]


def test_a_policy_server_that_is_gone_is_a_503(behind: Server) -> None:
    with serving(policy=policy_of(behind, patience=0.2)) as running:
        behind.stop()
        reply = running.post()
        assert reply.status_code == 503
        assert reply.headers["retry-after"] == "10"
        assert behind.url not in reply.text


TOOLS: Any = [{"type": "function", "function": {"name": "pay", "parameters": {"type": "object", "properties": {}}}}]


def test_requests_with_tools_go_to_the_policy_as_they_are() -> None:
    called = {"id": "call_1", "type": "function", "function": {"name": "pay", "arguments": "{}"}}
    reply = {
        "id": "1", "object": "chat.completion", "created": 1, "model": "scripted",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": None, "tool_calls": [called]},
                     "finish_reason": "tool_calls", "logprobs": None}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    }  # fmt: skip
    seen: list[dict[str, Any]] = []
    routes = openai_routes(Script(Toy(), [Toy().read(QUESTION)]), context=16384)

    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if not body.get("tools"):
            return routes["/v1/chat/completions"](body)
        seen.append(body)
        return 200, reply

    with Server({**routes, "/v1/chat/completions": answer}) as behind, serving(policy=policy_of(behind)) as running:
        turns: Any = [{"role": "user", "content": "Pay."}, {"role": "tool", "tool_call_id": "call_0", "content": "ok"}]
        with openai.OpenAI(base_url=running.url, api_key="none", max_retries=0) as client:
            got = client.chat.completions.with_raw_response.create(
                model="stepwell/auto", messages=turns, tools=TOOLS, tool_choice="auto", extra_body={"unheard_of": [1]}
            )
            assert got.headers["x-stepwell"].startswith("passed through")
            assert got.parse().choices[0].message.tool_calls[0].function.name == "pay"  # type: ignore[index, union-attr]
            assert json.loads(got.text) == reply
            with pytest.raises(openai.BadRequestError, match="there is no vote on calls of tools"):
                client.chat.completions.create(model="stepwell/beam-8", messages=turns, tools=TOOLS)
        sent = {"model": "scripted", "messages": turns, "tools": TOOLS, "tool_choice": "auto", "unheard_of": [1]}
        assert seen == [sent]
        refused = running.post(tools=TOOLS, budget=4)
        assert "leave out budget" in refused.json()["error"]["message"]
        behind.stop()
        assert running.post(tools=TOOLS).status_code == 503
        assert CLIENT.get(running.url + "/models").status_code == 200


@contextmanager
def trickling(pause: float) -> Iterator[str]:
    """The address of a policy's server that begins its replies at once, and then sends a line now and then."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        over = threading.Event()

        def answer() -> None:
            made, _ = listening.accept()
            with made, suppress(OSError):
                made.recv(65536)
                made.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
                for _ in range(50):
                    if over.wait(pause):
                        break
                    made.sendall(b": " + b"x" * 100_000 + b"\n\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        over.set()
        thread.join(10)


@pytest.mark.parametrize("pause", [0.3, 30.0])
def test_a_reply_to_tools_has_an_end(pause: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that never ends, and one that stops in the middle: the connection is closed before the end of the reply."""
    with Server(openai_routes(Script(Toy(), [Toy().read(QUESTION)]), context=16384)) as behind:
        policy = policy_of(behind)
        with trickling(pause) as url:
            monkeypatch.setattr(ServedPolicy, "base_url", url)
            with serving(ServerLimits(deadline=1.0, grace=5.0), policy=policy) as running:
                began = time.monotonic()
                with pytest.raises(httpx2.RemoteProtocolError):
                    running.post(tools=TOOLS, stream=True)
                assert time.monotonic() - began < 10
                running.wait_for(lambda: running.server.passthrough._open == 0, "its place is free")


def test_a_client_that_takes_nothing_of_a_reply_to_tools_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(openai_routes(Script(Toy(), [Toy().read(QUESTION)]), context=16384)) as behind:
        policy = policy_of(behind)
        with trickling(0.001) as url:
            monkeypatch.setattr(ServedPolicy, "base_url", url)
            limits = ServerLimits(stall=0.5, grace=5.0)
            with serving(limits, policy=policy) as running, running.connect(tools=TOOLS, stream=True):
                running.wait_for(lambda: running.server.passthrough._open == 1, "it is being answered")
                running.wait_for(lambda: running.server.passthrough._open == 0, "it is left")
