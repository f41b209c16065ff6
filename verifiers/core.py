"""What a verifier is asked (`Score`), what it replies (`Scored`), and the contract it keeps (`Verifier`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from envs.core import State
from policies.service import Service


@dataclass(frozen=True)
class Score:
    """Score every step of each state, or compare whole solutions.

    Args:
        states: states of one search, each with at least one step.
        scope: the search that asks; work is reused within a scope only.
        groups: indices of states that are shown together, in this order, two or more each; which is the best is asked
            then, in place of scores of steps. Only for a verifier that says `compares`.
    """

    states: tuple[State, ...]
    scope: str = ""
    groups: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Scored:
    """The reply: ``scores[i]`` has one number in [0, 1] per step of ``states[i]``; what a model got wrong is NaN.

    Args:
        scores: as above; for groups, ``scores[i]`` has for each state of ``groups[i]`` the chance that it is the best
            of them, and NaN for all where the verdict cannot be read. The engine replaces NaN by 0 and counts it; a
            verifier never hides it.
        tokens: tokens run through the verifier's models; reused keys and values do not count.
        flops: 2 x parameters x tokens, over every model involved.
        reads: numbers read from memory, weights and keys and values (`policies.memory_traffic`); 0 if unknown.
        deviations: how sure the verifier is of each score, its standard deviation in [0, 0.5], in the shape of
            `scores`; NaN where it does not know, and empty from a verifier that gives none.
    """

    scores: tuple[tuple[float, ...], ...]
    tokens: int = 0
    flops: float = 0.0
    reads: float = 0.0
    deviations: tuple[tuple[float, ...], ...] = ()


@runtime_checkable
class Verifier(Service[Score, Scored], Protocol):
    """Something that scores the steps of a state. `check_verifier` tests the contract.

    What else one may say of itself is declared by `ConfidenceReader`, `Comparer` and `policies.service.Identified`.

    An empty last step, a trailing delimiter or another state in the batch never changes a score. `parameters` is 0 for
    a symbolic checker.
    """


@runtime_checkable
class ConfidenceReader(Protocol):
    """A verifier that may read how sure the policy was of its tokens.

    Attributes:
        top: by how many of the likeliest tokens the policy is to record it, 0 for all; None where it need not.
    """

    @property
    def top(self) -> int | None: ...


@runtime_checkable
class Comparer(Protocol):
    """A verifier that may be able to compare solutions.

    Attributes:
        compares: whether it can (`Score.groups`).
    """

    @property
    def compares(self) -> bool: ...
