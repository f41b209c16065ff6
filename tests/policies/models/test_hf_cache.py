"""Rows of keys and values against plain lists of sequences."""

import random

import torch
from torch import Tensor

from policies.models.hf_cache import Rows

LAYERS, HEADS, WIDTH = 2, 3, 4


def sequence(length: int) -> list[tuple[Tensor, Tensor]]:
    return [(torch.randn(HEADS, length, WIDTH), torch.randn(HEADS, length, WIDTH)) for _ in range(LAYERS)]


def test_rows_hold_what_was_put_in_them() -> None:
    torch.manual_seed(0)
    rng = random.Random(0)
    rows, held = Rows(sequence(0)), []  # held: for each row its sequence
    for _ in range(300):
        if rng.random() < 0.3:
            new = [(sequence(rng.choice((0, 3, 40, 90))), rng.randint(1, 3)) for _ in range(rng.randint(1, 3))]
            rows.append(new)
            held += [layers for layers, times in new for _ in range(times)]
        elif held and rng.random() < 0.4:
            kept = sorted(rng.sample(range(len(held)), rng.randint(max(0, len(held) - 30), len(held) - 1)))
            length = max((held[row][0][0].shape[1] for row in kept), default=0)
            was = rows.keep(kept, length)
            assert sorted(was) == kept
            held = [held[row] for row in was]
            assert rows.length == length
        elif held:
            cache = rows.cache()
            before = cache.get_seq_length()
            for at in range(LAYERS):
                keys, values = torch.randn(2, len(held), HEADS, 1, WIDTH)
                assert cache.update(keys, values, at)[0].shape == (len(held), HEADS, before + 1, WIDTH)
                for row, layers in enumerate(held):
                    k, v = layers[at]
                    longer = (torch.cat([k, keys[row]], 1), torch.cat([v, values[row]], 1))
                    held[row] = [*layers[:at], longer, *layers[at + 1 :]]
        for at, (keys, values) in enumerate(rows.layers()):
            assert keys.shape == values.shape == (len(held), HEADS, rows.length, WIDTH)
            assert keys.isfinite().all()
            assert values.isfinite().all()
            for row, layers in enumerate(held):
                k, v = layers[at]
                assert torch.equal(keys[row, :, rows.length - k.shape[1] :], k)
                assert torch.equal(values[row, :, rows.length - v.shape[1] :], v)
