"""Several strategies on one question at equal cost, side by side."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agent.build import strategy_of
from agent.interface.session.command import Command
from agent.interface.session.search_run import SearchRun
from agent.interface.text import brief, duration, quantity, unicode_of, visible
from agent.interface.tree_view import search_tree
from agent.recipes.files import is_setting, split_words, unquoted
from agent.recipes.recipe import parse_budget, parse_component
from agent.search.solution import Solution
from agent.solver import task
from envs.messages import UsageError

if TYPE_CHECKING:
    from agent.interface.session.session import Session

_NARROW = 38  # columns that a tree needs beside another
_MOST = 8  # strategies


def compare(session: Session, text: str) -> None:
    """Run strategies on the last question, each for the same budget, and show answers, costs and trees."""
    session.refuse_in_pause("strategies cannot be compared")
    names, budget = _read(text)
    problem, recipe, solver = session.last().problem, session.recipe, session.solver
    limits = parse_budget(budget) if budget else recipe.budget
    recipes = [replace(recipe, strategy=parse_component(name), budget=limits) for name in names]
    strategies = [strategy_of(each) for each in recipes]
    tasks = [task(problem, each, limits, recipe.seed, facts={"compared": i}) for i, each in enumerate(strategies)]
    run = SearchRun(solver, *tasks)
    begun = time.monotonic()
    waiting = session.console.status(f"{len(names)} strategies search; Ctrl-C ends them with their best answers")
    with waiting if session.console.is_interactive else contextlib.nullcontext():
        if not run.watch():
            _end(session, run)
    if run.failure is not None:
        raise run.failure
    solutions = sorted(run.solutions, key=lambda solution: solution.graph.info.pop("compared"))
    for solution in solutions:
        session.keep(solution)
    session.console.print(compared_view(names, solutions, session.console.width, unicode_of(session.console)))
    session.say(Text(f"{duration(time.monotonic() - begun)} in all; /history opens each of them", style="dim"))


def _end(session: Session, run: SearchRun) -> None:
    try:
        run.end()
    except KeyboardInterrupt:
        session.abandon()
        raise


def _read(text: str) -> tuple[list[str], str]:
    """Strategies and a budget; knobs follow the strategy that they belong to."""
    words = split_words(text)
    budget = ""
    if "--budget" in words:
        at = words.index("--budget")
        budget = " ".join(words[at + 1 :])
        words = words[:at]
        if not budget:
            raise UsageError("/compare: expected a budget after --budget, e.g. --budget 16")
    names: list[str] = []
    for word in words:
        if is_setting(word) and names:
            names[-1] += f" {word}"
        else:
            names.append(unquoted(word))
    if len(names) < 2 or len(names) > _MOST:
        raise UsageError(
            f"/compare: expected 2 to {_MOST} strategies, e.g. /compare beam dvts branch=2 auto --budget 16"
        )
    return names, budget


def compared_view(names: list[str], solutions: list[Solution], width: int, unicode: bool = True) -> RenderableType:
    """A table of answers and costs, then the trees, side by side where there is room."""
    table = Table.grid(padding=(0, 2))
    heads = ("strategy", "answer", "vote", "samples", "FLOPs", "time", "nodes")
    for head in heads:
        table.add_column(justify="left" if head in ("strategy", "answer") else "right")
    table.add_row(*(Text(head, style="dim") for head in heads))
    for name, solution in zip(names, solutions, strict=True):
        spent = solution.spent
        table.add_row(
            name,
            _answer(solution, unicode),
            f"{solution.confidence:.0%}" if solution.answer is not None else "",
            f"{spent['samples']:.1f}",
            quantity(spent["flops"]),
            duration(spent["seconds"]),
            str(len(solution.graph)),
        )
    across = max(1, min(len(names), width // _NARROW))
    room = width // across - 2
    trees: list[RenderableType] = []
    for name, solution in zip(names, solutions, strict=True):
        tree = search_tree(solution.graph, 10, room, unicode, correct=solution.correct)
        trees.append(Group(Text(name, style="bold"), tree, Text("")))
    beside = Columns(trees, width=room, padding=(0, 2)) if across > 1 else Group(*trees)
    return Group(table, Text(""), beside)


def _answer(solution: Solution, unicode: bool) -> Text:
    if solution.error is not None:
        return Text(f"failed: {brief(visible(solution.error), 60)}", style="red")
    if solution.answer is None:
        return Text("none", style="yellow")
    text = Text(brief(visible(solution.answer), 40), style="bold")
    if solution.correct is not None:
        right, wrong = (" ✓", " ✗") if unicode else (" right", " wrong")
        text.append(*((right, "green") if solution.correct else (wrong, "red")))
    return text


COMPARING = {
    "/compare": Command(compare, "STRATEGY ... [--budget N]", "strategies on the last question, at equal cost"),
}
"""The command that compares."""
