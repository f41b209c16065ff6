"""Chain unless they disagree, momentum uncertainty, foresight: the rules of the papers, by hand."""

import math
import random

import pytest

from agent.strategies import Beam, Dvts, Mcts
from agent.strategies.steps.foresight import Foresight, mean_logprob
from agent.strategies.steps.momentum import Momentum, sureness
from envs.core import Step
from tests.agent.strategies.test_strategies import Script, marked, texts, tree

# ---------------------------------------------------------------------------------------------------------- chains


def test_where_the_first_samples_agree_no_more_are_drawn() -> None:
    graph = tree()
    script = Script({"": "a a", "a": "b c d! e", "a b": "f! f!"}, dict.fromkeys("abc", 0.5) | {"d!": 0.1, "e": 0.1})
    script.scores = {**script.scores, "f!": 0.9}
    script.drive(graph, Beam(4, 4, chain=2).search(graph))
    # two agree on a; b and c disagree, so that two more are drawn; two agree on f!
    assert script.drawn() == [[2], [2], [2], [2]]
    assert texts(graph, graph.finished()) == ["a d!", "a b f!"]
    assert marked(graph, "pruned") == {"a c", "a e"}


def test_the_agreed_step_stands_for_those_not_drawn() -> None:
    """DVTS gives each of two subtrees its samples, though two were drawn for both."""
    graph = tree()
    script = Script({"": "a a", "a": "b! b!"}, {"a": 0.5, "b!": 0.5})
    script.drive(graph, Dvts(4, 2, chain=2).search(graph))
    assert script.drawn() == [[2], [2]]
    graph = tree()
    script = Script({"": "a! a!"}, {"a!": 0.5})
    script.drive(graph, Mcts(2, 2, chain=2).search(graph))
    assert script.drawn()[0] == [2]


# -------------------------------------------------------------------------------------------------------- momentum


class _Sure(Script):
    """A log-probability for each word: -0.1 unless it is in `unsure`."""

    unsure: dict[str, float]

    def _sample(self, *given):  # type: ignore[no-untyped-def]
        steps = super()._sample(*given)
        return tuple(Step(step.text, 2, 2 * self.unsure.get(step.text, -0.1)) for step in steps)


def test_a_step_less_sure_than_before_gets_more_candidates() -> None:
    """m_1 = 0.5 * -0.1 = -0.05; b has -1: exp(-1) < 0.9 exp(-0.05); then m_2 = 0.5 * -0.05 + 0.5 * -0.1 = -0.075."""
    graph = tree()
    script = _Sure(
        {"": "a", "a": "b c d", "a c": "e!", "a b": "e!"},
        {"a": 0.5, "b": 0.2, "c": 0.9, "d": 0.3, "e!": 0.5},
    )
    script.unsure = {"b": -1.0}
    script.drive(graph, Momentum(3, branch=2, gamma=0.9, alpha=0.5).search(graph))
    assert script.drawn()[:4] == [[1], [1], [2], [1]]  # e! is sure: exp(-0.1) > 0.9 exp(-0.075)
    assert texts(graph, graph.finished())[0] == "a c e!"
    assert {"a b", "a d"} == marked(graph, "pruned")
    assert sureness(graph, 1) == pytest.approx(-0.1)


def test_the_first_step_is_never_scaled_and_what_is_left_is_plain() -> None:
    graph = tree()
    script = _Sure({"": "a! b!"}, {"a!": 0.5, "b!": 0.6})
    script.unsure = {"a!": -9.0, "b!": -9.0}
    script.drive(graph, Momentum(2, branch=1).search(graph))
    assert script.drawn() == [[1], [1]]
    assert texts(graph, graph.finished()) == ["a!", "b!"]


# ------------------------------------------------------------------------------------------------------- foresight


def test_chances_are_of_advantage_and_agreement() -> None:
    method = Foresight(tau=0.5)
    a, b = math.exp(0.2 / 0.5), math.exp(-0.1 / 0.5)
    c, d = math.exp(0.75 / 0.5), math.exp(0.25 / 0.5)
    expected = [(a / (a + b) + c / (c + d)) / 2, (b / (a + b) + d / (c + d)) / 2]
    assert method.chances([0.2, -0.1], [0.75, 0.25]) == pytest.approx(expected)
    assert sorted(method.draw([0.9, 0.1], 2, random.Random(0))) == [0, 1]
    assert method.draw([0.0, 1.0, 0.0], 1, random.Random(0)) == [1]


def test_unlikely_candidates_are_not_played_out() -> None:
    """Of -1, -1, -1, -5 the mean is -2 and the deviation 1.73: -5 is dropped unless it is needed."""
    graph = tree()
    nodes = [graph.add(0, [Step(text, 1, value)]) for text, value in zip("abcd", (-1, -1, -1, -5), strict=True)]
    assert Foresight(width=2).likely(graph, nodes) == nodes[:3]
    assert Foresight(width=4).likely(graph, nodes) == nodes
    end = graph.add(nodes[0], [Step("e", 1, -2.0), Step("f!", 3, -4.0)])
    assert mean_logprob(graph, nodes[0], end) == pytest.approx(-6 / 4)
    assert mean_logprob(graph, end, end) == pytest.approx(-4 / 3)


def test_paths_that_agree_end_the_choice_and_all_vote() -> None:
    graph = tree()
    script = Script({"": "a b c! d", "a": "e!", "b": "e!", "d": "e!"}, {})
    script.drive(graph, Foresight(4, width=1, branch=4).search(graph))
    assert script.drawn()[:2] == [[4], [1, 1, 1]]
    assert texts(graph, graph.finished())[:4] == ["c!", "a e!", "b e!", "d e!"]


def test_steps_are_chosen_where_paths_disagree() -> None:
    graph = tree()
    script = Script({"": "a b", "a": "c! d", "b": "e! f", "a d": "g!", "b f": "h!"}, {})
    script.drive(graph, Foresight(6, width=1, branch=2, agree=1.0).search(graph))
    asked = script.drawn()
    assert asked[0] == [2]
    assert asked[1] == [1, 1]
    assert asked[2] == [2]  # of the one prefix that was chosen
