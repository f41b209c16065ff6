"""A verifier that looks up the scores in a file of samples (`policies.sample_pool`)."""

from __future__ import annotations

from pathlib import Path

from envs.core import Environment, State
from policies.sample_pool import PooledSample, SamplePool
from policies.service import QueuedService
from verifiers.core import Score, Scored


class RecordedVerifier(QueuedService[Score, Scored | Exception]):
    """The scores that a verifier gave to the samples of a file; a search is charged the tokens that they took.

    Args:
        model: the file.
        environment: whose problems it has samples of.
        name: in records; by default that of the verifier which gave the scores.

    Raises:
        UnreadablePool: the file cannot be read.
        ValueError: its samples have no scores.
    """

    def __init__(self, model: str | Path, environment: Environment, *, name: str | None = None) -> None:
        super().__init__()
        self.environment = environment
        self._pool = SamplePool.read(model)
        self.name = name or self._pool.head.verifier
        self.parameters = self._pool.head.verifier_parameters
        self._scored: dict[tuple[str, tuple[str, ...]], PooledSample] = {}
        for (problem, _), pooled in self._pool.problems.items():
            for sample in pooled.samples:
                if sample.scores is not None:
                    self._scored[problem, _texts(sample)] = sample
        if not self._scored:
            raise ValueError(f"{self._pool.path} has samples without scores; give --verifier none")
        self._charged: dict[str, set[tuple[str, tuple[str, ...]]]] = {}

    def digest(self) -> str:
        """Of the model that gave the scores; empty if unknown."""
        return self._pool.head.verifier_digest

    def cancel(self, scope: str) -> None:
        """Drop the requests of a search, and what it was charged for."""
        super().cancel(scope)
        self._charged.pop(scope, None)

    def close(self) -> None:
        """Forget what searches were charged for."""
        super().close()
        self._charged.clear()

    def _answer(self, request: Score) -> Scored | Exception:
        scores, tokens = [], 0
        charged = self._charged.setdefault(request.scope, set())
        for state in request.states:
            key = state.problem.id, tuple(text for text in state.texts if text)
            sample = self._scored.get(key)
            if sample is None or sample.scores is None:
                return ValueError(f"{self._pool.path} has no scores of a solution of {state.problem.id}")
            scores.append(_spread(state, sample))
            tokens += 0 if key in charged else sample.verifier_tokens
            charged.add(key)
        return Scored(tuple(scores), tokens, 2.0 * self.parameters * tokens)


def _texts(sample: PooledSample) -> tuple[str, ...]:
    return tuple(step.text for step in sample.steps if step.text)


def _spread(state: State, sample: PooledSample) -> tuple[float, ...]:
    """The scores of a state's steps; an empty step has that of the step before it."""
    given = [score for step, score in zip(sample.steps, sample.scores or (), strict=True) if step.text]
    scores: list[float] = []
    for text in state.texts:
        scores.append(given.pop(0) if text else scores[-1] if scores else given[0] if given else 0.0)
    return tuple(scores)
