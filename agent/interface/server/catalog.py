"""What can be asked: the names of models, and the recipe, the strategy and the budget that each stands for.

A name is ``RECIPE``, ``RECIPE/STRATEGY`` or ``RECIPE/STRATEGY-SAMPLES``; ``stepwell`` is the first recipe. The models
themselves are the engine's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, cast

from agent.build import choices, strategy_of
from agent.interface.server.core import Asked, Refused
from agent.interface.server.engine.protocol import LoadedPolicy, Order
from agent.interface.server.limits import MOST_KNOB, ServerLimits, allowed_budget, scaled_budget, with_tokens
from agent.recipes.recipe import Component, Recipe
from agent.search.budget import Budget
from agent.strategies import SizedByCost
from envs.core import Environment, Problem, UnreadableQuestion
from envs.guarded import EnvironmentFailure
from envs.messages import UsageError, nearest, short

DEFAULT = "stepwell"
_SIZED = re.compile(r"(.+)-([0-9]{1,9})")
_USUAL = 16  # samples of the strategies that are listed


@dataclass(frozen=True)
class Planned:
    """A search that was asked for and may be made.

    Args:
        recipe: its name.
        problem: that was read.
        strategy: of the search.
        budget: of one search.
        temperature: of the samples.
        seed: of the first search.
        notes: on what was done otherwise than a client might expect.
    """

    recipe: str
    problem: Problem
    strategy: Component
    budget: Budget
    temperature: float
    seed: int
    notes: tuple[str, ...]

    def order(self, id: str, index: int, asked: Asked) -> Order:
        """One of the searches, as the engine is told to make it."""
        return Order(
            id, self.recipe, self.problem, self.strategy, self.budget, self.temperature, self.seed + index, index,
            asked.content, asked.form, asked.stop, asked.abstain_below, self.notes,
        )  # fmt: skip


class Catalog:
    """The recipes of a server.

    Args:
        recipes: by name, the default first.
        environments: of each, for reading questions.
        policies: of each, as loaded by the engine.
        limits: of the server.
        last_turn_only: let policies that cannot be shown a conversation answer its last turn.
    """

    def __init__(
        self,
        recipes: Mapping[str, Recipe],
        environments: Mapping[str, Environment],
        policies: Mapping[str, LoadedPolicy],
        limits: ServerLimits,
        last_turn_only: bool = False,
    ) -> None:
        self.recipes, self.environments, self.policies = dict(recipes), environments, policies
        self.limits = limits
        self.last_turn_only = last_turn_only
        self.strategies = choices("strategy")

    def models(self) -> list[str]:
        """Names to choose from: other numbers of samples work as well."""
        sized = [name for name in self.strategies if name not in ("auto", "greedy")]
        named = ["auto", "greedy", *(f"{name}-{_USUAL}" for name in sized)]
        return [*(f"{DEFAULT}/{name}" for name in named), *self.recipes]

    def find(self, model: str) -> tuple[str, Component | None, Budget | None]:
        """The recipe of a name, and the strategy and budget that it says.

        Raises:
            Refused: there is none; with the nearest.
        """
        name, _, rest = model.partition("/")
        if name == DEFAULT:
            name = next(iter(self.recipes))
        if name not in self.recipes:
            raise self._unknown(model)
        if not rest:
            return name, None, None
        if rest in self.strategies:
            return name, Component(rest), None
        sized = _SIZED.fullmatch(rest)
        if sized is None or sized[1] not in self.strategies:
            raise self._unknown(model)
        if not int(sized[2]):
            raise Refused(404, f"model {short(model)}: a budget of 0 samples buys none", "model")
        return name, Component(sized[1]), Budget(samples=int(sized[2]))

    def _unknown(self, model: str) -> Refused:
        known = self.models()
        guess = nearest(model, known) or ";"
        return Refused(404, f"no model {short(model)}{guess} allowed: {', '.join(known)}", "model")

    def plan(self, asked: Asked, cap: Budget) -> Planned:
        """Everything that can be refused is refused here.

        Args:
            asked: what is asked for.
            cap: on the budget of whoever asks, besides the server's.

        Raises:
            Refused: with what was given, what is allowed and the nearest match.
        """
        name, strategy, budget = self.find(asked.model)
        recipe = self.recipes[name]
        caps = (self.limits.budget, cap)
        given = asked.budget or budget
        if given is not None and asked.effort is not None:
            raise Refused(400, "both a budget and an effort are given; give one", "reasoning_effort")
        limited, notes = (
            scaled_budget(recipe.budget, asked.effort, caps) if given is None else (allowed_budget(given, caps), [])
        )
        limited = with_tokens(limited, asked.tokens)
        chosen = asked.strategy or strategy or recipe.strategy
        if asked.strategy is not None:
            self._check_knobs(asked.strategy)
        temperature = recipe.temperature if asked.temperature is None else asked.temperature
        try:
            made = strategy_of(replace(recipe, strategy=chosen, budget=limited, temperature=temperature))
        except UsageError as error:
            raise Refused(400, str(error), "strategy") from None
        kind = made.kind if isinstance(made, SizedByCost) else type(made)
        if asked.temperature is not None and all(field.name != "temperature" for field in fields(cast(Any, kind))):
            raise Refused(400, f"strategy {chosen.name} takes no temperature; leave it out", "temperature")
        problem, more = self._problem(name, asked)
        seed = recipe.seed if asked.seed is None else asked.seed
        return Planned(name, problem, chosen, limited, temperature, seed, (*notes, *more))

    def _problem(self, recipe: str, asked: Asked) -> tuple[Problem, list[str]]:
        limits, turns, policy = self.limits, asked.conversation, self.policies[recipe]
        if len(turns) >= limits.turns:
            raise Refused(400, f"{len(turns) + 1} turns given; at most {limits.turns} are read", "messages")
        longest = max(len(asked.question), *(len(turn.text) for turn in turns), 0)
        if longest > limits.question:
            most = f"at most {limits.question:,} are read"
            raise Refused(400, f"a text of {longest:,} characters given; {most}", "messages")
        try:
            problem = self.environments[recipe].read(asked.question)
        except UnreadableQuestion as error:
            raise Refused(400, str(error), "messages") from None
        except EnvironmentFailure as error:
            raise Refused(500, str(error)) from None
        if not turns:
            return problem, []
        if policy.converses:
            return replace(problem, conversation=turns), []
        if self.last_turn_only:
            return problem, [f"policy {policy.name} reads the last turn only: those before it are left out"]
        raise Refused(
            400,
            f"policy {policy.name} is no chat model and reads one question: send the last turn alone, without a"
            " system prompt (or start the server with --last-turn-only)",
            "messages",
        )

    @staticmethod
    def _check_knobs(strategy: Component) -> None:
        for knob, value in strategy.options.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and not -MOST_KNOB <= value <= MOST_KNOB:
                raise Refused(400, f"strategy {strategy.name}: {knob}={short(value)}; at most {MOST_KNOB}", "strategy")
