"""Budgets in tokens, FLOPs and seconds: strategies are sized by what they buy."""

import statistics
import time
from collections.abc import Sequence
from typing import Any

import pytest

from agent.build import describe_strategy, make_strategy
from agent.planning.planner import METHODS
from agent.recipes.recipe import Component, parse_budget
from agent.search.budget import Budget
from agent.search.engine import Engine, Task
from agent.search.graph import SearchGraph
from agent.solver import Solver
from agent.strategies import Beam, BestOfN, Greedy, SizedByCost
from envs.messages import UsageError
from envs.registry import load_environment
from policies.registry import load_policy
from verifiers.registry import load_verifier
from verifiers.voting import Vote

ARITHMETIC = load_environment("arithmetic", levels=[1, 2])
PROBLEMS = ARITHMETIC.problems("test", 16, 0)
NAMES = ("majority", "best-of-n", "beam", "dvts", "lookahead", "mcts", "revision")


@pytest.fixture(scope="module")
def engine() -> Any:
    policy = load_policy("arithmetic-s", ARITHMETIC)
    made = Engine(ARITHMETIC, policy, load_verifier("table", ARITHMETIC))
    yield made
    policy.close()


def search(engine: Engine, name: str, budget: str, n: int = 1, **knobs: Any) -> list[SearchGraph]:
    limits = parse_budget(budget)
    strategy = make_strategy(Component(name, knobs), limits, Vote(), 1.0)
    tasks = [Task(problem, strategy.search, limits, vote=strategy.vote) for problem in PROBLEMS[:n]]
    graphs = list(engine.run(tasks))
    assert not [graph.info["error"] for graph in graphs if "error" in graph.info]
    return graphs


def spent(graphs: Sequence[SearchGraph], *keys: str) -> float:
    return float(statistics.mean(sum(graph.info["spent"][key] for key in keys) for graph in graphs))


@pytest.fixture(scope="module")
def sample(engine: Engine) -> dict[str, float]:
    """What a sample costs by itself."""
    graphs = search(engine, "majority", "1", len(PROBLEMS))
    return {"flops": spent(graphs, "flops"), "tokens": spent(graphs, "generated", "prefilled")}


@pytest.mark.parametrize(
    ("kind", "name"), [*(("flops", name) for name in NAMES), ("tokens", "best-of-n"), ("tokens", "beam")]
)
def test_a_budget_is_spent_and_held_on_the_mean(engine: Engine, sample: Any, name: str, kind: str) -> None:
    keys = ("flops",) if kind == "flops" else ("generated", "prefilled")
    for buys in (2.5, 12):
        limit = int(buys * sample[kind])
        graphs = search(engine, name, f"{kind}={limit}", len(PROBLEMS))
        assert spent(graphs, *keys) == pytest.approx(limit, rel=0.2 if buys < 10 or name == "revision" else 0.12)
        assert sum(graph.info["answer"] is not None or not graph.finished() for graph in graphs) == len(graphs)
        assert statistics.mean(bool(graph.finished()) for graph in graphs) > 0.5


def test_more_budget_finds_more(engine: Engine, sample: Any) -> None:
    for name in ("best-of-n", "beam"):
        right = [
            sum(bool(graph.correct()) for graph in search(engine, name, f"flops={buys * sample['flops']}", 12))
            for buys in (0.4, 1, 32)
        ]
        assert right[0] < right[1]
        assert right[0] < right[2]


@pytest.mark.parametrize("name", NAMES)
def test_too_little_is_said(engine: Engine, sample: Any, name: str) -> None:
    for budget in (f"flops={sample['flops'] / 3}", f"tokens={int(sample['tokens'] / 3)}"):
        (graph,) = search(engine, name, budget)
        assert graph.info["stopped"].endswith("buy less than one sample")
        assert graph.info["spent"]["flops"] < 1.1 * sample["flops"]


@pytest.mark.parametrize("name", ["greedy", *NAMES])
def test_a_step_that_is_dearer_than_the_budget_is_cut(engine: Engine, name: str) -> None:
    """What is spent beyond it is the prompt, which must be read to know what it takes, and a token."""
    for tokens in (1, 2, 5):
        (graph,) = search(engine, name, f"tokens={tokens}")
        assert graph.info["spent"]["generated"] <= tokens
        flops = tokens * 2 * engine.policy.parameters
        (graph,) = search(engine, name, f"flops={flops}")
        spent = graph.info["spent"]
        assert spent["flops"] - 2 * engine.policy.parameters * spent["prefilled"] <= flops
        assert [graph.state(node).steps[-1].finish for node in graph.children(0)] == ["length"]
        assert graph.info["answer"] is None


@pytest.mark.parametrize("name", NAMES)
def test_samples_may_be_limited_too(engine: Engine, sample: Any, name: str) -> None:
    for samples in (1, 4):
        (graph,) = search(engine, name, f"samples={samples},flops={100 * sample['flops']}")
        assert graph.samples() <= 1.7 * samples
        assert graph.info["answer"] is not None or not graph.finished()


@pytest.mark.parametrize("name", NAMES)
def test_a_deadline_binds_whatever_the_number_of_samples(engine: Engine, name: str) -> None:
    began = time.monotonic()
    (graph,) = search(engine, name, "samples=1e9,seconds=0.5")
    assert time.monotonic() - began < 3
    assert graph.info["spent"]["samples"] >= 1
    assert graph.finished() or graph.info["spent"]["samples"] >= 2


def test_the_same_search_is_the_same(engine: Engine, sample: Any) -> None:
    first, second = (search(engine, "beam", f"flops={7.5 * sample['flops']}", 6) for _ in range(2))
    texts = [sorted(str(graph.to_json()["nodes"]) for graph in graphs) for graphs in (first, second)]
    assert texts[0] == texts[1]


def test_the_planner_is_begun_once() -> None:
    toy = load_environment("toy")
    solver = Solver(toy, load_policy("scripted", toy), load_verifier("table", toy))
    for name in ("auto", "table"):
        for budget in (Budget(tokens=400), Budget(flops=1e9), Budget(seconds=0.4)):
            strategy = make_strategy(Component(name), budget, Vote(), 1.0)
            assert strategy.traits.decides
            solution = solver.solve(toy.problems("test", 1, 0)[0], strategy, budget)
            assert solution.answer is not None
            assert solution.plan is not None
    solver.close()


# --------------------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("budget", "width"), [("1.5", 1), ("2.6", 2), ("1", 1), ("16", 16), ("samples=8,seconds=5", 8)]
)
def test_a_budget_in_samples_is_a_size(budget: str, width: int) -> None:
    assert make_strategy(Component("beam"), parse_budget(budget), Vote(), 1.0) == Beam(width)


@pytest.mark.parametrize("name", ["beam", "dvts", "lookahead", "mcts", "best-of-n"])
def test_fractions_of_samples_give_an_answer(engine: Engine, name: str) -> None:
    for budget in ("1.5", "2.6"):
        (graph,) = search(engine, name, budget)
        assert graph.finished()
        assert graph.info["stopped"] == "finished" or graph.samples() >= 1


@pytest.mark.parametrize("name", METHODS)
def test_less_than_a_sample_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"a budget of 0\.5 samples buys none; allowed: 1 or more"):
        make_strategy(Component(name), Budget(samples=0.5), Vote(), 1.0)


def test_what_is_always_the_same_is_drawn_once() -> None:
    assert make_strategy(Component("greedy"), Budget(flops=1e9), Vote(), 1.0) == Greedy()
    assert make_strategy(Component("best-of-n"), Budget(flops=1e9), Vote(), 0.0) == BestOfN(1, 0.0)


def test_it_is_told_by_its_strategy() -> None:
    strategy = make_strategy(Component("beam", {"branch": 2}), Budget(flops=1e9), Vote(), 1.0)
    assert describe_strategy(strategy) == {"name": "beam", "branch": 2, "temperature": 1.0, "chain": 0}
    assert isinstance(strategy, SizedByCost)
    assert SizedByCost.sized(4, kind=Beam, budget=Budget(flops=1e9)).budget == Budget(samples=4, flops=1e9)
