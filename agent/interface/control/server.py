"""The server half: a thread that answers, on a socket, for the searches of this process.

A message is one line of JSON, at most `REQUEST` bytes of it, and so is the reply, of at most `REPLY`. What is wrong is
answered by an error, and never ends the process. A client that is slow, silent or gone holds up nobody else: each has a
thread of its own, there are at most `CLIENTS` of them, and each wait has an end.
"""

from __future__ import annotations

import json
import os
import pwd
import socket
import struct
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from types import TracebackType
from typing import Any

from loguru import logger

from agent.interface.control.folder import live_sockets, make_path
from agent.search.control.handle import SearchHandle, SearchOver, Surface
from agent.search.control.views import ROWS, listing
from envs.messages import UsageError, nearest, short

PROTOCOL = "stepwell-control/1"
REQUEST = 1 << 16  # bytes
REPLY = 1 << 24
CLIENTS = 16
IDLE = 60.0  # seconds that a client may say nothing
WAIT = 30.0  # seconds that a reply waits for a search, at most: a model may take long for a step
FAREWELL = 2.0  # seconds that the end of a process waits for replies that are under way
LISTED = 200  # searches
KEY = 100  # characters
EVENTS = 1000  # of one reply
NODES = 20_000  # of one reply


class ControlServer:
    """Answers for the searches of a surface, while the context lasts. Without a place for a socket it does nothing.

    Args:
        surface: of the searches.
        command: what this process does, e.g. ``eval``.
        about: in more words, e.g. the name of the study.
        pid: of the process that people know; this one if not given.
    """

    def __init__(self, surface: Surface, command: str, about: str = "", pid: int | None = None) -> None:
        self.surface = surface
        self.pid = pid or os.getpid()
        self.about = {"pid": self.pid, "command": command, "about": about, "since": time.time()}
        self._slots = threading.BoundedSemaphore(CLIENTS)
        self._closing = threading.Event()
        self._answered = threading.Condition()
        self._answering = 0  # clients whose request is being answered
        self._socket: socket.socket | None = None

    def __enter__(self) -> ControlServer:
        try:
            live_sockets()  # removes those of processes that are gone
            self.path = make_path(self.pid)
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.bind(str(self.path))
            self.path.chmod(0o600)
            self._socket.listen(CLIENTS)
        except OSError as error:
            logger.debug("searches cannot be steered from outside: {}", error)
            if self._socket is not None:
                self._socket.close()
            self._socket = None
            return self
        threading.Thread(target=self._accept, args=(self._socket,), name="control", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
            self.path.unlink(missing_ok=True)
            with self._answered:  # who stopped the last search is to hear that it was
                self._answered.wait_for(lambda: not self._answering, FAREWELL)

    def _accept(self, server: socket.socket) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = server.accept()
            except OSError:
                return
            if not self._slots.acquire(blocking=False):
                with suppress(OSError), connection:
                    connection.sendall(_line({"ok": False, "error": f"busy: {CLIENTS} clients are connected"}))
                continue
            threading.Thread(target=self._serve, args=(connection,), name="control client", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, suppress(OSError):
                connection.settimeout(IDLE)
                user = _peer(connection)
                if user is None:
                    connection.sendall(_line({"ok": False, "error": "this socket is for its owner alone"}))
                    return
                with connection.makefile("rb") as lines:
                    while line := lines.readline(REQUEST + 1):
                        with self._answered:
                            self._answering += 1
                        try:
                            connection.sendall(_line(self._reply(line, user)))
                        finally:
                            with self._answered:
                                self._answering -= 1
                                self._answered.notify_all()
                        if len(line) > REQUEST:
                            return
        finally:
            self._slots.release()

    def _reply(self, line: bytes, user: str) -> dict[str, Any]:
        try:
            if len(line) > REQUEST:
                raise UsageError(f"a request of more than {REQUEST:,} bytes")
            try:
                request = json.loads(line)
            except (ValueError, RecursionError):
                raise UsageError("a request must be one line of JSON") from None
            if not isinstance(request, dict):
                raise UsageError(f"a request must be an object of JSON; {short(request)} given")
            return {"ok": True, "protocol": PROTOCOL, **self._answer(request, user)}
        except SearchOver as error:
            return {"ok": False, "kind": "over", "error": str(error)}
        except UsageError as error:
            return {"ok": False, "kind": "usage", "error": str(error)}
        except Exception as error:  # whatever it is, the search goes on and the client hears of it
            return {"ok": False, "kind": "failure", "error": f"{type(error).__name__}: {error}"}

    # ----------------------------------------------------------------------------------------------------- operations

    def _answer(self, request: dict[str, Any], user: str) -> dict[str, Any]:
        operations = {"list": self._list, "show": self._show, "events": self._events, "do": self._do}
        given = request.get("op")
        if not isinstance(given, str) or given not in operations:
            hint = nearest(given, operations) if isinstance(given, str) else ""
            raise UsageError(f"unknown operation {short(given)}{hint}; allowed: {', '.join(operations)}")
        return operations[given](request, user)

    def _list(self, request: dict[str, Any], user: str) -> dict[str, Any]:
        """Searches under way, and with ``all`` those that are over, too; with ``ids`` the former by their ids alone."""
        open_ones = self.surface.searches()
        if request.get("ids"):
            return {"process": self.about, "searches": [{"id": each.id} for each in open_ones], "left_out": 0}
        waiting: list[tuple[SearchHandle, Future[dict[str, Any]]]] = [
            (handle, handle.summary()) for handle in open_ones[:LISTED] if handle.state != "waiting"
        ]
        end = time.monotonic() + 2.0
        told = []
        for handle, future in waiting:
            try:
                told.append(future.result(max(0.0, end - time.monotonic())))
            except FutureTimeoutError:
                told.append({"id": handle.id, "state": handle.state, "busy": True})
            except SearchOver:
                pass
        told += [{"id": each.id, "state": "waiting"} for each in open_ones[:LISTED] if each.state == "waiting"]
        if request.get("all"):
            told = [*self.surface.past(), *told]
        left_out = max(0, len(open_ones) - LISTED)
        return {"process": self.about, "searches": told, "left_out": left_out}

    def _show(self, request: dict[str, Any], user: str) -> dict[str, Any]:
        handle = self.surface.find(_text(request, "search"))
        rows, content = _whole(request, "rows", ROWS, NODES), request.get("content") is True
        summary, tree = handle.summary(), handle.look(lambda graph: listing(graph, rows, content))
        return {"process": self.about, "search": _now(summary), **_now(tree)}

    def _events(self, request: dict[str, Any], user: str) -> dict[str, Any]:
        search = request.get("search")
        if search is not None and not isinstance(search, str):
            raise UsageError(f"search {short(search)} given; expected its id")
        after, most = _whole(request, "after", 0, 2**62), _whole(request, "most", EVENTS, EVENTS)
        seconds = _whole(request, "wait", 0, int(WAIT))
        found = self.surface.events.after(after, search, most, seconds)
        events = [event.to_json() for event in found.events]
        return {"process": self.about, "events": events, "cursor": found.cursor, "missed": found.missed}

    def _do(self, request: dict[str, Any], user: str) -> dict[str, Any]:
        """One of `agent.search.control.arguments.COMMANDS`; ``pending`` where it is under way and not over yet."""
        search, command = _text(request, "search"), _text(request, "command")
        arguments = request.get("arguments", {})
        if not isinstance(arguments, dict):
            raise UsageError(f"arguments {short(arguments)} given; expected an object")
        who = request.get("who")
        who = who if isinstance(who, str) and who.strip() else user
        key = None if request.get("key") is None else _text(request, "key")
        if key is not None and len(key) > KEY:
            raise UsageError(f"a key of {len(key)} characters; at most {KEY} are allowed")
        handle = self.surface.find(search)
        future = handle.do(command, arguments, who, request.get("dry_run") is True, key)
        try:
            return {"search": search, **future.result(WAIT)}
        except FutureTimeoutError:
            return {"search": search, "command": command, "pending": True}


def _now(future: Future[Any]) -> Any:
    try:
        return future.result(WAIT)
    except FutureTimeoutError:
        raise UsageError(f"the model has been busy for {WAIT:g} seconds; ask again later") from None


def _text(request: dict[str, Any], key: str) -> str:
    value = request.get(key)
    if not isinstance(value, str):
        raise UsageError(f"{key} {short(value)} given; expected a text")
    return value


def _whole(request: dict[str, Any], key: str, default: int, most: int) -> int:
    value = request.get(key, default)
    if type(value) is not int or value < 0:
        raise UsageError(f"{key} {short(value)} given; expected a whole number from 0 on")
    return min(value, most)


def _line(reply: dict[str, Any]) -> bytes:
    """A reply as a line; the texts of models are escapes there wherever they are more than plain letters."""
    line = json.dumps(reply).encode() + b"\n"
    if len(line) > REPLY:
        return _line({"ok": False, "kind": "usage", "error": f"more than {REPLY:,} bytes; ask for fewer rows"})
    return line


def _peer(connection: socket.socket) -> str | None:
    """The name of the user at the other end, or None where it is not the one that this process runs as."""
    owner = os.getuid()
    if hasattr(socket, "SO_PEERCRED"):
        packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _, uid, _ = struct.unpack("3i", packed)
        if uid != owner:
            return None
    try:
        return pwd.getpwuid(owner).pw_name
    except KeyError:
        return str(owner)
