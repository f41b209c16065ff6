"""The searches of a server: admitted, queued, given to the engine, stopped, cancelled, counted.

All of it runs in the event loop. The engine is in another process (`agent.interface.server.engine`), which is told what
to search, and says what comes of it.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from loguru import logger

from agent.interface.server.catalog import Catalog, Planned
from agent.interface.server.core import Asked, Event, Progress, Refused, Result
from agent.interface.server.engine.protocol import Unpacker, event_of, pack
from agent.interface.server.keys import Account
from agent.interface.server.limits import EXTRA, ServerLimits
from agent.interface.server.metrics import Metrics

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
        self.order = pack(call.planned.order(self.id, index, call.asked).to_message())
        self.begun = 0.0
        self.cancelled = self.over = self.stopped = False
        self.timer: asyncio.TimerHandle | None = None


class Engine(Protocol):
    """What searches, beyond a connection."""

    @property
    def connection(self) -> socket.socket:
        """To it; closed, the engine ends."""
        ...

    def join(self) -> None:
        """Wait for its end."""
        ...


class Service:
    """Admits searches and has them made.

    Args:
        catalog: of models.
        engine: that searches.
        limits: of the server.
        metrics: where it is counted.

    Attributes:
        draining: nothing more is admitted.
        failed: the engine has died.
        when_lost: called when it does.
    """

    def __init__(self, catalog: Catalog, engine: Engine, limits: ServerLimits, metrics: Metrics) -> None:
        self.catalog, self.engine, self.limits, self.metrics = catalog, engine, limits, metrics
        self.draining = False
        self.failed = False
        self.when_lost: Callable[[], None] = lambda: None
        self._waiting: deque[Search] = deque()
        self._running: dict[str, Search] = {}
        self._pending = 0  # admitted, and not yet in one of the two
        self._until: float | None = None  # when searches have had their time to finish, once the server is to end
        self._seconds = 1.0  # that a search takes, lately
        self._loop: asyncio.AbstractEventLoop | None = None
        self._link: asyncio.WriteTransport | None = None

    # ------------------------------------------------------------------------------------------------------ lifetime

    async def start(self) -> None:
        """Listen to the engine; in the event loop."""
        self._loop = asyncio.get_running_loop()
        self._link, _ = await self._loop.create_unix_connection(
            lambda: _Listener(self._hear, self._lose), sock=self.engine.connection
        )

    def _hear(self, message: Mapping[str, Any]) -> None:
        search = self._running.get(message.get("line") or message["over"])
        if search is None:
            return
        if "line" in message:
            search.call.post(Progress(search.index, message["text"]))
        else:
            self._finish(search, message)

    def _lose(self) -> None:
        """The engine has ended, and with it all searches."""
        if self._link is None:  # as it was told to
            return
        self.failed = True
        logger.error("the engine is lost: {} searches end without an answer", len(self._running) + len(self._waiting))
        lost = [*self._running.values(), *self._waiting]
        self._running.clear()
        self._waiting.clear()
        for search in lost:
            self._end(search, Refused(500, LOST))
        self.metrics.observe(0, 0)
        self.when_lost()

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
        for search in list(self._running.values()):
            self._stop(search, "the server is shutting down")
        await self._idle(self._until + EXTRA)

    async def _idle(self, until: float) -> None:
        """Wait until nothing is open, or until a moment."""
        while self._open and time.monotonic() < until:
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        """End the engine, after `drain`."""
        link, self._link = self._link, None
        if link is not None:
            link.close()
        await asyncio.to_thread(self.engine.join)

    def load(self) -> dict[str, int]:
        """How many searches are at work, and how many wait."""
        return {"running": len(self._running), "waiting": len(self._waiting)}

    @property
    def _open(self) -> int:
        return len(self._waiting) + len(self._running) + self._pending

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
            self._refuse_failed()  # the engine may have died meanwhile
            call = Call(asked, planned, account, self._cancel)
            call.searches = [Search(call, index) for index in range(asked.choices)]
        except BaseException:
            account.open -= asked.choices
            raise
        finally:
            self._pending -= asked.choices
        assert self._loop is not None
        deadline = min(asked.deadline or math.inf, self.limits.deadline)
        for search in call.searches:
            search.timer = self._loop.call_later(deadline, self._expire, search)
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
            self._running[search.id] = search
            self._tell(search.order)
        self.metrics.observe(len(self._running), len(self._waiting))

    def _tell(self, message: bytes) -> None:
        if self._link is not None:
            self._link.write(message)

    def _finish(self, search: Search, message: Mapping[str, Any]) -> None:
        """The engine is done with a search."""
        del self._running[search.id]
        self._begin()
        self._seconds += 0.1 * (time.monotonic() - search.begun - self._seconds)
        search.call.account.charge(message["spent"])
        self.metrics.searched(message["stopped"], message["spent"])
        self._end(search, None if search.cancelled else event_of(message))

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
        if search.id in self._running:
            self._stop(search, "the deadline has passed")
        elif search in self._waiting:
            self._waiting.remove(search)
            late = "the deadline passed while the search waited for a place"
            self._end(search, Refused(503, late, retry_after=_wait(self._seconds)))

    def _stop(self, search: Search, reason: str) -> None:
        """End a search with its best answer so far."""
        if not search.stopped:
            search.stopped = True
            self._tell(pack({"do": "stop", "id": search.id, "reason": reason}))

    def _cancel(self, call: Call) -> None:
        for search in call.searches:
            if search.over or search.cancelled:
                continue
            search.cancelled = True
            if search in self._waiting:
                self._waiting.remove(search)
                self._end(search, None)
            elif search.id in self._running:
                self.metrics.cancelled.inc()
                self._tell(pack({"do": "cancel", "id": search.id}))


class _Listener(asyncio.Protocol):
    """Hears what the engine says.

    Args:
        hear: takes each message.
        lose: called at the end of the connection.
    """

    def __init__(self, hear: Callable[[Mapping[str, Any]], None], lose: Callable[[], None]) -> None:
        self._hear, self._lose = hear, lose
        self._unpacker = Unpacker()

    def data_received(self, data: bytes) -> None:
        for message in self._unpacker.feed(data):
            self._hear(message)

    def connection_lost(self, error: Exception | None) -> None:
        self._lose()


def _wait(seconds: float) -> int:
    """Seconds for a Retry-After."""
    return min(max(math.ceil(seconds), 1), _LONGEST_WAIT)
