"""Searches beside bare generation of the same model by the same engine: tokens for each second of processor time.

Three ways: ``vllm:`` in this process beside requests with n samples to the same engine, as vLLM's own ``LLM.generate``
makes them; ``openai:`` over vLLM's own server beside bare requests of httpx2, as many at once; ``hf:`` beside
transformers' ``generate``. Bare solutions end where the model ends them, and know nothing of steps.

A search gives each sample a seed of its own, so that it can be had again, and keeps log-probabilities. So the bare runs
come in two kinds, which alternate with ours in one process: ``plain`` has neither, ``same`` asks the engine for both.
Processor time is that of this process and of all that it started, since a busy machine does not change it much; the
server's way also prints the share of it that is spent on this side of the connection. The best of the rounds counts.

    python -m tests.benchmarks.bare --ways vllm server hf
    python -m tests.benchmarks.bare --ways hf --policy FOLDER --dtype int8 --problems 1 --rounds 1
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx2

from agent.search.engine import Engine, Task
from agent.strategies import Beam, Majority, Strategy
from envs.arithmetic import Arithmetic
from envs.core import Problem
from policies.core import Policy
from policies.registry import WEIGHTS, load_policy
from tests.benchmarks.backends import serving
from verifiers.table import TableVerifier

TOKENS = 128  # most of a solution
Run = Callable[[Sequence[Problem], int], int]
"""Generates for problems with a seed; returns the tokens."""
_names = itertools.count()


def search(policy: Policy, strategy: Strategy, problems: Sequence[Problem], seed: int) -> int:
    """Run a strategy on problems; returns the tokens that it generated."""
    verifier = None if isinstance(strategy, Majority) else TableVerifier(Arithmetic(), {})
    tasks = (Task(problem, strategy.search, seed=seed, vote=strategy.vote) for problem in problems)
    tokens = 0
    for graph in Engine(Arithmetic(), policy, verifier).run(tasks):
        if "error" in graph.info:
            raise SystemExit(graph.info["error"])
        tokens += graph.generated
    return tokens


def others_seconds() -> float:
    """Processor time of all processes that this one has started, and those that they have."""
    ticks, parents = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, fields = int(stat.parent.name), stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        parents[pid], ticks[pid] = int(fields[1]), int(fields[11]) + int(fields[12])
    ours = {os.getpid()}
    while found := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= found
    return sum(ticks.get(pid, 0) for pid in ours - {os.getpid()}) / os.sysconf("SC_CLK_TCK")


def compare(label: str, runs: dict[str, Run], problems: Sequence[Problem], rounds: int) -> None:
    """Run all in turn, and print what the first takes beside the others."""
    rates: dict[str, list[float]] = {name: [] for name in runs}
    shares: list[float] = []
    for seed in range(rounds + 1):  # the first warms up
        for name, run in runs.items():
            here, there = time.process_time(), others_seconds()
            tokens = run(problems, seed)
            here, there = time.process_time() - here, others_seconds() - there
            if seed:
                rates[name].append(tokens / (here + there))
                if there and name == "ours":
                    shares.append(here / (here + there))
    ours, *others = rates
    best = {name: max(each) for name, each in rates.items()}
    beside = ", ".join(f"{name} {best[name]:.0f} (ratio {best[ours] / best[name]:.2f})" for name in others)
    share = f", share of this side {min(shares):.2f}" if shares else ""
    print(f"{label} {len(problems):3} problem(s): {best[ours]:.0f} tokens/s; {beside}{share}", flush=True)


def strategies(samples: int) -> dict[str, Strategy]:
    """What is measured."""
    return {"best-of-n": Majority(samples), "beam": Beam(samples // 4, 4)}


def all_of(way: str, policy: Policy, bare: dict[str, Run], options: argparse.Namespace) -> None:
    """Print the lines of one way."""
    for name, strategy in strategies(options.samples).items():
        for count in options.problems:
            problems = Arithmetic(levels=[options.level]).problems("test", count)
            compare(f"{way:6} {name:10}", {"ours": partial(search, policy, strategy), **bare}, problems, options.rounds)


# ------------------------------------------------------------------------------------------------------------ engines


def in_process(folder: Path, options: argparse.Namespace) -> None:
    """`vllm:` beside requests of n samples."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    policy: Any = load_policy(f"vllm:{folder}", Arithmetic(), solution_tokens=TOKENS)
    engine = policy._engine._engine

    def bare(problems: Sequence[Problem], seed: int, same: bool) -> int:
        asked = {"seed": seed, "logprobs": 0} if same else {}
        parameters = SamplingParams(
            n=options.samples, max_tokens=TOKENS, output_kind=RequestOutputKind.FINAL_ONLY, **asked
        )
        for problem in problems:
            ids = list(policy.dialogue.ids(Arithmetic().initial(problem)))
            engine.add_request(f"bare-{next(_names)}", {"prompt_token_ids": ids}, parameters)
        tokens = 0
        while engine.has_unfinished_requests():
            for output in engine.step():
                tokens += sum(len(each.token_ids) for each in output.outputs) if output.finished else 0
        return tokens

    all_of("vllm", policy, {"plain": partial(bare, same=False), "same": partial(bare, same=True)}, options)
    policy.close()


def over_a_server(folder: Path, options: argparse.Namespace) -> None:
    """`openai:` beside bare requests for one completion each."""
    with serving(folder) as url:
        policy: Any = load_policy(
            f"openai:{folder.name}", Arithmetic(), base_url=url, tokenizer=str(folder), solution_tokens=TOKENS
        )

        async def requests(problems: Sequence[Problem], seed: int, same: bool) -> int:
            limits = httpx2.Limits(max_connections=64, max_keepalive_connections=64)
            places, tokens = asyncio.Semaphore(64), 0
            async with httpx2.AsyncClient(limits=limits, timeout=None) as client:

                async def one(problem: Problem, number: int) -> None:
                    nonlocal tokens
                    ids = list(policy._dialogue.ids(Arithmetic().initial(problem)))
                    body = {"model": folder.name, "prompt": ids, "max_tokens": TOKENS, "temperature": 1.0}
                    body |= {"seed": seed * 1000 + number, "logprobs": 1} if same else {}
                    async with places:
                        reply = (await client.post(f"{url}/completions", json=body)).json()
                    tokens += reply["usage"]["completion_tokens"]

                numbers = range(options.samples)
                await asyncio.gather(*(one(problem, number) for problem in problems for number in numbers))
            return tokens

        def bare(problems: Sequence[Problem], seed: int, same: bool) -> int:
            return asyncio.run(requests(problems, seed, same))

        all_of("server", policy, {"plain": partial(bare, same=False), "same": partial(bare, same=True)}, options)
        policy.close()


def by_transformers(folder: Path, options: argparse.Namespace) -> None:
    """`hf:` beside ``generate``, with all samples of a problem at once, problem by problem."""
    import torch

    policy: Any = load_policy(f"hf:{folder}", Arithmetic(), solution_tokens=TOKENS, dtype=options.dtype)
    model = policy.model
    end = model.generation_config.eos_token_id
    ends = set(end) if isinstance(end, list) else {end}

    def bare(problems: Sequence[Problem], seed: int) -> int:
        torch.manual_seed(seed)
        tokens = 0
        for problem in problems:
            ids = torch.tensor([policy.dialogue.ids(Arithmetic().initial(problem))])
            with torch.inference_mode():
                rows = model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    do_sample=True,
                    top_k=0,
                    num_return_sequences=options.samples,
                    max_new_tokens=TOKENS,
                    pad_token_id=0,
                )
            for row in rows[:, ids.shape[1] :].tolist():
                tokens += next((at + 1 for at, token in enumerate(row) if token in ends), len(row))
        return tokens

    all_of("hf", policy, {"plain": bare}, options)
    policy.close()


def main() -> None:
    """Print the figures."""
    ways = {"vllm": in_process, "server": over_a_server, "hf": by_transformers}
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--policy", default="arithmetic-l", help="one of the lab's, or a folder")
    arguments.add_argument("--ways", nargs="+", choices=ways, default=list(ways))
    arguments.add_argument("--dtype", help="of hf:")
    arguments.add_argument("--samples", type=int, default=64)
    arguments.add_argument("--problems", type=int, nargs="+", default=[1, 32])
    arguments.add_argument("--level", type=int, default=3, help="of the problems")
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    folder = Path(options.policy) if Path(options.policy).is_dir() else WEIGHTS / options.policy
    for way in options.ways:
        ways[way](folder, options)


if __name__ == "__main__":
    main()
