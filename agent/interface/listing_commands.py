"""``stepwell envs``, ``check-env``, ``new-env`` and ``models``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from agent.interface.common import make_console

_TELLING = 10.0  # seconds between two lines about what is being tried


def run_envs(arguments: argparse.Namespace) -> int:
    """Print the installed environments, and why those that failed to load did."""
    from agent.build import parts
    from agent.interface.study_view import listing

    make_console().print(listing({"environments": parts("environment")}))
    return 0


def run_check_env(arguments: argparse.Namespace) -> int:
    """Try every rule on an environment; one sentence on each that is broken."""
    from agent.recipes.recipe import parse_component
    from envs.conformance import SLOW, examine_environment
    from envs.registry import load_environment

    named = parse_component(arguments.environment)
    environment = load_environment(named.name, **named.options)
    found = examine_environment(environment, seed=arguments.seed, n=arguments.n, watch=_Patience())
    seconds = {timing.method: {"mean": timing.mean, "longest": timing.longest} for timing in found.timings}
    facts = {"untried": found.untried, "seconds": seconds}
    remarks = [f"not tried: {each}" for each in found.untried]
    remarks += [f"slow: {timing}" for timing in found.timings if timing.mean > SLOW]
    return _verdict("environment", arguments.environment, found.broken, arguments.json, facts, remarks)


class _Patience:
    """Tells now and then, on standard error, what is being tried: an environment may be slow."""

    def __init__(self) -> None:
        self._begun = self._told = time.monotonic()

    def __call__(self, call: str) -> None:
        """Note a call that is about to be made."""
        from agent.interface.text import brief, duration, visible

        now = time.monotonic()
        if now - self._told >= _TELLING:
            self._told = now
            print(f"after {duration(now - self._begun)}: {brief(visible(call), 100)}", file=sys.stderr, flush=True)


def run_check_strategy(arguments: argparse.Namespace) -> int:
    """Try every rule on a strategy; one sentence on each that is broken."""
    from agent.conformance import check_strategy
    from agent.recipes.recipe import parse_component
    from agent.registry import knobs_of, load_strategy
    from envs.conformance import NonConforming
    from envs.options import checked_options

    named = parse_component(arguments.strategy)
    kind = load_strategy(named.name)
    knobs = checked_options(knobs_of(kind), named.options, f"strategy {named.name}")
    broken: Sequence[str] = ()
    try:
        check_strategy(kind, **knobs)
    except NonConforming as error:
        broken = error.broken
    return _verdict("strategy", arguments.strategy, broken, arguments.json)


def _verdict(
    kind: str,
    name: str,
    broken: Sequence[str],
    as_json: bool,
    facts: Mapping[str, Any] | None = None,
    remarks: Sequence[str] = (),
) -> int:
    """Print what a kit found of a part, with further facts as JSON, or remarks as lines; the exit code."""
    from agent.interface.text import json_text, visible

    if as_json:
        print(json_text({kind: name, "conforms": not broken, "broken": broken, **(facts or {})}))
    else:
        verdict = f"breaks {len(broken)} rule(s)" if broken else "conforms: no rule is broken"
        print(visible("\n- ".join([f"{kind} {name!r} {verdict}{':' if broken else ''}", *broken])))
        print(*map(visible, remarks), sep="\n", end="\n" if remarks else "")
    return 1 if broken else 0


def run_new_env(arguments: argparse.Namespace) -> int:
    """Write a plug-in project, and say what to do with it."""
    from agent.interface.new_environment import new_environment

    written = new_environment(arguments.name, arguments.folder)
    folder = written[0].parent
    print(f"{folder}: {', '.join(str(file.relative_to(folder)) for file in written)}")
    print(f"Next: cd {folder}; python -m pip install --editable .; stepwell check-env {arguments.name}")
    return 0


def run_models(arguments: argparse.Namespace) -> int:
    """List what there is of every kind, and what failed to load and why."""
    from agent.build import parts
    from agent.interface.study_view import listing

    kinds = {"environments": "environment", "policies": "policy", "verifiers": "verifier", "strategies": "strategy"}
    make_console().print(listing({title: parts(key) for title, key in kinds.items()}))
    return 0
