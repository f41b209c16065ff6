"""What a strategy says of itself, for those who choose among strategies without knowing their names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Traits:
    """Facts about a strategy as it is configured.

    Args:
        needs_scores: it asks the verifier; without one it cannot run.
        independent: it draws whole solutions from the root that do not depend on each other, so that they can be pooled
            with those of another such strategy.
        deterministic: repeated, it finds the same solutions again.
        needs_large: it is for two policies; without a larger one it is not what it says.
        decides: it ends when more is not worth its cost, so that it is not begun again to use up a budget.
    """

    needs_scores: bool = True
    independent: bool = False
    deterministic: bool = False
    decides: bool = False
    needs_large: bool = False
