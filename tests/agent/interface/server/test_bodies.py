"""What a request may say: honoured, or refused by name; and the statuses of what is no request at all."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.interface.server.core import AnswerForm, Refused
from agent.interface.server.dialects.bodies import form_of, json_bytes, parse
from agent.interface.server.dialects.chat import Chat, ChatBody
from agent.interface.server.keys import Account, Keyring, read_keys
from agent.interface.server.limits import ServerLimits, allowed_budget, scaled_budget
from agent.search.budget import Budget
from envs.messages import UsageError
from tests.agent.interface.server.serving import CLIENT, QUESTION, Running, serving

KEY = "0123456789abcdef"


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with serving(ServerLimits(grace=5.0, body=20_000, question=1000, turns=3, headers=4096, upload=0.5)) as made:
        yield made


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temprature": 1}, "unknown field 'temprature'; did you mean 'temperature'?"),
        ({"messages": []}, "field messages"),
        ({"messages": [{"role": "robot", "content": ""}]}, "'robot' given; expected 'system', 'developer', 'user' or"),
        ({"messages": [{"role": "user", "content": " "}]}, "the last turn is empty"),
        ({"messages": [{"role": "assistant", "content": "Hi"}]}, "the last turn must be the user's"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "expected 'text'"),
        ({"messages": [{"role": "user", "content": "?" * 1001}]}, "1,001 characters given; at most 1,000"),
        ({"messages": [{"role": "user", "content": "Hi"}] * 4}, "4 turns given; at most 3"),
        ({"model": ""}, "field model"),
        ({"temperature": -1}, "field temperature"),
        ({"temperature": 1, "model": "stepwell/greedy"}, "strategy greedy takes no temperature"),
        ({"top_p": 0.5}, "top_p=0.5 given; it is the policy's"),
        ({"logprobs": True}, "logprobs=True given"),
        ({"n": 9}, "n=9 given; at most 8"),
        ({"strategy": "beem"}, "did you mean 'beam'?"),
        ({"strategy": "beam branchs=2"}, "did you mean 'branch'?"),
        ({"strategy": {"name": "beam", "branch": 1_000_000}}, "branch=1000000; at most 4096"),
        ({"strategy": "os:system"}, "which runs code"),
        ({"strategy": "/tmp/evil.py"}, "which runs code"),
        ({"strategy": {"nom": "beam"}}, "expected a name"),
        ({"budget": 0}, "budget"),
        ({"budget": {}}, "an empty budget"),
        ({"budget": {"sample": 1}}, "unknown field 'budget.sample'"),
        ({"budget": 257}, "a budget of samples=257 given; at most 256"),
        ({"model": "stepwell/beam-100000"}, "a budget of samples=100000 given; at most 256"),
        ({"model": "stepwell/beam-0"}, "a budget of 0 samples"),
        ({"budget": 4, "reasoning_effort": "low"}, "both a budget and an effort"),
        ({"reasoning_effort": "some"}, "'some' given"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "array"}}}}, "of an object"),
        ({"tools": [{"type": "function"}]}, "policy scripted takes no tools"),
        ({"seed": 2**64}, "field seed"),
        ({"stop": ["a"] * 5}, "field stop"),
        ({"deadline": 0}, "field deadline"),
    ],
)
def test_what_is_not_honoured_is_refused_by_name(running: Running, fields: dict[str, Any], message: str) -> None:
    reply = running.post(**fields)
    assert reply.status_code in (400, 404)
    assert message in reply.json()["error"]["message"]


def test_what_is_no_request_has_a_status_of_its_own(running: Running) -> None:
    path, kind = running.url + "/chat/completions", {"content-type": "application/json"}

    def status(content: bytes, headers: dict[str, str] = kind) -> int:
        return CLIENT.post(path, content=content, headers=headers).status_code

    assert status(b"{") == 400
    assert status(b"[1]") == 400
    assert status(b"[" * 9000) == 400
    assert status(b'{"model": NaN}') == 400
    assert status(b'{"model": "\\ud800", "messages": []}') == 400
    assert status(b"\xff\xfe") == 400
    assert status(b"{}", {"content-type": "text/plain"}) == 415
    assert status(b"{}", kind | {"content-encoding": "gzip"}) == 415
    assert status(b" " * 20_001) == 413
    assert CLIENT.get(path).status_code == 405
    assert CLIENT.get(running.url + "/nothing").json()["error"]["message"] == "there is no such path"
    assert status(b"{}", kind | {"x": "y" * 8000}) == 431


def test_only_requests_that_are_addressed_to_this_machine_are_answered(running: Running) -> None:
    for host, status in (("localhost", 200), (f"127.0.0.1:{running.port}", 200), ("evil.example", 400)):
        assert CLIENT.get(running.url + "/models", headers={"host": host}).status_code == status


def test_a_body_in_chunks_is_bounded_too_and_a_slow_one_is_not_waited_for(running: Running) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(30):
            yield b" " * 1000

    path, kind = running.url + "/chat/completions", {"content-type": "application/json"}
    assert CLIENT.post(path, content=chunks(), headers=kind).status_code == 413
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", running.port)) as made:
        made.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n")
        made.sendall(b"content-length: 100\r\n\r\n{")
        assert made.recv(65536).startswith(b"HTTP/1.1 408")
    assert time.monotonic() - began < 5


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=9), inner, max_size=2),
        max_leaves=4,
    ),
    st.sampled_from(sorted(ChatBody.model_fields)),
)
def test_any_value_of_any_field_is_read_or_refused(value: Any, field: str) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": QUESTION}]} | {field: value}
    try:
        Chat().read(parse(ChatBody, body))
    except Refused as refused:
        json_bytes(Chat().error(refused, "0"))


def test_answers_are_put_into_objects_of_one_property() -> None:
    assert AnswerForm("a", "integer").fill(" 12 ") == {"a": 12}
    assert AnswerForm("a", "integer").fill("1.5") is None
    assert AnswerForm("a", "number").fill("3/4") == {"a": 0.75}
    assert AnswerForm("a", "number").fill("1e999999999") is None
    assert AnswerForm("a", "number").fill("1.5e-3") == {"a": 0.0015}
    assert AnswerForm("a", "number").fill("1/0") is None
    assert AnswerForm("a", "boolean").fill("Yes") == {"a": True}
    assert AnswerForm("a", "boolean").fill("2") is None
    assert AnswerForm().fill("\u2028") == {"answer": "\u2028"}
    two = {"type": "object", "properties": {"answer": {"type": "number"}, "why": {"type": "string"}}}
    assert form_of({"type": "json_schema", "json_schema": {"schema": two}}, "f") == AnswerForm("answer", "number")
    for schema in (
        two | {"required": ["answer", "why"]},
        {"type": "object", "properties": {"a": {"type": "string", "pattern": "x"}}},
        {"type": "object", "properties": {"a": {"type": "array"}}},
        {"type": "object", "properties": {}},
        {"type": "object", "properties": {"a": {}}, "minProperties": 2},
    ):
        with pytest.raises(Refused):
            form_of({"type": "json_schema", "json_schema": {"schema": schema}}, "f")


def test_nothing_raw_and_nothing_that_is_no_number_is_written() -> None:
    written = json_bytes({"a": "\x1b[31m\u202e\ud800", "b": [float("nan"), float("inf")]})
    assert written.isascii()
    assert b"\x1b" not in written
    assert json.loads(written)["b"] == [None, None]


# ------------------------------------------------------------------------------------------------------------ budgets


def test_caps_hold_for_what_is_asked_and_cut_what_an_effort_makes() -> None:
    caps = (Budget(samples=64), Budget(flops=1e9))
    assert allowed_budget(Budget(samples=8), caps) == Budget(samples=8, flops=1e9)
    with pytest.raises(Refused, match="samples=65 given; at most 64"):
        allowed_budget(Budget(samples=65), caps)
    budget, notes = scaled_budget(Budget(samples=32), "high", caps[:1])
    assert budget == Budget(samples=64)
    assert notes == ["the budget was cut to what is allowed: 64"]
    assert scaled_budget(Budget(samples=2), "none", ()) == (Budget(samples=1), [])


# --------------------------------------------------------------------------------------------------------------- keys


def test_a_key_is_needed_where_there_are_keys() -> None:
    with serving(keys=Keyring({KEY: Account("ada")})) as running:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {KEY}"}, {"x-api-key": "x"}):
            reply = CLIENT.post(running.url + "/chat/completions", json={}, headers=headers)
            assert reply.status_code == 401
            assert reply.json()["error"]["code"] == "invalid_api_key"
        for headers in ({"authorization": f"Bearer {KEY}"}, {"x-api-key": KEY}):
            assert CLIENT.post(running.url + "/chat/completions", json={}, headers=headers).status_code == 400
        assert CLIENT.get(running.url + "/models").status_code == 401
        assert CLIENT.get(running.url.removesuffix("/v1") + "/metrics").status_code == 401
        assert CLIENT.get(running.url.removesuffix("/v1") + "/health").status_code == 200


def test_what_a_key_may_spend_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    account = Account("ada", Budget(samples=4), Budget(samples=6), concurrent=2)
    headers = {"authorization": f"Bearer {KEY}"}
    with serving(keys=Keyring({KEY: account})) as running:
        body = {"model": "stepwell/best-of-n-4", "messages": [{"role": "user", "content": QUESTION}]}
        path = running.url + "/chat/completions"
        assert "at most 4" in CLIENT.post(path, json=body | {"budget": 5}, headers=headers).text
        assert "2 may be" in CLIENT.post(path, json=body | {"n": 3}, headers=headers).text
        assert CLIENT.post(path, json=body, headers=headers).status_code == 200
        assert CLIENT.post(path, json=body, headers=headers).status_code == 200
        spent = CLIENT.post(path, json=body, headers=headers)
        assert spent.status_code == 429
        assert "the samples of this key for today are spent (6)" in spent.text
        assert 0 < int(spent.headers["retry-after"]) <= 86_400
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 86_400)
        assert CLIENT.post(path, json=body, headers=headers).status_code == 200
        assert account.open == 0


def test_keys_are_read_from_a_file_and_shown_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text(
        f"ada: {{key: {KEY}, budget: {{samples: 4}}, daily: {{tokens: 9}}, concurrent: 2}}\nbob: {{key: {KEY}x}}"
    )
    file.chmod(0o600)
    keys = read_keys(file)
    assert keys.find({"x-api-key": KEY + "x"}).name == "bob"
    ada = keys.find({"authorization": f"Bearer {KEY}"})
    assert (ada.name, ada.budget, ada.daily, ada.concurrent) == ("ada", Budget(samples=4), Budget(tokens=9), 2)
    assert KEY not in repr(vars(keys))
    for content, message in (
        ("", "has no keys"),
        ("ada: 1", "'?ada'? has no key"),
        ("ada: {key: short}", "at least 16 printable"),
        (f"ada: {{key: {KEY}}}\nbob: {{key: {KEY}}}", "have the same key"),
        (f"ada: {{key: {KEY}, budgt: 1}}", "did you mean 'budget'"),
        (f"ada: {{key: {KEY}: }}", "is no YAML"),
    ):
        file.write_text(content)
        with pytest.raises(UsageError, match=message) as caught:
            read_keys(file)
        assert KEY not in str(caught.value)
    with pytest.raises(UsageError, match="No such file"):
        read_keys(tmp_path / "nothing")
