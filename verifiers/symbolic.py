"""The exact step checker of an environment as a verifier: for studies of what a perfect PRM would do.

It knows what no verifier may know in earnest, so it is never a default.
"""

from __future__ import annotations

from collections.abc import Sequence

from envs.core import Environment, State, StepChecker
from verifiers.core import Score, Scored


class SymbolicVerifier:
    """Scores 1 for every step before the first wrong one, 0 from it on.

    Raises:
        TypeError: when the environment is no `StepChecker`.
    """

    name = "symbolic"
    parameters = 0

    def __init__(self, environment: Environment) -> None:
        if not isinstance(environment, StepChecker):
            raise TypeError(f"environment {environment.name!r} has no `first_error` method, which 'symbolic' needs")
        self._checker: StepChecker = environment
        self._queue: list[tuple[int, Score]] = []

    def submit(self, ticket: int, request: Score) -> None:
        """Queue a request."""
        self._queue.append((ticket, request))

    def poll(self) -> Sequence[tuple[int, Scored]]:
        """Score all that is queued."""
        queue, self._queue = self._queue, []
        return [(ticket, Scored(tuple(map(self._scores, request.states)))) for ticket, request in queue]

    def cancel(self, scope: str) -> None:
        """Drop the requests of a search."""
        self._queue = [(ticket, request) for ticket, request in self._queue if request.scope != scope]

    def close(self) -> None:
        """Drop all requests."""
        self._queue = []

    def _scores(self, state: State) -> tuple[float, ...]:
        # steps without text are passed over, as every verifier does: they have the score of the step before them
        full = [index for index, step in enumerate(state.steps) if step.text.strip()]
        wrong = self._checker.first_error(State(state.problem, tuple(state.steps[index] for index in full)))
        first = len(state.steps) if wrong is None else full[wrong]
        return tuple(1.0 if index < first else 0.0 for index in range(len(state.steps)))
