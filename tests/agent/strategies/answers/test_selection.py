"""Selection by comparison: both orders, groups, pivots, and verdicts that cannot be read, by hand."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from agent.build import strategy_of
from agent.recipes.recipe import Component, Recipe, parse_component
from agent.search.engine import Engine, Task
from agent.search.graph import SearchGraph
from agent.search.requests import Search
from agent.solver import Solver
from agent.strategies import Strategy
from agent.strategies.answers.selection import ListSelection, Tournament
from agent.strategies.traits import COMPARERS
from agent.study.study import Study, check_cells
from envs.core import Problem
from envs.messages import UsageError
from envs.registry import load_environment
from policies.core import Propose, Proposed
from policies.scripted import ScriptedPolicy
from tests.agent.strategies.test_strategies import Script, Tree, texts, tree
from verifiers.confidence import ConfidenceVerifier
from verifiers.core import Comparer, Score, Scored
from verifiers.registry import load_verifier
from verifiers.voting import Vote


@dataclass
class Judged:
    """A script of samples, and verdicts by the last words that are shown, in order."""

    words: str
    verdicts: Mapping[str, Sequence[float]]
    asked: list[str] = field(default_factory=list)

    def drive(self, graph: SearchGraph, search: Search[None]) -> SearchGraph:
        script = Script({"": self.words}, {})
        reply: Proposed | Scored | None = None
        while True:
            try:
                request = search.send(reply) if reply is not None else next(search)
            except StopIteration:
                return graph
            if isinstance(request, Propose):
                (seeds,) = request.seeds
                given: dict[str, int] = {}
                samples = [script._sample(graph, request.states[0], request, given) for _ in seeds]
                reply = Proposed((tuple(samples),))
                continue
            assert isinstance(request, Score)
            shown = [" ".join(request.states[i].texts[-1] for i in group) for group in request.groups]
            self.asked += shown
            reply = Scored(tuple(tuple(self.verdicts[each]) for each in shown))


def weights(graph: SearchGraph) -> dict[str, float]:
    return {graph[node]["text"]: graph[node]["weight"] for node in graph.finished()}


NAN = [math.nan, math.nan]
ARITHMETIC = load_environment("arithmetic")
TOY = load_environment("toy")


def test_each_is_compared_with_the_pivots_in_both_orders() -> None:
    """The pivot is a!, the commonest: b! beats it by (0.9 + 0.7) / 2, c! loses by 0.2 in the one order that is read."""
    judged = Judged(
        "a! b! a! c!",
        {"b! a!": [0.9, 0.1], "a! b!": [0.3, 0.7], "c! a!": [0.2, 0.8], "a! c!": NAN},
    )
    graph = tree()
    judged.drive(graph, Tournament(4, pivots=1).search(graph))
    assert sorted(judged.asked) == ["a! b!", "a! c!", "b! a!", "c! a!"]
    # a! was drawn twice: 2 * ((1 - 0.8) + (1 - 0.2)) / 2
    assert weights(graph) == pytest.approx({"a!": 1.0, "b!": 0.8, "c!": 0.2})


def test_the_best_solution_alone_votes_under_max_and_unread_verdicts_are_no_votes() -> None:
    graph = tree()
    judged = Judged("a! b!", {"b! a!": [0.9, 0.1], "a! b!": [0.3, 0.7]})
    judged.drive(graph, Tournament(2, pivots=1, vote=Vote("max")).search(graph))
    assert texts(graph, graph.finished()) == ["b!"]
    graph = tree()
    Judged("a! b!", {"b! a!": NAN, "a! b!": NAN}).drive(graph, Tournament(2, pivots=1).search(graph))
    assert weights(graph) == {"a!": 0.5, "b!": 0.5}


def test_solutions_of_one_answer_are_not_compared() -> None:
    graph = tree()
    judged = Judged("a! a!", {})
    judged.drive(graph, Tournament(2).search(graph))
    assert judged.asked == []
    assert weights(graph) == {"a!": 1.0}  # 1/2, twice


def test_a_list_is_shown_in_two_orders() -> None:
    graph = tree()
    judged = Judged("a! b! c!", {"a! b! c!": [0.5, 0.3, 0.2], "c! b! a!": [0.1, 0.8, 0.1]})
    judged.drive(graph, ListSelection(3).search(graph))
    assert weights(graph) == pytest.approx({"a!": 0.3, "b!": 0.55, "c!": 0.15})


def test_more_than_are_shown_at_once_are_compared_in_groups() -> None:
    graph = tree()
    verdicts = {"a! b!": [0.2, 0.8], "c! d!": [0.6, 0.4], "b! c!": [0.7, 0.3], "c! b!": NAN}
    judged = Judged("a! b! c! d!", verdicts)
    judged.drive(graph, ListSelection(4, size=2).search(graph))
    assert judged.asked == ["a! b!", "c! d!", "b! c!", "c! b!"]
    assert weights(graph) == pytest.approx({"b!": 0.7, "c!": 0.3})


def test_a_verifier_that_scores_each_by_itself_is_refused() -> None:
    environment = Tree(1)
    engine = Engine(environment, ScriptedPolicy(environment), ConfidenceVerifier(environment))
    (graph,) = engine.run([Task(Problem("p", "p"), Tournament(4).search)])
    assert "has solutions compared, and 'confidence' scores each by itself" in graph.info["error"]


@pytest.mark.parametrize("strategy", ["genselect", "tournament pivots=2"])
@pytest.mark.parametrize(
    "verifier",
    [
        Component("arithmetic-prm"),
        Component("confidence"),
        Component("symbolic"),
        Component("hf:Qwen/Qwen2.5-Math-PRM-7B"),
        Component("vllm:some/prm"),
        Component("pooling:some-prm"),
        Component("recorded:samples.jsonl"),
        Component("ensemble", {"members": ["table", "symbolic"]}),
    ],
    ids=lambda part: part.name,
)
def test_a_verifier_that_does_not_compare_is_refused_before_anything_is_loaded(
    strategy: str, verifier: Component
) -> None:
    recipe = Recipe(strategy=parse_component(strategy), verifier=verifier)
    words = f"verifier {verifier.name} scores each by itself; verifiers that compare: openai:MODEL, reward, table"
    with pytest.raises(UsageError, match=re.escape(words)):
        strategy_of(recipe)
    study = Study((Component("toy"),), (Component("scripted"),), (recipe.strategy,), (4,), (verifier,))
    with pytest.raises(UsageError, match=re.escape(words)):
        check_cells(study)


@pytest.mark.parametrize(
    "verifier", ["openai:judge", "reward", "table", "mine.py", "mine.py:Judge", "package.module:Judge"]
)
def test_verifiers_that_compare_or_may_do_so_are_taken(verifier: str) -> None:
    assert strategy_of(Recipe(strategy=Component("genselect"), verifier=Component(verifier))).traits.needs_comparisons


def test_ours_say_beforehand_what_they_say_once_they_are_made() -> None:
    for name in ("confidence", "ensemble", "equations", "reward", "symbolic", "table"):
        made = load_verifier(name, ARITHMETIC, **({"members": ["table"]} if name == "ensemble" else {}))
        assert (name in COMPARERS) == (isinstance(made, Comparer) and made.compares)


@pytest.mark.parametrize("strategy", ["genselect", "tournament", Tournament(4)])
def test_a_solver_refuses_before_it_searches(strategy: str | Strategy) -> None:
    """So it is with a verifier of somebody else, which says what it can only once it is made."""
    problem = TOY.problems("test", 1)[0]
    solver = Solver(TOY, ScriptedPolicy(TOY), ConfidenceVerifier(TOY))
    with pytest.raises(UsageError, match="has solutions compared, and verifier confidence scores each by itself"):
        solver.solve(problem, strategy)
    with pytest.raises(UsageError, match="asks for scores, and the verifier is none"):
        Solver(TOY, ScriptedPolicy(TOY), None).solve(problem, strategy)
