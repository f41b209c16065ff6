"""From step scores to one number, and from finished trajectories to one answer (Liu et al. 2025, section 4.1).

Scores of a trajectory are aggregated by *last*, *min*, *mean* or *product*; answers are chosen by *majority* (count),
*max* (PRM-Max: the best single trajectory) or *vote* (PRM-Vote: the sum of scores per answer).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Rule = Literal["majority", "max", "vote"]
Aggregate = Literal["last", "min", "mean", "product"]


@dataclass(frozen=True)
class Vote:
    """How an answer is chosen.

    Args:
        rule: ``majority``, ``max`` (PRM-Max) or ``vote`` (PRM-Vote).
        aggregate: how the step scores of a trajectory become one number.
    """

    rule: Rule = "vote"
    aggregate: Aggregate = "last"

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("rule", self.rule, get_args(Rule)),
            ("aggregate", self.aggregate, get_args(Aggregate)),
        ):
            if value not in allowed:
                raise ValueError(f"{name} {value!r} given; allowed: {', '.join(allowed)}")


@dataclass(frozen=True)
class Candidate:
    """A finished trajectory.

    Args:
        answer: its answer.
        scores: one per step, each in [0, 1]; empty when nothing scored it.
        count: how many identical samples it stands for.
        node: its node in the search graph.
        weight: what it counts for under the rule ``vote``, where the strategy says so; None is its score times `count`.
    """

    answer: str
    scores: tuple[float, ...] = ()
    count: int = 1
    node: int = 0
    weight: float | None = None


@dataclass(frozen=True)
class Group:
    """All candidates with the same answer.

    Args:
        answer: that of its best candidate.
        weight: what the rule gives it: a count, a best score or a sum of scores.
        count: samples in it.
        score: aggregated score of its best candidate.
        best: the best-scored candidate, the earliest of equals.
    """

    answer: str
    weight: float
    count: int
    score: float
    best: Candidate


def aggregate(scores: Sequence[float], how: Aggregate) -> float:
    """One number of step scores; 0 for no scores."""
    if not scores:
        return 0.0
    match how:
        case "last":
            return scores[-1]
        case "min":
            return min(scores)
        case "mean":
            return sum(scores) / len(scores)
        case "product":
            return math.prod(scores)


def classes(answers: Iterable[str], same: Callable[[str, str], bool]) -> dict[str, str]:
    """For each answer the shortest one of its class, whatever the order of the answers.

    Every distinct answer is compared with the classes so far, the shortest first, and not with every other answer.
    Where `same` is an equivalence these are its classes. An answer that leaves something out (3 is the same as 3 hours
    and as 3 minutes, which are not the same) comes first, as the shorter one, and what agrees with it is in its class.

    Args:
        answers: any number of them, in any order, with or without repetitions.
        same: the environment's equivalence of answers.
    """
    leader: dict[str, str] = {}
    leaders = list[str]()
    for answer in sorted(set(answers), key=lambda text: (len(text), text)):
        first = next((each for each in leaders if same(each, answer)), None)
        if first is None:
            leaders.append(answer)
        leader[answer] = answer if first is None else first
    return leader


def tally(candidates: Sequence[Candidate], vote: Vote, same: Callable[[str, str], bool]) -> list[Group]:
    """Group candidates by `same` and weigh the groups, heaviest first; ties go to more samples, then to the earlier.

    Which candidates are in a group does not depend on their order (`classes`).

    Args:
        candidates: finished trajectories, in order of creation.
        vote: the rule and the aggregation.
        same: the environment's equivalence of answers.
    """
    leader = classes((candidate.answer for candidate in candidates), same)
    members: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        members.setdefault(leader[candidate.answer], []).append(candidate)
    groups = [_weigh(group, vote) for group in members.values()]
    order = sorted(range(len(groups)), key=lambda i: (-groups[i].weight, -groups[i].count, i))
    return [groups[i] for i in order]


def _weigh(group: Sequence[Candidate], vote: Vote) -> Group:
    values = [aggregate(candidate.scores, vote.aggregate) for candidate in group]
    top = max(range(len(group)), key=lambda i: (values[i], -i))
    count = sum(candidate.count for candidate in group)
    weight = {
        "majority": float(count),
        "max": values[top],
        "vote": math.fsum(
            value * candidate.count if candidate.weight is None else candidate.weight
            for value, candidate in zip(values, group, strict=True)
        ),
    }[vote.rule]
    return Group(group[top].answer, weight, count, values[top], group[top])
