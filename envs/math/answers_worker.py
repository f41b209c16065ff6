"""The process that proves equalities with sympy; `envs.math.answers` runs it as a script.

It loads sympy once and then forks a child for every question, so that no answer can spoil the next: the child has hard
limits of time and memory and may neither run text as code nor reach anything outside itself. A line of standard input
is the arguments of `judged` in JSON; the line that comes back is ``true`` or ``false``. Expressions come as nested
lists (`envs.math.answer_algebra.as_json`), from which sympy's objects are built: no text is parsed here.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import math
import os
import re
import resource
import select
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import sympy
from sympy.core.random import seed

WARM_UP = (
    (["pow", ["sum", ["num", "0x3", "0x1"],
                     ["prod", ["num", "0x2", "0x1"], ["pow", ["num", "0x2", "0x1"], ["num", "0x1", "0x2"]]]],
      ["num", "0x1", "0x2"]],
     ["sum", ["num", "0x1", "0x1"], ["pow", ["num", "0x2", "0x1"], ["num", "0x1", "0x2"]]]),
    (["call", "sin", ["prod", ["num", "0x2", "0x1"], ["sym", "x"]]],
     ["prod", ["num", "0x2", "0x1"], ["call", "sin", ["sym", "x"]], ["call", "cos", ["sym", "x"]]]),
    (["call", "arctan", ["num", "0x1", "0x1"]], ["prod", ["const", "pi"], ["num", "0x1", "0x4"]]),
    (["call", "factorial", ["sum", ["sym", "n"], ["num", "0x1", "0x1"]]],
     ["prod", ["sum", ["sym", "n"], ["num", "0x1", "0x1"]], ["call", "factorial", ["sym", "n"]]]),
    (["pow", ["const", "e"], ["prod", ["const", "i"], ["sym", "x"]]],
     ["sum", ["call", "cos", ["sym", "x"]], ["prod", ["const", "i"], ["call", "sin", ["sym", "x"]]]]),
    (["call", "ln", ["sym", "x"]], ["call", "binomial", ["sym", "n"], ["num", "0x2", "0x1"]]),
)  # fmt: skip
"""Loads what sympy loads late, before the first fork."""

OWN_CODE = re.compile(rb"def monomial_\w+\([ABk, ]+\):[\w\s(),:=<>+*-]*")
"""All that sympy compiles on the way from an expression to a verdict: its own loops over exponents."""

REFUSED = ("ctypes.", "os.", "pty.", "shutil.", "signal.", "socket.", "subprocess.", "tempfile.")
READING = ("os.listdir", "os.scandir")
"""Audit events that end in an error, but for those that importing a module needs."""

_CALLS: dict[str, Callable[..., Any]] = {
    "sin": sympy.sin, "cos": sympy.cos, "tan": sympy.tan, "cot": sympy.cot, "sec": sympy.sec, "csc": sympy.csc,
    "arcsin": sympy.asin, "arccos": sympy.acos, "arctan": sympy.atan, "sinh": sympy.sinh, "cosh": sympy.cosh,
    "tanh": sympy.tanh, "ln": sympy.log, "abs": sympy.Abs, "factorial": sympy.factorial, "binomial": sympy.binomial,
    "floor": sympy.floor, "ceil": sympy.ceiling, "gcd": sympy.gcd, "lcm": sympy.lcm, "mod": sympy.Mod, "max": sympy.Max,
    "min": sympy.Min, "conj": sympy.conjugate, "re": sympy.re, "im": sympy.im,
}  # fmt: skip


def built(tree: list[Any]) -> Any:
    """The sympy expression that nested lists stand for."""
    kind, *parts = tree
    if kind == "num":
        return sympy.Rational(int(parts[0], 16), int(parts[1], 16))
    if kind == "const":
        return {"pi": sympy.pi, "e": sympy.E, "i": sympy.I, "oo": sympy.oo}[parts[0]]
    if kind == "sym":
        return sympy.Symbol(parts[0])
    if kind == "call":
        function = _CALLS.get(parts[0]) or sympy.Function(f"own_{parts[0]}")
        return function(*map(built, parts[1:]))
    made = [built(part) for part in parts]
    if kind == "pow":
        base, exponent = made
        if base.is_negative and exponent.is_Rational and exponent.p == 1 and exponent.q % 2 and exponent.q > 1:
            return -((-base) ** exponent)  # the real root, as it is meant in schools
        return base**exponent
    return {"sum": sympy.Add, "prod": sympy.Mul}[kind](*made)


def equal(a: list[Any], b: list[Any]) -> bool:
    """Whether the difference of two expressions is proved to be zero."""
    seed(0)  # sympy asks for an expression's properties in a random order, which can change what it finds
    difference = built(a) - built(b)
    return any(zero for zero in proofs(difference))


def proofs(difference: Any) -> Iterator[bool]:
    """One way after the other to show that an expression is zero, the cheap ones first."""
    yield difference == 0
    yield sympy.expand(difference) == 0
    if not difference.free_symbols:
        with contextlib.suppress(NotImplementedError, sympy.PolynomialError):
            x = sympy.Symbol("x")
            if difference.is_algebraic:
                yield sympy.minimal_polynomial(difference, x) == x
    yield sympy.radsimp(sympy.sqrtdenest(sympy.expand(difference))) == 0
    yield sympy.expand(difference, trig=True, power_exp=True, log=True, force=True, complex=False) == 0
    yield sympy.simplify(difference) == 0
    yield sympy.simplify(sympy.expand(difference.rewrite(sympy.exp))) == 0
    yield sympy.gammasimp(sympy.combsimp(difference)) == 0
    yield sympy.simplify(sympy.logcombine(sympy.expand_log(difference, force=True), force=True)) == 0


def confine(seconds: float, memory: int) -> None:
    """Give this process its limits; what goes beyond them is killed by the kernel or gets an error."""
    for kind, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, math.ceil(seconds)),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(ValueError, OSError):  # a system that lacks a limit; the clock below always holds
            resource.setrlimit(kind, (most, most))
    signal.setitimer(signal.ITIMER_PROF, seconds)  # processor time, so that a busy machine changes no verdict
    sys.addaudithook(refuse)


def refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: no text becomes code, and nothing outside this process is changed."""
    if event == "compile":
        source, file = arguments
        fine = not str(file).startswith("<") or (isinstance(source, bytes) and OWN_CODE.fullmatch(source) is not None)
    elif event == "open":
        fine = not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    else:
        fine = event in READING or not event.startswith(REFUSED)
    if not fine:
        raise PermissionError(event)


def judged(a: list[Any], b: list[Any], seconds: float, patience: float, memory: int) -> bool:
    """The verdict of a child of its own; False if it ends without one.

    Args:
        a: an expression as nested lists.
        b: another.
        seconds: of processor time that the child may take.
        patience: seconds to wait for it, by the clock.
        memory: bytes of address space that the child may have.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            confine(seconds, memory)
            os.write(writer, b"=" if equal(a, b) else b"!")
        finally:
            os._exit(0)
    os.close(writer)
    try:
        ready = select.select([reader], [], [], patience)[0]
        return bool(ready) and os.read(reader, 1) == b"="
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)


def main() -> None:
    """Load, say so, and answer until standard input ends."""
    logging.disable()
    for a, b in WARM_UP:
        equal(a, b)
    gc.freeze()  # the children share these pages
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        print(json.dumps(judged(*json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
