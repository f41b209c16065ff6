"""A transition that the policy asked for is not asked for again by the graph."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from agent.search.engine import Engine, Task
from agent.search.graph import SearchGraph
from agent.search.requests import propose
from agent.strategies import STRATEGIES
from envs.conformance import NonConforming
from envs.core import State, Step, Transition, truncation
from envs.toy import Toy
from policies.conformance import check_policy
from policies.core import Proposed
from policies.scripted import ScriptedPolicy
from verifiers.registry import load_verifier


class Counting(Toy):
    """Counts how often each transition is asked for."""

    __module__ = Toy.__module__  # as one that ships: it is not guarded, so nothing remembers transitions

    def __init__(self) -> None:
        self.asked: Counter[tuple[tuple[str, ...], str]] = Counter()

    def step(self, state: State, step: Step) -> Transition:
        self.asked[state.texts, step.text] += 1
        return super().step(state, step)


class Forgetful(ScriptedPolicy):
    """Gives no transitions."""

    def _answer(self, request: Any) -> Proposed:
        reply = super()._answer(request)
        return Proposed(reply.samples, reply.usage)


def searched(strategy: str, policy: Callable[[Counting], ScriptedPolicy]) -> tuple[SearchGraph, Counting, int]:
    """The graph, the environment, and how many transitions the policy asked for."""
    environment = Counting()
    made = policy(environment)
    verifier = load_verifier("reward", Toy())  # whose own transitions are not counted
    inside, answer = 0, made._answer

    def counted(request: Any) -> Proposed:
        nonlocal inside
        before = environment.asked.total()
        reply = answer(request)
        inside += environment.asked.total() - before
        return reply

    made._answer = counted  # type: ignore[method-assign]
    task = Task(environment.read("12 with 1 6 10"), STRATEGIES[strategy].sized(16).search)
    (graph,) = Engine(environment, made, verifier).run([task])
    assert "error" not in graph.info
    return graph, environment, inside


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_the_graph_asks_only_for_what_the_policy_did_not_need(strategy: str) -> None:
    graph, environment, inside = searched(strategy, ScriptedPolicy)
    whole = strategy in {"best-of-n", "majority", "greedy", "revision"}
    outside = environment.asked.total() - inside
    assert outside == 0 if whole else outside <= len(graph) - 1
    slow, careless, _ = searched(strategy, Forgetful)
    assert slow.to_json()["nodes"] == graph.to_json()["nodes"]
    assert careless.asked.total() >= environment.asked.total()
    if whole:
        assert careless.asked.total() > environment.asked.total()


def test_what_the_policy_says_is_what_the_node_becomes() -> None:
    environment = Counting()
    graph = SearchGraph(environment, environment.read("12 with 1 6 10"))
    steps = [Step("6", 1), Step("6", 1)]
    after = environment.step(graph.state(0), steps[0])
    environment.asked.clear()
    graph.add(0, steps, transitions=[after])
    assert environment.asked == {(("6",), "6"): 1}
    assert (graph.status(1), graph[1]["reward"], graph.status(2)) == ("running", after.reward, "terminated")


def test_transitions_are_given_for_every_sample_or_not_at_all() -> None:
    environment = Counting()
    graph = SearchGraph(environment, environment.read("12 with 1 6 10"))
    search = propose(graph, [0], 2)
    next(search)
    step = (Step("6", 1),)
    with pytest.raises(ValueError, match=r"\[2\] samples were asked for; the policy gave transitions of \[1\]"):
        search.send(Proposed(((step, step),), transitions=(((),),)))


class Wrong(ScriptedPolicy):
    """Says that every trajectory is lost."""

    def _answer(self, request: Any) -> Proposed:
        reply = super()._answer(request)
        lost = tuple(
            tuple(tuple(truncation(after.state) for after in each) for each in some) for some in reply.transitions
        )
        return Proposed(reply.samples, reply.usage, lost)


class Surplus(ScriptedPolicy):
    """Gives a transition too many."""

    def _answer(self, request: Any) -> Proposed:
        reply = super()._answer(request)
        more = tuple(tuple((*each, *each[-1:]) for each in some) for some in reply.transitions)
        return Proposed(reply.samples, reply.usage, more)


class Short(ScriptedPolicy):
    """Gives transitions of no sample but one."""

    def _answer(self, request: Any) -> Proposed:
        reply = super()._answer(request)
        return Proposed(reply.samples, reply.usage, tuple(some[:1] for some in reply.transitions[:1]))


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (Wrong, "A transition that a reply gives is what the environment says."),
        (Surplus, "There are no more transitions of a sample than it has steps."),
        (Short, "Transitions, if a reply gives them, are given for every sample."),
    ],
)
def test_the_kit_catches_wrong_transitions(kind: type[ScriptedPolicy], sentence: str) -> None:
    toy = Toy()
    problems = [toy.read("12 with 1 6 10"), toy.read("9 with 1 4 5")]
    check_policy(ScriptedPolicy(toy), toy, problems)
    with pytest.raises(NonConforming, match=sentence):
        check_policy(kind(toy), toy, problems)
