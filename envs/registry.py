"""Environments by name (`envs.plugins`): the built-in ones, installed plug-ins, and files or modules of one's own."""

from __future__ import annotations

from typing import Any

from envs.core import Environment
from envs.plugins import Listed, Registry, UnusablePart

ENTRY_POINTS = "stepwell.envs"
BUILT_IN: dict[str, str] = {
    "arithmetic": "envs.arithmetic:Arithmetic",
    "chemistry": "envs.chemistry.environment:Chemistry",
    "code": "envs.code.environment:Code",
    "countdown": "envs.countdown:Countdown",
    "gymnasium": "envs.adapters.gymnasium:load_gymnasium",
    "math": "envs.math.environment:Math",
    "openenv": "envs.adapters.openenv:load_openenv",
    "prime": "envs.adapters.prime:load_prime",
    "reasoning-gym": "envs.reasoning_gym.environment:load_task",
    "toy": "envs.toy:Toy",
}


class UnusableEnvironment(UnusablePart):
    """No environment could be made of what was given; the message says why and what is allowed."""


ENVIRONMENTS: Registry[Environment] = Registry(
    "environment", Environment, ENTRY_POINTS, BUILT_IN, error=UnusableEnvironment
)


def load_environment(spec: str, **options: Any) -> Environment:
    """Make an environment.

    Args:
        spec: a name, ``package.module:Class``, or a path to a .py file, with ``:Class`` when it holds several. The last
            two run code: never pass a name that was read from a file of somebody else.
        options: passed on as keyword arguments, once they have been checked against their annotations.

    Raises:
        UnusableEnvironment: for an unknown name, a file or module that cannot be loaded, an option that is not one,
            and for an object that is no environment.
    """
    return ENVIRONMENTS.make(spec, **options)


def list_environments() -> list[Listed]:
    """Every name there is, the built-in ones first, with what failed to load and why."""
    return ENVIRONMENTS.listed()
