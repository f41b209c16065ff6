import math
from typing import Any

import pytest

from envs.core import Problem, State, Step
from envs.toy import Toy
from policies.conformance import ask
from verifiers.conformance import check_verifier
from verifiers.core import Score
from verifiers.ensemble import Ensemble
from verifiers.registry import load_verifier
from verifiers.table import TableVerifier


def table(environment: Any, value: float, **options: Any) -> TableVerifier:
    return TableVerifier(environment, lambda state: value / len(state.steps), **options)


def states(environment: Any) -> list[State]:
    return [State(problem, (Step("a"), Step("b"), Step("c"))) for problem in environment.problems("test", 3)]


def test_scores_are_weighted_means_and_costs_add_up(chatter: Any) -> None:
    ensemble = Ensemble([table(chatter, 1.0), table(chatter, 0.5, parameters=500)], [3, 1])
    (reply,) = ask(ensemble, [Score((State(Problem("p", "q"), (Step("a"), Step("b"))),))])
    assert reply.scores == ((0.875, 0.4375),)
    assert reply.tokens == 4
    assert reply.flops == 2 * 1000 * 2 + 2 * 500 * 2
    assert ensemble.parameters == 1500
    assert ensemble.name == "table+table"


def test_it_conforms_whenever_its_members_reply(chatter: Any) -> None:
    slow = table(chatter, 0.5, shuffle=1)
    check_verifier(Ensemble([table(chatter, 1.0), slow, table(chatter, 0.3, shuffle=2)]), chatter, states(chatter))


def test_a_member_that_fails_makes_the_step_nan(chatter: Any) -> None:
    broken = TableVerifier(chatter, lambda state: math.nan if len(state.steps) == 2 else 0.5)
    ensemble = Ensemble([table(chatter, 1.0), broken])
    (reply,) = ask(ensemble, [Score((states(chatter)[0],))])
    assert [math.isnan(score) for score in reply.scores[0]] == [False, True, False]


def test_a_mean_of_ones_is_one(chatter: Any) -> None:
    ones = [TableVerifier(chatter, lambda state: 1.0) for _ in range(7)]
    (reply,) = ask(Ensemble(ones, [0.1] * 7), [Score((states(chatter)[0],))])
    assert reply.scores[0] == (1.0, 1.0, 1.0)


def test_what_one_member_refuses_no_other_answers(chatter: Any) -> None:
    class Refusing(TableVerifier):
        def submit(self, ticket: int, request: Score) -> None:
            raise RuntimeError("no")

    first = table(chatter, 1.0)
    ensemble = Ensemble([first, Refusing(chatter, {})])
    with pytest.raises(RuntimeError, match="no"):
        ensemble.submit(1, Score((states(chatter)[0],), "s"))
    assert list(first.poll()) == []
    assert list(ensemble.poll()) == []


def test_it_is_made_of_names() -> None:
    toy = Toy()
    ensemble = load_verifier("ensemble", toy, members=["table", {"name": "table", "parameters": 5}], weights=[1, 2])
    assert ensemble.parameters == 1005
    for members, weights in (([], None), (["table"], [1, 2]), (["table"], [-1]), (["table"], [0])):
        with pytest.raises(ValueError, match="given"):
            load_verifier("ensemble", toy, members=members, weights=weights)
    with pytest.raises(ValueError, match="expected a name, or a mapping"):
        load_verifier("ensemble", toy, members=[{"family": "x"}])


def test_log_odds_are_pooled_with_weights_and_a_bias(chatter: Any) -> None:
    members = [TableVerifier(chatter, lambda state: 0.8), TableVerifier(chatter, lambda state: 0.5)]
    ensemble = Ensemble([*members, TableVerifier(chatter, lambda state: 1.0)], [2, 5, -0.1], pool="log-odds", bias=-1)
    (reply,) = ask(ensemble, [Score((State(Problem("p", "q"), (Step("a"),)),))])
    pooled = 2 * math.log(4) - 0.1 * math.log((1 - 1e-6) / 1e-6) - 1  # log-odds of 0.8, 0.5 (0) and nearly 1
    assert reply.scores[0][0] == pytest.approx(1 / (1 + math.exp(-pooled)))
    broken = TableVerifier(chatter, lambda state: math.nan)
    (reply,) = ask(Ensemble([*members, broken], pool="log-odds"), [Score((states(chatter)[0],))])
    assert all(math.isnan(score) for score in reply.scores[0])
    with pytest.raises(ValueError, match="pool=log-odds alone"):
        Ensemble(members, bias=1.0)
    made = load_verifier("ensemble", Toy(), members=["equations", "reward"], weights=[-1, 2], pool="log-odds", bias=1)
    assert made.name == "equations+reward"


def test_what_it_is_of_is_all_that_its_members_are_of(chatter: Any) -> None:
    class Known(TableVerifier):
        def digest(self) -> str:
            return "abc"

    ones = [Known(chatter), TableVerifier(chatter, parameters=0)]
    whole = Ensemble(ones).digest()
    assert len(whole) == 12
    assert whole == Ensemble(ones).digest() != Ensemble(ones, [2, 1]).digest()
    assert Ensemble([*ones, TableVerifier(chatter)]).digest() == ""  # nobody knows of which model
