"""Requests in progress, as every policy that runs samples one by one keeps them."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field

from envs.core import Step, Transition
from envs.errors import StepwellError
from policies.core import Propose, Proposed, Usage
from policies.memory_traffic import positions_read


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
        passes: of the model, one after another, that draw its tokens: samples that are drawn without replacement wait
            for each other, all others share them.
        positions: whose keys and values those passes read.
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
    passes: int = 0
    positions: int = 0
    error: Exception | None = None
    transitions: dict[tuple[int, int], tuple[Transition, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, ticket: int, request: Propose, tickets: Container[int]) -> Job:
        """Begin a request.

        Raises:
            ValueError: when it is malformed (one tuple of seeds per state, temperature >= 0 and above it for distinct
                samples, max_steps and tokens None or >= 1), or its ticket is one of those in use.
        """
        if ticket in tickets:
            raise ValueError(f"ticket {ticket} is in use")
        if len(request.seeds) != len(request.states):
            raise ValueError(f"{len(request.seeds)} tuples of seeds for {len(request.states)} states; one each")
        if not request.temperature >= 0 or (request.max_steps is not None and request.max_steps < 1):
            given = f"temperature {request.temperature}, max_steps {request.max_steps}"
            raise ValueError(f"{given}; allowed: temperature >= 0, max_steps None or >= 1")
        if request.tokens is not None and request.tokens < 1:
            raise ValueError(f"tokens {request.tokens} given; allowed: None or >= 1")
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
        context: int = 0,
        beside: int = 0,
    ) -> bool:
        """Take the steps of a sample, the tokens they took, and the known ones of them; whether it was the last one.

        The transitions are those of its first steps, as far as the environment was asked for them. `context` counts the
        tokens before its first new one, `beside` those that were drawn for it between its own, and are not of it.
        """
        i, j = place
        if transitions:
            self.transitions[place] = transitions
        self.samples[i][j] = steps
        self.generated += generated + beside
        self.known += known
        run = generated - known + beside
        self.passes = self.passes + run if self.request.distinct else max(self.passes, run)
        self.positions += positions_read(context, known, generated)
        self.missing -= 1
        return not self.missing

    def partial(self, parameters: int, position: int = 0) -> Proposed | None:
        """What there is of the reply before it is complete (`policies.core.PartialReplier`); None if it failed."""
        reply = self.reply(parameters, position)
        return None if isinstance(reply, Exception) else reply

    def reply(self, parameters: int, position: int = 0) -> Proposed | Exception:
        """What the policy answers, once nothing is missing or something failed; until then, what there is of it.

        `position` is the size of the keys and values of one token (`policies.memory_traffic.position_size`). A
        sample of n tokens runs n: the last of its prompt and all but the last of its own. One whose first m are known
        runs n - m: the last of those, and all but the last of the others.
        """
        if self.error is not None:
            return self.error
        flops = 2.0 * parameters * (self.prefilled + self.generated - self.known)
        reads = float(parameters * (self.passes + bool(self.prefilled)) + position * self.positions)
        transitions = tuple(
            tuple(self.transitions.get((i, j), ()) for j in range(len(each))) for i, each in enumerate(self.samples)
        )
        return Proposed(
            tuple(map(tuple, self.samples)),
            Usage(self.prefilled, self.generated, flops, reads),
            transitions if self.transitions else (),
        )
