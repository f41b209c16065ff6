"""A verifier that looks scores up, in a table or in the environment's rewards; no model."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from envs.core import Environment, State, Step
from verifiers.core import Score, Scored

Table = Callable[[State], float]


class TableVerifier:
    """Gives each prefix of a state the score that a table holds for it. Keeps the contract of `Verifier` in full.

    Args:
        environment: of the states.
        table: a prefix's score, as a function or as a mapping from the texts of its steps (0.5 for what it lacks); by
            default the reward of the transition that led there (`envs.core.Transition`).
        name: in records.
        parameters: what FLOPs are counted with, at one token per step.
        shuffle: a seed; replies then come late and in random order, as they may from a server.
        delay: seconds that each `poll` takes.
    """

    def __init__(
        self,
        environment: Environment,
        table: Table | Mapping[tuple[str, ...], float] | None = None,
        name: str = "table",
        parameters: int = 1000,
        shuffle: int | None = None,
        delay: float = 0.0,
    ) -> None:
        self.environment = environment
        self.name = name
        self.parameters = parameters
        if table is None:
            self._table: Table = self._reward
        else:
            self._table = table if callable(table) else lambda state: table.get(state.texts, 0.5)
        self._random = None if shuffle is None else random.Random(shuffle)
        self._delay = delay
        self._queue: dict[int, Score] = {}

    def submit(self, ticket: int, request: Score) -> None:
        """Queue a request."""
        if ticket in self._queue:
            raise ValueError(f"ticket {ticket} is in use")
        self._queue[ticket] = request

    def poll(self) -> Sequence[tuple[int, Scored]]:
        """Answer what is queued; when shuffled, some of it."""
        if self._delay and self._queue:
            time.sleep(self._delay)
        tickets = list(self._queue)
        if self._random is not None:
            self._random.shuffle(tickets)
            tickets = tickets[: self._random.randint(0, len(tickets))]
        return [(ticket, self._answer(self._queue.pop(ticket))) for ticket in tickets]

    def cancel(self, scope: str) -> None:
        """Drop the requests of a search."""
        self._queue = {ticket: request for ticket, request in self._queue.items() if request.scope != scope}

    def close(self) -> None:
        """Drop everything."""
        self._queue.clear()

    def _reward(self, state: State) -> float:
        """What the environment gave for the last step."""
        before = State(state.problem, state.steps[:-1])
        return self.environment.step(before, replace(state.steps[-1], observation="")).reward

    def _answer(self, request: Score) -> Scored:
        scores = tuple(self._scores(state) for state in request.states)
        tokens = sum(map(len, scores))
        return Scored(scores, tokens, 2.0 * self.parameters * tokens)

    def _scores(self, state: State) -> tuple[float, ...]:
        """The table's scores of the prefixes; a step without text is left out and has the score of the one before."""
        scores: list[float] = []
        steps: tuple[Step, ...] = ()
        for step in state.steps:
            text = step.text.removesuffix(self.environment.delimiter)
            if text.strip():
                steps = (*steps, replace(step, text=text))
                scores.append(self._table(State(state.problem, steps)))
            else:
                scores.append(scores[-1] if scores else 0.5)
        return tuple(scores)
