"""The commands by which people steer a search: their names, what they take, what they are for.

One table for the session, the command line and every other door; what they do is in `agent.search.control.commands`.
Nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from envs.messages import UsageError, nearest, short

LONGEST = 10_000  # characters of a step that a person writes, and of a budget or a strategy


@dataclass(frozen=True)
class Parameter:
    """What a command takes.

    Args:
        name: of the argument.
        kind: ``node``, ``count``, ``nodes`` or ``text``; the last two take all that is left of a line.
        optional: it may be left out.
    """

    name: str
    kind: str
    optional: bool = False

    @property
    def usage(self) -> str:
        """As help shows it."""
        text = "NODE..." if self.kind == "nodes" else self.name.upper()
        return f"[{text}]" if self.optional else text


@dataclass(frozen=True)
class Command:
    """A command.

    Args:
        parameters: that it takes.
        help: what it does, in a line.
        shared: whether it may be used where searches share a budget.
    """

    parameters: tuple[Parameter, ...]
    help: str
    shared: bool = False

    @property
    def usage(self) -> str:
        """Its arguments, as help shows them."""
        return " ".join(parameter.usage for parameter in self.parameters)


NODE = Parameter("node", "node")
COMMANDS: dict[str, Command] = {
    "pause": Command((), "hold the search; replies that are out still come in"),
    "resume": Command((), "let it go on"),
    "stop": Command((), "end it with the best answer so far", shared=True),
    "cancel": Command((), "end it at once and drop its requests", shared=True),
    "budget": Command((Parameter("budget", "text"),), "change its limits, e.g. 32 or samples=32 seconds=9"),
    "strategy": Command((Parameter("strategy", "text"),), "go on from here with another strategy"),
    "expand": Command((NODE, Parameter("n", "count", True)), "draw next steps of a node (4)"),
    "prune": Command((NODE,), "do not search below a node; nothing there votes"),
    "pin": Command((NODE,), "let a node count as promising, whatever its score"),
    "only": Command((Parameter("nodes", "nodes", True),), "search below these nodes alone; without: anywhere"),
    "write": Command((NODE, Parameter("text", "text")), "add a step of one's own after a node"),
    "answer": Command((NODE,), "accept the answer of a node, which ends the search"),
    "undo": Command((), "take the last change back; what was spent stays spent"),
}
"""By name, what a person can do to a search."""


def check(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a command, each of the right kind; raises UsageError, naming what is allowed."""
    if name not in COMMANDS:
        raise UsageError(f"unknown command {short(name)}{nearest(name, COMMANDS)}; allowed: {', '.join(COMMANDS)}")
    parameters = {each.name: each for each in COMMANDS[name].parameters}
    for given in arguments:
        if given not in parameters:
            allowed = f"allowed: {', '.join(parameters) or 'none'}"
            raise UsageError(f"{name} has no argument {short(given)}{nearest(given, parameters)}; {allowed}")
    checked: dict[str, Any] = {}
    for each in parameters.values():
        value = arguments.get(each.name)
        if value is None or value == []:
            if not each.optional:
                raise UsageError(f"{name} needs {each.name.upper()}: {name} {COMMANDS[name].usage}")
            continue
        checked[each.name] = _of_kind(value, each, name)
    return checked


def _of_kind(value: Any, parameter: Parameter, name: str) -> Any:
    what = f"{name}: {parameter.name} {short(value)} given; expected"
    if parameter.kind == "text":
        if not isinstance(value, str) or not value.strip() or len(value) > LONGEST:
            raise UsageError(f"{what} a text of at most {LONGEST:,} characters")
        return value
    if parameter.kind == "nodes":
        if not isinstance(value, list) or not all(type(each) is int for each in value) or len(value) > 1000:
            raise UsageError(f"{what} numbers of nodes")
        return list(dict.fromkeys(value))
    if type(value) is not int:
        raise UsageError(f"{what} {'the number of a node' if parameter.kind == 'node' else 'a whole number'}")
    return value


def from_words(name: str, text: str) -> dict[str, Any]:
    """The arguments of a command as a person types them after its name.

    Raises:
        UsageError: there is no such command, or a word is no number where one is expected.
    """
    command = COMMANDS.get(name)
    if command is None:
        return check(name, {})
    arguments: dict[str, Any] = {}
    rest = text.strip()
    for parameter in command.parameters:
        if parameter.kind == "text":
            arguments[parameter.name], rest = rest or None, ""
        elif parameter.kind == "nodes":
            arguments[parameter.name] = [_number(word, name) for word in rest.replace(",", " ").split()]
            rest = ""
        else:
            word, _, rest = rest.partition(" ")
            rest = rest.strip()
            arguments[parameter.name] = _number(word, name) if word else None
    if rest:
        raise UsageError(f"{name} takes {command.usage or 'nothing'}; {short(rest)} is too much")
    return arguments


def _number(word: str, name: str) -> int:
    if not word.isascii() or not word.isdecimal() or len(word) > 18:
        raise UsageError(f"{name} {short(word)}: expected the number of a node, which the tree shows")
    return int(word)
