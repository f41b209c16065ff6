"""What a strategy is to those who run it."""

from __future__ import annotations

from typing import Any, Protocol, Self

from agent.search.graph import SearchGraph
from agent.search.requests import Search
from agent.strategies.traits import Traits
from verifiers.voting import Vote


class Strategy(Protocol):
    """A way to spend a budget on one problem: a frozen dataclass, whose fields are its knobs."""

    @property
    def vote(self) -> Vote:
        """How the answer is chosen of what the search finished."""
        ...

    @property
    def traits(self) -> Traits:
        """What it says of itself."""
        ...

    def search(self, graph: SearchGraph) -> Search[None]:
        """Yield requests to the engine, and write what they bring into the graph, until the budget is spent."""
        ...

    @classmethod
    def sized(cls, n: int, **knobs: Any) -> Self:
        """The strategy whose natural cost is n sample-equivalents, other knobs as given."""
        ...
