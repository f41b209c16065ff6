"""What policies and verifiers share: requests are submitted, replies are polled for, searches are cancelled."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar, runtime_checkable


class _Scoped(Protocol):
    """A request of one search."""

    @property
    def scope(self) -> str:
        """The search that asks; work is reused within a scope only."""
        ...


Request = TypeVar("Request", contravariant=True)
Reply = TypeVar("Reply", covariant=True)
Asked = TypeVar("Asked", bound=_Scoped)
Answered = TypeVar("Answered")


@runtime_checkable
class Service(Protocol[Request, Reply]):
    """Something that answers requests, in any order: the same contract fits a batch, a streaming engine and a server.

    Attributes:
        name: identifies the model in records.
        parameters: number of parameters, for FLOPs (0 if unknown, or for what is no model).
    """

    @property
    def name(self) -> str: ...

    @property
    def parameters(self) -> int: ...

    def submit(self, ticket: int, request: Request) -> None:
        """Queue a request under the caller's ticket; returns at once. Raises ValueError when the ticket is in use."""
        ...

    def poll(self) -> Sequence[tuple[int, Reply | Exception]]:
        """Do or await some work; return the replies that became ready, maybe none. Returns () at once when idle.

        A request that cannot be answered is answered by the exception that says why, and fails its search alone; a
        `ConnectionError` says that trying again later may help.
        """
        ...

    def cancel(self, scope: str) -> None:
        """Drop the queued and running requests of a search, and what was kept for it."""
        ...

    def close(self) -> None:
        """Free what the service holds."""
        ...


@runtime_checkable
class Identified(Protocol):
    """A service that tells its model from others under the same name. Plans and studies record what it says."""

    def digest(self) -> str:
        """Of all that makes the model (`policies.models.digest`), or a server's name for it; empty if unknown."""
        ...


class QueuedService(Generic[Asked, Answered]):
    """The half of a fake that waits: requests queue up, and each poll answers all of them, or some, out of order.

    What inherits from it answers one request (`_answer`).

    Args:
        shuffle: a seed; replies then come late and in random order, as they may from a server.
        delay: seconds that each poll takes, to look at a search while it runs.
    """

    def __init__(self, shuffle: int | None = None, delay: float = 0.0) -> None:
        self._random = None if shuffle is None else random.Random(shuffle)
        self._delay = delay
        self._queue: dict[int, Asked] = {}

    def submit(self, ticket: int, request: Asked) -> None:
        """Queue a request; raises ValueError when the ticket is in use."""
        if ticket in self._queue:
            raise ValueError(f"ticket {ticket} is in use")
        self._queue[ticket] = request

    def poll(self) -> Sequence[tuple[int, Answered]]:
        """Answer what is queued; when shuffled, some of it."""
        if self._delay and self._queue:
            time.sleep(self._delay)
        tickets = list(self._queue)
        if self._random is not None:
            self._random.shuffle(tickets)
            tickets = tickets[: self._random.randint(0, len(tickets))]
        return [(ticket, self._answer(self._queue.pop(ticket))) for ticket in tickets]

    def cancel(self, scope: str) -> None:
        """Drop the requests of a search."""
        self._queue = {ticket: request for ticket, request in self._queue.items() if request.scope != scope}

    def close(self) -> None:
        """Drop all queued requests; they are never answered."""
        self._queue.clear()

    def _answer(self, request: Asked) -> Answered:
        raise NotImplementedError
