"""The description of the server in OpenAPI, made from the bodies that it checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from agent.interface.server.dialects.bodies import Dialect

_REFERENCE = "#/components/schemas/{model}"
_STATUSES = {
    400: "The request cannot be understood; the message says why.",
    401: "A key is missing, or is not known.",
    403: "The key may not do this.",
    404: "There is no such model, or no such search.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The body is no JSON.",
    429: "Too many searches are open, or what the key may spend is spent; Retry-After says when to try again.",
    431: "The headers are too large.",
    500: "A search failed.",
    503: "A model cannot be reached, or the server is shutting down.",
}


def describe(dialects: Sequence[Dialect], keys: bool, model: str, question: str) -> dict[str, Any]:
    """The whole document.

    Args:
        dialects: with their paths and bodies.
        keys: whether a key is needed.
        model: of the example.
        question: of the example.
    """
    bodies: list[type[BaseModel]] = [dialect.body for dialect in dialects]
    references, definitions = models_json_schema([(body, "validation") for body in bodies], ref_template=_REFERENCE)
    paths: dict[str, Any] = {
        "/v1/models": {"get": _operation("The models.", keys)},
        "/health": {"get": _operation("Whether the server can answer.", False, (503,))},
        "/metrics": {"get": _operation("Counters, for Prometheus.", keys, kind="text/plain")},
        "/openapi.json": {"get": _operation("This description.", False)},
    }
    named = _operation("A model, and what it stands for.", keys, (404,))
    paths["/v1/models/{model}"] = {"get": {**named, "parameters": [_parameter("model", {"minLength": 1})]}}
    for path, what, kind in (
        ("/v1/searches/{id}/graph.json", "The graph of a search that is over.", "application/json"),
        ("/v1/searches/{id}", "The page of a search that is over.", "text/html"),
    ):
        paths[path] = {
            "get": {
                **_operation(what, False, (404,), kind),
                "parameters": [_parameter("id", {"pattern": "^[0-9a-f-]+$"})],
            }
        }
    for dialect, body in zip(dialects, bodies, strict=True):
        posted = _operation(f"Solve a problem ({dialect.name}).", keys, (400, 404, 408, 413, 415, 429, 431, 500, 503))
        posted["responses"]["200"]["content"]["text/event-stream"] = {"schema": {"type": "string"}}
        schema = references[(body, "validation")]
        example = {"model": model, **dialect.example(question)}
        content = {"schema": schema, "examples": {"question": {"value": example}}}
        posted["requestBody"] = {"required": True, "content": {"application/json": content}}
        paths[dialect.path] = {"post": posted}
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "Stepwell", "version": _version(), "description": "A search, served as if it were a model."},
        "paths": paths,
        "components": {"schemas": definitions.get("$defs", {})},
    }
    if keys:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return document


def _operation(what: str, keys: bool, statuses: Sequence[int] = (), kind: str = "application/json") -> dict[str, Any]:
    errors = [*statuses, *((401, 403) if keys else ())]
    responses: dict[str, Mapping[str, Any]] = {"200": {"description": what, "content": {kind: {"schema": {}}}}}
    for status in sorted(errors):
        responses[str(status)] = {
            "description": _STATUSES[status],
            "content": {"application/json": {"schema": {"type": "object"}}},
        }
    return {"summary": what, "responses": responses, **({"security": [{"key": []}]} if keys else {})}


def _parameter(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", **schema}}


def _version() -> str:
    try:
        return version("stepwell")
    except PackageNotFoundError:
        return "0"
