"""The strategies: recorded searches, hand-made ones, costs, and that company and order of replies change nothing.

The recorded searches in ``golden/`` are whole graphs. After a change that is meant to change them, rewrite them with
``STEPWELL_WRITE_GOLDEN=1 pytest tests/agent/strategies/test_strategies.py -k golden`` and read the difference.
"""

import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.planning.planner import METHODS
from agent.search.budget import Budget
from agent.search.context import RunContext
from agent.search.control.steering import INFO
from agent.search.engine import Engine, Task
from agent.search.graph import SearchGraph
from agent.search.requests import Search, sample_seeds
from agent.search.shared_budget import Bid
from agent.strategies import Beam, BestOfN, Dvts, Greedy, Lookahead, Majority, Mcts, Revision, Strategy
from envs.core import Environment, Problem, Split, State, Step, Transition, termination, transition, truncation
from envs.toy import Toy
from policies.core import Propose, Proposed, Usage
from policies.scripted import ScriptedPolicy
from verifiers.core import Score, Scored
from verifiers.table import TableVerifier
from verifiers.voting import Aggregate, Candidate, Rule, Vote

GOLDEN = Path(__file__).parent / "golden"
TOY = Toy()
PROBLEM = TOY.read("14 with 1 3 7 10")
WORDS = {str(word): 1.0 for word in range(1000)}


@dataclass(frozen=True)
class Tree:
    """Words: one that ends in ``!`` answers, one that ends in ``x`` fails; with a depth, exactly that many are said."""

    depth: int | None = None
    name: str = "tree"
    delimiter: str = "\n"
    max_steps: int = 9

    def read(self, question: str) -> Problem:
        return Problem(question, question)

    def prompt(self, problem: Problem) -> str:
        return problem.question + "\n"

    def initial(self, problem: Problem) -> State:
        return State(problem)

    def step(self, state: State, step: Step) -> Transition:
        after = state.then(step)
        reward = self.quality(after)
        if step.text.endswith("!") or len(after.steps) == self.depth:
            return termination(after, reward)
        over = step.text.endswith("x") or len(after.steps) >= self.max_steps
        return truncation(after, reward) if over else transition(after, reward)

    def answer(self, state: State) -> str | None:
        return state.texts[-1]

    def check(self, problem: Problem, answer: str) -> bool:
        return False

    def same(self, a: str, b: str) -> bool:
        return a == b

    def problems(self, split: Split, n: int, seed: int = 0) -> Sequence[Problem]:
        return [self.read(f"{split}/{seed}/{i}") for i in range(n)]

    def options(self, state: State) -> Mapping[str, float]:
        """Many equally likely words, so that samples seldom merge."""
        return WORDS

    def quality(self, state: State) -> float:
        """Anything."""
        return hashlib.sha256("/".join(state.texts).encode()).digest()[0] / 255


def run(
    method: Strategy,
    problem: Problem = PROBLEM,
    environment: Environment = TOY,
    samples: float | None = None,
    shuffle: int | None = None,
    others: Sequence[Problem] = (),
    seed: int = 0,
) -> SearchGraph:
    """Search with the fakes, alone or among others, without clock times."""
    policy, verifier = ScriptedPolicy(environment, shuffle=shuffle), TableVerifier(environment, shuffle=shuffle)
    engine = Engine(environment, policy, verifier)
    half = len(others) // 2
    tasks = [
        Task(each, method.search, Budget(samples=samples), seed, method.vote)
        for each in (*others[:half], problem, *others[half:])
    ]
    (graph,) = [graph for graph in engine.run(tasks, concurrency=16) if graph.problem == problem]
    assert "error" not in graph.info, graph.info["error"]
    graph.info["spent"]["seconds"] = 0
    return graph


@dataclass
class Script:
    """Answers a search by hand: words offered at a state, in turn, and scores of states by their last word."""

    offers: Mapping[str, str]
    scores: Mapping[str, float]
    requests: list[Propose | Score] = field(default_factory=list)

    def drive(self, graph: SearchGraph, search: Search[None]) -> SearchGraph:
        given: dict[str, int] = {}
        reply: Proposed | Scored | None = None
        while True:
            try:
                request = search.send(reply) if reply is not None else next(search)
            except StopIteration:
                return graph
            assert not isinstance(request, Bid)
            self.requests.append(request)
            if isinstance(request, Score):
                reply = Scored(tuple(tuple(self.scores[t] for t in state.texts) for state in request.states))
                continue
            samples = []
            for state, seeds in zip(request.states, request.seeds, strict=True):
                samples.append(tuple(self._sample(graph, state, request, given) for _ in seeds))
            reply = Proposed(tuple(samples), Usage(0, sum(len(s) for each in samples for s in each)))

    def _sample(self, graph: SearchGraph, state: State, request: Propose, given: dict[str, int]) -> tuple[Step, ...]:
        steps: list[Step] = []
        while request.max_steps is None or len(steps) < request.max_steps:
            key = " ".join(state.texts)
            words = self.offers[key].split()
            index = given.get(key, 0) if request.temperature else 0
            given[key] = index + bool(request.temperature)
            steps.append(Step(words[index % len(words)], 1))
            after = graph.environment.step(state, steps[-1])
            state = after.state
            if after.status != "running":
                break
        return tuple(steps)

    def drawn(self) -> list[list[int]]:
        """Samples asked for, per request and state."""
        return [[len(seeds) for seeds in each.seeds] for each in self.requests if isinstance(each, Propose)]


def cutting(graph: SearchGraph, search: Search[None], at: int, text: str) -> Search[None]:
    """A search at whose request number `at`, while that is out, a person cuts the node with a text."""
    reply: Any = None
    for number in itertools.count():
        try:
            request = search.send(reply)
        except StopIteration:
            return
        reply = yield request
        if number == at:
            (node,) = [node for node in graph.graph if graph[node].text == text]
            graph.info[INFO] = [{"what": "prune", "node": node}]
            graph.replay_steering()


def tree(depth: int | None = None) -> SearchGraph:
    return SearchGraph(Tree(depth), Problem("p", "p"))


def texts(graph: SearchGraph, nodes: Sequence[int]) -> list[str]:
    return [" ".join(graph.state(node).texts) for node in nodes]


def marked(graph: SearchGraph, what: str) -> set[str]:
    return set(texts(graph, [node for node in graph.graph if graph[node][what]]))


# ------------------------------------------------------------------------------------------------ recorded searches


def _rounded(value: Any) -> Any:
    """Floats to 12 digits: another mathematical library may differ in the last."""
    if isinstance(value, float):
        return float(f"{value:.12g}")
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value


def _lines(raw: Mapping[str, Any]) -> str:
    """JSON with a line per node and edge, so that differences can be read."""
    parts = []
    for name, value in raw.items():
        many = ",\n  ".join(json.dumps(each) for each in value) if name in ("nodes", "edges") else ""
        parts.append(f" {json.dumps(name)}: " + (f"[\n  {many}\n ]" if many else json.dumps(value)))
    return "{\n" + ",\n".join(parts) + "\n}\n"


@pytest.mark.parametrize("method", METHODS)
def test_golden(method: str) -> None:
    """The whole graph of each method on one problem at 8 samples is as recorded."""
    graph = run(METHODS[method].sized(8), samples=8)
    raw = json.loads(json.dumps(_rounded(graph.to_json())))
    path = GOLDEN / f"{method}.json"
    if os.environ.get("STEPWELL_WRITE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(_lines(raw))
    recorded = json.loads(path.read_text())
    assert [each for each in raw["nodes"] if each not in recorded["nodes"]] == []
    assert raw == recorded
    assert SearchGraph.load(path, TOY).samples() == graph.samples()


def test_golden_files_are_those_of_the_methods() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(METHODS)


# -------------------------------------------------------------------------------------------------- independence


@pytest.mark.parametrize("method", METHODS)
def test_company_and_order_of_replies_change_nothing(method: str) -> None:
    strategy = METHODS[method].sized(8)
    alone = run(strategy, samples=8)
    others = TOY.problems("train", 32)
    assert run(strategy, samples=8, shuffle=1) == alone
    assert run(strategy, samples=8, shuffle=2, others=others) == alone
    assert run(strategy, samples=8, others=others) == alone


@pytest.mark.parametrize("method", [name for name in METHODS if name != "greedy"])
def test_seeds_matter(method: str) -> None:
    fixed = Tree(3)
    first, second = (run(METHODS[method].sized(8), fixed.read("p"), fixed, seed=seed) for seed in (0, 1))
    assert {graph["text"] for _, graph in first.graph.nodes(data=True)} != {
        graph["text"] for _, graph in second.graph.nodes(data=True)
    }


# --------------------------------------------------------------------------------------------------------- costs


@pytest.mark.parametrize("n", [4, 16, 64])
@pytest.mark.parametrize("method", [name for name in METHODS if name != "greedy"])
def test_sized_costs_what_it_says(method: str, n: int) -> None:
    """Within a tenth of the budget, or for MCTS one simulation: `branch` steps and a play-out."""
    fixed = Tree(5)
    graph = run(METHODS[method].sized(n), fixed.read("p"), fixed)
    granularity = 1 + 4 / 5 if method == "mcts" else 1 / 5
    assert 0.9 * n - granularity <= graph.samples() <= 1.1 * n + granularity
    assert graph.info["stopped"] == "finished"


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("method", METHODS)
def test_small_budgets_work(method: str, n: int) -> None:
    graph = run(METHODS[method].sized(n), samples=n)
    assert graph.info["answer"] is not None
    assert graph.samples() <= 1.1 * n + 2
    fixed = Tree(5)
    graph = run(METHODS[method].sized(n), fixed.read("p"), fixed, samples=n)
    assert graph.finished()


@pytest.mark.parametrize("method", ["beam", "dvts"])
def test_the_known_optimum_is_found(method: str) -> None:
    problems = TOY.problems("test", 12)
    for problem in problems:
        graph = run(METHODS[method].sized(16), problem, samples=16)
        assert graph.correct(), problem.question
        assert graph.info["answer"] == problem.answer
    # which is not for nothing: greed fails on some
    assert not all(run(Greedy(), problem).correct() for problem in problems)


# ----------------------------------------------------------------------------------------------------- Best-of-N


def test_best_of_n_is_the_vote_of_its_samples() -> None:
    """Samples drawn and votes added by hand, with the seeds that the search derives."""
    n = 16
    policy = ScriptedPolicy(TOY)
    blank = SearchGraph(TOY, PROBLEM, 0)
    seeds = sample_seeds(blank, 0, 0, n)
    policy.submit(1, Propose((State(PROBLEM),), (seeds,), max_steps=None))
    ((_, reply),) = policy.poll()
    weights: dict[str, float] = {}
    counts: dict[str, int] = {}
    for steps in reply.samples[0]:
        state = State(PROBLEM, steps)
        if (answer := TOY.answer(state)) is not None:
            weights[answer] = weights.get(answer, 0.0) + TOY.quality(state)
            counts[answer] = counts.get(answer, 0) + 1
    assert len(weights) > 1
    graph = run(BestOfN(n))
    assert {group.answer: group.weight for group in graph.tally(Vote())} == pytest.approx(weights)
    assert graph.info["answer"] == max(weights, key=lambda answer: weights[answer])
    assert graph.info["confidence"] == pytest.approx(max(weights.values()) / sum(weights.values()), abs=1e-4)
    majority = run(Majority(n))
    assert majority.info["answer"] == max(counts, key=lambda answer: counts[answer])
    assert {group.answer: group.weight for group in majority.tally(Vote("majority"))} == counts
    assert majority.info["spent"]["verifier_calls"] == 0
    assert run(BestOfN(n, vote=Vote("majority"))).info["spent"]["verifier_calls"] == 0


@pytest.mark.parametrize(
    ("budget", "sizes"),
    [
        (Budget(), [40]),
        (Budget(samples=40), [40]),
        (Budget(samples=39.5), [16, 16, 8]),
        (Budget(samples=40, seconds=60), [16, 16, 8]),
        (Budget(tokens=10**6), [16, 16, 8]),
        (Budget(flops=1e12), [16, 16, 8]),
    ],
)
def test_samples_are_one_request_where_no_limit_ends_the_search_before(budget: Budget, sizes: list[int]) -> None:
    graph = SearchGraph(TOY, PROBLEM, 0, context=RunContext(budget=budget))
    policy, search, asked = ScriptedPolicy(TOY), Majority(40).search(graph), list[int]()
    reply: Any = None
    with contextlib.suppress(StopIteration):
        while True:
            request = search.send(reply)
            assert isinstance(request, Propose)
            asked.append(len(request.seeds[0]))
            policy.submit(len(asked), request)
            ((_, reply),) = policy.poll()
    assert asked == sizes


def test_greedy_takes_the_likeliest_step() -> None:
    graph = run(Greedy())
    assert texts(graph, graph.finished()) == ["10 3 1"]
    assert graph.samples() == 1.0


# ---------------------------------------------------------------------------------------------------------- beam


def test_beam_keeps_the_best_and_a_finished_beam_holds_a_place() -> None:
    """Width 4, branch 2: two places."""
    script = Script(
        {"": "a! b c d", "b": "e! f", "c": "g h", "c g": "i! j!"},
        {"a!": 0.3, "b": 0.8, "c": 0.6, "d": 0.1, "e!": 0.9, "f": 0.2, "g": 0.7, "h": 0.1, "i!": 0.95, "j!": 0.3},
    )
    graph = tree()
    script.drive(graph, Beam(4, 2).search(graph))
    # b and c beat the finished a!; then e! (finished) and g are kept, and e! draws nothing
    assert script.drawn() == [[4], [2, 2], [2]]
    assert texts(graph, graph.finished()) == ["a!", "b e!", "c g i!", "c g j!"]
    assert marked(graph, "pruned") == {"d", "b f", "c h"}


def test_beam_never_keeps_a_worse_finished_beam_over_a_better_unfinished_one() -> None:
    script = Script(
        {"": "a! b c d", "b": "e f"},
        {"a!": 0.7, "b": 0.8, "c": 0.1, "d": 0.2, "e": 0.9, "f": 0.75} | {"g!": 0.1, "h!": 0.2},
    )
    script.offers = {**script.offers, "b e": "g!", "b f": "h!"}
    graph = tree()
    script.drive(graph, Beam(4, 2).search(graph))
    # round 2 draws 2 for b as a! holds a place; e and f both beat a!, so round 3 draws all 4
    assert script.drawn() == [[4], [2], [2, 2]]
    assert texts(graph, graph.finished()) == ["a!", "b e g!", "b f h!"]


def test_beam_goes_on_without_what_failed() -> None:
    script = Script({"": "ax b bx cx", "b": "x"}, {"b": 0.1})
    graph = tree()
    script.drive(graph, Beam(4, 2).search(graph))
    assert script.drawn() == [[4], [4]]
    assert graph.finished() == []
    assert [len(each.states) for each in script.requests if isinstance(each, Score)] == [1]


@pytest.mark.parametrize(
    ("how", "kept"),  # last: 0.6, 0.45; min: 0.5, 0.45; mean: 0.675, 0.65; product: 0.405, 0.36
    [("last", {"b e", "a d"}), ("min", {"b e", "a d"}), ("mean", {"a d", "a c"}), ("product", {"a d", "a c"})],
)
def test_beam_ranks_by_the_aggregate_of_its_vote(how: Aggregate, kept: set[str]) -> None:
    scores = {"a": 0.9, "b": 0.5, "c": 0.4, "d": 0.45, "e": 0.6, "f": 0.42, "g!": 0.5}
    words = {"": "a b", "a": "c d", "b": "e f", "a c": "g!", "a d": "g!", "b e": "g!"}
    graph = tree()
    Script(words, scores).drive(graph, Beam(4, 2, vote=Vote(aggregate=how)).search(graph))
    assert {"a c", "a d", "b e", "b f"} - marked(graph, "pruned") == kept


# ---------------------------------------------------------------------------------------------------------- DVTS


def test_dvts_subtrees_do_not_compete_and_the_unfinished_never_vote() -> None:
    """Width 4, branch 2: two subtrees of two candidates."""
    script = Script(
        {"": "a b c d", "a": "e! f", "c": "g h", "a f": "i! j!", "c g": "kx lx"},
        {"a": 0.9, "b": 0.8, "c": 0.2, "d": 0.1, "e!": 0.5, "f": 0.6, "g": 0.3, "h": 0.2, "i!": 0.4, "j!": 0.7},
    )
    graph = tree()
    script.drive(graph, Dvts(4, 2).search(graph))
    # c goes on although b is better: b is in the other subtree; the second subtree fails
    assert script.drawn() == [[4], [2, 2], [2, 2]]
    assert texts(graph, graph.finished()) == ["a f j!"]
    assert marked(graph, "pruned") == {"b", "d", "a e!", "c h", "a f i!"}


def test_dvts_subtrees_at_one_prefix_draw_apart() -> None:
    script = Script(
        {"": "a a a b", "a": "c d e! f!"},
        {"a": 0.5, "b": 0.1, "c": 0.1, "d": 0.2, "e!": 0.9, "f!": 0.8, "g!": 0.3},
    )
    script.offers = {**script.offers, "a d": "g!"}
    graph = tree()
    script.drive(graph, Dvts(4, 2).search(graph))
    # the first two samples at a are one subtree's (d wins), the last two the other's (e! wins)
    assert script.drawn() == [[4], [4], [2]]
    assert texts(graph, graph.finished()) == ["a e!", "a d g!"]


# ----------------------------------------------------------------------------------------------------- lookahead


def test_lookahead_values_a_step_by_its_greedy_future() -> None:
    """Two candidates, one place, one step ahead: a looks worse than b and leads to better."""
    script = Script(
        {"": "a b", "a": "c! d", "b": "e f", "a d": "g!", "a c!": ""},
        {"a": 0.1, "b": 0.9, "c!": 0.8, "e": 0.3, "d": 0.4, "g!": 0.85},
    )
    graph = tree()
    script.drive(graph, Lookahead(n=4, branch=4, k=1).search(graph))
    values = {graph[node]["text"]: graph[node]["value"] for node in graph.graph}
    assert (values["a"], values["b"]) == (0.8, 0.3)
    assert "b" in marked(graph, "pruned")
    # the rollout's c! cost tokens and got scored, but it votes only as far as it was also drawn
    rollouts = [each for each in script.requests if isinstance(each, Propose) and each.temperature == 0]
    assert [each.max_steps for each in rollouts] == [1] * len(rollouts)
    assert all(graph.count(node) for node in graph.finished())
    assert "b e" not in texts(graph, graph.finished())


def test_rollouts_of_lookahead_do_not_vote() -> None:
    graph = tree()
    script = Script({"": "a b", "a": "c! d", "b": "e! f!"}, {"a": 0.1, "b": 0.9, "c!": 0.2, "e!": 0.3, "f!": 0.3})
    script.drive(graph, Lookahead(n=4, branch=2, k=1).search(graph))
    assert texts(graph, [2, 3, 4]) == ["b", "a c!", "b e!"]
    assert not graph.count(3)
    assert 3 not in graph.finished()
    assert graph[3]["score"] == 0.2


def test_lookahead_keeps_the_pace_of_its_budget() -> None:
    """8 samples, one step ahead: 4 candidates in the first round, two places."""
    graph = tree()
    script = Script(
        {"": "a! b c d", "b": "e! f! g!", "c": "h", "d": "h"},
        {"a!": 0.9, "b": 0.1, "c": 0.1, "d": 0.1, "e!": 0.8, "f!": 0.2, "g!": 0.2, "h": 0.3},
    )
    script.drive(graph, Lookahead(n=8, branch=2, k=1).search(graph))
    # the first round cost 7, so 9 of the 16 steps that two rounds may cost are left; a! holds half of the places, and
    # a candidate has cost 7 / 4 so far: 0.5 * 9 / (7 / 4) = 2.6
    assert script.drawn() == [[4], [1, 1, 1], [3]]
    assert texts(graph, graph.finished()) == ["a!", "b e!", "b f!", "b g!"]


def test_lookahead_of_nothing_is_beam() -> None:
    fixed = Tree(4)
    beam = run(Beam(16, 4), fixed.read("p"), fixed)
    none = run(Lookahead(16, 4, k=0), fixed.read("p"), fixed)
    assert none == beam


# ---------------------------------------------------------------------------------------------------------- MCTS


def test_puct_is_the_formula() -> None:
    graph = tree()
    rows = {"a": (0.5, 3, 2.0, 0.5), "b": (0.6, 1, 0.2, 0.25), "c": (0.4, 0, 0.0, 0.25)}
    nodes = {}
    for text, (value, visits, total, prior) in rows.items():
        nodes[text] = node = graph.add(0, [Step(text, 1)])
        graph[node].update(value=value, visits=visits, total=total)
        graph.graph.edges[0, node]["prior"] = prior
    mcts = Mcts(c=2.0)
    # (0.5 + 2) / 4 + 2 * 0.5 * sqrt(4) / 4;  (0.6 + 0.2) / 2 + 2 * 0.25 * 2 / 2;  0.4 / 1 + 2 * 0.25 * 2 / 1
    assert [mcts.puct(graph, 0, node) for node in nodes.values()] == pytest.approx([1.125, 0.9, 1.4])
    assert mcts.select(graph, {0}, set()) == nodes["c"]
    assert mcts.select(graph, {0}, {nodes["c"]}) == nodes["a"]
    assert Mcts(c=0.0).select(graph, {0}, set()) == nodes["a"]
    assert mcts.select(graph, set(), set()) == 0


def test_a_simulation_backs_up_the_return_of_the_finished_trajectory() -> None:
    graph = tree()
    script = Script({"": "a c!", "a": "d!"}, {"a": 0.9, "c!": 0.3, "d!": 0.6})
    script.drive(graph, Mcts(n=2, branch=2).search(graph))
    # a and c! are expanded, a is played out to d!, c! and d! are backed up: 3 tokens at a mean of 1.5 are the budget
    assert script.drawn() == [[2], [1]]
    assert texts(graph, [1, 2, 3]) == ["a", "c!", "a d!"]
    rewards = {node: graph[node]["reward"] for node in (2, 3)}
    assert rewards == {node: Tree().quality(graph.state(node)) for node in (2, 3)}
    deep, short = 0.6 + rewards[3], 0.3 + rewards[2]  # the verifier's value, and the environment's reward
    assert (graph[0]["visits"], graph[0]["total"]) == (2, pytest.approx(deep + short))
    assert [(graph[node]["visits"], graph[node]["total"]) for node in (1, 2, 3)] == [(1, deep), (1, short), (1, deep)]
    assert texts(graph, graph.finished()) == ["c!", "a d!"]


def test_priors_are_shares_of_the_samples() -> None:
    graph = tree()
    script = Script({"": "a a b c!", "a": "d!", "b": "d!"}, {"a": 0.9, "b": 0.5, "c!": 0.3, "d!": 0.6})
    script.drive(graph, Mcts(n=4, branch=4).search(graph))
    assert texts(graph, graph.children(0)) == ["a", "b", "c!"]
    assert [graph.graph.edges[0, node]["prior"] for node in graph.children(0)] == [0.5, 0.25, 0.25]


def test_priors_of_siblings_add_up_to_one_with_playouts_from_above() -> None:
    graph = run(Mcts(n=64), TOY.read("39 with 1 5 9"))
    priors = [[graph.graph.edges[node, child]["prior"] for child in graph.children(node)] for node in graph.graph]
    expanded = [each for each in priors if each and None not in each]
    assert len(expanded) > 10
    assert all(sum(each) == pytest.approx(1) for each in expanded)


@pytest.mark.parametrize("question", ["1 with 1", "3 with 1 2", "6 with 1 6"])
def test_mcts_ends_when_the_tree_is_explored(question: str) -> None:
    graph = run(Mcts(n=10_000), TOY.read(question))
    assert graph.info["stopped"] == "finished"
    assert graph.samples() < 10_000
    assert graph.correct()


def test_mcts_outlives_failures_only() -> None:
    graph = tree()
    script = Script({"": "x"}, {"x": 0.5})
    script.drive(graph, Mcts(n=4).search(graph))
    assert graph.finished() == []
    assert graph[0]["total"] == 0.0


def test_mcts_does_not_expand_a_node_that_is_cut_while_its_samples_are_out() -> None:
    """Selected at c = 0: b, then a."""
    graph = tree()
    script = Script(
        {"": "a b", "b": "c! d!", "a": "e! f!"}, {"a": 0.5, "b": 0.9, "c!": 0.0, "d!": 0.0, "e!": 0.5, "f!": 0.5}
    )
    search = Mcts(n=9, branch=2, c=0.0).search(graph)
    # requests: steps of the root, their scores, a rollout from b, its score, steps of b
    script.drive(graph, cutting(graph, search, 4, "b"))
    assert texts(graph, graph.finished()) == ["a e!", "a f!"]
    assert all(graph[child].value is None for child in graph.children(2))


# --------------------------------------------------------------------------------------------- services that cheat


def _without_steps(reply: Proposed) -> Proposed:
    return Proposed(tuple(tuple(() for _ in each) for each in reply.samples), reply.usage)


def _one_short(reply: Proposed) -> Proposed:
    return Proposed(tuple(each[1:] for each in reply.samples), reply.usage)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("spoil", "message"), [(_without_steps, "a sample without steps"), (_one_short, "samples were asked for")]
)
def test_a_policy_that_breaks_its_contract_is_told(
    method: str, spoil: Callable[[Proposed], Proposed], message: str
) -> None:
    """Or a search would go on for ever at one node."""

    class Cheat(ScriptedPolicy):
        def poll(self) -> Sequence[tuple[int, Proposed]]:
            return [(ticket, spoil(reply)) for ticket, reply in super().poll()]

    engine = Engine(TOY, Cheat(TOY), TableVerifier(TOY))
    (graph,) = engine.run([Task(PROBLEM, METHODS[method].sized(8).search)])
    assert message in graph.info["error"]


# ------------------------------------------------------------------------------------------------------ revision


def answers(graph: SearchGraph, nodes: Sequence[int]) -> list[str]:
    return [graph[node]["answer"] for node in nodes]


def test_a_revision_is_shown_the_last_four_attempts_of_its_chain() -> None:
    graph = tree()
    script = Script({"": "a! b! c! d! e! f!"}, dict.fromkeys(["a!", "b!", "c!", "d!", "e!", "f!"], 0.5))
    script.drive(graph, Revision(n=6, ratio=6).search(graph))
    proposals = [each for each in script.requests if isinstance(each, Propose)]
    shown = [[attempt[-1].text for attempt in each.states[0].attempts] for each in proposals]
    assert shown == [[], ["a!"], ["a!", "b!"], ["a!", "b!", "c!"], ["a!", "b!", "c!", "d!"], ["b!", "c!", "d!", "e!"]]
    assert len({seed for each in proposals for seeds in each.seeds for seed in seeds}) == 6
    last = max(graph.graph)
    assert answers(graph, graph.attempts(last)) == ["a!", "b!", "c!", "d!", "e!", "f!"]
    # a verifier judges an attempt by itself
    assert all(not state.attempts for each in script.requests if isinstance(each, Score) for state in each.states)


def test_chains_are_as_long_as_the_ratio_says() -> None:
    for ratio, chains in ((16, 1), (4, 2), (1, 4), (1 / 4, 8), (1 / 16, 16), (1 / 1000, 16)):
        graph = tree(3)
        script = Script({}, {})
        script.offers = _Anything()
        script.scores = _Half()
        script.drive(graph, Revision(n=16, ratio=ratio).search(graph))
        drawn = script.drawn()
        assert sum(map(sum, drawn)) == 16
        assert drawn[0] == [chains]
        assert len(drawn) == -(-16 // chains)
    with pytest.raises(ValueError, match="'ratio' is 0; expected a number, above 0"):
        Revision(ratio=0)


class _Anything(dict[str, str]):
    """Offers many words at any state."""

    def __missing__(self, key: str) -> str:
        return " ".join(map(str, range(100)))


class _Half(dict[str, float]):
    def __missing__(self, key: str) -> float:
        return 0.5


def test_the_answer_is_chosen_within_chains_and_then_across() -> None:
    """Two chains of three: (a 0.4, b 0.5, a 0.3) and (b 0.45, c 0.5, c 0.1)."""
    graph = tree()
    script = Script(
        {"": "a! b! b!! c! a!! c!!"},
        {"a!": 0.4, "b!": 0.45, "b!!": 0.5, "c!": 0.5, "a!!": 0.3, "c!!": 0.1},
    )
    script.drive(graph, Revision(n=6, ratio=1.5).search(graph))
    # no two of the six answers are the same here, so that the best of each chain represents it
    assert answers(graph, graph.finished()) == ["b!!", "c!"]
    # with answers that are the same, a chain's leading answer is the one with most weight: a, 0.4 + 0.3
    graph.environment = _Blind()
    ends = [
        [node for node in graph.graph if graph[node]["text"] in chain]
        for chain in (("a!", "b!!", "a!!"), ("b!", "c!", "c!!"))
    ]

    def selected(rule: Rule) -> list[str]:
        leaders: dict[int, int] = {}
        for turn in range(1, 4):
            chains = [[Candidate(graph[n]["answer"], graph.scores(n), 1, n) for n in chain[:turn]] for chain in ends]
            Revision(vote=Vote(rule)).select(graph, dict(enumerate(chains)), leaders)
        return answers(graph, graph.finished())

    assert selected("vote") == ["a!", "c!"]
    assert selected("max") == ["b!!", "c!"]
    assert [answer.rstrip("!") for answer in selected("majority")] == ["a", "c"]


@dataclass(frozen=True)
class _Blind(Tree):
    """Exclamation marks do not tell answers apart."""

    def same(self, a: str, b: str) -> bool:
        return a.rstrip("!") == b.rstrip("!")


def test_an_attempt_without_an_answer_is_not_shown() -> None:
    graph = tree()
    script = Script({"": "a! bx c!"}, {"a!": 0.5, "c!": 0.4})
    script.drive(graph, Revision(n=3, ratio=3).search(graph))
    proposals = [each for each in script.requests if isinstance(each, Propose)]
    shown = [[attempt[-1].text for attempt in each.states[0].attempts] for each in proposals]
    assert shown == [[], ["a!"], ["a!"]]
    assert answers(graph, graph.attempts(max(graph.graph))) == ["a!", "c!"]


def test_revision_by_majority_asks_no_verifier() -> None:
    graph = run(Revision(8, vote=Vote("majority")))
    assert graph.info["spent"]["verifier_calls"] == 0
