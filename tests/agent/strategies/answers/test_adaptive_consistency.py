"""Self-consistency that stops, and that shares a budget: the papers' formulas, in numbers worked out by hand."""

import pytest

from agent.search.budget import Budget
from agent.search.engine import Engine, Task
from agent.search.graph import SearchGraph
from agent.search.shared_budget import Allocation
from agent.solver import Solver
from agent.strategies import AdaptiveConsistency, BlendAsc, Majority
from agent.strategies.answers.adaptive_consistency import ahead
from agent.strategies.answers.blend_asc import unsettled
from envs.messages import UsageError
from envs.toy import Toy
from policies.scripted import ScriptedPolicy
from tests.agent.strategies.test_strategies import Tree

FIXED = Tree(1)
MANY = {f"{word}!": 1.0 for word in range(1000)}  # no two samples agree


def test_the_leader_is_ahead_with_the_probability_of_a_beta_distribution() -> None:
    assert ahead(0, 0) == 0.5
    assert ahead(3, 0) == pytest.approx(1 - 1 / 16)  # the integral of 4 p^3 from 1/2 to 1
    assert ahead(4, 0) == pytest.approx(1 - 1 / 32)
    assert ahead(2, 1) == pytest.approx(11 / 16)  # of 12 p^2 (1 - p)
    assert ahead(1, 2) == pytest.approx(5 / 16)


def test_a_vote_is_settled_by_the_blend_of_both_measures() -> None:
    assert unsettled(4, 0, 0.0) == pytest.approx(1 / 32)  # Adaptive-Consistency
    assert unsettled(4, 0, 1.0) == pytest.approx(5 / 16)  # PPR-1v1: Beta(1/2; 5, 1) = 5 / 2^4
    assert unsettled(4, 0, 0.5) == pytest.approx((1 / 32 + 5 / 16) / 2)
    assert unsettled(1, 1, 1.0) == 1.0  # Beta(1/2; 2, 2) = 3/2, capped


def run(strategy: AdaptiveConsistency, weights: dict[str, float]) -> SearchGraph:
    policy = ScriptedPolicy(FIXED, lambda state: weights)
    (graph,) = Engine(FIXED, policy).run([Task(FIXED.read("p"), strategy.search, vote=strategy.vote)])
    assert "error" not in graph.info, graph.info["error"]
    return graph


@pytest.mark.parametrize(
    ("knobs", "samples"), [({}, 4), ({"rule": "bayes-factor"}, 6), ({"step": 3}, 6), ({"n": 3}, 3)]
)
def test_agreement_ends_the_sampling(knobs: dict[str, object], samples: int) -> None:
    # alike samples: 1 - 2^-(v + 1) is at least 0.95 from v = 4 on, its odds at least 100 from v = 6 on
    graph = run(AdaptiveConsistency(**{"n": 16, **knobs}), {"a!": 1.0})  # type: ignore[arg-type]
    assert graph.samples() == samples
    assert bool(graph.info.get("plan")) == (samples < graph.info.get("n", 16) and samples != knobs.get("n"))
    assert graph.info["answer"] == "a!"


def test_disagreement_spends_all() -> None:
    assert run(AdaptiveConsistency(8), MANY).samples() == 8


def test_a_shared_budget_goes_where_the_vote_is_not_settled() -> None:
    policy = ScriptedPolicy(FIXED, lambda state: {"a!": 1.0} if state.problem.id == "easy" else MANY)
    problems = [FIXED.read("easy"), FIXED.read("torn")]
    tasks = [Task(each, BlendAsc(20, auction=True).search, seed=3) for each in problems]
    graphs = list(Engine(FIXED, policy).run(tasks, allocation=Allocation(Budget(samples=16))))
    drawn = {graph.problem.id: graph.samples() for graph in graphs}
    assert sum(drawn.values()) == 16
    assert drawn["easy"] < 6 < drawn["torn"]


def test_alone_it_is_self_consistency() -> None:
    policy = ScriptedPolicy(FIXED, lambda state: {"a!": 1.0, "b!": 1.0})
    task = Task(FIXED.read("p"), BlendAsc(5).search)
    (graph,) = Engine(FIXED, policy).run([task])
    assert graph.samples() == 5


def test_who_may_share_a_budget() -> None:
    toy = Toy()
    solver = Solver(toy, ScriptedPolicy(toy), None)
    total = Budget(samples=12)
    found = list(solver.solve_many(toy.problems("test", 3), BlendAsc(8), total=total))
    assert sum(solution.spent["samples"] for solution in found) == pytest.approx(12, abs=1)
    with pytest.raises(UsageError, match="use strategy auto or blend-asc"):
        list(solver.solve_many(toy.problems("test", 3), Majority(8), total=total))
