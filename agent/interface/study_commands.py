"""``stepwell eval``, ``study``, ``report`` and ``export``."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.study.results_db import StudyFile
    from agent.study.study import Study

from agent.interface.common import make_console, quiet, recipe_of


def run_eval(arguments: argparse.Namespace) -> int:
    """Measure: a study of one recipe under several strategies and budgets."""
    from policies.training.jsonl_log import fingerprint

    quiet()
    study = _evaluation(arguments)
    name = f"eval-{study.environments[0].name}-{fingerprint(study.to_config())}"
    return _conduct(study, Path(arguments.out or f"runs/{name}.sqlite"), arguments)


def run_study(arguments: argparse.Namespace) -> int:
    """Run a study, or what its file lacks; with ``--table`` only show the file."""
    from agent.study.study import load_study
    from policies.training.jsonl_log import fingerprint

    quiet()
    study = load_study(arguments.study, arguments.set, arguments.trust)
    name = f"study-{Path(arguments.study).stem}-{fingerprint(study.to_config())}"
    out = Path(arguments.out or f"runs/{name}.sqlite")
    if arguments.table:
        _show(out, arguments)
        return 0
    if arguments.dry_run:
        from agent.interface.dry_run_view import show_dry_run

        show_dry_run(study, out, arguments.concurrency, arguments.json, make_console())
        return 0
    return _conduct(study, out, arguments)


def run_report(arguments: argparse.Namespace) -> int:
    """Show what a file of results says, or write a page of it, or of searches."""
    from agent.interface.report_command import ReportOptions, check_files, draw, show, write_page

    quiet()
    paths, asked = list(map(Path, arguments.file)), vars(arguments)
    options = ReportOptions(**{field.name: asked[field.name] for field in fields(ReportOptions)})
    check_files(paths, options)
    with _reading(paths[0]):
        if options.html is not None:
            write_page(paths, options, arguments.trust)
        else:
            show(paths[0], options, make_console())
        if arguments.plots:
            draw(paths[0], arguments.plots)
    return 0


@contextlib.contextmanager
def _reading(*paths: Path) -> Iterator[None]:
    """Name the files in the error when what they hold cannot be read: it is damaged, or nothing that we wrote.

    Whatever reading raises counts as that; what a reader of results does beside reading can hardly fail.
    """
    from agent.interface.text import message
    from envs.messages import UsageError

    try:
        yield
    except (UsageError, OSError):
        raise
    except Exception as error:
        names = ", ".join(map(str, paths))
        raise UsageError(f"{names} cannot be read; it is damaged, or of another version: {message(error)}") from error


def run_export(arguments: argparse.Namespace) -> int:
    """Write what a study found in the format of another tool."""
    from agent.study.export import EXPORTS
    from agent.study.results_db import StudyFile
    from envs.messages import UsageError
    from envs.options import choose

    quiet()
    kind = choose(arguments.to, EXPORTS, "format")
    with _reading(*map(Path, arguments.file)), contextlib.ExitStack() as open_files:
        files = [open_files.enter_context(StudyFile(path, trust=arguments.trust)) for path in arguments.file]
        if kind.startswith("trl") and (split := files[0].config["split"]) != "train":
            print(f"note: these are problems of the {split} split; what is trained on them cannot be measured on them",
                  file=sys.stderr)  # fmt: skip
        try:
            count = EXPORTS[kind](files, arguments.out, arguments.most)
        except ImportError as error:
            raise UsageError(str(error)) from None
    print(f"{arguments.out}: {count}")
    return 0


def _conduct(study: Study, out: Path, arguments: argparse.Namespace) -> int:
    """Run a study and show its table; what has finished is in the file whatever happens, and the same command goes on.

    Ctrl-C ends it after the searches that are over; the third one raises.
    """
    import signal
    from functools import partial

    from agent.interface.control.server import ControlServer
    from agent.interface.study_view import ProgressLine
    from agent.interface.text import MESSAGE, brief, visible
    from agent.search.control.handle import Surface
    from agent.solver import Solver
    from agent.study.run import open_study, run_study, study_problems

    errors = make_console(stderr=True)
    problems = study_problems(study, out)
    interrupts: list[int] = []
    solvers: list[Solver] = []
    surface = Surface()

    def begin(solver: Solver) -> None:
        solver.engine.surface = surface
        solvers.append(solver)

    def interrupt(number: int, frame: object) -> None:
        interrupts.append(number)
        if len(interrupts) > 2:
            raise KeyboardInterrupt
        for solver in solvers[-1:]:
            solver.stop()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with open_study(study, out, problems, arguments.regrade) as file:
            if arguments.retry_errors and (failed := file.forget_errors()):
                errors.print(f"running again what failed: {failed} of {file.total()} results", style="dim")
            done, total = len(file.done()), file.total()
            if 0 < done < total:
                errors.print(f"going on from {done} of {total} results in {out}", style="dim", soft_wrap=True)
            if done < total:
                control = ControlServer(surface, arguments.command, str(out))
                with control, ProgressLine(errors) as line:
                    run = partial(run_study, on_solver=begin)
                    if getattr(arguments, "ray", None):
                        run = partial(_ray_runner(), address=arguments.ray, workers=arguments.workers)
                    run(
                        study,
                        file,
                        problems,
                        on_progress=line,
                        concurrency=arguments.concurrency,
                        stopped=lambda: bool(interrupts),
                    )
            done, unavailable, failure = len(file.done()), file.unavailable(), _failures(file)
            steered = file.steered()
    finally:
        signal.signal(signal.SIGINT, before)
    _show(out, arguments)
    if steered:
        message = f"{steered} of {total} searches were steered by a person: what they found is not the strategy's alone"
        errors.print(message, style="yellow", soft_wrap=True)
    if interrupts:
        errors.print(f"interrupted after {done} of {total}; the same command goes on", style="yellow")
        return 130
    if unavailable:
        count, error = unavailable
        message = f"{count} of {total} failed, as a model could not be reached; the same command tries again"
        errors.print(f"{message}\n{brief(visible(error), MESSAGE)}", style="yellow", soft_wrap=True)
        return 1
    if failure:
        count, error = failure
        message = f"{count} of {total} searches failed and count as wrong; --retry-errors runs them again"
        errors.print(f"{message}\n{brief(visible(error), MESSAGE)}", style="yellow", soft_wrap=True)
        return 1
    return 0


def _failures(file: StudyFile) -> tuple[int, str] | None:
    """How many searches failed, and the error of one; None when none did."""
    count, error = file.rows("SELECT count(*), min(error) FROM results WHERE error IS NOT NULL")[0]
    return (count, error) if count else None


def _ray_runner() -> Callable[..., None]:
    """What runs a study on a cluster, if ray is installed."""
    from envs.messages import UsageError, require

    try:
        require("ray", "ray")
    except ImportError as error:
        raise UsageError(str(error)) from None
    from agent.study.ray_cluster import run_on_ray

    return run_on_ray


def _show(path: Path, arguments: argparse.Namespace) -> None:
    """The table of a file of results."""
    from agent.interface.report_command import ReportOptions, show

    with _reading(path):
        show(path, ReportOptions(json=arguments.json), make_console())


def _evaluation(arguments: argparse.Namespace) -> Study:
    from dataclasses import replace
    from itertools import product

    from agent.build import check_parts
    from agent.recipes.recipe import parse_budget, parse_component, write_budget
    from agent.study.study import Study
    from envs.core import SPLITS
    from envs.messages import UsageError
    from envs.options import choose

    strategies, budgets = arguments.strategy or [], arguments.budget or []
    if len(strategies) == 1:
        arguments.strategy = strategies[0]
    elif strategies and any(text.startswith("strategy.") for text in arguments.set):
        raise UsageError(
            "--set strategy.KNOB fits one strategy; give knobs with theirs: --strategy 'beam branch=2' mcts"
        )
    recipe = recipe_of(arguments)
    chosen = tuple(map(parse_component, strategies)) if len(strategies) > 1 else (recipe.strategy,)
    limits = tuple(budgets) or (write_budget(recipe.budget),)
    for strategy, budget in product(chosen, limits):  # a wrong knob is better refused now than after an hour
        check_parts(replace(recipe, strategy=strategy, budget=parse_budget(budget)))
    return Study(
        (recipe.environment,),
        (recipe.policy,),
        chosen,
        limits,
        verifiers=(recipe.verifier,),
        seeds=(recipe.seed,),
        split=choose(arguments.split, SPLITS, "split"),
        n=arguments.n,
        problem_seed=arguments.problem_seed,
        vote=recipe.vote,
        temperature=recipe.temperature,
        total_budget=arguments.total_budget,
    )
