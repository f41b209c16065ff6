"""Prefilled tokens of the transformers policy, with and without reuse: ``python prefixes.py``.

Each strategy solves the same problems three ways, with the same samples: every sample runs its whole state (counted,
not run), siblings share one prefill and nothing is kept (memory 0), and nodes keep their keys and values. The figures
are tokens, so they do not depend on the machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch

from agent.search.engine import Engine, Task
from agent.strategies import STRATEGIES
from envs.arithmetic import Arithmetic
from policies.backends.hf import TransformersPolicy
from policies.core import Propose, Proposed
from policies.generation.options import SamplingOptions
from policies.registry import WEIGHTS
from verifiers.symbolic import SymbolicVerifier


class Counted:
    """A policy, and what its requests would prefill if every sample ran its own state."""

    def __init__(self, policy: TransformersPolicy) -> None:
        self.policy, self.name, self.parameters = policy, policy.name, policy.parameters
        self.alone = self.prefilled = self.generated = 0

    def submit(self, ticket: int, request: Propose) -> None:
        """Count and pass on."""
        for state, seeds in zip(request.states, request.seeds, strict=True):
            self.alone += len(seeds) * (len(self.policy.dialogue.ids(state)) - 1)
        self.policy.submit(ticket, request)

    def poll(self) -> Sequence[tuple[int, Proposed | Exception]]:
        """Pass on and count."""
        replies = self.policy.poll()
        used = [reply.usage for _, reply in replies if isinstance(reply, Proposed)]
        self.prefilled += sum(usage.prefilled for usage in used)
        self.generated += sum(usage.generated for usage in used)
        return replies

    def cancel(self, scope: str) -> None:
        """Pass on."""
        self.policy.cancel(scope)

    def close(self) -> None:
        """Pass on."""
        self.policy.close()


def main() -> None:
    """Print the figures."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--model", default=str(WEIGHTS / "arithmetic-xs"), help="folder, GGUF file or hub id")
    arguments.add_argument("--problems", type=int, default=16)
    arguments.add_argument("--budget", type=int, default=16)
    arguments.add_argument("--strategies", nargs="+", default=["best-of-n", "beam", "lookahead", "mcts"])
    options = arguments.parse_args()
    torch.set_num_threads(1)
    environment, verifier = Arithmetic(), SymbolicVerifier(Arithmetic())
    problems = environment.problems("test", options.problems)
    asked = SamplingOptions(step_tokens=48)
    policies = [
        TransformersPolicy(options.model, environment, asked, device="cpu", memory=limit) for limit in (0, 1 << 30)
    ]
    print(f"{'prefilled tokens':<18}{'generated':>10}{'each sample':>13}{'siblings':>10}{'nodes kept':>12}")
    for name in options.strategies:
        counted = [Counted(policy) for policy in policies]
        for policy in counted:
            tasks = [Task(problem, STRATEGIES[name].sized(options.budget).search) for problem in problems]
            assert all("error" not in graph.info for graph in Engine(environment, policy, verifier).run(tasks))
        forgetful, kept = counted
        row = (kept.generated, kept.alone, forgetful.prefilled, kept.prefilled)
        print(f"{name:<18}{row[0]:>10}{row[1]:>13}{row[2]:>10}{row[3]:>12}", flush=True)


if __name__ == "__main__":
    main()
