"""Recipes: YAML files and command-line overrides as frozen dataclasses, checked key by key.

Config keys map one to one to dataclass fields. What is not a field is refused with what was given, what is allowed
and the nearest match; values are checked against the annotations of the fields. One loader, `load_dataclass`, serves
the recipes of solving here and those of training (`policies.training`, `verifiers.training`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from agent.budget import Budget
from envs.registry import nearest
from verifiers.voting import Vote

T = TypeVar("T")
Name = TypeVar("Name", bound=str)


class RecipeError(ValueError):
    """A recipe cannot be used; the message says where, what was given and what is allowed."""


def choose(given: str, allowed: Iterable[Name], what: str) -> Name:
    """Return the allowed name that was given.

    Raises:
        RecipeError: naming the nearest match and everything that is allowed.
    """
    names = list(allowed)
    for name in names:
        if name == given:
            return name
    raise RecipeError(f"unknown {what} {given!r}{nearest(given, names) or ';'} allowed: {', '.join(names)}")


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
        """Read the short (a name) or the long (a mapping with a name) form; `where` names the key in errors."""
        if isinstance(value, str):
            return cls(value)
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            raise RecipeError(f"{where} is {value!r}; expected a name, or a mapping with a 'name' and options")
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
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a temperature below 0."""
        if self.temperature < 0:
            raise ValueError(f"temperature is {self.temperature}; at least 0 is needed")

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


def fingerprint(config: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that stand for a configuration, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()[:16]


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """Which keys differ between two configurations, in words."""
    keys = dict.fromkeys([*theirs, *ours])
    return [
        f"{key}: {json.dumps(theirs.get(key))} there, {json.dumps(ours.get(key))} now"
        for key in keys
        if theirs.get(key) != ours.get(key)
    ]


# ----------------------------------------------------------------------------------------------------- the loader


def load_dataclass(cls: type[T], mapping: Mapping[str, Any], where: str) -> T:
    """Make a (frozen) dataclass of a mapping, key by key.

    Args:
        cls: the dataclass; nested dataclasses, unions, literals, sequences and mappings in its annotations are
            followed. A class with a `from_config(value, where)` method reads itself.
        mapping: as parsed from YAML or JSON.
        where: what to call the source in errors, e.g. the file.

    Raises:
        RecipeError: on an unknown or missing key, a value of a wrong type, or one that the class itself refuses.
    """
    return _load(cls, mapping, where, "")


def _load(cls: type[T], mapping: Mapping[str, Any], where: str, prefix: str) -> T:
    hints = get_type_hints(cls)
    fields = {item.name: item for item in dataclasses.fields(cls) if item.init}  # type: ignore[arg-type]
    check_keys(mapping, fields, where, prefix)
    missing = [
        name
        for name, item in fields.items()
        if name not in mapping and item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise RecipeError(f"{where}: {', '.join(repr(prefix + name) for name in missing)} must be given")
    values = {key: convert(value, hints[key], where, prefix + key) for key, value in mapping.items()}
    try:
        return cls(**values)
    except (ValueError, TypeError) as error:
        raise RecipeError(f"{where}: {prefix.rstrip('.') + ': ' if prefix else ''}{error}") from None


def check_keys(mapping: Mapping[str, Any], allowed: Iterable[str], where: str, prefix: str = "") -> None:
    """Refuse the first key that is not allowed.

    Raises:
        RecipeError: naming the key, the nearest match and everything that is allowed.
    """
    names = list(allowed)
    for key in mapping:
        if key not in names:
            guess = nearest(str(key), names) or ";"
            raise RecipeError(
                f"{where}: unknown key {prefix + str(key)!r}{guess} allowed: {', '.join(names) if names else 'none'}"
            )


def convert(value: Any, kind: Any, where: str, key: str) -> Any:
    """Check a parsed value against an annotation and return it in that type.

    Whole floats pass as integers (``1e6``), integers as floats; nothing else is converted.

    Raises:
        RecipeError: naming the key, the value and the type that is expected.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    wrong = RecipeError(f"{where}: {key!r} is {value!r}; expected {_describe(kind)}")
    if kind is Any or kind is object:
        return value
    if hasattr(kind, "from_config"):
        return kind.from_config(value, f"{where}: {key!r}")
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, Mapping):
            raise wrong
        return _load(kind, value, where, key + ".")
    if origin is Literal:
        if value in arguments:
            return value
        allowed = [str(option) for option in arguments]
        guess = nearest(str(value), allowed) or ";"
        raise RecipeError(f"{where}: {key!r} is {value!r}{guess} allowed: {', '.join(allowed)}")
    if origin in (Union, types.UnionType):
        return _convert_union(value, arguments, where, key, wrong)
    if origin in (list, tuple) or (isinstance(origin, type) and issubclass(origin, Sequence)):
        if not isinstance(value, list | tuple):
            raise wrong
        if origin is tuple and Ellipsis not in arguments:
            if len(value) != len(arguments):
                raise wrong
            members = [
                convert(v, k, where, f"{key}[{i}]") for i, (v, k) in enumerate(zip(value, arguments, strict=True))
            ]
        else:
            members = [convert(inner, arguments[0], where, f"{key}[{i}]") for i, inner in enumerate(value)]
        return members if origin is list else tuple(members)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise wrong
        return {str(name): convert(inner, arguments[1], where, f"{key}.{name}") for name, inner in value.items()}
    return _convert_scalar(value, kind, wrong)


def _convert_union(value: Any, kinds: tuple[Any, ...], where: str, key: str, wrong: RecipeError) -> Any:
    if value is None and type(None) in kinds:
        return None
    kinds = tuple(kind for kind in kinds if kind is not type(None))
    exact = [kind for kind in kinds if isinstance(kind, type) and type(value) is kind]
    for kind in (*exact, *kinds):
        try:
            return convert(value, kind, where, key)
        except RecipeError:
            if len(kinds) == 1 and value is not None:
                raise
    raise wrong


def _convert_scalar(value: Any, kind: Any, wrong: RecipeError) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is float and number and not math.isnan(value):
        return float(value)
    if kind is int and number and math.isfinite(value) and value == int(value):
        return int(value)
    if kind is bool and isinstance(value, bool):
        return value
    if kind is str and isinstance(value, str):
        return value
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise wrong


_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", Path: "a path"}


def _describe(kind: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in _WORDS:
        return _WORDS[kind]
    if kind is type(None):
        return "null"
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(inner) for inner in arguments)
    if origin is Literal:
        return "one of " + ", ".join(str(option) for option in arguments)
    if origin is tuple and Ellipsis not in arguments:
        return "a list of " + ", ".join(_describe(inner) for inner in arguments)
    if origin in (list, tuple) or (isinstance(origin, type) and issubclass(origin, Sequence)):
        return f"a list, each {_describe(arguments[0])}"
    return "a mapping" if dataclasses.is_dataclass(kind) or origin is not None else getattr(kind, "__name__", str(kind))


# ------------------------------------------------------------------------------------------------ files, overrides


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice and reads ``1e-3`` as the number it is (as YAML 1.2 does)."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is given twice", node.start_mark)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+(?:\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def parse_yaml(text: str, where: str) -> Any:
    """Parse one YAML document.

    Raises:
        RecipeError: with the line, when the text is not YAML.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise RecipeError(f"{where}{line}: {getattr(error, 'problem', None) or error}") from None


def config_folders() -> list[Path]:
    """Where recipes are looked for by name: the working tree, the source tree, the installed package."""
    folders = [
        Path.cwd() / "configs",
        Path(__file__).resolve().parents[1] / "configs",
        Path(__file__).resolve().parent / "_configs",
    ]
    return list(dict.fromkeys(folder for folder in folders if folder.is_dir()))


def find_config(name: str, kind: str = "") -> Path:
    """The file of a recipe: a path as it is, a bare name as ``configs/NAME.yaml``.

    Args:
        name: or path.
        kind: the folder within ``configs/`` that recipes of a kind have to themselves, e.g. ``studies``.

    Raises:
        RecipeError: naming the recipes there are and the nearest one.
    """
    path = Path(name)
    if path.is_file():
        return path
    folders = [folder / kind for folder in config_folders()]
    if path.suffix not in (".yaml", ".yml") and path.name == name:
        for folder in folders:
            if (folder / f"{name}.yaml").is_file():
                return folder / f"{name}.yaml"
    known = sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
    what = f"no file {name!r}" if path.suffix else f"no recipe {name!r}"
    raise RecipeError(f"{what}{nearest(path.stem, known) or ';'} recipes by name: {', '.join(known) or 'none'}")


def read_config(name: str | None, kind: str = "") -> tuple[dict[str, Any], str]:
    """The keys of a recipe file and what to call it in errors; nothing, for no name. `kind` is as in `find_config`.

    Raises:
        RecipeError: when the file is not found, cannot be read or is no mapping.
    """
    if name is None:
        return {}, "recipe"
    path = find_config(name, kind)
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: {error}") from None
    if not isinstance(content, dict):
        raise RecipeError(f"{path}: expected keys and values, found {type(content).__name__}")
    return content, str(path)


def as_solving(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe of training whose ``solving: NAME`` says that what it does not say itself is as that recipe solves.

    Environment, policy and temperature are taken from there, so that a model learns from what it will have to judge.

    Raises:
        RecipeError: as `read_config`.
    """
    own = dict(mapping)
    solving, _ = read_config(own.pop("solving", None))
    return {key: solving[key] for key in ("environment", "policy", "temperature") if key in solving} | own


def override(mapping: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """Apply ``key.inner=value`` assignments, values in YAML, and return the result; `mapping` is unchanged.

    A component in its short form keeps its name: ``strategy: beam`` and ``strategy.branch=2`` make
    ``{name: beam, branch: 2}``. A new name for a component (``strategy=mcts``) drops the options of the old one.

    Raises:
        RecipeError: when an assignment has no ``=`` or no key.
    """
    result = dict(mapping)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        path = key.strip().split(".")
        if not equals or not all(path):
            raise RecipeError(f"cannot read {assignment!r}; expected KEY=VALUE, e.g. strategy.branch=2")
        value = parse_yaml(text, f"--set {key.strip()}")
        inner = result
        for part in path[:-1]:
            below = inner.get(part)
            inner[part] = (
                dict(below) if isinstance(below, Mapping) else {"name": below} if isinstance(below, str) else {}
            )
            inner = inner[part]
        inner[path[-1]] = value
    return result


def load_recipe(name: str | None = None, assignments: Iterable[str] = ()) -> Recipe:
    """Read a recipe by name or path, with overrides; ``configs/arithmetic.yaml`` has every key with its meaning.

    Raises:
        RecipeError: see `load_dataclass`, `find_config` and `override`.
    """
    mapping, where = read_config(name)
    return load_dataclass(Recipe, override(mapping, assignments), where)


def parse_budget(text: str) -> Budget:
    """Read ``16`` (samples), or ``samples=16,seconds=5`` with any of the budget's limits.

    Raises:
        RecipeError: saying what was given and what is allowed.
    """
    pairs = [part.partition("=") for part in text.replace(",", " ").split()]
    mapping: dict[str, Any] = {}
    for key, equals, value in pairs:
        name, number = (key, value) if equals else ("samples", key)
        mapping[name] = parse_yaml(number, "budget")
    if not mapping:
        raise RecipeError("an empty budget; expected e.g. 16 (samples) or samples=16,seconds=5")
    return load_dataclass(Budget, mapping, f"budget {text!r}")


def write_budget(budget: Budget) -> str:
    """The shortest text that `parse_budget` reads back."""
    limits = [f"{key}={value:.15g}" for key, value in dataclasses.asdict(budget).items() if value is not None]
    return limits[0].removeprefix("samples=") if len(limits) == 1 else ",".join(limits)


def parse_component(text: str) -> Component:
    """Read a name with options, ``beam`` or ``beam branch=2``.

    Raises:
        RecipeError: when the text does not start with a name.
    """
    name, *options = text.replace(",", " ").split() or [""]
    if not name or "=" in name:
        raise RecipeError(f"cannot read {text!r}; expected a name and options, e.g. beam branch=2")
    config = override({"it": {"name": name}}, [f"it.{option}" for option in options])
    return Component.from_config(config["it"], "it")


def default_config(environment: str | None) -> str:
    """The recipe to start from when none is named: the environment's own, if there is one."""
    if environment is not None and any((folder / f"{environment}.yaml").is_file() for folder in config_folders()):
        return environment
    return "arithmetic"
