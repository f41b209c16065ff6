"""The engine: limits, failures, stopping, and that one search's trouble is nobody else's."""

import dataclasses
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from agent.search.budget import SLACK, Budget, Meter
from agent.search.engine import Engine, Task
from agent.search.graph import SearchGraph
from agent.search.requests import Search, propose, score
from agent.strategies import Beam, BestOfN, Greedy, Majority, Mcts, Strategy
from envs.core import Problem, State, Step, Transition, Turn
from envs.toy import Toy
from policies.core import Propose, Proposed, Usage
from policies.scripted import ScriptedPolicy
from verifiers.core import Score, Scored
from verifiers.table import TableVerifier
from verifiers.voting import Vote

TOY = Toy()
PROBLEMS = TOY.problems("train", 8)
BAD = PROBLEMS[3]  # the search that gets into trouble


def engine(policy: Any = None, verifier: Any = None, environment: Toy = TOY) -> Engine:
    return Engine(environment, policy or ScriptedPolicy(environment), verifier or TableVerifier(environment))


def tasks(
    strategy: Strategy, budget: Budget | None = None, problems: Sequence[Problem] = PROBLEMS, **more: Any
) -> Iterator[Task]:
    return (Task(each, strategy.search, budget or Budget(), vote=strategy.vote, **more) for each in problems)


def one(strategy: Strategy, budget: Budget, policy: Any = None, verifier: Any = None) -> SearchGraph:
    (graph,) = engine(policy, verifier).run(tasks(strategy, budget, [BAD]))
    return graph


def only_the_bad_one_failed(graphs: Sequence[SearchGraph], message: str) -> None:
    """And the rest is as it would be without it."""
    assert {graph.problem.id for graph in graphs} == {problem.id for problem in PROBLEMS}
    failed = [graph for graph in graphs if "error" in graph.info]
    assert [graph.problem for graph in failed] == [BAD]
    assert message in failed[0].info["error"]
    assert failed[0].info["stopped"] == ("unavailable" if message.startswith("ConnectionError") else "error")
    for graph in graphs:
        if graph.problem != BAD:
            assert graph.info["answer"] is not None
            assert graph.info["stopped"] == "finished"


# --------------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        (Budget(samples=6), "6 samples are spent"),
        (Budget(tokens=60), "60 tokens are spent"),
        (Budget(flops=150_000), "150000 FLOPs are spent"),
    ],
)
@pytest.mark.parametrize("strategy", [Mcts(n=1000, branch=4), Beam(16, 4)], ids=["mcts", "beam"])
def test_limits_end_a_search_with_its_best_answer_so_far(strategy: Strategy, budget: Budget, reason: str) -> None:
    graph = one(strategy, budget)
    assert graph.info["stopped"] == reason
    assert "error" not in graph.info
    spent = graph.info["spent"]
    limit: dict[str, float] = {
        "samples": SLACK * (budget.samples or math.inf),
        "generated": budget.tokens or math.inf,
        "flops": budget.flops or math.inf,
    }
    assert any(spent[name] >= value for name, value in limit.items())
    groups = graph.tally(Vote())
    assert graph.info["answer"] == (groups[0].answer if groups else None)
    if isinstance(strategy, Mcts):
        assert graph.info["answer"] is not None


@pytest.mark.parametrize("budget", [Budget(samples=10), Budget(tokens=60)], ids=["samples", "tokens"])
def test_what_was_drawn_last_is_scored_before_a_policy_limit_ends_a_search(budget: Budget) -> None:
    graph = one(BestOfN(64), budget)
    assert graph[0]["drawn"] == 16  # the first round
    assert graph.info["stopped"] != "finished"
    assert graph.finished()
    assert all(graph.scores(node) for node in graph.finished())
    graph = one(BestOfN(64), Budget(flops=1.0))  # scoring takes FLOPs
    assert not any(graph.scores(node) for node in graph.finished())
    assert graph.info["answer"] is not None


def test_a_search_for_many_samples_has_some_when_its_time_is_over() -> None:
    graph = one(BestOfN(10_000), Budget(seconds=0.1), ScriptedPolicy(TOY, delay=0.01))
    assert graph.info["stopped"] == "0.1 seconds are over"
    assert graph.info["answer"] is not None


def test_the_planner_hears_of_a_policy_that_thinks() -> None:
    class Thinker(ScriptedPolicy):
        thinks = True

    assert one(Greedy(), Budget(), Thinker(TOY)).info["policy_thinks"]
    assert "policy_thinks" not in one(Greedy(), Budget()).info


def test_a_conversation_goes_to_a_policy_that_can_be_shown_it_alone() -> None:
    class Converser(ScriptedPolicy):
        converses = True

        def submit(self, ticket: int, request: Propose) -> None:
            shown.append(request.states[0].problem.conversation)
            super().submit(ticket, request)

    shown: list[tuple[Turn, ...]] = []
    problem = dataclasses.replace(BAD, conversation=(Turn("user", "Hello"),))
    (refused,) = engine().run(tasks(Greedy(), problems=[problem]))
    assert refused.info["error"] == "ValueError: policy 'scripted' cannot be shown the turns of a conversation"
    (graph,) = engine(Converser(TOY)).run(tasks(Greedy(), problems=[problem]))
    assert graph.info["answer"] is not None
    assert shown
    assert set(shown) == {problem.conversation}


def test_the_clock_ends_a_search_that_waits() -> None:
    policy = ScriptedPolicy(TOY, delay=0.01)
    graph = one(Mcts(n=10_000), Budget(seconds=0.08), policy)
    assert graph.info["stopped"] == "0.08 seconds are over"
    assert graph.info["answer"] is not None
    assert graph.info["spent"]["seconds"] >= 0.08

    class Silent(ScriptedPolicy):
        def poll(self) -> Sequence[tuple[int, Proposed]]:
            time.sleep(0.005)
            return []

    graph = one(Greedy(), Budget(seconds=0.05), Silent(TOY))
    assert graph.info["stopped"] == "0.05 seconds are over"
    assert (graph.info["answer"], graph.info["node"], graph.info["confidence"]) == (None, None, 0.0)


@pytest.mark.parametrize("name", ["samples", "tokens", "flops", "seconds"])
@pytest.mark.parametrize("value", [0, -1, math.nan])
def test_budgets_are_above_nothing(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"budget {name}={value!r} given; allowed: a number above 0"):
        Budget(**{name: value})  # type: ignore[arg-type]


def test_a_meter_adds_replies_up() -> None:
    meter = Meter()
    meter.charge(Proposed((), Usage(5, 7, 24.0)))
    meter.charge(Proposed((), Usage(1, 2, 6.0)))
    meter.charge(Scored(((0.5, 0.5),), 9, 18.0))
    assert (meter.prefilled, meter.generated, meter.policy_calls) == (6, 9, 2)
    assert (meter.verifier_tokens, meter.verifier_calls) == (9, 1)
    assert (meter.policy_flops, meter.verifier_flops, meter.flops) == (30.0, 18.0, 48.0)
    assert meter.exceeded(Budget(tokens=15), 0.0) == "15 tokens are spent"
    assert meter.exceeded(Budget(tokens=16, flops=49, samples=1, seconds=1), 0.0) is None
    assert meter.exceeded(Budget(samples=1), 1.0) is None
    assert meter.exceeded(Budget(samples=1), 1.1) == "1 samples are spent"
    assert meter.exceeded(Budget(samples=1), 1.1, scoring=True) is None


def test_memory_traffic_is_charged_beside_flops() -> None:
    meter = Meter()
    meter.charge(Proposed((), Usage(5, 7, 24.0, 3.0)))
    meter.charge(Scored(((0.5, 0.5),), 9, 18.0, 2.0))
    assert (meter.policy_reads, meter.verifier_reads) == (3.0, 2.0)
    assert meter.flop_equivalents == 24 + 18 + 562.5 * 5  # Kinetics, section 3: FLOPs + I x reads
    assert meter.to_json(1.0)["flop_equivalents"] == meter.flop_equivalents


def test_a_meter_goes_on_from_what_it_wrote() -> None:
    meter, again = Meter(), Meter()
    meter.charge(Proposed((), Usage(5, 7, 24.5, 3.25)))
    meter.charge(Scored(((0.5, 0.5),), 9, 18.0, 2.75))
    again.take_up(meter.to_json(1.0))
    assert again == meter
    assert again.flop_equivalents == meter.flop_equivalents


def test_every_reply_is_charged() -> None:
    graph = one(Beam(8, 4), Budget())
    spent = graph.info["spent"]
    assert spent["generated"] == graph.generated
    assert spent["policy_flops"] == 2 * 1000 * graph.generated
    assert spent["flops"] == spent["policy_flops"] + spent["verifier_flops"]
    assert spent["samples"] == pytest.approx(graph.samples(), abs=1e-4)
    assert spent["policy_calls"] == spent["verifier_calls"] > 1


# ------------------------------------------------------------------------------------------------------- stopping


def test_stop_from_another_thread_yields_what_there_is() -> None:
    running = engine(ScriptedPolicy(TOY, delay=0.005))
    threading.Timer(0.15, running.stop).start()
    endless = (task for each in itertools.count() for task in tasks(Mcts(n=100_000), problems=[PROBLEMS[each % 8]]))
    graphs = list(running.run(endless, concurrency=4))
    assert len([graph for graph in graphs if graph.info["stopped"] == "stopped"]) == 4
    assert any(graph.info["answer"] is not None for graph in graphs)
    assert all("spent" in graph.info and "error" not in graph.info for graph in graphs)
    # and it can run again
    assert [graph.info["stopped"] for graph in running.run(tasks(Greedy()))] == ["finished"] * 8


def test_leaving_the_loop_frees_the_services() -> None:
    policy, verifier = Counting(TOY), TableVerifier(TOY)
    run = engine(policy, verifier).run(tasks(BestOfN(4)), concurrency=8)
    next(run)
    run.close()  # type: ignore[attr-defined]
    assert sorted(policy.cancelled) == sorted(policy.scopes)
    assert policy.poll() == []
    assert verifier.poll() == []


# ------------------------------------------------------------------------------------- replies that are not complete


class Halting(ScriptedPolicy):
    """Never completes a reply of several samples: of each, those of even places have ended."""

    def __init__(self, tells: bool = True) -> None:
        super().__init__(TOY)
        self.tells = tells
        self.parts: dict[int, Proposed] = {}

    def submit(self, ticket: int, request: Propose) -> None:
        if sum(map(len, request.seeds)) == 1:
            super().submit(ticket, request)
            return
        whole = self._answer(request)
        samples = tuple(tuple(steps if j % 2 == 0 else () for j, steps in enumerate(each)) for each in whole.samples)
        cost = sum(step.tokens for each in samples for steps in each for step in steps)
        self.parts[ticket] = Proposed(samples, Usage(3, cost, 2000.0 * cost, 1.0), whole.transitions)

    def poll(self) -> Sequence[tuple[int, Proposed]]:
        time.sleep(0.002)
        return super().poll()

    def partial(self, ticket: int) -> Proposed | None:
        return self.parts.get(ticket) if self.tells else None


@pytest.mark.parametrize("how", ["late", "stopped", "by a person"])
def test_a_search_that_ends_in_the_midst_of_a_request_keeps_what_there_is(how: str) -> None:
    policy = Halting()
    run = Engine(TOY, policy)
    (task,) = tasks(Majority(6), Budget(seconds=0.1 if how == "late" else None), [PROBLEMS[0]])
    if how == "late":
        (graph,) = run.run([task])
    else:
        handle = run.submit(task)
        threading.Timer(0.1, run.stop if how == "stopped" else lambda: handle.do("stop", who="me")).start()
        (graph,) = run.run()
    (part,) = policy.parts.values()
    ended = part.samples[0][::2]
    assert sum(graph[node].count for node in graph.finished()) == len(ended) == 3
    assert graph.info["answer"] is not None
    assert graph.info["spent"]["generated"] == graph.generated == part.usage.generated
    assert graph.info["spent"]["prefilled"] == 3
    assert graph[graph.root]["drawn"] == 6  # the seeds of the others are not given away twice
    assert "error" not in graph.info


def test_a_policy_that_tells_nothing_leaves_nothing() -> None:
    (graph,) = Engine(TOY, Halting(tells=False)).run(tasks(Majority(6), Budget(seconds=0.05), [PROBLEMS[0]]))
    assert (len(graph), graph.info["answer"], graph.info["spent"]["generated"]) == (1, None, 0)


def test_what_there_is_of_a_reply_is_told_while_it_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.search.engine._LOOK", 0.01)
    seen: list[Any] = []
    policy = Halting()
    list(
        Engine(TOY, policy).run(
            tasks(Majority(6), Budget(seconds=0.2), [PROBLEMS[0]], on_change=lambda graph: seen.append(graph.underway))
        )
    )
    told = [each for each in seen if each is not None]
    assert len(told) > 3
    assert {(each.asked, each.ended) for each in told} == {(6, 3)}
    (part,) = policy.parts.values()
    ends = [after[-1].state for after in part.transitions[0][::2]]
    assert told[0].answers == tuple(answer for answer in map(TOY.answer, ends) if answer is not None) != ()


def test_a_display_that_fails_while_a_reply_is_awaited_ends_its_own_search_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agent.search.engine._LOOK", 0.01)

    def draw(graph: SearchGraph) -> None:
        if graph.underway is not None:
            raise OSError("the terminal is gone")

    (bad,) = tasks(Majority(6), Budget(seconds=0.2), [PROBLEMS[0]], on_change=draw)
    (good,) = tasks(Majority(6), Budget(seconds=0.2), [PROBLEMS[1]])
    found = {graph.problem.id: graph for graph in Engine(TOY, Halting()).run([bad, good])}
    assert "the terminal is gone" in found[PROBLEMS[0].id].info["error"]
    assert found[PROBLEMS[1].id].info["answer"] is not None
    assert "error" not in found[PROBLEMS[1].id].info


def test_parts_of_steps_are_kept_too() -> None:
    graph = one(Beam(4, 4), Budget(seconds=0.1), Halting())
    assert len(graph.children(graph.root)) in (1, 2)
    assert graph.info["stopped"] == "0.1 seconds are over"


# ------------------------------------------------------------------------------------------------------- failures


class Counting(ScriptedPolicy):
    """Remembers scopes asked for and cancelled."""

    def __init__(self, environment: Toy) -> None:
        super().__init__(environment)
        self.scopes: set[str] = set()
        self.cancelled: list[str] = []
        self.open = self.most = 0

    def submit(self, ticket: int, request: Propose) -> None:
        self.scopes.add(request.scope)
        super().submit(ticket, request)

    def cancel(self, scope: str) -> None:
        self.cancelled.append(scope)
        super().cancel(scope)


class Refusing(ScriptedPolicy):
    """Takes no request for the bad problem, and cannot cancel either."""

    def submit(self, ticket: int, request: Propose) -> None:
        if request.states[0].problem == BAD:
            raise ConnectionError("no route")
        super().submit(ticket, request)

    def cancel(self, scope: str) -> None:
        raise ConnectionError("no route")


@pytest.mark.parametrize("strategy", [Greedy(), Beam(8, 4)], ids=["greedy", "beam"])
def test_a_policy_that_refuses_a_request(strategy: Strategy) -> None:
    graphs = list(engine(Refusing(TOY)).run(tasks(strategy)))
    only_the_bad_one_failed(graphs, "ConnectionError: no route")


def test_a_policy_that_breaks_over_one_request_spoils_no_other() -> None:
    class Breaking(ScriptedPolicy):
        """Cannot work while the bad problem is in its hands."""

        def poll(self) -> Sequence[tuple[int, Proposed]]:
            if any(request.states[0].problem == BAD for request in self._queue.values()):
                raise RuntimeError("out of memory")
            return super().poll()

    for strategy in (Greedy(), Beam(8, 4)):
        graphs = list(engine(Breaking(TOY)).run(tasks(strategy)))
        only_the_bad_one_failed(graphs, "RuntimeError: out of memory")
        sound = {graph.problem.id: graph for graph in engine().run(tasks(strategy))}
        for graph in graphs:
            if graph.problem != BAD:
                assert graph.info["answer"] == sound[graph.problem.id].info["answer"]


class Failing(ScriptedPolicy):
    """Answers requests for the bad problem by an exception."""

    def poll(self) -> Sequence[tuple[int, Proposed | Exception]]:  # type: ignore[override]
        bad = {ticket for ticket, request in self._queue.items() if request.states[0].problem == BAD}
        return [(ticket, ConnectionError("down") if ticket in bad else reply) for ticket, reply in super().poll()]


@pytest.mark.parametrize("strategy", [Greedy(), Beam(8, 4)], ids=["greedy", "beam"])
def test_a_request_that_is_answered_by_an_exception_fails_its_search_alone(strategy: Strategy) -> None:
    graphs = list(engine(Failing(TOY)).run(tasks(strategy)))
    only_the_bad_one_failed(graphs, "ConnectionError: down")
    assert [graph.problem for graph in graphs if graph.info["stopped"] == "unavailable"] == [BAD]


def test_a_policy_that_breaks_once_is_asked_again() -> None:
    class Stumbling(ScriptedPolicy):
        polls = 0

        def poll(self) -> Sequence[tuple[int, Proposed]]:
            self.polls += 1
            if self.polls == 2:
                raise RuntimeError("out of memory")
            return super().poll()

    graphs = list(engine(Stumbling(TOY)).run(tasks(Greedy()), concurrency=2))
    assert [graph.info["stopped"] for graph in graphs] == ["finished"] * 8
    # one that has but a single search has nothing to try apart
    graphs = list(engine(Stumbling(TOY)).run(tasks(Greedy()), concurrency=1))
    assert [graph.problem for graph in graphs if "error" in graph.info] == [PROBLEMS[1]]


def test_a_policy_that_is_broken_for_good_fails_every_search_and_ends() -> None:
    class Broken(ScriptedPolicy):
        def poll(self) -> Sequence[tuple[int, Proposed]]:
            raise RuntimeError("out of memory")

    graphs = list(engine(Broken(TOY)).run(tasks(Greedy())))
    assert [graph.info["error"] for graph in graphs] == ["RuntimeError: out of memory"] * 8


def test_asking_again_heeds_the_clock() -> None:
    class Mute(ScriptedPolicy):
        """Breaks once, and never answers again."""

        polls = 0

        def poll(self) -> Sequence[tuple[int, Proposed]]:
            self.polls += 1
            if self.polls == 1:
                raise RuntimeError("out of memory")
            time.sleep(0.005)
            return []

    graphs = list(engine(Mute(TOY)).run(tasks(Greedy(), Budget(seconds=0.05))))
    assert {graph.info["stopped"] for graph in graphs} == {"0.05 seconds are over"}


class Judge(TableVerifier):
    """A table with trouble at the bad problem."""

    def __init__(self, trouble: Callable[[Scored], Scored], at_poll: bool = True) -> None:
        super().__init__(TOY)
        self.trouble = trouble
        self.at_poll = at_poll

    def submit(self, ticket: int, request: Score) -> None:
        if not self.at_poll and request.states[0].problem == BAD:
            self.trouble(Scored(()))
        super().submit(ticket, request)

    def _answer(self, request: Score) -> Scored:
        reply = super()._answer(request)
        return self.trouble(reply) if request.states[0].problem == BAD else reply


def broken(reply: Scored) -> Scored:
    raise RuntimeError("no verdict")


def too_few(reply: Scored) -> Scored:
    return Scored(reply.scores[1:], reply.tokens, reply.flops)


def test_a_verifier_that_raises() -> None:
    only_the_bad_one_failed(list(engine(None, Judge(broken, at_poll=False)).run(tasks(Beam(8, 4)))), "no verdict")
    only_the_bad_one_failed(list(engine(None, Judge(broken)).run(tasks(Beam(8, 4)))), "no verdict")


def test_a_verifier_that_answers_for_fewer_states() -> None:
    only_the_bad_one_failed(list(engine(None, Judge(too_few)).run(tasks(Beam(8, 4)))), "ValueError")


def test_an_answer_found_before_the_failure_is_kept() -> None:
    graphs = list(engine(None, Judge(broken)).run(tasks(BestOfN(8)), concurrency=1))
    only_the_bad_one_failed(graphs, "no verdict")
    (bad,) = [graph for graph in graphs if graph.problem == BAD]
    assert bad.info["answer"] is not None
    assert bad.info["confidence"] == 0.0


@pytest.mark.parametrize("method", ["step", "answer", "same"])
def test_an_environment_that_raises(method: str) -> None:
    class Sick(Toy):
        def step(self, state: State, step: Step) -> Transition:
            if method == "step" and state.problem == BAD:
                raise ZeroDivisionError("sick")
            return super().step(state, step)

        def answer(self, state: State) -> str | None:
            if state.problem == BAD:
                if method == "answer":
                    raise ZeroDivisionError("sick")
                return f"bad {state.texts}"
            return super().answer(state)

        def same(self, a: str, b: str) -> bool:
            if method == "same" and "bad" in a + b:
                raise ZeroDivisionError("sick")
            return super().same(a, b)

    running = Engine(Sick(), ScriptedPolicy(TOY), TableVerifier(TOY))
    only_the_bad_one_failed(list(running.run(tasks(BestOfN(16)))), "ZeroDivisionError: sick")


@pytest.mark.parametrize("lazy", [False, True])
def test_a_search_or_a_display_that_raises(lazy: bool) -> None:
    def search(graph: SearchGraph) -> Search[None]:
        if graph.problem == BAD:
            raise KeyError("lost")
        return BestOfN(4).search(graph)

    def shown(graph: SearchGraph) -> None:
        if lazy and graph.problem == BAD:
            raise KeyError("lost")

    graphs = list(engine().run(Task(each, BestOfN(4).search if lazy else search, on_change=shown) for each in PROBLEMS))
    only_the_bad_one_failed(graphs, "KeyError: 'lost'")


def test_scores_without_a_verifier_are_a_clear_error() -> None:
    running = Engine(TOY, ScriptedPolicy(TOY))
    (graph,) = running.run(tasks(Beam(4, 4), problems=[BAD]))
    assert graph.info["error"] == "ValueError: the strategy asks for scores, but there is no verifier"
    assert graph.info["verifier"] is None
    (graph,) = running.run(tasks(Greedy(), problems=[BAD]))
    assert graph.info["stopped"] == "finished"


def test_distinct_samples_of_a_policy_that_cannot_are_a_clear_error() -> None:
    (graph,) = Engine(TOY, ScriptedPolicy(TOY)).run(tasks(Majority(4, distinct=True), problems=[BAD]))
    assert graph.info["error"] == "ValueError: policy 'scripted' cannot draw distinct samples; leave distinct out"


# ---------------------------------------------------------------------------------------------------- odd replies


@pytest.mark.parametrize("missing", [False, True], ids=["NaN", "missing"])
def test_steps_without_scores_count_as_nothing_and_are_counted(missing: bool) -> None:
    def fail(reply: Scored) -> Scored:
        last = () if missing else (math.nan,)
        return Scored(tuple((*scores[:-1], *last) for scores in reply.scores), reply.tokens, reply.flops)

    (graph,) = engine(None, Judge(fail)).run(tasks(Beam(8, 4), problems=[BAD]))
    marked = [node for node in graph.graph if graph[node]["unscored"]]
    assert marked
    assert all(graph[node]["score"] == 0.0 for node in marked)
    assert graph.info["spent"]["unscored"] == len(marked)
    assert graph.info["answer"] is not None
    assert SearchGraph.from_json(graph.to_json(), TOY).unscored == len(marked)


def test_empty_and_cut_steps_fail_and_harm_nobody() -> None:
    class Odd(ScriptedPolicy):
        """Every other sample is an empty step, every third one was cut."""

        def _answer(self, request: Propose) -> Proposed:
            reply = super()._answer(request)
            odd = itertools.cycle((None, Step("", 1), Step("1", 1, finish="length"), Step("9" * 500, 500)))
            samples = tuple(
                tuple(steps if (step := next(odd)) is None else (step,) for steps in each) for each in reply.samples
            )
            return Proposed(samples, reply.usage)

    for strategy in (BestOfN(8), Beam(8, 4), Mcts(n=8)):
        graph = one(strategy, Budget(samples=8), Odd(TOY))
        assert "error" not in graph.info
        assert any(graph[node]["status"] == "truncated" for node in graph.graph)
        if isinstance(strategy, BestOfN):
            assert graph.info["answer"] is not None


def test_a_policy_that_never_ends_meets_the_depth_limit() -> None:
    deep = TOY.read("40 with 1 5 20")
    pennies = ScriptedPolicy(TOY, lambda state: {"1": 1.0})
    for strategy in (Greedy(), Beam(4, 4), Mcts(n=16)):
        (graph,) = engine(pennies).run(tasks(strategy, problems=[deep]))
        assert graph.info["stopped"] == "finished"
        assert graph.info["answer"] is None
        assert graph.correct() is False
        assert max(graph[node]["depth"] for node in graph.graph) == TOY.max_steps


def test_replies_of_the_wrong_kind_or_ticket_are_told_or_dropped() -> None:
    class Confused(ScriptedPolicy):
        def poll(self) -> Sequence[tuple[int, Any]]:
            return [(10**9, None), *((ticket, Scored(())) for ticket, _ in super().poll())]

    graph = one(Greedy(), Budget(), Confused(TOY))
    assert graph.info["error"] == "TypeError: a Propose request was answered with Scored"


# ------------------------------------------------------------------------------------------------------- the work


def test_tasks_are_pulled_as_they_are_needed() -> None:
    pulled: list[int] = []
    finished = 0

    def lazily() -> Iterator[Task]:
        for index, task in enumerate(tasks(Greedy(), problems=TOY.problems("train", 30))):
            pulled.append(index)
            yield task

    for _ in engine(Counting(TOY)).run(lazily(), concurrency=3):
        finished += 1
        assert len(pulled) <= finished + 3
    assert finished == 30


def test_searches_that_need_nothing_do_not_drain_the_tasks() -> None:
    def nothing(graph: SearchGraph) -> Search[None]:
        yield from score(graph, [])

    endless = (Task(BAD, nothing) for _ in itertools.count())
    graphs = list(itertools.islice(engine().run(endless, concurrency=2), 5))
    assert [graph.info["stopped"] for graph in graphs] == ["finished"] * 5


def test_requests_of_many_searches_share_a_batch() -> None:
    class Watching(Counting):
        def poll(self) -> Sequence[tuple[int, Proposed]]:
            self.most = max(self.most, len(self._queue))
            return super().poll()

    policy = Watching(TOY)
    assert len(list(engine(policy).run(tasks(Greedy()), concurrency=5))) == 8
    assert policy.most == 5


@pytest.mark.parametrize("budget", [Budget(), Budget(samples=2)])
def test_each_search_is_cancelled_once(budget: Budget) -> None:
    policy = Counting(TOY)
    graphs = list(engine(policy).run(tasks(Beam(8, 4), budget)))
    assert sorted(policy.cancelled) == sorted(graph.scope for graph in graphs)
    assert len(set(policy.cancelled)) == 8


def test_concurrency_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="concurrency 0 given; allowed: 1 or more"):
        next(engine().run(tasks(Greedy()), concurrency=0))


def test_facts_and_changes_are_passed_on() -> None:
    seen: list[int] = []
    task = Task(BAD, BestOfN(4).search, info={"strategy": "mine"}, on_change=lambda graph: seen.append(len(graph)))
    (graph,) = engine().run([task])
    assert graph.info["strategy"] == "mine"
    assert graph.info["policy"] == "scripted"
    assert graph.info["verifier"] == "table"
    assert seen == [1, len(graph)]


def test_a_strategy_is_any_generator() -> None:
    def mine(graph: SearchGraph) -> Search[None]:
        ((first, *_),) = yield from propose(graph, [graph.root], 2)
        assert (yield from score(graph, [first, graph.root])) == [TOY.quality(graph.state(first)), 0.0]
        assert (yield from score(graph, [first])) == [TOY.quality(graph.state(first))]  # nothing is asked twice
        yield from propose(graph, [first, graph.root], [1, 3], max_steps=None)

    (graph,) = engine().run([Task(BAD, mine)])
    assert "error" not in graph.info, graph.info["error"]
    assert graph.info["spent"]["verifier_calls"] == 1
    assert graph[graph.root]["drawn"] == 5
