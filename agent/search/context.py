"""What a search runs with (`RunContext`) and what came out of it (`Outcome`): typed, and each made in one place.

The engine makes the context from the task and its services, and the graph holds it: strategies, the planner and
displays read it there. ``SearchGraph.info`` only records; nothing that decides is read from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from agent.search.budget import Budget, Meter
from verifiers.voting import Group, Vote

Part = Literal["environment", "policy", "verifier"]


def _unknown(part: Part) -> str:
    """Of a search that was loaded, or made by hand."""
    return ""


@dataclass(frozen=True)
class Underway:
    """What there is of a reply that is awaited.

    Args:
        asked: samples.
        ended: those of them that have ended.
        answers: of these, as far as they have any.
    """

    asked: int
    ended: int
    answers: tuple[str, ...] = ()

    @property
    def leading(self) -> tuple[str, int] | None:
        """The commonest of the answers, and how often it was given."""
        return Counter(self.answers).most_common(1)[0] if self.answers else None


@dataclass(frozen=True)
class RunContext:
    """What one search runs with.

    Args:
        policy: its name.
        policy_parameters: how many it has; 0 if unknown.
        policy_thinks: its model thinks at length before it answers.
        policy_distinct: it can draw without replacement.
        verifier: its name; None without one.
        budget: the limits of the search.
        vote: how its answer is chosen.
        digest: of the ``environment``, the ``policy`` or the ``verifier``: what tells it from others under the same
            name; empty if that is not known. Worked out when it is asked for.
        verifier_parameters: how many it has; 0 if unknown, or without one.
        meter: what it has spent so far; the engine charges it.
        policy_large: a larger policy can be asked, too (`policies.core.Propose.large`).
        verifier_compares: the verifier compares solutions (`verifiers.core.Comparer`).
    """

    policy: str = ""
    policy_parameters: int = 0
    policy_thinks: bool = False
    policy_distinct: bool = False
    verifier: str | None = None
    budget: Budget = field(default_factory=Budget)
    vote: Vote = field(default_factory=Vote)
    digest: Callable[[Part], str] = field(default=_unknown, compare=False, repr=False)
    verifier_parameters: int = 0
    meter: Meter = field(default_factory=Meter, compare=False, repr=False)
    policy_large: bool = False
    verifier_compares: bool = False

    def to_info(self) -> dict[str, Any]:
        """The context as a record, JSON-ready; what says nothing is left out."""
        return {
            "policy": self.policy,
            "policy_parameters": self.policy_parameters,
            **({"policy_thinks": True} if self.policy_thinks else {}),
            **({"policy_distinct": True} if self.policy_distinct else {}),
            **({"policy_large": True} if self.policy_large else {}),
            "verifier": self.verifier,
            "vote": asdict(self.vote),
            "budget": {key: value for key, value in asdict(self.budget).items() if value is not None},
        }

    @classmethod
    def from_info(cls, info: Mapping[str, Any]) -> RunContext:
        """Undo `to_info`; what a record of an older version lacks is as by default.

        Raises:
            ValueError, TypeError: a part has the wrong type or a value that is not allowed.
        """
        return cls(
            str(info.get("policy", "")),
            int(info.get("policy_parameters", 0)),
            bool(info.get("policy_thinks", False)),
            bool(info.get("policy_distinct", False)),
            info.get("verifier"),
            Budget(**info.get("budget", {})),
            Vote(**info.get("vote", {})),
            policy_large=bool(info.get("policy_large", False)),
        )


@dataclass(frozen=True)
class Outcome:
    """What the vote over the finished candidates of a search chose.

    Args:
        answer: of the heaviest group; None when nothing finished.
        node: the best candidate of that group.
        confidence: the share of the vote that the answer holds, in [0, 1]; 0 when every vote weighs nothing.
        groups: the answers, heaviest first.
    """

    answer: str | None = None
    node: int | None = None
    confidence: float = 0.0
    groups: tuple[Group, ...] = ()

    @classmethod
    def of(cls, groups: Sequence[Group]) -> Outcome:
        """The choice of a vote that is counted."""
        if not groups:
            return cls()
        return cls(groups[0].answer, groups[0].best.node, _share(groups[0], groups), tuple(groups))

    def accepting(self, node: int, answer: str, same: Callable[[str, str], bool]) -> Outcome:
        """The same vote, with the answer that a person took instead; its confidence is the share that it holds."""
        groups = self.groups
        held = next((_share(group, groups) for group in groups if same(group.answer, answer)), 0.0)
        return Outcome(answer, node, held, groups)


def _share(group: Group, groups: Sequence[Group]) -> float:
    """Of the vote, in [0, 1]."""
    total = sum(each.weight for each in groups)
    return group.weight / total if total else 0.0
