"""A program of another interpreter, asked in lines of JSON: bounded in time, and in the size of what it says.

A request is a line of its standard input, a reply a line of its standard output: ``{"ok": value}`` or ``{"error":
text}``. Nothing it says is believed: a reply that is late, too long or no such line ends the program, and so does its
end. It is started again at the next request.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Sequence
from typing import IO, Any

from envs.errors import StepwellError

LONGEST = 1 << 24  # bytes of a reply
SAID = 2000  # bytes of standard error that are kept: its end
_CHUNK = 1 << 16


class ChildFailure(StepwellError, RuntimeError):
    """A program did not answer a request; the message says why."""


class ChildError(ChildFailure):
    """A program answered a request with an error, and goes on."""


class Child:
    """A program that is running; any thread may ask it, and it answers one request at a time.

    Args:
        command: the program and its arguments.
        what: what it is called in errors.
        first: the request that makes it ready.
        loading: seconds for that.

    Raises:
        ChildFailure: it cannot be started, or does not get ready.
    """

    def __init__(self, command: Sequence[str], what: str, first: Any, loading: float) -> None:
        self._what, self._owner = what, os.getpid()
        self._lock, self._rest, self._said = threading.Lock(), b"", bytearray()
        try:
            # a group of its own: Ctrl-C is not for it
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                process_group=0,
            )
        except (OSError, ValueError) as error:
            raise ChildFailure(f"{what} cannot be started: {error}") from None
        self._in, self._out, errors = map(_pipe, (self._process.stdin, self._process.stdout, self._process.stderr))
        os.set_blocking(self._in.fileno(), False)
        self._listener = threading.Thread(target=_listen, args=(errors, self._said), daemon=True)
        self._listener.start()
        self._end = weakref.finalize(self, _stop, self._process, self._owner)
        self.ready = self.ask(first, loading)

    @property
    def alive(self) -> bool:
        """Whether it can be asked: it runs, and this process started it (a fork has no share in it)."""
        return self._end.alive and self._owner == os.getpid() and self._process.poll() is None

    def ask(self, request: Any, seconds: float) -> Any:
        """The reply to a request.

        Args:
            request: JSON.
            seconds: that it may take.

        Raises:
            ChildError: it answered with an error.
            ChildFailure: there was no reply, and the program was ended.
        """
        with self._lock:
            if not self._end.alive:
                raise ChildFailure(f"{self._what} has ended")
            reply, deadline = None, time.monotonic() + seconds
            try:
                self._send(json.dumps(request).encode() + b"\n", deadline, seconds)
                reply = _read(self._line(deadline, seconds))
                if reply is None:
                    raise self._failure("wrote what is no reply")
            finally:  # also when interrupted: a late reply must not become the next one
                if reply is None:
                    self.close()
        if "error" in reply:
            raise ChildError(f"{self._what}: {reply['error']}")
        return reply["ok"]

    def close(self) -> None:
        """End it."""
        self._end()

    def _send(self, data: bytes, deadline: float, seconds: float) -> None:
        while data:
            if not select.select([], [self._in], [], max(0.0, deadline - time.monotonic()))[1]:
                raise self._failure(f"did not read a request within {seconds:g} s")
            try:
                data = data[os.write(self._in.fileno(), data) :]
            except BrokenPipeError:
                raise self._failure("has ended") from None

    def _line(self, deadline: float, seconds: float) -> bytes:
        parts, size = [self._rest], len(self._rest)
        while b"\n" not in parts[-1]:
            if not select.select([self._out], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise self._failure(f"did not reply within {seconds:g} s")
            parts.append(os.read(self._out.fileno(), _CHUNK))
            size += len(parts[-1])
            if not parts[-1]:
                raise self._failure("has ended")
            if size > LONGEST:
                raise self._failure(f"wrote a reply of more than {LONGEST >> 20} MiB")
        line, _, self._rest = b"".join(parts).partition(b"\n")
        return line

    def _failure(self, what: str) -> ChildFailure:
        self.close()
        self._listener.join(1.0)
        said = self._said.decode(errors="replace").strip()
        return ChildFailure(f"{self._what} {what}" + (f"; the end of what it said: {said}" if said else ""))


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # as asked for
    return pipe


def _read(line: bytes) -> dict[str, Any] | None:
    """A reply, if the line is one."""
    try:
        reply = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(reply, dict) or len(reply) != 1:
        return None
    return reply if "ok" in reply or isinstance(reply.get("error"), str) else None


def _listen(errors: IO[bytes], said: bytearray) -> None:
    """Keep the end of what a program writes to standard error."""
    while part := os.read(errors.fileno(), _CHUNK):
        said += part
        del said[:-SAID]
    errors.close()


def _stop(process: subprocess.Popen[bytes], owner: int) -> None:
    """Kill a program and what it started: they share a group."""
    if owner != os.getpid():
        return
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    _pipe(process.stdin).close()
    _pipe(process.stdout).close()
