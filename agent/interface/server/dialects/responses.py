"""``/v1/responses``: OpenAI's responses, without a memory: every request brings its whole conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue

from agent.interface.server.core import Asked, Effort, Progress, Refused, Result
from agent.interface.server.dialects.bodies import (
    ALIVE,
    Name,
    Nothing,
    OpenAIBody,
    Part,
    Strict,
    Tokens,
    Told,
    about,
    asked_of,
    form_of,
    not_taken,
    openai_error,
    sse,
    turn_of,
)
from envs.core import Role


class TextPart(Part):
    """A text."""

    type: Literal["input_text", "output_text", "text"]
    annotations: Told = None
    logprobs: Told = None


class MessageItem(Strict):
    """A turn."""

    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[TextPart]
    type: Literal["message"] = "message"
    id: Told = None
    status: Told = None
    phase: Told = None


class ReasoningItem(Strict):
    """What an earlier reply told of its search; it is not read."""

    type: Literal["reasoning"]
    id: Told = None
    summary: Told = None
    content: Told = None
    encrypted_content: Told = None
    status: Told = None


class Reasoning(Strict):
    """How much is spent."""

    effort: Effort | None = None
    summary: Told = None
    generate_summary: Told = None


class TextConfig(Strict):
    """What the answer is put into."""

    format: dict[str, JsonValue] | None = None
    verbosity: Literal["medium"] | None = None


class StreamOptions(Strict):
    """How a reply is streamed."""

    include_obfuscation: bool | None = None


class ResponsesBody(OpenAIBody):
    """A request."""

    input: str | Annotated[list[MessageItem | ReasoningItem], Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Tokens | None = None
    reasoning: Reasoning | None = None
    text: TextConfig | None = None
    stream_options: StreamOptions | None = None
    truncation: Literal["disabled"] | None = None
    background: bool | None = None
    previous_response_id: Nothing = None
    conversation: Nothing = None
    prompt: Nothing = None
    max_tool_calls: Told = None
    include: list[Name] | None = None
    client_metadata: Told = None


_NEUTRAL = {
    "top_p": lambda value: value == 1,
    "top_logprobs": lambda value: not value,
    "background": lambda value: not value,
    "include": lambda value: set(value) <= {"reasoning.encrypted_content"},
}


class Responses:
    """The dialect."""

    path, name, body = "/v1/responses", "responses", ResponsesBody

    def example(self, question: str) -> dict[str, Any]:
        """What a body needs besides a model."""
        return {"input": question}

    def read(self, body: ResponsesBody) -> Asked:
        """What a body asks for; raises `Refused`."""
        not_taken(body, _NEUTRAL, "it is not done here")
        turns: list[tuple[Role, str]] = [("system", body.instructions)] if body.instructions else []
        if isinstance(body.input, str):
            turns.append(("user", body.input))
        else:
            turns += [turn_of(item.role, item.content) for item in body.input if isinstance(item, MessageItem)]
        return asked_of(
            body,
            turns,
            "input",
            (body.max_output_tokens,),
            temperature=body.temperature,
            effort=None if body.reasoning is None else body.reasoning.effort,
            form=form_of(None if body.text is None else body.text.format, "text.format"),
        )

    def reply(self, id: str, created: int, body: ResponsesBody, results: Sequence[Result]) -> dict[str, Any]:
        """A reply that is not streamed."""
        (result,) = results
        return _response(id, created, body, "completed", _output(id, result), result)

    def stream(self, id: str, created: int, body: ResponsesBody) -> ResponsesStream:
        """What writes a reply that is streamed."""
        return ResponsesStream(id, created, body)

    def error(self, refused: Refused, id: str) -> dict[str, Any]:
        """The body of an error."""
        return openai_error(refused)


class ResponsesStream:
    """Writes events, which are numbered."""

    alive = ALIVE

    def __init__(self, id: str, created: int, body: ResponsesBody) -> None:
        self._id, self._created, self._body = id, created, body
        self._number = 0
        self._thought = ""

    def begin(self) -> bytes:
        """The response, which is empty yet, and the item that progress goes into."""
        response = _response(self._id, self._created, self._body, "in_progress", [])
        part = {"type": "summary_text", "text": ""}
        return (
            self._event("response.created", response=response)
            + self._event("response.in_progress", response=response)
            + self._event("response.output_item.added", output_index=0, item=_reasoning(self._id, None))
            + self._event("response.reasoning_summary_part.added", **self._summary, part=part)
        )

    def progress(self, progress: Progress) -> bytes:
        """A line of reasoning."""
        self._thought += progress.text
        return self._event("response.reasoning_summary_text.delta", **self._summary, delta=progress.text)

    def result(self, result: Result) -> bytes:
        """The text, and the whole response."""
        output = _output(self._id, result, self._thought)
        message = output[1]
        part = message["content"][0]
        kind, key = ("output_text", "text") if part["type"] == "output_text" else ("refusal", "refusal")
        empty, place = {**part, key: ""}, {"item_id": message["id"], "output_index": 1, "content_index": 0}
        logprobs: dict[str, Any] = {"logprobs": []} if key == "text" else {}
        begun = {**message, "status": "in_progress", "content": []}
        summary = {"type": "summary_text", "text": self._thought}
        response = _response(self._id, self._created, self._body, "completed", output, result)
        last = "response.incomplete" if response["status"] == "incomplete" else "response.completed"
        return (
            self._event("response.reasoning_summary_text.done", **self._summary, text=self._thought)
            + self._event("response.reasoning_summary_part.done", **self._summary, part=summary)
            + self._event("response.output_item.done", output_index=0, item=output[0])
            + self._event("response.output_item.added", output_index=1, item=begun)
            + self._event("response.content_part.added", **place, part=empty)
            + self._event(f"response.{kind}.delta", **place, delta=part[key], **logprobs)
            + self._event(f"response.{kind}.done", **place, **{key: part[key]}, **logprobs)
            + self._event("response.content_part.done", **place, part=part)
            + self._event("response.output_item.done", output_index=1, item=message)
            + self._event(last, response=response)
        )

    def error(self, refused: Refused) -> bytes:
        """A response that failed, which is the last event."""
        response = _response(self._id, self._created, self._body, "failed", [])
        code = "rate_limit_exceeded" if refused.status == 429 else "server_error"
        response["error"] = {"code": code, "message": refused.message}
        return self._event("response.failed", response=response)

    @property
    def _summary(self) -> dict[str, Any]:
        return {"item_id": f"rs_{self._id}", "output_index": 0, "summary_index": 0}

    def _event(self, kind: str, **fields: Any) -> bytes:
        written = sse({"type": kind, "sequence_number": self._number, **fields}, kind)
        self._number += 1
        return written


def _reasoning(id: str, text: str | None) -> dict[str, Any]:
    summary = [] if text is None else [{"type": "summary_text", "text": text}]
    return {"id": f"rs_{id}", "type": "reasoning", "summary": summary}


def _output(id: str, result: Result, thought: str | None = None) -> list[dict[str, Any]]:
    """The item of progress, and that of the answer."""
    part: dict[str, Any] = {"type": "output_text", "text": result.content, "annotations": [], "logprobs": []}
    if result.refusal:
        part = {"type": "refusal", "refusal": result.refusal}
    status = "incomplete" if result.finish == "length" else "completed"
    message = {"id": f"msg_{id}", "type": "message", "status": status, "role": "assistant", "content": [part]}
    return [_reasoning(id, result.reasoning if thought is None else thought), message]


def _response(
    id: str, created: int, body: ResponsesBody, status: str, output: list[dict[str, Any]], result: Result | None = None
) -> dict[str, Any]:
    limited = result is not None and result.finish == "length"
    usage = None
    if result is not None:
        spent = result.usage
        usage = {
            "input_tokens": spent.read,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0, "verifier_tokens": spent.verifier},
            "output_tokens": spent.written,
            "output_tokens_details": {"reasoning_tokens": spent.written - spent.content},
            "total_tokens": spent.read + spent.written,
        }
    return {
        "id": f"resp_{id}",
        "object": "response",
        "created_at": created,
        "status": "incomplete" if limited else status,
        "background": False,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if limited else None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "model": body.model,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None if body.reasoning is None else body.reasoning.effort, "summary": None},
        "store": False,
        "temperature": body.temperature,
        "text": {"format": (None if body.text is None else body.text.format) or {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": usage,
        "metadata": {},
        **({} if result is None else {"stepwell": about([result])}),
    }
