"""Names to parts: one mechanism for environments, policies, verifiers and strategies.

A part is asked for by a name, built in or added by an installed distribution through an entry point, as
``package.module:Class``, or as a path, ``mine.py`` or ``mine.py:Class``. Some kinds have backends too, asked for as
``BACKEND:MODEL``. A class is called only if it has the methods of its kind, a function only if it says in its
annotation that it returns one: this is looked at before anything is called.

The last two forms run code of whoever writes the name, so they need the user's own word: the command line, or a call in
Python. What is read from a file may name only what is built in or installed (`Registry.names_code`).
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, Protocol, TypeVar, get_args, get_origin

from envs.messages import UsageError, nearest, short
from envs.options import Options, annotations_of, checked_options, options_of

P = TypeVar("P")
Factory = Callable[..., Any]

FILES = "stepwell_environment_"  # what the modules that are run from files are called, up to a hash
_ANY_MODEL = ("openai",)  # backends that take the only model there is, where none is named
_MODULE = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")


class UnusablePart(UsageError):
    """No part could be made of what was given; the message says why and what is allowed."""


@dataclass(frozen=True)
class Listed:
    """One name of a kind.

    Args:
        name: what the part is asked for by.
        source: ``built in``, or the distribution that adds the name.
        summary: first line of its docstring; empty if it failed to load.
        failure: why it cannot be loaded, or None.
    """

    name: str
    source: str
    summary: str
    failure: str | None = None

    @property
    def line(self) -> str:
        """Its summary or its failure, and who adds it if that is not this package."""
        what = f"cannot be used: {self.failure}" if self.failure else self.summary
        return what if self.source == BUILT_IN else f"{what} ({self.source})"


BUILT_IN = "built in"


@dataclass(frozen=True)
class Registry(Generic[P]):
    """All parts of one kind.

    Args:
        kind: what one is called in errors, ``environment``.
        contract: the protocol that parts keep.
        group: of the entry points by which distributions add names.
        built_in: by name, the class itself or where it is, ``package.module:Class``.
        backends: by name, what makes a part of a model that is named after the colon.
        error: what is raised.
    """

    kind: str
    contract: type[Any]
    group: str
    built_in: Mapping[str, str | Factory]
    backends: Mapping[str, str] = field(default_factory=dict)
    error: type[UnusablePart] = UnusablePart

    # -------------------------------------------------------------------------------------------------- names

    def names(self) -> list[str]:
        """Built-in names and those of entry points, in order."""
        return sorted({*self.built_in, *(point.name for point in self._points())})

    def listed(self, shipped: Sequence[Listed] = ()) -> list[Listed]:
        """Every name there is, the built-in ones first, with what failed to load and why.

        Args:
            shipped: built-in names that are no classes: models that come with this package.
        """
        built_in = [self._listed(name, BUILT_IN, partial(self._built_in, name)) for name in self.built_in]
        listed = sorted([*shipped, *built_in], key=lambda each: each.name) if shipped else built_in
        taken = dict.fromkeys([*(each.name for each in listed), *self.backends], BUILT_IN)
        for point in self._points():
            source = point.dist.name if point.dist else "unknown"
            if point.name in taken:
                listed.append(Listed(point.name, source, "", f"the name is taken by: {taken[point.name]}"))
            else:
                listed.append(self._listed(point.name, source, partial(self._plugged_in, point)))
                taken[point.name] = source
        return listed

    def names_code(self, spec: str) -> bool:
        """Whether a name is a module or a file, which run code, and nothing that is built in or installed."""
        head, colon, _ = spec.rpartition(":")
        if spec.endswith(".py") or head.endswith(".py"):
            return True
        return bool(colon) and self._backend_of(spec) is None

    def _listed(self, name: str, source: str, load: Callable[[], Factory]) -> Listed:
        try:
            return Listed(name, source, (inspect.getdoc(load()) or "").partition("\n")[0])
        except self.error as error:
            return Listed(name, source, "", str(error))

    def _points(self) -> tuple[importlib.metadata.EntryPoint, ...]:
        return _entry_points(self.group, tuple(sys.path))

    def _point(self, name: str) -> importlib.metadata.EntryPoint | None:
        return next((point for point in self._points() if point.name == name), None)

    def _backend_of(self, spec: str) -> str | None:
        """The backend, built in or installed, of ``BACKEND:MODEL``."""
        head, colon, _ = spec.partition(":")
        return head if colon and (head in self.backends or self._point(head) is not None) else None

    # ------------------------------------------------------------------------------------------------ factories

    def factory(self, spec: str) -> tuple[Factory, tuple[str, ...]]:
        """What makes the part of a name, and the model that it is to be made of: one text, or none.

        Raises:
            UnusablePart: for an unknown name, a file or module that cannot be loaded, and what is no part of this kind.
        """
        head, _, member = spec.rpartition(":")
        if spec.endswith(".py"):
            return self._only_one(spec, self._module_of(spec)), ()
        if head.endswith(".py"):
            return self._member(spec, self._module_of(head), member), ()
        if (backend := self._backend_of(spec)) is not None:
            model = spec.partition(":")[2]
            if not model and backend in self.backends and backend not in _ANY_MODEL:
                raise self.error(f"{self.kind} {short(spec)} names no model; expected {spec}MODEL")
            return self._backend(backend), (model,)
        if spec in self.built_in:
            return self._built_in(spec), ()
        if (point := self._point(spec)) is not None:
            return self._plugged_in(point), ()
        if head and _MODULE.fullmatch(head) and _MODULE.fullmatch(member):
            return self._imported(spec), ()
        raise self.unknown(spec)

    def unknown(
        self, spec: str, shipped: Sequence[str] = (), more: Sequence[str] = (), forms: str = ""
    ) -> UnusablePart:
        """The error for a name that nothing has.

        Args:
            spec: the name.
            shipped: names of models that come with this package.
            more: other names that it may be near to.
            forms: what else is allowed, in words.
        """
        names = sorted({*self.names(), *shipped})
        model = spec.partition(":")[2]
        near = nearest(spec, [*names, *more, *(f"{each}:{model}" for each in self.backends if model)]) or "."
        backends = "".join(f", {each}:MODEL" for each in self.backends)
        return self.error(
            f"{self.kind} {short(spec)} is not known{near} "
            f"Allowed: {', '.join(names)}{backends}{forms}, 'package.module:Class' or a path to a .py file"
        )

    def _built_in(self, name: str) -> Factory:
        made = self.built_in[name]
        return self._imported(made) if isinstance(made, str) else made

    def _backend(self, name: str) -> Factory:
        if name in self.backends:
            return self._imported(self.backends[name])
        point = self._point(name)
        assert point is not None
        return self._plugged_in(point)

    def _imported(self, spec: str) -> Factory:
        name, _, member = spec.rpartition(":")
        try:
            module = importlib.import_module(name)
        except (Exception, SystemExit) as error:
            near = nearest(spec, [f"{each}:{member}" for each in self.backends])
            raise self.error(f"{spec!r}: importing {name!r} failed: {_said(error)}{near}") from error
        return self._member(spec, module, member)

    def _plugged_in(self, point: importlib.metadata.EntryPoint) -> Factory:
        try:
            made = point.load()
        except (Exception, SystemExit) as error:
            raise self.error(f"{point.name!r} ({point.value}) failed to load: {_said(error)}") from error
        return self._checked(point.value, made)

    def _module_of(self, path: str) -> ModuleType:
        """Run a file as a module under a name of its own; the same file is run once."""
        file = Path(path).expanduser().resolve()
        if not file.is_file():
            siblings = [str(Path(path).parent / sibling.name) for sibling in file.parent.glob("*.py")]
            near = nearest(path, [sibling for sibling in siblings if sibling != path])
            what = f"{path!r} is a folder" if file.is_dir() else f"there is no file {path!r}"
            raise self.error(f"{what}{near}")
        source = file.read_bytes()
        name = f"{FILES}{hashlib.sha256(str(file).encode() + source).hexdigest()[:16]}"
        if name in sys.modules:
            return sys.modules[name]
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise self.error(f"{path!r} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up while the file runs
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            raise self.error(f"{path!r} failed to load: {_said(error)}") from error
        return module

    def _only_one(self, path: str, module: ModuleType) -> Factory:
        own = [
            member
            for member in vars(module).values()
            if inspect.isclass(member) and member.__module__ == module.__name__
        ]
        found = [member for member in own if not self._lacks(member)]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(f"{path}:{member.__name__}" for member in found)
            raise self.error(f"{path!r} holds {len(found)} {_plural(self.kind)}; say which: {names}")
        methods = self.methods()
        nearly = [
            f"{member.__name__} lacks {', '.join(self._lacks(member))}"
            for member in own
            if any(hasattr(member, name) for name in methods)
        ]
        raise self.error(f"{path!r} holds no {self.kind}{': ' if nearly else ''}{'; '.join(nearly)}")

    def _member(self, spec: str, module: ModuleType, name: str) -> Factory:
        if not hasattr(module, name):
            public = [member for member in vars(module) if not member.startswith("_")]
            raise self.error(f"{spec!r}: there is no {name!r} in it{nearest(name, public)}")
        return self._checked(spec, getattr(module, name))

    # ------------------------------------------------------------------------------------- what may be called

    def methods(self) -> list[str]:
        """The methods of the contract, in its order."""
        return [name for name, member in self._declared().items() if _is_method(member)]

    def members(self) -> list[str]:
        """The attributes and methods of the contract, in its order."""
        return list(self._declared())

    def _declared(self) -> dict[str, Any]:
        """What the contract declares, with the protocols that it extends."""
        protocols = [each for each in reversed(self.contract.__mro__) if getattr(each, "_is_protocol", False)]
        found = {name: member for each in protocols if each is not Protocol for name, member in vars(each).items()}
        return {name: member for name, member in found.items() if not name.startswith("_")}

    def _lacks(self, kind: type[Any]) -> list[str]:
        """What a class is without: methods of the contract, or the requests that they take (a judge is no policy)."""
        lacks = [name for name in self.methods() if not callable(getattr(kind, name, None))]
        if not lacks and hasattr(self.contract, "submit"):
            wanted, given = (_request_of(each) for each in (self.contract, kind))
            if inspect.isclass(wanted) and inspect.isclass(given) and not issubclass(wanted, given):
                return [f"a submit() that takes {wanted.__name__}: its own takes {given.__name__}"]
        return lacks

    def _checked(self, spec: str, made: Any) -> Factory:
        """What may be called as a part: a class with the methods of the contract, or a function that returns one."""
        wanted = f"allowed: a class with the methods of {self.contract.__name__}, or a function annotated to return one"
        if inspect.isclass(made):
            if lacks := self._lacks(made):
                raise self.error(f"{spec!r} is a class, but no {self.kind}: it lacks {', '.join(lacks)}; {wanted}")
        elif inspect.isroutine(made):
            returned = annotations_of(made).get("return")
            if not inspect.isclass(returned) or (returned is not self.contract and self._lacks(returned)):
                raise self.error(f"{spec!r} is a function that does not say what it returns; {wanted}")
        else:
            raise self.error(f"{spec!r} is a {type(made).__name__}; {wanted}")
        factory: Factory = made
        return factory

    # ------------------------------------------------------------------------------------------------- making

    def options(self, spec: str, arguments: int = 0) -> Options:
        """What options the part of a name takes; `arguments` is how many positional ones it is made with."""
        factory, model = self.factory(spec)
        return options_of(factory, len(model) + arguments)

    def make(self, spec: str, *arguments: Any, **options: Any) -> P:
        """Make the part of a name.

        Args:
            spec: the name.
            arguments: positional ones, after the model if there is one.
            options: keyword arguments, checked against their annotations.

        Raises:
            UnusablePart: as `factory`, and when an option is wrong, the class refuses, or makes something else.
        """
        factory, model = self.factory(spec)
        return self.call(spec, factory, (*model, *arguments), options)

    def call(
        self, spec: str, factory: Factory, arguments: tuple[Any, ...], options: Mapping[str, Any], own: bool = False
    ) -> P:
        """Call what makes a part, with its options checked; `own` is for ours, whose errors are raised as they are."""
        where = f"{self.kind} {short(spec)}"
        try:
            allowed = options_of(factory, len(arguments))
        except ValueError as error:
            raise self.error(f"{spec!r} cannot be called: {error}") from error
        try:
            checked = checked_options(allowed, options, where)
        except UsageError as error:
            raise self.error(str(error)) from None
        try:
            keywords = allowed.arguments(checked)
            inspect.signature(factory).bind(*arguments, **keywords)
            made = factory(*arguments, **keywords)
        except (Exception, SystemExit) as error:
            if own:
                raise
            given = ", ".join(f"{name}={short(value)}" for name, value in options.items()) or "no options"
            raise self.error(f"{where} cannot be made with {given}: {_said(error)}") from error
        return self._looked_at(spec, made)

    def _looked_at(self, spec: str, made: Any) -> P:
        try:
            missing = [name for name in self.members() if not hasattr(made, name)]
        except Exception as error:  # of a property
            raise self.error(f"{spec!r} made a {type(made).__name__} that fails: {_said(error)}") from error
        if missing:
            what = f"made a {type(made).__name__}, which is no {self.kind}"
            raise self.error(f"{spec!r} {what}: it lacks {', '.join(missing)}")
        part: P = made
        return part


def _request_of(kind: type[Any]) -> Any:
    """What `submit` of a class takes: as it is annotated, or as the generic class is filled in that declares it."""
    request = annotations_of(kind.submit).get("request")
    if not isinstance(request, TypeVar):
        return request
    bases = [base for each in kind.__mro__ for base in getattr(each, "__orig_bases__", ())]
    filled = (get_args(base) for base in bases if hasattr(get_origin(base), "submit"))
    return next((arguments[0] for arguments in filled if not isinstance(arguments[0], TypeVar)), None)


def _is_method(member: Any) -> bool:
    return inspect.isfunction(member) or isinstance(member, classmethod | staticmethod)


def _plural(kind: str) -> str:
    return {"policy": "policies", "strategy": "strategies"}.get(kind, f"{kind}s")


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


@lru_cache(maxsize=64)  # every distribution is looked through, which takes some milliseconds
def _entry_points(group: str, path: tuple[str, ...]) -> tuple[importlib.metadata.EntryPoint, ...]:
    """The entry points of a group in what `path`, Python's own, leads to, in order."""
    points = importlib.metadata.entry_points(group=group)
    return tuple(sorted(points, key=lambda point: (point.name, point.value)))


def folders_of(group: str) -> dict[str, Path]:
    """Where the package of each entry point of a group lies, by the entry point's name; nothing is imported."""
    folders: dict[str, Path] = {}
    for point in _entry_points(group, tuple(sys.path)):
        try:
            spec = importlib.util.find_spec(point.value.partition(":")[0].partition(".")[0].strip())
        except (ImportError, ValueError):
            continue
        for place in (spec.submodule_search_locations or ()) if spec else ():
            folders.setdefault(point.name, Path(place))
    return folders
