"""Read a mapping into a frozen dataclass: each key checked, each value converted, each error with the nearest match."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from envs.messages import RecipeError, nearest

T = TypeVar("T")
Name = TypeVar("Name", bound=str)


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
