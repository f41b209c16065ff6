"""DeepConf: the threshold, which traces are stopped, and when drawing ends, by hand."""

import pytest

from agent.strategies.answers.deepconf import DeepConf, percentile
from tests.agent.strategies.test_strategies import Script, marked, texts, tree


def test_a_percentile_lies_between_two_values() -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], 0.0) == 1.0
    assert percentile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.5
    assert percentile([4.0, 1.0, 3.0, 2.0], 0.9) == pytest.approx(3.7)
    assert percentile([0.3], 0.9) == 0.3


def test_traces_below_the_threshold_are_stopped_and_do_not_vote() -> None:
    """Warm-up: 0.8 and 0.4; half are to be kept, so that the threshold is 0.6."""
    script = Script(
        {"": "a! b! c d e", "c": "f!", "e": "g!", "d": "x"},
        {"a!": 0.8, "b!": 0.4, "c": 0.9, "d": 0.5, "e": 0.7, "f!": 0.65, "g!": 0.55},
    )
    graph = tree()
    script.drive(graph, DeepConf(5, warm_up=2, keep=0.5).search(graph))
    assert script.drawn()[:3] == [[2], [3], [1, 1]]
    assert {"b!", "d", "e g!"} <= marked(graph, "pruned")
    assert {"a!", "c f!"} <= set(texts(graph, graph.finished()))


def test_what_stopped_traces_leave_is_spent() -> None:
    script = Script({"": "a! b! c d e f! f! f!", "c": "x"}, {"a!": 0.8, "b!": 0.4} | dict.fromkeys("cde", 0.1))
    script.scores = {**script.scores, "f!": 0.9}
    graph = tree()
    script.drive(graph, DeepConf(5, warm_up=2, keep=0.5).search(graph))
    assert sum(map(sum, script.drawn())) >= 5
    assert graph.samples() == pytest.approx(5, abs=0.5)


def test_drawing_ends_when_one_answer_has_enough_of_the_vote() -> None:
    script = Script({"": "a! a! b! a!"}, {"a!": 0.8, "b!": 0.8})
    graph = tree()
    script.drive(graph, DeepConf(64, warm_up=2, consensus=0.95).search(graph))
    assert script.drawn() == [[2]]
    assert DeepConf(consensus=0.95).traits.decides
    assert not DeepConf().traits.decides


def test_a_warm_up_without_an_answer_sets_no_threshold() -> None:
    script = Script({"": "ax bx c!"}, {"c!": 0.1})
    graph = tree()
    script.drive(graph, DeepConf(3, warm_up=2).search(graph))
    assert texts(graph, graph.finished()) == ["c!"]
