"""What the commands share: their parser, the options of a recipe, the console."""

from __future__ import annotations

import argparse
import difflib
import itertools
import math
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, get_type_hints

from agent.interface.text import MESSAGE, brief, visible

if TYPE_CHECKING:
    from loguru import Record
    from rich.console import Console

    from agent.recipes.recipe import Recipe


T = TypeVar("T")


class UsageExit(SystemExit):
    """The command line has said all there is to say: its help, its version, or what is wrong with the usage."""


class CommandParser(argparse.ArgumentParser):
    """Argparse whose errors name the nearest right word."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line, and leave with code 2."""
        if wrong := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
            given, allowed = wrong[1], re.findall(r"[\w-]+", wrong[2])
            close = difflib.get_close_matches(given, allowed, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ";"
            message = f"unknown command {given!r}{hint} allowed: {', '.join(allowed)}"
        self.exit(2, f"{self.prog}: {brief(visible(message), MESSAGE)}\nTry '{self.prog} --help'.\n")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Leave, in a way that tells apart the code of others that calls `sys.exit`."""
        if message:
            self._print_message(message, sys.stderr)
        raise UsageExit(status)

    def parse_strictly(self, argv: Sequence[str]) -> argparse.Namespace:
        """Like `parse_args`, with the nearest option for one that is unknown."""
        arguments, unknown = self.parse_known_args(argv)
        if unknown:
            inner = arguments.parser if "parser" in arguments else self
            options = [option for action in inner._actions for option in action.option_strings]
            close = difflib.get_close_matches(unknown[0].partition("=")[0], options, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            inner.error(f"cannot use {unknown[0]!r}{hint}")
        return arguments


class HelpFormatter(argparse.HelpFormatter):
    """Help as wide as the terminal: lines that begin with a blank, such as examples, stay as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        blocks = itertools.groupby(text.splitlines(), lambda line: line[:1] in ("", " "))
        kept = ("\n".join(lines) if as_is else textwrap.fill(" ".join(lines), width) for as_is, lines in blocks)
        return textwrap.indent("\n".join(kept), indent)


def command_names(parser: argparse.ArgumentParser, name: str) -> Callable[..., argparse.ArgumentParser]:
    """A function that adds a command to a parser; `name` is where the chosen command is kept."""
    group = parser.add_subparsers(dest=name, metavar="COMMAND", title="commands", parser_class=CommandParser)

    def add(command: str, run: Callable[[argparse.Namespace], int] | None, what: str) -> argparse.ArgumentParser:
        inner = group.add_parser(
            command,
            help=what,
            description=what[0].upper() + what[1:] + ".",
            formatter_class=HelpFormatter,
        )
        inner.set_defaults(run=run, parser=inner)
        return inner

    return add


def add_recipe(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """Add the options of a recipe; `several` lets strategies and budgets be lists."""
    many: dict[str, Any] = {"nargs": "+"} if several else {}
    group = parser.add_argument_group("recipe (configs/arithmetic.yaml explains every key)")
    group.add_argument("--config", metavar="NAME", help="name (configs/NAME.yaml) or path of a recipe")
    group.add_argument("--env", metavar="NAME", help="environment; its recipe is used if it has one")
    group.add_argument("--policy", metavar="NAME", help="name or folder of the model that proposes steps")
    group.add_argument("--large-policy", metavar="NAME", help="a larger model for steps that a strategy wants of it")
    group.add_argument("--verifier", metavar="NAME", help="name or folder of the model that scores steps, or none")
    group.add_argument("--strategy", metavar="NAME", help="search strategy, e.g. beam or 'beam branch=2'", **many)
    group.add_argument(
        "--budget", metavar="N", help="budget per problem in samples, or e.g. samples=16,seconds=5", **many
    )
    group.add_argument("--vote", metavar="RULE", help="how the answer is chosen: majority, max or vote")
    group.add_argument(
        "--aggregate", metavar="HOW", help="how step scores become one score: last, min, mean or product"
    )
    group.add_argument("--temperature", type=float, metavar="T", help="sampling temperature; 0 is greedy decoding")
    group.add_argument("--seed", type=int, metavar="N", help="random seed of the samples")
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set any key of the recipe, e.g. strategy.branch=2",
    )
    add_trust(group)


def add_trust(parser: Any) -> None:
    """Add the option by which the user says that a file may run code."""
    parser.add_argument(
        "--trust", action="store_true", help="let the file name modules and files, whose code then runs"
    )


def positive(text: str) -> int:
    """Read a whole number of at least 1, for argparse."""
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} given; a whole number of at least 1 is needed")
    return number


def temperature(text: str) -> float:
    """Read a finite temperature above 0, for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} given; a temperature above 0 is needed")
    return number


# --------------------------------------------------------------------------------------------------------- recipes


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    """The recipe file, then the flags, then ``--set``, each over what came before.

    Without ``--config`` the file is the environment's own (``configs/ENVIRONMENT.yaml``), if it has one.
    """
    from agent.recipes.files import override
    from agent.recipes.recipe import Component, Recipe, parse_budget, parse_component
    from envs.options import convert, load_dataclass
    from verifiers.voting import Vote

    config, where = start_from(arguments.config, arguments.env, arguments.trust)
    kinds = get_type_hints(Recipe, include_extras=True)
    for key in ("policy", "verifier", "temperature", "seed"):
        if (given := getattr(arguments, key)) is not None:
            # a number that is wrong is the option's fault, not the file's
            config[key] = convert(given, kinds[key], f"--{key}", key) if isinstance(given, int | float) else given
    if arguments.large_policy is not None:
        config["policy"] = {"name": "pair", "small": config.get("policy", Recipe().policy.name)} | {
            "large": arguments.large_policy
        }
    if isinstance(arguments.strategy, str):
        config["strategy"] = parse_component(arguments.strategy).to_config()
    if isinstance(arguments.budget, str):
        config["budget"] = {
            key: value for key, value in vars(parse_budget(arguments.budget)).items() if value is not None
        }
    if getattr(arguments, "abstain", None) is not None:
        chosen = Component.from_config(config.get("strategy", "auto"), "strategy")
        config["strategy"] = {**chosen.options, "name": chosen.name, "abstain": arguments.abstain}
    rules = get_type_hints(Vote)
    for key, option, value in (("rule", "--vote", arguments.vote), ("aggregate", "--aggregate", arguments.aggregate)):
        if value is not None:
            config = override(config, [f"vote.{key}={convert(value, rules[key], option, key)}"])
    return load_dataclass(Recipe, override(config, arguments.set), f"{where} with --set" if arguments.set else where)


def start_from(config: str | None, environment: str | None, trust: bool = False) -> tuple[dict[str, Any], str]:
    """The keys of a recipe to begin with, and its file: the one that is named, or else the environment's own.

    An environment that is named and is not the recipe's takes its place, without options.
    """
    from agent.recipes.files import default_config, read_config

    keys, where = read_config(config or default_config(environment), trust=trust)
    named = keys.get("environment")
    if environment and (named.get("name") if isinstance(named, dict) else named) != environment:
        keys["environment"] = environment
    return keys, where


def make_console(stderr: bool = False) -> Console:
    """The console of a command: 120 columns wide where the output is no terminal."""
    from agent.interface.terminal.console import PlainConsole

    console = PlainConsole(stderr=stderr)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 120  # in a file there is no edge to keep to
    return console


def quiet(level: str = "ERROR") -> None:
    """Send log lines to standard error, from `level` on; a message is one line, whoever wrote the words in it."""
    from loguru import logger

    logger.remove()
    logger.configure(patcher=_one_line)
    # always said: what confines the code that a model wrote, what a server does not count, and what takes its time
    said: dict[str | None, str | int | bool] = {
        "": level,
        "envs.code.sandbox": "INFO",
        "policies.servers.http_client": "WARNING",
        "policies.models.made_once": "INFO",
        "policies.models.pretrained": "WARNING",
        "policies.backends.openai": "WARNING",
        # which recipe was taken of two, and a model that was trained for another environment
        "agent.recipes.files": "WARNING",
        "agent.build": "WARNING",
    }
    logger.add(sys.stderr, level=0, filter=said, format="{time:HH:mm:ss} {level: <7} {message}")


def _one_line(record: Record) -> None:
    record["message"] = visible(record["message"]).replace("\n", "\n  ")


@contextmanager
def refusing() -> Iterator[None]:
    """Let what a training refuses (a folder of another recipe, an environment that cannot teach) be one sentence."""
    from envs.messages import UsageError

    try:
        yield
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error
