"""The server on Ray Serve, which starts replicas, spreads requests over them and replaces those that die.

    serve run agent.interface.server.ray_serve:application options="--config math500-vllm" most=8

Requests are stateless, so that any replica answers any of them; graphs go to the folder of ``--graphs``, which all
machines must see. Each replica has its own queue and limits, and counts what keys spend for itself.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ray import serve
from starlette.types import ASGIApp

from agent.interface.server.limits import EXTRA

if TYPE_CHECKING:
    from agent.interface.server.app import Server


def application(arguments: Mapping[str, str]) -> Any:
    """An application of Ray Serve.

    Args:
        arguments: ``options`` are those of `stepwell serve` but for host and port; ``least`` and ``most`` replicas
            (1 and 4), ``target`` searches at work or waiting in each, above which there are more (48), ``gpus`` and
            ``cpus`` of each (0 and 1).

    Raises:
        UsageError: an option is wrong.
    """
    from agent.interface.cli import build_parser
    from agent.interface.common import quiet
    from agent.interface.server.command import limits_of, server_of
    from envs.options import check_keys

    check_keys(arguments, ("options", "least", "most", "target", "gpus", "cpus"), "the arguments")
    words = ["serve", *shlex.split(arguments.get("options", ""))]
    limits = limits_of(build_parser().parse_strictly(words).limit)

    served: list[Server] = []  # in each replica, its own

    def build() -> ASGIApp:
        """In each replica."""
        quiet("INFO")
        served.append(server_of(build_parser().parse_strictly(words)))
        return served[0].app

    class Replica:
        """What Ray asks, besides requests."""

        def check_health(self) -> None:
            """Raises where the engine has died: Ray then starts another replica."""
            if served and served[0].service.failed:
                raise RuntimeError("the process of the engine has died")

    replica = serve.deployment(serve.ingress(build)(Replica))
    return replica.options(
        name="stepwell",
        max_ongoing_requests=limits.concurrency + limits.queue,
        graceful_shutdown_timeout_s=limits.grace + EXTRA,
        health_check_period_s=5.0,
        ray_actor_options={"num_cpus": float(arguments.get("cpus", 1)), "num_gpus": float(arguments.get("gpus", 0))},
        autoscaling_config={
            "min_replicas": int(arguments.get("least", 1)),
            "max_replicas": int(arguments.get("most", 4)),
            "target_ongoing_requests": float(arguments.get("target", 48)),
        },
    ).bind()
