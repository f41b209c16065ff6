"""Time of a decode step of ``hf:`` with each form of its linear layers, in turn.

    python -m tests.benchmarks.linears MODEL [--forms float32 int8] [--rows 1 16 64 128] [--steps 20] [--texts FILE ...]

The forms: ``float32``, ``bfloat16``, ``packed`` (bfloat16 as ``hf:`` keeps it), ``int8``. Prints milliseconds a step,
the fastest of each form and the median, and the ratio of the fastest to that of the first form. One thread. With texts,
it also prints how far the next token's distribution is from that of the first form: the mean KL divergence over the
first tokens of each text, and how often the likeliest token is the same.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from policies.models.checkpoints import find_folder, load_checkpoint
from policies.models.hf_cache import PaddedRows, cache_of, layers_of
from policies.models.linears import pack_linears, quantize_linears
from policies.models.pretrained import load_tokenizer

_READ = 400  # tokens of a text
_PROMPT = 200  # tokens that each row holds
_CHANGES: dict[str, Callable[[torch.nn.Module], None]] = {"packed": pack_linears, "int8": quantize_linears}


def loaded(model: str, form: str) -> Any:
    """A model with its linear layers in a form."""
    _, made = load_checkpoint(model, "cpu", "bfloat16" if form in ("bfloat16", "packed") else "float32")
    if form in _CHANGES:
        _CHANGES[form](made)
    return made


@torch.inference_mode()
def compare(text: Path, ids: list[int], models: dict[str, Any]) -> None:
    """Print how far each form is from the first one on a text."""
    first, *others = (
        (form, model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)) for form, model in models.items()
    )
    for form, found in others:
        far = (first[1].exp() * (first[1] - found)).sum(-1).mean().item()
        same = (first[1].argmax(-1) == found.argmax(-1)).float().mean().item()
        print(f"{text.name}, {len(ids)} tokens: {form} is {far:.4f} nats from {first[0]}, {same:.1%} agree", flush=True)


def main() -> None:
    """Print a line for each number of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument(
        "--forms", nargs="+", choices=["float32", "bfloat16", "packed", "int8"], default=["float32", "int8"]
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 16, 64, 128])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--texts", type=Path, nargs="+", default=[])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    models = {form: loaded(arguments.model, form) for form in arguments.forms}
    tokenizer = load_tokenizer(find_folder(arguments.model))
    for text in arguments.texts:
        compare(text, tokenizer(text.read_text(encoding="utf-8")).input_ids[:_READ], models)
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
