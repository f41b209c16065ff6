"""The server on its socket: it listens, and when it is to end, its searches end first."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import uvicorn
import uvloop

from agent.interface.server.app import Server
from agent.interface.server.limits import EXTRA


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound; raises OSError."""
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
    except OSError as error:
        made.close()
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    return made


class Uvicorn(uvicorn.Server):
    """Ends searches while it waits for its connections to close.

    Args:
        server: what answers.
        ready: called when it does.
    """

    def __init__(self, server: Server, ready: Callable[[], None] = lambda: None) -> None:
        self._own, self._ready = server, ready
        limits = server.limits
        super().__init__(
            uvicorn.Config(
                server.app,
                http="h11",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=1024,
                limit_concurrency=2 * (limits.concurrency + limits.queue) + 64,
                timeout_keep_alive=15,
                timeout_graceful_shutdown=int(limits.grace) + EXTRA,
                h11_max_incomplete_event_size=limits.headers,
            )
        )

    def run_on(self, listening: socket.socket) -> None:
        """Serve until a signal, or `should_exit`, ends it.

        uvloop's event loop takes half the processor time of asyncio's own, which the models' thread gains.
        """
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self.serve(sockets=[listening]))

    def end(self) -> None:
        """End the server, as a signal does."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say so, when it can be asked."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain the searches meanwhile."""
        draining = asyncio.ensure_future(self._own.service.drain())
        await super().shutdown(sockets)
        await draining
