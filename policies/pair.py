"""Two policies as one: a small one that is asked, and a large one for the steps that a strategy wants from it.

Requests go to the small policy unless they say `Propose.large`. Each policy measures what it costs, so a search is
charged for both by the size of each. Steps of one are text to the other, as all steps are: what a policy has not
written itself it has to read, and that is charged too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from envs.core import Environment
from policies.core import (
    ConfidenceRecorder,
    Converser,
    DistinctSampler,
    OpenLoopSampler,
    PartialReplier,
    Policy,
    Propose,
    Proposed,
    Thinker,
)
from policies.models.digest import joint_digest
from policies.service import Identified


class PolicyPair:
    """A small and a large policy of the same environment.

    Args:
        small: answers what is not asked of the other.
        large: answers what `Propose.large` asks for.

    Attributes:
        name: of both.
        parameters: of the small one.
        has_large: there is a large policy.
    """

    has_large = True

    def __init__(self, small: Policy, large: Policy) -> None:
        self.small, self.large = small, large
        self.name = f"{small.name}+{large.name}"
        self.parameters = small.parameters
        both: tuple[object, object] = (small, large)
        self.thinks = any(isinstance(each, Thinker) and each.thinks for each in both)
        self.converses = all(isinstance(each, Converser) and each.converses for each in both)
        self.distinct = all(isinstance(each, DistinctSampler) and each.distinct for each in both)
        self.open_loop = all(isinstance(each, OpenLoopSampler) and each.open_loop for each in both)

    def digest(self) -> str:
        """Of both; empty if one of them is not known."""
        each = [policy.digest() if isinstance(policy, Identified) else "" for policy in (self.small, self.large)]
        return joint_digest(each)

    def record_confidence(self, top: int) -> None:
        """Have both record how sure they are; raises ValueError where one cannot."""
        for policy in (self.small, self.large):
            if not isinstance(policy, ConfidenceRecorder):
                raise ValueError(f"policy {policy.name!r} does not tell how sure it is of its tokens")
            policy.record_confidence(top)

    def submit(self, ticket: int, request: Propose) -> None:
        """Hand a request on; raises what the policy asked raises."""
        (self.large if request.large else self.small).submit(ticket, request)

    def poll(self) -> Sequence[tuple[int, Proposed | Exception]]:
        """Poll both."""
        return [*self.small.poll(), *self.large.poll()]

    def partial(self, ticket: int) -> Proposed | None:
        """What there is of a reply that is not complete, at the one of both that was asked."""
        for policy in (self.small, self.large):
            if isinstance(policy, PartialReplier) and (reply := policy.partial(ticket)) is not None:
                return reply
        return None

    def cancel(self, scope: str) -> None:
        """Drop the requests of a search, at both."""
        self.small.cancel(scope)
        self.large.cancel(scope)

    def close(self) -> None:
        """Close both."""
        self.small.close()
        self.large.close()


def load_pair(
    environment: Environment, *, small: str | Mapping[str, Any] = "", large: str | Mapping[str, Any] = ""
) -> PolicyPair:
    """Two policies, each a name or a mapping of a ``name`` and options; ``--policy NAME --large-policy NAME`` in short.

    Args:
        environment: whose problems they continue.
        small: asked for every step.
        large: asked for the steps that a strategy wants from it.

    Raises:
        ValueError: one of them is not given, is a pair itself, or cannot be loaded.
    """
    from policies.registry import load_policy

    made = [load_policy(name, environment, **options) for name, options in map(member, (small, large))]
    return PolicyPair(*made)


def member(given: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name and the options of one policy of a pair; raises ValueError for what is none."""
    options = {"name": given} if isinstance(given, str) else dict(given)
    name = options.pop("name", "")
    if not isinstance(name, str) or not name or name == "pair":
        raise ValueError(f"a pair has a small and a large policy, each a name; {given!r} is none")
    return name, options
