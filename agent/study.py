"""Studies: policies x verifiers x environments x strategies x budgets x seeds, run through the engine into one file.

A study is a YAML file (`Study`, read by `load_study`), its results are a SQLite file (`agent.store.StudyFile`).
`run_study` runs what the file lacks, so that a run that was killed goes on and ends with the same results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from agent.budget import Budget
from agent.graph import SearchGraph
from agent.parts import NO_VERIFIER, counts_only, environment_of, make_strategy, strategy_of, weights_digest
from agent.plans import calibration_of, plan_name
from agent.progress import Progress, Tracker
from agent.recipe import (
    Component,
    Recipe,
    RecipeError,
    choose,
    fingerprint,
    load_dataclass,
    override,
    parse_budget,
    read_config,
)
from agent.recipe import write_budget as budget_text
from agent.solver import Solver, task
from agent.store import Place, Result, StudyFile, result_of
from agent.strategies import Greedy
from envs.core import Environment, Problem, Split
from verifiers.voting import Vote

AXES = ("environment", "policy", "verifier", "strategy", "budget", "seed")


@dataclass(frozen=True)
class Cell:
    """One combination that is measured."""

    environment: Component
    policy: Component
    verifier: Component
    strategy: Component
    budget: str
    seed: int

    def labels(self) -> dict[str, Any]:
        """What it is on each axis, JSON-ready, in the order of `AXES`."""
        parts = (self.environment, self.policy, self.verifier, self.strategy)
        return dict(zip(AXES, (*(part.label for part in parts), self.budget, self.seed), strict=True))


@dataclass(frozen=True)
class Study:
    """What ``configs/studies/*.yaml`` may say. The cells are the product of the six axes, less what the rules drop.

    Args:
        environments, policies, verifiers: names, or mappings with a name and options.
        strategies: names, or mappings with a name and knobs.
        budgets: samples per problem, or texts such as ``samples=16,flops=1e12``.
        seeds: of the samples.
        only: rules, of which a cell must meet one (if there are any). A rule is a mapping from an axis in the singular
            (``policy``, ``strategy``...) to a value or a list of them; a name stands for all its options. This says
            which environment goes with which models.
        exclude: rules, none of which a cell may meet.
        split, n, problem_seed: which problems, of every environment.
        vote: how answers are chosen, in strategies that use scores. Other votes are counted from the results.
        temperature: of the samples.
        graphs: whether the whole search graphs are kept; the candidates with their scores always are.
        total_budget: that all problems of a cell share, in samples or FLOPs, as a text such as ``flops=1e12``; the
            cell's own budget is then the most that one problem gets. For strategy ``auto`` alone.
    """

    environments: tuple[Component, ...]
    policies: tuple[Component, ...]
    strategies: tuple[Component, ...]
    budgets: tuple[int | float | str, ...]
    verifiers: tuple[Component, ...] = (Component(NO_VERIFIER),)
    seeds: tuple[int, ...] = (0,)
    only: tuple[Mapping[str, Any], ...] = ()
    exclude: tuple[Mapping[str, Any], ...] = ()
    split: Split = "test"
    n: int = 100
    problem_seed: int = 0
    vote: Vote = field(default_factory=Vote)
    temperature: float = 1.0
    graphs: bool = True
    total_budget: int | float | str | None = None

    def __post_init__(self) -> None:
        """Refuse a study without cells, problems or temperature, and rules that match nothing."""
        if self.n < 1 or self.temperature < 0:
            raise RecipeError(f"n is {self.n}, temperature {self.temperature:g}; at least 1 and 0 are needed")
        if self.total_budget is not None:
            parse_budget(str(self.total_budget))
        for strategy in self.strategies:
            make_strategy(strategy, Budget(samples=1), self.vote, self.temperature)
        for rule in (*self.only, *self.exclude):
            self._check_rule(rule)
        if not self.cells:
            raise RecipeError("no cell is left: every combination is excluded or asks for scores without a verifier")

    @property
    def axes(self) -> dict[str, Sequence[Any]]:
        """The values on each axis, budgets in their shortest form."""
        budgets = [budget_text(parse_budget(str(budget))) for budget in self.budgets]
        values = (self.environments, self.policies, self.verifiers, self.strategies, budgets, self.seeds)
        return dict(zip(AXES, values, strict=True))

    @property
    def cells(self) -> list[Cell]:
        """Every combination once, in the order given, seeds varying fastest.

        What a strategy does not depend on is no axis of its own: one that asks for no scores runs without a verifier,
        greedy decoding at a budget of 1 and the first seed. One that asks for scores does not run without a verifier.
        """
        made: dict[tuple[Any, ...], Cell] = {}
        for combination in product(*self.axes.values()):
            cell = Cell(*combination)
            met = [_matches(rule, cell) for rule in self.only]
            if (met and not any(met)) or any(_matches(rule, cell) for rule in self.exclude):
                continue
            strategy = make_strategy(cell.strategy, parse_budget(cell.budget), self.vote, self.temperature)
            verifier, budget, seed = cell.verifier, cell.budget, cell.seed
            if counts_only(strategy):
                verifier = Component(NO_VERIFIER)
            elif verifier.name == NO_VERIFIER:
                continue
            if isinstance(strategy, Greedy):
                budget, seed = "1", self.seeds[0]
            cell = Cell(cell.environment, cell.policy, verifier, cell.strategy, budget, seed)
            made.setdefault(tuple(cell.labels().values()), cell)
        return list(made.values())

    def _check_rule(self, rule: Mapping[str, Any]) -> None:
        axes = self.axes
        for key, wanted in rule.items():
            axis = choose(key, AXES, "axis")
            known = dict.fromkeys(name for value in axes[axis] for name in _names(value))
            for each in _values(wanted):
                choose(each, known, f"{axis} in a rule")

    def recipe(self, cell: Cell) -> Recipe:
        """A cell as a recipe."""
        return Recipe(
            cell.environment,
            cell.policy,
            cell.verifier,
            cell.strategy,
            parse_budget(cell.budget),
            self.vote,
            self.temperature,
            cell.seed,
        )

    def to_config(self) -> dict[str, Any]:
        """Everything that results depend on, JSON-ready: the keys of the YAML file, digests of weights and plans."""
        config: dict[str, Any] = {
            key: [each.to_config() for each in getattr(self, key)]
            for key in ("environments", "policies", "verifiers", "strategies")
        }
        config["budgets"] = self.axes["budget"]
        for key in ("seeds", "only", "exclude"):
            config[key] = list(getattr(self, key))
        for key in ("split", "n", "problem_seed", "temperature", "graphs"):
            config[key] = getattr(self, key)
        config["vote"], weights, plans = asdict(self.vote), {}, {}
        for cell in self.cells:
            recipe = self.recipe(cell)
            for kind, digest in weights_digest(recipe).items():
                weights[getattr(recipe, kind).label] = digest
            if cell.strategy.name == "auto":
                names = recipe.environment.name, Path(recipe.policy.name).name, Path(recipe.verifier.name).name
                try:
                    plans[plan_name(*names)] = fingerprint(asdict(calibration_of(*names)))
                except ValueError as error:
                    raise RecipeError(str(error)) from None
        if self.total_budget is not None:
            config["total_budget"] = self.total_budget
        return config | {"weights": weights} | ({"plans": plans} if plans else {})


def _names(value: object) -> tuple[str, ...]:
    """What a rule may call a value of an axis."""
    return (value.name, value.label) if isinstance(value, Component) else (str(value),)


def _values(wanted: object) -> list[str]:
    """The values that a rule lists for an axis."""
    listed = wanted if isinstance(wanted, list | tuple) else [wanted]
    return [Component.from_config(each, "a rule").label if isinstance(each, Mapping) else str(each) for each in listed]


def _matches(rule: Mapping[str, Any], cell: Cell) -> bool:
    return all(set(_names(getattr(cell, axis))) & set(_values(wanted)) for axis, wanted in rule.items())


def load_study(name: str, assignments: Iterable[str] = ()) -> Study:
    """Read a study by name (``configs/studies/NAME.yaml``) or path, with overrides.

    Raises:
        RecipeError: when it cannot be read, or a key, a name, a knob or a rule is wrong.
    """
    mapping, where = read_config(name, "studies")
    study = load_dataclass(Study, override(mapping, assignments), where)
    for cell in study.cells:  # a wrong knob is better refused now than after an hour
        strategy_of(study.recipe(cell))
    return study


def study_problems(study: Study) -> dict[str, tuple[Environment, Sequence[Problem]]]:
    """The environments of a study, by label, with the problems that are drawn from each.

    Raises:
        RecipeError: when an environment has not so many.
    """
    drawn = {}
    for cell in study.cells:
        label = cell.environment.label
        if label not in drawn:
            environment = environment_of(study.recipe(cell))
            try:
                drawn[label] = environment, environment.problems(study.split, study.n, study.problem_seed)
            except ValueError as error:
                raise RecipeError(f"environment {label}: {error}") from None
    return drawn


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
    wanted: Iterable[tuple[Place, Problem]],
    concurrency: int,
    watch: Callable[[int], Callable[[SearchGraph], None] | None] = lambda cell: None,
) -> Iterator[tuple[Result, str]]:
    """Run searches of many cells in one engine; yields each result with the scope of its search.

    A search that was stopped yields nothing: it has no result. Where problems share a budget, `wanted` is one cell.
    """
    cells = study.cells
    recipes = [study.recipe(cell) for cell in cells]
    strategies, allocation = [strategy_of(recipe) for recipe in recipes], None
    if study.total_budget is not None:
        wanted = list(wanted)
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
        if solution.graph.info["stopped"] != "stopped":
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


def measure(study: Study, path: Path, concurrency: int = 64) -> None:
    """Run a study, or what its file of results lacks; `agent.store.StudyFile` then reads the file.

    Raises:
        RecipeError: when the file belongs to another study, or a part cannot be loaded.
    """
    problems = study_problems(study)
    with open_study(study, path, problems) as file:
        run_study(study, file, problems, concurrency=concurrency)


def open_study(study: Study, path: Path, problems: Problems) -> StudyFile:
    """The file of a study, for writing (`StudyFile.for_writing`); it lacks what failed as a model was out of reach."""
    file = StudyFile.for_writing(path, study.to_config(), [cell.labels() for cell in study.cells], problems)
    file.forget_errors(unavailable_only=True)
    return file
