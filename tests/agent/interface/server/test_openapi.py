"""The server's description of itself holds, and nothing that it allows or forbids is a fault of the server."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance
from starlette.routing import Route

from agent.interface.server.limits import ServerLimits
from tests.agent.interface.server.serving import CLIENT, Running, serving

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance]
PATHS = ["/v1/chat/completions", "/v1/responses", "/v1/messages"]


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with serving(ServerLimits(grace=5.0, deadline=5.0)) as made:
        yield made


def test_the_examples_are_answered(running: Running) -> None:
    host = running.url.removesuffix("/v1")
    described: dict[str, Any] = CLIENT.get(f"{host}/openapi.json").json()
    for path in PATHS:
        content = described["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        reply = CLIENT.post(host + path, json=content["examples"]["question"]["value"])
        assert reply.status_code == 200
        assert reply.json()["stepwell"]["searches"][0]["answer"]
    assert CLIENT.get(f"{host}/health").status_code == 200


def test_all_paths_are_described(running: Running) -> None:
    described = CLIENT.get(running.url.removesuffix("/v1") + "/openapi.json").json()["paths"]
    routes = [route for route in running.server.app.routes if isinstance(route, Route)]
    assert set(described) == {route.path.replace(":path", "") for route in routes}


@pytest.mark.parametrize("path", PATHS)
def test_no_request_is_a_fault_of_the_server(running: Running, path: str) -> None:
    """The long run of this is `tests/benchmarks/serving.py`."""
    host = running.url.removesuffix("/v1")
    schema: Any = schemathesis.openapi.from_url(f"{host}/openapi.json")

    @given(case=schema[path]["POST"].as_strategy())
    @settings(max_examples=10, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    def ask(case: Any) -> None:
        case.call_and_validate(checks=CHECKS)

    ask()
