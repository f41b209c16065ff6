"""Requests with tools: handed to the policy's server as they are, and its reply handed back as it comes.

A search votes on answers, and there is no vote on calls of tools. So a program that brings tools speaks to the policy
alone; the header ``x-stepwell`` says so.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

import httpx2
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from agent.interface.server.core import Refused
from agent.interface.server.dialects.bodies import json_bytes
from agent.interface.server.engine.protocol import LoadedPolicy
from agent.interface.server.http import gone
from agent.interface.server.keys import Account
from agent.interface.server.limits import ServerLimits
from agent.interface.server.service import ClientGone

SAID = "passed through to the policy with its tools: no search was made"
_OWN = ("strategy", "budget", "content", "deadline", "abstain_below")
_LARGEST = 64 << 20  # bytes of a reply
_HEADERS = ("anthropic-version", "anthropic-beta", "openai-beta")


class Passthrough:
    """Hands requests over.

    Args:
        limits: of the server; as many requests as searches are in hand at once.
    """

    def __init__(self, limits: ServerLimits) -> None:
        self.limits = limits
        self._open = 0
        self._client: httpx2.AsyncClient | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()

    async def forward(
        self, request: Request, body: Mapping[str, Any], policy: LoadedPolicy, account: Account
    ) -> Response:
        """The reply of the policy's server, streamed as it comes.

        Raises:
            Refused: the policy is behind no server, or a vote is asked for, or there is no place.
            ClientGone: the client went away first.
        """
        if policy.base_url is None:
            raise Refused(400, f"policy {policy.name} takes no tools, openai: policies do; leave them out", "tools")
        if given := [key for key in _OWN if body.get(key) is not None]:
            what = ", ".join(given)
            raise Refused(400, f"there is no vote on calls of tools: leave out {what}, or the tools", given[0])
        if account.limited:
            raise Refused(403, "this key has a budget, and the cost of a request with tools is not counted", "tools")
        if self._open >= self.limits.concurrency:
            raise Refused(429, f"{self._open} requests with tools are open; no more may be", "tools", 1)
        self._client = self._client or httpx2.AsyncClient(timeout=httpx2.Timeout(self.limits.deadline, connect=10.0))
        headers = {name: request.headers[name] for name in _HEADERS if name in request.headers}
        if key := os.environ.get(policy.key_variable):
            headers |= {"authorization": f"Bearer {key}", "x-api-key": key}
        content = json_bytes({**body, "model": policy.model})
        path = request.url.path.removeprefix("/v1")
        asked = self._client.build_request(
            "POST", policy.base_url + path, content=content, headers={**headers, "content-type": "application/json"}
        )
        watch = asyncio.ensure_future(gone(request.receive))
        work = asyncio.ensure_future(self._client.send(asked, stream=True))
        self._open += 1
        try:
            await asyncio.wait({watch, work}, timeout=self.limits.deadline, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                raise ClientGone if watch.done() else Refused(503, "the policy's server takes too long", retry_after=10)
            return _Relay(self, work.result())
        except BaseException as error:
            self._open -= 1
            if isinstance(error, httpx2.TransportError):
                raise Refused(503, "the policy's server could not be reached", retry_after=10) from None
            raise
        finally:
            watch.cancel()

    def done(self) -> None:
        """A reply is at its end."""
        self._open -= 1


class _Relay(Response):
    """A reply of another server; where it takes too long, the connection is closed before its end."""

    def __init__(self, owner: Passthrough, reply: httpx2.Response) -> None:
        kind = reply.headers.get("content-type", "application/json")
        super().__init__(None, reply.status_code, {"x-stepwell": SAID, "cache-control": "no-store"}, kind)
        del self.headers["content-length"]
        self._owner, self._reply = owner, reply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        watch = asyncio.ensure_future(gone(receive))
        work = asyncio.ensure_future(self._relay(send))
        try:
            deadline = self._owner.limits.deadline
            await asyncio.wait({watch, work}, timeout=deadline, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        except (OSError, httpx2.TransportError):
            pass  # one of the two is gone, or takes or sends nothing
        finally:
            watch.cancel()
            work.cancel()
            await self._reply.aclose()
            self._owner.done()

    async def _relay(self, send: Send) -> None:
        await self._bounded(
            send, {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        size = 0
        async for chunk in self._reply.aiter_bytes():
            size += len(chunk)
            if size > _LARGEST:
                return
            await self._bounded(send, {"type": "http.response.body", "body": chunk, "more_body": True})
        await self._bounded(send, {"type": "http.response.body", "body": b"", "more_body": False})

    async def _bounded(self, send: Send, message: dict[str, Any]) -> None:
        """Send; raises TimeoutError where the client takes nothing for too long."""
        async with asyncio.timeout(self._owner.limits.stall):
            await send(message)
