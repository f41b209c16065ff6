"""``/v1/messages``: Anthropic's messages.

Progress is written as thinking, where thinking is asked for; otherwise pings alone say that the search goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue

from agent.interface.server.core import Asked, Effort, Progress, Refused, Result
from agent.interface.server.dialects.bodies import (
    Name,
    Part,
    SearchBody,
    Strict,
    Tokens,
    Told,
    Tools,
    about,
    asked_of,
    form_of,
    not_taken,
    sse,
    turn_of,
)
from envs.core import Role


class TextBlock(Part):
    """A text."""

    type: Literal["text"]
    cache_control: Told = None
    citations: Told = None


class ThinkingBlock(Strict):
    """What an earlier reply told of its search; it is not read."""

    type: Literal["thinking", "redacted_thinking"]
    thinking: str = ""
    signature: str = ""
    data: str = ""


class Message(Strict):
    """A turn."""

    role: Literal["user", "assistant"]
    content: str | list[Annotated[TextBlock | ThinkingBlock, Field(discriminator="type")]]


class Thinking(Strict):
    """Whether progress is shown as thinking, and the most tokens."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Tokens | None = None
    display: Name | None = None


class OutputConfig(Strict):
    """How much is spent, and what the answer is put into."""

    effort: Effort | None = None
    format: dict[str, JsonValue] | None = None


class MessagesBody(SearchBody):
    """A request."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_tokens: Tokens | None = None
    system: str | list[TextBlock] | None = None
    stop_sequences: Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]] | None, Field(max_length=4)] = (
        None
    )
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    top_k: int | None = None
    top_p: float | None = None
    tools: Tools | None = None
    tool_choice: dict[str, JsonValue] | None = None
    metadata: Told = None
    service_tier: Told = None
    cache_control: Told = None
    inference_geo: Told = None

    @property
    def thinks(self) -> bool:
        """Whether progress is shown."""
        return self.thinking is not None and self.thinking.type != "disabled"


_NEUTRAL = {"top_p": lambda value: value == 1, "top_k": lambda value: value == 0}


class Messages:
    """The dialect."""

    path, name, body = "/v1/messages", "messages", MessagesBody

    def example(self, question: str) -> dict[str, Any]:
        """What a body needs besides a model."""
        return {"messages": [{"role": "user", "content": question}], "max_tokens": 4096}

    def read(self, body: MessagesBody) -> Asked:
        """What a body asks for; raises `Refused`."""
        not_taken(body, _NEUTRAL, "it is the policy's, and is set when the server starts")
        system = body.system if isinstance(body.system, str) else "\n\n".join(each.text for each in body.system or ())
        turns: list[tuple[Role, str]] = [("system", system)] if system else []
        turns += [turn_of(message.role, message.content) for message in body.messages]
        output = body.output_config or OutputConfig()
        return asked_of(
            body,
            turns,
            "messages",
            (body.max_tokens, None if body.thinking is None else body.thinking.budget_tokens),
            temperature=body.temperature,
            effort=output.effort,
            form=form_of(output.format, "output_config.format"),
            stop=body.stop_sequences or (),
        )

    def reply(self, id: str, created: int, body: MessagesBody, results: Sequence[Result]) -> dict[str, Any]:
        """A reply that is not streamed."""
        (result,) = results
        thought = [{"type": "thinking", "thinking": result.reasoning, "signature": ""}] if body.thinks else []
        return {
            **_message(id, body),
            "content": [*thought, {"type": "text", "text": result.refusal or result.content}],
            **_end(result),
            "usage": _usage(result),
            "stepwell": about(results),
        }

    def stream(self, id: str, created: int, body: MessagesBody) -> MessagesStream:
        """What writes a reply that is streamed."""
        return MessagesStream(id, body)

    def error(self, refused: Refused, id: str) -> dict[str, Any]:
        """The body of an error."""
        return {**_error(refused), "request_id": f"req_{id}"}


class MessagesStream:
    """Writes events."""

    alive = sse({"type": "ping"}, "ping")

    def __init__(self, id: str, body: MessagesBody) -> None:
        self._id, self._body = id, body
        self._index = 0

    def begin(self) -> bytes:
        """The message, which is empty yet."""
        message = {
            **_message(self._id, self._body),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 0},
        }
        written = sse({"type": "message_start", "message": message}, "message_start")
        if self._body.thinks:
            written += self._start({"type": "thinking", "thinking": "", "signature": ""})
        return written

    def progress(self, progress: Progress) -> bytes:
        """A line of thinking, where that was asked for."""
        return self._delta({"type": "thinking_delta", "thinking": progress.text}) if self._body.thinks else b""

    def result(self, result: Result) -> bytes:
        """The text, and the end."""
        written = b""
        if self._body.thinks:
            written += self._delta({"type": "signature_delta", "signature": ""}) + self._stop()
        written += self._start({"type": "text", "text": ""})
        written += self._delta({"type": "text_delta", "text": result.refusal or result.content}) + self._stop()
        end = {"type": "message_delta", "delta": _end(result), "usage": _usage(result), "stepwell": about([result])}
        return written + sse(end, "message_delta") + sse({"type": "message_stop"}, "message_stop")

    def error(self, refused: Refused) -> bytes:
        """An error event, which is the last."""
        return sse(_error(refused), "error")

    def _start(self, block: dict[str, Any]) -> bytes:
        return sse({"type": "content_block_start", "index": self._index, "content_block": block}, "content_block_start")

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return sse({"type": "content_block_delta", "index": self._index, "delta": delta}, "content_block_delta")

    def _stop(self) -> bytes:
        written = sse({"type": "content_block_stop", "index": self._index}, "content_block_stop")
        self._index += 1
        return written


def _message(id: str, body: MessagesBody) -> dict[str, Any]:
    return {"id": f"msg_{id}", "type": "message", "role": "assistant", "model": body.model}


def _end(result: Result) -> dict[str, Any]:
    reason = "max_tokens" if result.finish == "length" else "end_turn"
    if result.refusal:
        reason = "refusal"
    return {"stop_reason": "stop_sequence" if result.cut else reason, "stop_sequence": result.cut}


def _usage(result: Result) -> dict[str, Any]:
    """All that was spent, once; what the verifier read is part of the input."""
    return {
        "input_tokens": result.usage.read,
        "output_tokens": result.usage.written,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "verifier_input_tokens": result.usage.verifier,
    }


def _error(refused: Refused) -> dict[str, Any]:
    kinds = {
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        503: "overloaded_error",
    }
    kind = kinds.get(refused.status, "invalid_request_error" if refused.status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": refused.message}}
