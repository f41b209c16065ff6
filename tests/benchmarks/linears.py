"""Time of a decode step of ``hf:`` with each form of its linear layers, in turn.

    python -m tests.benchmarks.linears MODEL [--forms float32 int8] [--rows 1 16 64 128] [--steps 20]

The forms: ``float32``, ``bfloat16``, ``packed`` (bfloat16 as ``hf:`` keeps it), ``int8``. Prints milliseconds a step,
the fastest of each form and the median, and the ratio of the fastest to that of the first form. One thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from policies.models.checkpoints import load_checkpoint
from policies.models.hf_cache import PaddedRows, cache_of, layers_of
from policies.models.int8_linear import quantize_linears
from policies.models.packed_linear import pack_linears

_PROMPT = 200  # tokens that each row holds
_CHANGES: dict[str, Callable[[torch.nn.Module], None]] = {"packed": pack_linears, "int8": quantize_linears}


def loaded(model: str, form: str) -> Any:
    """A model with its linear layers in a form."""
    _, made = load_checkpoint(model, "cpu", "bfloat16" if form in ("bfloat16", "packed") else "float32")
    if form in _CHANGES:
        _CHANGES[form](made)
    return made


def main() -> None:
    """Print a line for each number of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument(
        "--forms", nargs="+", choices=["float32", "bfloat16", "packed", "int8"], default=["float32", "int8"]
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 16, 64, 128])
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    models = {form: loaded(arguments.model, form) for form in arguments.forms}
    for rows in arguments.rows:
        times: dict[str, list[float]] = {form: [] for form in models}
        with torch.inference_mode():
            ids, held = torch.full((1, _PROMPT), 100), {}
            for form, model in models.items():
                cache = cache_of(())
                model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
                layers = [(k[0], v[0]) for k, v in layers_of(cache)]
                held[form] = PaddedRows([(k[:, :0], v[:, :0]) for k, v in layers])
                held[form].load([(layers, range(rows))], rows, _PROMPT)
            for _ in range(arguments.steps):
                for form, model in models.items():
                    begin = time.perf_counter()
                    given = torch.full((rows, 1), 100)
                    model(input_ids=given, past_key_values=held[form].cache(), use_cache=True, logits_to_keep=1)
                    times[form].append(time.perf_counter() - begin)
        first = min(times[arguments.forms[0]])
        told = [
            f"{form} {1000 * min(each):.0f} ms (median {1000 * float(np.median(each)):.0f}, {min(each) / first:.2f})"
            for form, each in times.items()
        ]
        print(f"{rows} rows: " + ", ".join(told), flush=True)


if __name__ == "__main__":
    main()
