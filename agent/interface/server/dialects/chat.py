"""``/v1/chat/completions``: OpenAI's chat completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue

from agent.interface.server.core import Asked, Effort, Progress, Refused, Result, Usage
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


class TextPart(Part):
    """A part of a message; texts alone are read."""

    type: Literal["text"]


class Message(Strict):
    """A message of a conversation.

    What an earlier reply held besides its content (reasoning, refusal, annotations) may be sent back; it is not read.
    """

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: Nothing = None
    refusal: Told = None
    annotations: Told = None
    reasoning: Told = None
    reasoning_content: Told = None
    audio: Nothing = None
    function_call: Nothing = None
    tool_calls: Annotated[list[Nothing], Field(max_length=0)] | None = None


class StreamOptions(Strict):
    """How a reply is streamed."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ResponseFormat(Strict):
    """What the answer is put into."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, JsonValue] | None = None


class ChatBody(OpenAIBody):
    """A request."""

    messages: Annotated[list[Message], Field(min_length=1)]
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=1024)] | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    thinking_token_budget: Tokens | None = None
    reasoning_effort: Effort | None = None
    stop: (
        Annotated[str, Field(min_length=1, max_length=256)]
        | Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=4)]
        | None
    ) = None
    response_format: ResponseFormat | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    modalities: list[Name] | None = None


_NEUTRAL = {
    "top_p": lambda value: value == 1,
    "presence_penalty": lambda value: value == 0,
    "frequency_penalty": lambda value: value == 0,
    "logit_bias": lambda value: not value,
    "logprobs": lambda value: not value,
    "top_logprobs": lambda value: not value,
    "modalities": lambda value: value == ["text"],
}


class Chat:
    """The dialect."""

    path, name, body = "/v1/chat/completions", "chat", ChatBody

    def example(self, question: str) -> dict[str, Any]:
        """What a body needs besides a model."""
        return {"messages": [{"role": "user", "content": question}]}

    def read(self, body: ChatBody) -> Asked:
        """What a body asks for; raises `Refused`."""
        not_taken(body, _NEUTRAL, "it is the policy's, and is set when the server starts")
        form = body.response_format
        return asked_of(
            body,
            [turn_of(message.role, message.content) for message in body.messages],
            "messages",
            (body.max_tokens, body.max_completion_tokens, body.thinking_token_budget),
            temperature=body.temperature,
            effort=body.reasoning_effort,
            form=form_of(None if form is None else form.model_dump(exclude_none=True), "response_format"),
            choices=body.n or 1,
            stop=(body.stop,) if isinstance(body.stop, str) else body.stop or (),
        )

    def reply(self, id: str, created: int, body: ChatBody, results: Sequence[Result]) -> dict[str, Any]:
        """A reply that is not streamed."""
        return {
            "id": f"chatcmpl-{id}",
            "object": "chat.completion",
            "created": created,
            "model": body.model,
            "choices": [
                {
                    "index": result.index,
                    "message": {
                        "role": "assistant",
                        "content": None if result.refusal else result.content,
                        "refusal": result.refusal,
                        "reasoning_content": result.reasoning,
                        "reasoning": result.reasoning,
                    },
                    "logprobs": None,
                    "finish_reason": result.finish,
                }
                for result in results
            ],
            "usage": usage(results),
            "stepwell": about(results),
        }

    def stream(self, id: str, created: int, body: ChatBody) -> ChatStream:
        """What writes a reply that is streamed."""
        return ChatStream(id, created, body)

    def error(self, refused: Refused, id: str) -> dict[str, Any]:
        """The body of an error."""
        return openai_error(refused)


class ChatStream:
    """Writes chunks."""

    alive = ALIVE

    def __init__(self, id: str, created: int, body: ChatBody) -> None:
        self._head = {
            "id": f"chatcmpl-{id}",
            "object": "chat.completion.chunk",
            "created": created,
            "model": body.model,
        }
        self._counted = bool(body.stream_options and body.stream_options.include_usage)
        self._choices = body.n or 1
        self._results: list[Result] = []

    def begin(self) -> bytes:
        """The role of each choice."""
        first = {"role": "assistant", "content": ""}
        return b"".join(self._delta(index, first) for index in range(self._choices))

    def progress(self, progress: Progress) -> bytes:
        """A line of reasoning, under both names in use."""
        return self._delta(progress.index, {"reasoning_content": progress.text, "reasoning": progress.text})

    def result(self, result: Result) -> bytes:
        """The content of a choice; after the last one what all of them cost."""
        self._results.append(result)
        said = {"refusal": result.refusal} if result.refusal else {"content": result.content}
        written = self._delta(result.index, said)
        if len(self._results) < self._choices:
            return written + self._delta(result.index, {}, result.finish)
        self._results.sort(key=lambda each: each.index)
        extra = {"stepwell": about(self._results)}
        written += self._delta(result.index, {}, result.finish, extra)
        if self._counted:
            written += sse({**self._head, "choices": [], "usage": usage(self._results)})
        return written + b"data: [DONE]\n\n"

    def error(self, refused: Refused) -> bytes:
        """An error, as OpenAI's clients read it in a stream."""
        return sse(openai_error(refused)) + b"data: [DONE]\n\n"

    def _delta(
        self, index: int, delta: dict[str, Any], finish: str | None = None, extra: dict[str, Any] | None = None
    ) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        counted = {"usage": None} if self._counted else {}
        return sse({**self._head, "choices": [choice], **counted, **(extra or {})})


def usage(results: Sequence[Result]) -> dict[str, Any]:
    """All that was spent, once: details are parts of the sums."""
    total = sum((result.usage for result in results), Usage())
    return {
        "prompt_tokens": total.read,
        "completion_tokens": total.written,
        "total_tokens": total.read + total.written,
        "prompt_tokens_details": {"cached_tokens": 0, "verifier_tokens": total.verifier},
        "completion_tokens_details": {"reasoning_tokens": total.written - total.content},
    }
