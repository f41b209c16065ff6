"""What the session solves with: each setting is shown, and changed, by a command of its name."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from rich.text import Text

from agent.build import check_parts, choices, describe_strategy, parts, strategy_of
from agent.interface.common import start_from
from agent.interface.session.command import Command
from agent.interface.text import brief, visible
from agent.interface.tree_view import call_text
from agent.recipes.files import has_recipe, is_setting, override, parse_options, split_words, unquoted
from agent.recipes.recipe import Component, Recipe, parse_budget, parse_component
from envs.messages import UsageError
from envs.options import load_dataclass
from policies.registry import SCRIPTED
from verifiers.voting import Vote

if TYPE_CHECKING:
    from agent.interface.session.session import Session


_LOADED = ("environment", "policy", "verifier")  # what a search holds until it is over


def setting(key: str, session: Session, text: str) -> None:
    """Show a setting, and change it before where a value is given; in a pause, of the search that is paused."""
    if session.run is not None and key in ("strategy", "budget") and text:
        session.steer(key, text)
        return
    if text and key in _LOADED:
        session.refuse_in_pause(f"the {key} cannot be changed")
    if text:
        change(session, key, text)
    show(session, key)


def change(session: Session, key: str, text: str) -> None:
    """Set a key of the recipe to what was typed; on an error everything stays as it was."""
    before = session.recipe
    config = before.to_config()
    if key == "budget":
        config["budget"] = {name: value for name, value in vars(parse_budget(text)).items() if value is not None}
    elif key == "vote":
        words = split_words(text)
        if len(words) > 2:
            raise UsageError(f"/vote {brief(text, 40)}: expected RULE, or RULE AGGREGATE, e.g. /vote max last")
        config["vote"] = dict(zip(("rule", "aggregate"), words, strict=False))
    elif key in ("seed", "temperature"):
        config = override(config, [f"{key}={text}"])
    else:
        config = _with_part(before, config, key, text)
    session.recipe = load_dataclass(Recipe, config, f"/{key}")
    try:
        check_parts(session.recipe)
        if key in _LOADED:
            session.solver  # noqa: B018 - loads the models now, so that a wrong name changes nothing
    except BaseException:
        session.recipe = before
        raise


def _with_part(recipe: Recipe, config: dict[str, Any], key: str, text: str) -> dict[str, Any]:
    """The keys of a recipe with another part in it, or with other options of the part that is there.

    An environment that has a recipe of its own comes with all that it says, as ``--env`` does.
    """
    words = split_words(text := unquoted(text))
    if words and is_setting(words[0]):
        part = getattr(recipe, key)
        return config | {key: Component(part.name, {**part.options, **parse_options(words, part.name)}).to_config()}
    part = parse_component(text)
    if key == "environment" and has_recipe(part.name):
        config, _ = start_from(None, part.name)
        own = Component.from_config(config["environment"], "environment")
        part = Component(part.name, {**own.options, **part.options})
    return config | {key: part.to_config()}


def show(session: Session, key: str) -> None:
    """Print the value of a key, what it means, and what else it could be."""
    recipe = session.recipe
    if key in ("environment", "policy") and recipe.policy.name == SCRIPTED:
        said = "policy scripted: its steps are made up by the environment, no language model is loaded"
        session.console.print(Text(said, style="yellow"))
    value = recipe.to_config()[key]
    if isinstance(value, dict):
        value = " ".join(str(inner) if name == "name" else f"{name}={_short(inner)}" for name, inner in value.items())
        value = value or "no limit"
    line = Text.assemble((f"{key} ", "dim"), (visible(str(value)), "bold"))
    chosen = getattr(recipe, key)
    current = chosen.rule if isinstance(chosen, Vote) else getattr(chosen, "name", "")
    others = [name for name in choices(key) if name != current]
    if others:
        line.append(f"   others: {', '.join(others)}", style="dim")
    session.say(line)
    if key == "strategy":
        strategy = describe_strategy(strategy_of(recipe))
        session.say(Text(f"in force: {call_text(strategy['name'], strategy)}", style="dim"))
    if key in ("strategy", "policy", "verifier"):
        name = getattr(recipe, key).name
        for each in parts(key):
            if each.name == name:
                session.say(Text(visible(each.line), style="dim"))


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _of(key: str, usage: str, what: str) -> Command:
    return Command(partial(setting, key), usage, what)


SETTINGS = {
    "/strategy": _of("strategy", "[NAME [KNOB=VALUE ...]]", "how to search; auto lets the planner decide"),
    "/budget": _of("budget", "[N | samples=N seconds=S ...]", "what one question may spend"),
    "/policy": _of("policy", "[NAME]", "the model that proposes steps"),
    "/verifier": _of("verifier", "[NAME | none]", "the model that scores steps"),
    "/env": _of("environment", "[NAME [OPTION=VALUE ...]]", "the domain of the questions"),
    "/vote": _of("vote", "[RULE [AGGREGATE]]", "how the answer is chosen"),
    "/temperature": _of("temperature", "[T]", "of the samples; 0 is greedy"),
    "/seed": _of("seed", "[N]", "of the samples"),
}
"""The commands of the settings."""
