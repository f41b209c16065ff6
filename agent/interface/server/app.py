"""The application: routes, errors, and what is measured of each request."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from loguru import logger
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent.interface.server.catalog import DEFAULT, Catalog
from agent.interface.server.core import Refused
from agent.interface.server.dialects.bodies import Dialect, openai_error, parse
from agent.interface.server.dialects.chat import Chat
from agent.interface.server.dialects.messages import Messages
from agent.interface.server.dialects.responses import Responses
from agent.interface.server.http import EventStream, Json, first_event, read_body, whole
from agent.interface.server.keys import Account, Keyring
from agent.interface.server.limits import ServerLimits
from agent.interface.server.metrics import CONTENT_TYPE, Metrics
from agent.interface.server.openapi import describe
from agent.interface.server.passthrough import Passthrough
from agent.interface.server.saved import SavedSearches, page_of
from agent.interface.server.service import ClientGone, Engine, Service
from agent.interface.text import visible

DIALECTS: tuple[Dialect, ...] = (Chat(), Responses(), Messages())
LOOPBACK = ("localhost", "127.0.0.1", "[::1]", "::1")
_GONE = 499  # what is logged of a request whose client went away; nobody receives it


class Server:
    """What answers requests.

    Args:
        catalog: of models.
        engine: that searches; it is ended with the server.
        limits: on everything.
        keys: of those who may ask; none lets everybody.
        saved: where graphs go; None keeps none.
        hosts: names by which the server may be addressed; () for any.

    Attributes:
        service: the searches.
        app: the ASGI application.
    """

    def __init__(
        self,
        catalog: Catalog,
        engine: Engine,
        limits: ServerLimits,
        keys: Keyring | None = None,
        saved: SavedSearches | None = None,
        hosts: Sequence[str] = (),
    ) -> None:
        self.catalog, self.limits, self.keys, self.saved = catalog, limits, keys or Keyring(), saved
        self.metrics = Metrics()
        self.service = Service(catalog, engine, limits, self.metrics)
        self.passthrough = Passthrough(limits)
        self._created = int(time.time())
        self._pages = asyncio.Semaphore(1)  # they take memory: one at a time
        (example,) = next(iter(catalog.environments.values())).problems("test", 1)
        self._description = describe(DIALECTS, bool(self.keys), f"{DEFAULT}/auto", example.question)
        middleware = [Middleware(_Measured, metrics=self.metrics)]
        if hosts:
            middleware.append(Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False))
        self.app = Starlette(
            routes=[
                *(Route(dialect.path, self._answers(dialect), methods=["POST"]) for dialect in DIALECTS),
                Route("/v1/models", self._models),
                Route("/v1/models/{model:path}", self._model),
                Route("/v1/searches/{id}/graph.json", self._graph),
                Route("/v1/searches/{id}", self._page),
                Route("/health", self._health),
                Route("/metrics", self._metrics),
                Route("/openapi.json", self._openapi),
            ],
            middleware=middleware,
            exception_handlers={HTTPException: self._http_error, Refused: self._refused},
            lifespan=self._lifespan,
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        await self.service.start()
        yield
        await self.service.drain()
        await self.passthrough.close()
        await self.service.close()

    # ----------------------------------------------------------------------------------------------------- searches

    def _answers(self, dialect: Dialect) -> Any:
        async def answer(request: Request) -> Response:
            id = secrets.token_hex(16)
            try:
                return await self._answer(dialect, request)
            except Refused as refused:
                return self._error(dialect, refused, id)
            except ClientGone:
                return Response(status_code=_GONE)
            except Exception as error:
                logger.exception("a request failed: {}: {}", type(error).__name__, visible(str(error)))
                return self._error(dialect, Refused(500, "the server failed; its log says why"), id)

        return answer

    async def _answer(self, dialect: Dialect, request: Request) -> Response:
        head = sum(len(name) + len(value) for name, value in request.headers.raw)
        if head > self.limits.headers:
            raise Refused(431, f"headers of {head:,} bytes given; at most {self.limits.headers:,} are read")
        account = self.keys.find(request.headers)
        raw = await read_body(request, self.limits)
        if raw.get("tools"):
            return await self._pass_through(request, raw, account)
        body = parse(dialect.body, raw)
        call = await self.service.submit(dialect.read(body), account)
        headers = {"x-request-id": call.id}
        if body.stream:
            stream = dialect.stream(call.id, call.created, body)
            try:
                first = await first_event(call, request)
            except BaseException:
                call.cancel()
                raise
            return EventStream(call, stream, first, self.limits, headers)
        return Json(dialect.reply(call.id, call.created, body, await whole(call, request)), headers=headers)

    async def _pass_through(self, request: Request, raw: dict[str, Any], account: Account) -> Response:
        model = raw.get("model")
        if not isinstance(model, str) or not isinstance(raw["tools"], list):
            raise Refused(400, "model must be a text, and tools a list", "model")
        name, strategy, _ = self.catalog.find(model)
        if strategy is not None and strategy.name != "auto":
            raise Refused(400, f"there is no vote on calls of tools: ask model {name!r}, or leave them out", "tools")
        account.check(1)
        return await self.passthrough.forward(request, raw, self.catalog.policies[name], account)

    def _error(self, dialect: Dialect, refused: Refused, id: str) -> Response:
        headers = {"x-request-id": id}
        if refused.retry_after is not None:
            headers["retry-after"] = str(refused.retry_after)
        if refused.status == 401:
            headers["www-authenticate"] = "Bearer"
        return Json(dialect.error(refused, id), refused.status, headers)

    # -------------------------------------------------------------------------------------------------------- the rest

    async def _models(self, request: Request) -> Response:
        self.keys.find(request.headers)
        return Json({"object": "list", "data": [self._about(name) for name in self.catalog.models()]})

    async def _model(self, request: Request) -> Response:
        self.keys.find(request.headers)
        return Json(self._about(request.path_params["model"]))

    def _about(self, model: str) -> dict[str, Any]:
        name, strategy, budget = self.catalog.find(model)
        recipe = self.catalog.recipes[name]
        about = {
            "environment": recipe.environment.label,
            "policy": recipe.policy.label,
            "verifier": recipe.verifier.label,
            "strategy": (strategy or recipe.strategy).label,
            "budget": {key: value for key, value in vars(budget or recipe.budget).items() if value is not None},
        }
        return {"id": model, "object": "model", "created": self._created, "owned_by": DEFAULT, "stepwell": about}

    async def _graph(self, request: Request) -> Response:
        headers = {"x-content-type-options": "nosniff"}
        return FileResponse(self._saved(request), media_type="application/json", headers=headers)

    async def _page(self, request: Request) -> Response:
        found = self._saved(request)
        environments = list(self.catalog.environments.values())
        async with self._pages:
            try:
                page = await asyncio.to_thread(page_of, found, environments)
            except (OSError, ValueError) as error:
                logger.warning("a page could not be made: {}", visible(str(error)))
                raise Refused(404, "the search cannot be shown here") from None
        return Response(page, headers={"x-content-type-options": "nosniff"}, media_type="text/html")

    def _saved(self, request: Request) -> Path:
        """The file of the search that a path names."""
        found = None if self.saved is None else self.saved.find(request.path_params["id"])
        if found is None:
            raise Refused(404, "there is no such search, or it is no longer kept")
        return found

    async def _health(self, request: Request) -> Response:
        service = self.service
        status = "failed" if service.failed else "draining" if service.draining else "ok"
        return Json({"status": status, **service.load()}, 200 if status == "ok" else 503)

    async def _metrics(self, request: Request) -> Response:
        self.keys.find(request.headers)
        return Response(self.metrics.text(), media_type=CONTENT_TYPE)

    async def _openapi(self, request: Request) -> Response:
        return Json(self._description)

    async def _http_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        what = {404: "there is no such path", 405: "the path takes another method"}
        refused = Refused(error.status_code, what.get(error.status_code, str(error.detail)))
        return Json(openai_error(refused), error.status_code, dict(error.headers or {}))

    async def _refused(self, request: Request, error: Exception) -> Response:
        """Outside of the dialects, an error is as the first of them writes it."""
        assert isinstance(error, Refused)
        return self._error(DIALECTS[0], error, secrets.token_hex(16))


class _Measured:
    """Counts and times requests to dialects, and logs them; never a header or a body."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics
        self._names = {dialect.path: dialect.name for dialect in DIALECTS}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = self._names.get(scope.get("path", "")) if scope["type"] == "http" else None
        if name is None:
            await self.app(scope, receive, send)
            return
        began, status = time.monotonic(), _GONE

        async def measured(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, measured)
        finally:
            seconds = time.monotonic() - began
            self.metrics.requests.labels(name, str(status)).inc()
            self.metrics.latency.labels(name).observe(seconds)
            logger.info("{} {} in {:.3f} s", scope["path"], status, seconds)
