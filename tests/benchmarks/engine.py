"""What the engine costs: 64 problems, beam search at N = 16, with the lab's default policy and verifier.

Prints the share of time outside the models' forward passes, how many times faster the 64 problems are solved together
than one at a time, both speeds in sampled tokens per second, and the mean number of rows of a decoding pass.

A forward pass is `Llama.run` and `Llama.logits` of either model, from token ids to logits: embedding, matrix products,
norms, and attention with what every decoder does for it (its mask, new keys and values written, old ones read).
Everything else is outside: sampling, tokenising, copying prefixes into rows and back, batching, environment steps, the
strategies, the graph and the engine. Times are of one thread and of the processor, so that other work on the machine
disturbs the ratios little; run it when nothing else runs all the same.
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
from envs.llama import Llama, Pages, Rows
from policies.registry import load_policy
from verifiers.registry import load_verifier


class Clock:
    """Seconds inside `Llama.run` and `Llama.logits`, and the rows of decoding passes."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.rows: list[int] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure every forward pass until the end of the block."""
        run, logits = Llama.run, Llama.logits

        def timed_run(
            model: Llama,
            keys: Rows | Pages,
            ids: torch.Tensor,
            positions: torch.Tensor,
            wanted: torch.Tensor | None = None,
        ) -> torch.Tensor:
            started = time.process_time()
            hidden = run(model, keys, ids, positions, wanted)
            self.seconds += time.process_time() - started
            if isinstance(keys, Rows):
                self.rows.append(len(ids))
            return hidden

        def timed_logits(model: Llama, hidden: torch.Tensor) -> torch.Tensor:
            started = time.process_time()
            made = logits(model, hidden)
            self.seconds += time.process_time() - started
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
    list(engine.run(tasks))  # to warm up

    clock = Clock()
    with clock.running():
        started = time.process_time()
        graphs = list(engine.run(tasks, concurrency=64))
        together = time.process_time() - started
    assert len(graphs) == options.problems
    assert not any("error" in graph.info for graph in graphs)
    started = time.process_time()
    list(engine.run(tasks, concurrency=1))
    alone = time.process_time() - started
    tokens = sum(graph.generated for graph in graphs)
    print(f"outside forward passes: {1 - clock.seconds / together:.1%} of the time")
    print(f"together against one at a time: {alone / together:.1f}x")
    print(f"sampled tokens per second: {tokens / together:.0f} together, {tokens / alone:.0f} one at a time")
    print(f"rows of a decoding pass: {sum(clock.rows) / len(clock.rows):.0f}")


if __name__ == "__main__":
    main()
