"""``stepwell serve``."""

from __future__ import annotations

import argparse
import ipaddress
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agent.interface.common import quiet, recipe_of

if TYPE_CHECKING:
    from agent.interface.server.app import Server
    from agent.interface.server.limits import ServerLimits
    from agent.recipes.recipe import Recipe

DEFAULT_PORT = 8080


def add_serve(parser: argparse.ArgumentParser) -> None:
    """Add the options of the server, besides those of a recipe."""
    group = parser.add_argument_group("server")
    group.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    group.add_argument("--port", type=int, default=DEFAULT_PORT, metavar="N", help="port (default 8080; 0: a free one)")
    group.add_argument(
        "--also", nargs="+", default=[], metavar="RECIPE", help="further recipes to serve, each as a model of its name"
    )
    group.add_argument(
        "--keys", type=Path, metavar="FILE", help="file of keys; nobody may then ask without one of them"
    )
    group.add_argument(
        "--limit", action="append", default=[], metavar="KEY=VALUE",
        help="set a limit, e.g. concurrency=32, queue=100, budget.samples=64 or deadline=120",
    )  # fmt: skip
    group.add_argument(
        "--graphs", type=Path, default=Path("runs/served"), metavar="DIR",
        help="folder for the graphs of searches, which replicas may share\n(default runs/served)",
    )  # fmt: skip
    group.add_argument(
        "--keep-graphs", type=int, default=1000, metavar="N", help="graphs to keep (default 1000; 0 keeps none)"
    )
    group.add_argument(
        "--last-turn-only", action="store_true",
        help="let policies that are no chat models answer the last turn of a\nconversation, and say so",
    )  # fmt: skip


def run_serve(arguments: argparse.Namespace) -> int:
    """Serve until a signal ends it."""
    from envs.messages import UsageError, require

    quiet("INFO")
    try:
        require("serve", "starlette", "uvicorn", "uvloop", "pydantic", "prometheus_client")
    except ImportError as error:
        raise UsageError(str(error)) from None
    from agent.interface.server.app import LOOPBACK
    from agent.interface.server.listening import Uvicorn, listen

    local = _is_loopback(arguments.host)
    if not local and arguments.keys is None:
        raise UsageError(f"--host {arguments.host} lets other machines ask: give --keys FILE, or listen on 127.0.0.1")
    if not 0 <= arguments.port < 65536:
        raise UsageError(f"--port {arguments.port} given; allowed: 0 to 65535")
    with listen(arguments.host, arguments.port) as listening:  # a port that is taken is told before models are loaded
        host, port = listening.getsockname()[:2]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        server = server_of(arguments, LOOPBACK if local and arguments.keys is None else (), address)
        said = f"serving {', '.join(server.catalog.recipes)} on http://{address}/v1, model stepwell/auto"
        uvicorn = Uvicorn(server, lambda: print(said, flush=True))
        server.service.when_lost = uvicorn.end
        uvicorn.run_on(listening)
    if server.service.failed:
        print("stepwell: the process of the engine has died; start the server again", file=sys.stderr)
        return 1
    return 0


def server_of(arguments: argparse.Namespace, hosts: Sequence[str] = (), address: str | None = None) -> Server:
    """What answers, with its models loaded; raises UsageError before anything is loaded.

    Args:
        arguments: of the command line.
        hosts: names by which the server may be addressed; () for any.
        address: of the server, as `stepwell ctl` shows it; None leaves the searches to themselves.
    """
    from agent.build import environment_of
    from agent.interface.server.app import Server
    from agent.interface.server.catalog import Catalog
    from agent.interface.server.engine.process import EngineProcess
    from agent.interface.server.keys import Keyring, read_keys
    from agent.interface.server.saved import SavedSearches

    keys = Keyring() if arguments.keys is None else read_keys(arguments.keys)
    limits = limits_of(arguments.limit)
    recipes = recipes_of(arguments)
    keep = max(arguments.keep_graphs, 0)
    saved = SavedSearches(arguments.graphs, keep) if keep else None
    engine = EngineProcess(recipes, limits.concurrency, arguments.graphs, keep, address)
    try:
        environments = {name: environment_of(recipe) for name, recipe in recipes.items()}  # while models load
        catalog = Catalog(recipes, environments, engine.ready(), limits, arguments.last_turn_only)
        return Server(catalog, engine, limits, keys, saved, hosts)
    except BaseException:
        engine.join()
        raise


def recipes_of(arguments: argparse.Namespace) -> dict[str, Recipe]:
    """The recipe of the command line, the default, and those that are served beside it."""
    from agent.build import check_parts
    from agent.recipes.files import default_config
    from agent.recipes.recipe import load_recipe
    from envs.messages import UsageError

    recipes = {Path(arguments.config or default_config(arguments.env)).stem: recipe_of(arguments)}
    for name in arguments.also:
        if Path(name).stem in recipes or Path(name).stem == "stepwell":
            raise UsageError(f"--also {name}: there is a recipe of that name already")
        recipes[Path(name).stem] = load_recipe(name, trust=arguments.trust)
    for recipe in recipes.values():
        check_parts(recipe)
    return recipes


def limits_of(assignments: list[str]) -> ServerLimits:
    """The limits that are set, the others by default; raises UsageError."""
    from agent.interface.server.limits import ServerLimits
    from agent.recipes.files import override
    from envs.options import load_dataclass

    return load_dataclass(ServerLimits, override({}, assignments), "--limit")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
