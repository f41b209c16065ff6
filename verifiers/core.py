"""What a verifier is asked (`Score`), what it replies (`Scored`), and the contract it keeps (`Verifier`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from envs.core import State


@dataclass(frozen=True)
class Score:
    """Score every step of each state.

    Args:
        states: states of one search, each with at least one step.
        scope: the search that asks; work is reused within a scope only.
    """

    states: tuple[State, ...]
    scope: str = ""


@dataclass(frozen=True)
class Scored:
    """The reply: ``scores[i]`` has one number in [0, 1] per step of ``states[i]``; what a model got wrong is NaN.

    Args:
        scores: as above. The engine replaces NaN by 0 and counts it; a verifier never hides it.
        tokens: tokens run through the verifier's models; reused keys and values do not count.
        flops: 2 x parameters x tokens, over every model involved.
    """

    scores: tuple[tuple[float, ...], ...]
    tokens: int = 0
    flops: float = 0.0


@runtime_checkable
class Verifier(Protocol):
    """Something that scores the steps of a state. `check_verifier` tests the contract.

    An empty last step, a trailing delimiter or another state in the batch never changes a score.

    Attributes:
        name: identifies the verifier in records.
        parameters: number of parameters, for FLOPs (0 for a symbolic checker).
    """

    @property
    def name(self) -> str: ...

    @property
    def parameters(self) -> int: ...

    def submit(self, ticket: int, request: Score) -> None:
        """Queue a request under the caller's ticket; returns at once."""
        ...

    def poll(self) -> Sequence[tuple[int, Scored | Exception]]:
        """Do or await some work; return the replies that became ready, maybe none. Returns () at once when idle.

        A request that cannot be answered is answered by the exception that says why, and fails its search alone; a
        `ConnectionError` says that trying again later may help.
        """
        ...

    def cancel(self, scope: str) -> None:
        """Drop the queued and running requests of a search, and what was kept for it."""
        ...

    def close(self) -> None:
        """Free what the verifier holds."""
        ...
