"""What the servers of language models have in common, the OpenAI protocol, and where each kind goes its own way.

==========  ==================================  ==============================  ===================================
kind        a stop string that was met          says what stopped it            goes on with the assistant's message
==========  ==================================  ==============================  ===================================
vllm        is kept when asked                  ``stop_reason``                 when asked
sglang      is kept when asked                  ``matched_stop``                when asked
llamacpp    is cut off                          no                              always (not with
                                                                                ``--no-prefill-assistant``)
ollama      is cut off                          no                              always, as the model's template allows
other       is cut off                          no                              unknown, so it is never asked to
==========  ==================================  ==============================  ===================================

Ollama puts every prompt into the model's template, so there is no going on from plain text, and it takes no token ids.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from envs.messages import nearest
from policies.servers.http_client import LARGEST, Call, Client, ServerRefused, ServerUnavailable, Unreadable
from policies.servers.refusals import printable

Prompt = str | Sequence[int] | Sequence[Mapping[str, str]]
"""Plain text, token ids, or the messages of a chat."""

_SEEDS = 2**31  # what every server takes
_MOST_TOKENS, _MOST_PARAMETERS = 2**31, 10**15  # what a server may say of a context and of a model; more is nonsense
_TEMPLATE = 8192  # tokens that a chat template may add to what it was given, its own system prompt included
_FRAME = 64 << 10  # bytes of a reply besides what was written
_TOKEN = 512  # bytes of a reply for a token on average: text, its escapes, its bytes and its log-probability
_BACK = 8  # bytes for a token of the prompt, which some servers send back
_SHOWN = 20  # names of models in an error

_ENDED = frozenset({"stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete", "completed"})
_BY_ITSELF = frozenset({"eos", "eos_token", "end_turn"})  # those that say that it was no stop string
_FULL = frozenset({"length", "max_tokens", "max_length", "max_output_tokens", "model_length"})


@dataclass(frozen=True)
class Kind:
    """A kind of server.

    Args:
        owner: what it calls the owner of its models, which tells it from the others.
        plain: fields that switch off what it would do to the sampling by itself or by the model's own defaults.
        top_k: whether it takes that field.
        keep_stop: fields that keep a stop string in the text.
        stopped_by: the field of a choice that holds the stop string that was met; empty if there is none.
        goes_on: fields that make it go on with the last message; None if it is not known to.
        raw: whether it takes a prompt that is not put into a template: text or token ids.
        template_options: whether a chat may say ``chat_template_kwargs``.
        stop_ids: whether it takes ``stop_token_ids``.
        thinking_budget: the field of a chat by which it bounds the thinking; empty if it has none.
    """

    owner: str = ""
    plain: Mapping[str, Any] = field(default_factory=dict)
    top_k: bool = False
    keep_stop: Mapping[str, Any] = field(default_factory=dict)
    stopped_by: str = ""
    goes_on: Mapping[str, Any] | None = None
    raw: bool = True
    template_options: bool = False
    stop_ids: bool = False
    thinking_budget: str = ""


_GO_ON = {"continue_final_message": True, "add_generation_prompt": False}
KINDS: Mapping[str, Kind] = {
    "vllm": Kind(
        "vllm",
        {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0},
        True,
        {"include_stop_str_in_output": True},
        "stop_reason",
        _GO_ON,
        template_options=True,
        stop_ids=True,
        thinking_budget="thinking_token_budget",
    ),
    "sglang": Kind(
        "sglang",
        {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0},
        True,
        {"no_stop_trim": True},
        "matched_stop",
        _GO_ON,
        template_options=True,
        stop_ids=True,
    ),
    "llamacpp": Kind(
        "llamacpp",
        {"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0},
        True,
        goes_on=_GO_ON,
        template_options=True,
        thinking_budget="thinking_budget_tokens",
    ),
    "ollama": Kind("library", goes_on={}, raw=False),
    "other": Kind(),
}


@dataclass(frozen=True)
class Model:
    """A model that a server has.

    Args:
        name: as the server calls it.
        kind: of the server.
        context: most tokens of a prompt and what follows it; None if the server does not say.
        parameters: of the model; 0 if the server does not say.
    """

    name: str
    kind: Kind
    context: int | None = None
    parameters: int = 0


def find_model(client: Client, name: str, kind: str = "auto", path: str = "/models") -> Model:
    """Look a model up at its server.

    Args:
        client: of the server.
        name: of the model; the only one there is if empty.
        kind: one of `KINDS`, or ``auto`` to tell it by what the server says of its models.
        path: where it lists them.

    Raises:
        ConnectionError: there is no answer.
        ValueError: the server has no such model, or there is no such kind.
    """
    if kind not in (*KINDS, "auto"):
        raise ValueError(f"server {kind!r}{nearest(kind, KINDS) or ';'} allowed: auto, {', '.join(KINDS)}")
    listed = client.get(path)
    try:
        entries = [each for each in _list(listed, "data") if isinstance(each, Mapping) and isinstance(each["id"], str)]
    except (Unreadable, KeyError) as error:
        raise ValueError(f"{client.base_url}{path} is no list of models: {error}") from None
    names: dict[str, Any] = {entry["id"]: entry for entry in entries}
    entry = names.get(name) or names.get(f"{name}:latest")
    if entry is None and not name and len(names) == 1:
        (entry,) = names.values()
    if entry is None:
        asked = f"{client.base_url} has no model {name!r}" if name else "which model?"
        raise ValueError(f"{asked}{_others(client, names, name)}")
    if kind == "auto":
        owner = entry.get("owned_by")
        kind = next((each for each, known in KINDS.items() if known.owner and known.owner == owner), "other")
        if (kind == "other" or entry["id"].startswith(f"{owner}/")) and _is_ollama(client, entry["id"]):
            kind = "ollama"  # which gives the namespace of a model for its owner
    meta = entry.get("meta") if isinstance(entry.get("meta"), Mapping) else {}
    context = _count(entry.get("max_model_len"), _MOST_TOKENS) or None
    return Model(entry["id"], KINDS[kind], context, _count((meta or {}).get("n_params"), _MOST_PARAMETERS) or 0)


def _others(client: Client, names: Mapping[str, Any], name: str) -> str:
    """The nearest name and some of all there are, for an error: a server may have hundreds of thousands."""
    alike = [each for each in names if name.lower() in each.lower()] if name else []
    near = nearest(name, [printable(each, 80) for each in (alike or list(names))[:1000]]) if name else ""
    shown = list(dict.fromkeys((*alike[:_SHOWN], *list(names)[:_SHOWN])))[:_SHOWN]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    there = ", ".join(printable(each, 80) for each in shown) or "none"
    return f"{near or (';' if name else '')} at {client.base_url} there are: {there}{more}"


def _is_ollama(client: Client, name: str) -> bool:
    """Whether it is Ollama by its own interface, which lies beside that of OpenAI's."""
    try:
        version = client.get_beside("/api/version").get("version")
        tags = _list(client.get_beside("/api/tags"), "models")
    except (ServerRefused, ServerUnavailable, ValueError, AttributeError):
        return False
    known = {tag.get(key) for tag in tags if isinstance(tag, Mapping) for key in ("name", "model")}
    return isinstance(version, str) and name in known


# ------------------------------------------------------------------------------------------------------ one request


@dataclass(frozen=True)
class Sampling:
    """What is asked of a model besides its prompt.

    Args:
        tokens: most to generate.
        temperature: 0 is greedy.
        seed: of any size; servers get 31 bits of it.
        stop: texts that end it.
        top_p, top_k: as in `policies.generation.options.SamplingOptions`; 0 and 1 are all tokens.
        alternatives: how many of the likeliest tokens to tell at each place.
        logprobs: whether to ask for log-probabilities at all; some servers refuse.
    """

    tokens: int
    temperature: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    top_p: float = 1.0
    top_k: int = 0
    alternatives: int = 0
    logprobs: bool = True


@dataclass(frozen=True)
class Written:
    """What a model wrote.

    Args:
        text: with the stop string that ended it, where that is known.
        thought: what the model thought before it, where the server takes that out of the text.
        pieces: its tokens as text, if the server told; one without text, such as that of the end, may be among them.
        logprobs: of the pieces.
        alternatives: for each piece, the likeliest tokens and their log-probabilities.
        cut: it reached the most tokens that were asked for, or that the context has room for, or the server ended it
            for a reason of its own.
        reason: that of the server, where it is neither an end nor such a limit; else empty.
        stop: the stop string that ended it; None when the model ended it, or when it is not known.
        told: whether the server said what ended it.
        prompt: tokens of the prompt; None if the server did not say.
        cached: those of them that were not run again.
        generated: tokens; None if the server did not say and they cannot be counted.
        believed: whether its counts can be; one that cannot is replaced by the most there may be.
    """

    text: str
    thought: str
    pieces: tuple[str, ...]
    logprobs: tuple[float, ...]
    alternatives: tuple[Mapping[str, float], ...]
    cut: bool
    reason: str
    stop: str | None
    told: bool
    prompt: int | None
    cached: int
    generated: int | None
    believed: bool = True


def request_of(model: Model, prompt: Prompt, sampling: Sampling, extra: Mapping[str, Any] | None = None) -> Call:
    """A request for one continuation, with fields of the server's own."""
    kind, chat = model.kind, _is_chat(prompt)
    body: dict[str, Any] = {
        "model": model.name,
        "max_tokens": sampling.tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed % _SEEDS,
        **kind.plain,
    }
    if sampling.top_k and kind.top_k:
        body["top_k"] = sampling.top_k
    if sampling.stop:
        body |= {"stop": list(sampling.stop), **kind.keep_stop}
    if chat:
        body["messages"] = list(prompt)
        if body["messages"][-1]["role"] == "assistant":
            body |= kind.goes_on or {}
        if sampling.logprobs:
            body |= {"logprobs": True, "top_logprobs": sampling.alternatives}
    else:
        body["prompt"] = prompt if isinstance(prompt, str) else list(prompt)
        if sampling.logprobs:
            body["logprobs"] = max(sampling.alternatives, 1)
    body |= extra or {}
    path = "/chat/completions" if chat else "/completions"
    most = longest(prompt) + _TEMPLATE
    most = most if model.context is None else min(most, model.context)
    largest = _FRAME + _BACK * most + _TOKEN * (1 + sampling.alternatives) * sampling.tokens
    return Call(path, body, lambda reply: _read(reply, kind, sampling, most), min(largest, LARGEST))


def longest(prompt: Prompt) -> int:
    """Most tokens that a prompt can have, besides those that a template adds: a byte is one at most."""
    if isinstance(prompt, str):
        return len(prompt.encode("utf-8", "replace"))
    return sum(1 if isinstance(each, int) else sum(map(longest, each.values())) for each in prompt)


def _is_chat(prompt: Prompt) -> bool:
    return not isinstance(prompt, str) and bool(prompt) and isinstance(prompt[0], Mapping)


def _read(reply: Any, kind: Kind, sampling: Sampling, most: int) -> Written:
    choices = _list(reply, "choices")
    if not choices:
        raise Unreadable("no choices where one was asked for")
    choice = choices[0]  # what more there is was not asked for
    if choice.get("error"):
        raise Unreadable(f"the choice is an error: {choice['error']}")
    text, thought = _texts(choice)
    reason = str(choice.get("finish_reason") or "none").lower()
    stop = None
    told = reason in _BY_ITSELF or (bool(kind.stopped_by) and kind.stopped_by in choice)
    if reason in _ENDED and told and choice.get(kind.stopped_by) in sampling.stop:
        stop = str(choice[kind.stopped_by])
        if not text.endswith(stop):  # servers may run on by some characters, or have cut it off after all
            text = text[: text.index(stop) + len(stop)] if stop in text else text + stop
    pieces, logprobs, alternatives = _logprobs(choice.get("logprobs"), sampling.alternatives)
    usage = _mapping(reply.get("usage"))
    generated, sure = _believed(usage.get("completion_tokens"), max(sampling.tokens, len(pieces)))
    prompt, certain = _believed(usage.get("prompt_tokens"), most)
    cached = _count(_mapping(usage.get("prompt_tokens_details")).get("cached_tokens"), _MOST_TOKENS) or 0
    return Written(
        text=text,
        thought=thought,
        pieces=pieces,
        logprobs=logprobs,
        alternatives=alternatives,
        cut=reason not in _ENDED,
        reason="" if reason in _ENDED | _FULL else printable(reason, 80),
        stop=stop,
        told=told or not sampling.stop,
        prompt=prompt,
        cached=cached,
        generated=len(pieces) or None if generated is None else generated,
        believed=sure and certain,
    )


def _texts(choice: Mapping[str, Any]) -> tuple[str, str]:
    """What was written and what was thought, of a completion or of a chat."""
    message = choice.get("message")
    if message is None:
        return _joined(choice["text"])
    text, inside = _joined(message.get("content") or message.get("refusal") or "")
    thought, _ = _joined(message.get("reasoning_content") or message.get("reasoning") or "")
    return text, thought or inside


def _joined(content: Any) -> tuple[str, str]:
    """The text and the thinking of a content, which may come in parts."""
    if isinstance(content, str):
        return content, ""
    if not isinstance(content, list):
        raise Unreadable(f"its text is a {type(content).__name__}")
    texts, thoughts = "", ""
    for part in content:
        if isinstance(part, str):
            texts += part
        elif part.get("type") in ("thinking", "reasoning"):
            thoughts += _joined(part.get("thinking") or part.get("text") or "")[0]
        else:
            texts += _joined(part.get("text") or part.get("refusal") or "")[0]
    return texts, thoughts


def _logprobs(told: Any, count: int) -> tuple[tuple[str, ...], tuple[float, ...], tuple[Mapping[str, float], ...]]:
    """Pieces, their log-probabilities and as many alternatives, in the layout of completions or in that of chats."""
    if not told:
        return (), (), ()
    tops: Sequence[Any] = ()
    if told.get("content") is not None:
        entries = told["content"]
        pieces = tuple([entry["token"] for entry in entries])
        values = tuple([entry.get("logprob") for entry in entries])
        if count:
            tops = [{top["token"]: top["logprob"] for top in entry.get("top_logprobs") or ()} for entry in entries]
    elif told.get("tokens") is not None:
        pieces, values = tuple(told["tokens"]), tuple(told.get("token_logprobs") or [None] * len(told["tokens"]))
        if count:
            tops = [top or {} for top in told.get("top_logprobs") or [{}] * len(pieces)]
    else:
        return (), (), ()
    if len(pieces) != len(values):
        raise Unreadable(f"{len(values)} log-probabilities of {len(pieces)} tokens")
    "".join(pieces)  # raises where one is no text
    likely = tuple({str(token): _logprob(value) for token, value in top.items()} for top in tops)
    return pieces, tuple([value if value and -9999 < value < 0 else _logprob(value) for value in values]), likely


def _logprob(value: float | None) -> float:
    """A log-probability; what was not told counts as 0, as where none are.

    -inf, or a number that stands for it, is that of a token which sampling had no right to.
    """
    if value is None:
        return 0.0
    return min(float(value), 0.0) if math.isfinite(value) else -9999.0


def _list(reply: Any, key: str) -> list[Any]:
    found = reply.get(key) if isinstance(reply, Mapping) else None
    if not isinstance(found, list):
        raise Unreadable(f"there is no list of {key} in it")
    return found


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(number: Any, most: int) -> int | None:
    """A count that a server tells; None for what is none."""
    return number if isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= most else None


def _believed(number: Any, most: int) -> tuple[int | None, bool]:
    """A count of what there are `most` of, and whether it can be right: more are taken for the most."""
    if isinstance(number, int) and number > most:
        return most, False
    return _count(number, most), True
