"""Best-of-N and its two plain relatives, greedy decoding and majority voting.

Snell et al. 2024 (arXiv 2408.03314), section 5.1: N complete answers, sampled independently; one is chosen by score
(PRM-Max) or by the sum of scores of equal answers (Best-of-N weighted, here PRM-Vote). There is no selection and no
expansion of partial solutions: whole trajectories are evaluated once, at their end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from agent.search.budget import Budget
from agent.search.graph import SearchGraph
from agent.search.requests import Search, propose, score
from agent.strategies.traits import Traits
from envs.options import AtLeast, check_ranges
from verifiers.voting import Vote

_ROUND = 16  # samples asked for at once where a limit may end the search: whole rounds are kept, and paid for


def _round(budget: Budget, n: int) -> int:
    """Samples of one request: all, if no limit can end the search before the last."""
    others = (budget.tokens, budget.flops, budget.seconds)
    whole = others == (None, None, None) and (budget.samples is None or n <= budget.samples)
    return n if whole else _ROUND


@dataclass(frozen=True)
class BestOfN:
    """N independent complete samples, scored when they have ended. N buys N samples.

    Args:
        n: samples.
        temperature: of the samples.
        vote: how the answer is chosen; with ``majority`` the verifier is never asked.
        distinct: draw without replacement. Equal samples no longer tell that the policy is sure: for tasks whose
            answers prove themselves.
    """

    n: Annotated[int, AtLeast(1)] = 16
    temperature: Annotated[float, AtLeast(0)] = 1.0
    vote: Vote = field(default_factory=Vote)
    distinct: bool = False

    def __post_init__(self) -> None:
        check_ranges(self)

    @classmethod
    def sized(cls, n: int, **knobs: Any) -> Self:
        """Best-of-N whose N is n; other knobs as given."""
        return cls(n=n, **knobs)

    @property
    def traits(self) -> Traits:
        """Whole samples, scored unless they are only counted."""
        return Traits(self.vote.rule != "majority", independent=True, deterministic=self.temperature == 0)

    def search(self, graph: SearchGraph) -> Search[None]:
        """Sample, then score: all at once where no limit can end the search before, else round by round."""
        size = _round(graph.context.budget, self.n)
        for drawn in range(0, self.n, size):
            n = min(size, self.n - drawn)
            (ends,) = yield from propose(
                graph, [graph.root], n, self.temperature, max_steps=None, distinct=self.distinct
            )
            if self.vote.rule != "majority":
                yield from score(graph, [node for node in ends if graph.status(node) == "terminated"])


@dataclass(frozen=True)
class Majority:
    """Self-consistency: N samples, the commonest answer; no verifier. N buys N samples.

    Args:
        n: samples.
        temperature: of the samples.
        vote: how the answers are counted.
        distinct: draw without replacement, as `BestOfN` says.
    """

    n: Annotated[int, AtLeast(1)] = 16
    temperature: Annotated[float, AtLeast(0)] = 1.0
    vote: Vote = field(default_factory=lambda: Vote("majority"))
    distinct: bool = False

    def __post_init__(self) -> None:
        check_ranges(self)

    @classmethod
    def sized(cls, n: int, **knobs: Any) -> Self:
        """Majority voting over n samples; other knobs as given."""
        return cls(n=n, **knobs)

    @property
    def traits(self) -> Traits:
        """Independent whole samples, without scores."""
        return Traits(needs_scores=False, independent=True, deterministic=self.temperature == 0)

    def search(self, graph: SearchGraph) -> Search[None]:
        """Draw n whole samples."""
        yield from BestOfN(self.n, self.temperature, Vote("majority"), self.distinct).search(graph)


@dataclass(frozen=True)
class Greedy:
    """One sample at temperature 0, whatever the budget; no verifier.

    Args:
        vote: of the one answer.
    """

    vote: Vote = field(default_factory=lambda: Vote("majority"))

    @classmethod
    def sized(cls, n: int, **knobs: Any) -> Self:
        """Greedy decoding has no size."""
        return cls(**knobs)

    @property
    def traits(self) -> Traits:
        """One whole sample, the same every time."""
        return Traits(needs_scores=False, independent=True, deterministic=True)

    def search(self, graph: SearchGraph) -> Search[None]:
        """Decode one whole sample at temperature 0."""
        yield from BestOfN(1, 0.0, Vote("majority")).search(graph)
