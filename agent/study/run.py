"""Run a study: searches of all cells, in one process or many, each written as soon as it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.build import NO_VERIFIER, environment_of, strategy_of
from agent.recipes.recipe import Recipe, parse_budget
from agent.search.control.commands import CANCELLED
from agent.search.engine import STOPPED
from agent.search.graph import SearchGraph
from agent.solver import Solver, task
from agent.study.progress import Progress, Tracker
from agent.study.results_db import StudyFile
from agent.study.rows import Place, Result, result_of
from agent.study.storage.model_digests import model_digests, with_options
from agent.study.study import Study, check_cells
from envs.core import Environment, Problem
from envs.messages import UsageError


def study_problems(study: Study, path: Path | None = None) -> dict[str, tuple[Environment, Sequence[Problem]]]:
    """The environments of a study, by label, with the problems that are drawn from each.

    Args:
        study: says how many, and which.
        path: of the file of results. If its study had fewer problems, they are among those that are drawn now.

    Raises:
        UsageError: when an environment has not so many.
    """
    drawn: dict[str, tuple[Environment, Sequence[Problem]]] = {}
    draws = _draws(study, path)
    for cell in study.cells:
        label = cell.environment.label
        if label not in drawn:
            environment = environment_of(study.recipe(cell))
            chosen: dict[str, Problem] = {}
            try:
                for n in draws:  # 70 problems need not hold the 60 of another draw
                    for problem in environment.problems(study.split, n, study.problem_seed):
                        if len(chosen) < n:
                            chosen.setdefault(problem.id, problem)
            except ValueError as error:
                raise UsageError(f"environment {label}: {error}") from None
            drawn[label] = environment, list(chosen.values())
    return drawn


def _draws(study: Study, path: Path | None) -> list[int]:
    """How many problems to draw, one draw after the other: those of the file first."""
    if path is None or not path.is_file():
        return [study.n]
    try:
        with StudyFile(path) as file:
            config = file.config
    except UsageError:  # opened for writing, it says the same
        return [study.n]
    before = config.get("draws", [config.get("n")])
    return [*(n for n in before if isinstance(n, int) and 0 < n < study.n), study.n]


# ---------------------------------------------------------------------------------------------------------- running


def shared_models(study: Study) -> Iterator[tuple[Recipe, list[int]]]:
    """The cells, by number, that one engine can run: a recipe that names the models, and those that use no others.

    Cells without a verifier join the first that have one with the same policy.
    """
    groups: dict[tuple[str, str], dict[str, list[int]]] = {}
    cells = study.cells
    for number, cell in enumerate(cells):
        by_verifier = groups.setdefault((cell.environment.label, cell.policy.label), {})
        by_verifier.setdefault(cell.verifier.label, []).append(number)
    for by_verifier in groups.values():
        if NO_VERIFIER in by_verifier and len(by_verifier) > 1:
            free = by_verifier.pop(NO_VERIFIER)
            first = next(iter(by_verifier))
            by_verifier[first] = sorted(free + by_verifier[first])
        for label, numbers in by_verifier.items():
            named = next(number for number in numbers if cells[number].verifier.label == label)
            yield study.recipe(cells[named]), numbers


def search_all(
    study: Study,
    solver: Solver,
    wanted: Sequence[tuple[Place, Problem]],
    concurrency: int,
    watch: Callable[[int], Callable[[SearchGraph], None] | None] = lambda cell: None,
) -> Iterator[tuple[Result, str]]:
    """Run searches of many cells in one engine; yields each result with the scope of its search.

    A search that was stopped with all others, or cancelled, yields nothing: it has no result. Where problems share a
    budget, `wanted` is one cell.
    """
    cells = study.cells
    recipes = [study.recipe(cell) for cell in cells]
    strategies, allocation = [strategy_of(recipe) for recipe in recipes], None
    for number in {place.cell for place, _ in wanted}:
        solver.check(strategies[number])
    if study.total_budget is not None:
        cell = wanted[0][0].cell
        allocation, strategies[cell] = solver.share(parse_budget(str(study.total_budget)), strategies[cell])

    def tasks() -> Iterator[Any]:
        for place, problem in wanted:
            recipe, cell = recipes[place.cell], place.cell
            facts: dict[str, Any] = {"place": [place.cell, place.problem]}
            if recipe.verifier.name == NO_VERIFIER:
                facts["verifier"] = None
            yield task(problem, strategies[cell], recipe.budget, recipe.seed, watch(cell), facts)

    for solution in solver.run(tasks(), concurrency, allocation):
        if solution.graph.info["stopped"] not in (STOPPED, CANCELLED):
            place = Place(*solution.graph.info.pop("place"))
            yield result_of(place, solution, study.graphs), solution.graph.scope


Problems = Mapping[str, tuple[Environment, Sequence[Problem]]]  # of `study_problems`


def track(study: Study, file: StudyFile, problems: Problems, tell: Callable[[Progress], None]) -> Tracker:
    """A tracker that knows what the file has."""
    return Tracker(
        [cell.budget for cell in study.cells],
        [len(problems[cell.environment.label][1]) for cell in study.cells],
        [(place.cell, right, failed) for place, (right, failed) in file.done().items()],
        tell,
    )


def by_cell(wanted: Iterable[tuple[Place, Problem]]) -> list[list[tuple[Place, Problem]]]:
    """The same, cell by cell: where problems share a budget, what is searched and written together."""
    cells: dict[int, list[tuple[Place, Problem]]] = {}
    for place, problem in wanted:
        cells.setdefault(place.cell, []).append((place, problem))
    return list(cells.values())


def lacking(study: Study, file: StudyFile, problems: Problems) -> Iterator[tuple[Recipe, list[tuple[Place, Problem]]]]:
    """What a file lacks, by the models that it needs (`shared_models`)."""
    numbers, done = file.problem_numbers(), file.done()
    for recipe, cells in shared_models(study):
        label = recipe.environment.label
        places = [
            (Place(cell, numbers[label, problem.id]), problem) for cell in cells for problem in problems[label][1]
        ]
        if wanted := [(place, problem) for place, problem in places if place not in done]:
            yield recipe, wanted


def run_study(
    study: Study,
    file: StudyFile,
    problems: Problems,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    concurrency: int = 64,
    on_solver: Callable[[Solver], None] = lambda solver: None,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Run what a file of results lacks, and write it.

    A search that fails is recorded with its error and counts as wrong. When the solver is stopped, what has finished
    is in the file and the searches that were open are not. The problems of a cell that share a total budget are one
    piece of work: they go into the file together, when the last is over, or not at all.

    Args:
        study: what to measure.
        file: opened for writing for the same study.
        problems: of `study_problems`.
        on_progress: called a few times a second, in this thread.
        concurrency: searches open at once.
        on_solver: called with the solver at work, so that it can be stopped.
        stopped: whether to end.
    """
    if study.total_budget is not None:
        file.forget_cut_cells()
    tracker = track(study, file, problems, on_progress)
    for recipe, wanted in lacking(study, file, problems):
        if stopped():
            return
        solver = Solver.from_recipe(recipe, problems[recipe.environment.label][0])
        on_solver(solver)
        parts = [wanted] if study.total_budget is None else by_cell(wanted)
        try:
            file.note_model(recipe.policy.label, with_options(recipe.policy, solver.engine.digest("policy")))
            for part in parts:
                results: list[Result] = []
                for result, scope in search_all(study, solver, part, concurrency, tracker.watch):
                    results.append(result)
                    if study.total_budget is None or len(results) == len(part):
                        file.write(*results)
                        results.clear()
                    tracker.finish(result, scope)
                    if stopped():
                        return
        finally:
            solver.close()


def measure(study: Study, path: Path, concurrency: int = 64, regrade: bool = False) -> None:
    """Run a study, or what its file of results lacks; `agent.study.results_db.StudyFile` then reads the file.

    Args:
        study: what to measure.
        path: of the file of results.
        concurrency: searches open at once.
        regrade: judge what the file has by the gold answers as they are now, where they were others.

    Raises:
        UsageError: when the file belongs to another study, a part cannot be loaded, or does not go with the others.
    """
    check_cells(study)
    problems = study_problems(study, path)
    with open_study(study, path, problems, regrade) as file:
        run_study(study, file, problems, concurrency=concurrency)


def open_study(study: Study, path: Path, problems: Problems, regrade: bool = False) -> StudyFile:
    """The file of a study, for writing (`StudyFile.for_writing`); it lacks what failed as a model was out of reach.

    The file knows the models by digests of all their files, a hub's commit or a server's name for them; one that an
    older version wrote knows the digests of the weights alone, and these are compared.
    """
    models = model_digests(study, {label: environment for label, (environment, _) in problems.items()})
    config = study.to_config() | ({"models": models} if models else {})
    file = StudyFile.for_writing(path, config, [cell.labels() for cell in study.cells], problems, regrade)
    file.forget_unavailable()
    return file
