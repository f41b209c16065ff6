"""Names to environments: the built-in ones, installed plug-ins, and files or modules of one's own.

An environment is asked for as a name (``arithmetic``), as ``package.module:Class`` or as a path, ``my_env.py`` or
``my_env.py:Class``. Distributions add names through the entry-point group ``stepwell.envs``.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import reprlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from envs.core import Environment
from envs.messages import nearest

ENTRY_POINTS = "stepwell.envs"
FILES = "stepwell_environment_"  # what the modules that are run from files are called, up to a hash
_SHORT = reprlib.Repr()
_SHORT.maxstring = 80  # of an option's value in a message: a template may have pages
BUILT_IN: dict[str, str] = {
    "arithmetic": "envs.arithmetic:Arithmetic",
    "chemistry": "envs.chemistry.environment:Chemistry",
    "code": "envs.code.environment:Code",
    "countdown": "envs.countdown:Countdown",
    "math": "envs.math.environment:Math",
    "reasoning-gym": "envs.reasoning_gym.environment:load_task",
    "toy": "envs.toy:Toy",
}
MEMBERS = tuple(name for name in vars(Environment) if not name.startswith("_"))
"""What an environment must have, in the order of the protocol."""

Factory = Callable[..., Any]


class UnusableEnvironment(ValueError):
    """No environment could be made of what was given; the message says why and what is allowed."""


@dataclass(frozen=True)
class Listed:
    """One line of `list_environments`.

    Args:
        name: what `load_environment` takes.
        source: ``built in``, or the distribution that adds the name.
        summary: first line of its docstring; empty if it failed to load.
        failure: why it cannot be loaded, or None.
    """

    name: str
    source: str
    summary: str
    failure: str | None = None


def load_environment(spec: str, **options: Any) -> Environment:
    """Make an environment.

    Args:
        spec: a name, ``package.module:Class``, or a path to a .py file, with ``:Class`` when it holds several.
        options: passed on as keyword arguments.

    Raises:
        UnusableEnvironment: for an unknown name, a file or module that cannot be loaded, an option that is not one,
            and for an object that is no environment.
    """
    made = _call(spec, _factory(spec), options)
    try:
        missing = [name for name in MEMBERS if not hasattr(made, name)]
    except (Exception, SystemExit) as error:  # of a property
        raise UnusableEnvironment(f"{spec!r} made a {type(made).__name__} that fails: {_said(error)}") from error
    if missing:
        raise UnusableEnvironment(
            f"{spec!r} made a {type(made).__name__}, which is no environment: it lacks {', '.join(missing)}"
        )
    environment: Environment = made
    return environment


def list_environments() -> list[Listed]:
    """Every name there is, the built-in ones first, with what failed to load and why."""
    listed = [_listed(name, "built in", partial(_imported, spec)) for name, spec in BUILT_IN.items()]
    taken = {entry.name: entry.source for entry in listed}
    for point in _entry_points():
        source = point.dist.name if point.dist else "unknown"
        if point.name in taken:
            listed.append(Listed(point.name, source, "", f"the name is taken by: {taken[point.name]}"))
        else:
            listed.append(_listed(point.name, source, partial(_plugged_in, point)))
            taken[point.name] = source
    return listed


def _listed(name: str, source: str, load: Callable[[], Factory]) -> Listed:
    try:
        return Listed(name, source, (inspect.getdoc(load()) or "").partition("\n")[0])
    except UnusableEnvironment as error:
        return Listed(name, source, "", str(error))


def _entry_points() -> list[importlib.metadata.EntryPoint]:
    return sorted(importlib.metadata.entry_points(group=ENTRY_POINTS), key=lambda point: (point.name, point.value))


def _factory(spec: str) -> Factory:
    head, _, member = spec.rpartition(":")
    if spec.endswith(".py"):
        return _only_environment(spec, _module_of(spec))
    if head.endswith(".py"):
        return _member(spec, _module_of(head), member)
    if head:
        return _imported(spec)
    if spec in BUILT_IN:
        return _imported(BUILT_IN[spec])
    points = {point.name: point for point in reversed(_entry_points())}
    if spec in points:
        return _plugged_in(points[spec])
    names = sorted({*BUILT_IN, *points})
    raise UnusableEnvironment(
        f"environment {spec!r} is not known{nearest(spec, names)} "
        f"Allowed: {', '.join(names)}, 'package.module:Class' or a path to a .py file"
    )


def _imported(spec: str) -> Factory:
    name, _, member = spec.rpartition(":")
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise UnusableEnvironment(f"{spec!r}: importing {name!r} failed: {_said(error)}") from error
    return _member(spec, module, member)


def _plugged_in(point: importlib.metadata.EntryPoint) -> Factory:
    try:
        made = point.load()
    except (Exception, SystemExit) as error:
        raise UnusableEnvironment(f"{point.name!r} ({point.value}) failed to load: {_said(error)}") from error
    return _callable(point.value, made)


def _module_of(path: str) -> ModuleType:
    """Run a file as a module under a name of its own; the same file is run once."""
    file = Path(path).expanduser().resolve()
    if not file.is_file():
        siblings = [str(Path(path).parent / sibling.name) for sibling in file.parent.glob("*.py")]
        raise UnusableEnvironment(f"there is no file {path!r}{nearest(path, siblings)}")
    source = file.read_bytes()
    name = f"{FILES}{hashlib.sha256(str(file).encode() + source).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UnusableEnvironment(f"{path!r} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while the file runs
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UnusableEnvironment(f"{path!r} failed to load: {_said(error)}") from error
    return module


def _only_environment(path: str, module: ModuleType) -> Factory:
    methods = [name for name in MEMBERS if inspect.isfunction(vars(Environment)[name])]
    classes = [member for member in vars(module).values() if inspect.isclass(member)]
    own = [member for member in classes if member.__module__ == module.__name__]
    found = [member for member in own if all(hasattr(member, name) for name in methods)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(f"{path}:{member.__name__}" for member in found)
        raise UnusableEnvironment(f"{path!r} holds {len(found)} environments; say which: {names}")
    nearly = [
        f"{member.__name__} lacks {', '.join(name for name in methods if not hasattr(member, name))}"
        for member in own
        if any(hasattr(member, name) for name in methods)
    ]
    raise UnusableEnvironment(f"{path!r} holds no environment{': ' if nearly else ''}{'; '.join(nearly)}")


def _member(spec: str, module: ModuleType, name: str) -> Factory:
    if not hasattr(module, name):
        public = [member for member in vars(module) if not member.startswith("_")]
        raise UnusableEnvironment(f"{spec!r}: there is no {name!r} in it{nearest(name, public)}")
    return _callable(spec, getattr(module, name))


def _callable(spec: str, made: Any) -> Factory:
    if not callable(made):
        raise UnusableEnvironment(f"{spec!r} is a {type(made).__name__}; a class or a function is wanted")
    factory: Factory = made
    return factory


def _call(spec: str, factory: Factory, options: dict[str, Any]) -> Any:
    try:
        signature = inspect.signature(factory)
    except ValueError as error:
        raise UnusableEnvironment(f"{spec!r} cannot be called: {error}") from error
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL)
    allowed = [parameter.name for parameter in signature.parameters.values() if parameter.kind not in positional]
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        for option in options:
            if option not in allowed:
                choice = f"allowed: {', '.join(allowed)}" if allowed else "it takes none"
                raise UnusableEnvironment(
                    f"environment {spec!r} has no option {option!r}{nearest(option, allowed)} ({choice})"
                )
    try:
        signature.bind(**options)
        return factory(**options)
    except (Exception, SystemExit) as error:
        given = ", ".join(f"{name}={_SHORT.repr(value)}" for name, value in options.items()) or "no options"
        raise UnusableEnvironment(f"environment {spec!r} cannot be made with {given}: {_said(error)}") from error


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
