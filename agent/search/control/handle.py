"""What people hold of a search: a handle, usable from any thread, and the surface that lists all of a process."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import RLock
from typing import TYPE_CHECKING, Any, TypeVar

from agent.search.control.arguments import check
from agent.search.control.events import EventLog
from agent.search.control.views import summary
from envs.errors import StepwellError
from envs.messages import UsageError, nearest

if TYPE_CHECKING:
    from agent.search.control.running import Running
    from agent.search.engine import Task
    from agent.search.graph import SearchGraph

T = TypeVar("T")
_ENDED = 200  # searches that are over and still listed
_PROGRESS = 0.1  # seconds between two events of progress of one search


class SearchOver(StepwellError, RuntimeError):
    """A search is over, and cannot be changed any more."""


@dataclass
class Letter:
    """What one thread asks of a search, to be done by the engine's.

    Args:
        do: with the search; what it returns is the reply, unless it replies itself, later.
        future: the reply.
    """

    do: Callable[[Running, Future[Any]], None]
    future: Future[Any] = field(default_factory=Future)


class SearchHandle:
    """A search, from the moment that it is submitted; all methods may be called from any thread.

    Everything is done by the engine's thread, between two replies, and comes back as a future. A future fails with
    `UsageError` where the request is wrong, and with `SearchOver` where the search is over.

    Args:
        id: of the search, among those of its surface.
        task: what is to be searched.
        post: tells the engine that there is a letter.
        surface: that lists it.

    Attributes:
        result: the graph, when the search is over; cancelled ones have theirs, too.
        state: ``waiting``, ``running``, ``paused`` or ``over``.
    """

    def __init__(self, id: str, task: Task, post: Callable[[SearchHandle], None], surface: Surface) -> None:
        self.id = id
        self.task = task
        self.result: Future[SearchGraph] = Future()
        self.letters: deque[Letter] = deque()
        self.running: Running | None = None
        self._post = post
        self._surface = surface
        self._lock = RLock()
        self._over = False
        self._told = 0.0

    @property
    def state(self) -> str:
        """Where it stands."""
        running = self.running
        if self._over:
            return "over"
        if running is None:
            return "waiting"
        return "paused" if running.paused else "running"

    # ---------------------------------------------------------------------------------------------------- for people

    def do(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        who: str = "",
        dry_run: bool = False,
        key: str | None = None,
    ) -> Future[dict[str, Any]]:
        """Change the search (`agent.search.control.arguments.COMMANDS` lists the commands).

        Args:
            command: its name.
            arguments: by name, as the command takes them.
            who: asks for it; it is recorded in the graph.
            dry_run: only check it, and say what would change.
            key: a name for this request, for who may send it again: the command is done once under it.

        Returns:
            ``changed`` (False where all was so already), ``old`` and ``new``, and the nodes that were ``made``.

        Raises:
            UsageError: there is no such command, or the arguments are not those that it takes.
        """
        from agent.search.control.commands import perform  # it is heavier than a handle

        checked = check(command, arguments or {})
        return self._ask(Letter(lambda running, future: perform(running, command, checked, who, dry_run, future, key)))

    def look(self, function: Callable[[SearchGraph], T]) -> Future[T]:
        """What a function makes of the graph, while nothing else touches it. It must be quick, and change nothing."""

        def read(running: Running, future: Future[T]) -> None:
            future.set_result(function(running.graph))

        return self._ask(Letter(read))

    def summary(self) -> Future[dict[str, Any]]:
        """Where the search stands, in figures, without any text that a model wrote."""

        def read(running: Running, future: Future[dict[str, Any]]) -> None:
            future.set_result({"id": self.id, "state": self.state, **summary(running)})

        return self._ask(Letter(read))

    def _ask(self, letter: Letter) -> Future[Any]:
        with self._lock:
            if self._over:
                letter.future.set_exception(SearchOver(f"search {self.id} is over"))
                return letter.future
            self.letters.append(letter)
        self._post(self)
        return letter.future

    # ------------------------------------------------------------------------------------------------ for the engine

    def begin(self, running: Running) -> None:
        """The search has begun."""
        self.running = running
        facts = {"problem": running.graph.problem.id, "strategy": running.graph.info.get("strategy")}
        self._surface.events.add(self.id, "begun", facts)

    def read(self) -> None:
        """Do what the letters ask for; what they fail of is theirs alone."""
        while self.letters:
            letter = self.letters.popleft()
            if not letter.future.set_running_or_notify_cancel():
                continue
            assert self.running is not None
            try:
                letter.do(self.running, letter.future)
            except Exception as error:
                letter.future.set_exception(error)

    def told(self, command: str, facts: Mapping[str, Any]) -> None:
        """A person changed the search."""
        self._surface.events.add(self.id, "command", {"command": command, **facts})

    def went_on(self, running: Running) -> None:
        """A reply was taken up."""
        now = time.monotonic()
        if now - self._told >= _PROGRESS:
            self._told = now
            graph = running.graph
            facts = {"samples": round(graph.samples(), 3), "nodes": len(graph), "tokens": graph.generated}
            self._surface.events.add(self.id, "progress", facts)

    def end(self, graph: SearchGraph | None) -> None:
        """The search is over; None where the caller left it in the middle."""
        with self._lock:
            self._over = True
            letters, self.letters = self.letters, deque()
        last: dict[str, Any] = {"id": self.id, "state": "over"}
        if self.running is not None:
            last |= summary(self.running)
        self.running = None
        self._surface.ended(self, last)
        for letter in letters:
            letter.future.set_exception(SearchOver(f"search {self.id} is over"))
        if graph is None:
            self.result.cancel()
        elif not self.result.cancelled():
            self.result.set_result(graph)


class Surface:
    """The searches of a process, those that are over for a while too, and what happened to them."""

    def __init__(self) -> None:
        self.events = EventLog()
        self._numbers = itertools.count(1)
        self._open: dict[str, SearchHandle] = {}
        self._ended: deque[dict[str, Any]] = deque(maxlen=_ENDED)
        self._lock = RLock()

    def open(self, task: Task, post: Callable[[SearchHandle], None]) -> SearchHandle:
        """A handle for a search that is to begin."""
        with self._lock:
            handle = SearchHandle(str(next(self._numbers)), task, post, self)
            self._open[handle.id] = handle
            return handle

    def ended(self, handle: SearchHandle, last: dict[str, Any]) -> None:
        """A search is over; its graph is not kept here."""
        with self._lock:
            self._open.pop(handle.id, None)
            self._ended.append(last)
        facts: dict[str, Any] = {key: last[key] for key in ("stopped", "samples", "nodes", "seconds") if key in last}
        self.events.add(handle.id, "over", facts)

    def searches(self) -> list[SearchHandle]:
        """Those that are not over, oldest first."""
        with self._lock:
            return list(self._open.values())

    def past(self) -> list[dict[str, Any]]:
        """How the last of those that are over ended, oldest first."""
        with self._lock:
            return list(self._ended)

    def find(self, id: str) -> SearchHandle:
        """A search that is not over.

        Raises:
            UsageError: there is none with that id.
            SearchOver: there was one.
        """
        with self._lock:
            if id in self._open:
                return self._open[id]
            if any(each["id"] == id for each in self._ended):
                raise SearchOver(f"search {id} is over")
            known = list(self._open)
        shown = f"there are {', '.join(known[:20])}" if known else "none is under way"
        raise UsageError(f"there is no search {id!r}{nearest(id, known)}; {shown}")
