"""Chat templates, rendered in a process of its own within limits of time and memory: they come with models.

The process starts when a template is first rendered and serves all of them; one that a template was the end of is
replaced.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from envs.errors import StepwellError

SECONDS = 1  # of processor time for one chat
MEMORY = 512 << 20  # bytes of address space of the process
_WAIT = 30.0  # seconds until a reply, on a busy machine
_WORKER = Path(__file__).parent / "chat_template_worker.py"
_lock = threading.Lock()


class TemplateError(StepwellError, ValueError):
    """A chat template cannot be rendered; the message is the template's own, or says which limit it broke."""


def render(template: str, variables: Mapping[str, Any], messages: Sequence[Mapping[str, str]]) -> str:
    """The text of a chat, as transformers' `apply_chat_template` renders it; the date is always 26 July 2024.

    Args:
        template: in Jinja.
        variables: what it may ask for besides the messages (``bos_token``, ``add_generation_prompt``).
        messages: with ``role`` and ``content``.

    Raises:
        TemplateError: when the template raises, or takes too long or too much memory.
    """
    given = {"tools": None, "documents": None} | dict(variables)
    question = json.dumps([template, given, list(messages), [SECONDS, MEMORY]])
    with _lock:
        reply = _ask(question)
    if reply is None:
        raise TemplateError(f"it takes more than {SECONDS} s or {MEMORY >> 20} MiB")
    if "text" not in reply:
        raise TemplateError(reply["error"])
    return reply["text"]


_workers: list[_Worker] = []  # none or one


def _ask(question: str) -> dict[str, str] | None:
    if _workers and (_workers[0].owner != os.getpid() or _workers[0].process.poll() is not None):
        _workers.pop()  # of the process that this one was forked from, or ended by something else
    if not _workers:
        _workers.append(_Worker())
    reply: dict[str, str] | None = None
    try:
        reply = _workers[0].ask(question)
    finally:  # also when interrupted: a late reply must not become the next one
        if reply is None:
            _workers.pop().stop()
    return reply


class _Worker:
    """A running `chat_template_worker`: one line of JSON in, one line out."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        # -P: neither this folder nor the current one may hide a module. A group of its own: Ctrl-C is not for it.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            process_group=0,
        )
        self.stop = weakref.finalize(self, _stop, self.process, self.owner)

    def ask(self, question: str) -> dict[str, str] | None:
        """The reply to a question, or None if the process came to its end, or there is none in time."""
        try:
            _pipe(self.process.stdin).write(question.encode() + b"\n")
        except BrokenPipeError:
            return None
        source = _pipe(self.process.stdout)
        line = source.readline() if select.select([source], [], [], _WAIT)[0] else b""
        reply: dict[str, str] | None = json.loads(line) if line.endswith(b"\n") else None
        return reply


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # as asked for above
    return pipe


def _stop(process: subprocess.Popen[bytes], owner: int) -> None:
    if owner == os.getpid():
        process.kill()
        process.communicate()  # closes the pipes and waits
