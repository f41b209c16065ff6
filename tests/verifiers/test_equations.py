"""The equations that a solution writes: which are read, which hold, and what a step's score is."""

import time

import pytest

from envs.core import Problem, State, Step
from envs.toy import Toy
from policies.conformance import ask
from verifiers.conformance import check_verifier
from verifiers.core import Score
from verifiers.equations import EquationVerifier, check_equations
from verifiers.registry import load_verifier

TOY = Toy()


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("3 * 4 = 12", [True]),
        ("3 * 4 = 13", [False]),
        ("12 = 3 * 4", [True]),
        ("Total = 3 * 4 = 12 apples. Then 5 + 6 = 12", [True, False]),
        ("3 * 4 = 12 and 12 / 2 = 7", [True, False]),
        ("3 books × $20 per book = $60", [True]),
        (r"\[ 3 \text{ books} \times \$20 \text{ per book} = \$60 \]", [True]),
        (r"\frac{3}{4} \times 8 = 6", [True]),
        ("20% of 120 = 24", [True]),
        ("3/4 = 75%", [True]),
        ("1. 1,000 * 0.85 = 1,050", [False]),
        ("- 3 + 4 = 7", [True]),
        ("$60 - $500 = -$440", [True]),
        ("(10 + 20) / 2 = 15 hours", [True]),
        ("2^3 = 8", [True]),
        ("12 * 2 = **24**", [True]),
        ("3 x 3 = 9", [True]),
        ("100/3 = 33.33", [True]),  # to the last digit, cut or rounded
        ("200/3 = 66.66", [True]),
        ("100/3 = 33.4", [True]),
        ("100/3 = 33.5", [False]),
        ("100/3 = 33", [True]),
        ("100/3 = 34", [False]),
        # what is not arithmetic says nothing
        ("x = 5", []),
        ("3x = 9", []),
        ("price - 5 = 10", []),
        ("Revenue = 30 + x = 40", []),
        ("total_cost = 3 * 4", []),
        ("if 3 * 4 == 13:", []),
        ("a <= 3 * 4 = 13", []),
        ("half of 50 = 20", []),
        ("5 * 0 / 0 = 3", []),
        ("2^99 = 3", []),
        ("9" * 30 + " * 2 = 4", []),
    ],
)
def test_what_is_arithmetic_is_checked(text: str, holds: list[bool]) -> None:
    assert check_equations(text) == tuple(holds)


def test_a_step_has_the_share_of_all_up_to_it() -> None:
    steps = ("Let us see.", "3 * 4 = 12", "So 12 + 1 = 14", "")
    state = State(Problem("p", "q"), tuple(map(Step, steps)))
    (reply,) = ask(EquationVerifier(TOY), [Score((state,))])
    assert reply.scores == ((0.5, 0.75, 0.5, 0.5),)  # 1/2, 1.5/2, 1.5/3
    assert (reply.tokens, reply.flops) == (0, 0)


def test_it_keeps_the_contract_of_a_verifier() -> None:
    states = [State(problem, (Step("1 + 1 = 2"), Step("2 + 2 = 5"))) for problem in TOY.problems("test", 3)]
    check_verifier(load_verifier("equations", TOY), TOY, states)


@pytest.mark.parametrize(
    "text",
    [
        "1+" * 9_000 + "1 = 5",
        "(" * 9_000 + "= 1",
        "1 = 2 " * 9_000,
        "-" * 9_000 + "1 = 1+0",
        "(" * 12 + "9" + "^12)" * 12 + " = 5",
        "(" * 12 + ".1" + "^12)" * 12 + "=5",
    ],
)
def test_hostile_texts_take_no_time(text: str) -> None:
    began = time.process_time()
    check_equations(text)
    assert time.process_time() - began < 1
