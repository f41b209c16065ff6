"""A policy that follows a script: for tests, demonstrations and first steps; no model."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import replace

from envs.core import Environment, State, Step, StepLister, Transition
from policies.core import Propose, Proposed, Usage
from policies.generation.confidence import certainty_of
from policies.service import QueuedService

Script = Callable[[State], Mapping[str, float]]


class ScriptedPolicy(QueuedService[Propose, Proposed]):
    """Draws each step from weights that a script gives for the state. Keeps the contract of `Policy` in full.

    Args:
        environment: decides when a trajectory ends.
        script: weights of possible next steps by state, as a function or as a mapping from the texts of the steps so
            far; by default the environment's own `options` method (the toy has one).
        name: in records.
        parameters: what FLOPs are counted with.
        shuffle: a seed; replies then come late and in random order, as they may from a server.
        delay: seconds that each `poll` takes, to look at a search while it runs.

    Raises:
        TypeError: no script, and the environment has none either.
    """

    def __init__(
        self,
        environment: Environment,
        script: Script | Mapping[tuple[str, ...], Mapping[str, float]] | None = None,
        name: str = "scripted",
        parameters: int = 1000,
        shuffle: int | None = None,
        delay: float = 0.0,
    ) -> None:
        super().__init__(shuffle, delay)
        self.environment = environment
        self.name = name
        self.parameters = parameters
        if script is None:
            if not isinstance(environment, StepLister):
                raise TypeError(
                    f"environment {environment.name!r} has no `options` method; give ScriptedPolicy a script"
                )
            script = environment.options
        self._top: int | None = None
        self._script: Script = script if callable(script) else lambda state: script.get(state.texts, {})

    def record_confidence(self, top: int) -> None:
        """Record how sure the script is of each step, by so many of the likeliest steps, 0 for all."""
        self._top = top

    def _answer(self, request: Propose) -> Proposed:
        drawn = [
            [self._sample(state, seed, request.temperature, request.max_steps) for seed in seeds]
            for state, seeds in zip(request.states, request.seeds, strict=True)
        ]
        samples = tuple(tuple(steps for steps, _ in each) for each in drawn)
        known = any(after for each in drawn for _, after in each)
        transitions = tuple(tuple(after for _, after in each) for each in drawn) if known else ()
        lengths = [sum(step.tokens for step in steps) for each in samples for steps in each]
        flops, reads = 2.0 * self.parameters * sum(lengths), float(self.parameters * max(lengths, default=0))
        return Proposed(samples, Usage(0, sum(lengths), flops, reads), transitions)

    def _sample(
        self, state: State, seed: int, temperature: float, max_steps: int | None
    ) -> tuple[tuple[Step, ...], tuple[Transition, ...]]:
        """The steps, and the transitions of those after which it went on or was over."""
        rng, steps, transitions = random.Random(seed), list[Step](), list[Transition]()
        while True:
            steps.append(self._step(state, rng, temperature))
            if len(steps) == max_steps:  # where the last step leads is not asked here
                break
            after = self.environment.step(state, steps[-1])
            transitions.append(after)
            if after.status != "running":
                break
            state = after.state
        return tuple(steps), tuple(transitions)

    def _step(self, state: State, rng: random.Random, temperature: float) -> Step:
        weights = self._script(state)
        if not weights:
            return Step("", tokens=1, finish="answer")
        texts = list(weights)
        if temperature == 0:
            text = max(texts, key=lambda each: weights[each])
        else:
            text = rng.choices(texts, [weights[each] ** (1 / temperature) for each in texts])[0]
        total, tokens = sum(weights.values()), len(text.split()) + 1
        step = Step(text, tokens, math.log(weights[text] / total))
        if self._top is None:
            return step
        certainty = certainty_of([math.log(each / total) for each in weights.values()], self._top or len(weights))
        return replace(step, certainty=(certainty,) * tokens)
