"""Best-of-N beside bare generation of the same model by the same engine: tokens a second, as a ratio.

Three ways: ``vllm:`` in process beside ``LLM.generate``-like use of the same engine, ``openai:`` over vLLM's own server
beside bare requests of httpx2, and ``hf:`` beside transformers' ``generate``. Our runs and the bare ones alternate in
one process, and each figure is the best of its rounds. The bare runs know nothing of steps: a solution is what the
model writes until its end token. Needs vLLM for the first two.

    python -m tests.benchmarks.bare --ways vllm server hf
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

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


def compare(ours: Callable[[int], int], bare: Callable[[int], int], rounds: int) -> str:
    """Tokens a second of both, in turn; the best of each."""
    rates: dict[str, list[float]] = {"ours": [], "bare": []}
    for seed in range(rounds + 1):  # the first warms up
        for name, run in (("ours", ours), ("bare", bare)):
            started = time.perf_counter()
            tokens = run(seed)
            if seed:
                rates[name].append(tokens / (time.perf_counter() - started))
    a, b = max(rates["ours"]), max(rates["bare"])
    return f"{a:8.0f} tokens/s, bare {b:8.0f}, ratio {a / b:.2f}"


# ------------------------------------------------------------------------------------------------------------- vLLM


def in_process(folder: Path, sizes: Sequence[int], samples: int, rounds: int) -> None:
    """`vllm:` beside requests of n samples, handed to the same engine as vLLM's own ``LLM.generate`` does."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    policy = load_policy(f"vllm:{folder}", Arithmetic(), solution_tokens=TOKENS)
    inner = policy._engine._engine  # type: ignore[attr-defined]

    def bare(problems: Sequence[Problem], seed: int) -> int:
        parameters = SamplingParams(n=samples, max_tokens=TOKENS, output_kind=RequestOutputKind.FINAL_ONLY)
        for problem in problems:
            ids = policy.dialogue.ids(Arithmetic().initial(problem))  # type: ignore[attr-defined]
            inner.add_request(f"bare-{next(_names)}", {"prompt_token_ids": list(ids)}, parameters)
        tokens = 0
        while inner.has_unfinished_requests():
            for output in inner.step():
                tokens += sum(len(each.token_ids) for each in output.outputs) if output.finished else 0
        return tokens

    for name, strategy in strategies(samples).items():
        for count in sizes:
            problems = Arithmetic(levels=[3]).problems("test", count)
            line = compare(lambda seed: search(policy, strategy, problems, seed), lambda s: bare(problems, s), rounds)
            print(f"vllm   {name:10} {count:3} problem(s): {line}", flush=True)
    policy.close()


def over_a_server(folder: Path, sizes: Sequence[int], samples: int, rounds: int) -> None:
    """`openai:` beside bare requests for one completion each, as many at once as ours."""
    with serving(folder) as url:
        policy = load_policy(
            f"openai:{folder.name}", Arithmetic(), base_url=url, tokenizer=str(folder), solution_tokens=TOKENS
        )
        dialogue = policy._dialogue  # type: ignore[attr-defined]

        async def requests(problems: Sequence[Problem]) -> int:
            limits = httpx2.Limits(max_connections=64, max_keepalive_connections=64)
            places, tokens = asyncio.Semaphore(64), 0
            async with httpx2.AsyncClient(limits=limits, timeout=None) as client:

                async def one(problem: Problem) -> None:
                    nonlocal tokens
                    ids = list(dialogue.ids(Arithmetic().initial(problem)))
                    body = {"model": folder.name, "prompt": ids, "max_tokens": TOKENS, "temperature": 1.0}
                    async with places:
                        reply = (await client.post(f"{url}/completions", json=body)).json()
                    tokens += reply["usage"]["completion_tokens"]

                await asyncio.gather(*(one(problem) for problem in problems for _ in range(samples)))
            return tokens

        for name, strategy in strategies(samples).items():
            for count in sizes:
                problems = Arithmetic(levels=[3]).problems("test", count)
                line = compare(
                    lambda seed: search(policy, strategy, problems, seed),
                    lambda _: asyncio.run(requests(problems)),
                    rounds,
                )
                print(f"server {name:10} {count:3} problem(s): {line}", flush=True)
        policy.close()


# ----------------------------------------------------------------------------------------------------- transformers


def by_transformers(folder: Path, sizes: Sequence[int], samples: int, rounds: int) -> None:
    """`hf:` beside ``generate`` of the same model, `samples` rows at once, problem by problem."""
    import torch

    policy = load_policy(f"hf:{folder}", Arithmetic(), solution_tokens=TOKENS)
    model = policy.model  # type: ignore[attr-defined]
    ends = model.generation_config.eos_token_id
    ends = set(ends) if isinstance(ends, list) else {ends}

    def bare(problems: Sequence[Problem], seed: int) -> int:
        tokens = 0
        torch.manual_seed(seed)
        for problem in problems:
            ids = torch.tensor([policy.dialogue.ids(Arithmetic().initial(problem))])  # type: ignore[attr-defined]
            with torch.inference_mode():
                out = model.generate(
                    ids, do_sample=True, top_k=0, num_return_sequences=samples, max_new_tokens=TOKENS, pad_token_id=0
                )
            for row in out[:, ids.shape[1] :].tolist():
                tokens += next((at + 1 for at, token in enumerate(row) if token in ends), len(row))
        return tokens

    for name, strategy in strategies(samples).items():
        for count in sizes:
            problems = Arithmetic(levels=[3]).problems("test", count)
            line = compare(lambda seed: search(policy, strategy, problems, seed), lambda s: bare(problems, s), rounds)
            print(f"hf     {name:10} {count:3} problem(s): {line}", flush=True)
    policy.close()


def strategies(samples: int) -> dict[str, Strategy]:
    """What is measured."""
    return {"best-of-n": Majority(samples), "beam": Beam(samples // 4, 4)}


def main() -> None:
    """Print the figures."""
    ways = {"vllm": in_process, "server": over_a_server, "hf": by_transformers}
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--policy", default="arithmetic-l", help="one of the lab's")
    arguments.add_argument("--ways", nargs="+", choices=ways, default=list(ways))
    arguments.add_argument("--samples", type=int, default=64)
    arguments.add_argument("--problems", type=int, nargs="+", default=[1, 32])
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    for way in options.ways:
        ways[way](WEIGHTS / options.policy, options.problems, options.samples, options.rounds)


if __name__ == "__main__":
    main()
