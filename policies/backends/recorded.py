"""A policy that hands out samples of a file (`policies.sample_pool`): votes and planners are replayed without a model.

Samples are whole solutions, so it serves what draws whole solutions: greedy decoding, majority, Best-of-N, and the
planner's moves that are made of these.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

from envs.core import Environment, State, Step
from policies.core import Propose, Proposed, Usage
from policies.sample_pool import PooledProblem, SamplePool
from policies.service import QueuedService


@dataclass
class _Drawn:
    """What a search has got of the samples of a problem: an order of them, and which seed got which."""

    order: list[int]
    by_seed: dict[int, int] = field(default_factory=dict)


class RecordedPolicy(QueuedService[Propose, Proposed | Exception]):
    """Samples of a file, drawn without replacement within a search, in an order that its first seed decides.

    A search is charged what the samples took when they were drawn: the prompt once, and the tokens of each.

    Args:
        model: the file.
        environment: whose problems it has samples of.
        name: in records; by default that of the policy which drew the samples.

    Raises:
        UnreadablePool: the file cannot be read.
    """

    open_loop = True  # what was recorded does not wait for an environment

    def __init__(self, model: str | Path, environment: Environment, *, name: str | None = None) -> None:
        super().__init__()
        self.environment = environment
        self._pool = SamplePool.read(model)
        self.name = name or self._pool.head.policy
        self.parameters = self._pool.head.policy_parameters
        self._drawn: dict[str, dict[tuple[str, float], _Drawn]] = {}
        self._ends = {
            (pooled.problem, tuple(step.text for step in sample.steps))
            for pooled in self._pool.problems.values()
            for sample in pooled.samples
        }

    def digest(self) -> str:
        """Of the model that drew the samples, so that its plans are used; empty if unknown."""
        return self._pool.head.policy_digest

    def submit(self, ticket: int, request: Propose) -> None:
        """Queue a request; raises ValueError where a sample would go on: its policy had no room for more."""
        if any((state.problem.id, state.texts) in self._ends for state in request.states):
            raise ValueError(f"{self._pool.path} has no more of a sample than there is of it")
        super().submit(ticket, request)

    def cancel(self, scope: str) -> None:
        """Drop the requests of a search, and what it has got."""
        super().cancel(scope)
        self._drawn.pop(scope, None)

    def close(self) -> None:
        """Forget what searches have got."""
        super().close()
        self._drawn.clear()

    def _answer(self, request: Propose) -> Proposed | Exception:
        samples, usage = [], Usage()
        try:
            for state, seeds in zip(request.states, request.seeds, strict=True):
                drawn, cost = self._draw(request, state, seeds)
                samples.append(drawn)
                usage += cost
        except LookupError as error:
            return ValueError(str(error.args[0]))
        return Proposed(tuple(samples), usage)

    def _draw(
        self, request: Propose, state: State, seeds: tuple[int, ...]
    ) -> tuple[tuple[tuple[Step, ...], ...], Usage]:
        stepwise = request.max_steps is not None and not request.open_loop
        if state.steps or state.attempts or stepwise or request.distinct:
            raise LookupError(
                f"{self._pool.path} holds whole independent solutions; a strategy that asks for single steps, "
                "revisions or draws without replacement needs the model (greedy, majority and best-of-n are replayed, "
                "with an environment of your own if it says `observes = False`)"
            )
        pooled = self._pool.samples(state.problem.id, request.temperature)
        mine = self._drawn.setdefault(request.scope, {})
        key = pooled.problem, pooled.temperature
        prompt = 0 if any(problem == pooled.problem for problem, _ in mine) else pooled.prompt_tokens
        drawn = mine.get(key)
        if drawn is None:
            order = list(range(len(pooled.samples)))
            random.Random(f"{seeds[0]}/{pooled.problem}").shuffle(order)
            drawn = mine[key] = _Drawn(order)
        found = [pooled.samples[self._place(drawn, seed, pooled)].steps for seed in seeds]
        generated = sum(step.tokens for steps in found for step in steps)
        return tuple(found), Usage(prompt, generated, 2.0 * self.parameters * (prompt + generated))

    def _place(self, drawn: _Drawn, seed: int, pooled: PooledProblem) -> int:
        if seed not in drawn.by_seed:
            if len(drawn.by_seed) == len(drawn.order) and pooled.temperature > 0:
                raise LookupError(
                    f"{self._pool.path} has {len(drawn.order)} samples of {pooled.problem} at temperature "
                    f"{pooled.temperature:g}, and the search asks for more; give a smaller budget"
                )
            drawn.by_seed[seed] = drawn.order[len(drawn.by_seed) % len(drawn.order)]
        return drawn.by_seed[seed]
