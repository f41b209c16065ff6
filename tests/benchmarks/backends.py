"""One policy through several backends: the lab's decoder, vLLM in this process, and a server of vLLM's on loopback.

Majority votes over samples of the arithmetic problems. Prints each backend's accuracy with its 95 % interval, how often
its greedy answer is the first backend's, and tokens per second. Seeds mean other samples to each backend, so accuracies
agree within their intervals, not exactly; greedy answers agree but for ties in the last bits. Needs vLLM.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2

from agent.search.engine import Engine, Task
from agent.strategies import Greedy, Majority, Strategy
from agent.study.statistics import wilson
from envs.arithmetic import Arithmetic
from envs.core import Problem
from policies.core import Policy
from policies.registry import WEIGHTS, load_policy

QUIET = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_CPU_KVCACHE_SPACE": "1"}


@contextmanager
def serving(folder: Path, seconds: float = 600) -> Iterator[str]:
    """A server of vLLM's for a folder; yields its URL, and ends it with all its processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]
    command += ["--served-model-name", folder.name, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--dtype", "float32", "--enforce-eager", "--block-size", "32", "--enable-prompt-tokens-details"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, env=os.environ | QUIET, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            until = time.monotonic() + seconds
            while not _answers(f"http://127.0.0.1:{port}/health"):
                if process.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    sys.exit(f"the server did not start:\n{log.read().decode(errors='replace')[-3000:]}")
                time.sleep(1)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(60)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url, timeout=5).status_code == 200
    except httpx2.HTTPError:
        return False


def solve(policy: Policy, strategy: Strategy, problems: Sequence[Problem]) -> tuple[list[str | None], int]:
    """The answers of a strategy, and the tokens that it took."""
    tasks = [Task(problem, strategy.search, vote=strategy.vote) for problem in problems]
    graphs = {graph.problem.id: graph for graph in Engine(Arithmetic(), policy).run(tasks)}
    for graph in graphs.values():
        if "error" in graph.info:
            sys.exit(f"{policy.name}: {graph.info['error']}")
    tokens = sum(graph.generated for graph in graphs.values())
    return [graphs[problem.id].info["answer"] for problem in problems], tokens


def main() -> None:
    """Print the figures."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--policy", default="arithmetic-s", help="one of the lab's")
    arguments.add_argument("--problems", type=int, default=100)
    arguments.add_argument("--samples", type=int, default=8)
    arguments.add_argument("--backends", default="lab,vllm,server")
    options = arguments.parse_args()
    folder, environment = WEIGHTS / options.policy, Arithmetic()
    problems = environment.problems("test", options.problems)
    first: list[str | None] = []

    def measure(name: str, spec: str, **asked: Any) -> None:
        policy = load_policy(spec, environment, **asked)
        try:
            greedy, _ = solve(policy, Greedy(), problems)
            first[:] = first or greedy
            started = time.monotonic()
            answers, tokens = solve(policy, Majority.sized(options.samples), problems)
            seconds = time.monotonic() - started
        finally:
            policy.close()
        right = sum(
            answer is not None and environment.check(problem, answer)
            for problem, answer in zip(problems, answers, strict=True)
        )
        low, high = wilson(right, len(problems))
        same = sum(a == b for a, b in zip(greedy, first, strict=True))
        print(
            f"{name}: {right} of {len(problems)} right ({low:.0%} to {high:.0%}), "
            f"{same} greedy answers as the first's, {tokens / seconds:.0f} tokens/s",
            flush=True,
        )

    for backend in options.backends.split(","):
        if backend == "lab":
            measure(backend, options.policy)
        elif backend == "vllm":
            measure(backend, f"vllm:{folder}", step_tokens=48)
        else:
            with serving(folder) as url:
                measure(backend, f"openai:{folder.name}", base_url=url, tokenizer=str(folder), step_tokens=48)


if __name__ == "__main__":
    main()
