"""What a policy is asked (`Propose`), what it replies (`Proposed`), and the contract it keeps (`Policy`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from envs.core import State, Step


@dataclass(frozen=True)
class Usage:
    """What a reply cost to compute, as measured by the service that computed it.

    Args:
        prefilled: prompt tokens run through the model; tokens whose keys and values were reused do not count.
        generated: tokens sampled.
        flops: 2 x parameters x tokens run through the model, over every model involved.
    """

    prefilled: int = 0
    generated: int = 0
    flops: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.prefilled + other.prefilled, self.generated + other.generated, self.flops + other.flops)


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
    """

    states: tuple[State, ...]
    seeds: tuple[tuple[int, ...], ...]
    temperature: float = 1.0
    max_steps: int | None = 1
    scope: str = ""
    distinct: bool = False
    open_loop: bool = False


@dataclass(frozen=True)
class Proposed:
    """The reply: ``samples[i][j]`` are the new steps (at least one) of sample j of ``states[i]``.

    Each sample obeys the environment: it ends when `Environment.step` says that the trajectory ended. After the last
    step that was asked for that need not be known, and a policy does better not to ask: transitions may be slow.
    """

    samples: tuple[tuple[tuple[Step, ...], ...], ...]
    usage: Usage = Usage()


@runtime_checkable
class Policy(Protocol):
    """Something that proposes steps for one environment.

    Requests are submitted and replies polled for, in any order: the same contract fits a batch, a streaming engine
    and a remote server. `check_policy` tests all of it.

    One whose model thinks at length before it answers may also say so, with an attribute `thinks`: the planner then
    spends on whole solutions, unless it was fitted for the policy. One that can draw without replacement says so with
    an attribute `distinct`, and one that can go on without the environment with an attribute `open_loop`.

    Attributes:
        name: identifies the policy in records; plans belong to a (policy, verifier) pair by name.
        parameters: number of parameters, for FLOPs (0 if unknown).
    """

    @property
    def name(self) -> str: ...

    @property
    def parameters(self) -> int: ...

    def submit(self, ticket: int, request: Propose) -> None:
        """Queue a request under the caller's ticket; returns at once."""
        ...

    def poll(self) -> Sequence[tuple[int, Proposed | Exception]]:
        """Do or await some work; return the replies that became ready, maybe none. Returns () at once when idle.

        A request that cannot be answered is answered by the exception that says why, and fails its search alone; a
        `ConnectionError` says that trying again later may help.
        """
        ...

    def cancel(self, scope: str) -> None:
        """Drop the queued and running requests of a search, and what was kept for it."""
        ...

    def close(self) -> None:
        """Free what the policy holds."""
        ...
