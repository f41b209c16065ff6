"""Verifiers behind a server: reward models that vLLM serves (POST /pooling), and any language model as a judge.

What is asked and where scores are read is the family's matter (`verifiers.families`), as for a model on this machine;
here it is only sent. Each text is asked about once per search; many are in flight at once (`envs.remote`).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

from envs.core import Environment, State
from envs.llama import UnsupportedModel
from envs.prefixes import Ids
from envs.refusals import says_no_room
from envs.registry import nearest
from envs.remote import LARGEST, Call, Client, Limits, ServerRefused, Unreadable
from envs.servers import Model, Sampling, Written, find_model, request_of
from verifiers.core import Score, Scored
from verifiers.families import FAMILIES
from verifiers.families.judge import question_of
from verifiers.layout import PRIOR, Family, lay_out, spoken
from verifiers.runner import ROUNDED
from verifiers.texts import Texts

_WAIT = 0.02  # seconds that a poll may wait for replies
_TOP = 20  # alternatives that a judge is asked for: the most that servers give
_PROBE = "1 + 1 = 2"
_FRAME, _ROW = 64 << 10, 4 << 10  # bytes of a reply, and those of it for the outputs at a token


@dataclass(frozen=True)
class Query:
    """A call that scores some texts.

    Args:
        keys: of the texts.
        call: as `Client.submit` takes it.
        scores: of what was read, one score per key, and the tokens that were run.
    """

    keys: tuple[Hashable, ...]
    call: Call
    scores: Callable[[Any], tuple[Sequence[float], int]]


class Queries(Protocol):
    """What to ask a server about a state."""

    def of(self, state: State) -> tuple[list[Hashable], list[Query]]:
        """For each step the key of the text whose score it has, or a score, and calls that answer for all keys."""
        ...


@dataclass
class _Job:
    """A request in progress: for each state the keys of its steps."""

    scope: str
    keys: list[list[Hashable]]
    tokens: int = 0


@dataclass
class _Scope:
    """What a search has asked about."""

    known: dict[Hashable, float] = field(default_factory=dict)
    asked: dict[Hashable, int] = field(default_factory=dict)  # the call under way that answers


class ServedVerifier:
    """A model behind a server as a `Verifier`.

    Args:
        name: in records.
        parameters: of the model, for FLOPs; 0 if unknown.
        queries: what it is asked.
        client: of the server; closed with the verifier.
    """

    def __init__(self, name: str, parameters: int, queries: Queries, client: Client) -> None:
        self.name, self.parameters = name, parameters
        self._queries, self._client = queries, client
        self._calls = 0
        self._jobs: dict[int, _Job] = {}
        self._scopes: dict[str, _Scope] = {}
        self._flying: dict[int, tuple[str, int, Query]] = {}  # scope, ticket that pays, and what was asked
        self._done: list[tuple[str, int, Scored | Exception]] = []  # scope, ticket and reply

    def submit(self, ticket: int, request: Score) -> None:
        """Queue a request; raises ValueError when its ticket is in use."""
        if ticket in self._jobs:
            raise ValueError(f"ticket {ticket} is in use")
        plans = [self._queries.of(state) for state in request.states]
        self._jobs[ticket] = _Job(request.scope, [keys for keys, _ in plans])
        there = self._scopes.setdefault(request.scope, _Scope())
        queries = [query for _, each in plans for query in each]
        for query in sorted(queries, key=lambda query: -len(query.keys)):  # the longest answer for their beginnings
            if any(key not in there.known and key not in there.asked for key in query.keys):
                self._calls += 1
                self._flying[self._calls] = (request.scope, ticket, query)
                there.asked |= dict.fromkeys((key for key in query.keys if key not in there.known), self._calls)
                self._client.submit(self._calls, *query.call)
        self._settle(request.scope)

    def poll(self) -> Sequence[tuple[int, Scored | Exception]]:
        """Take the replies that have come, or wait for one a moment; return the requests that are complete."""
        if self._flying:
            for call, outcome in self._client.collect(0.0 if self._done else _WAIT):
                if call in self._flying:
                    self._arrived(int(str(call)), outcome)
        done, self._done = self._done, []
        return [(ticket, reply) for _, ticket, reply in done]

    def cancel(self, scope: str) -> None:
        """Drop the requests of a search and what was read for it; connections are closed."""
        self._drop(scope)
        self._scopes.pop(scope, None)
        self._done = [each for each in self._done if each[0] != scope]

    def close(self) -> None:
        """Drop everything, connections included; the verifier may be used again."""
        for scope in list(self._scopes):
            self.cancel(scope)
        self._client.close()

    def _arrived(self, call: int, outcome: Any) -> None:
        scope, ticket, query = self._flying.pop(call)
        there = self._scopes[scope]
        scores: Sequence[float]
        try:
            if isinstance(outcome, ServerRefused) and says_no_room(outcome.words) and len(query.keys) == 1:
                scores, tokens = [math.nan], 0  # as for a step that is known to end beyond the context
            elif isinstance(outcome, Exception):
                raise outcome
            else:
                scores, tokens = query.scores(outcome)
        except Exception as error:  # its search fails, and no other
            self._done += [(scope, each, error) for each in self._drop(scope)]
            return
        there.known |= dict(zip(query.keys, scores, strict=True))
        there.asked = {key: by for key, by in there.asked.items() if by != call}
        if ticket in self._jobs:
            self._jobs[ticket].tokens += tokens
        self._settle(scope)

    def _settle(self, scope: str) -> None:
        """Answer the requests of a search that nothing is missing of."""
        known = self._scopes[scope].known
        for ticket, job in list(self._jobs.items()):
            if job.scope == scope:
                scores = [[key if isinstance(key, float) else known.get(key) for key in keys] for keys in job.keys]
                if not any(score is None for each in scores for score in each):
                    del self._jobs[ticket]
                    found = tuple(tuple(score for score in each if score is not None) for each in scores)
                    cost = 2.0 * self.parameters * job.tokens
                    self._done.append((scope, ticket, Scored(found, job.tokens, cost)))

    def _drop(self, scope: str) -> list[int]:
        """Forget the calls and the requests of a search; returns the tickets of those."""
        calls = [call for call, (of, _, _) in self._flying.items() if of == scope]
        self._client.cancel(calls)
        for call in calls:
            del self._flying[call]
        tickets = [ticket for ticket, job in self._jobs.items() if job.scope == scope]
        for ticket in tickets:
            del self._jobs[ticket]
        self._scopes[scope] = _Scope()
        return tickets


# --------------------------------------------------------------------------------------------------- reward models


class Pooling:
    """What vLLM's POST /pooling is asked: token ids, and the outputs of the head at the tokens that are scored.

    Args:
        family: how the model reads a state.
        texts: its tokenizer.
        environment: whose states.
        model: at the server.
        steps: whether the server gives the outputs at the tags of steps only (its ``STEP`` pooling), and not at all
            tokens.
    """

    def __init__(self, family: Family, texts: Texts, environment: Environment, model: Model, steps: bool) -> None:
        self.family, self.texts, self.environment, self.model, self.steps = family, texts, environment, model, steps

    def of(self, state: State) -> tuple[list[Hashable], list[Query]]:
        """One call for each path; steps that end beyond the context are NaN."""
        layout = lay_out(self.family, self.texts, self.environment, state)
        room = self.model.context or math.inf
        marks = [
            [key[: read + 1] if read >= 0 else () for key, read in zip(path.keys, path.reads, strict=True)]
            for path in layout.paths
        ]
        keys: list[Hashable] = []
        for place in layout.origin:
            mark = None if place is None else marks[place[0]][place[1]]
            keys.append(PRIOR if mark is None else mark if len(mark) <= room else math.nan)
        asked = [tuple(mark for mark in each if mark and len(mark) <= room) for each in marks]
        return keys, [self._query(each) for each in asked if each]

    def _query(self, marks: tuple[Ids, ...]) -> Query:
        return Query(marks, _pooled(self.model, marks[-1]), lambda rows: self._scores(marks, rows))

    def _scores(self, marks: Sequence[Ids], rows: Sequence[Sequence[float]]) -> tuple[list[float], int]:
        """The scores at the ends of marks; vLLM gives no rows for tokens that it kept from before."""
        length, wanted = len(marks[-1]), len(marks)
        kept = 0 if self.steps else length - len(rows)
        places = range(wanted) if self.steps else [len(mark) - 1 - kept for mark in marks]
        if (self.steps and len(rows) != wanted) or kept < 0 or min(places) < 0:
            raise ValueError(
                f"{self.model.name} gave {len(rows)} outputs for {length} tokens with {wanted} scores; serve it with"
                " --no-enable-prefix-caching, and with outputs at all tokens or at the tags of steps"
            )
        columns = self.family.reading.columns
        if self.family.head == "causal":  # served as a classifier between these tokens
            columns = tuple(range(len(columns)))
        if max(columns) >= len(rows[0]):
            raise ValueError(f"{self.model.name} gives {len(rows[0])} outputs per token; {max(columns) + 1} are needed")
        read = [[rows[place][column] for column in columns] for place in places]
        return [round(self.family.reading.probability(outputs), ROUNDED) for outputs in read], length - kept


def _pooled(model: Model, ids: Ids) -> Call:
    """A call for the outputs of a head, a row per token."""
    body = {"model": model.name, "input": list(ids), "task": "token_classify", "use_activation": False}
    return Call("/pooling", body, _rows, min(_FRAME + _ROW * len(ids), LARGEST))


def _rows(reply: Any) -> list[list[float]]:
    (entry,) = reply["data"]
    rows = [[float(number) for number in row] for row in entry["data"]]
    if not all(rows):
        raise Unreadable("a row of outputs is empty")
    return rows


def load_pooling(
    name: str,
    environment: Environment,
    *,
    base_url: str = "http://localhost:8000/v1",
    model: str = "",
    family: str | None = None,
    parameters: int = 0,
    key_variable: str = "OPENAI_API_KEY",
    **options: Any,
) -> ServedVerifier:
    """A process or outcome reward model that vLLM serves.

    Args:
        name: a folder or a hub's id: its configuration and its tokenizer are needed here, its weights are not.
        environment: whose states it scores.
        base_url: of the server, with its version.
        model: as the server calls it; the only one it has if empty.
        family: which family it is of, where its name and its head do not say.
        parameters: of the model, for FLOPs; 0 if unknown.
        key_variable: the environment variable that holds the API key, if the server wants one.
        options: of the family, and those of `envs.remote.Limits`.

    Raises:
        ConnectionError: the server does not answer.
        UnsupportedModel: there is no such folder, or its tokenizer lacks what the family needs.
        ValueError: no such family or option, or the server has no such model.
    """
    from verifiers.checkpoints import family_of, find_checkpoint

    folder = find_checkpoint(name, weights=False)
    chosen = family_of(name, folder, family)
    if chosen not in FAMILIES:
        raise UnsupportedModel(f"served are the families {', '.join(sorted(FAMILIES))}; hf:{name} runs {chosen!r}")
    kind = FAMILIES[chosen]
    own = list(inspect.signature(kind).parameters)[1:]
    limits = {option: value for option, value in options.items() if option not in own}
    _check_limits(limits, [*own, *list(inspect.signature(load_pooling).parameters)[2:-1]])
    texts = Texts(folder)
    client = Client(base_url.rstrip("/").removesuffix("/v1"), Limits(**limits), key_variable)
    try:
        served = find_model(client, model, path="/v1/models")
        ids, _ = texts.encode([_PROBE])
        rows = client.ask(*_pooled(served, ids))
        chosen_family = kind(texts, **{option: options[option] for option in own if option in options})
        queries = Pooling(chosen_family, texts, environment, served, steps=len(rows) != len(ids))
    except BaseException:
        client.close()
        raise
    return ServedVerifier(Path(name).resolve().name, parameters, queries, client)


def _check_limits(options: Mapping[str, Any], others: Sequence[str]) -> None:
    """Refuse what is no option of a connection; raises ValueError naming the nearest one of all there are."""
    own = [each.name for each in fields(Limits)]
    known = [*others, *own]
    for option in options:
        if option not in own:
            raise ValueError(f"no option {option!r}{nearest(option, known) or ';'} allowed: {', '.join(known)}")


# ---------------------------------------------------------------------------------------------------------- judges


class Judging:
    """What a language model is asked as a judge: about each prefix of a solution, and the chance that it says "Yes".

    Args:
        environment: whose states.
        model: at the server.
    """

    def __init__(self, environment: Environment, model: Model) -> None:
        self.environment, self.model = environment, model

    def of(self, state: State) -> tuple[list[Hashable], list[Query]]:
        """One call for each prefix with another text."""
        question, steps = state.problem.question.strip(), list[str]()
        keys: list[Hashable] = []
        for step in state.steps:
            if text := spoken(step, self.environment.delimiter):
                steps.append(text)
            keys.append((question, *steps) if steps else PRIOR)
        return keys, [self._query(question, tuple(steps[:end])) for end in range(1, len(steps) + 1)]

    def _query(self, question: str, steps: tuple[str, ...]) -> Query:
        messages = [{"role": "user", "content": question_of(question, steps)}]
        return Query(
            ((question, *steps),), request_of(self.model, messages, Sampling(1, alternatives=_TOP)), self._scores
        )

    def _scores(self, written: Written) -> tuple[list[float], int]:
        """The probability of "Yes" beside that of "No"; NaN where neither is among the likeliest tokens."""
        if written.reason:  # it was filtered, or broken off
            return [math.nan], max(0, (written.prompt or 0) - written.cached)
        if not written.alternatives or not written.alternatives[0]:
            raise ValueError(f"the server of {self.model.name} gives no likeliest tokens, which a judge is read from")
        chances = {
            word: math.fsum(
                math.exp(value) for token, value in written.alternatives[0].items() if token.strip() == word
            )
            for word in ("Yes", "No")
        }
        total = math.fsum(chances.values())
        tokens = max(0, (written.prompt or 0) - written.cached) + (written.generated or 1)
        return [round(chances["Yes"] / total, ROUNDED) if total else math.nan], tokens


def load_judge(
    model: str,
    environment: Environment,
    *,
    base_url: str = "http://localhost:8000/v1",
    server: str = "auto",
    parameters: int = 0,
    key_variable: str = "OPENAI_API_KEY",
    **limits: float,
) -> ServedVerifier:
    """Any chat model behind an OpenAI-compatible server that tells the likeliest tokens, as a judge.

    Args:
        model: as the server calls it; the only one it has if empty.
        environment: whose states it scores.
        base_url: of the server, with its version.
        server: its kind, one of `envs.servers.KINDS`; ``auto`` asks it.
        parameters: of the model, for FLOPs; 0 takes what the server says, if it says.
        key_variable: the environment variable that holds the API key, if the server wants one.
        limits: see `envs.remote.Limits`.

    Raises:
        ConnectionError: the server does not answer.
        ValueError: the server has no such model.
    """
    _check_limits(limits, list(inspect.signature(load_judge).parameters)[2:-1])
    client = Client(base_url, Limits(**limits), key_variable)  # type: ignore[arg-type]
    try:
        served = find_model(client, model, server)
    except BaseException:
        client.close()
        raise
    name = f"{served.name.rstrip('/').rpartition('/')[2]}-judge"
    return ServedVerifier(name, parameters or served.parameters, Judging(environment, served), client)
