"""Stepwell: the decision and the search. Strategies, engine, planner, solver, and the doors for people."""

import runpy
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

# If one of our packages is not ours, say so plainly.
runpy.run_path(str(Path(__file__).parents[1] / "envs" / "import_guard.py"))

if TYPE_CHECKING:
    from agent.conformance import check_strategy
    from agent.planning.plan_file import Calibration
    from agent.planning.planner import METHODS, Planner
    from agent.registry import list_strategies, load_strategy
    from agent.search.budget import Budget, Meter
    from agent.search.context import Outcome, RunContext
    from agent.search.control.events import EventLog
    from agent.search.control.handle import SearchHandle, SearchOver, Surface
    from agent.search.engine import Engine, Task
    from agent.search.graph import SearchGraph
    from agent.search.requests import Request, Search, propose, score
    from agent.search.solution import Solution
    from agent.solver import Solver, SolverError
    from agent.strategies import (
        STRATEGIES,
        Beam,
        BestOfN,
        Dvts,
        Greedy,
        Lookahead,
        Majority,
        Mcts,
        Revision,
        Strategy,
        Traits,
    )
    from agent.study.results_db import StudyFile
    from agent.study.run import measure
    from agent.study.study import Study, load_study

__all__ = [
    "METHODS",
    "STRATEGIES",
    "Beam",
    "BestOfN",
    "Budget",
    "Calibration",
    "Dvts",
    "Engine",
    "EventLog",
    "Greedy",
    "Lookahead",
    "Majority",
    "Mcts",
    "Meter",
    "Outcome",
    "Planner",
    "Request",
    "Revision",
    "RunContext",
    "Search",
    "SearchGraph",
    "SearchHandle",
    "SearchOver",
    "Solution",
    "Solver",
    "SolverError",
    "Strategy",
    "Study",
    "StudyFile",
    "Surface",
    "Task",
    "Traits",
    "check_strategy",
    "list_strategies",
    "load_strategy",
    "load_study",
    "measure",
    "propose",
    "score",
]

_HOMES = (
    "search.budget",
    "search.context",
    "search.requests",
    "search.graph",
    "search.control.events",
    "search.control.handle",
    "search.engine",
    "search.solution",
    "strategies",
    "planning.plan_file",
    "planning.planner",
    "registry",
    "conformance",
    "solver",
    "study.results_db",
    "study.study",
    "study.run",
)


def __getattr__(name: str) -> Any:
    """Import a listed name when it is first asked for: the command line starts without any of them."""
    if name in __all__:
        for home in _HOMES:
            module = import_module(f"agent.{home}")
            if hasattr(module, name):
                globals()[name] = getattr(module, name)
                return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
