"""The table verifier keeps the contract, and scores what its table or the environment says."""

from envs import Arithmetic, State, Step, Toy
from policies.conformance import ask
from verifiers import Score, TableVerifier, load_verifier
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


def test_without_a_table_scores_are_the_rewards_of_the_environment() -> None:
    toy = Toy()
    paid = state("12 with 1 6 10", "6", "6")
    verifier = load_verifier("reward", toy)
    (reply,) = ask(verifier, [Score((paid, state("12 with 1 6 10", "10")))])
    first = toy.step(toy.initial(paid.problem), Step("6"))
    second = toy.step(first.state, Step("6"))
    assert reply.scores[0] == (first.reward, second.reward) == (1.0, 1.0)
    assert reply.scores[1][0] == toy.quality(state("12 with 1 6 10", "10")) < 1
    silent = TableVerifier(Arithmetic())
    (reply,) = ask(silent, [Score((State(Arithmetic().read("1 + 2"), (Step("1 + 2 = 3"),)),))])
    assert reply.scores == ((0.0,),)  # an environment that tells nothing
