"""The solver: a problem in, a solution out, by a strategy of one's own choice or the planner's."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from agent.build import (
    UNSIZED,
    describe_strategy,
    environment_of,
    make_strategy,
    models_of,
    resized,
    strategy_of,
)
from agent.planning.plan_file import calibration_of
from agent.planning.planner import Planner
from agent.recipes.recipe import Component, Recipe, parse_component
from agent.search.budget import Budget
from agent.search.control.handle import SearchHandle
from agent.search.control.running import Chosen
from agent.search.engine import Engine, Task
from agent.search.graph import SearchGraph
from agent.search.shared_budget import Allocation
from agent.search.solution import Solution
from agent.strategies import BlendAsc, SizedByCost, Strategy
from envs.core import Environment, Problem
from envs.errors import StepwellError
from envs.messages import UsageError
from policies.core import Policy
from verifiers.core import Verifier
from verifiers.voting import Vote

DEFAULT_BUDGET = Budget(samples=16)
OnChange = Callable[[SearchGraph], None]


class SolverError(StepwellError, RuntimeError):
    """A search failed; the message is the failure of the policy, the verifier or the environment."""


class Solver:
    """Solves problems of one environment with one policy and one verifier; models stay loaded.

    Args:
        environment: the domain.
        policy: proposes steps.
        verifier: scores them; None for strategies that ask for no scores.
        planner: what the strategy ``auto`` stands for; `agent.planning.planner.Planner` if not given.
    """

    def __init__(
        self, environment: Environment, policy: Policy, verifier: Verifier | None, planner: Strategy | None = None
    ) -> None:
        self.policy = policy
        self.verifier = verifier
        self.planner = planner
        self.engine = Engine(environment, policy, verifier)
        self.environment = self.engine.environment

    @classmethod
    def from_recipe(cls, recipe: Recipe, environment: Environment | None = None) -> Solver:
        """Load what a recipe names; its environment only if it is not given.

        Raises:
            UsageError: when a name, a folder or an option is wrong.
        """
        environment = environment or environment_of(recipe)
        return cls(environment, *models_of(recipe, environment))

    def solve(
        self,
        problem: Problem | str,
        strategy: str | Strategy = "auto",
        budget: Budget = DEFAULT_BUDGET,
        seed: int = 0,
        on_change: OnChange | None = None,
    ) -> Solution:
        """Solve one problem, or one question as a person types it.

        Args:
            problem: a problem of the environment, or a question that it can read.
            strategy: a name (sized for the budget), or a strategy with knobs of one's own.
            budget: what may be spent; a search that meets a limit ends with its best answer so far.
            seed: of the samples.
            on_change: called with the growing graph, in this thread, after each reply.

        Raises:
            UnreadableQuestion: the environment cannot read the question.
            UsageError: there is no strategy of that name, or it needs something of the models that they lack.
            SolverError: the policy, the verifier or the environment failed.
        """
        if isinstance(problem, str):
            problem = self.environment.read(problem)
        solution = next(self.solve_many([problem], strategy, budget, seed, on_change))
        if solution.error is not None:
            raise SolverError(f"the search failed: {solution.error}")
        return solution

    def solve_many(
        self,
        problems: Iterable[Problem],
        strategy: str | Strategy = "auto",
        budget: Budget = DEFAULT_BUDGET,
        seed: int = 0,
        on_change: OnChange | None = None,
        concurrency: int = 64,
        total: Budget | None = None,
    ) -> Iterator[Solution]:
        """Solve problems, many at once, and yield solutions as they finish (see `Solution.error` for failures).

        With a `total`, in samples or FLOPs, the problems share that budget: the planner spends it where it gains most
        (`agent.search.shared_budget`), and `budget` is the most that one of them gets.

        Raises:
            UsageError: as `check`, or there is a total, and the strategy is none that can share it.
        """
        if strategy == "auto" and self.planner is not None:
            strategy = self.planner
        if isinstance(strategy, str):
            strategy = make_strategy(Component(strategy), budget, Vote(), 1.0)
        self.check(strategy)
        allocation = None
        if total is not None:
            allocation, strategy = self.share(total, strategy)
        tasks = (task(problem, strategy, budget, seed, on_change) for problem in problems)
        return self.run(tasks, concurrency, allocation)

    def run(
        self,
        tasks: Iterable[Task] = (),
        concurrency: int = 64,
        allocation: Allocation | None = None,
        stay: bool = False,
    ) -> Iterator[Solution]:
        """Run searches, which may be of many strategies and budgets, together; solutions come as they finish.

        See `agent.search.engine.Engine.run`.
        """
        return map(Solution.of, self.engine.run(tasks, concurrency, allocation, stay))

    def check(self, strategy: Strategy) -> None:
        """Refuse a strategy that needs something of the models that they lack.

        Raises:
            UsageError: in one line that says what would do (`agent.strategies.traits.Traits.check`).
        """
        engine, name = self.engine, describe_strategy(strategy)["name"]
        verifier = None if self.verifier is None else self.verifier.name
        strategy.traits.check(name, self.policy.name, engine.large, verifier, engine.compares)

    def share(self, total: Budget, strategy: Strategy) -> tuple[Allocation, Strategy]:
        """What allocates a total, and the strategy that bids for it.

        Raises:
            UsageError: the strategy is none that can share it, or there is no plan for these models.
        """
        if isinstance(strategy, SizedByCost):  # the total is what counts
            strategy = strategy.of(UNSIZED)
        if isinstance(strategy, BlendAsc):
            return _allocation(total), dataclasses.replace(strategy, auction=True)
        if not isinstance(strategy, Planner):
            raise UsageError("a total budget is shared by the planner or by blend-asc: use strategy auto or blend-asc")
        names = self.environment.name, self.policy.name, self.verifier.name if self.verifier else ""
        if (strategy.calibration or calibration_of(*names)).online is None:
            raise UsageError(
                f"a total budget needs a plan for policy {names[1]}, verifier {names[2] or 'none'} on {names[0]};"
                " 'stepwell calibrate' fits one"
            )
        return _allocation(total), dataclasses.replace(strategy, auction=True)

    def solve_recipe(self, problem: Problem, recipe: Recipe, on_change: OnChange | None = None) -> Solution:
        """`solve` with the strategy, budget, vote, temperature and seed of a recipe."""
        return self.solve(problem, strategy_of(recipe), recipe.budget, recipe.seed, on_change)

    def submit(self, task: Task) -> SearchHandle:
        """Hand over a search, from any thread; `run` begins it, and the handle steers it (`Engine.submit`)."""
        return self.engine.submit(task)

    def stop(self) -> None:
        """End the searches that run, each with its best answer so far. May be called from any thread."""
        self.engine.stop()

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[list[int]]:
        """Within this context Ctrl-C ends the searches as `stop` does; the third one raises KeyboardInterrupt.

        For the main thread only. Yields the list of the signals received.
        """
        received: list[int] = []

        def handle(number: int, frame: object) -> None:
            received.append(number)
            if len(received) > 2:
                raise KeyboardInterrupt
            self.stop()

        before = signal.signal(signal.SIGINT, handle)
        try:
            yield received
        finally:
            signal.signal(signal.SIGINT, before)

    def close(self) -> None:
        """Close the policy and the verifier, which frees their memory; the solver cannot be used afterwards."""
        self.policy.close()
        if self.verifier is not None:
            self.verifier.close()


def _allocation(total: Budget) -> Allocation:
    try:
        return Allocation(total)
    except ValueError as error:
        raise UsageError(str(error)) from None


def task(
    problem: Problem,
    strategy: Strategy,
    budget: Budget = DEFAULT_BUDGET,
    seed: int = 0,
    on_change: OnChange | None = None,
    facts: Mapping[str, Any] | None = None,
    graph: SearchGraph | None = None,
) -> Task:
    """One search for `Solver.run`; its graph's ``info`` says what was asked for, and `facts` besides.

    With a `graph`, of a search that is over, that one goes on.
    """
    info = {"strategy": describe_strategy(strategy), **(facts or {})}
    return Task(problem, strategy.search, budget, seed, strategy.vote, info, on_change, chooser(strategy), graph)


def chooser(first: Strategy) -> Callable[[str | None, Budget], Chosen]:
    """What a search goes on with: the strategy that it began with, or another by name and knobs, sized for a budget.

    Another one votes and samples as the first does, unless it counts answers as majority voting does.
    """

    def choose(spec: str | None, budget: Budget) -> Chosen:
        temperature = getattr(first, "temperature", 1.0)
        if spec is None:
            strategy = resized(first, budget)
        else:
            strategy = make_strategy(parse_component(spec), budget, first.vote, temperature)
        knobs = describe_strategy(strategy)
        return Chosen(strategy.search, strategy.vote, strategy.traits, knobs, getattr(strategy, "temperature", 1.0))

    return choose


def graph_writer(path: Path) -> Callable[[SearchGraph], None]:
    """What saves a graph under a file name; a wrong name is refused before the search rather than after it.

    Raises:
        UsageError: for another suffix than .json or .graphml, or when there is no such folder.
    """
    if path.suffix not in (".json", ".graphml"):
        raise UsageError(f"cannot save a graph as {path.name!r}; the name must end in .json (loads again) or .graphml")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {str(path.parent)!r}")
    return lambda graph: graph.save(path)
