"""What a policy is asked (`Propose`), what it replies (`Proposed`), and the contract it keeps (`Policy`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from envs.core import State, Step, Transition
from policies.service import Service


@dataclass(frozen=True)
class Usage:
    """What a reply cost to compute, as measured by the service that computed it.

    Args:
        prefilled: prompt tokens run through the model; tokens whose keys and values were reused do not count.
        generated: tokens sampled.
        flops: 2 x parameters x tokens run through the model, over every model involved.
        reads: numbers read from memory, weights and keys and values (`policies.memory_traffic`); 0 if unknown.
    """

    prefilled: int = 0
    generated: int = 0
    flops: float = 0.0
    reads: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prefilled + other.prefilled,
            self.generated + other.generated,
            self.flops + other.flops,
            self.reads + other.reads,
        )


@dataclass(frozen=True)
class Propose:
    """Sample continuations of states of one search.

    Args:
        states: where to go on from.
        seeds: for each state, one seed per sample wanted (so ``len(seeds[i])`` samples of ``states[i]``). A sample
            depends on its state, its seed and the temperature only, never on what else is in a batch.
        temperature: 0 is greedy.
        max_steps: stop after this many steps; None goes on until the answer or the depth limit.
        scope: the search that asks; keys and values are reused within a scope only, so that cost does not depend
            on what else runs.
        distinct: draw without replacement: no tokens that the scope got in this way before, of the same state,
            `temperature` and `max_steps`, as long as more than a millionth of the probability is left. Such a sample
            depends on those before it, too, in the order of requests and seeds. Only for a policy that says `distinct`.
        open_loop: go on to the end of the solution (or for `max_steps`) without asking the environment where a step
            leads; whoever asks does that. Only for a policy that says `open_loop`.
        large: asks the larger one of two policies. Only for a policy that says `has_large`.
        tokens: most new tokens of a sample; the step that reaches it is cut (finish ``length``). A policy whose steps
            are written already, in a script or a file, does not cut them.
    """

    states: tuple[State, ...]
    seeds: tuple[tuple[int, ...], ...]
    temperature: float = 1.0
    max_steps: int | None = 1
    scope: str = ""
    distinct: bool = False
    open_loop: bool = False
    large: bool = False
    tokens: int | None = None


@dataclass(frozen=True)
class Proposed:
    """The reply: ``samples[i][j]`` are the new steps (at least one) of sample j of ``states[i]``.

    Each sample obeys the environment: it ends when `Environment.step` says that the trajectory ended. After the last
    step that was asked for that need not be known, and a policy does better not to ask: transitions may be slow.

    Args:
        samples: as above.
        usage: what they cost.
        transitions: ``transitions[i][j]`` are those of the first steps of that sample, as far as the policy asked the
            environment for them, so that the search need not ask again; empty where none are given at all.
    """

    samples: tuple[tuple[tuple[Step, ...], ...], ...]
    usage: Usage = Usage()
    transitions: tuple[tuple[tuple[Transition, ...], ...], ...] = ()


@runtime_checkable
class Policy(Service[Propose, Proposed], Protocol):
    """Something that proposes steps for one environment. `check_policy` tests the contract.

    What else one may say of itself is declared by `Thinker`, `DistinctSampler`, `ConfidenceRecorder`, `PartialReplier`
    and `policies.service.Identified`.
    """


@runtime_checkable
class Thinker(Protocol):
    """A policy whose model may think at length before it answers.

    Attributes:
        thinks: whether it does; the planner then spends on whole solutions, unless it was fitted for the policy.
    """

    @property
    def thinks(self) -> bool: ...


@runtime_checkable
class Converser(Protocol):
    """A policy that may be able to go on with a conversation.

    Attributes:
        converses: whether it shows its model the turns before the question (`envs.core.Problem.conversation`).
    """

    @property
    def converses(self) -> bool: ...


@runtime_checkable
class DistinctSampler(Protocol):
    """A policy that may be able to draw without replacement.

    Attributes:
        distinct: whether it can (`Propose.distinct`).
    """

    @property
    def distinct(self) -> bool: ...


@runtime_checkable
class OpenLoopSampler(Protocol):
    """A policy that may be able to draw steps without asking the environment where each one leads.

    Attributes:
        open_loop: whether it can (`Propose.open_loop`).
    """

    @property
    def open_loop(self) -> bool: ...


@runtime_checkable
class PartialReplier(Protocol):
    """A policy that can tell what it has of a reply before that is complete."""

    def partial(self, ticket: int) -> Proposed | None:
        """What there is of the reply to a request; None if the policy has no such request, or it failed.

        Samples that have not ended are empty; what they have cost so far need not be counted.
        """
        ...


@runtime_checkable
class ConfidenceRecorder(Protocol):
    """A policy that can tell how sure its model is of each token (`envs.core.Step.certainty`)."""

    def record_confidence(self, top: int) -> None:
        """Record it from now on, by so many of the likeliest tokens; 0 is the whole vocabulary.

        Raises:
            ValueError: what runs the model does not tell as many.
        """
        ...


@runtime_checkable
class LargePolicyHolder(Protocol):
    """A policy that may have a larger one beside it (`policies.pair`).

    Attributes:
        has_large: whether it has (`Propose.large`).
    """

    @property
    def has_large(self) -> bool: ...
