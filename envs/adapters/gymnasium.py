"""Any registered Gymnasium environment: ``load_environment("gymnasium", env="FrozenLake-v1")``.

An action is one line: a number for `Discrete` spaces, JSON for `MultiDiscrete`, `MultiBinary`, `Box`, `Tuple` and
`Dict`, the text itself for `Text`. What the space does not contain is no action. Observations are written as JSON.

States are restored by replay (`envs.adapters.episodes`). A package that registers environments is
imported by nobody here: import it before, or name a module of your own.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from typing import Annotated, Any

from envs.adapters.episodes import Episode, Episodes, Reply, numbered
from envs.core import Environment
from envs.messages import nearest, require
from envs.options import Above, AtLeast

require("gymnasium", "gymnasium")


def load_gymnasium(
    env: str = "FrozenLake-v1",
    config: Mapping[str, Any] | None = None,
    goal: float | None = None,
    max_steps: Annotated[int, AtLeast(1)] = 100,
    step_timeout: Annotated[float, Above(0)] = 10.0,
) -> Environment:
    """A Gymnasium environment.

    Args:
        env: its registered id, such as ``FrozenLake-v1``.
        config: keyword arguments of the environment, such as ``{"is_slippery": false}``.
        goal: the least return of a solved episode; by default the environment's own ``reward_threshold``.
        max_steps: actions after which an episode is cut.
        step_timeout: seconds that one call may take.

    Raises:
        ValueError: no such id, an option that the environment refuses, or a goal that nobody gave.
    """
    return Episodes("gymnasium", *_world(env, dict(config or {}), goal), max_steps, step_timeout)


def _world(env: str, config: dict[str, Any], goal: float | None) -> tuple[_Gymnasium, float]:
    import gymnasium

    if ":" in env:
        raise ValueError(f"env {env!r} names a module, whose code would run; import it yourself and give the id alone")
    if env not in gymnasium.registry:
        raise ValueError(f"no Gymnasium environment {env!r}{nearest(env, list(gymnasium.registry))}")
    world = _Gymnasium(env, config)
    threshold = gymnasium.spec(env).reward_threshold if goal is None else goal
    if threshold is None:
        raise ValueError(f"{env} has no reward_threshold; give a goal: the least return of a solved episode")
    return world, float(threshold)


class _Gymnasium:
    """Episodes of one environment, and its spaces."""

    def __init__(self, env: str, config: dict[str, Any]) -> None:
        self._env, self._config = env, config
        try:
            made = self._make()
        except Exception as error:
            raise ValueError(f"Gymnasium cannot make {env}: {type(error).__name__}: {error}") from None
        self.space: Any = made.action_space
        made.close()
        given = "".join(f" {key}={json.dumps(value)}" for key, value in sorted(config.items()))
        self.title = f"{env}{given}"
        self.rules = f"Act in {self.title}. Each line is one action, of {self.space}."

    def _make(self) -> Any:
        import gymnasium

        return gymnasium.make(self._env, **self._config)

    def begin(self) -> Episode:
        """A fresh episode."""
        return _Run(self._make())

    def read(self, text: str) -> Any:
        """The action of a line; raises ValueError where the space does not contain it."""
        action = _action_of(self.space, text)
        if not self.space.contains(action):
            raise ValueError(f"{text[:60]!r} is no action of {self.space}")
        return action

    def options(self) -> Mapping[str, float]:
        """The actions of a `Discrete` space."""
        from gymnasium.spaces import Discrete

        if not isinstance(self.space, Discrete):
            return {}
        return {str(int(self.space.start) + int(each)): 1.0 for each in numbered(int(self.space.n))}

    def close(self) -> None:
        """Nothing is held."""


class _Run:
    """An episode."""

    def __init__(self, env: Any) -> None:
        self._env = env

    def reset(self, seed: int) -> str:
        """Begin."""
        return written(self._env.reset(seed=seed)[0])

    def act(self, action: Any) -> Reply:
        """Take an action."""
        observation, reward, terminated, truncated, _ = self._env.step(copy.deepcopy(action))
        number = float(reward)
        return Reply(written(observation), number if math.isfinite(number) else 0.0, bool(terminated or truncated))

    def close(self) -> None:
        """End it."""
        self._env.close()


def _action_of(space: Any, text: str) -> Any:
    """A line as an element of a space, as far as its form goes."""
    import numpy as np
    from gymnasium import spaces

    if isinstance(space, spaces.Text):
        return text
    try:
        value = json.loads(text, parse_constant=lambda name: math.nan)
    except RecursionError:
        raise ValueError("nested too deeply") from None

    def build(space: Any, value: Any) -> Any:
        match space:
            case spaces.Discrete():
                if type(value) is not int or abs(value) >= 2**63:
                    raise ValueError("a whole number is needed")
                return np.int64(value)
            case spaces.MultiDiscrete() | spaces.MultiBinary() | spaces.Box():
                try:
                    return np.array(value, dtype=space.dtype)
                except (TypeError, OverflowError) as error:
                    raise ValueError(str(error)) from None
            case spaces.Tuple() if isinstance(value, list) and len(value) == len(space.spaces):
                return tuple(map(build, space.spaces, value))
            case spaces.Dict() if isinstance(value, dict) and value.keys() == space.spaces.keys():
                return {key: build(each, value[key]) for key, each in space.spaces.items()}
            case spaces.Text() if isinstance(value, str):
                return value
        raise ValueError(f"it does not fit {space}")

    return build(space, value)


def written(observation: Any) -> str:
    """An observation as JSON; what JSON does not know, as text."""
    import numpy as np

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return value.tolist() if value.size <= 500 else f"array of shape {value.shape}"
        return value.item() if isinstance(value, np.generic) else str(value)

    return observation if isinstance(observation, str) else json.dumps(observation, default=plain)
