"""What keeping keys and values saves a verifier: a trajectory of 40 steps, scored after every step as a search does.

For each family a random checkpoint of its architecture is made, small but wide enough that arithmetic dominates. Prints
the tokens that are run with and without reuse, their ratio, and the ratio of processor times, which other work on the
machine disturbs little. Tokens are exact and travel to models of any size; the ratio of times depends on it. Families
that read every prefix in a text of its own (judge, outcome) take hours with nothing kept: ask for them with few steps.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from envs.core import Problem, State, Step
from envs.math.environment import Math
from verifiers.core import Score
from verifiers.families import FAMILIES
from verifiers.registry import load_verifier

QUESTION = (
    "A shop sells pens in boxes of 12. It has 37 boxes, sells 118 pens and gives 5 to each of 9 schools. What is left?"
)
STEP = "Now take the number from before, {k}, and subtract {m}: we have {k} - {m} = {n}, which is what remains."


def makers() -> Any:
    """The functions of the tests that make checkpoints."""
    path = Path(__file__).parents[1] / "verifiers" / "conftest.py"
    spec = importlib.util.spec_from_file_location("tiny_checkpoints", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measure(folder: Path, family: str, state: State, memory: int) -> tuple[int, float]:
    """Tokens and seconds of scoring a trajectory after each of its steps."""
    verifier = load_verifier(f"hf:{folder}", Math(), family=family, device="cpu", memory=memory)
    tokens, started = 0, time.process_time()
    for end in range(1, len(state.steps) + 1):
        verifier.submit(0, Score((State(state.problem, state.steps[:end]),), "search"))
        ((_, reply),) = verifier.poll()
        assert not isinstance(reply, Exception)
        tokens += reply.tokens
    return tokens, time.process_time() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument(
        "--families", nargs="+", choices=sorted(FAMILIES), default=sorted({*FAMILIES} - {"judge", "outcome"})
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    steps = [Step(STEP.format(k=500 - 7 * index, m=7, n=493 - 7 * index)) for index in range(arguments.steps)]
    state = State(Problem("p", QUESTION), tuple(steps))
    print(f"{'family':22} {'tokens, nothing kept':>20} {'kept':>8} {'ratio':>7} {'ratio of times':>15}")
    with tempfile.TemporaryDirectory() as scratch:
        for family in arguments.families:
            folder = makers().build(Path(scratch), family, hidden_size=128, intermediate_size=512,
                                    head_dim=32, max_position_embeddings=16384)  # fmt: skip
            without, slow = measure(folder, family, state, 0)
            kept, fast = measure(folder, family, state, 1 << 30)
            print(f"{family:22} {without:20,} {kept:8,} {without / kept:7.1f} {slow / fast:15.1f}", flush=True)


if __name__ == "__main__":
    main()
