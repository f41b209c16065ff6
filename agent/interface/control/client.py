"""The client half: find the processes of this user, ask them, and find the one that a search belongs to."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.interface.control.folder import connect, live_sockets
from agent.interface.control.server import REPLY, WAIT
from envs.errors import StepwellError
from envs.messages import UsageError, nearest


class ControlFailure(StepwellError, RuntimeError):
    """A process refused, or could not be asked; the message says why."""


class NoSuchSearch(StepwellError, RuntimeError):
    """There is no such search under way; the message says which there are."""


@dataclass(frozen=True)
class Process:
    """A process whose searches can be steered.

    Args:
        path: of its socket.
        about: what it is, as it says.
        searches: those it has, as it lists them.
        left_out: searches that it has and did not list.
    """

    path: Path
    about: dict[str, Any]
    searches: list[dict[str, Any]] = field(default_factory=list)
    left_out: int = 0

    @property
    def pid(self) -> int:
        """Its number."""
        return int(self.about["pid"])


_SOON = 5.0  # seconds for a reply that waits for no model; who takes longer is suspended


def ask(path: Path, request: dict[str, Any], seconds: float = 2 * WAIT) -> dict[str, Any]:
    """What a process replies, within some seconds.

    Raises:
        UsageError: the request is wrong.
        NoSuchSearch: the search is over.
        ControlFailure: the process is gone, or what it says is no reply.
    """
    try:
        with connect(path) as connection:
            connection.settimeout(seconds)
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as lines:
                line = lines.readline(REPLY + 1)
        reply = json.loads(line)
    except (OSError, ValueError, RecursionError) as error:
        raise ControlFailure(f"the process behind {path} does not answer: {error}") from None
    if not isinstance(reply, dict):
        raise ControlFailure(f"the process behind {path} gave no reply that this version reads")
    if reply.get("ok") is True:
        return reply
    kinds: dict[str, type[Exception]] = {"usage": UsageError, "over": NoSuchSearch}
    raise kinds.get(str(reply.get("kind")), ControlFailure)(str(reply.get("error")))


def processes(past: bool = False, ids: bool = False) -> list[Process]:
    """The processes of this user that search, with their searches. Those that are suspended (Ctrl-Z) are left out.

    Args:
        past: list those searches too that are over.
        ids: list all searches under way, and of each the id alone, for which a process waits for no model.
    """
    found = []
    for path in live_sockets():
        try:
            reply = ask(path, {"op": "list", "all": past, "ids": True}, _SOON)
            if not ids:
                reply = ask(path, {"op": "list", "all": past, "ids": False})
            found.append(Process(path, reply["process"], reply["searches"], reply["left_out"]))
        except (ControlFailure, KeyError):
            continue  # it is ending
    return found


def find(name: str) -> tuple[Process, str]:
    """The process and the id of a search, by ``ID``, or by ``PID/ID`` where several processes have one of that id.

    Raises:
        NoSuchSearch: there is none, or more than one.
    """
    pid, slash, id = name.rpartition("/")
    known = [(process, str(each["id"])) for process in processes(ids=True) for each in process.searches]
    fitting = [(process, each) for process, each in known if each == id and (not slash or str(process.pid) == pid)]
    if len(fitting) == 1:
        return fitting[0]
    names = [f"{process.pid}/{each}" for process, each in known]
    if fitting:
        among = ", ".join(f"{process.pid}/{each}" for process, each in fitting)
        raise NoSuchSearch(f"search {name!r} is one of several; name its process: {among}")
    shown = f"under way: {', '.join(names[:10])}" if names else "no search is under way"
    raise NoSuchSearch(f"there is no search {name!r}{nearest(name, names)}; {shown}")
