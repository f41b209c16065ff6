"""The shortest answers vote, by hand."""

from agent.strategies.answers.first_finish import FirstFinish
from tests.agent.strategies.test_strategies import Script, texts, tree
from verifiers.voting import Vote


def test_drawing_ends_with_the_first_half_and_the_others_do_not_vote() -> None:
    graph = tree()
    script = Script({"": "a! b c d", "b": "e!", "c": "f", "d": "gx"}, {})
    script.drive(graph, FirstFinish(4).search(graph))
    assert script.drawn() == [[4], [1, 1, 1]]
    assert texts(graph, graph.finished()) == ["a!", "b e!"]


def test_a_share_is_rounded_up() -> None:
    graph = tree()
    script = Script({"": "a! b! c! d e", "d": "f!", "e": "g!"}, {})
    script.drive(graph, FirstFinish(5, share=0.7).search(graph))
    assert texts(graph, graph.finished()) == ["a!", "b!", "c!", "d f!"]


def test_of_those_that_end_together_the_shortest_vote() -> None:
    graph = tree()
    script = Script({"": "a! b! c! d"}, {"a!": 0.5, "b!": 0.9, "c!": 0.2})
    script.drive(graph, FirstFinish(4, share=0.25, vote=Vote()).search(graph))
    assert texts(graph, graph.finished()) == ["a!"]  # all have one token, and a! was the first
    assert graph.scores(graph.finished()[0]) == (0.5,)


def test_what_fails_does_not_count_as_finished() -> None:
    graph = tree()
    script = Script({"": "ax b", "b": "c!"}, {})
    script.drive(graph, FirstFinish(2, share=1.0).search(graph))
    assert texts(graph, graph.finished()) == ["b c!"]
    assert not FirstFinish().traits.needs_scores
