"""A verifier that looks scores up, in a table or in the environment's rewards; no model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from envs.core import Environment, State, Step
from policies.service import QueuedService
from verifiers.core import Score, Scored

Table = Callable[[State], float]


class TableVerifier(QueuedService[Score, Scored]):
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
        super().__init__(shuffle, delay)
        self.environment = environment
        self.name = name
        self.parameters = parameters
        if table is None:
            self._table: Table = self._reward
        else:
            self._table = table if callable(table) else lambda state: table.get(state.texts, 0.5)

    def _reward(self, state: State) -> float:
        """What the environment gave for the last step."""
        before = State(state.problem, state.steps[:-1])
        return self.environment.step(before, replace(state.steps[-1], observation="")).reward

    compares = True

    def _answer(self, request: Score) -> Scored:
        if request.groups:
            return self._compared(request)
        scores = tuple(self._scores(state) for state in request.states)
        tokens = sum(map(len, scores))
        return Scored(scores, tokens, 2.0 * self.parameters * tokens, float(self.parameters * bool(tokens)))

    def _compared(self, request: Score) -> Scored:
        """Chances in proportion to the scores of the last steps, all equal where these are 0."""
        worth = [self._scores(state)[-1] for state in request.states]
        totals = [math.fsum(worth[index] for index in group) for group in request.groups]
        scores = tuple(
            tuple(worth[index] / total if total else 1 / len(group) for index in group)
            for group, total in zip(request.groups, totals, strict=True)
        )
        tokens = sum(len(request.states[index].steps) for group in request.groups for index in group)
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
