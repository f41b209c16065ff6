"""Both ends of a test: ``candidate`` runs a function that a model wrote, ``tester`` runs the tests that call it.

Each runs in a sandbox of its own, and all that passes between them is lines of JSON: a call with its arguments one
way, a value or an error the other way. Values are rebuilt from the lines as plain data, so nothing that the candidate
makes (an object equal to everything, say) reaches a comparison. The tests, and what they expect, are in the tester
only, and only the tester tells the parent what passed.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib
import importlib.util
import io
import json
import math
import os
import random
import sys
from collections.abc import Coroutine, Iterator
from typing import Any, BinaryIO

LONGEST = 1 << 20  # bytes of a call or a reply
SHOWN = 120  # characters of a value or an error in a note


class Failed(Exception):
    """What the candidate did in place of returning a value."""


def encode(value: Any) -> Any:
    """Plain data as JSON can hold it; what is no plain data raises TypeError. Sets come in one order."""
    match value:
        case None | bool() | str():
            return value
        case int():
            return int(value) if abs(value) < 1 << 53 else {"int": hex(value)}
        case float():
            return float(value) if math.isfinite(value) else {"float": repr(float(value))}
        case list():
            return [encode(item) for item in value]
        case tuple():
            return {"tuple": [encode(item) for item in value]}
        case set() | frozenset():
            kind = "set" if isinstance(value, set) else "frozenset"
            return {kind: sorted((encode(item) for item in value), key=json.dumps)}
        case dict():
            return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
        case bytes() | bytearray():
            return {"bytes": value.hex()}
        case complex():
            return {"complex": [encode(value.real), encode(value.imag)]}
        case Iterator():
            return {"iterator": [encode(item) for item in value]}
    raise TypeError(f"a {type(value).__name__} is no plain data")


def decode(line: Any) -> Any:
    """The inverse of `encode`."""
    if isinstance(line, list):
        return [decode(item) for item in line]
    if not isinstance(line, dict):
        return line
    ((kind, content),) = line.items()
    match kind:
        case "int":
            return int(content, 16)
        case "float":
            return float(content)
        case "tuple":
            return tuple(decode(item) for item in content)
        case "set":
            return {decode(item) for item in content}
        case "frozenset":
            return frozenset(decode(item) for item in content)
        case "dict":
            return {decode(key): decode(item) for key, item in content}
        case "bytes":
            return bytes.fromhex(content)
        case "complex":
            real, imaginary = content
            return complex(decode(real), decode(imaginary))
        case "iterator":
            return iter([decode(item) for item in content])
    raise ValueError(f"no such kind of data: {kind!r}")


def shorten(text: str) -> str:
    """One printable line of at most `SHOWN` characters."""
    line = "".join(character if character.isprintable() else " " for character in text[: 4 * SHOWN])
    return line if len(line) <= SHOWN else line[: SHOWN - 3] + "..."


def describe(error: BaseException) -> str:
    """An error in a line; its own methods may be the model's, and fail."""
    try:
        return shorten(f"{type(error).__name__}: {error}".rstrip(": "))
    except BaseException:
        return "an error that cannot be shown"


class Nowhere(io.RawIOBase):
    """Where output goes that nobody reads, however much there is of it."""

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """All of it is gone."""
        return len(data)


def silence() -> None:
    """Standard streams lead nowhere from here on: they are pipes that nobody has the other end of."""
    (ended, unused), (unread, broken) = os.pipe(), os.pipe()
    for descriptor, end in enumerate((ended, broken, broken)):
        os.dup2(end, descriptor)
    for end in (ended, unused, unread, broken):
        os.close(end)
    sys.stdout = sys.stderr = io.TextIOWrapper(io.BufferedWriter(Nowhere()), encoding="utf-8")


def send(descriptor: int, message: dict[str, Any]) -> None:
    """Write a message and the end of its line."""
    line = json.dumps(message).encode() + b"\n"
    if len(line) > LONGEST:
        raise ValueError("too much data")
    while line:
        line = line[os.write(descriptor, line) :]


# ------------------------------------------------------------------------------------------------------- the candidate


def load(name: str) -> Any:
    """The function of ``solution.py``, or the method by its name of a class there, of a fresh object each.

    A program that ends itself (``exit()``, ``unittest.main()``) once it has defined the function has done its part.
    """
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "solution.py")
    spec = importlib.util.spec_from_file_location("solution", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["solution"] = importlib.util.module_from_spec(spec)
    vars(builtins).update(exit=sys.exit, quit=sys.exit)  # as in any Python that is not started without `site`
    sys.argv = [path]
    try:
        spec.loader.exec_module(module)
    except SystemExit:
        if not hasattr(module, name) and holder(module, name) is None:
            raise
    owner = holder(module, name)
    if owner is not None and (owner.__name__ == "Solution" or not hasattr(module, name)):
        return lambda *arguments, **keywords: getattr(owner(), name)(*arguments, **keywords)
    return getattr(module, name)


def holder(module: Any, name: str) -> type | None:
    """The class that has the function as a method: ``Solution``, or the first that is written there."""
    own = [each for each in vars(module).values() if isinstance(each, type) and each.__module__ == "solution"]
    own.sort(key=lambda each: each.__name__ != "Solution")
    return next((each for each in own if hasattr(each, name)), None)


def candidate(name: str) -> None:
    """Load ``solution.py``, say whether it defines the function, and answer calls until there are no more."""
    calls, replies = os.fdopen(os.dup(0), "rb"), os.dup(1)
    silence()
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    random.seed(0)
    try:
        function = load(name)
    except BaseException as error:  # SystemExit too
        send(replies, {"error": describe(error)})
        return
    send(replies, {"value": None})
    for line in calls:
        try:
            given = json.loads(line)
            value = function(*decode(given["arguments"]), **decode(given["keywords"]))
            if isinstance(value, Coroutine):  # loaded late, as few programs need it
                value = importlib.import_module("asyncio").run(value)
            send(replies, {"value": encode(value)})
        except BaseException as error:
            send(replies, {"error": describe(error)})


# ---------------------------------------------------------------------------------------------------------- the tester


class Stub:
    """What tests call: passes the call on and rebuilds the reply."""

    def __init__(self, calls: int, replies: BinaryIO) -> None:
        self.calls = calls
        self.replies = replies
        self.last = ""  # reply, in words
        self.seen = hashlib.sha256()  # all replies

    def receive(self) -> Any:
        """The value of the next reply; raises `Failed` for an error, for nonsense and when there is none."""
        reply = self.replies.readline(LONGEST + 1)
        if not reply.endswith(b"\n"):
            self.replies.close()  # too long, or ended: nothing that follows can be trusted to be a reply
            raise Failed("the program ended or was stopped")
        match json.loads(reply):
            case {"value": line}:
                value = decode(line)
                self.seen.update(json.dumps(line).encode())
                self.last = f"gave {'an iterator' if isinstance(value, Iterator) else shorten(repr(value))}"
                return value
            case {"error": str(said)}:
                raise Failed(shorten(said))
        raise ValueError("no reply at all")

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Call the function in the other sandbox."""
        self.last = ""
        message = {"arguments": encode(list(arguments)), "keywords": encode(keywords)}
        try:
            send(self.calls, message)
            return self.receive()
        except Exception as error:  # Failed, a broken pipe, or anything that nonsense in place of a reply leads to
            said = str(error) if isinstance(error, Failed) else "nothing that can be read"
            self.seen.update(b"error " + said.partition(":")[0].encode())
            self.last = f"gave {said}"
            raise Failed(self.last) from None


def tester(calls: str, tests: str) -> None:
    """Run ``test_0.py`` and so on; write a line of JSON for the load of the program and one for each test."""
    replies, verdicts = os.fdopen(os.dup(0), "rb"), os.dup(1)
    silence()
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    sys.set_int_max_str_digits(0)
    stub = Stub(int(calls), replies)
    try:
        stub.receive()
    except Exception as error:
        send(verdicts, {"passed": False, "note": describe(error).removeprefix("Failed: "), "behaviour": ""})
        return
    send(verdicts, {"passed": True, "note": "", "behaviour": ""})
    globals()["function"] = stub  # for the tests to import
    for number in range(int(tests)):
        stub.last, stub.seen = "", hashlib.sha256()
        passed, note = True, ""
        try:
            importlib.import_module(f"test_{number}")
        except BaseException as error:
            passed, note = False, stub.last or describe(error)
        send(verdicts, {"passed": passed, "note": note, "behaviour": stub.seen.hexdigest()})


if __name__ == "__main__":
    if sys.argv[1] == "candidate":
        candidate(*sys.argv[2:])
    else:
        tester(*sys.argv[2:])
