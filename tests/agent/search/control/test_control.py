"""A search under way is changed between two replies, and whatever a person did is in its graph."""

import itertools
import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.planning.planner import METHODS
from agent.search.budget import Budget
from agent.search.control.arguments import COMMANDS, from_words
from agent.search.control.commands import ACCEPTED, BY_HAND, CANCELLED
from agent.search.control.handle import SearchHandle, SearchOver
from agent.search.control.running import below
from agent.search.control.steering import INFO
from agent.search.engine import Engine, Task
from agent.search.graph import SearchGraph
from agent.search.requests import Search, SubtreeCut, propose
from agent.search.shared_budget import Allocation
from agent.solver import task
from agent.strategies import STRATEGIES, Beam, BestOfN, Dvts, Lookahead, Majority, Mcts, Revision, Strategy
from envs.core import Problem
from envs.messages import UsageError
from envs.toy import Toy
from policies.core import Propose, Proposed
from policies.scripted import ScriptedPolicy
from verifiers.table import TableVerifier

TOY = Toy()
PROBLEM = TOY.read("29 with 1 6 10")
GOLDEN = Path(__file__).parents[2] / "strategies" / "golden"
SECONDS = 20.0  # that a future may take


class Watched(ScriptedPolicy):
    """Remembers what was asked of it, and tells somebody before each poll."""

    def __init__(self, environment: Toy, look: Callable[[int], None] = lambda poll: None) -> None:
        super().__init__(environment)
        self.asked: list[Propose] = []
        self.polls = 0
        self.look = look

    def submit(self, ticket: int, request: Propose) -> None:
        self.asked.append(request)
        super().submit(ticket, request)

    def poll(self) -> Sequence[tuple[int, Proposed]]:
        self.polls += 1
        self.look(self.polls)
        return super().poll()


class Bench:
    """An engine whose searches are steered at chosen moments.

    Args:
        at: for a poll of the policy, by its number, what is done just before: between two replies.
    """

    def __init__(self, at: dict[int, Callable[["Bench"], Any]] | None = None) -> None:
        self.at = at or {}
        self.policy = Watched(TOY, self.look)
        self.engine = Engine(TOY, self.policy, TableVerifier(TOY))
        self.outcomes: list[Any] = []
        self.handle: SearchHandle

    def look(self, poll: int) -> None:
        if poll in self.at:
            self.outcomes.append(self.at[poll](self))

    def run(
        self, strategy: Strategy, budget: Budget | None = None, problem: Problem = PROBLEM, **more: Any
    ) -> SearchGraph:
        self.handle = self.engine.submit(task(problem, strategy, budget or Budget(samples=8), **more))
        (graph,) = self.engine.run()
        assert self.handle.result.result(0) is graph
        return graph

    def do(self, command: str, *words: Any, **arguments: Any) -> Any:
        return self.handle.do(command, arguments or from_words(command, " ".join(map(str, words))), "ada")


def records(graph: SearchGraph) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = graph.info.get(INFO, [])
    return found


def without_records(graph: SearchGraph) -> dict[str, Any]:
    raw = graph.to_json()
    info = {key: value for key, value in raw["info"].items() if key not in (INFO, "spent")}
    return raw | {"info": info}


def saved(graph: SearchGraph, tmp_path: Path) -> SearchGraph:
    graph.save(tmp_path / "graph.json")
    return SearchGraph.load(tmp_path / "graph.json", TOY)


# ---------------------------------------------------------------------------------------------------------- untouched


@pytest.mark.parametrize("method", METHODS)
def test_a_search_that_nobody_touched_is_the_recorded_one(method: str) -> None:
    """Submitted while the engine runs, looked at all the time, and refused commands: the golden graph, bit by bit."""
    raw = json.loads((GOLDEN / f"{method}.json").read_text())
    problem = Problem(**raw["problem"])
    strategy = METHODS[method].sized(8)

    def look(bench: Bench) -> list[Any]:
        return [
            bench.handle.summary(),
            bench.do("prune", node=10**6),
            bench.handle.do("prune", {"node": 1}, dry_run=True),
        ]

    bench = Bench(dict.fromkeys(range(1, 100), look))
    plain = next(Engine(TOY, ScriptedPolicy(TOY), TableVerifier(TOY)).run(
        [Task(problem, strategy.search, Budget(samples=8), raw["seed"], strategy.vote)]
    ))  # fmt: skip
    watched = bench.run(strategy, problem=problem, seed=raw["seed"])
    nodes = [
        {key: _rounded(value) for key, value in node.items()}
        for node in json.loads(json.dumps(watched.to_json()))["nodes"]
    ]
    assert nodes == raw["nodes"]
    assert plain.to_json()["nodes"] == watched.to_json()["nodes"]
    assert plain.info["answer"] == watched.info["answer"] == raw["info"]["answer"]
    assert INFO not in watched.info
    assert bench.outcomes


def _rounded(value: Any) -> Any:
    return float(f"{value:.12g}") if isinstance(value, float) else value


@pytest.mark.parametrize(
    "strategy", [Beam(8, 2), Mcts(8), Dvts(8, 4), Lookahead(8), Majority(40), Revision(8)], ids=str
)
def test_a_pause_changes_nothing_else(strategy: Strategy) -> None:
    def pause(bench: Bench) -> Any:
        threading.Timer(0.05, lambda: bench.do("resume")).start()
        return bench.do("pause")

    bench = Bench({1: pause})
    paused = bench.run(strategy, Budget(samples=40))
    assert without_records(paused) == without_records(Bench().run(strategy, Budget(samples=40)))
    assert [record["what"] for record in records(paused)] == ["pause", "resume"]


# -------------------------------------------------------------------------------------------------- watching, pausing


def test_a_paused_search_waits_and_is_told_apart() -> None:
    bench = Bench({2: lambda bench: bench.do("pause")})
    done = _in_thread(bench, Mcts(64), Budget(samples=64))
    _until(lambda: bench.handle.state == "paused")
    asked = len(bench.policy.asked)
    before = bench.handle.summary().result(SECONDS)
    time.sleep(0.1)
    after = bench.handle.summary().result(SECONDS)
    assert before["state"] == after["state"] == "paused"
    assert (len(bench.policy.asked), after["nodes"]) == (asked, before["nodes"])
    assert after["seconds"] == before["seconds"]
    assert not bench.do("pause").result(SECONDS)["changed"]
    assert bench.do("resume").result(SECONDS)["changed"]
    graph = done()
    assert bench.handle.state == "over"
    assert graph.info["stopped"] == "finished"
    with pytest.raises(SearchOver, match=r"search 1 is over"):
        bench.do("pause").result(0)


def test_time_limits_do_not_run_in_a_pause() -> None:
    bench = Bench({1: lambda bench: bench.do("pause")})
    done = _in_thread(bench, BestOfN(8), Budget(samples=8, seconds=0.2))
    _until(lambda: bench.handle.state == "paused")
    time.sleep(0.3)
    bench.do("resume").result(SECONDS)
    assert done().info["stopped"] == "finished"


def test_stop_in_a_pause_keeps_the_best_answer() -> None:
    bench = Bench({4: lambda bench: bench.do("pause")})
    done = _in_thread(bench, Mcts(64), Budget(samples=64))
    _until(lambda: bench.handle.state == "paused")
    bench.do("stop").result(SECONDS)
    graph = done()
    assert graph.info["stopped"] == BY_HAND
    assert graph.info["answer"] is not None
    assert records(graph)[-1]["who"] == "ada"


def test_events_have_cursors_and_tell_what_is_missed() -> None:
    bench = Bench({2: lambda bench: bench.do("prune", node=1)})
    bench.run(Mcts(8))
    log = bench.engine.surface.events
    found = log.after(0)
    assert [event.kind for event in found.events if event.kind != "progress"] == ["begun", "command", "over"]
    assert [event.cursor for event in found.events] == list(range(1, found.cursor + 1))
    assert log.after(found.cursor).events == ()
    assert [event.kind for event in log.after(found.cursor - 1).events] == ["over"]
    assert log.after(10**9).events == found.events  # a cursor of another process
    texts = json.dumps([event.to_json() for event in found.events])
    assert "observation" not in texts


def test_the_log_is_bounded() -> None:
    from agent.search.control.events import EventLog

    log = EventLog(kept=3)
    for number in range(5):
        log.add("1", "progress", {"number": number})
    found = log.after(1)
    assert ([event.cursor for event in found.events], found.missed) == ([3, 4, 5], 1)


# ------------------------------------------------------------------------------------------------- more while it runs


def test_searches_are_submitted_while_the_engine_runs() -> None:
    engine = Engine(TOY, ScriptedPolicy(TOY), TableVerifier(TOY))
    graphs: list[SearchGraph] = []
    thread = threading.Thread(target=lambda: graphs.extend(engine.run(stay=True)))
    thread.start()
    handles = [engine.submit(task(problem, Beam(8, 2), Budget(samples=8))) for problem in TOY.problems("train", 6)]
    results = [handle.result.result(SECONDS) for handle in handles]
    late = engine.submit(task(PROBLEM, Beam(8, 2), Budget(samples=8))).result.result(SECONDS)
    engine.stop()
    thread.join(SECONDS)
    assert not thread.is_alive()
    assert len(graphs) == 7
    alone = Bench().run(Beam(8, 2))
    assert late.to_json()["nodes"] == alone.to_json()["nodes"]
    assert [graph.problem for graph in results] == list(TOY.problems("train", 6))
    assert engine.surface.searches() == []
    assert [each["state"] for each in engine.surface.past()] == ["over"] * 7


def test_a_cancelled_search_is_freed_at_once() -> None:
    """No request for it goes out any more, those that were out are dropped, and others go on."""
    bench = Bench()
    other = bench.engine.submit(task(TOY.problems("train", 1)[0], Mcts(8), Budget(samples=8)))
    bench.policy.look = lambda poll: (poll == 3 and bench.outcomes.append(len(bench.policy.asked))) or bench.look(poll)  # type: ignore[func-returns-value]
    bench.at = {3: lambda bench: bench.do("cancel")}
    bench.handle = bench.engine.submit(task(PROBLEM, Mcts(64), Budget(samples=64)))
    graphs = list(bench.engine.run())
    scope = bench.handle.result.result(0).scope
    assert bench.handle.result.result(0).info["stopped"] == CANCELLED
    assert not any(request.scope == scope for request in bench.policy.asked[bench.outcomes[0] :])
    assert other.result.result(0).info["stopped"] == "finished"
    assert len(graphs) == 2


def test_a_search_that_waits_for_its_turn_can_be_cancelled_and_paused() -> None:
    bench = Bench()
    first = bench.engine.submit(task(PROBLEM, Mcts(8), Budget(samples=8)))
    second = bench.engine.submit(task(PROBLEM, Mcts(8), Budget(samples=8)))
    third = bench.engine.submit(task(PROBLEM, Mcts(8), Budget(samples=8)))
    answers = [second.do("cancel", who="ada"), third.do("budget", {"budget": "4"}, "ada")]
    graphs = list(bench.engine.run(concurrency=1))
    assert all(answer.result(0)["changed"] for answer in answers)
    assert len(second.result.result(0)) == 1
    assert first.result.result(0).info["stopped"] == "finished"
    assert third.result.result(0).info["budget"] == {"samples": 4.0}
    assert len(graphs) == 3


def test_what_is_submitted_and_never_begun_is_told_at_the_end() -> None:
    bench = Bench({1: lambda bench: bench.engine.stop()})
    handles = [bench.engine.submit(task(PROBLEM, Mcts(8), Budget(samples=8))) for _ in range(2)]
    graphs = list(bench.engine.run(concurrency=1))
    assert [graph.info["stopped"] for graph in graphs] == ["stopped", "stopped"]
    assert all(handle.result.done() for handle in handles)


def test_a_caller_that_leaves_the_loop_ends_the_searches() -> None:
    bench = Bench({1: lambda bench: bench.do("expand", node=0)})
    bench.handle = bench.engine.submit(task(PROBLEM, Mcts(64), Budget(samples=64)))
    other = bench.engine.submit(task(PROBLEM, BestOfN(1), Budget(samples=1)))
    loop = bench.engine.run()
    assert next(loop) is other.result.result(0)
    loop.close()  # type: ignore[attr-defined]
    assert bench.handle.result.cancelled()
    assert bench.engine.surface.searches() == []


def test_searches_that_share_a_budget_are_not_steered() -> None:
    bench = Bench({1: lambda bench: bench.do("prune", node=1)})
    bench.handle = bench.engine.submit(task(PROBLEM, Mcts(8), Budget(samples=8)))
    list(bench.engine.run(allocation=Allocation(Budget(samples=100))))
    with pytest.raises(UsageError, match="can be watched, stopped and cancelled, but not steered"):
        bench.outcomes[0].result(0)


# -------------------------------------------------------------------------------------------------------- the changes


def test_a_larger_budget_is_spent_and_a_smaller_one_ends() -> None:
    more = Bench({1: lambda bench: bench.do("budget", budget="16")}).run(Beam(8, 2))
    plain = Bench().run(Beam(8, 2))
    assert plain.samples() <= 9 < more.samples() <= 16 * 1.1 + 1
    assert more.context.budget == Budget(samples=16)
    assert more.info["budget"] == {"samples": 16.0}
    (record,) = records(more)
    assert (record["old"], record["new"], record["who"]) == ({"samples": 8}, {"samples": 16.0}, "ada")
    assert more.info["spent"]["samples"] == round(more.samples(), 4)
    less = Bench({3: lambda bench: bench.do("budget", budget="2")}).run(Mcts(64), Budget(samples=64))
    assert less.info["stopped"] == "2 samples are spent"
    wrong = Bench({1: lambda bench: bench.do("budget", budget="samples=-1")})
    wrong.run(Beam(8, 2))
    with pytest.raises(UsageError):
        wrong.outcomes[0].result(0)


@pytest.mark.parametrize("first", METHODS)
def test_another_strategy_goes_on_from_here(first: str) -> None:
    spec = "beam branch=2"
    bench = Bench({2: lambda bench: bench.do("strategy", strategy=spec), 1: lambda bench: None})
    graph = bench.run(METHODS[first].sized(24), Budget(samples=24))
    if len(bench.outcomes) < 2:
        pytest.skip("the search took one reply")
    if first == "beam":
        assert bench.outcomes[1].result(0)["old"]["branch"] == 4
    assert graph.info["strategy"]["name"] == "beam"
    assert graph.info["stopped"] in ("finished", "24 samples are spent")
    assert graph.info["answer"] is not None
    assert graph.samples() < 24 * 1.3
    assert records(graph)[0]["new"]["name"] == "beam"


def test_a_strategy_of_two_policies_needs_a_large_one() -> None:
    bench = Bench({1: lambda bench: bench.do("strategy", strategy="speculative")})
    graph = bench.run(Beam(8, 2))
    with pytest.raises(
        UsageError, match="is for two policies, and there is scripted alone; name a larger one with --large-"
    ):
        bench.outcomes[0].result(0)
    assert INFO not in graph.info


def test_a_strategy_that_counts_brings_its_vote() -> None:
    graph = Bench({1: lambda bench: bench.do("strategy", strategy="majority")}).run(Beam(8, 2), Budget(samples=16))
    assert graph.context.vote.rule == "majority"
    assert graph.info["vote"]["rule"] == "majority"
    assert records(graph)[0]["old_vote"]["rule"] == "vote"


@pytest.mark.parametrize("spec", ["baem", "beam branch=0", "beam brnch=2"])
def test_a_wrong_strategy_changes_nothing(spec: str) -> None:
    bench = Bench({1: lambda bench: bench.do("strategy", strategy=spec)})
    graph = bench.run(Beam(8, 2))
    with pytest.raises(UsageError, match=r"did you mean|allowed|branch"):
        bench.outcomes[0].result(0)
    assert graph == Bench().run(Beam(8, 2)) or without_records(graph) == without_records(Bench().run(Beam(8, 2)))


@pytest.mark.parametrize(
    "strategy", [Beam(16, 4), Mcts(16), Dvts(16, 4), Lookahead(16, 4), Majority(32), Revision(16)], ids=str
)
def test_nothing_below_a_pruned_node_is_drawn_or_votes(strategy: Strategy, tmp_path: Path) -> None:
    def prune(bench: Bench) -> Any:
        return bench.do("prune", node=1)

    bench = Bench({2: prune})
    graph = bench.run(strategy, Budget(samples=32))
    if not bench.outcomes:
        pytest.skip("the search took one reply")
    assert bench.outcomes[0].result(0)["changed"]
    first = graph[1].text
    place = records(graph)[0]["nodes"]
    out = {node for node in graph.graph if graph.path(node)[1:2] == [1]}
    assert not out & set(graph.finished())
    new_below = [node for node in out if node >= place and node != 1]
    # what was out when it was pruned still came in; nothing was asked for afterwards
    late = [
        request for request in bench.policy.asked[3:] if any(state.texts[:1] == (first,) for state in request.states)
    ]
    assert not late
    assert all(graph.status(node) == "truncated" for node in new_below)
    again = saved(graph, tmp_path)
    assert again == graph
    assert again.steering.excluded == graph.steering.excluded
    assert again.choice().answer == graph.info["answer"]


class Bounded(set[int]):
    """Nodes that are cut; whoever asks for ever fails, and does not hang."""

    asked = 0

    def __contains__(self, node: object) -> bool:
        self.asked += 1
        assert self.asked < 10_000, "it goes on for ever"
        return super().__contains__(node)


@pytest.mark.parametrize("replies", [0, 1])
@pytest.mark.parametrize("method", STRATEGIES)
def test_a_strategy_ends_where_the_subtree_that_it_searches_is_cut(method: str, replies: int) -> None:
    """Before it begins, or while its first request is out."""
    late: list[Propose] = []

    def search(graph: SearchGraph) -> Search[None]:
        ((node,),) = yield from propose(graph, [graph.root], 1)
        searched = STRATEGIES[method].sized(16).search(below(graph, node))
        reply: Any = None
        for taken in itertools.count():
            if taken == replies:
                graph.info[INFO] = [{"what": "prune", "node": node}]
                graph.replay_steering()
                graph.steering.excluded = Bounded(graph.steering.excluded)
            try:
                request = searched.send(reply)
            except (StopIteration, SubtreeCut):
                return
            if taken >= replies and isinstance(request, Propose):
                late.append(request)
            reply = yield request

    (graph,) = Engine(TOY, ScriptedPolicy(TOY), TableVerifier(TOY)).run([Task(PROBLEM, search, Budget(samples=64))])
    assert graph.info["stopped"] == "finished", graph.info
    assert not late


def test_a_search_goes_on_below_other_nodes_where_one_is_cut() -> None:
    bench = Bench({2: lambda bench: bench.do("only", nodes=[1, 2]), 5: lambda bench: bench.do("prune", node=1)})
    graph = bench.run(STRATEGIES["momentum"].sized(32), Budget(samples=32))
    assert all(outcome.result(0)["changed"] for outcome in bench.outcomes)
    assert graph.info["stopped"] in ("finished", "32 samples are spent")
    begun = records(graph)[1]["nodes"]
    places = {graph.path(node)[1] for node in range(begun, len(graph))}
    assert 2 in places
    assert graph.finished()
    assert all(graph.path(node)[1] == 2 for node in graph.finished())


def test_a_pinned_node_that_was_dropped_is_taken_up() -> None:
    dropped: list[int] = []

    def pin(bench: Bench) -> Any:
        def worst(graph: SearchGraph) -> int:
            return next(
                n for n in graph.graph if graph[n].pruned and graph[n].status == "running" and not graph.children(n)
            )

        assert bench.handle.running is not None
        dropped.append(worst(bench.handle.running.graph))
        return bench.do("pin", node=dropped[0])

    bench = Bench({2: pin})
    graph = bench.run(Beam(16, 8), Budget(samples=32))
    assert bench.outcomes[0].result(0)["changed"]
    (node,) = dropped
    assert graph.children(node)
    assert graph[node].value == 1.0
    assert not graph[node].pruned
    plain = Bench().run(Beam(16, 8), Budget(samples=32))
    assert not plain.children(node)


def test_only_searches_below_and_votes_below(tmp_path: Path) -> None:
    bench = Bench({2: lambda bench: bench.do("only", nodes=[2])})
    graph = bench.run(Mcts(32), Budget(samples=32))
    asked = bench.policy.asked[2:]  # the second was out
    assert asked
    assert all(state.texts[:1] == (graph[2].text,) for request in asked for state in request.states)
    assert all(2 in graph.path(node) for node in graph.finished())
    assert saved(graph, tmp_path).finished() == graph.finished()
    lifted = Bench({2: lambda bench: bench.do("only", nodes=[2]), 4: lambda bench: bench.do("only")})
    graph = lifted.run(Mcts(32), Budget(samples=32))
    assert graph.steering.only == ()
    assert any(2 not in graph.path(node) for node in graph.finished())


@pytest.mark.parametrize("method", METHODS)
def test_steps_are_drawn_on_demand_and_charged(method: str, tmp_path: Path) -> None:
    bench = Bench({1: lambda bench: bench.do("expand", node=0, n=3)})
    graph = bench.run(METHODS[method].sized(8))
    made = bench.outcomes[0].result(0)["made"]
    assert records(graph)[0]["made"] == made
    plain = Bench().run(METHODS[method].sized(8))
    assert graph[0].drawn >= 3
    assert graph.generated == graph.info["spent"]["generated"]
    assert graph.info["stopped"] != "error"
    assert plain.info["stopped"] != "error"
    assert saved(graph, tmp_path) == graph


def test_a_command_is_done_once_under_a_key(tmp_path: Path) -> None:
    def twice(bench: Bench) -> list[Any]:
        return [
            bench.handle.do("expand", {"node": 0, "n": 3}, "ada", key="a1"),
            bench.handle.do("expand", {"node": 0, "n": 3}, "ada", key="a1"),
            bench.handle.do("expand", {"node": 0, "n": 2}, "ada", key="a2"),
            bench.handle.do("prune", {"node": 1}, "ada", key="a1"),
        ]

    def later(bench: Bench) -> Any:
        return bench.handle.do("expand", {"node": 0, "n": 3}, "ada", key="a1")

    bench = Bench({1: twice, 6: later})
    graph = bench.run(Mcts(16), Budget(samples=16))
    (first, again, other, wrong), late = bench.outcomes
    assert [each.result(0)["changed"] for each in (first, again, other, late)] == [True, False, True, False]
    assert late.result(0)["made"] == first.result(0)["made"]
    assert [(record["what"], record["key"], record["new"]) for record in records(graph)] == [
        ("expand", "a1", 3),
        ("expand", "a2", 2),
    ]
    with pytest.raises(UsageError, match="the key 'a1' is that of 'expand'"):
        wrong.result(0)
    assert saved(graph, tmp_path) == graph


@pytest.mark.parametrize("method", METHODS)
def test_a_step_that_a_person_wrote_is_searched_like_others(method: str, tmp_path: Path) -> None:
    bench = Bench({1: lambda bench: bench.do("write", node=0, text="1")})
    graph = bench.run(METHODS[method].sized(16), Budget(samples=16))
    outcome = bench.outcomes[0].result(0)
    node = next(child for child in graph.children(0) if graph[child].text == "1")
    if outcome["changed"]:
        assert outcome["made"] in ([node], [])
    assert graph.generated == graph.info["spent"]["generated"]
    assert saved(graph, tmp_path) == graph


def test_a_written_solution_votes_and_costs_no_tokens() -> None:
    text = "10\n10\n1\n1\n1\n6"
    bench = Bench({1: lambda bench: bench.do("pause")})
    done = _in_thread(bench, Majority(2), Budget(samples=2))
    _until(lambda: bench.handle.state == "paused")
    outcome = bench.do("write", node=0, text=text).result(SECONDS)
    before = bench.handle.look(lambda graph: graph.generated).result(SECONDS)
    end = outcome["made"][-1]
    assert not bench.do("write", node=0, text=text).result(SECONDS)["changed"]
    bench.do("resume")
    graph = done()
    assert graph[end].answer == "6"
    assert end in graph.finished()
    assert before == graph.generated
    assert 1.5 <= graph.samples() <= 3


def test_a_person_accepts_an_answer(tmp_path: Path) -> None:
    chosen: list[int] = []

    def accept(bench: Bench) -> Any:
        assert bench.handle.running is not None
        graph = bench.handle.running.graph
        chosen.append(graph.tally(graph.context.vote)[-1].best.node)
        return bench.do("answer", node=chosen[0])

    bench = Bench({6: accept})
    graph = bench.run(Mcts(64), Budget(samples=64))
    assert graph.info["stopped"] == ACCEPTED
    assert (graph.info["node"], graph.info["answer"]) == (chosen[0], graph[chosen[0]].answer)
    assert saved(graph, tmp_path).choice().node == chosen[0]


def test_changes_are_taken_back() -> None:
    steps: dict[int, Callable[[Bench], Any]] = {
        2: lambda bench: [
            bench.do("prune", node=1),
            bench.do("undo"),
            bench.do("budget", budget="9"),
            bench.do("undo"),
        ],
    }
    bench = Bench(steps)
    graph = bench.run(Mcts(16), Budget(samples=16))
    assert all(outcome.result(0)["changed"] for outcome in bench.outcomes[0])
    assert [record["what"] for record in records(graph)] == ["prune", "undo", "budget", "undo"]
    assert graph.steering.excluded == set()
    assert graph.context.budget == Budget(samples=16)
    plain = Bench().run(Mcts(16), Budget(samples=16))
    assert graph.to_json()["nodes"][: len(plain)] == plain.to_json()["nodes"]
    nothing = Bench({1: lambda bench: bench.do("undo")})
    nothing.run(Mcts(16))
    with pytest.raises(UsageError, match="there is nothing to undo"):
        nothing.outcomes[0].result(0)


def test_a_pin_is_taken_back_with_all_that_it_did(tmp_path: Path) -> None:
    """The value of the node, and that it and a node above were dropped; also where the search was saved between."""
    path: list[int] = []

    def pin(bench: Bench) -> Any:
        assert bench.handle.running is not None
        graph = bench.handle.running.graph
        path[:] = graph.path(graph.finished()[0])
        for each in path[-2:]:
            graph[each].pruned = True
        graph[path[-1]].value = 0.25
        return bench.do("pin", node=path[-1])

    bench = Bench({6: pin})
    graph = bench.run(Mcts(16), Budget(samples=16))
    assert bench.outcomes[0].result(0)["changed"]
    assert records(graph)[0]["dropped"] == path[-2:]
    assert not any(graph[each].pruned for each in path)
    assert graph[path[-1]].value == 1.0
    loaded = saved(graph, tmp_path)
    again = Bench({1: lambda again: again.do("undo")})
    again.run(Mcts(2), Budget(samples=loaded.samples() + 2), graph=loaded)
    assert [loaded[each].pruned for each in path] == [False] * (len(path) - 2) + [True, True]
    assert loaded[path[-1]].value == 0.25
    assert loaded.steering.pinned == set()


def test_an_accepted_answer_is_taken_back() -> None:
    def accept(bench: Bench) -> Any:
        assert bench.handle.running is not None
        graph = bench.handle.running.graph
        return bench.do("answer", node=graph.tally(graph.context.vote)[-1].best.node)

    graph = Bench({3: lambda bench: bench.do("prune", node=1), 6: accept}).run(Mcts(64), Budget(samples=64))
    assert graph.choice().node == graph.steering.accepted
    bench = Bench({1: lambda bench: bench.do("undo")})
    bench.run(Mcts(2), Budget(samples=graph.samples() + 2), graph=graph)
    assert records(graph)[-1]["undone"] == "answer"
    assert graph.steering.accepted is None
    assert graph.steering.cut == {1}
    assert graph.choice().answer == graph.tally(graph.context.vote)[0].answer


def test_a_search_that_is_over_goes_on() -> None:
    bench = Bench()
    graph = bench.run(Beam(8, 2))
    spent, nodes = graph.info["spent"], len(graph)
    handle = bench.engine.submit(task(graph.problem, Mcts(16), Budget(samples=16), graph=graph))
    (again,) = bench.engine.run()
    assert again is graph is handle.result.result(0)
    assert len(graph) > nodes
    assert graph.info["spent"]["generated"] > spent["generated"]
    assert graph.info["spent"]["generated"] == graph.generated
    assert graph.info["ends_before"][0]["spent"] == spent


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("pruen", {"node": 1}, "did you mean 'prune'"),
        ("prune", {}, "prune needs NODE"),
        ("prune", {"nod": 1}, "did you mean 'node'"),
        ("prune", {"node": "1"}, "expected the number of a node"),
        ("prune", {"node": True}, "expected the number of a node"),
        ("only", {"nodes": [1, "x"]}, "expected numbers of nodes"),
        ("write", {"node": 0, "text": "x" * 10_001}, "at most 10,000 characters"),
        ("write", {"node": 0, "text": " "}, "expected a text"),
    ],
)
def test_arguments_are_checked_before_anything_is_asked(command: str, arguments: dict[str, Any], message: str) -> None:
    bench = Bench()
    handle = bench.engine.submit(task(PROBLEM, Mcts(8), Budget(samples=8)))
    with pytest.raises(UsageError, match=message):
        handle.do(command, arguments)
    list(bench.engine.run())


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("expand 4 8", {"node": 4, "n": 8}),
        ("expand 4", {"node": 4, "n": None}),
        ("only 3 5,7", {"nodes": [3, 5, 7]}),
        ("only", {"nodes": []}),
        ("write 3 a + b = c", {"node": 3, "text": "a + b = c"}),
        ("strategy beam branch=2", {"strategy": "beam branch=2"}),
    ],
)
def test_commands_are_read_from_words(line: str, arguments: dict[str, Any]) -> None:
    name, _, rest = line.partition(" ")
    assert from_words(name, rest) == arguments


@pytest.mark.parametrize("words", ["one", "1 2 3", "-1", "٣"])
def test_wrong_words_are_refused(words: str) -> None:
    with pytest.raises(UsageError):
        from_words("expand", words)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"what": "explode"}, "'what' cannot be 'explode'"),
        ({"node": 10**6}, "node 1000000, which is not there"),
        ({"node": None}, "names the node None"),
        ({"who": 3}, "'who' cannot be 3"),
        ({"key": 3}, "'key' cannot be 3"),
        ({"what": "undo", "new": 0}, "which is no earlier record"),
        ({"what": "only", "new": 3}, "names no list of nodes"),
        ({"what": "pin"}, "lacks 'old_value'"),
        ({"what": "pin", "old_value": "1"}, "'old_value' cannot be '1'"),
        ({"what": "pin", "old_value": None, "dropped": 3}, "names no list of nodes"),
        ({"what": "pin", "old_value": None, "dropped": [-1]}, "names the node -1"),
    ],
)
def test_records_of_a_strangers_file_are_checked(record: dict[str, Any], message: str) -> None:
    graph = Bench({2: lambda bench: bench.do("prune", node=1)}).run(Mcts(16), Budget(samples=16))
    raw = json.loads(json.dumps(graph.to_json()))
    raw["info"][INFO][0] |= record
    with pytest.raises(ValueError, match=message):
        SearchGraph.from_json(raw, TOY)


def test_everything_at_once_leaves_a_search_whole(tmp_path: Path) -> None:
    """Many changes at random moments, on every strategy: the search ends well, adds up, and is read back."""
    import random

    for seed, method in enumerate([*METHODS] * 8):
        rng = random.Random(seed)

        def change(bench: Bench, rng: random.Random = rng) -> Any:
            assert bench.handle.running is not None
            size = len(bench.handle.running.graph)
            name = rng.choice(["prune", "pin", "only", "expand", "write", "budget", "strategy", "undo"])
            node = rng.randrange(size)
            choices: dict[str, dict[str, Any]] = {
                "prune": {"node": node}, "pin": {"node": node}, "only": {"nodes": rng.choice([[], [node]])},
                "expand": {"node": node, "n": 2}, "write": {"node": node, "text": rng.choice(["1", "6", "10", "7"])},
                "budget": {"budget": str(rng.randint(4, 30))},
                "strategy": {"strategy": rng.choice(["beam branch=2", "mcts", "dvts", "majority", "lookahead"])},
                "undo": {},
            }  # fmt: skip
            return bench.do(name, **choices[name])

        bench = Bench(dict.fromkeys(rng.sample(range(1, 30), 12), change))
        graph = bench.run(METHODS[method].sized(16), Budget(samples=16))
        assert "error" not in graph.info, (seed, method, graph.info)
        assert graph.generated == graph.info["spent"]["generated"]
        for outcome in bench.outcomes:
            assert outcome.done()
            error = outcome.exception(0)
            assert error is None or isinstance(error, UsageError | SearchOver), (seed, method, error)
        again = saved(graph, tmp_path)
        assert again == graph
        assert again.choice().answer == graph.info["answer"]


def test_the_table_says_what_each_command_does() -> None:
    assert all(command.help and command.help[0].islower() for command in COMMANDS.values())


# ------------------------------------------------------------------------------------------------------------ helpers


def _in_thread(bench: Bench, strategy: Strategy, budget: Budget) -> Callable[[], SearchGraph]:
    bench.handle = bench.engine.submit(task(PROBLEM, strategy, budget))
    thread = threading.Thread(target=lambda: list(bench.engine.run()), daemon=True)
    thread.start()

    def result() -> SearchGraph:
        return bench.handle.result.result(SECONDS)

    return result


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.002)
