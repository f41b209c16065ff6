"""The process in which answers that need computer algebra are compared; `envs.math.answers` runs it as a script.

It loads math-verify once and then forks a child for every question, so that no answer can spoil the next: the child
has hard limits of time and memory and may neither run text as code nor reach anything outside itself. A line of
standard input is the arguments of `judged` in JSON; the line that comes back is ``true`` or ``false``.
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
from typing import Any

from math_verify import LatexExtractionConfig, parse, verify
from sympy import Expr, nan, oo, zoo
from sympy.core.random import seed

WARM_UP = (
    (r"\frac{1}{2}", "0.5"),
    (r"2\sqrt{5}", r"\sqrt{20}"),
    (r"x^2+2x+1", "(x+1)^2"),
    (r"(1,2]", r"\left(1,2\right]"),
    (r"(-\infty,2)\cup(3,\infty)", r"x<2"),
    (r"\{1,2\}", "2,1"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\3\end{pmatrix}"),
    (r"y=2x+3", r"2x-y+3=0"),
    (r"\sin^2(x)", r"1-\cos^2(x)"),
    (r"1+2i", r"e^{i\pi}"),
    (r"\int_0^1 x^2 dx", r"\lim_{x\to 0}\frac{\sin x}{x}"),
    (r"\sum_{k=1}^{n} k", r"\binom{n+1}{2}"),
    (r"\log_2 8", r"\lfloor 3.5\rfloor"),
)
"""Loads what sympy loads late, before the first fork."""

OWN_CODE = re.compile(
    rb"from sympy import \*|(?:Integer|Float) \('?[\d.eE+-]+'? \)|def monomial_\w+\([ABk, ]+\):[\w\s(),:=<>+*-]*"
)
"""All that sympy compiles on the way from a parsed answer to a verdict: numbers, and its own loops over exponents."""

REFUSED = ("ctypes.", "os.", "pty.", "shutil.", "signal.", "socket.", "subprocess.", "tempfile.")
READING = ("os.listdir", "os.scandir")
"""Audit events that end in an error, but for those that importing a module needs."""


def equal(a: str, b: str) -> bool:
    """Whether math-verify takes two LaTeX texts for the same; it is not symmetric, so both ways are tried."""
    seed(0)  # sympy asks for an expression's properties in a random order, which can change what it finds
    target = [LatexExtractionConfig(boxed_match_priority=-1)]
    first, second = (
        [evaluated(part) for part in parse(f"${text}$", target, parsing_timeout=None)]  # its timeouts are signals
        for text in (a, b)
    )
    return any(verify(*pair, timeout_seconds=None) for pair in ((first, second), (second, first)))


def evaluated(part: Any) -> Any:
    """What was parsed, with arithmetic on infinities done: to some orders, 17 - oo*oo is zero as long as it is not."""
    return part.doit() if isinstance(part, Expr) and part.has(oo, -oo, zoo, nan) else part


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


def judged(a: str, b: str, seconds: float, patience: float, memory: int) -> bool:
    """The verdict of a child of its own; False if it ends without one.

    Args:
        a: an answer in LaTeX.
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
