"""Runs the searches that are ordered over a socket. Whatever it does besides is done at the expense of the searches."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from loguru import logger

from agent.build import strategy_of
from agent.interface.server.core import Refused, Result
from agent.interface.server.engine.outcome import Reporter, result_of
from agent.interface.server.engine.protocol import LoadedPolicy, Order, Unpacker, over, pack
from agent.interface.server.saved import SavedSearches
from agent.recipes.recipe import Recipe
from agent.search.control.commands import BY_HAND
from agent.search.control.handle import SearchHandle, Surface
from agent.search.engine import Engine
from agent.search.graph import SearchGraph
from agent.solver import Solver, task
from policies.backends.openai import ServedPolicy
from policies.core import Converser

FAREWELL = 10.0  # seconds that the end waits for a model that is at work
FAILED = Refused(500, "the result could not be made; the log of the server says why")
_PARTS = ("environment", "policy", "verifier")  # of a recipe: what is loaded
_TOGETHER = 0.1  # seconds that lines wait for others, to be sent with them
_CHUNK = 1 << 16


class Outbox:
    """What is sent: lines, which may wait a little, and outcomes, which take with them the lines that wait.

    Args:
        connection: to the other process.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._waiting: deque[bytes] = deque()  # which threads may add to without the lock

    def later(self, message: Mapping[str, Any]) -> None:
        """Send it with what comes next, or with the next `flush`."""
        self._waiting.append(pack(message))

    def now(self, message: Mapping[str, Any]) -> None:
        """Send it, after what waits."""
        self.later(message)
        self.flush()

    def flush(self) -> None:
        """Send what waits; if nobody takes it any more, the end is near."""
        with self._lock, contextlib.suppress(OSError):
            sent = []
            while self._waiting:
                sent.append(self._waiting.popleft())
            if sent:
                self._connection.sendall(b"".join(sent))


@dataclass
class Job:
    """An order at work.

    Args:
        order: what was asked for.
        reporter: tells how it goes.
        handle: on the search.
        reason: for which the server stopped it.
        cancelled: nobody waits for it any more.
    """

    order: Order
    reporter: Reporter
    handle: SearchHandle
    reason: str | None = None
    cancelled: bool = False


class Searcher:
    """Runs searches until the other side closes the connection, or an engine dies.

    Args:
        recipes: by name.
        solvers: by the same names, loaded; recipes may share them. They are closed at the end.
        concurrency: searches at work at once.
        saved: where graphs go; None keeps none.
        connection: to the other process.

    Attributes:
        surface: lists the searches at work, for `stepwell ctl`.
        failed: whether an engine has died.
    """

    def __init__(
        self,
        recipes: Mapping[str, Recipe],
        solvers: Mapping[str, Solver],
        concurrency: int,
        saved: SavedSearches | None,
        connection: socket.socket,
    ) -> None:
        self.recipes, self.solvers, self.concurrency, self.saved = recipes, solvers, concurrency, saved
        self.surface = Surface()
        self.failed = False
        self._loaded = list(dict.fromkeys(solvers.values()))
        for solver in self._loaded:
            solver.engine.surface = self.surface
        self._connection = connection
        self._outbox = Outbox(connection)
        self._jobs: dict[str, Job] = {}
        self._ended = threading.Event()
        # a graph may be large, and the outcomes of other searches must not wait for it
        self._concluding = ThreadPoolExecutor(4, "stepwell-outcome")

    @property
    def policies(self) -> dict[str, LoadedPolicy]:
        """What the other process must know of the policy of each recipe."""
        return {name: _about(solver) for name, solver in self.solvers.items()}

    def run(self) -> None:
        """Serve orders; returns at the end."""
        engines = [threading.Thread(target=self._drive, args=(each.engine,), daemon=True) for each in self._loaded]
        for thread in engines:
            thread.start()
        threading.Thread(target=self._flush, daemon=True).start()
        unpacker = Unpacker()
        try:
            while data := self._connection.recv(_CHUNK):
                for message in unpacker.feed(data):
                    self._take(message)
        except OSError:
            pass
        finally:
            self._ended.set()
            for solver in self._loaded:
                solver.engine.stop()
            for thread in engines:
                thread.join(FAREWELL)
            self._concluding.shutdown(wait=False, cancel_futures=True)
            self._connection.close()
            for solver in self._loaded:
                solver.close()

    def _drive(self, engine: Engine) -> None:
        try:
            for _ in engine.run(concurrency=self.concurrency, stay=True):
                pass
        except BaseException as error:
            logger.exception("an engine died: {}: {}", type(error).__name__, error)
            self.failed = True
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)  # both sides see the end

    def _flush(self) -> None:
        while not self._ended.wait(_TOGETHER):
            self._outbox.flush()

    def _take(self, message: Mapping[str, Any]) -> None:
        if message["do"] == "search":
            self._begin(Order.of(message))
        elif job := self._jobs.get(message["id"]):  # it may be over meanwhile
            if message["do"] == "cancel":
                job.cancelled = True
            else:
                job.reason = message["reason"]
            job.handle.do(message["do"], who="server")

    def _begin(self, order: Order) -> None:
        recipe = replace(
            self.recipes[order.recipe], strategy=order.strategy, budget=order.budget, temperature=order.temperature
        )
        reporter = Reporter(order.index, lambda line: self._outbox.later({"line": order.id, "text": line.text}))
        try:
            strategy = strategy_of(recipe)
        except Exception as error:  # of a plug-in, which the other process could make
            logger.exception("a search could not begin: {}", error)
            self._outbox.now(over(order.id, "error", {}, FAILED))
            return
        handle = self.solvers[order.recipe].engine.submit(
            task(order.problem, strategy, order.budget, order.seed, reporter)
        )
        job = self._jobs[order.id] = Job(order, reporter, handle)
        handle.result.add_done_callback(lambda future: self._finish(job, future))

    def _finish(self, job: Job, future: Future[SearchGraph]) -> None:
        """In the engine's thread: what takes time is left to others."""
        with contextlib.suppress(RuntimeError):  # the end has come
            self._concluding.submit(self._conclude, job, future)

    def _conclude(self, job: Job, future: Future[SearchGraph]) -> None:
        del self._jobs[job.order.id]
        if future.cancelled():  # the engine has died
            return
        graph = future.result()
        info = graph.info
        if job.reason is not None and info["stopped"] == BY_HAND:
            info["stopped"] = job.reason
        try:
            event = None if job.cancelled else self._result(job, graph)
            self._outbox.now(over(job.order.id, info["stopped"], info["spent"], event))
        except Exception as error:
            logger.exception("a result could not be made: {}", error)
            self._outbox.now(over(job.order.id, info["stopped"], info["spent"], FAILED))

    def _result(self, job: Job, graph: SearchGraph) -> Result | Refused:
        links = {} if self.saved is None else self.saved.save(job.order.id, graph)
        try:
            return result_of(job.order, graph, links, job.reporter)
        except Refused as refused:
            return refused


def _about(solver: Solver) -> LoadedPolicy:
    policy = solver.policy
    converses = isinstance(policy, Converser) and policy.converses
    if not isinstance(policy, ServedPolicy):
        return LoadedPolicy(policy.name, converses)
    return LoadedPolicy(policy.name, converses, policy.base_url, policy.model.name, policy.key_variable)


def solvers_of(recipes: Mapping[str, Recipe]) -> dict[str, Solver]:
    """The solvers of recipes, their models loaded once for each environment, policy and verifier."""
    found: dict[str, Solver] = {}
    loaded: dict[str, Solver] = {}
    for name, recipe in recipes.items():
        key = repr({kind: part for kind, part in recipe.to_config().items() if kind in _PARTS})
        if key not in loaded:
            loaded[key] = Solver.from_recipe(recipe)
        found[name] = loaded[key]
    return found
