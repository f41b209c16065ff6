"""Starts the process of the engine, and is its program.

It has the models. Its end of the pair of sockets is its life: when the other process ends, in whatever way, so does it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loguru import logger

from agent.interface.server.engine.protocol import LoadedPolicy, Unpacker, pack
from agent.recipes.recipe import Recipe
from envs.errors import StepwellError
from envs.messages import UsageError

PATIENCE = 15.0  # seconds that the process may take to end by itself, once the other one has gone
LAST = PATIENCE + 5.0  # seconds after which it is killed
_CHUNK = 1 << 16


class EngineProcess:
    """The engine in a process of its own, started at once; its models are there when `ready` returns.

    Args:
        recipes: by name.
        concurrency: searches at work at once.
        graphs: folder of the graphs.
        keep: graphs to keep; 0 keeps none.
        address: of the server, as `stepwell ctl` shows it; None leaves the searches to themselves.

    Attributes:
        connection: to it.
    """

    def __init__(
        self, recipes: Mapping[str, Recipe], concurrency: int, graphs: Path, keep: int, address: str | None = None
    ) -> None:
        self.connection, theirs = socket.socketpair()
        path = [each or os.getcwd() for each in sys.path]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
                process_group=0,  # Ctrl-C is not for it: the searches end first
            )
        setup = {
            "recipes": {name: recipe.to_config() for name, recipe in recipes.items()},
            "concurrency": concurrency,
            "graphs": str(graphs),
            "keep": keep,
            "address": address,
        }
        with contextlib.suppress(OSError):  # it has ended already, as `ready` will say
            self.connection.sendall(pack(setup))

    def ready(self) -> dict[str, LoadedPolicy]:
        """Wait for the models; the policy of each recipe.

        Raises:
            UsageError: they could not be loaded.
        """
        said = _first(self.connection)
        if said is None:
            raise UsageError("the process of the engine ended before its models were loaded")
        if "failed" in said:
            raise UsageError(said["failed"])
        return {name: LoadedPolicy(**policy) for name, policy in said["policies"].items()}

    def join(self) -> None:
        """Close the connection, and wait until the process has ended: it is killed where it does not."""
        self.connection.close()
        try:
            self._process.wait(LAST)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if code := self._process.returncode:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
            logger.error("the process of the engine {}", how)


def _first(connection: socket.socket) -> dict[str, Any] | None:
    """The first message; None if the connection closes before. Nothing else is sent until it has been answered."""
    unpacker = Unpacker()
    with contextlib.suppress(OSError):
        while data := connection.recv(_CHUNK):
            for message in unpacker.feed(data):
                return message
    return None


def main(descriptor: int) -> int:
    """The program of the process: load, say so, and search until the other side closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it may be sent to all processes of a service
    connection = socket.socket(fileno=descriptor)
    threading.Thread(target=_watch, args=(descriptor,), daemon=True).start()
    setup = _first(connection)
    if setup is None:
        return 1
    from agent.interface.common import quiet
    from agent.interface.control.server import ControlServer
    from agent.interface.server.engine.searcher import Searcher, solvers_of
    from agent.interface.server.saved import SavedSearches
    from envs.options import load_dataclass

    quiet("INFO")
    try:
        recipes = {name: load_dataclass(Recipe, config, name) for name, config in setup["recipes"].items()}
        solvers = solvers_of(recipes)
        saved = SavedSearches(Path(setup["graphs"]), setup["keep"]) if setup["keep"] else None
    except Exception as error:
        connection.sendall(pack({"failed": str(error)}))
        if isinstance(error, StepwellError | ValueError | OSError | ImportError):
            return 0  # a person can mend it, and is told
        raise
    searcher = Searcher(recipes, solvers, setup["concurrency"], saved, connection)
    connection.sendall(pack({"policies": {name: vars(policy) for name, policy in searcher.policies.items()}}))
    steering = (
        contextlib.nullcontext()
        if setup["address"] is None
        else ControlServer(searcher.surface, "serve", setup["address"], os.getppid())
    )
    with steering:
        searcher.run()
    return int(searcher.failed)


def _watch(descriptor: int) -> None:
    """End the process some time after the other side is gone, whatever it is busy with by then."""
    poller = select.poll()
    poller.register(descriptor, 0)  # only that the connection is closed
    poller.poll()
    time.sleep(PATIENCE)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
