"""A model on this machine as a `Verifier`: the contract, around a layout and a runner."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path as Folder
from typing import Any, Protocol

from envs.core import State
from policies.models.digest import joint_digest, model_digest
from verifiers.core import Score, Scored
from verifiers.scoring.cached_scorer import Spent
from verifiers.scoring.score_layout import PRIOR, Layout, Path


class PathReader(Protocol):
    """What reads paths: a `Runner`, or several of them together."""

    def read(self, work: Sequence[tuple[str, Path]]) -> tuple[list[list[Any]], list[Spent]]:
        """For each path of a scope a note for each key, None where it could not be read, and what it took."""
        ...

    def drop(self, scope: str) -> None:
        """Forget what was kept for a scope."""
        ...

    def clear(self) -> None:
        """Forget what was kept, of all scopes."""
        ...


class LocalVerifier:
    """Scores the states of all queued requests in common passes.

    Args:
        name: in records.
        parameters: of the model.
        lay_out: how the model reads a state.
        runner: what reads it, with a score, or a score and its deviation, as the note of each part that has one.
        places: folders of all that makes the model.
    """

    def __init__(
        self,
        name: str,
        parameters: int,
        lay_out: Callable[[State], Layout],
        runner: PathReader,
        places: Sequence[Folder] = (),
    ) -> None:
        self.name = name
        self.parameters = parameters
        self.runner = runner
        self._lay_out = lay_out
        self._places = tuple(places)
        self._queue: dict[int, Score] = {}

    def digest(self) -> str:
        """Of the files that make the model."""
        return joint_digest([model_digest(place) for place in self._places])

    def submit(self, ticket: int, request: Score) -> None:
        """Queue a request; raises ValueError when its ticket is in use."""
        if ticket in self._queue:
            raise ValueError(f"ticket {ticket} is in use")
        self._queue[ticket] = request

    def poll(self) -> Sequence[tuple[int, Scored]]:
        """Score all that is queued."""
        queue, self._queue = self._queue, {}
        layouts = [(request, [self._lay_out(state) for state in request.states]) for request in queue.values()]
        notes, spent = self.runner.read(
            [(request.scope, path) for request, group in layouts for layout in group for path in layout.paths]
        )
        replies, first = [], 0
        for ticket, (_, group) in zip(queue, layouts, strict=True):
            found, start = [], first
            for layout in group:
                last = first + len(layout.paths)
                found.append(_notes(layout, notes[first:last]))
                first = last
            scores = tuple(tuple(each[0] if isinstance(each, tuple) else each for each in steps) for steps in found)
            beliefs = any(isinstance(each, tuple) for steps in found for each in steps)
            spreads = [tuple(each[1] if isinstance(each, tuple) else math.nan for each in steps) for steps in found]
            own = spent[start:first]
            cost, told = sum(own, Spent()), tuple(spreads) if beliefs else ()
            replies.append((ticket, Scored(scores, cost.tokens, cost.flops, cost.reads, told)))
        return replies

    def cancel(self, scope: str) -> None:
        """Drop the requests of a search and what was kept for it."""
        self._queue = {ticket: request for ticket, request in self._queue.items() if request.scope != scope}
        self.runner.drop(scope)

    def close(self) -> None:
        """Drop everything, the memory included; the verifier may be used again."""
        self._queue = {}
        self.runner.clear()


def _notes(layout: Layout, notes: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
    """One note per step of a state, a score or a score and its deviation; NaN for those beyond the context."""
    found = [PRIOR if place is None else notes[place[0]][place[1]] for place in layout.origin]
    return tuple(math.nan if note is None else note for note in found)
