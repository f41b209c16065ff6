"""Environments that do not ship, in a search: faults stay with the problem, transitions overlap, tools answer."""

import io
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

import envs.guarded
from agent.interface.tree_explained import explain_node
from agent.interface.tree_view import search_tree, solution_view
from agent.search.budget import Budget
from agent.search.engine import Engine, Task
from agent.search.graph import SearchGraph
from agent.search.step_by_step import StepByStep
from agent.solver import Solver, SolverError
from agent.strategies import Beam, BestOfN, Dvts, Greedy, Lookahead, Majority, Mcts, Strategy
from envs import (
    Environment,
    Guarded,
    Problem,
    Split,
    State,
    Step,
    Toy,
    Transition,
    UnreadableQuestion,
    check_environment,
    guard,
    render,
    termination,
    transition,
    truncation,
)
from policies.backends.openai import ServedPolicy
from policies.conformance import ask, check_policy
from policies.core import Propose, Proposed, Usage
from policies.scripted import ScriptedPolicy
from tests.servers import Script, Server, openai_routes
from verifiers.core import Score
from verifiers.table import TableVerifier

LIMIT = 1.5  # seconds, where something hangs; sound calls take far less, however busy the machine
TOY = Toy()
PROBLEMS = TOY.problems("train", 8)
BAD = PROBLEMS[3]  # the problem that the environment fails on
STRATEGIES: tuple[Strategy, ...] = (
    Greedy(), Majority(8), BestOfN(8), Beam(8, 4), Dvts(8, 4), Lookahead(8, 4), Mcts(n=8)
)  # fmt: skip


class Plugin(Toy):
    """Not one of those that ship."""

    step_timeout = 60.0


def run(environment: Environment, strategy: Strategy, problems: Sequence[Problem] = PROBLEMS) -> list[SearchGraph]:
    engine = Engine(environment, ScriptedPolicy(environment), TableVerifier(environment))
    tasks = (Task(each, strategy.search, vote=strategy.vote) for each in problems)
    return sorted(engine.run(tasks), key=lambda graph: graph.problem.id)


def nodes(graph: SearchGraph) -> object:
    return graph.to_json()["nodes"], graph.to_json()["edges"], graph.info["answer"]


# ------------------------------------------------------------------------------------------------- faults, contained


def _raise(*arguments: Any) -> Any:
    raise ZeroDivisionError("odd")


def _loop(*arguments: Any) -> Any:
    for _ in itertools.count():
        pass


def _nonsense(*arguments: Any) -> Any:
    return 17


class Sick(Plugin):
    """In trouble when it is asked one thing about one problem."""

    def __init__(self, method: str, trouble: Callable[..., Any]) -> None:
        self.method, self.trouble = method, trouble
        if trouble is _loop:
            self.step_timeout = LIMIT

    def _or(self, method: str, problem: Problem, sound: Callable[..., Any], *arguments: Any) -> Any:
        return (self.trouble if method == self.method and problem == BAD else sound)(*arguments)

    def prompt(self, problem: Problem) -> str:
        return str(text) if isinstance(text := self._or("prompt", problem, super().prompt, problem), str) else text

    def initial(self, problem: Problem) -> State:
        state: State = self._or("initial", problem, super().initial, problem)
        return state

    def step(self, state: State, step: Step) -> Transition:
        later = len(state.steps) == 1
        result: Transition = self._or("step" if later else "", state.problem, super().step, state, step)
        return result

    def answer(self, state: State) -> str | None:
        answer: str | None = self._or("answer", state.problem, super().answer, state)
        return f"{answer} bad" if state.problem == BAD and isinstance(answer, str) else answer

    def check(self, problem: Problem, answer: str) -> bool:
        right: bool = self._or("check", problem, super().check, problem, answer)
        return right

    def same(self, a: str, b: str) -> bool:
        bad = BAD if "bad" in a + b else PROBLEMS[0]
        alike: bool = self._or("same", bad, super().same, a, b)
        return alike

    def options(self, state: State) -> Mapping[str, float]:
        weights: Mapping[str, float] = self._or("options", state.problem, super().options, state)
        return weights


@pytest.mark.parametrize("method", ["initial", "prompt", "step", "answer", "same", "check"])
@pytest.mark.parametrize("trouble", [_raise, _loop, _nonsense], ids=["raises", "hangs", "nonsense"])
def test_a_fault_spoils_its_own_problem_and_no_other(method: str, trouble: Callable[..., Any]) -> None:
    environment = Sick(method, trouble)
    strategy = BestOfN(8)
    solver = Solver(environment, ScriptedPolicy(environment), TableVerifier(environment))
    solutions = {each.problem.id: each for each in solver.solve_many(PROBLEMS, strategy)}
    assert len(solutions) == 8
    error = solutions.pop(BAD.id).error or ""
    did = {
        _raise: "raised ZeroDivisionError: odd",
        _loop: "was given up after 1.5 s",
        _nonsense: "gave 17, which is no ",
    }
    assert error.startswith(f"EnvironmentFailure: environment 'toy' ({__name__}:Sick): {method}(")
    assert did[trouble] in error
    if method == "same":
        assert " bad'" in error
    else:
        assert BAD.id in error
    if method == "step":
        assert f"step({BAD.id!r} after ('" in error  # the state, and then the action
    sound = {graph.problem.id: graph for graph in run(Plugin(), strategy)}
    for name, solution in solutions.items():
        assert solution.error is None
        assert nodes(solution.graph) == nodes(sound[name])


def test_a_fault_in_what_a_policy_asks_for_spoils_its_own_problem() -> None:
    graphs = run(Sick("options", _raise), Beam(8, 4))
    assert [graph.problem for graph in graphs if "error" in graph.info] == [BAD]
    sound = {graph.problem.id: graph for graph in run(Plugin(), Beam(8, 4))}
    assert all(nodes(graph) == nodes(sound[graph.problem.id]) for graph in graphs if graph.problem != BAD)


def test_one_question_says_what_the_environment_did() -> None:
    environment = Sick("step", _raise)
    solver = Solver(environment, ScriptedPolicy(environment), TableVerifier(environment))
    with pytest.raises(SolverError, match=r"search failed: .*Sick\): step\('.*' after \('.*',\), '.*'\) raised Zero"):
        solver.solve(BAD, "best-of-n")
    assert solver.solve(PROBLEMS[0], "best-of-n").answer is not None


# --------------------------------------------------------------------------------------------------- slow transitions


class Counting(Plugin):
    """Its steps wait until some are under way at once, and note how many were."""

    def __init__(self, together: int) -> None:
        self.barrier = threading.Barrier(together)
        self.lock = threading.Lock()
        self.now = self.most = 0

    def step(self, state: State, step: Step) -> Transition:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        self.barrier.wait(30)
        with self.lock:
            self.now -= 1
        return super().step(state, step)


def test_the_transitions_of_many_problems_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envs.guarded, "WORKERS", 8)
    environment = Counting(8)
    pennies = [TOY.read(f"3 with 1 {coin}") for coin in range(4, 12)]  # three steps each
    engine = Engine(environment, ScriptedPolicy(environment))
    graphs = list(engine.run(Task(each, Greedy().search, vote=Greedy().vote) for each in pennies))
    assert [graph.info["answer"] for graph in graphs] == ["3"] * 8
    assert environment.most == 8


def test_a_slow_transition_holds_up_its_own_search_only() -> None:
    others = threading.Event()

    class Slow(Plugin):
        def step(self, state: State, step: Step) -> Transition:
            if state.problem == BAD:
                others.wait(30)
            return super().step(state, step)

    environment = Slow()
    engine = Engine(environment, ScriptedPolicy(environment), TableVerifier(environment))
    ended = []
    for graph in engine.run(Task(each, Beam(8, 4).search) for each in PROBLEMS):
        assert "error" not in graph.info
        ended.append(graph.problem)
        if len(ended) == 7:
            assert BAD not in ended
            others.set()
    assert ended[7] == BAD


def test_a_search_can_be_ended_while_it_waits_for_a_transition() -> None:
    class Stuck(Plugin):
        def step(self, state: State, step: Step) -> Transition:
            time.sleep(3600)
            raise AssertionError

    environment = Stuck()
    engine = Engine(environment, ScriptedPolicy(environment))
    (graph,) = engine.run([Task(BAD, Greedy().search, Budget(seconds=0.1))])
    assert graph.info["stopped"] == "0.1 seconds are over"


# ------------------------------------------------------------------------------------------------------- observations


class Boxes:
    """Sums of what is in boxes: ``open a`` is answered with what is in box a, ``= 12`` is the answer."""

    name, delimiter, max_steps = "boxes", "\n", 8

    def read(self, question: str) -> Problem:
        names = question.split()
        if not names or any(len(name) != 1 for name in names):
            raise UnreadableQuestion(f"{question!r} given; letters are wanted, such as 'a b c'")
        return Problem(question, question, str(sum(map(self.content, names))))

    def prompt(self, problem: Problem) -> str:
        return problem.question + "\n"

    def initial(self, problem: Problem) -> State:
        return State(problem)

    def step(self, state: State, step: Step) -> Transition:
        verb, _, name = step.text.partition(" ")
        if verb == "=" and name.isdecimal() and len(name) < 9:
            return termination(state.then(step), self.quality(state.then(step)))
        if verb != "open" or name not in state.problem.question.split() or step.finish != "step":
            return truncation(state.then(step))
        after = state.then(replace(step, observation=f"it holds {self.content(name)}"))
        return transition(after, self.quality(after)) if len(after.steps) < self.max_steps else truncation(after)

    def answer(self, state: State) -> str | None:
        last = state.texts[-1] if state.steps else ""
        return last[2:] if last.startswith("= ") and last[2:].isdecimal() and len(last) < 11 else None

    def check(self, problem: Problem, answer: str) -> bool:
        return problem.answer == answer if problem.answer is not None else False

    def same(self, a: str, b: str) -> bool:
        return a == b

    def problems(self, split: Split, n: int, seed: int = 0) -> Sequence[Problem]:
        first = {"train": "abc", "calibration": "def", "test": "ghi"}[split]
        names = (" ".join(each) for each in itertools.product(first, "uvwxyz", "klmnop"))
        return [self.read(question) for question in itertools.islice(names, n)]

    @staticmethod
    def content(name: str) -> int:
        return ord(name) * 7 % 50

    def options(self, state: State) -> Mapping[str, float]:
        """Opens the boxes and, now and then, misses one; adds up what it was told."""
        names = state.problem.question.split()
        if len(state.steps) < len(names):
            return {f"open {names[len(state.steps)]}": 3.0, f"open {names[0]}": 1.0}
        told = [int(step.observation.removeprefix("it holds ")) for step in state.steps]
        return {f"= {sum(told)}": 1.0}

    def quality(self, state: State) -> float:
        return 0.9 if len(set(state.texts)) == len(state.texts) else 0.1


def test_the_kit_takes_an_environment_that_answers() -> None:
    check_environment(Boxes())


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda each: type(each).__name__)
def test_a_policy_learns_what_the_environment_answered(strategy: Strategy) -> None:
    environment = Boxes()
    solver = Solver(environment, ScriptedPolicy(environment), TableVerifier(environment))
    for solution in solver.solve_many(environment.problems("test", 6), strategy):
        assert solution.correct, solution.error
        graph = solution.graph
        assert solution.node is not None
        state = graph.state(solution.node)
        assert [step.observation for step in state.steps] == [
            *(f"it holds {Boxes.content(name)}" for name in state.problem.question.split()),
            "",
        ]
        assert [graph[node]["observation"] for node in graph.path(solution.node)[1:]] == [
            step.observation for step in state.steps
        ]


def test_observations_are_kept_and_shown(tmp_path: Path) -> None:
    environment = Boxes()
    solver = Solver(environment, ScriptedPolicy(environment), TableVerifier(environment))
    solution = solver.solve("a b c", "beam")
    assert solution.node is not None
    solution.graph.save(tmp_path / "graph.json")
    loaded = SearchGraph.load(tmp_path / "graph.json", environment)
    assert loaded == solution.graph
    assert loaded.state(solution.node) == solution.graph.state(solution.node)
    assert solution.to_json()["steps"][0]["observation"] == "it holds 29"
    for view, arrow in (
        (solution_view(solution), "→"),
        (explain_node(solution.graph, solution.node), "→"),
        (search_tree(solution.graph, 40, 100), "→"),
        (search_tree(solution.graph, 40, 100, unicode=False), "->"),
    ):
        console = Console(width=100, record=True, file=io.StringIO())
        console.print(view)
        assert f"open a {arrow} it holds 29" in console.export_text()


def test_a_long_observation_is_shown_in_part() -> None:
    class Verbose(Boxes):
        def step(self, state: State, step: Step) -> Transition:
            result = super().step(state, step)
            steps = (*result.state.steps[:-1], replace(result.state.steps[-1], observation="word\n" * 1000))
            return replace(result, state=State(state.problem, steps))

    environment = Verbose()
    policy = ScriptedPolicy(environment, lambda state: {"= 1": 1.0} if state.steps else {"open a": 1.0})
    solution = Solver(environment, policy, None).solve("a", "greedy")
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(solution_view(solution))
    assert "word word" in console.export_text()
    assert len(console.export_text(clear=False)) < 2000


def test_models_read_the_observation_in_the_next_prompt(checkpoint: Callable[..., Path], chatter: Any) -> None:
    from policies.backends.lab import LabPolicy
    from verifiers.backends.lab import LabVerifier

    class Answering(type(chatter)):  # type: ignore[misc]
        def step(self, state: State, step: Step) -> Transition:
            result: Transition = super().step(state, step)
            steps = (*result.state.steps[:-1], replace(result.state.steps[-1], observation="b2 c3"))
            return replace(result, state=State(state.problem, steps))

    environment = Answering()
    read: list[tuple[State, str]] = []

    class Policy(LabPolicy):
        def submit(self, ticket: int, request: Propose) -> None:
            for state in request.states:
                parts = self.tokens.parts(self.environment, state)
                read.append((state, self.tokens.decode([token for part in parts for token in part])))
            super().submit(ticket, request)

    class Verifier(LabVerifier):
        def submit(self, ticket: int, request: Score) -> None:
            assert all(step.observation == "b2 c3" for state in request.states for step in state.steps)
            super().submit(ticket, request)

    policy = Policy(checkpoint("policy"), environment, device="cpu", step_tokens=12)
    verifier = Verifier(checkpoint("verifier"), environment, device="cpu")
    problems = environment.problems("test", 3)
    for strategy in (BestOfN(4), Beam(4, 2), Mcts(n=4)):
        for solution in Solver(environment, policy, verifier).solve_many(problems, strategy):
            assert solution.error is None
    deeper = [(state, text) for state, text in read if state.steps]
    assert deeper
    for state, text in read:
        assert text == render(environment, state)
    assert all("b2 c3" in text for _, text in deeper)


# ------------------------------------------------------------------------------------------- solutions in an open loop


class Writing:
    """Writes one text whatever happens: all of it where it is asked in an open loop, else a step of it."""

    name, parameters, open_loop = "writing", 0, True

    def __init__(self, *texts: str) -> None:
        self.steps = tuple(Step(text, tokens=len(text)) for text in texts[:-1])
        self.steps += (Step(texts[-1], tokens=len(texts[-1]), finish="answer"),)
        self.asked: list[Propose] = []
        self.queue: dict[int, Propose] = {}

    def submit(self, ticket: int, request: Propose) -> None:
        self.queue[ticket] = request
        self.asked.append(request)

    def poll(self) -> list[tuple[int, Proposed]]:
        replies = []
        for ticket, request in self.queue.items():
            samples = tuple(
                tuple(self.steps[len(state.steps) :][: request.max_steps] for _ in seeds)
                for state, seeds in zip(request.states, request.seeds, strict=True)
            )
            generated = sum(step.tokens for each in samples for steps in each for step in steps)
            replies.append((ticket, Proposed(samples, Usage(0, generated))))
        self.queue.clear()
        return replies

    def cancel(self, scope: str) -> None:
        pass

    def close(self) -> None:
        pass


def draw(environment: Environment, policy: Any, question: str, samples: int = 1) -> Proposed:
    guarded = Guarded(environment)
    request = Propose((guarded.initial(guarded.read(question)),), (tuple(range(samples)),), max_steps=None, scope="a")
    (reply,) = ask(StepByStep(policy, guarded), [request])
    return reply


class Silent(Plugin):
    observes = False


PENNIES = "3 with 1 4"  # three steps


@pytest.mark.parametrize(("environment", "calls"), [(Silent(), 1), (Plugin(), 1 + 4)])
def test_where_the_environment_answers_no_steps_the_rest_is_one_request(environment: Any, calls: int) -> None:
    texts = ["1"] * 3
    policy = Writing(*texts)
    reply = draw(environment, policy, PENNIES, 4)
    assert [[step.text for step in steps] for steps in reply.samples[0]] == [texts] * 4
    assert len(policy.asked) == calls
    assert policy.asked[-1].open_loop
    assert len({seed for request in policy.asked for each in request.seeds for seed in each}) == 4 * min(calls, 2)
    assert reply.usage.generated == sum(step.tokens for steps in reply.samples[0] for step in steps) == 4 * 3


def test_what_was_written_after_the_end_is_dropped_and_paid_for() -> None:
    policy = Writing(*["1"] * 6)
    reply = draw(Silent(), policy, PENNIES)
    assert [(step.text, step.tokens) for step in reply.samples[0][0]] == [("1", 1), ("1", 1), ("1", 4)]
    assert reply.usage.generated == 6


def test_what_was_written_without_an_observation_is_dropped_and_each_step_asked_for_then() -> None:
    class Late(Boxes):
        """Answers, though it says that it does not."""

        observes = False

    total = sum(map(Boxes.content, "ab"))
    texts = ["open a", "open b", f"= {total}"]
    policy = Writing(*texts)
    reply = draw(Late(), policy, "a b")
    assert [(step.text, step.observation) for step in reply.samples[0][0]] == [(text, "") for text in texts]
    assert [(request.max_steps, request.open_loop) for request in policy.asked] == [(8, True), (1, False), (1, False)]
    assert reply.usage.generated == sum(step.tokens for step in reply.samples[0][0])
    assert reply.samples[0][0][0].tokens == sum(map(len, texts))


@pytest.mark.parametrize("said", [None, True])
def test_an_environment_that_answers_is_asked_after_each_step(said: bool | None) -> None:
    environment: Any = Boxes()
    if said:
        environment.observes = True
    texts = ["open a", "open b", f"= {sum(map(Boxes.content, 'ab'))}"]
    policy = Writing(*texts)
    reply = draw(environment, policy, "a b")
    assert [step.text for step in reply.samples[0][0]] == texts
    assert [(request.max_steps, request.open_loop) for request in policy.asked] == [(1, False)] * 3


def test_a_search_over_a_server_asks_once_for_each_solution_and_finds_the_same() -> None:
    found = []
    for environment in (TOY, Silent()):
        with Server(openai_routes(Script(TOY, PROBLEMS), context=16384)) as server:
            policy = ServedPolicy("scripted", environment, base_url=server.url)
            engine = Engine(environment, policy, TableVerifier(environment))
            graphs = list(engine.run([Task(each, BestOfN(8).search) for each in PROBLEMS]))
            assert [graph.info.get("error") for graph in graphs] == [None] * 8
            found.append({graph.problem.id: nodes(graph) for graph in graphs})
            policy.close()
            assert server.asked["/v1/chat/completions"] == 8 * 8
    assert found[0] == found[1]


@pytest.mark.parametrize("environment", [Silent(), Plugin()], ids=["silent", "undeclared"])
def test_open_loops_keep_the_contract_of_policies(environment: Plugin) -> None:
    guarded = Guarded(environment)
    with Server(openai_routes(Script(TOY, PROBLEMS), context=16384)) as server:
        policy = ServedPolicy("scripted", environment, base_url=server.url)
        check_policy(StepByStep(policy, guarded), guarded, PROBLEMS[:3])
        policy.close()


def test_a_fault_of_the_environment_inside_an_open_loop_spoils_its_own_problem() -> None:
    class Broken(Sick):
        observes = False

    with Server(openai_routes(Script(TOY, PROBLEMS), context=16384)) as server:
        environment = Broken("step", _raise)
        policy = ServedPolicy("scripted", environment, base_url=server.url)
        engine = Engine(environment, policy, TableVerifier(environment))
        graphs = list(engine.run([Task(each, BestOfN(4).search) for each in PROBLEMS]))
        policy.close()
    assert [graph.problem for graph in graphs if "error" in graph.info] == [BAD]


# ------------------------------------------------------------------------------------------------------- the contract


@pytest.mark.parametrize("shuffle", [None, 1])
def test_a_stepwise_policy_keeps_the_contract_of_policies(shuffle: int | None) -> None:
    environment = guard(Plugin())
    assert isinstance(environment, Guarded)
    policy = StepByStep(ScriptedPolicy(TOY, shuffle=shuffle), environment)
    check_policy(policy, TOY, PROBLEMS[:4])
    policy.close()
    assert policy.poll() == []


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda each: type(each).__name__)
def test_company_and_the_order_of_replies_change_nothing(strategy: Strategy) -> None:
    def searched(shuffle: int | None, concurrency: int) -> Iterator[object]:
        environment = Plugin()
        policy = ScriptedPolicy(environment, shuffle=shuffle)
        engine = Engine(environment, policy, TableVerifier(environment, shuffle=shuffle))
        tasks = (Task(each, strategy.search, vote=strategy.vote) for each in PROBLEMS)
        return (nodes(graph) for graph in sorted(engine.run(tasks, concurrency), key=lambda graph: graph.problem.id))

    assert list(searched(None, 1)) == list(searched(7, 8))


def test_single_steps_are_those_of_the_policy_inside() -> None:
    environment = guard(Plugin())
    assert isinstance(environment, Guarded)
    request = Propose(tuple(map(State, PROBLEMS)), ((1, 2, 3),) * 8, max_steps=1, scope="a")
    (plain,) = ask(ScriptedPolicy(TOY), [request])
    (stepwise,) = ask(StepByStep(ScriptedPolicy(TOY), environment), [request])
    assert stepwise == plain


def test_the_tokens_of_a_sample_are_those_of_all_its_steps() -> None:
    """Each step is a request of its own inside: of what the sample has left."""
    asked: list[int | None] = []

    class Watched(ScriptedPolicy):
        def submit(self, ticket: int, request: Propose) -> None:
            asked.append(request.tokens)
            super().submit(ticket, request)

    environment = Guarded(Plugin())
    state = TOY.initial(TOY.read("40 with 1 5 20"))
    pennies = StepByStep(Watched(TOY, lambda state: {"1": 1.0}), environment)  # a step takes two tokens
    (reply,) = ask(pennies, [Propose((state,), ((1,),), max_steps=None, tokens=6)])
    assert asked == [6, 4, 2]
    assert len(reply.samples[0][0]) == 3


def test_a_policy_that_has_no_room_left_leaves_trajectories_open() -> None:
    class Small(ScriptedPolicy):
        def submit(self, ticket: int, request: Propose) -> None:
            if any(len(state.steps) > 1 for state in request.states):
                raise ValueError("no room")
            super().submit(ticket, request)

    environment = Plugin()
    long = TOY.read("40 with 1 5 20")
    pennies = Small(environment, lambda state: {"1": 1.0})
    (graph,) = Engine(environment, pennies).run([Task(long, Greedy().search)])
    assert "error" not in graph.info
    assert [graph[node]["depth"] for node in graph.graph] == [0, 1, 2]
    assert graph.status(2) == "running"


def test_distinct_samples_are_refused_as_no_policy_sees_whole_samples_here() -> None:
    class Drawing(ScriptedPolicy):
        distinct = True

    for environment, able in ((TOY, True), (Plugin(), False)):
        (graph,) = Engine(environment, Drawing(TOY)).run([Task(BAD, Majority(4, distinct=True).search)])
        assert graph.info.get("policy_distinct", False) is able
        assert ("cannot draw distinct samples" not in graph.info.get("error", "")) is able


def test_tickets_requests_without_samples_and_the_end() -> None:
    environment = guard(Plugin())
    assert isinstance(environment, Guarded)
    inside = ScriptedPolicy(TOY)
    policy = StepByStep(inside, environment)
    request = Propose((State(BAD),), ((1,),), max_steps=None, scope="a")
    policy.submit(1, request)
    with pytest.raises(ValueError, match="ticket 1 is in use"):
        policy.submit(1, request)
    policy.submit(2, Propose((State(BAD),), ((),), scope="b"))
    assert policy.poll() == [(2, Proposed(((),)))]
    policy.close()
    assert policy.poll() == []
    assert inside.poll() == []
    assert (policy.name, policy.parameters) == (inside.name, inside.parameters)


def test_a_request_answered_by_an_exception_fails_its_search_alone() -> None:
    class Failing(ScriptedPolicy):
        def poll(self) -> Sequence[tuple[int, Proposed | Exception]]:  # type: ignore[override]
            bad = {ticket for ticket, request in self._queue.items() if request.states[0].problem == BAD}
            return [(ticket, ConnectionError("down") if ticket in bad else reply) for ticket, reply in super().poll()]

    environment = Plugin()
    for strategy in (Majority(4), Beam(8, 4)):
        engine = Engine(environment, Failing(environment), TableVerifier(environment))
        graphs = list(engine.run(Task(each, strategy.search, vote=strategy.vote) for each in PROBLEMS))
        failures = {graph.problem: graph.info["error"] for graph in graphs if "error" in graph.info}
        assert failures == {BAD: "ConnectionError: down"}


def test_a_reply_of_another_shape_is_the_searchs_own_trouble() -> None:
    class Short(ScriptedPolicy):
        def _answer(self, request: Propose) -> Proposed:
            reply = super()._answer(request)
            return Proposed((), reply.usage) if request.states[0].problem == BAD else reply

    environment = Plugin()
    engine = Engine(environment, Short(environment), TableVerifier(environment))
    graphs = list(engine.run(Task(each, BestOfN(4).search) for each in PROBLEMS))
    assert [graph.problem for graph in graphs if "error" in graph.info] == [BAD]


def test_an_environment_needs_no_pickling() -> None:
    class Held(Plugin):
        """Holds what cannot be pickled or copied."""

        def __init__(self) -> None:
            self.lock, self.sum = threading.Lock(), lambda coins: sum(coins)

    environment = Held()
    check_environment(environment, n=3)
    assert all(graph.info["answer"] for graph in run(environment, Beam(8, 4)))


def test_an_environment_of_no_class_of_its_own() -> None:
    members = {name: getattr(TOY, name) for name in dir(TOY) if not name.startswith("_")}
    environment: Any = SimpleNamespace(**members)
    assert all(graph.info["answer"] for graph in run(environment, Beam(8, 4)))
