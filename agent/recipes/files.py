"""Files of recipes: where they are looked for, YAML, and options that are set on the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from envs.messages import RecipeError, nearest

# ------------------------------------------------------------------------------------------------ files, overrides


class YamlLoader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice and reads ``1e-3`` as the number it is (as YAML 1.2 does)."""


def as_mapping(loader: YamlLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    """Construct a mapping; a key that is given twice, or cannot be a key, is an error with its line."""
    keys = [loader.construct_object(key) for key, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is given twice", node.start_mark)
    return loader.construct_mapping(node, deep=True)


def parse_yaml(text: str, where: str) -> Any:
    """Parse one YAML document.

    Raises:
        RecipeError: with the line, when the text is not YAML.
    """
    try:
        return yaml.load(text, Loader=YamlLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise RecipeError(f"{where}{line}: {getattr(error, 'problem', None) or error}") from None


def config_folders() -> list[Path]:
    """Where recipes are looked for by name: the working tree, the source tree, the installed package."""
    folders = [
        Path.cwd() / "configs",
        Path(__file__).resolve().parents[2] / "configs",
        Path(__file__).resolve().parents[1] / "_configs",
    ]
    return list(dict.fromkeys(folder for folder in folders if folder.is_dir()))


def find_config(name: str, kind: str = "") -> Path:
    """The file of a recipe: a path as it is, a bare name as ``configs/NAME.yaml``.

    Args:
        name: or path.
        kind: the folder within ``configs/`` that recipes of a kind have to themselves: ``studies``, ``training``.

    Raises:
        RecipeError: naming the recipes there are and the nearest one.
    """
    path = Path(name)
    if path.is_file():
        return path
    folders = [folder / kind for folder in config_folders()]
    pattern = "**/" if kind else ""  # a kind may have folders of its own, recipes to solve with have none
    if path.suffix not in (".yaml", ".yml") and path.name == name:
        for folder in folders:
            if found := sorted(folder.glob(f"{pattern}{name}.yaml")):
                return found[0]
    known = sorted({file.stem for folder in folders for file in folder.glob(f"{pattern}*.yaml")})
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


def default_config(environment: str | None) -> str:
    """The recipe to start from when none is named: the environment's own, if there is one."""
    if environment is not None and any((folder / f"{environment}.yaml").is_file() for folder in config_folders()):
        return environment
    return "arithmetic"
