"""Time of a decode step of ``hf:`` in bfloat16 with packed and with plain linear layers, alternating.

    python -m tests.benchmarks.packed MODEL [--rows 1 16 64 128] [--steps 20]

Prints milliseconds a step, the fastest of the steps of each, and the ratio.
"""

from __future__ import annotations

import argparse
import copy
import time

import numpy as np
import torch

from policies.models.checkpoints import load_checkpoint
from policies.models.hf_cache import PaddedRows, cache_of, layers_of
from policies.models.packed_linear import pack_linears

_PROMPT = 200  # tokens that each row holds


def main() -> None:
    """Print a line for each number of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 16, 64, 128])
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    _, plain = load_checkpoint(arguments.model, "cpu", "bfloat16")
    packed = copy.deepcopy(plain)
    pack_linears(packed)
    for rows in arguments.rows:
        times: dict[str, list[float]] = {"plain": [], "packed": []}
        with torch.inference_mode():
            ids = torch.full((1, _PROMPT), 100)
            held = {}
            for name, model in (("plain", plain), ("packed", packed)):
                cache = cache_of(())
                model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
                layers = [(k[0], v[0]) for k, v in layers_of(cache)]
                held[name] = PaddedRows([(k[:, :0], v[:, :0]) for k, v in layers])
                held[name].load([(layers, range(rows))], rows, _PROMPT)
            for _ in range(arguments.steps):
                for name, model in (("plain", plain), ("packed", packed)):
                    begin = time.perf_counter()
                    given = torch.full((rows, 1), 100)
                    model(input_ids=given, past_key_values=held[name].cache(), use_cache=True, logits_to_keep=1)
                    times[name].append(time.perf_counter() - begin)
        fastest = {name: 1000 * min(each) for name, each in times.items()}
        median = {name: 1000 * float(np.median(each)) for name, each in times.items()}
        print(
            f"{rows} rows: plain {fastest['plain']:.0f} ms (median {median['plain']:.0f}), "
            f"packed {fastest['packed']:.0f} ms (median {median['packed']:.0f}), "
            f"{fastest['packed'] / fastest['plain']:.2f} of plain"
        )


if __name__ == "__main__":
    main()
