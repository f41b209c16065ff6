"""What the engine costs: 64 problems, beam search at N = 16, with the lab's default policy and verifier.

Prints the share of time outside the models' forward passes, how many times faster the 64 problems are solved together
than one at a time, and the mean number of rows of a decoding pass. Run it when nothing else runs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from agent.engine import Engine, Task
from agent.strategies import STRATEGIES
from envs.arithmetic import Arithmetic
from envs.llama import Cache, Llama
from policies.registry import load_policy
from verifiers.registry import load_verifier


class Clock:
    """Seconds inside `Llama.run` and `Llama.logits`, and the rows of passes of one token."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.rows: list[int] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure every forward pass until the end of the block."""
        run, logits = Llama.run, Llama.logits

        def timed_run(model: Llama, cache: Cache, ids: torch.Tensor, start: torch.Tensor, end: int) -> torch.Tensor:
            started = time.perf_counter()
            hidden = run(model, cache, ids, start, end)
            self.seconds += time.perf_counter() - started
            if ids.shape[1] == 1:
                self.rows.append(ids.shape[0])
            return hidden

        def timed_logits(model: Llama, hidden: torch.Tensor) -> torch.Tensor:
            started = time.perf_counter()
            made = logits(model, hidden)
            self.seconds += time.perf_counter() - started
            return made

        Llama.run, Llama.logits = timed_run, timed_logits  # type: ignore[assignment, method-assign]
        try:
            yield
        finally:
            Llama.run, Llama.logits = run, logits  # type: ignore[method-assign]


def main() -> None:
    """Print the figures."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--policy", default="arithmetic-s", help="name or folder")
    arguments.add_argument("--verifier", default="arithmetic-prm", help="name or folder")
    arguments.add_argument("--strategy", default="beam", choices=sorted(STRATEGIES))
    arguments.add_argument("--problems", type=int, default=64)
    arguments.add_argument("--budget", type=int, default=16)
    arguments.add_argument("--alone", type=int, default=16, help="problems solved one at a time, for the comparison")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    environment = Arithmetic()
    policy = load_policy(options.policy, environment, device="cpu")
    verifier = load_verifier(options.verifier, environment)
    engine = Engine(environment, policy, verifier)
    strategy = STRATEGIES[options.strategy].sized(options.budget)
    tasks = [
        Task(problem, strategy.search, vote=strategy.vote) for problem in environment.problems("test", options.problems)
    ]
    list(engine.run(tasks[:4]))  # to warm up

    clock = Clock()
    with clock.running():
        started = time.perf_counter()
        graphs = list(engine.run(tasks, concurrency=64))
        together = time.perf_counter() - started
    assert len(graphs) == options.problems
    assert not any("error" in graph.info for graph in graphs)
    started = time.perf_counter()
    list(engine.run(tasks[:: max(1, options.problems // options.alone)][: options.alone], concurrency=1))
    alone = (time.perf_counter() - started) / options.alone * options.problems
    print(f"outside forward passes: {1 - clock.seconds / together:.1%} of the time")
    print(f"together against one at a time: {alone / together:.1f}x")
    print(f"rows of a decoding pass: {sum(clock.rows) / len(clock.rows):.0f}")


if __name__ == "__main__":
    main()
