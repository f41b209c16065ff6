"""Planted defects: each must be found, and named by its rule."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from envs.conformance import NonConforming
from envs.core import State, Step
from verifiers.conformance import check_verifier
from verifiers.core import Score, Scored


class Lengths:
    """A tiny verifier: the share of odd letters so far; `spoil` changes what it reads or replies."""

    name = "lengths"
    parameters = 1

    def __init__(self, spoil: str = "") -> None:
        self.spoil = spoil
        self.queue: list[tuple[int, Score]] = []
        self.polls = 0
        self.seen: set[State] = set()

    def submit(self, ticket: int, request: Score) -> None:
        self.queue.append((ticket, request))

    def poll(self) -> Sequence[tuple[int, Scored]]:
        if self.spoil == "silent":
            return ()
        queue, self.queue = self.queue, []
        return [
            (ticket, Scored(tuple(self.score(state, len(queue)) for state in request.states), 1, 2.0))
            for ticket, request in queue
        ]

    def score(self, state: State, batch: int) -> tuple[float, ...]:
        scores: list[float] = []
        for step in state.steps:
            text = step.text if self.spoil == "delimiter" else step.text.strip()
            if text or self.spoil == "empty" or not scores:
                scores.append(sum(map(ord, text)) % 97 / 97)
            else:
                scores.append(scores[-1])
        match self.spoil:
            case "short":
                return tuple(scores[:-1])
            case "range":
                return tuple(1.01 + score for score in scores)
            case "batch":
                return tuple(score / batch for score in scores)
            case "gold":
                return tuple(score * (state.problem.answer is None) for score in scores)
            case "memory":
                again = state in self.seen
                self.seen.add(state)
                return tuple(score / 2 if again else score for score in scores)
            case "rounding":
                return tuple(min(score + 1e-5 * (batch > 1), 1.0) for score in scores)
            case "later":
                return tuple(score / len(state.steps) for score in scores)
        return tuple(scores)

    def cancel(self, scope: str) -> None:
        if self.spoil == "stubborn":
            return
        self.queue = [(ticket, request) for ticket, request in self.queue if request.scope != scope]
        if self.spoil == "hasty":
            self.queue = []

    def close(self) -> None:
        self.queue = []


def states(chatter: Any) -> list[State]:
    return [State(problem, (Step("ab"), Step("cde"))) for problem in chatter.problems("test", 3)]


@pytest.mark.parametrize("spoil", ["", "rounding"])
def test_a_sound_one_passes(spoil: str, chatter: Any) -> None:
    check_verifier(Lengths(spoil), chatter, states(chatter))


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        ("short", "one score per step"),
        ("range", r"in \[0, 1\]"),
        ("batch", "never on what else is in the batch"),
        ("memory", "Scoring a state again"),
        ("later", "never changes the scores before it"),
        ("empty", "has the score of the step before it"),
        ("delimiter", "A trailing delimiter never changes a score"),
        ("gold", "never sees the gold answer"),
        ("stubborn", "A cancelled request gets no reply"),
        ("hasty", "leaves the requests of others alone"),
        ("silent", "answered exactly once"),
    ],
)
def test_planted_defects_are_found(chatter: Any, spoil: str, rule: str) -> None:
    with pytest.raises(NonConforming, match=rule):
        check_verifier(Lengths(spoil), chatter, states(chatter), patience=0.5)


def test_costs_and_names_are_checked(chatter: Any) -> None:
    class Nameless(Lengths):
        name = ""
        parameters = -1

        def poll(self) -> Sequence[tuple[int, Scored]]:
            return [(ticket, replace(reply, tokens=-1)) for ticket, reply in super().poll()]

    with pytest.raises(NonConforming) as caught:
        check_verifier(Nameless(), chatter, states(chatter))
    assert len(caught.value.broken) == 3


def test_states_that_test_nothing_are_refused(chatter: Any) -> None:
    with pytest.raises(ValueError, match="two or more steps each"):
        check_verifier(Lengths(), chatter, [State(problem, (Step("a"),)) for problem in chatter.problems("test", 3)])
