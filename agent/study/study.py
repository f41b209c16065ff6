"""Studies: policies x verifiers x environments x strategies x budgets x seeds, run through the engine into one file.

A study is a YAML file (`Study`, read by `load_study`), its results are a SQLite file
(`agent.study.results_db.StudyFile`). `run_study` runs what the file lacks, so that a run that was killed goes on and
ends with the same results.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from agent.build import NO_VERIFIER, check_part, make_strategy, strategy_of, weights_digest
from agent.planning.plan_file import calibration_of, plan_name
from agent.recipes.files import override, read_config
from agent.recipes.recipe import Component, Recipe, parse_budget
from agent.recipes.recipe import write_budget as budget_text
from agent.search.budget import Budget
from agent.strategies import Greedy
from envs.core import Split
from envs.messages import UsageError
from envs.options import AtLeast, check_ranges, choose, load_dataclass
from policies.training.jsonl_log import fingerprint
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
        environments: names, or mappings with a name and options.
        policies: the same.
        verifiers: the same; ``none`` is no verifier.
        strategies: names, or mappings with a name and knobs.
        budgets: samples per problem, or texts such as ``samples=16,flops=1e12``.
        seeds: of the samples.
        only: rules, of which a cell must meet one (if there are any). A rule is a mapping from an axis in the singular
            (``policy``, ``strategy``...) to a value or a list of them; a name stands for all its options. This says
            which environment goes with which models.
        exclude: rules, none of which a cell may meet.
        split: of the problems, in every environment.
        n: problems of each environment.
        problem_seed: which n problems of the split.
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
    n: Annotated[int, AtLeast(1)] = 100
    problem_seed: int = 0
    vote: Vote = field(default_factory=Vote)
    temperature: Annotated[float, AtLeast(0)] = 1.0
    graphs: bool = True
    total_budget: int | float | str | None = None

    def __post_init__(self) -> None:
        """Refuse a study without cells, problems or temperature, and rules that match nothing."""
        check_ranges(self)
        for seed in (*self.seeds, self.problem_seed):
            if not -(2**63) <= seed < 2**63:
                raise UsageError(f"seed {seed} given; allowed: whole numbers of 64 bits, -2^63 to 2^63 - 1")
        if self.total_budget is not None:
            parse_budget(str(self.total_budget))
        for strategy in self.strategies:
            make_strategy(strategy, Budget(samples=1), self.vote, self.temperature)
        for rule in (*self.only, *self.exclude):
            self._check_rule(rule)
        if not self.cells:
            raise UsageError("no cell is left: every combination is excluded or asks for scores without a verifier")

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
            if not strategy.traits.needs_scores:
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
            if cell.strategy.name in ("auto", "table"):
                names = recipe.environment.name, Path(recipe.policy.name).name, Path(recipe.verifier.name).name
                try:
                    plan = asdict(calibration_of(*names))
                    del plan["digests"]  # which plans of older versions lack, and the models' own digests tell
                    plans[plan_name(*names)] = fingerprint(plan)
                except ValueError as error:
                    raise UsageError(str(error)) from None
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


def load_study(name: str, assignments: Iterable[str] = (), trust: bool = False) -> Study:
    """Read a study by name (``configs/studies/NAME.yaml``) or path, with overrides.

    Args:
        name: or path.
        assignments: as `agent.recipes.files.override` takes them.
        trust: let the file name modules and files, whose code then runs.

    Raises:
        UsageError: when it cannot be read, or a key, a name, a knob or a rule is wrong.
    """
    mapping, where = read_config(name, "studies", trust)
    study = load_dataclass(Study, override(mapping, assignments), where)
    check_cells(study)
    return study


def check_cells(study: Study) -> None:
    """Refuse a wrong name, option or knob of any cell now rather than after an hour; raises UsageError."""
    checked: set[tuple[str, str]] = set()
    for cell in study.cells:
        strategy_of(study.recipe(cell))
        for kind in ("environment", "policy", "verifier"):
            part: Component = getattr(cell, kind)
            if (kind, part.label) not in checked:
                checked.add((kind, part.label))
                check_part(kind, part)
