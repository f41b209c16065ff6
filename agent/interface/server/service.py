"""The searches of a server: admitted, queued, run in the engines' batches, stopped, cancelled, counted.

All of it runs in the event loop; each engine has a thread of its own (`agent.search.engine.Engine`), which is spoken to
through handles. What an engine says comes back by `call_soon_threadsafe`.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from loguru import logger

from agent.interface.server.catalog import Catalog, Planned
from agent.interface.server.core import Asked, Event, Progress, Refused, Result
from agent.interface.server.keys import Account
from agent.interface.server.limits import EXTRA, ServerLimits
from agent.interface.server.metrics import Metrics
from agent.interface.server.outcome import Reporter, result_of
from agent.interface.server.saved import SavedSearches
from agent.search.control.commands import BY_HAND
from agent.search.control.handle import SearchHandle, Surface
from agent.search.engine import Engine
from agent.search.graph import SearchGraph
from agent.solver import task

LOST = "the search was lost; the log of the server says why"
_LONGEST_WAIT = 120  # seconds that a client is told to wait, at most
_KEPT = 64  # lines that wait for a slow reader; older ones are dropped


class ClientGone(Exception):
    """There is nobody to answer."""


class Call:
    """One request that was admitted, with its searches.

    Args:
        asked: what it asks for.
        planned: its searches.
        account: whose it is.
        cancel: what ends its searches.

    Attributes:
        id: unguessable.
        created: seconds since the epoch.
        left: whether its client went away.
    """

    def __init__(self, asked: Asked, planned: Planned, account: Account, cancel: Callable[[Call], None]) -> None:
        self.asked, self.planned, self.account = asked, planned, account
        self.id = secrets.token_hex(16)
        self.created = int(time.time())
        self.searches: list[Search] = []
        self._cancel = cancel
        self._events: deque[Event] = deque()
        self._news = asyncio.Event()
        self._ended = 0
        self.left = False

    def post(self, event: Event) -> None:
        """Add an event; lines that nobody takes make room for newer ones."""
        if isinstance(event, Progress) and sum(isinstance(each, Progress) for each in self._events) >= _KEPT:
            self._events.remove(next(each for each in self._events if isinstance(each, Progress)))
        self._events.append(event)
        self._news.set()

    def leave(self) -> None:
        """The client went away: whoever waits for an event is told."""
        self.left = True
        self._news.set()

    def ready(self) -> Event | None:
        """The next event, if it is there already."""
        return self._events.popleft() if self._events else None

    async def next(self) -> Event:
        """The next event: lines, then as many results as there are choices, or a refusal, which is the last.

        Raises:
            ClientGone: the client went away.
        """
        while not self._events and not self.left:
            self._news.clear()
            await self._news.wait()
        if self.left:
            raise ClientGone
        return self._events.popleft()

    async def results(self) -> list[Result]:
        """All results, in order; raises `Refused` where a search failed."""
        found: list[Result] = []
        while len(found) < self.asked.choices:
            event = await self.next()
            if isinstance(event, Refused):
                raise event
            if isinstance(event, Result):
                found.append(event)
        return sorted(found, key=lambda result: result.index)

    def cancel(self) -> None:
        """End what is not over: nobody waits for it."""
        self._cancel(self)


class Search:
    """One search of a call: waiting, at work, or over."""

    def __init__(self, call: Call, index: int) -> None:
        self.call, self.index = call, index
        self.id = f"{call.id}-{index}"
        self.handle: SearchHandle | None = None
        self.begun = 0.0
        self.cancelled = self.over = False
        self.reason: str | None = None  # for which the server ended it
        self.timer: asyncio.TimerHandle | None = None
        self.reporter: Reporter | None = None


class Service:
    """Admits searches and runs them.

    Args:
        catalog: of models.
        limits: of the server.
        metrics: where it is counted.
        saved: where the graphs go; None keeps none.

    Attributes:
        surface: lists the searches at work, for `stepwell ctl`.
    """

    def __init__(self, catalog: Catalog, limits: ServerLimits, metrics: Metrics, saved: SavedSearches | None) -> None:
        self.catalog, self.limits, self.metrics, self.saved = catalog, limits, metrics, saved
        self.draining = False
        self.failed = False  # an engine has died
        self.surface = Surface()
        for solver in catalog.loaded:
            solver.engine.surface = self.surface
        self._waiting: deque[Search] = deque()
        self._running: set[Search] = set()
        self._pending = 0  # admitted, and not yet in one of the two
        self._until: float | None = None  # when searches have had their time to finish, once the server is to end
        self._seconds = 1.0  # that a search takes, lately
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads: list[threading.Thread] = []
        self._tasks: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------------------------------------------------ lifetime

    def start(self) -> None:
        """Start the engines; in the event loop."""
        self._loop = asyncio.get_running_loop()
        for solver in self.catalog.loaded:
            thread = threading.Thread(target=self._drive, args=(solver.engine,), name="stepwell-engine", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _drive(self, engine: Engine) -> None:
        try:
            for _ in engine.run(concurrency=self.limits.concurrency, stay=True):
                pass
        except BaseException as error:
            self.failed = True
            logger.exception("an engine died: {}: {}", type(error).__name__, error)
            assert self._loop is not None
            self._from_thread(self._loop, self._lose, engine)

    def _lose(self, engine: Engine) -> None:
        """End the searches of an engine that has died: it ends none itself that it had not begun."""
        lost = [each for each in (*self._running, *self._waiting) if each.call.planned.solver.engine is engine]
        self._running.difference_update(lost)
        self._waiting = deque(each for each in self._waiting if each not in lost)
        for search in lost:
            self._end(search, Refused(500, LOST))
        self._begin()

    async def drain(self) -> None:
        """Refuse what comes, give what is there time to finish, then end it with the best answers so far.

        A model that hangs is not waited for.
        """
        self.draining = True
        if self._until is None:  # asked again, it is the same end
            self._until = time.monotonic() + self.limits.grace
        await self._idle(self._until)
        for search in list(self._waiting):
            self._waiting.remove(search)
            self._end(search, Refused(503, "the server is shutting down", retry_after=5))
        for search in list(self._running):
            self._stop(search, "the server is shutting down")
        await self._idle(self._until + EXTRA)

    async def _idle(self, until: float) -> None:
        """Wait until nothing is open, or until a moment."""
        while self._open and time.monotonic() < until:
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        """End the engines, after `drain`."""
        for solver in self.catalog.loaded:
            solver.engine.stop()
        for thread in self._threads:
            await asyncio.to_thread(thread.join, 10.0)
        self.catalog.close()

    def load(self) -> dict[str, int]:
        """How many searches are at work, and how many wait."""
        return {"running": len(self._running), "waiting": len(self._waiting)}

    @property
    def _open(self) -> int:
        return len(self._waiting) + len(self._running) + self._pending + len(self._tasks)

    # ----------------------------------------------------------------------------------------------------- admission

    async def submit(self, asked: Asked, account: Account) -> Call:
        """Admit a request.

        Raises:
            Refused: it cannot be understood, or not now.
        """
        if asked.choices > self.limits.choices:
            raise Refused(400, f"n={asked.choices} given; at most {self.limits.choices} are allowed", "n")
        self._admit(asked.choices, account)
        self._pending += asked.choices
        account.open += asked.choices
        try:
            planned = await asyncio.to_thread(self.catalog.plan, asked, account.budget)
            self._refuse_failed()  # an engine may have died meanwhile
        except BaseException:
            account.open -= asked.choices
            raise
        finally:
            self._pending -= asked.choices
        call = Call(asked, planned, account, self._cancel)
        assert self._loop is not None
        deadline = min(asked.deadline or math.inf, self.limits.deadline)
        for index in range(asked.choices):
            search = Search(call, index)
            search.timer = self._loop.call_later(deadline, self._expire, search)
            call.searches.append(search)
            self._waiting.append(search)
        self._begin()
        return call

    def _admit(self, searches: int, account: Account) -> None:
        if self.draining:
            raise Refused(503, "the server is shutting down", retry_after=5)
        self._refuse_failed()
        account.check(searches)
        ahead = len(self._waiting) + len(self._running) + self._pending
        most = self.limits.concurrency + self.limits.queue
        if ahead + searches > most:
            self.metrics.rejected.inc()
            rounds = max(1, len(self._waiting)) / self.limits.concurrency
            raise Refused(429, f"{ahead} searches are open; {most} may be", retry_after=_wait(self._seconds * rounds))

    def _refuse_failed(self) -> None:
        if self.failed:
            raise Refused(503, "the server has lost a model, and must be started again")

    # ------------------------------------------------------------------------------------------------------- running

    def _begin(self) -> None:
        """Begin searches while there is room."""
        while self._waiting and len(self._running) < self.limits.concurrency:
            search = self._waiting.popleft()
            search.begun = time.monotonic()
            self._running.add(search)
            planned, index = search.call.planned, search.index
            search.reporter = Reporter(index, self._poster(search.call))
            made = task(planned.problem, planned.strategy, planned.budget, planned.seed + index, search.reporter)
            search.handle = planned.solver.engine.submit(made)
            search.handle.result.add_done_callback(self._finisher(search))
        self.metrics.observe(len(self._running), len(self._waiting))

    def _poster(self, call: Call) -> Callable[[Event], None]:
        """What posts an event from the engine's thread."""
        loop = self._loop
        assert loop is not None
        return lambda event: self._from_thread(loop, call.post, event)

    def _finisher(self, search: Search) -> Callable[[Future[SearchGraph]], None]:
        loop = self._loop
        assert loop is not None
        return lambda future: self._from_thread(loop, self._finish, search, future)

    @staticmethod
    def _from_thread(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: Any) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(function, *arguments)

    def _finish(self, search: Search, future: Future[SearchGraph]) -> None:
        """The engine is done with a search."""
        assert self._loop is not None
        self._running.discard(search)
        self._begin()
        if future.cancelled():  # the engine has died
            self._end(search, Refused(500, LOST))
            return
        graph = future.result()
        if search.reason is not None and graph.info["stopped"] == BY_HAND:
            graph.info["stopped"] = search.reason
        spent = graph.info["spent"]
        self._seconds += 0.1 * (time.monotonic() - search.begun - self._seconds)
        search.call.account.charge(spent)
        self.metrics.searched(graph.info["stopped"], spent)
        if search.cancelled:
            self._end(search, None)
            return
        work = self._loop.create_task(self._conclude(search, graph))
        self._tasks.add(work)
        work.add_done_callback(self._tasks.discard)

    async def _conclude(self, search: Search, graph: SearchGraph) -> None:
        """Make the result of a search, and save its graph, while the engine goes on."""
        call = search.call
        try:
            links = {} if self.saved is None else await asyncio.to_thread(self.saved.save, search.id, graph)
            event: Event = await asyncio.to_thread(result_of, search.index, graph, call.asked, links, search.reporter,
                                                   call.planned.notes)  # fmt: skip
        except Refused as refused:
            event = refused
        except Exception as error:
            logger.exception("a result could not be made: {}", error)
            event = Refused(500, "the result could not be made; the log of the server says why")
        self._end(search, event)

    def _end(self, search: Search, event: Event | None) -> None:
        if search.over:
            return
        search.over = True
        search.call.account.open -= 1
        if search.timer is not None:
            search.timer.cancel()
        if event is not None:
            search.call.post(event)
        if isinstance(event, Refused):
            self._cancel(search.call)  # the other choices are of no use

    def _expire(self, search: Search) -> None:
        """The time of a search is over."""
        if search in self._running:
            self._stop(search, "the deadline has passed")
        elif search in self._waiting:
            self._waiting.remove(search)
            late = "the deadline passed while the search waited for a place"
            self._end(search, Refused(503, late, retry_after=_wait(self._seconds)))

    def _stop(self, search: Search, reason: str) -> None:
        """End a search with its best answer so far."""
        if search.handle is not None and search.reason is None:
            search.reason = reason
            search.handle.do("stop", who="server")

    def _cancel(self, call: Call) -> None:
        for search in call.searches:
            if search.over or search.cancelled:
                continue
            search.cancelled = True
            if search in self._waiting:
                self._waiting.remove(search)
                self._end(search, None)
            elif search in self._running and search.handle is not None:
                self.metrics.cancelled.inc()
                search.handle.do("cancel", who="server")


def _wait(seconds: float) -> int:
    """Seconds for a Retry-After."""
    return min(max(math.ceil(seconds), 1), _LONGEST_WAIT)
