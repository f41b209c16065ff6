"""Verifiers behind a server: reward models that vLLM serves (POST /pooling), and any language model as a judge.

What is asked and where scores are read is the family's matter (`verifiers.families`), as for a model on this machine;
here it is only sent. Each text is asked about once per search; many are in flight at once
(`policies.servers.http_client`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from envs.core import State
from policies.servers.http_client import Call, Client, ServerRefused
from policies.servers.refusals import says_no_room
from verifiers.core import Score, Scored

_WAIT = 0.02  # seconds that a poll may wait for replies
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


@runtime_checkable
class Comparisons(Protocol):
    """What to ask a server about several solutions of a problem."""

    def together(self, states: Sequence[State]) -> tuple[list[Hashable], list[Query]]:
        """A key for each state, and the call that answers for all of them."""
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
        served: what the server calls the model.
    """

    def __init__(self, name: str, parameters: int, queries: Queries, client: Client, served: str = "") -> None:
        self.name, self.parameters = name, parameters
        self._served = served
        self._queries, self._client = queries, client
        self.compares = isinstance(queries, Comparisons)
        self._calls = 0
        self._jobs: dict[int, _Job] = {}
        self._scopes: dict[str, _Scope] = {}
        self._flying: dict[int, tuple[str, int, Query]] = {}  # scope, ticket that pays, and what was asked
        self._done: list[tuple[str, int, Scored | Exception]] = []  # scope, ticket and reply

    def digest(self) -> str:
        """What the server calls the model: it shows no more of it."""
        return self._served

    def submit(self, ticket: int, request: Score) -> None:
        """Queue a request; raises ValueError when its ticket is in use."""
        if ticket in self._jobs:
            raise ValueError(f"ticket {ticket} is in use")
        if request.groups and isinstance(self._queries, Comparisons):
            plans = [self._queries.together([request.states[i] for i in group]) for group in request.groups]
        else:
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
                    flops, reads = 2.0 * self.parameters * job.tokens, float(self.parameters * bool(job.tokens))
                    self._done.append((scope, ticket, Scored(found, job.tokens, flops, reads)))

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
