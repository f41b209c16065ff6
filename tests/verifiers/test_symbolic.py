from typing import Any

import pytest

from envs.arithmetic import Arithmetic
from envs.core import State, Step
from policies.conformance import ask
from verifiers.conformance import check_verifier
from verifiers.core import Score, Scored
from verifiers.symbolic import SymbolicVerifier


def test_ones_before_the_first_wrong_step_and_zeros_from_it() -> None:
    environment = Arithmetic()
    problem = environment.read("(17 + 8) * 3 - 40")
    right = ["17 + 8 = 25", "25 * 3 = 75", "75 - 40 = 35", "#### 35"]
    wrong = ["17 + 8 = 25", "25 * 3 = 85", "85 - 40 = 45", "#### 45"]
    empty = ["", *wrong[:1], " ", *wrong[1:]]
    group = tuple(State(problem, tuple(map(Step, lines))) for lines in (right, wrong, empty))
    (reply,) = ask(SymbolicVerifier(environment), [Score(group)])
    assert reply == Scored(((1.0,) * 4, (1.0, 0.0, 0.0, 0.0), (1.0, 1.0, 1.0, 0.0, 0.0, 0.0)))


def test_it_conforms() -> None:
    environment = Arithmetic()
    group = [
        State(environment.read(question), (Step("1 + 2 = 3"), Step("3 + 4 = 7"))) for question in ("1 + 2 + 4", "9 - 4")
    ]
    check_verifier(SymbolicVerifier(environment), environment, group)


def test_an_environment_that_checks_no_steps_is_refused(chatter: Any) -> None:
    with pytest.raises(TypeError, match=r"chatter.*first_error"):
        SymbolicVerifier(chatter)
