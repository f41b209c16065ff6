"""Options: what was given is checked against what is declared, in one place for recipes and for parts of all kinds.

A mapping becomes a frozen dataclass (`load_dataclass`: recipes, studies, budgets) or the keyword arguments of a class
or a function (`checked_options`: environments, policies, verifiers, strategies). What is allowed is read off the
annotations, ranges included: ``rows: Annotated[int, AtLeast(1)]``. Every error says what was given, what is allowed and
the nearest match.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeVar, Union, Unpack, get_args, get_origin, get_type_hints

from envs.messages import UsageError, nearest, short

T = TypeVar("T")
Name = TypeVar("Name", bound=str)


# ------------------------------------------------------------------------------------------------------------- ranges


class Range(Protocol):
    """What numbers an option may be, beside its type in an annotation: ``Annotated[int, AtLeast(1)]``."""

    def holds(self, value: float) -> bool:
        """Whether a number lies in it."""
        ...

    def __str__(self) -> str:
        """In words, after the type: ``at least 1``."""
        ...


@dataclass(frozen=True)
class AtLeast:
    """A number from `low` on; up to `high`, if that is given."""

    low: float
    high: float = math.inf

    def holds(self, value: float) -> bool:
        """Whether a number lies in it."""
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"at least {self.low:g}" + (f", at most {self.high:g}" if self.high < math.inf else "")


@dataclass(frozen=True)
class Above:
    """A number above `low`; up to `high`, if that is given."""

    low: float
    high: float = math.inf

    def holds(self, value: float) -> bool:
        """Whether a number lies in it."""
        return self.low < value <= self.high

    def __str__(self) -> str:
        return f"above {self.low:g}" + (f", at most {self.high:g}" if self.high < math.inf else "")


# ------------------------------------------------------------------------------------------------------------ choices


def choose(given: str, allowed: Iterable[Name], what: str) -> Name:
    """Return the allowed name that was given.

    Raises:
        UsageError: naming the nearest match and everything that is allowed.
    """
    names = list(allowed)
    for name in names:
        if name == given:
            return name
    raise UsageError(f"unknown {what} {short(given)}{nearest(given, names) or ';'} allowed: {', '.join(names)}")


def check_keys(mapping: Mapping[str, Any], allowed: Iterable[str], where: str, prefix: str = "") -> None:
    """Refuse the first key that is not allowed.

    Raises:
        UsageError: naming the key, the nearest match and everything that is allowed.
    """
    names = list(allowed)
    for key in mapping:
        if key not in names:
            guess = nearest(str(key), names) or ";"
            raise UsageError(
                f"{where}: unknown key {short(prefix + str(key))}{guess} allowed: {', '.join(names) or 'none'}"
            )


# --------------------------------------------------------------------------------------------- mappings to dataclasses


def load_dataclass(cls: type[T], mapping: Mapping[str, Any], where: str) -> T:
    """Make a (frozen) dataclass of a mapping, key by key.

    Args:
        cls: the dataclass; nested dataclasses, unions, literals, ranges, sequences and mappings in its annotations are
            followed. A class with a `from_config(value, where)` method reads itself; of one with a `short_form`, a lone
            number is the field of that name.
        mapping: as parsed from YAML or JSON.
        where: what to call the source in errors, e.g. the file.

    Raises:
        UsageError: on an unknown or missing key, a value of a wrong type, or one that the class itself refuses.
    """
    return _load(cls, mapping, where, "")


def _load(cls: type[T], mapping: Mapping[str, Any], where: str, prefix: str) -> T:
    hints = get_type_hints(cls, include_extras=True)
    fields = {item.name: item for item in dataclasses.fields(cls) if item.init}  # type: ignore[arg-type]
    check_keys(mapping, fields, where, prefix)
    missing = [
        name
        for name, item in fields.items()
        if name not in mapping and item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UsageError(f"{where}: {', '.join(repr(prefix + name) for name in missing)} must be given")
    values = {key: convert(value, hints[key], where, prefix + key) for key, value in mapping.items()}
    try:
        return cls(**values)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{where}: {prefix.rstrip('.') + ': ' if prefix else ''}{error}") from None


def check_ranges(made: Any) -> None:
    """Refuse a dataclass, made by hand, whose numbers are out of the ranges that its fields declare.

    Raises:
        ValueError: naming the field, its value and what is allowed.
    """
    for name, (kind, limits) in _ranges(type(made)).items():  # type: ignore[arg-type]
        value = getattr(made, name)
        if isinstance(value, int | float) and not all(math.isfinite(value) and each.holds(value) for each in limits):
            raise ValueError(f"{name!r} is {value!r}; expected {_describe(kind)}")


@lru_cache(maxsize=256)
def _ranges(cls: type[Any]) -> dict[str, tuple[Any, tuple[Range, ...]]]:
    found = {}
    for name, hint in get_type_hints(cls, include_extras=True).items():
        for each in (hint, *get_args(hint)):
            if get_origin(each) is Annotated:
                found[name] = hint, get_args(each)[1:]
    return found


# ---------------------------------------------------------------------------------------- options of classes, functions


class Group:
    """Marks a parameter whose dataclass's fields are options of their own: ``limits: Annotated[Limits, Group()]``."""


@dataclass(frozen=True)
class Options:
    """What options a class or a function takes.

    Args:
        kinds: the annotation of each option, in order; `Any` for one that has none.
        others: whether any other is taken too.
        grouped: options that are fields of a dataclass, with the name and the class of the parameter that takes it.
    """

    kinds: Mapping[str, Any]
    others: bool = False
    grouped: Mapping[str, tuple[str, type[Any]]] = dataclasses.field(default_factory=dict)

    def arguments(self, checked: Mapping[str, Any]) -> dict[str, Any]:
        """Checked options as keyword arguments: those of a group as its dataclass; raises what that raises."""
        groups = dict(self.grouped.values())
        arguments = {option: value for option, value in checked.items() if option not in self.grouped}
        for parameter, kind in groups.items():
            members = {key: value for key, value in checked.items() if self.grouped.get(key, ("",))[0] == parameter}
            arguments[parameter] = kind(**members)
        return arguments


def options_of(factory: Callable[..., Any], given: int = 0) -> Options:
    """What options a class or a function takes, as its signature declares them.

    Of a parameter that is marked as a `Group`, the fields of its dataclass are options; of ``**more: Unpack[Some]``,
    the keys of that `TypedDict`; ``**more`` without it takes anything.

    Args:
        factory: the class or function.
        given: how many positional arguments come from elsewhere (a model, an environment).

    Raises:
        ValueError: it has no signature.
    """
    hints = annotations_of(factory)
    kinds: dict[str, Any] = {}
    grouped: dict[str, tuple[str, type[Any]]] = {}
    others = False
    for index, parameter in enumerate(inspect.signature(factory).parameters.values()):
        hint = hints.get(parameter.name, Any)
        if parameter.kind is parameter.VAR_KEYWORD:
            others = get_origin(hint) is not Unpack
            kinds |= {} if others else get_type_hints(get_args(hint)[0], include_extras=True)
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            continue
        elif parameter.kind is parameter.KEYWORD_ONLY or index >= given:
            if not any(isinstance(each, Group) for each in get_args(hint)[1:]):
                kinds[parameter.name] = hint
                continue
            inner = get_args(hint)[0]
            group: Any = next(each for each in (inner, *get_args(inner)) if dataclasses.is_dataclass(each))
            inner = get_type_hints(group, include_extras=True)
            members = [item.name for item in dataclasses.fields(group) if item.init]
            kinds |= {name: inner[name] for name in members}
            grouped |= dict.fromkeys(members, (parameter.name, group))
    return Options(kinds, others, grouped)


def annotations_of(factory: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a class's or a function's parameters, and of ``return``; none where they cannot be read."""
    try:
        if not inspect.isclass(factory):
            return get_type_hints(factory, include_extras=True)
        fields = get_type_hints(factory, include_extras=True) if dataclasses.is_dataclass(factory) else {}
        own = {} if dataclasses.is_dataclass(factory) else get_type_hints(factory.__init__, include_extras=True)
        return fields | own
    except Exception:  # of code that is not ours: a name that is only imported for type checkers, say
        return {}


def checked_options(options: Options, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Options converted to their types, or refused.

    Args:
        options: those that are allowed.
        given: by name.
        where: whose they are, in errors: ``policy arithmetic-s``.

    Raises:
        UsageError: for an option that is not one, a value of a wrong type or out of its range.
    """
    names = list(options.kinds)
    for name in given:
        if name not in names and not options.others:
            allowed = f"allowed: {', '.join(names)}" if names else "it takes none"
            raise UsageError(f"{where} has no option {short(name)}{nearest(name, names) or ';'} {allowed}")
    return {name: convert(value, options.kinds.get(name, Any), where, name) for name, value in given.items()}


# ------------------------------------------------------------------------------------------------------------- values


def convert(value: Any, kind: Any, where: str, key: str) -> Any:
    """Check a value against an annotation and return it in that type.

    Whole floats pass as integers (``1e6``), integers as floats; nothing else is converted. No number is infinite.

    Raises:
        UsageError: naming the key, the value and the type that is expected.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any or kind is object or isinstance(kind, TypeVar):
        return value
    if origin is Annotated:
        return _convert_within(value, kind, where, key)
    if hasattr(kind, "from_config"):
        return value if isinstance(value, kind) else kind.from_config(value, f"{where}: {key!r}")
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if isinstance(value, Mapping):
            return _load(kind, value, where, key + ".")
        if isinstance(value, kind):
            return value
        if hasattr(kind, "short_form") and isinstance(value, int | float) and not isinstance(value, bool):
            return _load(kind, {kind.short_form: value}, where, key + ".")
        raise _wrong(value, kind, where, key)
    if origin is Literal:
        if any(value == each and type(value) is type(each) for each in arguments):
            return value
        allowed = [str(option) for option in arguments]
        guess = nearest(str(value), allowed) if isinstance(value, str) else ""
        raise UsageError(f"{where}: {key!r} is {short(value)}{guess or ';'} allowed: {', '.join(allowed)}")
    if origin in (Union, types.UnionType):
        return _convert_union(value, kind, where, key)
    if origin in (list, tuple) or (isinstance(origin, type) and issubclass(origin, Sequence)):
        return _convert_list(value, kind, where, key)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise _wrong(value, kind, where, key)
        names = {name: str(name) if arguments[0] is str else name for name in value}
        return {names[name]: convert(inner, arguments[1], where, f"{key}.{name}") for name, inner in value.items()}
    return _convert_scalar(value, kind, where, key)


def _wrong(value: Any, kind: Any, where: str, key: str) -> UsageError:
    return UsageError(f"{where}: {key!r} is {short(value)}; expected {_describe(kind)}")


def _convert_within(value: Any, kind: Any, where: str, key: str) -> Any:
    inner, *limits = get_args(kind)
    if inner in _WORDS:  # the type and its range are said together
        try:
            converted = _convert_scalar(value, inner, where, key)
        except UsageError:
            raise _wrong(value, kind, where, key) from None
    else:
        converted = convert(value, inner, where, key)
    if isinstance(converted, int | float) and not all(each.holds(converted) for each in limits):
        raise _wrong(value, kind, where, key)
    return converted


def _convert_union(value: Any, kind: Any, where: str, key: str) -> Any:
    kinds = get_args(kind)
    if value is None and type(None) in kinds:
        return None
    kinds = tuple(each for each in kinds if each is not type(None))
    exact = [each for each in kinds if isinstance(each, type) and type(value) is each]
    for each in (*exact, *kinds):
        try:
            return convert(value, each, where, key)
        except UsageError:
            if len(kinds) == 1 and value is not None and get_origin(each) is not Annotated and each not in _WORDS:
                raise
    raise _wrong(value, kind, where, key)


def _convert_list(value: Any, kind: Any, where: str, key: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Sequence):
        raise _wrong(value, kind, where, key)
    if origin is tuple and Ellipsis not in arguments:
        if len(value) != len(arguments):
            raise _wrong(value, kind, where, key)
        pairs = list(zip(value, arguments, strict=True))
    else:
        pairs = [(inner, arguments[0]) for inner in value]
    members = [convert(inner, each, where, f"{key}[{i}]") for i, (inner, each) in enumerate(pairs)]
    return members if origin is list else tuple(members)


def _convert_scalar(value: Any, kind: Any, where: str, key: str) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is float and number and abs(value) < _LARGEST:
        return float(value)
    if kind is int and number and abs(value) < _LARGEST and value == int(value):
        return int(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is types.NoneType and value is None:
        return None
    if kind in (int, float) or not _is_instance(value, get_origin(kind) or kind):
        raise _wrong(value, kind, where, key)
    return value


def _is_instance(value: Any, kind: Any) -> bool:
    """Whether a value is of a class; what is no class, or none that can be asked, is believed."""
    if kind is _CALLABLE:
        return callable(value)
    try:
        return isinstance(value, kind)
    except TypeError:
        return True


_CALLABLE = get_origin(Callable[[], None])
_LARGEST = 2.0**1023  # beyond it a number is infinite, or as good as that
_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", Path: "a path"}


def _describe(kind: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in _WORDS:
        return _WORDS[kind]
    if kind is type(None):
        return "null"
    if origin is Annotated:
        return ", ".join([_describe(arguments[0]), *map(str, arguments[1:])])
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(inner) for inner in arguments)
    if origin is Literal:
        return "one of " + ", ".join(str(option) for option in arguments)
    if origin is tuple and Ellipsis not in arguments:
        return "a list of " + ", ".join(_describe(inner) for inner in arguments)
    if origin in (list, tuple) or (isinstance(origin, type) and issubclass(origin, Sequence)):
        return f"a list, each {_describe(arguments[0])}"
    if origin is _CALLABLE:
        return "a function"
    if hasattr(kind, "short_form"):
        return f"a number ({kind.short_form}) or a mapping"
    return "a mapping" if dataclasses.is_dataclass(kind) or origin is not None else getattr(kind, "__name__", str(kind))
