"""What a strategy says of itself, for those who choose among strategies without knowing their names."""

from __future__ import annotations

from dataclasses import dataclass

from envs.messages import UsageError

COMPARERS = ("openai:MODEL", "reward", "table")
"""Those of our verifiers that compare solutions (`verifiers.core.Comparer`)."""


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
        needs_comparisons: it has the verifier compare solutions, as few verifiers can (`verifiers.core.Comparer`).
    """

    needs_scores: bool = True
    independent: bool = False
    deterministic: bool = False
    decides: bool = False
    needs_large: bool = False
    needs_comparisons: bool = False

    def check(self, strategy: str, policy: str, large: bool, verifier: str | None, compares: bool) -> None:
        """Refuse a strategy that lacks what it needs.

        Args:
            strategy: its name, for the message.
            policy: its name, for the message.
            large: there is a larger policy, too.
            verifier: its name; None without one.
            compares: the verifier compares solutions, or may do so.

        Raises:
            UsageError: in one line that says what would do.
        """
        if self.needs_scores and verifier is None:
            raise UsageError(
                f"strategy {strategy} asks for scores, and the verifier is none; name a verifier, or use greedy or"
                " majority"
            )
        if self.needs_comparisons and not compares:
            raise UsageError(
                f"strategy {strategy} has solutions compared, and verifier {verifier} scores each by itself; verifiers"
                f" that compare: {', '.join(COMPARERS)}"
            )
        if self.needs_large and not large:
            raise UsageError(
                f"strategy {strategy} is for two policies, and there is {policy} alone; name a larger one with"
                " --large-policy"
            )
