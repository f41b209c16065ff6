"""Recipes: YAML files and command-line overrides as frozen dataclasses, checked key by key.

Config keys map one to one to dataclass fields. What is not a field is refused with what was given, what is allowed
and the nearest match; values are checked against the annotations of the fields. One loader, `load_dataclass`, serves
the recipes of solving here and those of training (`policies.training.train`, `verifiers.training.train`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from agent.recipes.files import (
    component,
    is_setting,
    override,
    parse_options,
    parse_yaml,
    read_config,
    split_words,
    unquoted,
)
from agent.search.budget import Budget
from envs.messages import UsageError, short
from envs.options import AtLeast, check_ranges, load_dataclass
from verifiers.voting import Vote

# ---------------------------------------------------------------------------------------------------------- recipes


@dataclass(frozen=True)
class Component:
    """Something chosen by name, with options of its own: ``beam``, or ``{name: beam, branch: 2}``.

    Args:
        name: as in the registry of its kind.
        options: every other key; they are checked by what the name stands for.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_config(cls, value: object, where: str) -> Component:
        """Read a name, a name with options (``beam branch=2``) or a mapping with a name; `where` is for errors."""
        value = component(value)
        if isinstance(value, str):
            return cls(value)
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            raise UsageError(f"{where} is {short(value)}; expected a name, or a mapping with a 'name' and options")
        return cls(value["name"], {str(key): inner for key, inner in value.items() if key != "name"})

    @property
    def label(self) -> str:
        """As `parse_component` reads it, e.g. ``beam branch=2``."""
        return " ".join([self.name, *(f"{key}={value}" for key, value in self.options.items())])

    def to_config(self) -> str | dict[str, Any]:
        """The shortest form that `from_config` reads back."""
        return {"name": self.name, **self.options} if self.options else self.name


@dataclass(frozen=True)
class Recipe:
    """What ``configs/*.yaml`` may say about solving.

    Args:
        environment: the domain, with options of its own such as ``levels``.
        policy: name or folder of the model that proposes steps.
        verifier: name or folder of the model that scores them; ``none`` for strategies that need no scores.
        strategy: how to search, with its knobs; ``auto`` lets the planner decide, problem by problem.
        budget: what one problem may spend.
        vote: how the final answer is chosen among the finished candidates.
        temperature: of the samples; 0 is greedy.
        seed: of the samples.
    """

    environment: Component = Component("arithmetic")
    policy: Component = Component("arithmetic-s")
    verifier: Component = Component("arithmetic-prm")
    strategy: Component = Component("auto")
    budget: Budget = field(default_factory=lambda: Budget(samples=16))
    vote: Vote = field(default_factory=Vote)
    temperature: Annotated[float, AtLeast(0)] = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_ranges(self)

    def to_config(self) -> dict[str, Any]:
        """The recipe as JSON-ready keys and values, as `load_dataclass` reads them."""
        return {
            "environment": self.environment.to_config(),
            "policy": self.policy.to_config(),
            "verifier": self.verifier.to_config(),
            "strategy": self.strategy.to_config(),
            "budget": {key: value for key, value in dataclasses.asdict(self.budget).items() if value is not None},
            "vote": dataclasses.asdict(self.vote),
            "temperature": self.temperature,
            "seed": self.seed,
        }


def load_recipe(name: str | None = None, assignments: Iterable[str] = (), trust: bool = False) -> Recipe:
    """Read a recipe by name or path, with overrides; ``configs/arithmetic.yaml`` has every key with its meaning.

    Args:
        name: or path.
        assignments: as `override` takes them.
        trust: let the file name modules and files, whose code then runs.

    Raises:
        UsageError: see `load_dataclass`, `find_config` and `override`.
    """
    mapping, where = read_config(name, trust=trust)
    return load_dataclass(Recipe, override(mapping, assignments), where)


def parse_budget(text: str) -> Budget:
    """Read ``16`` (samples), or ``samples=16,seconds=5`` with any of the budget's limits.

    Raises:
        UsageError: saying what was given and what is allowed.
    """
    pairs = [part.partition("=") for part in text.replace(",", " ").split()]
    mapping: dict[str, Any] = {}
    for key, equals, value in pairs:
        name, number = (key, value) if equals else ("samples", key)
        if name in mapping:
            raise UsageError(f"budget {text!r}: {name!r} is given twice")
        mapping[name] = None if number == "none" else parse_yaml(number, "budget")
    if not mapping:
        raise UsageError("an empty budget; expected e.g. 16 (samples) or samples=16,seconds=5")
    return load_dataclass(Budget, mapping, f"budget {text!r}")


def write_budget(budget: Budget) -> str:
    """The shortest text that `parse_budget` reads back."""
    limits = [f"{key}={value:.15g}" for key, value in dataclasses.asdict(budget).items() if value is not None]
    return limits[0].removeprefix("samples=") if len(limits) == 1 else ",".join(limits)


def parse_component(text: str) -> Component:
    """Read a name with options, ``beam`` or ``beam branch=2``.

    Raises:
        UsageError: when the text does not start with a name.
    """
    name, *options = split_words(unquoted(text)) or [""]
    if not name or is_setting(name):
        raise UsageError(f"cannot read {text!r}; expected a name and options, e.g. beam branch=2")
    return Component(name, parse_options(options, name))
