"""Strategies by name (`envs.plugins`): the planner, the built-in ones, installed plug-ins, and classes of one's own."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import Any, get_type_hints

from agent.planning.planner import METHODS
from agent.strategies import Strategy
from envs.options import Options
from envs.plugins import Listed, Registry, UnusablePart

ENTRY_POINTS = "stepwell.strategies"
STRATEGY_PARTS: Registry[Strategy] = Registry("strategy", Strategy, ENTRY_POINTS, METHODS)
_OWN_KEYS = ("vote", "temperature", "auction")  # of the recipe and of who runs it, not of the strategy
_names: dict[type[Any], str] = {kind: name for name, kind in METHODS.items()}


def load_strategy(spec: str) -> type[Strategy]:
    """The class of a strategy, whose method `sized` makes it for a budget.

    Args:
        spec: a name of `list_strategies`, ``package.module:Class``, or a path to a .py file, with ``:Class`` when it
            holds several. The last two run code: never pass a name that was read from a file of somebody else.

    Raises:
        UnusablePart: for an unknown name, a file or module that cannot be loaded, and for what is no frozen dataclass
            with the methods of a strategy.
    """
    kind: Any = STRATEGY_PARTS.factory(spec)[0]
    usable = isinstance(kind, type) and dataclasses.is_dataclass(kind)
    if not usable:
        raise UnusablePart(f"strategy {spec!r} is no dataclass: its fields are its knobs")
    if not hasattr(kind, "traits"):
        raise UnusablePart(f"strategy {spec!r} has no `traits`: what it says of itself (agent.Traits), as a property")
    _names.setdefault(kind, spec)
    strategy: type[Strategy] = kind
    return strategy


def list_strategies() -> list[Listed]:
    """Every name there is, the built-in ones first, with what failed to load and why."""
    return STRATEGY_PARTS.listed()


def strategy_name(kind: type[Any]) -> str:
    """What a strategy was asked for by; the name of its class if it was made by hand."""
    return _names.get(kind, kind.__name__)


@lru_cache(maxsize=256)
def knobs_of(kind: type[Any]) -> Options:
    """The knobs of a strategy that a recipe may set, with their annotations.

    Vote and temperature have keys of their own in a recipe, and what follows from the budget is no knob.

    Raises:
        UnusablePart: the strategy cannot be sized.
    """
    try:
        small, large = kind.sized(1), kind.sized(64)
        hints = get_type_hints(kind, include_extras=True)
    except Exception as error:  # of a plug-in
        said = f"{type(error).__name__}: {error}"
        raise UnusablePart(f"strategy {strategy_name(kind)} cannot be sized: {said}") from error
    return Options(
        {
            field.name: hints[field.name]
            for field in dataclasses.fields(kind)
            if field.init
            and field.name not in _OWN_KEYS
            and getattr(small, field.name) == getattr(large, field.name)
            and isinstance(getattr(small, field.name), bool | int | float | str)
        }
    )
