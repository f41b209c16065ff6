"""The process in which answers that need computer algebra are compared; `envs.answers` runs it as a script.

It loads math-verify once and then forks a child for every question, so that no answer can spoil the next: the child
has hard limits of time and memory and may neither run text as code nor reach anything outside itself. A line of
standard input is ``[a, b, seconds, bytes]`` in JSON; the line that comes back is ``true`` or ``false``.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import math
import os
import resource
import select
import signal
import sys
from collections.abc import Iterator
from typing import Any

import sympy.core.numbers
from math_verify import LatexExtractionConfig, parse, verify
from sympy import Float, Integer, sympify

WARM_UP = (
    (r"\frac{1}{2}", "0.5"),
    (r"2\sqrt{5}", r"\sqrt{20}"),
    (r"x^2+2x+1", "(x+1)^2"),
    (r"(1,2]", r"\left(1,2\right]"),
    (r"(-\infty,2)\cup(3,\infty)", r"x<2"),
    (r"\{1,2\}", "2,1"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\3\end{pmatrix}"),
    (r"y=2x+3", r"2x-y+3=0"),
    (r"\sin(x)", r"\cos(x)"),
    (r"1+2i", r"e^{i\pi}"),
)
"""Loads what sympy loads late, before the first fork."""

REFUSED = ("compile", "ctypes.", "os.", "shutil.", "signal.", "socket.", "subprocess.", "tempfile.", "pty.")
"""Audit events that end in an error: text that becomes code, and everything that reaches outside the process."""


def equal(a: str, b: str) -> bool:
    """Whether math-verify takes two LaTeX texts for the same; it is not symmetric, so both ways are tried."""
    target = [LatexExtractionConfig(boxed_match_priority=-1)]
    first, second = (parse(f"${text}$", target, parsing_timeout=None) for text in (a, b))  # its timeouts are signals
    return any(verify(*pair, timeout_seconds=None) for pair in ((first, second), (second, first)))


def read_number(value: Any, **options: Any) -> Any:
    """For numbers that are text, in place of sympify, which would compile them as code."""
    if isinstance(value, str):
        return Integer(value) if value.isdecimal() else Float(value)
    return sympify(value, **options)


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
    """An audit hook that lets nothing through but arithmetic and reading modules."""
    if event.startswith(REFUSED) or (event == "open" and arguments[1] not in ("r", "rb", None)):
        raise PermissionError(event)


def judged(a: str, b: str, seconds: float, memory: int) -> bool:
    """The verdict of a child of its own; False if it ends without one."""
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
        ready = select.select([reader], [], [], 1.5 * seconds)[0]
        return bool(ready) and os.read(reader, 1) == b"="
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)


def verdicts() -> Iterator[bool]:
    """One for each line of standard input."""
    for line in sys.stdin:
        a, b, seconds, memory = json.loads(line)
        yield judged(a, b, seconds, memory)


def main() -> None:
    """Load, say so, and answer until standard input ends."""
    logging.disable()
    sympy.core.numbers.sympify = read_number
    for a, b in WARM_UP:
        equal(a, b)
    gc.freeze()  # the children share these pages
    print(json.dumps("ready"), flush=True)
    for verdict in verdicts():
        print(json.dumps(verdict), flush=True)


if __name__ == "__main__":
    main()
