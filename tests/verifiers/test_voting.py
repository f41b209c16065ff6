"""Votes: hand-computed answers, and what must hold for any candidates."""

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifiers.voting import Aggregate, Candidate, Rule, Vote, aggregate, classes, tally

RULES: list[Rule] = ["majority", "max", "vote"]
AGGREGATES: list[Aggregate] = ["last", "min", "mean", "product"]


def same(a: str, b: str) -> bool:
    """Answers are numbers."""
    return float(a) == float(b)


# Two trajectories say 7 (in two spellings), one says 3; the second stands for two samples.
HAND = [
    Candidate("7", (0.5, 0.8), node=1),
    Candidate("3", (1.0, 0.5), count=2, node=2),
    Candidate("7.0", (0.4, 0.25), node=3),
]
# last: 0.8, 0.5, 0.25 | min: 0.5, 0.5, 0.25 | mean: 0.65, 0.75, 0.325 | product: 0.4, 0.5, 0.1
EXPECTED: dict[tuple[Rule, Aggregate], tuple[float, float]] = {  # weights of 7 and of 3
    ("majority", "last"): (2, 2),
    ("majority", "min"): (2, 2),
    ("majority", "mean"): (2, 2),
    ("majority", "product"): (2, 2),
    ("max", "last"): (0.8, 0.5),
    ("max", "min"): (0.5, 0.5),
    ("max", "mean"): (0.65, 0.75),
    ("max", "product"): (0.4, 0.5),
    ("vote", "last"): (1.05, 1.0),
    ("vote", "min"): (0.75, 1.0),
    ("vote", "mean"): (0.975, 1.5),
    ("vote", "product"): (0.5, 1.0),
}


@pytest.mark.parametrize(("rule", "how"), EXPECTED)
def test_hand_computed(rule: Rule, how: Aggregate) -> None:
    sevens, threes = EXPECTED[rule, how]
    groups = tally(HAND, Vote(rule, how), same)
    weights = {float(group.answer): group.weight for group in groups}
    assert weights == {7: pytest.approx(sevens), 3: pytest.approx(threes)}
    # a tie goes to more samples (2 and 2 here), then to the earlier: 7
    assert float(groups[0].answer) == (3 if threes > sevens else 7)
    seven = next(group for group in groups if float(group.answer) == 7)
    assert (seven.answer, seven.best.node, seven.count) == ("7", 1, 2)


def test_ties_go_to_more_samples_then_to_the_earlier() -> None:
    few, many = Candidate("1", (0.6,)), Candidate("2", (0.6,), count=3)
    assert [group.answer for group in tally([few, many], Vote("max"), same)] == ["2", "1"]
    first, second = Candidate("1", (0.6,)), Candidate("2", (0.6,))
    assert [group.answer for group in tally([first, second], Vote("max"), same)] == ["1", "2"]
    twice = tally([Candidate("1", (0.6,), node=4), Candidate("1.0", (0.6,), node=5)], Vote(), same)
    assert twice[0].best.node == 4


def test_nothing_votes_for_nothing() -> None:
    assert tally([], Vote(), same) == []
    assert [aggregate((), how) for how in AGGREGATES] == [0.0] * 4


def test_unscored_trajectories_weigh_nothing_unless_they_are_counted() -> None:
    unscored, scored = Candidate("1", (), count=5), Candidate("2", (0.1,))
    assert tally([unscored, scored], Vote("vote"), same)[0].answer == "2"
    assert tally([unscored, scored], Vote("max"), same)[0].answer == "2"
    assert tally([unscored, scored], Vote("majority"), same)[0].answer == "1"


@pytest.mark.parametrize(
    ("knobs", "message"),
    [({"rule": "vot"}, "rule 'vot' given; allowed: majority, max, vote"), ({"aggregate": "sum"}, "aggregate 'sum'")],
)
def test_unknown_votes_are_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Vote(**knobs)


scores = st.lists(st.floats(0, 1), max_size=5).map(tuple)
candidates = st.lists(
    st.builds(
        Candidate,
        answer=st.sampled_from(["1", "1.0", "01", "2", "2.0", "3"]),
        scores=scores,
        count=st.integers(1, 9),
        node=st.integers(1, 99),
    ),
    max_size=12,
)
votes = st.builds(Vote, st.sampled_from(RULES), st.sampled_from(AGGREGATES))


@given(candidates, votes, st.randoms(use_true_random=False))
def test_order_changes_no_weight(given: list[Candidate], vote: Vote, rng: random.Random) -> None:
    shuffled = list(given)
    rng.shuffle(shuffled)
    facts = [
        {float(group.answer): (group.weight, group.count, group.score) for group in tally(each, vote, same)}
        for each in (given, shuffled)
    ]
    assert facts[0] == facts[1]


@given(candidates, votes)
def test_groups_part_the_candidates_by_sameness(given: list[Candidate], vote: Vote) -> None:
    groups = tally(given, vote, same)
    assert {float(group.answer) for group in groups} == {float(each.answer) for each in given}
    assert len(groups) == len({float(each.answer) for each in given})
    assert sum(group.count for group in groups) == sum(each.count for each in given)
    for group in groups:
        members = [each for each in given if same(each.answer, group.answer)]
        assert group.count == sum(each.count for each in members)
        assert group.best in members
        assert group.answer == group.best.answer
        assert group.score == max(aggregate(each.scores, vote.aggregate) for each in members)
    keys = [(-group.weight, -group.count) for group in groups]
    assert keys == sorted(keys)


@given(candidates, votes)
def test_a_count_is_that_many_candidates(given: list[Candidate], vote: Vote) -> None:
    split = [Candidate(each.answer, each.scores, 1, each.node) for each in given for _ in range(each.count)]
    merged, apart = (
        {float(group.answer): group for group in tally(candidates, vote, same)} for candidates in (given, split)
    )
    for answer, group in merged.items():
        assert group.weight == pytest.approx(apart[answer].weight)
        assert (group.answer, group.count, group.score) == (
            apart[answer].answer, apart[answer].count, apart[answer].score,
        )  # fmt: skip


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_aggregates_are_ordered(given: list[float]) -> None:
    values = {how: aggregate(given, how) for how in AGGREGATES}
    assert values["product"] <= values["min"] <= values["mean"] + 1e-12
    assert values["last"] == given[-1]
    assert values["product"] == math.prod(given)
    assert aggregate([*given, 1.0], "product") == values["product"]


@given(
    st.permutations(
        [
            r"50\%",
            "50",
            "50.0",
            "0.5",
            r"\frac12",
            "7",
            "7.0",
            "3 hours",
            "3",
            "180 minutes",
            "x=3",
            "(1,2)",
            "1,2",
            "2,1",
        ]
    )
)
def test_classes_do_not_depend_on_the_order_of_the_answers(answers: list[str]) -> None:
    def same(a: str, b: str) -> bool:  # not transitive: a number is like a quantity, and like another one
        return a[0] == b[0] or a[-1] == b[-1]

    assert classes(answers, same) == classes(sorted(answers), same)
    votes = [Candidate(answer, (0.5,), 1 + len(answer)) for answer in answers]
    first, second = (tally(each, Vote("majority"), same) for each in (votes, sorted(votes, key=lambda c: c.answer)))
    assert {(group.weight, group.count) for group in first} == {(group.weight, group.count) for group in second}


def test_a_vote_compares_classes_and_not_all_pairs() -> None:
    asked = list[tuple[str, str]]()

    def same(a: str, b: str) -> bool:
        asked.append((a, b))
        return int(a) % 3 == int(b) % 3

    groups = tally([Candidate(str(number)) for number in range(300)] * 5, Vote("majority"), same)
    assert [group.count for group in groups] == [500, 500, 500]
    assert len(asked) < 900
