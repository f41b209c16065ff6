"""A real HTTP server on loopback that speaks the OpenAI protocol as vLLM, SGLang, llama.cpp or Ollama do, and fails.

The model behind it follows a script, so that what it writes is a function of (prompt, seed, temperature); faults are a
function of (seed, what was asked, how often it was asked), so that a run with faults can be compared with one without.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
import select
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, get_args

from envs.core import Environment, Problem, State, Step

Fault = Literal["500", "503", "429", "hang", "reset", "cut", "garbage", "choices", "usage"]
Reply = tuple[int, dict[str, Any]]
Route = Callable[[dict[str, Any]], Reply]


@dataclass(frozen=True)
class Faults:
    """Which calls fail, and how: a share of them, each kind as often as the others.

    ``reset`` closes the connection in the middle of the reply, ``cut`` ends it early, ``garbage`` is no JSON,
    ``choices`` sends a wrong number of them, ``usage`` leaves the counts of tokens out.
    """

    rate: float = 0.3
    seed: int = 0
    kinds: Sequence[Fault] = get_args(Fault)

    def of(self, content: bytes, attempt: int) -> Fault | None:
        digest = hashlib.blake2b(f"{self.seed}/{attempt}/".encode() + content, digest_size=8).digest()
        rng = random.Random(digest)
        return rng.choice(list(self.kinds)) if rng.random() < self.rate else None


# ------------------------------------------------------------------------------------------------------- the server


class Server:
    """Serves routes on a port of its own until `close`; a context manager.

    Args:
        routes: a function of the parsed body for each path; GET passes an empty body.
        faults: of POSTs.
        key: refuse calls without this key.

    Attributes:
        asked: how many calls came, by path.
        failed: how many of them were made to fail, by kind.
        most: most calls that were in hand at once.
        bodies: of the calls that were answered, in the order of the answers.
    """

    def __init__(self, routes: Mapping[str, Route], faults: Faults | None = None, key: str | None = None) -> None:
        self.routes, self.faults, self.key = routes, faults, key
        self.asked: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.most = self.open = 0
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self._attempts: Counter[bytes] = Counter()
        self._connections: set[socket.socket] = set()
        self._port = 0
        self._server: ThreadingHTTPServer | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://localhost:{self._port}/v1"

    def start(self) -> None:
        """Listen, on the port of before if there was one."""
        outer = self

        class Handler(_Handler):
            owner = outer

        class Threaded(ThreadingHTTPServer):
            request_queue_size = 256
            daemon_threads = True

        self.stopping.clear()
        self._server = Threaded(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Close the port and every connection: what a server that was killed looks like."""
        if self._server is None:
            return
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._server = None
        with self.lock:
            for connection in self._connections:
                _reset(connection)
            self._connections.clear()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def fault(self, content: bytes) -> Fault | None:
        with self.lock:
            self._attempts[content] += 1
            kind = self.faults.of(content, self._attempts[content]) if self.faults else None
            if kind is not None:
                self.failed[kind] += 1
            return kind


class _Handler(BaseHTTPRequestHandler):
    owner: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        with self.owner.lock:
            self.owner._connections.add(self.connection)

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()
        with self.owner.lock:
            self.owner._connections.discard(self.connection)

    def handle(self) -> None:
        with suppress(OSError):
            super().handle()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(b"", None)

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        owner = self.owner
        with owner.lock:
            owner.open += 1
            owner.most = max(owner.most, owner.open)
        try:
            self._answer(content, owner.fault(content))
        finally:
            with owner.lock:
                owner.open -= 1

    def _answer(self, content: bytes, fault: Fault | None) -> None:
        owner, path = self.owner, self.path
        with owner.lock:
            owner.asked[path] += 1
        if owner.key is not None and self.headers["Authorization"] != f"Bearer {owner.key}":
            self._send(401, {"error": {"message": f"wrong key: {self.headers['Authorization']}"}})
        elif path not in owner.routes:
            self._send(404, {"detail": "Not Found"})
        elif fault == "hang":
            while not owner.stopping.is_set() and not _gone(self.connection):
                pass
            self.close_connection = True
        elif fault in ("500", "503"):
            self._send(int(fault), {"error": {"message": "out of order"}})
        elif fault == "429":
            self._send(429, {"error": {"message": "too many"}}, {"Retry-After": "0.01"})
        else:
            body = json.loads(content) if content else {}
            try:
                status, reply = owner.routes[path](body)
            except Exception as error:
                status, reply = 422, {"error": {"message": f"{type(error).__name__}: {error}"}}
            if status != 200:
                fault = None
            if fault == "choices":
                listed = "choices" if "choices" in reply else "data"
                reply[listed] = reply[listed] * 2 if len(content) % 2 else []
            if fault == "usage":
                reply.pop("usage", None)
            if status == 200 and fault in (None, "usage") and body:
                with owner.lock:
                    owner.bodies.append(body)
            self._send(status, reply, fault=fault)

    def _send(
        self, status: int, reply: dict[str, Any], headers: Mapping[str, str] | None = None, fault: Fault | None = None
    ) -> None:
        payload = b"{nothing:" if fault == "garbage" else json.dumps(reply).encode()
        head = f"HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {len(payload)}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        if fault in ("reset", "cut"):
            payload = payload[: len(payload) // 2]
            self.close_connection = True
        self.wfile.write(head.encode() + b"\r\n" + payload)
        if fault == "reset":
            _reset(self.connection)


def _reset(connection: socket.socket) -> None:
    """Close a connection the hard way: its peer gets a reset, not an end."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)


def _gone(connection: socket.socket) -> bool:
    """Whether the peer has left; waits a moment for it."""
    readable, _, _ = select.select([connection], [], [], 0.02)
    return bool(readable) and not connection.recv(1, socket.MSG_PEEK)


# -------------------------------------------------------------------------------------------------------- the model


@dataclass(frozen=True)
class Generated:
    """What a model wrote: pieces of text (its tokens) with log-probabilities; `matched` is the stop string."""

    pieces: list[str]
    logprobs: list[float]
    reason: Literal["stop", "length"]
    matched: str | None

    @property
    def text(self) -> str:
        return "".join(self.pieces)


Tokens = tuple[list[str], list[float]]


class Script:
    """A model that continues problems of an environment by its `options`, word by word.

    Args:
        environment: whose problems and steps it knows.
        problems: those it can be asked.
        marker: the text after which the assistant's part begins; None for the environment's own prompt.
    """

    def __init__(self, environment: Environment, problems: Sequence[Problem], marker: str | None = None) -> None:
        self.environment, self.marker = environment, marker
        self.problems = sorted(problems, key=lambda problem: len(problem.question), reverse=True)

    def go_on(self, asked: str, written: str | None, seed: int, temperature: float) -> Tokens:
        """The tokens that follow; `written` is the assistant's part, None if it is inside the prompt."""
        state, running = self._state(asked, written)
        rng, pieces, logprobs = random.Random(seed), list[str](), list[float]()
        while running:
            weights: Mapping[str, float] = self.environment.options(state)  # type: ignore[attr-defined]
            texts = list(weights)
            if temperature == 0:
                text = max(texts, key=lambda each: weights[each])
            else:
                text = rng.choices(texts, [weights[each] ** (1 / temperature) for each in texts])[0]
            step = self.environment.step(state, Step(text))
            state, running = step.state, step.status == "running"
            new = [*re.findall(r"\s*\S+", text), self.environment.delimiter]
            pieces += new
            logprobs += [math.log(weights[text] / sum(weights.values())), *[0.0] * (len(new) - 1)]
        return pieces, logprobs

    def _state(self, asked: str, written: str | None) -> tuple[State, bool]:
        problem = next(problem for problem in self.problems if problem.question in asked)
        if written is None:
            written = asked.rpartition(self.marker or self.environment.prompt(problem))[2]
        state, running = self.environment.initial(problem), True
        for text in written.split(self.environment.delimiter)[:-1]:
            after = self.environment.step(state, Step(text))
            state, running = after.state, after.status == "running"
        return state, running


class Recital:
    """A model that knows one text by heart, and goes on wherever it is."""

    def __init__(self, text: str, marker: str = "") -> None:
        self.text, self.marker = text, marker

    def go_on(self, asked: str, written: str | None, seed: int, temperature: float) -> Tokens:
        if written is None:
            written = asked.rpartition(self.marker)[2]
        assert self.text.startswith(written), f"{written!r} is not how it begins"
        pieces = re.findall(r"[\r\n]+|[^\S\r\n]*\S+", self.text[len(written) :])
        return pieces, [-0.5] * len(pieces)


def generate(tokens: Tokens, stop: Sequence[str], most: int) -> Generated:
    """Tokens until a stop string, the end (a token without text) or the most that was asked for."""
    pieces, logprobs = [*tokens[0], ""], [*tokens[1], -0.25]
    for count in range(1, len(pieces) + 1):
        text = "".join(pieces[:count])
        matched = next((each for each in stop if each in text), None)
        if matched is not None:
            return Generated(pieces[:count], logprobs[:count], "stop", matched)
        if count == most and count < len(pieces):
            return Generated(pieces[:count], logprobs[:count], "length", None)
    return Generated(pieces, logprobs, "stop", None)


Dialect = Literal["vllm", "sglang", "llamacpp", "ollama", "other"]
OWNERS: dict[Dialect, str] = {
    "vllm": "vllm", "sglang": "sglang", "llamacpp": "llamacpp", "ollama": "library", "other": "someone"
}  # fmt: skip


def openai_routes(
    model: Script | Recital,
    dialect: Dialect = "vllm",
    name: str = "scripted",
    context: int = 4096,
    logprobs: bool = True,
    usage: bool = True,
    trims: bool = False,
    decode: Callable[[list[int]], str] = str,
    quirk: Callable[[dict[str, Any]], Reply | dict[str, Any]] = dict,
    owner: str = "",
    anew: bool = False,
) -> dict[str, Route]:
    """The routes of a server with one model.

    Args:
        model: what writes.
        dialect: whose ways it has, about stop strings and what it says of them.
        name: of the model.
        context: most tokens of prompt and answer.
        logprobs: whether it gives them.
        usage: whether it counts tokens.
        trims: whether its template drops space around the assistant's message.
        decode: for prompts that are token ids.
        quirk: what becomes of each reply.
        owner: of the model, if it is not what the dialect says.
        anew: whether the assistant's message is closed and another begun.
    """

    def models(body: dict[str, Any]) -> Reply:
        return 200, {"data": [{"id": name, "owned_by": owner or OWNERS[dialect], "max_model_len": context}]}

    def answer(body: dict[str, Any], asked: str, written: str | None, chat: bool) -> Reply:
        if body["model"] != name:
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist.", "code": 404}}
        if dialect == "ollama":
            assert not {"include_stop_str_in_output", "no_stop_trim"} & set(body)
        assert 0 <= body["seed"] < 2**31
        prompt = len(re.findall(r"\n|[^\S\n]*\S+", asked + (written or ""))) + 5 * (anew and bool(written))
        if prompt + body["max_tokens"] > context:
            return 400, {"error": {"message": f"This model's maximum context length is {context} tokens."}}
        tokens = model.go_on(asked, "" if anew else written, body["seed"], body["temperature"])
        made = generate(tokens, body.get("stop") or [], body["max_tokens"])
        keep = body.get("include_stop_str_in_output" if dialect == "vllm" else "no_stop_trim", False)
        text = made.text if keep or made.matched is None else made.text[: made.text.index(made.matched)]
        choice: dict[str, Any] = {"index": 0, "finish_reason": made.reason}
        if dialect == "vllm":
            choice["stop_reason"] = made.matched
        if dialect == "sglang":
            choice["matched_stop"] = made.matched if made.matched is not None else 2 if made.reason == "stop" else None
        choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        if logprobs and body.get("logprobs"):
            pairs = zip(made.pieces, made.logprobs, strict=True)
            if chat:
                choice["logprobs"] = {"content": [{"token": piece, "logprob": value} for piece, value in pairs]}
                if body.get("top_logprobs", 0) > 1:  # of two tokens: another one is a nat less likely
                    for told in choice["logprobs"]["content"]:
                        other = {"token": "other", "logprob": told["logprob"] - 1}
                        told["top_logprobs"] = [{"token": told["token"], "logprob": told["logprob"]}, other]
            else:
                choice["logprobs"] = {"tokens": made.pieces, "token_logprobs": made.logprobs}
        counts: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": len(made.pieces)}
        if dialect == "vllm":
            counts["prompt_tokens_details"] = {"cached_tokens": prompt - 1}
        made_of = quirk({"model": name, "choices": [choice]} | ({"usage": counts} if usage else {}))
        return made_of if isinstance(made_of, tuple) else (200, made_of)

    def completions(body: dict[str, Any]) -> Reply:
        prompt = body["prompt"]
        return answer(body, prompt if isinstance(prompt, str) else decode(prompt), None, chat=False)

    def chat(body: dict[str, Any]) -> Reply:
        *asked, last = body["messages"]
        written = ""
        if last["role"] == "assistant":
            told = dialect != "ollama"
            assert bool(body.get("continue_final_message")) == told
            assert body.get("add_generation_prompt", True) is not told
            written = last["content"].strip() if trims else last["content"]
        else:
            asked.append(last)
        return answer(body, "\n".join(message["content"] for message in asked), written, chat=True)

    routes: dict[str, Route] = {"/v1/models": models, "/v1/completions": completions, "/v1/chat/completions": chat}
    if dialect == "ollama":
        routes["/api/version"] = lambda body: (200, {"version": "0.12.3"})
        routes["/api/tags"] = lambda body: (200, {"models": [{"name": name, "model": name}]})
    return routes


# ---------------------------------------------------------------------------------------------------------- verifiers


def pooling_routes(
    outputs: Callable[[list[int]], list[list[float]]], name: str = "prm", context: int = 512
) -> dict[str, Route]:
    """The routes of a vLLM server with one reward model; `outputs` are the rows that it gives for token ids."""

    def models(body: dict[str, Any]) -> Reply:
        return 200, {"data": [{"id": name, "owned_by": "vllm", "max_model_len": context}]}

    def pooling(body: dict[str, Any]) -> Reply:
        assert (body["task"], body["use_activation"]) == ("token_classify", False)
        if len(body["input"]) > context:
            return 400, {"error": {"message": f"This model's maximum context length is {context} tokens."}}
        return 200, {"data": [{"index": 0, "data": outputs(body["input"])}], "usage": {}}

    return {"/v1/models": models, "/pooling": pooling}
