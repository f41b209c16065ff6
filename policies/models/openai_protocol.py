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
from policies.models.http_client import Client, Reader, Unreadable

Prompt = str | Sequence[int] | Sequence[Mapping[str, str]]
"""Plain text, token ids, or the messages of a chat."""

_SEEDS = 2**31  # what every server takes


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
        "llamacpp", {"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0}, True, goes_on=_GO_ON, template_options=True
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
    entries = [entry for entry in _list(listed, "data") if isinstance(entry, Mapping) and entry.get("id")]
    names = {str(entry["id"]): entry for entry in entries}
    entry = names.get(name) or names.get(f"{name}:latest")
    if entry is None and not name and len(names) == 1:
        (entry,) = names.values()
    if entry is None:
        asked = f"{client.base_url} has no model {name!r}{nearest(name, names) or ';'}" if name else "which model?"
        raise ValueError(f"{asked} at {client.base_url} there are: {', '.join(names) or 'none'}")
    if kind == "auto":
        owner = entry.get("owned_by")
        kind = next((each for each, known in KINDS.items() if known.owner and known.owner == owner), "other")
    meta = entry.get("meta") if isinstance(entry.get("meta"), Mapping) else {}
    return Model(
        str(entry["id"]), KINDS[kind], _count(entry.get("max_model_len")), _count((meta or {}).get("n_params")) or 0
    )


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
        cut: it reached the most tokens that were asked for, or that the context has room for.
        stop: the stop string that ended it; None when the model ended it, or when it is not known.
        told: whether the server said what ended it.
        prompt: tokens of the prompt; None if the server did not say.
        cached: those of them that were not run again.
        generated: tokens; None if the server did not say and they cannot be counted.
    """

    text: str
    thought: str
    pieces: tuple[str, ...]
    logprobs: tuple[float, ...]
    alternatives: tuple[Mapping[str, float], ...]
    cut: bool
    stop: str | None
    told: bool
    prompt: int | None
    cached: int
    generated: int | None


def request_of(model: Model, prompt: Prompt, sampling: Sampling) -> tuple[str, dict[str, Any], Reader]:
    """The path, the body and the reader of a request for one continuation: what `Client.submit` takes."""
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
    path = "/chat/completions" if chat else "/completions"
    return path, body, lambda reply: _read(reply, kind, sampling)


def _is_chat(prompt: Prompt) -> bool:
    return not isinstance(prompt, str) and bool(prompt) and isinstance(prompt[0], Mapping)


def _read(reply: Any, kind: Kind, sampling: Sampling) -> Written:
    choices = _list(reply, "choices")
    if len(choices) != 1:
        raise Unreadable(f"{len(choices)} choices where one was asked for")
    choice = choices[0]
    text, thought = _texts(choice)
    reason = choice.get("finish_reason")
    if reason not in ("stop", "length"):
        raise Unreadable(f"finish_reason is {reason!r}")
    stop = None
    told = bool(kind.stopped_by) and kind.stopped_by in choice
    if reason == "stop" and told and choice[kind.stopped_by] in sampling.stop:
        stop = str(choice[kind.stopped_by])
        if not text.endswith(stop):  # servers may run on by some characters, or have cut it off after all
            text = text[: text.index(stop) + len(stop)] if stop in text else text + stop
    pieces, logprobs, alternatives = _logprobs(choice.get("logprobs"))
    usage = reply.get("usage") or {}
    details = usage.get("prompt_tokens_details") or {}
    generated = _count(usage.get("completion_tokens"))
    return Written(
        text=text,
        thought=thought,
        pieces=pieces,
        logprobs=logprobs,
        alternatives=alternatives,
        cut=reason == "length",
        stop=stop,
        told=told or not sampling.stop,
        prompt=_count(usage.get("prompt_tokens")),
        cached=_count(details.get("cached_tokens")) or 0,
        generated=len(pieces) or None if generated is None else generated,
    )


def _texts(choice: Mapping[str, Any]) -> tuple[str, str]:
    """What was written and what was thought, of a completion or of a chat."""
    message = choice.get("message")
    if message is None:
        text, thought = choice["text"], ""
    else:
        text, thought = message.get("content") or "", message.get("reasoning_content") or message.get("reasoning") or ""
    if not (isinstance(text, str) and isinstance(thought, str)):
        raise Unreadable(f"its text is a {type(text).__name__}")
    return text, thought


def _logprobs(told: Any) -> tuple[tuple[str, ...], tuple[float, ...], tuple[Mapping[str, float], ...]]:
    """Pieces, their log-probabilities and alternatives, in the layout of completions or in that of chats."""
    if not told:
        return (), (), ()
    if told.get("content") is not None:
        entries = told["content"]
        pieces = tuple(entry["token"] for entry in entries)
        values = tuple(entry["logprob"] for entry in entries)
        tops = tuple({top["token"]: top["logprob"] for top in entry.get("top_logprobs") or ()} for entry in entries)
    else:
        pieces, values = tuple(told["tokens"]), tuple(told["token_logprobs"])
        tops = tuple(top or {} for top in told.get("top_logprobs") or [{}] * len(pieces))
    if len(pieces) != len(values):
        raise Unreadable(f"{len(values)} log-probabilities of {len(pieces)} tokens")
    # -inf, or a number that stands for it, is that of a token which sampling had no right to
    finite = tuple(min(float(value), 0.0) if math.isfinite(value) else -9999.0 for value in values)
    return pieces, finite, tops


def _list(reply: Any, key: str) -> list[Any]:
    found = reply.get(key) if isinstance(reply, Mapping) else None
    if not isinstance(found, list):
        raise Unreadable(f"there is no list of {key} in it")
    return found


def _count(number: Any) -> int | None:
    return number if isinstance(number, int) and not isinstance(number, bool) and number >= 0 else None
