"""Searches beside bare generation of the same model by the same engine: tokens for each second of processor time.

Three ways: ``vllm:`` in this process beside requests with n samples to the same engine, as vLLM's own ``LLM.generate``
makes them; ``openai:`` over vLLM's own server beside bare requests of httpx2, as many at once; ``hf:`` beside
transformers' ``generate``. Bare solutions end where the model ends them, and know nothing of steps.

A search gives each sample a seed of its own, so that it can be had again, and keeps log-probabilities. So the bare runs
come in two kinds, which alternate with ours in one process: ``plain`` has neither, ``same`` asks the engine for both.
For ``generate``, which has no such options, ``plain`` runs the model as transformers loads it, and ``same`` with the
linear layers that ``hf:`` gives it; in int8 there is ``same`` alone. Processor time is that of this process and of all
that it started, since a busy machine does not change it much; the server's way also prints the share of it that is
spent on this side of the connection. The best of the rounds counts.

    python -m tests.benchmarks.bare --ways vllm server hf
    python -m tests.benchmarks.bare --ways hf --policy FILE.gguf --dtype bfloat16 --env math --tokens 64 \
        --strategies best-of-n --samples 1 16 64 --problems 1
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx2

from agent.recipes.recipe import load_recipe
from agent.search.engine import Engine, Task
from agent.strategies import Beam, Majority, Strategy
from envs.arithmetic import Arithmetic
from envs.core import Environment, Problem
from envs.math.environment import Math
from policies.models.checkpoints import find_folder, load_checkpoint
from policies.registry import WEIGHTS, load_policy
from tests.benchmarks.backends import serving
from verifiers.table import TableVerifier

RECIPE = "gsm8k-qwen-coder-0.5b"  # whose prompt problems of mathematics have
Run = Callable[[Sequence[Problem], int], int]
"""Generates for problems with a seed; returns the tokens."""
BareRun = Callable[..., int]
"""The same, with the number of samples of each problem by name."""
_names = itertools.count()


def search(policy: Any, strategy: Strategy, problems: Sequence[Problem], seed: int) -> int:
    """Run a strategy on problems; returns the tokens that it generated."""
    environment = policy.environment
    verifier = None if isinstance(strategy, Majority) else TableVerifier(environment, {})
    tasks = (Task(problem, strategy.search, seed=seed, vote=strategy.vote) for problem in problems)
    tokens = 0
    for graph in Engine(environment, policy, verifier).run(tasks):
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
            if seed or not rounds:
                rates[name].append(tokens / (here + there))
                if there and name == "ours":
                    shares.append(here / (here + there))
    ours, *others = rates
    best = {name: max(each) for name, each in rates.items()}
    beside = ", ".join(f"{name} {best[name]:.0f} (ratio {best[ours] / best[name]:.2f})" for name in others)
    share = f", share of this side {min(shares):.2f}" if shares else ""
    print(f"{label} {len(problems):3} problem(s): {best[ours]:.0f} tokens/s; {beside}{share}", flush=True)


STRATEGIES: dict[str, Callable[[int], Strategy]] = {
    "best-of-n": Majority,
    "beam": lambda samples: Beam(max(1, samples // 4), 4),
}


def environment_of(options: argparse.Namespace) -> Environment:
    """What the problems are of."""
    if options.env == "math":
        return Math(template=load_recipe(RECIPE).environment.options["template"])
    return Arithmetic(levels=[options.level])


def all_of(way: str, policy: Any, bare: Mapping[str, BareRun], options: argparse.Namespace) -> None:
    """Print the lines of one way."""
    for name in options.strategies:
        for samples in options.samples:
            ours = partial(search, policy, STRATEGIES[name](samples))
            others = {each: partial(run, samples=samples) for each, run in bare.items()}
            for count in options.problems:
                problems = policy.environment.problems("test", count)
                compare(f"{way:6} {name} of {samples}", {"ours": ours, **others}, problems, options.rounds)


# ------------------------------------------------------------------------------------------------------------ engines


def in_process(model: str, options: argparse.Namespace) -> None:
    """`vllm:` beside requests of n samples."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    given = {"dtype": options.dtype} if options.dtype else {}
    policy: Any = load_policy(f"vllm:{model}", environment_of(options), solution_tokens=options.tokens, **given)
    engine = policy._engine._engine

    def bare(problems: Sequence[Problem], seed: int, samples: int, same: bool) -> int:
        asked = {"seed": seed, "logprobs": 0} if same else {}
        parameters = SamplingParams(
            n=samples, max_tokens=options.tokens, output_kind=RequestOutputKind.FINAL_ONLY, **asked
        )
        for problem in problems:
            ids = list(policy.dialogue.ids(policy.environment.initial(problem)))
            engine.add_request(f"bare-{next(_names)}", {"prompt_token_ids": ids}, parameters)
        tokens = 0
        while engine.has_unfinished_requests():
            for output in engine.step():
                tokens += sum(len(each.token_ids) for each in output.outputs) if output.finished else 0
        return tokens

    all_of("vllm", policy, {"plain": partial(bare, same=False), "same": partial(bare, same=True)}, options)
    policy.close()


def over_a_server(model: str, options: argparse.Namespace) -> None:
    """`openai:` beside bare requests for one completion each."""
    folder = find_folder(model)
    with serving(folder) as url:
        policy: Any = load_policy(
            f"openai:{folder.name}",
            environment_of(options),
            base_url=url,
            tokenizer=str(folder),
            solution_tokens=options.tokens,
        )

        async def requests(problems: Sequence[Problem], seed: int, samples: int, same: bool) -> int:
            limits = httpx2.Limits(max_connections=64, max_keepalive_connections=64)
            places, tokens = asyncio.Semaphore(64), 0
            async with httpx2.AsyncClient(limits=limits, timeout=None) as client:

                async def one(problem: Problem, number: int) -> None:
                    nonlocal tokens
                    ids = list(policy._dialogue.ids(policy.environment.initial(problem)))
                    body = {"model": folder.name, "prompt": ids, "max_tokens": options.tokens, "temperature": 1.0}
                    body |= {"seed": seed * 1000 + number, "logprobs": 1} if same else {}
                    async with places:
                        reply = (await client.post(f"{url}/completions", json=body)).json()
                    tokens += reply["usage"]["completion_tokens"]

                await asyncio.gather(*(one(problem, number) for problem in problems for number in range(samples)))
            return tokens

        def bare(problems: Sequence[Problem], seed: int, samples: int, same: bool) -> int:
            return asyncio.run(requests(problems, seed, samples, same))

        all_of("server", policy, {"plain": partial(bare, same=False), "same": partial(bare, same=True)}, options)
        policy.close()


def by_transformers(model: str, options: argparse.Namespace) -> None:
    """`hf:` beside ``generate``, with all samples of a problem at once, problem by problem."""
    import torch

    policy: Any = load_policy(
        f"hf:{model}", environment_of(options), solution_tokens=options.tokens, dtype=options.dtype
    )

    def bare(problems: Sequence[Problem], seed: int, samples: int, model: Any) -> int:
        end = model.generation_config.eos_token_id
        ends = set(end) if isinstance(end, list) else {end}
        torch.manual_seed(seed)
        tokens = 0
        for problem in problems:
            ids = torch.tensor([policy.dialogue.ids(policy.environment.initial(problem))])
            with torch.inference_mode():
                rows = model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    do_sample=True,
                    top_k=0,
                    num_return_sequences=samples,
                    max_new_tokens=options.tokens,
                    pad_token_id=0,
                )
            for row in rows[:, ids.shape[1] :].tolist():
                tokens += next((at + 1 for at, token in enumerate(row) if token in ends), len(row))
        return tokens

    runs = {"same": partial(bare, model=policy.model)}
    if options.dtype != "int8":
        _, loaded = load_checkpoint(model, "cpu", options.dtype or "float32")
        runs["plain"] = partial(bare, model=loaded)
    all_of("hf", policy, runs, options)
    policy.close()


def main() -> None:
    """Print the figures."""
    ways = {"vllm": in_process, "server": over_a_server, "hf": by_transformers}
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--policy", default="arithmetic-l", help="one of the lab's, a folder or a GGUF file")
    arguments.add_argument("--ways", nargs="+", choices=ways, default=list(ways))
    arguments.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    arguments.add_argument("--dtype", help="of hf: and vllm:")
    arguments.add_argument("--samples", type=int, nargs="+", default=[64], help="of each problem, or the beam's budget")
    arguments.add_argument("--tokens", type=int, default=128, help="most of a solution")
    arguments.add_argument("--problems", type=int, nargs="+", default=[1, 32])
    arguments.add_argument("--env", choices=["arithmetic", "math"], default="arithmetic")
    arguments.add_argument("--level", type=int, default=3, help="of the problems of arithmetic")
    arguments.add_argument("--rounds", type=int, default=3, help="with 0 the one that warms up counts")
    options = arguments.parse_args()
    model = str(WEIGHTS / options.policy) if (WEIGHTS / options.policy).is_dir() else options.policy
    for way in options.ways:
        ways[way](model, options)


if __name__ == "__main__":
    main()
