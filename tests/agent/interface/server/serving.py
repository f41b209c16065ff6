"""A real server on loopback over fakes, and a policy that tells what it is asked."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from agent.interface.server.app import LOOPBACK, Server
from agent.interface.server.catalog import Catalog
from agent.interface.server.engine.searcher import Searcher
from agent.interface.server.keys import Keyring
from agent.interface.server.limits import ServerLimits
from agent.interface.server.listening import Uvicorn, listen
from agent.interface.server.saved import SavedSearches
from agent.recipes.recipe import Component, Recipe
from agent.search.budget import Budget
from agent.solver import Solver
from envs.core import Environment
from envs.toy import Toy
from policies.core import Propose, Proposed
from policies.scripted import ScriptedPolicy
from verifiers.table import TableVerifier

QUESTION = "12 with 1 6 10"  # the answer is 2
RECIPE = Recipe(
    Component("toy"), Component("scripted"), Component("table"), Component("beam"), budget=Budget(samples=8)
)

CLIENT = httpx2.Client(verify=False, trust_env=False, timeout=30.0, limits=httpx2.Limits(max_keepalive_connections=0))


class Watched(ScriptedPolicy):
    """A scripted policy that may hold its replies back, and remembers each call.

    Attributes:
        calls: (when, scope) of each request that it took.
        gate: closed, nothing is answered.
        fail: what `submit` raises.
    """

    def __init__(self, delay: float = 0.0) -> None:
        super().__init__(Toy(), delay=delay)
        self.calls: list[tuple[float, str]] = []
        self.cancelled: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.fail: Exception | None = None

    def submit(self, ticket: int, request: Propose) -> None:
        if self.fail is not None:
            raise self.fail
        self.calls.append((time.monotonic(), request.scope))
        super().submit(ticket, request)

    def poll(self) -> Sequence[tuple[int, Proposed]]:
        return super().poll() if self.gate.wait(0.01) else ()

    def cancel(self, scope: str) -> None:
        self.cancelled.add(scope)
        super().cancel(scope)


class EngineThread:
    """An engine in a thread of this process, spoken to as one in a process of its own.

    Attributes:
        connection: to it.
        searcher: the other side.
        catalog: of what it has loaded.
    """

    def __init__(
        self,
        recipes: Mapping[str, Recipe],
        solvers: Mapping[str, Solver],
        limits: ServerLimits,
        saved: SavedSearches | None = None,
        last_turn_only: bool = False,
    ) -> None:
        self.connection, theirs = socket.socketpair()
        self.searcher = Searcher(recipes, solvers, limits.concurrency, saved, theirs)
        environments = {name: solver.environment for name, solver in solvers.items()}
        self.catalog = Catalog(recipes, environments, self.searcher.policies, limits, last_turn_only)
        self._thread = threading.Thread(target=self.searcher.run, daemon=True)
        self._thread.start()

    def join(self) -> None:
        self.connection.close()
        self._thread.join(30)
        assert not self._thread.is_alive()


class Running:
    """A server that runs in a thread.

    Attributes:
        url: of it, with the version.
        policy: that answers.
        engine: that searches.
        server: itself.
    """

    def __init__(
        self,
        engine: EngineThread,
        limits: ServerLimits,
        policy: Any = None,
        keys: Keyring | None = None,
        saved: SavedSearches | None = None,
    ) -> None:
        self.server = server = Server(engine.catalog, engine, limits, keys, saved, LOOPBACK)
        self.engine, self.policy = engine, policy
        self._socket = listen("127.0.0.1", 0)
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.uvicorn = Uvicorn(server)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 20
        while not self.uvicorn.started and time.monotonic() < deadline:
            time.sleep(0.01)
        assert self.uvicorn.started

    def _run(self) -> None:
        self.uvicorn.run_on(self._socket)

    def end(self) -> None:
        self.uvicorn.should_exit = True

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()

    def post(self, path: str = "/chat/completions", **fields: Any) -> httpx2.Response:
        """A request for a question, with further fields or others."""
        body = {"model": "stepwell/auto", "messages": [{"role": "user", "content": QUESTION}]} | fields
        return CLIENT.post(self.url + path, json=body)

    def connect(self, **fields: Any) -> socket.socket:
        """A socket on which a request for a question has been sent."""
        body = {"model": "stepwell/auto", "messages": [{"role": "user", "content": QUESTION}]} | fields
        content = json.dumps(body).encode()
        made = socket.create_connection(("127.0.0.1", self.port), timeout=30.0)
        made.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
            b"content-type: application/json\r\n" + f"content-length: {len(content)}\r\n\r\n".encode() + content
        )
        return made

    @staticmethod
    def rest(made: socket.socket) -> bytes:
        """All that comes on a socket until its end, which is then closed."""
        received = bytearray()
        with made:
            while chunk := made.recv(65536):
                received += chunk
        return bytes(received)

    def wait_for(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < deadline, what
            time.sleep(0.005)

    def load(self) -> dict[str, int]:
        return self.server.service.load()


@contextmanager
def serving(
    limits: ServerLimits | None = None,
    *,
    policy: Any = None,
    recipe: Recipe = RECIPE,
    keys: Keyring | None = None,
    graphs: Path | None = None,
    environment: Environment | None = None,
    last_turn_only: bool = False,
) -> Iterator[Running]:
    """A server of the toy, or of another policy and environment."""
    limits = limits or ServerLimits(grace=5.0)
    environment = environment or Toy()
    policy = policy or Watched()
    solver = Solver(environment, policy, TableVerifier(environment))
    saved = None if graphs is None else SavedSearches(graphs, 10)
    engine = EngineThread({"toy": recipe}, {"toy": solver}, limits, saved, last_turn_only)
    running = Running(engine, limits, policy, keys, saved)
    try:
        yield running
    finally:
        policy_gate = getattr(policy, "gate", None)
        if policy_gate is not None:
            policy_gate.set()
        running.end()
        running.join()
