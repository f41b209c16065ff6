"""What Prometheus is told: requests, searches at work and waiting, what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from agent.search.control.commands import ACCEPTED, BY_HAND, CANCELLED
from agent.search.engine import STOPPED, UNAVAILABLE

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 600)
_LABELS = {reason: reason for reason in ("finished", "error", UNAVAILABLE, STOPPED, CANCELLED)}
_LABELS |= dict.fromkeys((BY_HAND, ACCEPTED), "by_hand")


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"namespace": "stepwell", "registry": self.registry}
        self.requests = Counter("requests", "Requests, by dialect and status of HTTP.", ["dialect", "status"], **own)
        self.latency = Histogram(
            "request_seconds", "From a request to its last byte.", ["dialect"], buckets=_SECONDS, **own
        )
        self.searches = Counter("searches", "Searches that are over, by the reason they ended for.", ["stopped"], **own)
        self.cancelled = Counter("searches_cancelled", "Searches whose client went away.", **own)
        self.rejected = Counter("requests_rejected", "Requests that found the queue full.", **own)
        self.tokens = Counter("tokens", "Tokens spent.", ["kind"], **own)
        self.flops = Counter("flops", "FLOPs spent by policy and verifier.", **own)
        self.running = Gauge("searches_running", "Searches at work.", **own)
        self.waiting = Gauge("searches_waiting", "Searches that wait for a place.", **own)

    def observe(self, running: int, waiting: int) -> None:
        """How many searches there are."""
        self.running.set(running)
        self.waiting.set(waiting)

    def searched(self, stopped: str, spent: Mapping[str, Any]) -> None:
        """A search is over."""
        self.searches.labels(_LABELS.get(stopped, "limit")).inc()
        for kind in ("generated", "prefilled", "verifier_tokens"):
            self.tokens.labels(kind.removesuffix("_tokens")).inc(spent.get(kind, 0))
        self.flops.inc(spent.get("flops", 0.0))

    def text(self) -> bytes:
        """In Prometheus's format."""
        return generate_latest(self.registry)
