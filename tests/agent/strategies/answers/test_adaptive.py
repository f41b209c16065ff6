"""Adaptive Best-of-N by how sure a verifier is, by hand."""

from agent.search.graph import SearchGraph
from agent.strategies.answers.adaptive import Adaptive
from policies.core import Propose, Proposed
from tests.agent.strategies.test_strategies import Script, Tree, texts, tree
from verifiers.core import Score, Scored


def drive(graph: SearchGraph, script: Script, method: Adaptive, sure: dict[str, float]) -> list[list[str]]:
    """Search with a verifier that says how sure it is of each word; where samples were begun, in order."""
    begun: list[list[str]] = []
    search = method.search(graph)
    reply: Proposed | Scored | None = None
    given: dict[str, int] = {}
    while True:
        try:
            request = search.send(reply) if reply is not None else next(search)
        except StopIteration:
            return begun
        if isinstance(request, Score):
            scores = tuple(tuple(script.scores[text] for text in state.texts) for state in request.states)
            spread = tuple(tuple(sure[text] for text in state.texts) for state in request.states)
            reply = Scored(scores, deviations=spread)
            continue
        assert isinstance(request, Propose)
        begun.append([" ".join(state.texts) for state in request.states])
        samples = [
            tuple(script._sample(graph, state, request, given) for _ in seeds)
            for state, seeds in zip(request.states, request.seeds, strict=True)
        ]
        reply = Proposed(tuple(samples))


def test_it_goes_on_where_the_verifier_is_unsure() -> None:
    graph = tree()
    script = Script({"": "a b", "a": "c! d!", "b": "e! f!"}, {"a": 0.5, "b": 0.5, "c!": 0.6, "d!": 0.7, "e!": 0.5})
    script.scores = {**script.scores, "f!": 0.6}
    sure = {"a": 0.1, "b": 0.4} | dict.fromkeys(["c!", "d!", "e!", "f!"], 0.05)
    begun = drive(graph, script, Adaptive(3, first=2), sure)
    assert begun[:2] == [[""], ["b"]]
    assert graph[1].deviation == 0.1
    again = SearchGraph.from_json(graph.to_json() | {"info": {"environment": "tree"}}, Tree())
    assert [again[node].deviation for node in again.graph] == [graph[node].deviation for node in graph.graph]


def test_it_stops_where_a_solution_is_good_for_sure() -> None:
    """0.9 - 0.2 is less than 0.8, and 0.85 - 0.02 is not."""
    for spread, asked in ((0.2, 2), (0.02, 1)):
        graph = tree()
        script = Script({"": "a!"}, {"a!": 0.9 if spread == 0.2 else 0.85})
        begun = drive(graph, script, Adaptive(2, first=1, sure=0.8), {"a!": spread})
        assert len(begun) == asked
        assert texts(graph, graph.finished()) == ["a!"]


def test_without_deviations_it_is_best_of_n() -> None:
    graph = tree()
    script = Script({"": "a! b! c! d! e! f!"}, dict.fromkeys(["a!", "b!", "c!", "d!", "e!", "f!"], 0.5))
    script.drive(graph, Adaptive(6).search(graph))
    assert script.drawn() == [[4], [2]]
    assert Adaptive(sure=0.9).traits.decides
    assert not Adaptive().traits.decides
