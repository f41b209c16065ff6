"""The conformance kit of strategies: `check_strategy` tries every rule that the engine and studies rely on.

An author of a plug-in calls it in one test. It needs no model: the strategy searches a tree of words whose every
solution has five steps, with scores that say nothing. One error lists every rule that was broken, each in one sentence.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.registry import knobs_of
from agent.search.budget import Budget
from agent.search.engine import Engine, Task
from agent.search.graph import SearchGraph
from agent.strategies import Strategy
from envs.conformance import NonConforming
from envs.core import Problem, Split, State, Step, Transition, termination, transition
from policies.scripted import ScriptedPolicy
from verifiers.table import TableVerifier

SIZES = (1, 4, 16)
"""Budgets, in sample-equivalents, that a strategy is tried with."""

_SLACK = 0.1  # a strategy sized for N spends N, give or take this share of it
_PATIENCE = 20.0  # seconds that one search may take
_VOCABULARY = {f"word {number}": 1.0 for number in range(1000)}  # so many that samples seldom merge


@dataclass(frozen=True)
class _Words:
    """The kit's environment: any word goes on, and the fifth answers."""

    depth: int = 5
    name: str = "words"
    delimiter: str = "\n"
    max_steps: int = 9

    def read(self, question: str) -> Problem:
        """A problem without a gold answer, of any text."""
        return Problem(question, question)

    def prompt(self, problem: Problem) -> str:
        """The question, on a line of its own."""
        return f"{problem.question}\n"

    def initial(self, problem: Problem) -> State:
        """The state before the first word."""
        return State(problem)

    def step(self, state: State, step: Step) -> Transition:
        """Append a word; the fifth ends the trajectory."""
        after = state.then(step)
        return termination(after) if len(after.steps) == self.depth else transition(after)

    def answer(self, state: State) -> str | None:
        """The last of five words."""
        return state.texts[-1] if len(state.steps) == self.depth else None

    def check(self, problem: Problem, answer: str) -> bool:
        """Nothing is known to be right."""
        return False

    def same(self, a: str, b: str) -> bool:
        """Whether two answers are the same text."""
        return a == b

    def problems(self, split: Split, n: int, seed: int = 0) -> Sequence[Problem]:
        """Problems that differ by split, seed and number."""
        return [self.read(f"{split} {seed} {number}") for number in range(n)]

    def options(self, state: State) -> Mapping[str, float]:
        """The vocabulary, every word with the same weight."""
        return _VOCABULARY

    def worth(self, state: State) -> float:
        """A hash of the words: a score that says nothing, the same for the same words."""
        return hashlib.sha256("/".join(state.texts).encode()).digest()[0] / 255


def check_strategy(kind: type[Strategy], **knobs: Any) -> None:
    """Check a strategy against its contract.

    Args:
        kind: the class; it is sized for each of `SIZES`.
        knobs: given to `sized`.

    Raises:
        NonConforming: with one sentence for each rule that was broken.
    """
    checks = _Checks(kind, knobs)
    checks.form()
    if not checks.broken:
        for size in SIZES:
            checks.searches(size)
    if checks.broken:
        raise NonConforming(f"strategy {kind.__name__}", checks.broken)


class _Checks:
    """The rules; each that is broken adds one sentence."""

    def __init__(self, kind: type[Strategy], knobs: Mapping[str, Any]) -> None:
        self.kind, self.knobs = kind, knobs
        self.broken: list[str] = []
        self.environment = _Words()
        first, *self.others = self.environment.problems("test", 9)
        self.problem = first

    def rule(self, holds: bool, sentence: str) -> None:
        """Note a rule that is broken, once."""
        if not holds and sentence.partition(":")[0] not in [each.partition(":")[0] for each in self.broken]:
            self.broken.append(sentence)

    def form(self) -> None:
        """What the class is."""
        made: Any = self.kind
        frozen = getattr(getattr(made, "__dataclass_params__", None), "frozen", False)
        self.rule(frozen, "A strategy is a frozen dataclass, whose fields are its knobs.")
        for method in ("search", "sized"):
            self.rule(callable(getattr(self.kind, method, None)), f"A strategy has a method `{method}`.")
        if self.broken:
            return
        try:
            knobs_of(self.kind)
            strategy = self.kind.sized(4, **self.knobs)
        except Exception as error:
            self.rule(False, f"`sized` makes a strategy for any budget from 1 on: {type(error).__name__}: {error}.")
            return
        self.rule(hasattr(strategy, "vote"), "A strategy has a `vote`, the rule by which its answer is chosen.")
        described = set(re.findall(r"\w+", _arguments(self.kind)))
        for field in dataclasses.fields(made):
            if field.init and not field.name.startswith("_"):
                known = field.name in described
                self.rule(known, f"Every knob is described in the docstring, under `Args:`: {field.name!r} is not.")

    def searches(self, size: int) -> None:
        """What the strategy does with a budget."""
        alone = self.search(size)
        if alone is None:
            return
        self.budget(alone, size)
        self.endings(alone)
        for other in (self.search(size, 1), self.search(size, 2, self.others), self.search(size, None, self.others)):
            same = other == alone
            rule = "The graph is the same in whatever order replies come, and whatever else is searched meanwhile"
            self.rule(same, f"{rule}: at a budget of {size} it differs.")

    def search(self, size: int, shuffle: int | None = None, others: Sequence[Problem] = ()) -> SearchGraph | None:
        """The graph of one search, alone or among others, replies in order or not; None if it failed."""
        policy = ScriptedPolicy(self.environment, shuffle=shuffle)
        engine = Engine(self.environment, policy, TableVerifier(self.environment, shuffle=shuffle))
        strategy = self.kind.sized(size, **self.knobs)
        limits = Budget(samples=size * 4, seconds=_PATIENCE)  # one that spends too much is seen to, not cut
        tasks = [Task(each, strategy.search, limits, 0, strategy.vote) for each in (*others, self.problem)]
        for graph in engine.run(tasks, concurrency=16):
            graph.info["spent"]["seconds"] = 0.0
            if graph.problem == self.problem:
                if (error := graph.info.get("error")) is not None:
                    self.rule(False, f"A search does not fail: at a budget of {size} it did, with {error}.")
                    return None
                ended = graph.info["stopped"] == "finished"
                rule = "A search ends by itself when its budget is spent"
                self.rule(ended, f"{rule}: at a budget of {size} it was ended, as {graph.info['stopped']}.")
                return graph
        return None

    def budget(self, graph: SearchGraph, size: int) -> None:
        """A strategy sized for N spends N; one that has no size, as greedy decoding, one sample."""
        sizeless = self.kind.sized(1, **self.knobs) == self.kind.sized(64, **self.knobs)
        wanted = 1 if sizeless else size
        spent = graph.samples()
        kept = (1 - _SLACK) * wanted - 1e-9 <= spent <= (1 + _SLACK) * wanted + 1e-9
        rule = "A strategy that is sized for N samples spends between 0.9 N and 1.1 N"
        self.rule(kept, f"{rule}: sized for {wanted} it spent {spent:.3g}.")

    def endings(self, graph: SearchGraph) -> None:
        """What votes is a trajectory that the environment says is finished, with the answer that it says it has."""
        rule = "Only finished solutions vote, each with its own answer"
        votes = set(graph.finished())
        for node in graph.graph:
            status, state = self.replay(graph, node)
            given, steps = graph[node]["answer"], f"{len(state.steps)} of {self.environment.depth} steps"
            if node in votes:
                right = status == "terminated" and given == self.environment.answer(state)
                self.rule(right, f"{rule}: {given!r} has a vote after {steps}.")
            said = graph.status(node)
            self.rule(said == status, f"Whether a node has ended says the environment: after {steps} one is {said!r}.")
        answers = [graph[node]["answer"] for node in graph.finished()]
        chosen = graph.info["answer"]
        self.rule(bool(answers), "A search finds an answer where every solution has one: it found none.")
        self.rule(chosen is None or chosen in answers, f"{rule}: the answer {chosen!r} is of no finished solution.")

    def replay(self, graph: SearchGraph, node: int) -> tuple[str, State]:
        """Where the steps of a node lead, by the environment alone."""
        state, status = self.environment.initial(self.problem), "running"
        for step in graph.state(node).steps:
            if status != "running":
                return "beyond its end", state
            after = self.environment.step(state, step)
            state, status = after.state, after.status
        return status, state


def _arguments(kind: type[Any]) -> str:
    """The part of a docstring that describes the arguments."""
    return (inspect.getdoc(kind) or "").partition("Args:")[2].partition("Raises:")[0]
