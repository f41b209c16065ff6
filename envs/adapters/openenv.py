"""Environments that an OpenEnv server offers: ``load_environment("openenv", base_url="http://localhost:8000")``.

A server says what an action is (``/schema``), and plays one episode in each session, a WebSocket (``/ws``): messages
`reset` and `step`, each answered by an observation, a reward and whether the episode is over. The seed of a problem is
given to `reset`. States are restored by replay (`envs.adapters.episodes`).

An action is one line: the value of the action's only field, or a JSON object of all fields. Nothing that a server says
is believed: what it sends is bounded in size and time, and only looked at as data.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from envs.adapters.episodes import Episode, EpisodeLost, Episodes, NoAction, Reply, numbered
from envs.core import Environment
from envs.messages import nearest, require, short
from envs.options import Above, AtLeast

require("openenv", "httpx2", "websocket")

MOST = 1 << 22  # bytes of a reply
REFUSALS = ("VALIDATION_ERROR", "EXECUTION_ERROR")  # what a server may say to an action
FULL = "CAPACITY_REACHED"
GENERAL = {"metadata"}  # fields that every action and every observation has
_CHUNK = 1 << 16
_WHOLE = re.compile(r"-?\d{1,18}", re.ASCII)


def load_openenv(
    base_url: str,
    goal: float = 1.0,
    field: str = "",
    reset: Mapping[str, Any] | None = None,
    sessions: Annotated[int, AtLeast(1)] = 1,
    max_steps: Annotated[int, AtLeast(1)] = 50,
    step_timeout: Annotated[float, Above(0)] = 30.0,
) -> Environment:
    """The environment of an OpenEnv server.

    Args:
        base_url: of the server, such as ``http://localhost:8000``.
        goal: the least return of a solved episode.
        field: the field of an action that a line is the value of; by default its only one.
        reset: what is given to `reset` beside the seed.
        sessions: that are open at a time; a server allows one unless it was started with more.
        max_steps: actions after which an episode is cut.
        step_timeout: seconds that one call may take.

    Raises:
        ValueError: no server answers there, or it has no such field.
    """
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"base_url {base_url!r} is no address of a server: http://localhost:8000, say")
    world = _Server(base_url.rstrip("/"), field, dict(reset or {}), step_timeout)
    return Episodes("openenv", world, goal, max_steps, step_timeout, sessions, joint="\n")


# ------------------------------------------------------------------------------------------------------------- actions


class _Action:
    """What an action is, by its JSON schema.

    Args:
        schema: of the object; empty where the server has none.
        field: that a line is the value of; empty for the only one there is.

    Raises:
        ValueError: no such field, or its values are not written on a line.
    """

    def __init__(self, schema: Mapping[str, Any], field: str) -> None:
        named = schema.get("properties")
        properties = named if isinstance(named, dict) else {}
        required = schema.get("required")
        needed = [str(each) for each in required] if isinstance(required, list) else []
        self.names = list(properties)
        self._needed, self._definitions = set(needed), schema.get("$defs")
        own = [name for name in properties if name not in GENERAL]
        only = needed if len(needed) == 1 else own
        chosen = field or (only[0] if len(only) == 1 and self._kind(properties.get(only[0])) else "")
        if field and field not in properties:
            raise ValueError(f"an action has no field {field!r}{nearest(field, own) or ';'} fields: {', '.join(own)}")
        self.kind = self._kind(properties.get(chosen)) if chosen else {}
        if field and not self.kind:
            raise ValueError(f"field {field!r} is neither a text, a number nor true or false; leave it out for JSON")
        self.field = chosen
        self.told = self._told({name: properties[name] for name in own})

    def read(self, text: str) -> dict[str, Any]:
        """The action of a line; raises ValueError where it is none."""
        if self.field:
            return {self.field: self._value(text)}
        made = json.loads(text, parse_constant=_refuse)
        if not isinstance(made, dict):
            raise ValueError("a JSON object is needed")
        if self.names and not (made.keys() <= set(self.names) and made.keys() >= self._needed):
            raise ValueError(f"an object of {', '.join(self.names)} is needed")
        return made

    def options(self) -> dict[str, float]:
        """The values of a field that has few."""
        allowed, low, high = self.kind.get("enum"), self.kind.get("minimum"), self.kind.get("maximum")
        if isinstance(allowed, list):
            return dict.fromkeys((str(each) for each in allowed if isinstance(each, str | int)), 1.0)
        if self.kind.get("type") == "integer" and isinstance(low, int) and isinstance(high, int):
            return {str(low + int(each)): 1.0 for each in numbered(max(0, high - low + 1))}
        return {}

    def _kind(self, schema: Any) -> dict[str, Any]:
        """The schema of a value that can be written on a line; empty for others."""
        found = schema if isinstance(schema, dict) else {}
        name = str(found.get("$ref", "")).rpartition("/")[2]
        if name and isinstance(self._definitions, dict):
            inner = self._definitions.get(name)
            found = inner if isinstance(inner, dict) else {}
        return found if found.get("type") in ("string", "integer", "number", "boolean") else {}

    def _value(self, text: str) -> Any:
        kind = self.kind["type"]
        if kind == "string":
            value: Any = text
        elif kind == "integer" and _WHOLE.fullmatch(text):
            value = int(text)
        elif kind == "number":
            value = json.loads(text, parse_constant=_refuse)
        else:
            value = {"true": True, "false": False}.get(text) if kind == "boolean" else None
        wrong = value is None or isinstance(value, bool) != (kind == "boolean")
        if wrong or (kind == "number" and not (isinstance(value, int | float) and abs(value) < 1e300)):
            raise ValueError(f"{text[:60]!r} is no {kind}")
        if isinstance(allowed := self.kind.get("enum"), list) and value not in allowed:
            raise ValueError(f"{text[:60]!r} is none of {short(allowed)}")
        return value

    def _told(self, properties: Mapping[str, Any]) -> str:
        if self.field:
            about = str(self.kind.get("description") or properties[self.field].get("description") or "")[:200]
            return f"the {self.kind['type']} {self.field!r}" + (f": {' '.join(about.split())}" if about else "")
        fields = ", ".join(f"{name!r} ({self._kind(each).get('type', 'JSON')})" for name, each in properties.items())
        return f"a JSON object of {fields[:1000]}" if fields else "a JSON object"


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


# -------------------------------------------------------------------------------------------------------------- server


class _Server:
    """Episodes of a server: sessions are used again."""

    def __init__(self, base_url: str, field: str, reset: dict[str, Any], seconds: float) -> None:
        self._base, self._reset, self._seconds = base_url, reset, seconds
        schema, about = (_fetched(f"{base_url}/{name}", seconds) for name in ("schema", "metadata"))
        action = schema.get("action")
        self._action = _Action(action if isinstance(action, dict) else {}, field)
        name = about.get("name")
        given = "".join(f" {key}={json.dumps(value)}" for key, value in sorted(reset.items()))
        named = " ".join(str(name).split())[:60] if isinstance(name, str) and name.isprintable() else ""
        self.title = f"{named or urlsplit(base_url).netloc}{given}"
        self.rules = f"Act in {self.title}. Each line is one action: {self._action.told}."
        self._idle: list[_Session] = []
        self._lock = threading.Lock()

    def begin(self) -> Episode:
        """An episode, in a session that is free or a new one."""
        with self._lock:
            session = self._idle.pop() if self._idle else _Session(self._base, self._seconds)
        return _Run(session, self._reset, self._free)

    def read(self, text: str) -> Any:
        """The action of a line; raises ValueError where it is none."""
        return self._action.read(text)

    def options(self) -> Mapping[str, float]:
        """The values of a field that has few."""
        return self._action.options()

    def close(self) -> None:
        """End the sessions."""
        with self._lock:
            idle, self._idle = self._idle, []
        for each in idle:
            each.close()

    def _free(self, session: _Session) -> None:
        with self._lock:
            self._idle.append(session)


def _fetched(url: str, seconds: float) -> dict[str, Any]:
    """A JSON object that a server gives; empty where it has no such page.

    Raises:
        ValueError: there is no server, or it says something else.
    """
    import httpx2

    deadline, content = time.monotonic() + seconds, b""
    try:
        with httpx2.stream("GET", url, timeout=seconds) as reply:
            if reply.status_code == 404:
                return {}
            reply.raise_for_status()
            for part in reply.iter_bytes():
                content += part
                if len(content) > MOST or time.monotonic() > deadline:
                    raise ValueError(f"{url} gives more than {MOST >> 20} MiB, or takes longer than {seconds:g} s")
        found = json.loads(content)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise ValueError(f"no OpenEnv server answers at {url}: {error}") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise ValueError(f"{url} gives no JSON: {content[:60]!r}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{url} gives {short(found)}, which is no JSON object")
    return found


class _Run:
    """An episode in a session."""

    def __init__(self, session: _Session, reset: Mapping[str, Any], free: Any) -> None:
        self._session, self._reset, self._free = session, reset, free

    def reset(self, seed: int) -> str:
        """Begin; a session that was lost since it was last used is opened again."""
        message = {"type": "reset", "data": {**self._reset, "seed": seed}}
        used = self._session.used
        try:
            return _reply(self._session.ask(message)).observation
        except EpisodeLost:
            if not used:
                raise
            return _reply(self._session.ask(message)).observation

    def act(self, action: Any) -> Reply:
        """Take an action; raises `NoAction` if the server refuses it."""
        return _reply(self._session.ask({"type": "step", "data": action}))

    def close(self) -> None:
        """Let the session be used again."""
        self._free(self._session)


def _reply(data: Mapping[str, Any]) -> Reply:
    """An observation, looked at."""
    seen, reward, over = data.get("observation"), data.get("reward"), data.get("done", False)
    if not isinstance(seen, dict) or not isinstance(over, bool) or not isinstance(reward, int | float | None):
        raise EpisodeLost(f"the server sent no observation: {short(dict(data))}")
    shown = {key: value for key, value in seen.items() if key not in GENERAL}
    texts = [value for value in shown.values() if isinstance(value, str)]
    number = float(reward or 0)
    text = texts[0] if len(texts) == len(shown) == 1 else json.dumps(shown, ensure_ascii=False)
    return Reply(text, number if math.isfinite(number) else 0.0, over)


class _Session:
    """A WebSocket; opened when it is first used, and again after it was closed.

    Args:
        base: the address of the server.
        seconds: that one exchange may take.

    Attributes:
        used: whether a message was answered since it was opened.
    """

    def __init__(self, base: str, seconds: float) -> None:
        self._base, self._seconds = base, seconds
        self._socket: Any = None
        self.used = False

    def ask(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        """The data of what a message is answered with.

        Raises:
            NoAction: the server refuses it.
            EpisodeLost: there is no answer, or none that makes sense.
        """
        import websocket

        answer: Any = None
        try:
            if self._socket is None:
                self._open()
            self._socket.sock.allow(self._seconds)
            self._socket.send(json.dumps(message))
            answer = json.loads(self._socket.recv())
        except (OSError, ValueError, RecursionError, websocket.WebSocketException) as error:
            raise EpisodeLost(f"the server at {self._base} does not answer: {error}") from None
        finally:  # also when interrupted: a late answer must not become the next one
            if not isinstance(answer, dict):
                self.close()
        return self._data(answer)

    def close(self) -> None:
        """End it."""
        if self._socket is not None:
            self._socket.shutdown()
        self._socket, self.used = None, False

    def _data(self, answer: Any) -> Mapping[str, Any]:
        data = answer.get("data") if isinstance(answer, dict) else None
        if isinstance(data, dict) and answer.get("type") == "observation":
            self.used = True
            return data
        told = data if isinstance(data, dict) else {}
        said = short(str(told.get("message", answer)))
        if self.used and told.get("code") in REFUSALS:
            raise NoAction(said)
        self.close()
        more = "; give fewer sessions, or start it with more" if told.get("code") == FULL else ""
        raise EpisodeLost(f"the server at {self._base} says {said}{more}")

    def _open(self) -> None:
        import websocket

        parts = urlsplit(self._base)
        secure = parts.scheme == "https"
        raw = socket.create_connection((parts.hostname, parts.port or (443 if secure else 80)), self._seconds)
        with contextlib.ExitStack() as stack:
            stack.callback(raw.close)
            if secure:
                raw = ssl.create_default_context().wrap_socket(raw, server_hostname=parts.hostname)
                stack.callback(raw.close)
            wire = _Wire(raw)
            wire.allow(self._seconds)
            made: Any = websocket.WebSocket()
            made.connect(f"ws{self._base[4:]}/ws", socket=wire, redirect_limit=0, suppress_origin=True)
            self._socket = made
            stack.pop_all()


class _Wire:
    """A socket that takes no more than a number of bytes, and no longer than a time, until it is allowed more."""

    def __init__(self, raw: socket.socket) -> None:
        self._raw, self._left, self._deadline = raw, 0, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def allow(self, seconds: float) -> None:
        """From now on."""
        self._left, self._deadline = MOST, time.monotonic() + seconds

    def recv(self, size: int) -> bytes:
        """As of a socket."""
        self._wait()
        data = self._raw.recv(min(size, _CHUNK))
        self._left -= len(data)
        if self._left < 0:
            raise ValueError(f"it sent more than {MOST >> 20} MiB")
        return data

    def send(self, data: bytes) -> int:
        """As of a socket."""
        self._wait()
        return self._raw.send(data)

    def _wait(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time is up")
        self._raw.settimeout(left)
