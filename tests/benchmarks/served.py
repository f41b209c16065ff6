"""What a search over a server costs on this side of it: processor time for each generated token, and requests.

The server is a process of its own that answers at once, so that nothing but the client is measured. The yardstick is a
bare client of httpx2 that sends the same requests, as many at once, and reads the texts out of the replies. Prints, for
Best-of-N and beam search, over an environment that ships and one that does not: requests, microseconds of this
process's time per generated token, and their ratio to the yardstick.

    python -m tests.benchmarks.served
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import re
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx2

from agent.search.engine import Engine, Task
from agent.strategies import Beam, Majority, Strategy
from envs.core import Environment, Problem
from envs.math.environment import Math
from policies.backends.openai import ServedPolicy
from verifiers.table import TableVerifier

STEPS = 8
STEP = "so that the sum of both numbers is then {}, as we had before"
SOLUTION = "\n\n".join([*(STEP.format(i) for i in range(STEPS - 1)), "The answer is \\boxed{5}."])


class Plugin(Math):
    """Not one of those that ship, so it is guarded."""

    def answer(self, state: Any) -> str | None:
        return super().answer(state)


# ----------------------------------------------------------------------------------------------------- a fast server


def _reply(body: dict[str, Any]) -> bytes:
    """What follows in the solution, word by word, up to the stop string."""
    written = body["messages"][-1]
    begun = written["content"] if written["role"] == "assistant" else ""
    rest = SOLUTION[len(begun) :]
    stop = (body.get("stop") or [None])[0]
    end = rest.find(stop) + len(stop) if stop and stop in rest else -1
    text = rest if end < 0 else rest[:end]
    tokens = re.findall(r"\n+|[^\S\n]*\S+", text) + ([""] if end < 0 else [])
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "stop_reason": None if end < 0 else stop,
        "message": {"role": "assistant", "content": text},
        "logprobs": {
            "content": [
                {"token": each, "logprob": -0.5123456, "bytes": list(each.encode()), "top_logprobs": []}
                for each in tokens
            ]
        },
    }
    usage = {"prompt_tokens": 50, "completion_tokens": len(tokens), "prompt_tokens_details": {"cached_tokens": 49}}
    return json.dumps({"id": "x", "model": "fast", "choices": [choice], "usage": usage}).encode()


def _serve(listener: socket.socket) -> None:
    replies: dict[Any, bytes] = {}
    models = json.dumps({"data": [{"id": "fast", "owned_by": "vllm", "max_model_len": 32768}]}).encode()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                found = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
                if found:
                    body = json.loads(await reader.readexactly(int(found[1])))
                    last = body["messages"][-1]
                    key = (last["content"] if last["role"] == "assistant" else "", tuple(body.get("stop") or ()))
                    if key not in replies:
                        replies[key] = _reply(body)
                    payload = replies[key]
                else:
                    payload = models
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(payload)
                    + payload
                )
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(talk, sock=listener)
        await server.serve_forever()

    asyncio.run(run())


@contextmanager
def serving() -> Iterator[str]:
    """The fast server in a process of its own; yields its URL."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        process = multiprocessing.get_context("fork").Process(target=_serve, args=(listener,), daemon=True)
        process.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            process.terminate()
            process.join()


# -------------------------------------------------------------------------------------------------------- measuring


class Recording(ServedPolicy):
    """A policy that keeps the bodies of its requests, for the yardstick."""

    def record(self) -> list[dict[str, Any]]:
        bodies: list[dict[str, Any]] = []
        submit = self._client.submit

        def keep(key: Any, path: str, body: Any, *rest: Any) -> None:
            bodies.append(dict(body))
            submit(key, path, body, *rest)

        self._client.submit = keep  # type: ignore[method-assign, assignment]
        return bodies


def search(policy: ServedPolicy, environment: Environment, strategy: Strategy, problems: Sequence[Problem]) -> int:
    """Run a strategy on problems; returns the tokens that it generated."""
    verifier = None if isinstance(strategy, Majority) else TableVerifier(environment, {})
    tasks = (Task(problem, strategy.search, vote=strategy.vote) for problem in problems)
    tokens = 0
    for graph in Engine(environment, policy, verifier).run(tasks):
        if "error" in graph.info:
            raise SystemExit(graph.info["error"])
        tokens += graph.generated
    return tokens


async def _bare(url: str, bodies: Sequence[dict[str, Any]], connections: int) -> int:
    tokens, places = 0, asyncio.Semaphore(connections)
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)

    async with httpx2.AsyncClient(limits=limits, timeout=None) as client:

        async def one(body: dict[str, Any]) -> None:
            nonlocal tokens
            async with places:
                reply = (await client.post(f"{url}/chat/completions", json=body)).json()
            assert reply["choices"][0]["message"]["content"]
            tokens += reply["usage"]["completion_tokens"]

        await asyncio.gather(*(one(body) for body in bodies))
    return tokens


def main() -> None:
    """Print the figures."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--samples", type=int, default=64)
    arguments.add_argument("--problems", type=int, nargs="+", default=[1, 32])
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    problems = [Math().read(f"What is {i} + 5?") for i in range(max(options.problems))]
    strategies: dict[str, Strategy] = {"best-of-n": Majority(options.samples), "beam": Beam(options.samples // 4, 4)}
    with serving() as url:
        for environment in (Math(), Plugin()):
            for name, strategy in strategies.items():
                for count in options.problems:
                    label = f"{type(environment).__name__:7} {name:10} {count:3} problem(s)"
                    print(
                        f"{label}: {measure(url, environment, strategy, problems[:count], options.rounds)}", flush=True
                    )


def measure(url: str, environment: Environment, strategy: Strategy, problems: Sequence[Problem], rounds: int) -> str:
    """A search and the same requests by a bare client, in turn; the best of the rounds of each."""
    policy = Recording("", environment, base_url=url)
    bodies = policy.record()
    search(policy, environment, strategy, problems[:1])  # imports, connections
    ours, bare, tokens = [], [], 0
    for _ in range(rounds):
        bodies.clear()
        started = time.process_time()
        tokens = search(policy, environment, strategy, problems)
        ours.append((time.process_time() - started) / tokens * 1e6)
        started = time.process_time()
        got = asyncio.run(_bare(url, bodies, 64))
        bare.append((time.process_time() - started) / got * 1e6)
    policy.close()
    return (
        f"{len(bodies):5} requests, {tokens:6} tokens, {min(ours):6.1f} us a token, bare {min(bare):6.1f},"
        f" ratio {min(ours) / min(bare):.2f}"
    )


if __name__ == "__main__":
    main()
