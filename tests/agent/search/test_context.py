"""What a search runs with comes from its task, whoever made it, and its outcome is counted once."""

import pytest

from agent.planning.planner import Planner
from agent.search.budget import Budget
from agent.search.context import Outcome, RunContext
from agent.search.engine import Engine, Task
from agent.search.graph import SearchGraph
from agent.solver import Solver
from agent.strategies import BestOfN
from envs.arithmetic import Arithmetic
from envs.toy import Toy
from policies.registry import load_policy
from policies.scripted import ScriptedPolicy
from verifiers.registry import load_verifier
from verifiers.table import TableVerifier
from verifiers.voting import Candidate, Group, Vote

TOY = Toy()
PROBLEM = TOY.read("39 with 1 5 9")


def test_a_solution_of_a_task_made_by_hand_is_what_the_engine_recorded() -> None:
    vote = Vote("max", "min")
    solver = Solver(TOY, ScriptedPolicy(TOY), TableVerifier(TOY))
    tasks = [Task(PROBLEM, BestOfN(8).search, Budget(samples=8), seed, vote) for seed in range(60)]
    solutions = list(solver.run(tasks))
    assert len(solutions) == 60
    for solution in solutions:
        info = solution.graph.info
        assert (solution.answer, solution.node) == (info["answer"], info["node"])
        assert solution.groups == tuple(solution.graph.tally(vote))
        assert info["vote"] == {"rule": "max", "aggregate": "min"}


def test_votes_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []

    def counting(graph: SearchGraph, vote: Vote) -> list[Group]:
        counted.append(vote)
        return tally(graph, vote)

    tally = SearchGraph.tally
    monkeypatch.setattr(SearchGraph, "tally", counting)
    solver = Solver(TOY, ScriptedPolicy(TOY), TableVerifier(TOY))
    (solution,) = solver.run([Task(PROBLEM, BestOfN(8).search, Budget(samples=8))])
    assert solution.correct is not None
    assert solution.graph.choice() is solution.graph.outcome
    assert counted == [Vote()]


def test_the_planner_keeps_to_a_budget_in_flops_as_a_plain_task() -> None:
    environment = Arithmetic()
    engine = Engine(environment, load_policy("arithmetic-s", environment), load_verifier("arithmetic-prm", environment))
    problem = environment.read("(17 + 8) * 3 - 40")
    planner = Planner(64)
    (graph,) = engine.run([Task(problem, planner.search, Budget(flops=2e7), vote=planner.vote)])
    assert graph.info["answer"] is not None
    assert graph.info["spent"]["flops"] < 3e7
    assert graph.context.budget == Budget(flops=2e7)


def test_a_context_survives_its_record() -> None:
    context = RunContext("p", 5, True, True, None, Budget(samples=4, seconds=2.5), Vote("max", "min"))
    assert RunContext.from_info(context.to_info()) == context
    assert RunContext.from_info({}) == RunContext()
    with pytest.raises(ValueError, match="rule 'most' given"):
        RunContext.from_info({"vote": {"rule": "most"}})


def test_an_outcome_by_hand() -> None:
    groups = [
        Group("7", 1.5, 2, 0.9, Candidate("7", (0.9,), 1, 4)),
        Group("8", 0.5, 1, 0.5, Candidate("8", (0.5,), 1, 6)),
    ]
    assert Outcome.of(groups) == Outcome("7", 4, 0.75, tuple(groups))
    assert Outcome.of([]) == Outcome()
    assert Outcome.of([Group("7", 0.0, 1, 0.0, Candidate("7"))]).confidence == 0.0
