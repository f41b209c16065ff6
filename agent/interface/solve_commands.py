"""``stepwell`` (the session) and ``stepwell solve``."""

from __future__ import annotations

import argparse
from pathlib import Path

from agent.interface.common import make_console, quiet, recipe_of

# -------------------------------------------------------------------------------------------------------- commands


def run_repl(arguments: argparse.Namespace) -> int:
    """No command: the session."""
    from agent.interface.session.loop import run_repl

    quiet()
    return run_repl(recipe_of(arguments))


def run_solve(arguments: argparse.Namespace) -> int:
    """Solve one question. Ctrl-C stops the search, and its best answer so far is what is printed."""
    import contextlib

    from agent.build import check_parts, environment_of
    from agent.interface.control.server import ControlServer
    from agent.interface.terminal.live_tree import LiveTree
    from agent.interface.text import json_text, unicode_of, visible
    from agent.interface.tree_view import search_tree, solution_view
    from agent.solver import Solver, graph_writer

    quiet()
    recipe = recipe_of(arguments)
    write = graph_writer(Path(arguments.graph)) if arguments.graph else None
    console, errors = make_console(), make_console(stderr=True)
    watched = errors.is_interactive and not arguments.json
    models = visible(f"{recipe.policy.name} and {recipe.verifier.name}")
    with errors.status(f"loading {models}") if watched else contextlib.nullcontext():
        strategy = check_parts(recipe)  # what can be refused is refused before anything is loaded
        environment = environment_of(recipe)
        problem = environment.read(arguments.question)
        solver = Solver.from_recipe(recipe, environment)
    drawing = LiveTree(errors, "Ctrl-C ends the search with its best answer") if watched else None
    control = ControlServer(solver.engine.surface, "solve")
    with control, solver.interruptible() as interrupted, drawing or contextlib.nullcontext():
        solution = solver.solve(problem, strategy, recipe.budget, recipe.seed, drawing)
    if write:
        write(solution.graph)
    if arguments.json:
        print(json_text(solution.to_json()))
    else:
        unicode = unicode_of(console)
        console.print(visible(solution.problem.question), style="bold", soft_wrap=True)
        if arguments.tree:
            view = search_tree(solution.graph, len(solution.graph), console.width, unicode, correct=solution.correct)
            console.print(view)
        console.print(solution_view(solution, unicode))
    return 130 if interrupted else 0 if solution.answer is not None else 1
