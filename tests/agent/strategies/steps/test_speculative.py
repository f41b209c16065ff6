"""Two policies: which steps the large one writes, what is charged, and who is refused."""

import pytest

from agent.build import strategy_of
from agent.recipes.recipe import Component, Recipe
from agent.search.context import RunContext
from agent.search.engine import Engine, Task
from agent.search.graph import SearchGraph
from agent.strategies.steps.speculative import Speculative
from envs.core import Problem
from envs.messages import UsageError
from policies.core import Propose
from policies.pair import PolicyPair
from policies.scripted import ScriptedPolicy
from tests.agent.strategies.test_strategies import Script, Tree, marked, texts
from verifiers.table import TableVerifier


def test_steps_below_the_threshold_are_drawn_anew_by_the_large_policy() -> None:
    graph = SearchGraph(Tree(), Problem("p", "p"), context=RunContext(policy_large=True))
    script = Script({"": "a b c", "a": "d! e!", "c": "f!"}, {"a": 0.8, "b": 0.6, "c": 0.1, "d!": 0.2, "f!": 0.9})
    script.scores = {**script.scores, "e!": 0.3}
    script.drive(graph, Speculative(4, threshold=0.7).search(graph))
    asked = [(each.large, [len(s) for s in each.seeds]) for each in script.requests if isinstance(each, Propose)]
    # a is accepted, b is replaced by c; then d! is replaced by e!, and f! is accepted
    assert asked == [(False, [2]), (True, [1]), (False, [1, 1]), (True, [1]), (False, [1])]
    ends = texts(graph, graph.finished())
    assert ends[:2] == ["c f!", "a e!"]  # and a plain sample for what is left
    assert [graph.scores(node) for node in graph.finished()[:2]] == [(0.1, 0.9), (0.8, 0.3)]
    assert {"b", "a d!"} - set(ends) == marked(graph, "pruned") - set(ends)
    assert {graph[node]["text"] for node in graph.graph if graph[node].large} == {"c", "e!"}
    again = SearchGraph.from_json(graph.to_json() | {"info": {"environment": "tree"}}, Tree())
    assert {again[node]["text"] for node in again.graph if again[node].get("large")} == {"c", "e!"}


def test_both_are_charged() -> None:
    environment = Tree()
    small = ScriptedPolicy(environment, lambda state: {"small" if not state.steps else "s!": 1.0}, "small", 10)
    large = ScriptedPolicy(environment, lambda state: {"large" if not state.steps else "l!": 1.0}, "large", 70)
    worth = {"small": 0.0, "large": 0.9, "s!": 0.9}
    verifier = TableVerifier(environment, lambda state: worth[state.texts[-1]])
    (graph,) = Engine(environment, PolicyPair(small, large), verifier).run(
        [Task(Problem("p", "p"), Speculative(2).search)]
    )
    assert texts(graph, graph.finished()) == ["large s!"]
    # two tokens a step: small, then large, then s!
    assert graph.info["spent"]["policy_flops"] == 2 * 2 * 10 + 2 * 2 * 70 + 2 * 2 * 10
    assert graph.info["policy_large"]


def test_what_is_left_below_two_samples_is_drawn_from_the_small_policy() -> None:
    graph = SearchGraph(Tree(), Problem("p", "p"), context=RunContext(policy_large=True))
    script = Script({"": "a!"}, {"a!": 0.1})
    script.drive(graph, Speculative(1).search(graph))
    assert [(each.large, each.max_steps) for each in script.requests if isinstance(each, Propose)] == [(False, None)]


def test_one_policy_is_refused() -> None:
    with pytest.raises(UsageError, match="speculative is for two policies, and there is arithmetic-s alone"):
        strategy_of(Recipe(strategy=Component("speculative")))
    both = Component("pair", {"small": "arithmetic-s", "large": "arithmetic-l"})
    assert strategy_of(Recipe(strategy=Component("speculative"), policy=both)).traits.needs_large
    engine = Engine(Tree(), ScriptedPolicy(Tree()))

    def asks(graph: SearchGraph):  # type: ignore[no-untyped-def]
        yield Propose((graph.state(0),), ((1,),), large=True)

    (graph,) = engine.run([Task(Problem("p", "p"), asks)])
    assert "there is 'scripted' alone; give a --large-policy" in graph.info["error"]
