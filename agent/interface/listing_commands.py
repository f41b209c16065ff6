"""``stepwell envs``, ``check-env``, ``new-env`` and ``models``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from agent.interface.common import make_console


def run_envs(arguments: argparse.Namespace) -> int:
    """List the environments."""
    from agent.build import describe
    from agent.interface.study_view import listing

    make_console().print(listing({"environments": describe("environment")}))
    return 0


def run_check_env(arguments: argparse.Namespace) -> int:
    """Try every rule on an environment; one sentence on each that is broken."""
    import json

    from agent.build import environment_of
    from agent.recipes.recipe import Recipe, parse_component
    from envs.conformance import SLOW, NonConforming, check_environment

    environment = environment_of(Recipe(environment=parse_component(arguments.environment)))
    broken: Sequence[str] = ()
    try:
        timings = check_environment(environment, seed=arguments.seed, n=arguments.n)
    except NonConforming as error:
        broken, timings = error.broken, error.timings
    if arguments.json:
        report = {"environment": arguments.environment, "conforms": not broken, "broken": broken}
        seconds = {timing.method: {"mean": timing.mean, "longest": timing.longest} for timing in timings}
        print(json.dumps(report | {"seconds": seconds}, indent=2))
    else:
        verdict = f"breaks {len(broken)} rule(s)" if broken else "conforms: no rule is broken"
        print("\n- ".join([f"environment {arguments.environment!r} {verdict}{':' if broken else ''}", *broken]))
        for timing in timings:
            if timing.mean > SLOW:
                print(f"slow: {timing}")
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
    """List policies, verifiers and strategies."""
    from agent.build import describe
    from agent.interface.study_view import listing

    kinds = {"policies": "policy", "verifiers": "verifier", "strategies": "strategy"}
    make_console().print(listing({title: describe(key) for title, key in kinds.items()}))
    return 0
