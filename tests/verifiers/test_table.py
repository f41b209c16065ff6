"""The table verifier keeps the contract, scores what its table says, and says when it has none."""

import pytest

from envs import Arithmetic, State, Step, Toy
from verifiers import Score, TableVerifier
from verifiers.conformance import check_verifier


def state(question: str, *coins: str) -> State:
    return State(Toy().read(question), tuple(Step(coin) for coin in coins))


def test_it_keeps_the_contract() -> None:
    check_verifier(TableVerifier(Toy()), Toy(), [state("12 with 1 6 10", "6", "1"), state("9 with 1 4 7", "1", "4")])


def test_scores_are_looked_up_prefix_by_prefix() -> None:
    verifier = TableVerifier(Toy(), {("6",): 0.9, ("6", "6"): 0.8})
    verifier.submit(1, Score((state("12 with 1 6 10", "6", "6"), state("12 with 1 6 10", "10", "", "1"))))
    ((ticket, reply),) = verifier.poll()
    assert (ticket, reply.scores) == (1, ((0.9, 0.8), (0.5, 0.5, 0.5)))


def test_an_environment_without_a_table_is_refused() -> None:
    with pytest.raises(TypeError, match="'arithmetic' has no `worth` method"):
        TableVerifier(Arithmetic())
