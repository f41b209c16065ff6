import dataclasses

import pytest

from envs import (
    Environment,
    Math,
    Problem,
    Reviser,
    State,
    Step,
    opening,
    render,
    termination,
    transition,
    truncation,
)
from envs.arithmetic import Arithmetic

PROBLEM = Problem("p", "1 + 2", "3", {"level": 1})


def test_a_state_branches_without_changing() -> None:
    root = State(PROBLEM)
    left, right = root.then(Step("a")), root.then(Step("b"))
    assert root.steps == ()
    assert (left.texts, right.texts) == (("a",), ("b",))
    assert left.then(Step("c")).texts == ("a", "c")
    with pytest.raises(dataclasses.FrozenInstanceError):
        root.steps = (Step("a"),)  # type: ignore[misc]


def test_states_are_keys() -> None:
    twin = Problem("p", "1 + 2", "3", {"level": 5})  # facts about a problem are no part of its identity
    assert len({State(PROBLEM).then(Step("a")), State(twin).then(Step("a")), State(PROBLEM).then(Step("b"))}) == 2


def test_how_a_step_came_about_is_part_of_it() -> None:
    assert Step("a", tokens=1) != Step("a", tokens=2)
    assert State(PROBLEM, (Step("a", tokens=1),)).texts == State(PROBLEM, (Step("a", tokens=2),)).texts


def test_transitions_are_named_by_their_constructors() -> None:
    state = State(PROBLEM)
    assert [make(state, 0.5).status for make in (transition, termination, truncation)] == [
        "running",
        "terminated",
        "truncated",
    ]
    assert transition(state).reward == 0.0


def test_rendering_closes_each_step_and_observation_with_the_delimiter() -> None:
    environment: Environment = Arithmetic()
    state = State(PROBLEM, (Step("1 + 2 = 3", observation="ok"), Step("#### 3", finish="answer")))
    assert render(environment, state) == "1 + 2\n1 + 2 = 3\nok\n#### 3\n"
    assert render(environment, State(PROBLEM)) == environment.prompt(PROBLEM)


def test_a_state_keeps_the_attempts_that_a_policy_is_shown() -> None:
    environment: Environment = Arithmetic()
    wrong = (Step("1 + 2 = 4", observation="no"), Step("#### 4", finish="answer"))
    state = State(PROBLEM, (), (wrong, (Step("#### 5"),)))
    assert state.then(Step("#### 3")).attempts == state.attempts
    assert state != State(PROBLEM)
    shown = "1 + 2\n1 + 2 = 4\nno\n#### 4\n1 + 2\n#### 5\n1 + 2\n"
    assert opening(environment, state) == shown
    assert render(environment, state.then(Step("#### 3"))) == shown + "#### 3\n"


def test_a_reviser_words_its_own_prompt() -> None:
    environment = Math()
    assert isinstance(environment, Reviser)
    problem = environment.read("What is 1 + 2?")
    state = State(problem, (), ((Step("It is 4."), Step("#### 4")), (Step("#### 5"),)))
    text = opening(environment, state)
    assert text.endswith(environment.prompt(problem))
    assert text.count("What is 1 + 2?") == 2
    assert "Attempt 1:\nIt is 4.\n\n#### 4\n\nAttempt 2:\n#### 5\n\nWhat" in text
    assert opening(environment, State(problem)) == environment.prompt(problem)


def test_arithmetic_is_an_environment_and_a_dictionary_is_not() -> None:
    assert isinstance(Arithmetic(), Environment)
    assert not isinstance({}, Environment)
