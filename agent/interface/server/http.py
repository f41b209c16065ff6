"""Requests and replies as they go over a connection: bounded, and watched, so that nothing works for nobody."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import pydantic_core
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from agent.interface.server.core import Event, Refused, Result
from agent.interface.server.dialects.bodies import Stream, json_bytes, write
from agent.interface.server.limits import ServerLimits
from agent.interface.server.service import Call, ClientGone

_PATIENCE = 1.0  # seconds for which a stream may still become an error with a status of its own


class Json(Response):
    """JSON in ASCII, which no cache keeps and no browser takes for anything else."""

    def __init__(self, content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        own = {"cache-control": "no-store", "x-content-type-options": "nosniff", **(headers or {})}
        super().__init__(json_bytes(content), status, own, "application/json")


async def read_body(request: Request, limits: ServerLimits) -> dict[str, Any]:
    """The JSON object that a request has as its body.

    Raises:
        Refused: it is none, too large, or too slow.
        ClientGone: the client went away before its end.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # what a web page may send from anywhere without being asked first is not taken
        raise Refused(415, f"content type {kind[:80]!r} given; allowed: application/json")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "the body is packed; send it as it is")
    too_large = Refused(413, f"the body has more than {limits.body:,} bytes")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limits.body:
        raise too_large
    received = bytearray()
    try:
        async with asyncio.timeout(limits.upload):
            async for chunk in request.stream():
                received += chunk
                if len(received) > limits.body:
                    raise too_large
    except TimeoutError:
        raise Refused(408, f"the body did not arrive within {limits.upload:g} s") from None
    except ClientDisconnect:
        raise ClientGone from None
    try:
        body = pydantic_core.from_json(bytes(received), allow_inf_nan=False)
    except ValueError as error:
        raise Refused(400, f"the body is no JSON: {error}") from None
    if not isinstance(body, dict):
        raise Refused(400, f"the body is a {type(body).__name__}; an object is expected")
    return body


async def gone(receive: Receive) -> None:
    """Waits until the client has gone away; after the body of its request has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


@contextlib.contextmanager
def watched(call: Call, receive: Receive) -> Iterator[None]:
    """Meanwhile, a call is told when its client goes away."""

    def tell(watch: asyncio.Future[None]) -> None:
        if not watch.cancelled():
            call.leave()

    watch = asyncio.ensure_future(gone(receive))
    watch.add_done_callback(tell)
    try:
        yield
    finally:
        watch.cancel()


async def whole(call: Call, request: Request) -> list[Result]:
    """The results of a call, for a client that stays; when it goes away, its searches end at once.

    Raises:
        Refused: a search failed.
        ClientGone: the client went away.
    """
    try:
        with watched(call, request.receive):
            return await call.results()
    finally:
        call.cancel()


class EventStream(Response):
    """A reply that is streamed, from the first second on.

    Args:
        call: what is told.
        stream: how it is written.
        first: the first event, which came before anything was sent; None if there is none yet.
        limits: of the server.
        headers: besides those of a stream.
    """

    def __init__(
        self, call: Call, stream: Stream, first: Event | None, limits: ServerLimits, headers: Mapping[str, str]
    ) -> None:
        super().__init__(
            None,
            200,
            {"cache-control": "no-store", "x-accel-buffering": "no", "x-content-type-options": "nosniff", **headers},
            "text/event-stream",
        )
        del self.headers["content-length"]
        self.call, self.stream, self.limits = call, stream, limits
        self._first = first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it all; when the client goes away or takes nothing, its searches end."""
        try:
            with watched(self.call, receive):
                await self._send_all(send)
        except ClientGone:
            pass
        finally:
            self.call.cancel()

    async def _send_all(self, send: Send) -> None:
        await self._bounded(send, {"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await self._write(send, self.stream.alive + self.stream.begin())
        left = self.call.asked.choices
        while left:
            event = self._first or await self._event()
            self._first = None
            if event is None:
                await self._write(send, self.stream.alive)
                continue
            content = b""
            while event is not None:  # what is there already goes in one piece
                content += write(self.stream, event)
                left = 0 if isinstance(event, Refused) else left - isinstance(event, Result)
                event = self.call.ready() if left else None
            await self._write(send, content)
        await self._bounded(send, {"type": "http.response.body", "body": b"", "more_body": False})

    async def _event(self) -> Event | None:
        """The next event, or None after some seconds of silence."""
        try:
            async with asyncio.timeout(self.limits.keep_alive):
                return await self.call.next()
        except TimeoutError:
            return None

    async def _write(self, send: Send, content: bytes) -> None:
        if content:
            await self._bounded(send, {"type": "http.response.body", "body": content, "more_body": True})

    async def _bounded(self, send: Send, message: dict[str, Any]) -> None:
        """Send, unless the client goes away meanwhile, or takes nothing for too long."""
        try:
            async with asyncio.timeout(self.limits.stall):
                await send(message)
        except OSError:  # a TimeoutError is one
            raise ClientGone from None
        if self.call.left:
            raise ClientGone


async def first_event(call: Call, request: Request) -> Event | None:
    """The first event of a call, if it comes soon: until then, an error still has a status of its own.

    Raises:
        Refused: the search failed already.
        ClientGone: the client went away.
    """
    with watched(call, request.receive):
        try:
            async with asyncio.timeout(_PATIENCE):
                event = await call.next()
        except TimeoutError:
            return None
    if isinstance(event, Refused):
        raise event
    return event
