"""Recursive self-aggregation and AB-MCTS: who reads what, and where the next answer is generated, by hand."""

import random

import pytest

from agent.search.graph import SearchGraph
from agent.strategies.answers.ab_mcts import AbMcts, Belief, Place
from agent.strategies.answers.self_aggregation import SelfAggregation
from policies.core import Propose
from tests.agent.strategies.test_strategies import Script, Tree, texts, tree
from verifiers.voting import Vote


def shown(script: Script) -> list[list[list[str]]]:
    """For each request and state, the last steps of the attempts that it shows."""
    asked = [each for each in script.requests if isinstance(each, Propose)]
    return [[[attempt[-1].text for attempt in state.attempts] for state in each.states] for each in asked]


def test_each_round_reads_some_of_the_round_before_and_the_last_votes() -> None:
    graph = tree()
    script = Script({"": "a! b! c! d! e! f! g! h! i!"}, {})
    script.drive(graph, SelfAggregation(9, rounds=3, read=2).search(graph))
    rounds = shown(script)
    assert rounds[0] == [[]]
    for before, after in (({"a!", "b!", "c!"}, rounds[1]), ({"d!", "e!", "f!"}, rounds[2])):
        assert len(after) == 3
        assert all(len(set(each)) == 2 and set(each) <= before for each in after)
    assert [graph[node]["answer"] for node in graph.finished()] == ["g!", "h!", "i!"]
    seeds = [seed for each in script.requests if isinstance(each, Propose) for some in each.seeds for seed in some]
    assert len(set(seeds)) == 9
    # the graph tells what each was shown, and a file too
    last = graph.finished()[-1]
    read = [attempt[-1].text for attempt in graph.state(last).attempts]
    assert read == rounds[2][-1]
    again = SearchGraph.from_json(graph.to_json() | {"info": {"environment": "tree"}}, Tree())
    assert again.state(last) == graph.state(last)


def test_a_small_budget_has_fewer_rounds() -> None:
    graph = tree()
    script = Script({"": "a! b! c!"}, {})
    script.drive(graph, SelfAggregation(3).search(graph))
    assert script.drawn() == [[3]]


def test_what_fails_is_not_read() -> None:
    graph = tree()
    script = Script({"": "a! bx c! d!"}, {"a!": 0.5, "c!": 0.5, "d!": 0.9})
    script.drive(graph, SelfAggregation(4, rounds=2, read=2, vote=Vote()).search(graph))
    assert shown(script)[1] == [[["a!"]], [["a!"]]][0] * 2
    assert texts(graph, graph.finished()) == ["c!", "d!"]
    graph = tree()
    script = Script({"": "ax bx c! d!"}, {})
    script.drive(graph, SelfAggregation(4, rounds=2, read=2).search(graph))
    assert shown(script) == [[[]], [[]]]


def test_a_belief_is_the_prior_and_the_scores() -> None:
    belief = Belief()
    for r in (0.9, 0.4):
        belief.tell(r)
    assert (belief.alpha, belief.beta) == pytest.approx((1.8, 1.2))
    assert 0 <= belief.draw(random.Random(0)) <= 1


def test_a_score_is_told_to_gen_of_the_parent_and_to_those_above() -> None:
    places = {0: Place(children=[1]), 1: Place(above=0, children=[2]), 2: Place(above=1)}
    AbMcts().back_up(places, 2, 0.8)
    assert places[2].gen.alpha == pytest.approx(1.3)
    assert [places[node].own.alpha for node in (0, 1, 2)] == pytest.approx([0.5, 1.3, 1.3])
    assert [places[node].cont.alpha for node in (0, 1, 2)] == pytest.approx([1.3, 1.3, 0.5])
    assert [places[node].gen.alpha for node in (0, 1)] == [0.5, 0.5]


def test_it_goes_wider_where_new_answers_are_good_and_deeper_where_revised_ones_are() -> None:
    sure = Belief(1e6, 1.0), Belief(1.0, 1e6)
    wide = {0: Place(sure[0], sure[1], children=[1]), 1: Place(above=0)}
    deep = {0: Place(sure[1], sure[0], children=[1, 2]), 1: Place(own=sure[1], above=0), 2: Place(own=sure[0], above=0)}
    assert AbMcts().select(wide, 0, random.Random(0)) == 0
    assert AbMcts().select(deep, 0, random.Random(0)) == 2


def test_a_revision_is_shown_the_answers_above_it() -> None:
    graph = tree()
    words = [f"w{number}!" for number in range(12)]
    script = Script({"": " ".join(words)}, {word: 0.9 - 0.05 * index for index, word in enumerate(words)})
    script.drive(graph, AbMcts(12, batch=1).search(graph))
    assert sum(map(sum, script.drawn())) == 12
    depths = [len(graph.attempts(node)) for node in graph.finished()]
    assert max(depths) > 1  # some went deeper
    assert depths.count(1) > 1  # some went wider
    assert all(each[0] == [graph[end]["text"] for end in graph.attempts(node)[:-1]][-4:]
               for each, node in zip(shown(script), graph.finished(), strict=True))  # fmt: skip
