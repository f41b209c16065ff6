"""Requests in progress, as every policy that runs samples one by one keeps them."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field

from envs.core import Step, Transition
from envs.errors import StepwellError
from policies.core import Propose, Proposed, Usage


class BrokenModel(StepwellError, RuntimeError):
    """A model's outputs are no distribution (NaN or infinite), so nothing can be sampled from it."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"model {name!r} gives NaN or infinite logits: its weights are broken, or its numbers are too large for "
            "its precision (dtype float32 and bfloat16 hold larger ones than float16)"
        )


@dataclass
class Job:
    """A request in progress.

    Args:
        ticket: the caller's.
        request: what was asked.
        samples: the steps of each sample, as in `Proposed`; empty while it is in progress.
        missing: samples in progress.
        prefilled: prompt tokens run for it.
        generated: tokens sampled for it.
        known: those of them that needed no model, as samples before had drawn them
            (`policies.generation.without_replacement`).
        error: why it cannot be answered, if it cannot.
        transitions: of the steps of each sample that is complete, by its place, as far as they were asked for.
    """

    ticket: int
    request: Propose
    samples: list[list[tuple[Step, ...]]]
    missing: int
    prefilled: int = 0
    generated: int = 0
    known: int = 0
    error: Exception | None = None
    transitions: dict[tuple[int, int], tuple[Transition, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, ticket: int, request: Propose, tickets: Container[int]) -> Job:
        """Begin a request.

        Raises:
            ValueError: when it is malformed (one tuple of seeds per state, temperature >= 0 and above it for distinct
                samples, max_steps None or >= 1), or its ticket is one of those in use.
        """
        if ticket in tickets:
            raise ValueError(f"ticket {ticket} is in use")
        if len(request.seeds) != len(request.states):
            raise ValueError(f"{len(request.seeds)} tuples of seeds for {len(request.states)} states; one each")
        if not request.temperature >= 0 or (request.max_steps is not None and request.max_steps < 1):
            given = f"temperature {request.temperature}, max_steps {request.max_steps}"
            raise ValueError(f"{given}; allowed: temperature >= 0, max_steps None or >= 1")
        if request.distinct and not request.temperature:
            raise ValueError("distinct samples at temperature 0 were asked for; there is only one")
        return cls(ticket, request, [[() for _ in seeds] for seeds in request.seeds], sum(map(len, request.seeds)))

    def finish(
        self,
        place: tuple[int, int],
        steps: tuple[Step, ...],
        generated: int,
        known: int = 0,
        transitions: tuple[Transition, ...] = (),
    ) -> bool:
        """Take the steps of a sample, the tokens they took, and the known ones of them; whether it was the last one.

        The transitions are those of its first steps, as far as the environment was asked for them.
        """
        i, j = place
        if transitions:
            self.transitions[place] = transitions
        self.samples[i][j] = steps
        self.generated += generated
        self.known += known
        self.missing -= 1
        return not self.missing

    def reply(self, parameters: int) -> Proposed | Exception:
        """What the policy answers, once nothing is missing or something failed.

        A sample of n tokens runs n: the last of its prompt and all but the last of its own. One whose first m are known
        runs n - m: the last of those, and all but the last of the others.
        """
        if self.error is not None:
            return self.error
        flops = 2.0 * parameters * (self.prefilled + self.generated - self.known)
        transitions = tuple(
            tuple(self.transitions.get((i, j), ()) for j in range(len(each))) for i, each in enumerate(self.samples)
        )
        return Proposed(
            tuple(map(tuple, self.samples)),
            Usage(self.prefilled, self.generated, flops),
            transitions if self.transitions else (),
        )
