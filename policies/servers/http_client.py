"""Calls to a model server over HTTP: many in flight, tried again while that may help, and never a word of the key.

One thread of its own runs an event loop, so `Client.submit` returns at once and `Client.collect` takes what has come.
A call that fails in a way that may pass (no connection, a reset, a timeout, 5xx, 429, a reply that cannot be read) is
made again after a pause; one that the server refuses is not, nor for long one that it answers with what was not asked
for. While a server keeps its callers waiting, the log says so. Policies and verifiers share this file.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import queue
import random
import ssl
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Coroutine, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, NamedTuple

import httpx2
from loguru import logger

from envs.errors import StepwellError
from envs.options import Above, AtLeast, check_ranges
from policies.servers.refusals import printable, says_no_credit, says_no_room

LARGEST = 64 << 20  # bytes of a reply of which nothing else is known; a longer one is not read to its end
_LARGEST_REFUSAL = 64 << 10  # bytes that are read of a refusal
_MOST_UNREADABLE = 4  # replies to one call in a row that are whole, and not what was asked for
_TROUBLED, _QUIET = 3.0, 30.0  # seconds without a usable reply after which the log says so: with failures, and without
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 507, 529})  # statuses that may pass

Reader = Callable[[Any], Any]
"""Makes a value of the parsed JSON of a reply; raises `Unreadable` when it is not what was asked for."""


class Call(NamedTuple):
    """What to ask: the arguments of `Client.submit` after the key, and of `Client.ask`."""

    path: str
    body: Mapping[str, Any]
    read: Reader
    largest: int = LARGEST


class ServerUnavailable(StepwellError, ConnectionError):
    """A call got no reply that can be used, though it was tried again for as long as was allowed."""


class ServerRefused(StepwellError, ValueError):
    """The server understood a call and will not answer it; the message holds the server's own words.

    Attributes:
        status: of the HTTP reply, or the one that an error in its body names.
        words: the server's own.
    """

    def __init__(self, message: str, status: int, words: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.words = words


class Unreadable(ValueError):
    """A reply is not what was asked for; the call is made again, but not often."""


@dataclass(frozen=True)
class ConnectionLimits:
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


class _Useless(_Passing):
    """A reply that is whole, and not what was asked for: the next one is likely to be the same."""


class Client:
    """Calls to one server. Threads and connections are made by the first call; after `close` there may be another.

    Args:
        base_url: with its version, e.g. ``http://localhost:8000/v1``.
        limits: see there.
        key_variable: the environment variable that holds the API key, if the server wants one.

    Raises:
        ValueError: the URL is none of http or https.
    """

    def __init__(
        self, base_url: str, limits: ConnectionLimits | None = None, key_variable: str = "OPENAI_API_KEY"
    ) -> None:
        try:
            url = httpx2.URL(base_url)
        except httpx2.InvalidURL as error:
            raise ValueError(f"base_url {base_url!r}: {error}") from None
        port = 0 <= (url.port or 0) < 1 << 16
        if url.scheme not in ("http", "https") or not url.host or not port or url.userinfo or url.query or url.fragment:
            raise ValueError(f"base_url {base_url!r} given; allowed: http://HOST:PORT/v1 or https://..., without a key")
        self.base_url = base_url.rstrip("/")
        self.limits = limits or ConnectionLimits()
        self.key_variable = key_variable
        self._local = _is_loopback(url.host)
        self._ready: queue.SimpleQueue[tuple[Hashable, Any]] = queue.SimpleQueue()
        self._tasks: dict[Hashable, asyncio.Task[None]] = {}  # of the loop's thread, as are the next three
        self._places: asyncio.Semaphore
        self._certificates: ssl.SSLContext
        self._sessions: list[httpx2.AsyncClient] = []  # each has one connection; those in `_idle` serve no call
        self._idle: list[httpx2.AsyncClient] = []
        self._failing_since: float | None = None  # when the first failure came after the last success
        self._waiting = 0  # calls under way
        self._quiet_since = 0.0  # the last success, or the first call since there were none
        self._trouble = ""  # the last failure since then
        self._watcher: asyncio.Task[None]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._finalizer: weakref.finalize[..., Client] | None = None

    # ------------------------------------------------------------------------------------------ the caller's thread

    def submit(self, key: Hashable, path: str, body: Mapping[str, Any], read: Reader, largest: int = LARGEST) -> None:
        """Begin a POST; `collect` gives what came of it under the key.

        Args:
            key: unused by any other call under way.
            path: below the base URL, e.g. ``/completions``.
            body: sent as JSON.
            read: run in the client's thread.
            largest: bytes of a reply that are read; more are a failure.
        """
        self._started().call_soon_threadsafe(self._begin, key, path, _encoded(body), read, largest)

    def ask(self, path: str, body: Mapping[str, Any], read: Reader, largest: int = LARGEST) -> Any:
        """A POST that is waited for; raises what `collect` would give."""
        return self._wait(self._persist(path, _encoded(body), read, largest))

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
        return self._get(self.base_url + path, timeout)

    def get_beside(self, path: str, timeout: float = 5.0) -> Any:
        """As `get`, of a path that lies beside the version of the base URL: ``/api/tags`` beside ``/v1``."""
        return self._get(self.base_url.removesuffix("/v1") + path, timeout)

    def _get(self, url: str, timeout: float) -> Any:
        attempt = self._attempt("GET", url, None, lambda reply: reply, LARGEST)
        try:
            return self._wait(asyncio.wait_for(attempt, timeout))
        except (TimeoutError, _Passing) as error:
            reason = str(error) or f"nothing came within {timeout:g} s"
            raise ServerUnavailable(f"{url}: {reason}; is the server running there?") from None

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
            self._finalizer = weakref.finalize(self, _end, self._loop, self._thread, self._sessions)
        return self._loop

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._started()).result()

    # -------------------------------------------------------------------------------------------- the loop's thread

    async def _open(self) -> None:
        self._places = asyncio.Semaphore(self.limits.connections)
        self._failing_since, self._waiting = None, 0
        self._sessions, self._idle = [], []
        self._certificates = httpx2.create_ssl_context()

    @contextmanager
    def _connection(self) -> Iterator[httpx2.AsyncClient]:
        """A connection that is used for nothing else meanwhile: the one that was used last, or a new one.

        A pool of many looks at each of them whenever a call begins or ends, which costs more than the call.
        """
        session = self._idle.pop() if self._idle else self._connect()
        try:
            yield session
        finally:
            self._idle.append(session)

    def _connect(self) -> httpx2.AsyncClient:
        key = os.environ.get(self.key_variable, "")
        session = httpx2.AsyncClient(
            headers={"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {key}"} if key else {}),
            limits=httpx2.Limits(max_connections=1, max_keepalive_connections=1),
            timeout=None,  # `_attempt` has one clock for all of it
            trust_env=not self._local,  # a proxy cannot reach what listens on this machine only
            verify=self._certificates,
        )
        self._sessions.append(session)
        return session

    def _begin(self, key: Hashable, path: str, content: bytes, read: Reader, largest: int) -> None:
        task = asyncio.get_running_loop().create_task(self._call(key, path, content, read, largest))
        self._tasks[key] = task
        task.add_done_callback(lambda done: self._tasks.pop(key, None) if self._tasks.get(key) is done else None)

    def _drop(self, keys: Iterable[Hashable]) -> None:
        for key in keys:
            if (task := self._tasks.pop(key, None)) is not None:
                task.cancel()

    async def _call(self, key: Hashable, path: str, content: bytes, read: Reader, largest: int) -> None:
        try:
            outcome = await self._persist(path, content, read, largest)
        except Exception as error:
            outcome = error
        self._ready.put((key, outcome))

    async def _persist(self, path: str, content: bytes, read: Reader, largest: int) -> Any:
        """Attempts until one succeeds, the server refuses or patience is at its end."""
        if not self._waiting:
            self._heard()
            self._watcher = asyncio.get_running_loop().create_task(self._watch())
        self._waiting += 1
        try:
            return await self._attempts(path, content, read, largest)
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._watcher.cancel()

    async def _attempts(self, path: str, content: bytes, read: Reader, largest: int) -> Any:
        attempts, useless, failing_since = 0, 0, 0.0
        while True:
            async with self._places:
                try:
                    async with asyncio.timeout(self.limits.timeout):
                        value = await self._attempt("POST", self.base_url + path, content, read, largest)
                    self._failing_since = None
                    self._heard()
                    return value
                except TimeoutError:
                    failure = _Passing(f"no reply within {self.limits.timeout:g} s")
                except _Passing as passing:
                    failure = passing
            now = time.monotonic()
            failing_since = failing_since or now
            self._failing_since = self._failing_since or now
            self._trouble = str(failure)
            failed_for = now - min(failing_since, self._failing_since)
            left = self.limits.patience - failed_for
            attempts += 1
            useless = useless + 1 if isinstance(failure, _Useless) else 0
            if useless == _MOST_UNREADABLE:
                raise ServerRefused(
                    f"{self.base_url}{path} gave no usable reply in {attempts} attempt(s), the last: {failure}", 200
                )
            if left <= 0 or failure.after > left:
                asked = f" (it asks to wait {failure.after:g} s)" if failure.after else ""
                raise ServerUnavailable(
                    f"{self.base_url}{path} gave no usable reply in {attempts} attempt(s), the last: {failure}{asked};"
                    f" it has failed for {failed_for:.3g} s, and patience is {self.limits.patience:g} s"
                )
            pause = min(self.limits.pause * 2.0 ** (attempts - 1), self.limits.longest_pause)
            pause = max(min(pause * random.uniform(0.5, 1.0), left), failure.after)
            await asyncio.sleep(pause)

    def _heard(self) -> None:
        self._quiet_since, self._trouble = time.monotonic(), ""

    async def _watch(self) -> None:
        """Say on the log that the server keeps its callers waiting, and again whenever it took twice as long."""
        said_since, said_for = 0.0, 0.0
        while True:
            quiet = time.monotonic() - self._quiet_since
            if said_for and said_since != self._quiet_since:
                logger.warning("{} replies again", self.base_url)
                said_for = 0.0
            if quiet >= max(_TROUBLED if self._trouble else _QUIET, 2 * said_for):
                said_since, said_for = self._quiet_since, quiet
                logger.warning(
                    "{}: no usable reply for {:.0f} s, {} call(s) wait; {}; patience is {:g} s",
                    self.base_url,
                    quiet,
                    self._waiting,
                    f"the last failure: {self._trouble}" if self._trouble else "none has failed",
                    self.limits.patience,
                )
            await asyncio.sleep(min(_TROUBLED, _QUIET) / 4)

    async def _attempt(self, method: str, url: str, content: bytes | None, read: Reader, largest: int) -> Any:
        """One request and what its reply holds; raises `_Passing` and `ServerRefused`."""
        headers = {"Content-Type": "application/json"} if content is not None else {}
        try:
            with self._connection() as session:
                async with session.stream(method, url, content=content, headers=headers) as reply:
                    received = await _received(reply, largest)
        except httpx2.TransportError as error:
            raise _Passing(printable(str(error)) or type(error).__name__) from None
        if reply.status_code != 200:
            self._refuse(url, reply.status_code, received, _after(reply.headers.get("Retry-After")))
        try:
            parsed = json.loads(received)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise _Passing(f"an unreadable reply ({type(error).__name__}: {str(error)[:200]})") from None
        except (ValueError, RecursionError) as error:  # too many digits, too many brackets
            raise self._useless(error, received) from None
        if isinstance(parsed, dict) and (parsed.get("error") or parsed.get("object") == "error"):
            self._refuse(url, _status(parsed), received, 0.0)
        try:
            return read(parsed)
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
            raise self._useless(error, received) from None

    def _useless(self, error: Exception, content: bytes | bytearray) -> _Useless:
        said = self._said(content)[:200]
        return _Useless(f"not what was asked for ({type(error).__name__}: {printable(str(error), 200)}): {said}")

    def _refuse(self, url: str, status: int, content: bytes | bytearray, after: float) -> None:
        """Raise what an error of the server means: that it may pass, or that it will not."""
        words = self._said(content)
        full = status in (400, 413, 422, 500) and says_no_room(words)
        if status in _AGAIN and not full and not (status == 429 and not after and says_no_credit(words)):
            raise _Passing(f"{status} {words}", after)
        raise ServerRefused(self._refusal(url, status, words), status, words)

    def _refusal(self, url: str, status: int, words: str) -> str:
        hint = ""
        if status in (401, 403):
            state = "was sent" if os.environ.get(self.key_variable) else "is not set"
            hint = f" (the key of the environment variable {self.key_variable} {state})"
        return f"{url} refused with {status}: {words}{hint}"

    def _said(self, content: bytes | bytearray) -> str:
        """What a server says of an error, less the key, which some repeat."""
        message, key = _message(content), os.environ.get(self.key_variable)
        return printable(message.replace(key, "***") if key else message)


def _end(loop: asyncio.AbstractEventLoop, thread: threading.Thread, sessions: Sequence[httpx2.AsyncClient]) -> None:
    """End a client's calls, connections and thread."""

    async def end() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for session in sessions:
            await session.aclose()
        loop.stop()

    asyncio.run_coroutine_threadsafe(end(), loop)
    if threading.current_thread() is not thread:
        thread.join()
        loop.close()


async def _received(reply: httpx2.Response, largest: int) -> bytearray:
    """The body of a reply, decoded as it comes: what would be larger than is allowed is never there in full.

    Of a refusal the beginning is enough; of anything else more than `largest` bytes are a failure.
    """
    fine = reply.status_code == 200
    most = largest if fine else _LARGEST_REFUSAL
    coding = reply.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("", "identity", "gzip", "x-gzip", "deflate"):
        raise _Useless(f"a reply in the coding {printable(coding, 80)!r}, which was not asked for")
    inflate = None if coding in ("", "identity") else zlib.decompressobj(wbits=47)  # gzip or zlib, as it begins
    received = bytearray()
    async for chunk in reply.aiter_raw():
        try:
            received += chunk if inflate is None else inflate.decompress(chunk, most + 1 - len(received))
        except zlib.error as error:
            raise _Passing(f"an unreadable reply ({error})") from None
        if len(received) > most:
            if fine:
                raise _Useless(f"a reply of more than {most >> 10} KiB, which no answer to it needs")
            break
    return received


def _status(error: Mapping[str, Any]) -> int:
    """The status that an error in the body of a 200 names; 200 if it names none."""
    inner = error.get("error")
    for holder in (inner, error):
        code = holder.get("code") or holder.get("status") if isinstance(holder, Mapping) else None
        if isinstance(code, int | str) and len(str(code)) == 3 and str(code).isdecimal():
            return int(code)
    return 200


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
            said = next(said[key] for key in ("error", "message", "detail") if said.get(key))
    except (ValueError, RecursionError, StopIteration):
        said = bytes(content[:4096]).decode("utf-8", "replace")
    return str(said)


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
    except (ValueError, OverflowError):  # a year of many digits
        return 0.0
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
