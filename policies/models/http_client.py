"""Calls to a model server over HTTP: many in flight, tried again while that may help, and never a word of the key.

One thread of its own runs an event loop, so `Client.submit` returns at once and `Client.collect` takes what has come.
A call that fails in a way that may pass (no connection, a reset, a timeout, 5xx, 429, a reply that cannot be read) is
made again after a pause; one that the server refuses is not. Policies and verifiers share this file.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import queue
import random
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Hashable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Annotated, Any

import httpx2

from envs.options import Above, AtLeast, check_ranges

_LARGEST = 64 << 20  # bytes of a reply; a longer one is not read to its end
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 507, 529})  # statuses that may pass

Reader = Callable[[Any], Any]
"""Makes a value of the parsed JSON of a reply; raises `Unreadable` when it is not what was asked for."""


class ServerUnavailable(ConnectionError):
    """A call got no reply that can be used, though it was tried again for as long as was allowed."""


class ServerRefused(ValueError):
    """The server understood a call and will not answer it; the message holds the server's own words.

    Attributes:
        status: of the HTTP reply.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Unreadable(ValueError):
    """A reply is not what was asked for; the call is made again."""


@dataclass(frozen=True)
class Limits:
    """How hard a server is pressed and how long it is waited for.

    Args:
        connections: calls in flight at once; more wait their turn.
        timeout: seconds that one attempt may take, from connecting to the last byte.
        patience: seconds after its first failure for which a call is tried again; a call made when the server has
            failed everything for that long is tried once.
        pause: seconds before the second attempt; doubled for each further one, then shortened by up to half at random.
        longest_pause: seconds that it is doubled to. A server's ``Retry-After`` is waited for whatever its length.
    """

    connections: Annotated[int, AtLeast(1)] = 64
    timeout: Annotated[float, Above(0)] = 600.0
    patience: Annotated[float, AtLeast(0)] = 600.0
    pause: Annotated[float, Above(0)] = 0.5
    longest_pause: Annotated[float, Above(0)] = 30.0

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        check_ranges(self)


class _Passing(Exception):
    """A failure that may pass; `after` is how long the server asks to wait."""

    def __init__(self, what: str, after: float = 0.0) -> None:
        super().__init__(what)
        self.after = after


class Client:
    """Calls to one server. Threads and connections are made by the first call; after `close` there may be another.

    Args:
        base_url: with its version, e.g. ``http://localhost:8000/v1``.
        limits: see there.
        key_variable: the environment variable that holds the API key, if the server wants one.

    Raises:
        ValueError: the URL is none of http or https.
    """

    def __init__(self, base_url: str, limits: Limits | None = None, key_variable: str = "OPENAI_API_KEY") -> None:
        try:
            url = httpx2.URL(base_url)
        except httpx2.InvalidURL as error:
            raise ValueError(f"base_url {base_url!r}: {error}") from None
        if url.scheme not in ("http", "https") or not url.host or url.userinfo:
            raise ValueError(f"base_url {base_url!r} given; allowed: http://HOST:PORT/v1 or https://..., without a key")
        self.base_url = base_url.rstrip("/")
        self.limits = limits or Limits()
        self.key_variable = key_variable
        self._local = _is_loopback(url.host)
        self._ready: queue.SimpleQueue[tuple[Hashable, Any]] = queue.SimpleQueue()
        self._tasks: dict[Hashable, asyncio.Task[None]] = {}  # of the loop's thread, as are the next three
        self._places: asyncio.Semaphore
        self._session: httpx2.AsyncClient
        self._failing_since: float | None = None  # when the first failure came after the last success
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._finalizer: weakref.finalize[..., Client] | None = None

    # ------------------------------------------------------------------------------------------ the caller's thread

    def submit(self, key: Hashable, path: str, body: Mapping[str, Any], read: Reader) -> None:
        """Begin a POST; `collect` gives what came of it under the key.

        Args:
            key: unused by any other call under way.
            path: below the base URL, e.g. ``/completions``.
            body: sent as JSON.
            read: run in the client's thread.
        """
        self._started().call_soon_threadsafe(self._begin, key, path, _encoded(body), read)

    def ask(self, path: str, body: Mapping[str, Any], read: Reader) -> Any:
        """A POST that is waited for; raises what `collect` would give."""
        return self._wait(self._persist(path, _encoded(body), read))

    def collect(self, wait: float) -> list[tuple[Hashable, Any]]:
        """What has come: values, and the exceptions of calls that failed; waits for the first some seconds at most.

        What was cancelled may still be among it.
        """
        if self._thread is not None and not self._thread.is_alive():
            raise RuntimeError(f"the thread that talks to {self.base_url} has died")
        ready = []
        try:
            ready.append(self._ready.get(timeout=wait))
            while True:
                ready.append(self._ready.get_nowait())
        except queue.Empty:
            return ready

    def cancel(self, keys: Iterable[Hashable]) -> None:
        """Drop calls; the connections of those in flight are closed, which tells a server to stop."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._drop, list(keys))

    def get(self, path: str, timeout: float = 10.0) -> Any:
        """The parsed JSON of a GET, waited for and not tried again.

        Raises:
            ServerUnavailable: there is no answer.
            ServerRefused: there is none for us.
        """
        attempt = self._attempt("GET", path, None, lambda reply: reply)
        try:
            return self._wait(asyncio.wait_for(attempt, timeout))
        except (TimeoutError, _Passing) as error:
            reason = str(error) or f"nothing came within {timeout:g} s"
            raise ServerUnavailable(f"{self.base_url}{path}: {reason}; is the server running there?") from None

    def close(self) -> None:
        """Drop all calls and end the thread; what is not closed is when it is collected, or the program ends."""
        if self._finalizer is not None:
            self._finalizer()
        self._loop = self._thread = self._finalizer = None
        self._tasks = {}
        self._ready = queue.SimpleQueue()

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="stepwell-client", daemon=True)
            self._thread.start()
            self._wait(self._open())
            self._finalizer = weakref.finalize(self, _end, self._loop, self._thread, self._session)
        return self._loop

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._started()).result()

    # -------------------------------------------------------------------------------------------- the loop's thread

    async def _open(self) -> None:
        key = os.environ.get(self.key_variable, "")
        count = self.limits.connections
        self._places = asyncio.Semaphore(count)
        self._failing_since = None
        self._session = httpx2.AsyncClient(
            headers={"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {key}"} if key else {}),
            limits=httpx2.Limits(max_connections=count + 1, max_keepalive_connections=count),
            timeout=None,  # `_attempt` has one clock for all of it
            trust_env=not self._local,  # a proxy cannot reach what listens on this machine only
        )

    def _begin(self, key: Hashable, path: str, content: bytes, read: Reader) -> None:
        task = asyncio.get_running_loop().create_task(self._call(key, path, content, read))
        self._tasks[key] = task
        task.add_done_callback(lambda done: self._tasks.pop(key, None) if self._tasks.get(key) is done else None)

    def _drop(self, keys: Iterable[Hashable]) -> None:
        for key in keys:
            if (task := self._tasks.pop(key, None)) is not None:
                task.cancel()

    async def _call(self, key: Hashable, path: str, content: bytes, read: Reader) -> None:
        try:
            outcome = await self._persist(path, content, read)
        except Exception as error:
            outcome = error
        self._ready.put((key, outcome))

    async def _persist(self, path: str, content: bytes, read: Reader) -> Any:
        """Attempts until one succeeds, the server refuses or patience is at its end."""
        attempts, failing_since = 0, 0.0
        while True:
            async with self._places:
                try:
                    async with asyncio.timeout(self.limits.timeout):
                        value = await self._attempt("POST", path, content, read)
                    self._failing_since = None
                    return value
                except TimeoutError:
                    failure = _Passing(f"no reply within {self.limits.timeout:g} s")
                except _Passing as passing:
                    failure = passing
            now = time.monotonic()
            failing_since = failing_since or now
            self._failing_since = self._failing_since or now
            failed_for = now - min(failing_since, self._failing_since)
            left = self.limits.patience - failed_for
            attempts += 1
            if left <= 0 or failure.after > left:
                asked = f" (it asks to wait {failure.after:g} s)" if failure.after else ""
                raise ServerUnavailable(
                    f"{self.base_url}{path} gave no usable reply in {attempts} attempt(s), the last: {failure}{asked};"
                    f" it has failed for {failed_for:.3g} s, and patience is {self.limits.patience:g} s"
                )
            pause = min(self.limits.pause * 2.0 ** (attempts - 1), self.limits.longest_pause)
            pause = max(min(pause * random.uniform(0.5, 1.0), left), failure.after)
            await asyncio.sleep(pause)

    async def _attempt(self, method: str, path: str, content: bytes | None, read: Reader) -> Any:
        """One request and what its reply holds; raises `_Passing` and `ServerRefused`."""
        headers = {"Content-Type": "application/json"} if content is not None else {}
        try:
            async with self._session.stream(method, self.base_url + path, content=content, headers=headers) as reply:
                received = bytearray()
                async for chunk in reply.aiter_bytes():
                    received += chunk
                    if len(received) > _LARGEST:
                        raise _Passing(f"a reply of more than {_LARGEST >> 20} MiB")
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            raise _Passing(str(error) or type(error).__name__) from None
        if reply.status_code in _AGAIN:
            raise _Passing(f"{reply.status_code} {self._said(received)}", _after(reply.headers.get("Retry-After")))
        if reply.status_code != 200:
            raise ServerRefused(self._refusal(path, reply.status_code, received), reply.status_code)
        try:
            return read(json.loads(received))
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise _Passing(f"an unreadable reply ({type(error).__name__}: {str(error)[:200]})") from None

    def _refusal(self, path: str, status: int, content: bytes | bytearray) -> str:
        hint = ""
        if status in (401, 403):
            state = "was sent" if os.environ.get(self.key_variable) else "is not set"
            hint = f" (the key of the environment variable {self.key_variable} {state})"
        return f"{self.base_url}{path} refused with {status}: {self._said(content)}{hint}"

    def _said(self, content: bytes | bytearray) -> str:
        """What a server says of an error, less the key, which some repeat."""
        message, key = _message(content), os.environ.get(self.key_variable)
        return message.replace(key, "***") if key else message


def _end(loop: asyncio.AbstractEventLoop, thread: threading.Thread, session: httpx2.AsyncClient) -> None:
    """End a client's calls, connections and thread."""

    async def end() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await session.aclose()
        loop.stop()

    asyncio.run_coroutine_threadsafe(end(), loop)
    if threading.current_thread() is not thread:
        thread.join()
        loop.close()


def _encoded(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _message(content: bytes | bytearray) -> str:
    """What a server says of an error: the `message` of its JSON, wherever servers put it, or the beginning of it."""
    try:
        said = json.loads(content)
        while isinstance(said, dict):
            said = next(said[key] for key in ("error", "message", "detail") if key in said)
    except (ValueError, RecursionError, StopIteration):
        said = bytes(content).decode("utf-8", "replace")
    return " ".join(str(said).split())[:500]


def _after(header: str | None) -> float:
    """The seconds of a Retry-After header, which may hold a number or a date; 0 for what is neither."""
    if header is None:
        return 0.0
    try:
        return max(0.0, float(header)) if float(header) < float("inf") else 0.0
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
