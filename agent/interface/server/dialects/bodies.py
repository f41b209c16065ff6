"""What the bodies of all dialects share: how they are checked, and the fields that are Stepwell's own.

A field is honoured, or it is refused. Fields that ask for nothing of the answer (who the user is, what is to be stored
elsewhere) may be given and say nothing; each dialect lists its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from agent.interface.server.core import AnswerForm, Asked, Content, Effort, Event, Progress, Refused, Result
from agent.recipes.files import refuse_code
from agent.recipes.recipe import Component, parse_component
from agent.search.budget import Budget
from envs.core import Role, Turn
from envs.messages import UsageError, nearest, short
from envs.options import load_dataclass

LARGEST_SEED = 2**63 - 1
ALIVE = b": the search goes on\n\n"
"""What says in a stream that the search goes on: a comment, which clients do not read."""
_MOST_TOKENS = 2**31
_TELLING = {"literal_error", "union_tag_invalid"}  # errors that say what a part is, which others follow from
_SCHEMA = {"type", "properties", "required", "additionalProperties", "title", "description", "$schema"}

Body = TypeVar("Body", bound="SearchBody")
Nothing = Annotated[None, Field(description="Not taken: only null may be given.")]
Temperature = Annotated[float, Field(ge=0, le=2)]
Tokens = Annotated[int, Field(ge=1, le=_MOST_TOKENS, description="Most tokens that the policy may read and write.")]
Tools = Annotated[list[dict[str, JsonValue]], Field(description="With tools, the policy's server answers.")]
Name = Annotated[str, Field(max_length=256)]
Told = Annotated[JsonValue, Field(description="Taken, and of no effect on the answer.")]


class Strict(BaseModel):
    """A part of a body: fields that are not known are refused."""

    model_config = ConfigDict(extra="forbid", strict=False, protected_namespaces=(), allow_inf_nan=False)


class BudgetBody(Strict):
    """What one search may spend; a limit that is left out is none."""

    samples: Annotated[float, Field(gt=0)] | None = None
    tokens: Annotated[int, Field(gt=0, le=_MOST_TOKENS)] | None = None
    flops: Annotated[float, Field(gt=0)] | None = None
    seconds: Annotated[float, Field(gt=0)] | None = None


class SearchBody(Strict):
    """The fields that are Stepwell's own, in every dialect."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    strategy: Annotated[
        str | dict[str, JsonValue] | None,
        Field(description="Instead of the model's: a name, 'beam branch=2', or an object with name and knobs."),
    ] = None
    budget: Annotated[
        float | BudgetBody | None, Field(description="Instead of the model's: samples, or an object of limits.")
    ] = None
    seed: Annotated[int, Field(ge=-LARGEST_SEED, le=LARGEST_SEED)] | None = None
    content: Annotated[Content, Field(description="What is said: the answer alone, or the solution.")] = "answer"
    deadline: Annotated[
        float | None, Field(gt=0, description="Seconds after which the best answer so far is said.")
    ] = None
    abstain_below: Annotated[float, Field(ge=0, le=1, description="Confidence below which no answer is said.")] = 0.0
    stream: bool | None = None


class OpenAIBody(SearchBody):
    """The fields that OpenAI's dialects share."""

    temperature: Temperature | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    tools: Tools | None = None
    tool_choice: str | dict[str, JsonValue] | None = None
    parallel_tool_calls: Told = None
    user: Told = None
    metadata: Told = None
    store: Told = None
    service_tier: Told = None
    safety_identifier: Told = None
    prompt_cache_key: Told = None
    prompt_cache_retention: Told = None


class Part(Strict):
    """A part of a turn that is read; other parts are not."""

    text: str


class Dialect(Protocol):
    """A dialect."""

    @property
    def path(self) -> str:
        """That requests are sent to."""
        ...

    @property
    def name(self) -> str:
        """In metrics."""
        ...

    @property
    def body(self) -> type[SearchBody]:
        """Of requests."""
        ...

    def example(self, question: str) -> dict[str, Any]:
        """What a body needs besides a model."""
        ...

    def read(self, body: Any) -> Asked:
        """What a body asks for; raises `Refused`."""
        ...

    def reply(self, id: str, created: int, body: Any, results: Sequence[Result]) -> dict[str, Any]:
        """A reply that is not streamed."""
        ...

    def stream(self, id: str, created: int, body: Any) -> Stream:
        """What writes a reply that is streamed."""
        ...

    def error(self, refused: Refused, id: str) -> dict[str, Any]:
        """The body of an error."""
        ...


class Stream(Protocol):
    """Writes one streamed reply: what each method returns is sent."""

    @property
    def alive(self) -> bytes:
        """What says that the search goes on."""
        ...

    def begin(self) -> bytes:
        """What comes first."""
        ...

    def progress(self, progress: Progress) -> bytes:
        """A line about the search."""
        ...

    def result(self, result: Result) -> bytes:
        """What a search found; after the last one comes the end."""
        ...

    def error(self, refused: Refused) -> bytes:
        """An error after the first byte."""
        ...


def write(stream: Stream, event: Event) -> bytes:
    """An event as a stream writes it."""
    match event:
        case Progress():
            return stream.progress(event)
        case Result():
            return stream.result(event)
        case _:
            return stream.error(event)


# ------------------------------------------------------------------------------------------------------------ checking


def parse(kind: type[Body], raw: Mapping[str, Any]) -> Body:
    """A body, checked.

    Raises:
        Refused: naming the field, what was given, what is allowed and the nearest match.
    """
    try:
        return kind.model_validate(raw)
    except ValidationError as failure:
        # of the alternatives of a union the one that got furthest tells most
        errors = failure.errors(include_url=False)
        raise _refusal(kind, max(errors, key=lambda each: (len(each["loc"]), each["type"] in _TELLING))) from None


def _refusal(kind: type[BaseModel], error: Mapping[str, Any]) -> Refused:
    path = [str(part) for part in error["loc"] if not _is_alternative(part)]
    where = ".".join(path)[:200] or "the body"
    if error["type"] == "extra_forbidden":
        known = list(kind.model_fields) if len(path) == 1 else []
        allowed = f"; allowed: {', '.join(known)}" if known else ""
        return Refused(400, f"unknown field {short(where)}{nearest(path[-1], known) or allowed}", where)
    if error["type"] == "missing":
        return Refused(400, f"field {where} is missing", where)
    if error["type"] == "union_tag_invalid":
        tag, tags = error["ctx"]["tag"], error["ctx"]["expected_tags"]
        return Refused(400, f"field {where}: type {short(tag)} given; allowed: {tags}", where)
    message = str(error["msg"]).replace("Input should be", "expected").replace("Input ", "it ")
    given = "" if isinstance(error["input"], dict | list) else f"{short(error['input'])} given; "
    return Refused(400, f"field {where}: {given}{message}", where)


def _is_alternative(part: object) -> bool:
    """Whether a part of an error's place names one of a union's alternatives, and no field."""
    return isinstance(part, str) and (part[:1].isupper() or "[" in part or part in ("str", "float", "int", "bool"))


def strategy_of(given: str | Mapping[str, Any] | None) -> Component | None:
    """The strategy that a body names; raises `Refused` for what is none, or would run code."""
    if given is None:
        return None
    try:
        chosen = parse_component(given) if isinstance(given, str) else Component.from_config(given, "strategy")
        refuse_code({"strategy": chosen.to_config()}, "the request", "it to the server as an installed plug-in")
    except UsageError as error:
        raise Refused(400, str(error), "strategy") from None
    return chosen


def budget_of(given: float | BudgetBody | None) -> Budget | None:
    """The budget that a body gives."""
    if given is None:
        return None
    limits = {"samples": given} if isinstance(given, int | float) else given.model_dump(exclude_none=True)
    if not limits:
        raise Refused(400, "an empty budget; expected samples, tokens, flops or seconds", "budget")
    try:
        return load_dataclass(Budget, limits, "budget")
    except UsageError as error:
        raise Refused(400, str(error), "budget") from None


def form_of(given: Mapping[str, Any] | None, where: str) -> AnswerForm | None:
    """What an answer is put into: ``json_object``, or ``json_schema`` of an object with one simple property.

    Raises:
        Refused: the schema is one that an answer cannot be put into.
    """
    kind = None if given is None else given.get("type")
    if given is None or kind == "text":
        return None
    if kind == "json_object":
        return AnswerForm()
    if kind != "json_schema":
        raise Refused(400, f"{where}: type {short(kind)} given; allowed: text, json_object, json_schema", where)
    inner = given.get("json_schema", given)
    schema = inner.get("schema") if isinstance(inner, Mapping) else None
    if not isinstance(schema, Mapping) or schema.get("type") != "object":
        raise Refused(400, f"{where}: a schema of an object is needed", where)
    properties = schema.get("properties")
    keys = list(properties) if isinstance(properties, Mapping) else []
    if isinstance(properties, Mapping) and (len(keys) == 1 or "answer" in keys):
        key = keys[0] if len(keys) == 1 else "answer"
        value, required = properties[key], schema.get("required", [])
        kind = value.get("type", "string") if isinstance(value, Mapping) else None
        plain = isinstance(value, Mapping) and set(value) <= {"type", "title", "description"}
        least = isinstance(required, list) and all(each == key for each in required)
        rest = set(schema) <= _SCHEMA
        if plain and least and rest and kind in ("string", "number", "integer", "boolean"):
            return AnswerForm(str(key), cast(Literal["string", "number", "integer", "boolean"], kind))
    raise Refused(
        400,
        f"{where}: an answer can only be put into an object with one required property that is a string, a number, an"
        " integer or a boolean; it is called 'answer' where there are others",
        where,
    )


def turn_of(role: Role | Literal["developer"], content: str | Sequence[Strict]) -> tuple[Role, str]:
    """A turn with all its text; a developer speaks as the system does."""
    text = content if isinstance(content, str) else "".join(part.text for part in content if isinstance(part, Part))
    return "system" if role == "developer" else role, text


def turns_of(turns: Sequence[tuple[Role, str]], where: str) -> tuple[str, tuple[Turn, ...]]:
    """The question of a conversation, which is its last turn, and the turns before it; raises `Refused`."""
    if not turns or turns[-1][0] != "user":
        raise Refused(400, f"{where}: the last turn must be the user's: it is the problem", where)
    if not turns[-1][1].strip():
        raise Refused(400, f"{where}: the last turn is empty", where)
    return turns[-1][1], tuple(Turn(role, text) for role, text in turns[:-1])


def asked_of(
    body: SearchBody,
    turns: Sequence[tuple[Role, str]],
    where: str,
    tokens: Sequence[int | None],
    *,
    temperature: float | None,
    effort: Effort | None,
    form: AnswerForm | None,
    choices: int = 1,
    stop: Sequence[str] = (),
) -> Asked:
    """What a body asks for.

    Args:
        body: with the fields that are Stepwell's own.
        turns: of the conversation.
        where: the turns stand in the body.
        tokens: most tokens, under all names that the dialect has for them; the least counts.
        temperature: of the samples.
        effort: how much of the model's budget to spend.
        form: what the answer is put into.
        choices: searches.
        stop: texts before which the content ends.

    Raises:
        Refused: there is no question, or a field is wrong.
    """
    question, conversation = turns_of(turns, where)
    return Asked(
        body.model,
        question,
        conversation,
        strategy_of(body.strategy),
        budget_of(body.budget),
        effort,
        min((each for each in tokens if each is not None), default=None),
        temperature,
        body.seed,
        choices,
        tuple(stop),
        form,
        body.content,
        body.deadline,
        body.abstain_below,
    )


def not_taken(body: BaseModel, neutral: Mapping[str, Callable[[Any], bool]], why: str) -> None:
    """Refuse fields whose value asks for what a search has not.

    Args:
        body: as it was given.
        neutral: of each field, whether a value asks for nothing.
        why: in the error.
    """
    for name, holds in neutral.items():
        value = getattr(body, name)
        if value is not None and not holds(value):
            raise Refused(400, f"{name}={short(value)} given; {why}: leave it out", name)


# ------------------------------------------------------------------------------------------------------------- writing


def json_bytes(value: object) -> bytes:
    """Compact JSON in ASCII: nothing that a model wrote is raw on a terminal. Half a surrogate pair becomes '?'."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:  # not a number, of a model
        return json.dumps(_finite(value), separators=(",", ":")).encode()


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def sse(data: object, event: str | None = None) -> bytes:
    """A server-sent event."""
    head = f"event: {event}\n".encode() if event else b""
    return head + b"data: " + json_bytes(data) + b"\n\n"


def about(results: Sequence[Result]) -> dict[str, Any]:
    """The ``stepwell`` field."""
    return {"searches": [dict(result.about) for result in results]}


def openai_error(refused: Refused) -> dict[str, Any]:
    """An error as OpenAI's clients read it."""
    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    kind = kinds.get(refused.status, "invalid_request_error" if refused.status < 500 else "server_error")
    codes = {401: "invalid_api_key", 429: "rate_limit_exceeded"}
    code = "model_not_found" if (refused.status, refused.param) == (404, "model") else codes.get(refused.status)
    return {"error": {"message": refused.message, "type": kind, "param": refused.param, "code": code}}
