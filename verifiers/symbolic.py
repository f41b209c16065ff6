"""The exact step checker of an environment as a verifier: for studies of what a perfect PRM would do.

It knows what no verifier may know in earnest, so it is never a default.
"""

from __future__ import annotations

from envs.core import Environment, State, StepChecker
from policies.service import QueuedService
from verifiers.core import Score, Scored


class SymbolicVerifier(QueuedService[Score, Scored]):
    """Scores 1 for every step before the first wrong one, 0 from it on.

    Raises:
        TypeError: when the environment is no `StepChecker`.
    """

    name = "symbolic"
    parameters = 0

    def __init__(self, environment: Environment) -> None:
        super().__init__()
        if not isinstance(environment, StepChecker):
            raise TypeError(f"environment {environment.name!r} has no `first_error` method, which 'symbolic' needs")
        self._checker: StepChecker = environment

    def _answer(self, request: Score) -> Scored:
        return Scored(tuple(map(self._scores, request.states)))

    def _scores(self, state: State) -> tuple[float, ...]:
        # steps without text are passed over, as every verifier does: they have the score of the step before them
        full = [index for index, step in enumerate(state.steps) if step.text.strip()]
        wrong = self._checker.first_error(State(state.problem, tuple(state.steps[index] for index in full)))
        first = len(state.steps) if wrong is None else full[wrong]
        return tuple(1.0 if index < first else 0.0 for index in range(len(state.steps)))
