"""``stepwell ctl``: list, watch and steer the searches of this user's processes, from a terminal or a script."""

from __future__ import annotations

import argparse
from typing import Any

from agent.interface.common import command_names, make_console, positive, quiet

ABOUT = """\
A search is named by its number in 'stepwell ctl list', e.g. 3, or 4711/3 with the number of its process. Commands may
be repeated without harm: what holds already changes nothing. 'expand' and 'undo' do more each time; with --key they are
done once. Texts of models are shown only with --content.

Exit codes: 0 done, or it was so already; 1 there is no such search, or it is over; 2 wrong usage.
"""


def add_ctl(parser: Any) -> None:
    """Add the commands of ``ctl`` to its parser."""
    from agent.search.control.arguments import COMMANDS

    parser.description = "List, watch and steer the searches under way: of sessions, solve, eval and study.\n\n" + ABOUT
    parser.set_defaults(run=lambda arguments: parser.error("what to do? e.g. stepwell ctl list"))
    add = command_names(parser, "what")

    each = add("list", run_list, "list the searches under way")
    each.add_argument("--all", action="store_true", help="also those that are over")
    _json(each)
    each = add("show", run_show, "show a search: its figures and its tree")
    each.add_argument("search", metavar="SEARCH", help="number of the search")
    each.add_argument("--rows", type=positive, default=40, metavar="N", help="nodes at most (default 40)")
    each.add_argument("--content", action="store_true", help="with texts: question, steps, answers")
    _json(each)
    each = add("events", run_events, "what happened after an event")
    each.add_argument("search", metavar="SEARCH", nargs="?", help="of this search only")
    each.add_argument("--after", type=_cursor, default=0, metavar="CURSOR", help="number of the last event seen (0)")
    each.add_argument("--wait", type=_cursor, default=0, metavar="S", help="seconds to wait for an event (default 0)")
    each.add_argument("--process", type=int, metavar="PID", help="number of the process, where there are several")
    _json(each)
    for name, command in COMMANDS.items():
        each = add(name, run_do, command.help)
        each.add_argument("search", metavar="SEARCH", help="number of the search")
        for parameter in command.parameters:
            kind = int if parameter.kind in ("node", "count", "nodes") else str
            many: dict[str, Any] = {"nargs": "*"} if parameter.kind == "nodes" else {}
            if parameter.kind != "nodes" and parameter.optional:
                many = {"nargs": "?"}
            elif parameter.kind == "text":
                many = {"nargs": "+"}
            each.add_argument(parameter.name, metavar=parameter.name.upper(), type=kind, **many)
        each.add_argument("--dry-run", action="store_true", help="only check it, and show what would change")
        each.add_argument("--key", metavar="KEY", help="do it once under this key, however often it is sent")
        each.add_argument("--who", metavar="NAME", help="who asks, for the record (default: your user name)")
        _json(each)


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _cursor(text: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise argparse.ArgumentTypeError(f"{text!r} given; a whole number from 0 on is needed")
    return int(text)


# ----------------------------------------------------------------------------------------------------------- commands


def run_list(arguments: argparse.Namespace) -> int:
    """The searches of all processes."""
    from agent.interface.control.client import processes
    from agent.interface.control.ctl_view import list_view
    from agent.interface.text import unicode_of

    quiet()
    found = processes(arguments.all)
    if arguments.json:
        searches = [{**each, "process": process.about} for process in found for each in process.searches]
        _print({"searches": searches, "left_out": sum(process.left_out for process in found)})
    else:
        console = make_console()
        console.print(list_view(found, console.width, unicode_of(console)))
    return 0


def run_show(arguments: argparse.Namespace) -> int:
    """One search."""
    from agent.interface.control.client import ask, find
    from agent.interface.control.ctl_view import show_view

    quiet()
    process, search = find(arguments.search)
    told = ask(process.path, {"op": "show", "search": search, "rows": arguments.rows, "content": arguments.content})
    if arguments.json:
        _print(told)
    else:
        make_console().print(show_view(told))
    return 0


def run_events(arguments: argparse.Namespace) -> int:
    """What happened; a line of JSON an event, where JSON is asked for, and last the cursor to go on with."""
    from agent.interface.control.client import NoSuchSearch, ask, find, processes
    from agent.interface.control.ctl_view import events_view

    quiet()
    search = None
    if arguments.search is not None:
        process, search = find(arguments.search)
    else:
        found = [each for each in processes() if arguments.process in (None, each.pid)]
        if len(found) != 1:
            there = ", ".join(str(each.pid) for each in found)
            raise NoSuchSearch(
                f"several processes search; name one by --process: {there}" if found else "no such process searches"
            )
        process = found[0]
    request = {"op": "events", "after": arguments.after, "wait": arguments.wait, "search": search}
    told = ask(process.path, request)
    if arguments.json:
        _print({key: told[key] for key in ("process", "events", "cursor", "missed")})
    else:
        make_console().print(events_view(told))
    return 0


def run_do(arguments: argparse.Namespace) -> int:
    """Change a search."""
    from agent.interface.control.client import ask, find
    from agent.interface.control.ctl_view import outcome_view
    from agent.search.control.arguments import COMMANDS

    quiet()
    given: dict[str, Any] = {}
    for parameter in COMMANDS[arguments.what].parameters:
        value = getattr(arguments, parameter.name)
        if value is not None:
            given[parameter.name] = " ".join(value) if parameter.kind == "text" else value
    process, search = find(arguments.search)
    request = {"op": "do", "search": search, "command": arguments.what, "arguments": given}
    told = ask(process.path, request | {"dry_run": arguments.dry_run, "who": arguments.who, "key": arguments.key})
    if arguments.json:
        _print(told)
    else:
        make_console().print(outcome_view(told))
    return 0


def _print(value: dict[str, Any]) -> None:
    from agent.interface.text import json_text

    print(json_text({key: each for key, each in value.items() if key not in ("ok", "protocol")}))
