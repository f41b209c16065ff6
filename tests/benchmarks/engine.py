"""What the engine costs: 64 problems, beam search at N = 16, with the lab's default policy and verifier.

Prints the share of time outside the models' forward passes, how many times faster the 64 problems are solved together
than one at a time, and both speeds in sampled tokens per second; then the same of a bare loop of the forward passes
alone, at the mean batch sizes of either run: what an engine that costs nothing could reach.

A forward pass is `Llama.run` and `Llama.logits` of either model, from token ids to logits: embedding, matrix products,
norms, and attention with what every decoder does for it (its mask, new keys and values written, old ones read).
Everything else is outside: sampling, tokenising, copying prefixes into rows and back, batching, environment steps, the
strategies, the graph and the engine. Times are of one thread and of the processor, so that other work on the machine
disturbs the ratios little; run it when nothing else runs all the same.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import linear

import policies.registry
import verifiers.registry
from agent.build import collect_rarely, weights_folder
from agent.search.engine import Engine, Task
from agent.strategies import STRATEGIES
from envs.arithmetic import Arithmetic
from policies.models.kv_cache import DecodeRows, PagedPrefill
from policies.models.llama import Llama

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, LlamaForTokenClassification

PAST = 32  # tokens before the new ones in a bare pass: about the middle of a problem


class Clock:
    """Seconds in all, seconds inside `Llama.run` and `Llama.logits`, and how many tokens the passes had.

    Attributes:
        tokens: per pass, by the kind of its keys: decoding (`DecodeRows`) or several tokens of a state at once
            (`PagedPrefill`).
        states: of the passes over several tokens at once, how many they had together.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.inside = 0.0
        self.tokens: dict[type[DecodeRows | PagedPrefill], list[int]] = {DecodeRows: [], PagedPrefill: []}
        self.states = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure until the end of the block."""
        run, logits = Llama.run, Llama.logits

        def timed_run(
            model: Llama,
            keys: DecodeRows | PagedPrefill,
            ids: torch.Tensor,
            positions: torch.Tensor,
            wanted: torch.Tensor | None = None,
        ) -> torch.Tensor:
            started = time.process_time()
            hidden = run(model, keys, ids, positions, wanted)
            self.inside += time.process_time() - started
            self.tokens[type(keys)].append(len(ids))
            if isinstance(keys, PagedPrefill):
                self.states += len(keys.table)
            return hidden

        def timed_logits(model: Llama, hidden: torch.Tensor) -> torch.Tensor:
            started = time.process_time()
            made = logits(model, hidden)
            self.inside += time.process_time() - started
            return made

        Llama.run, Llama.logits = timed_run, timed_logits  # type: ignore[assignment, method-assign]
        started = time.process_time()
        try:
            yield
        finally:
            self.seconds = time.process_time() - started
            Llama.run, Llama.logits = run, logits  # type: ignore[method-assign]

    def mean(self, kind: type[DecodeRows | PagedPrefill]) -> int:
        """Tokens of a pass."""
        return round(sum(self.tokens[kind]) / len(self.tokens[kind]))


def bare_seconds(model: LlamaForCausalLM | LlamaForTokenClassification, states: int, new: int) -> float:
    """Of a bare pass over some new tokens of each of some states, per token, logits included."""
    from tests.benchmarks.decode import bare_forward, best_of

    forward = bare_forward(model.model, states, PAST + new)
    head = model.lm_head.weight if hasattr(model, "lm_head") else model.score.weight
    ids = torch.ones(states, new, dtype=torch.long)
    times = max(1, 2048 // (states * new))

    def run() -> None:
        for _ in range(times):
            linear(forward(ids, PAST), head)

    return float(best_of(5, run) / (times * states * new))


def perfect_seconds(policy: LlamaForCausalLM, verifier: LlamaForTokenClassification, clock: Clock) -> float:
    """Of the passes of a run, were they bare ones of the mean size and nothing else."""
    new = round(sum(clock.tokens[PagedPrefill]) / clock.states)
    states = max(1, round(clock.mean(PagedPrefill) / new))
    decoding = bare_seconds(policy, clock.mean(DecodeRows), 1) * sum(clock.tokens[DecodeRows])
    return decoding + bare_seconds(verifier, states, new) * sum(clock.tokens[PagedPrefill])


@torch.inference_mode()
def main() -> None:
    """Print the figures."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--policy", default="arithmetic-s", help="name or folder")
    arguments.add_argument("--verifier", default="arithmetic-prm", help="name or folder")
    arguments.add_argument("--strategy", default="beam", choices=sorted(STRATEGIES))
    arguments.add_argument("--problems", type=int, default=64)
    arguments.add_argument("--budget", type=int, default=16)
    options = arguments.parse_args()
    torch.set_num_threads(1)  # this and the next as every command has it
    collect_rarely()
    environment = Arithmetic()
    policy = policies.registry.load_policy(options.policy, environment, device="cpu")
    verifier = verifiers.registry.load_verifier(options.verifier, environment, device="cpu")
    engine = Engine(environment, policy, verifier)
    strategy = STRATEGIES[options.strategy].sized(options.budget)
    tasks = [
        Task(problem, strategy.search, vote=strategy.vote) for problem in environment.problems("test", options.problems)
    ]
    list(engine.run(tasks))  # to warm up
    clocks, tokens = [], 0
    for concurrency in (options.problems, 1):
        clock = Clock()
        with clock.running():
            graphs = list(engine.run(tasks, concurrency))
        assert len(graphs) == options.problems
        assert not any("error" in graph.info for graph in graphs)
        clocks.append(clock)
        tokens = sum(graph.generated for graph in graphs)
    together, alone = clocks
    print(f"outside forward passes: {1 - together.inside / together.seconds:.1%} of the time")
    _print("engine", tokens, [clock.seconds for clock in clocks])

    # only now: the garbage collector would go through all that this import makes, while the engine is measured
    from transformers import LlamaForCausalLM, LlamaForTokenClassification

    known = LlamaForCausalLM.from_pretrained(_folder(options.policy, policies.registry.WEIGHTS)).float().eval()
    judge = LlamaForTokenClassification.from_pretrained(_folder(options.verifier, verifiers.registry.WEIGHTS))
    perfect = [perfect_seconds(known, judge.float().eval(), clock) for clock in clocks]
    _print("bare passes", tokens, perfect)
    for name, kind in (("decoding", DecodeRows), ("scoring", PagedPrefill)):
        print(f"tokens of a {name} pass: {together.mean(kind)} together, {alone.mean(kind)} one at a time")
    print(f"bare passes together against the engine one at a time: {alone.seconds / perfect[0]:.1f}x")


def _print(what: str, tokens: int, seconds: Sequence[float]) -> None:
    together, alone = seconds
    print(f"{what}: together against one at a time {alone / together:.1f}x", end="; ")
    print(f"sampled tokens per second: {tokens / together:.0f} together, {tokens / alone:.0f} one at a time")


def _folder(name: str, shipped: Path) -> Path:
    folder = weights_folder(name, shipped)
    if folder is None:
        raise SystemExit(f"{name} has no files to run bare")
    return folder


if __name__ == "__main__":
    main()
