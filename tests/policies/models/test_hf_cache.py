"""Rows of keys and values against plain lists of sequences."""

import random
from typing import Any

import torch
from torch import Tensor

from policies.models.hf_cache import PaddedRows

LAYERS, HEADS, WIDTH = 2, 3, 4


def sequence(length: int) -> list[tuple[Tensor, Tensor]]:
    return [(torch.randn(HEADS, length, WIDTH), torch.randn(HEADS, length, WIDTH)) for _ in range(LAYERS)]


def longest(held: list[list[tuple[Tensor, Tensor]]]) -> int:
    return max((layers[0][0].shape[1] for layers in held), default=0)


def test_rows_hold_what_was_put_in_them() -> None:
    torch.manual_seed(0)
    rng = random.Random(0)
    rows = PaddedRows(sequence(0))
    held: list[Any] = []  # for each row its sequence
    for _ in range(300):
        if rng.random() < 0.3:
            new = [(sequence(rng.choice((0, 3, 40, 90))), rng.randint(1, 3)) for _ in range(rng.randint(1, 3))]
            places = []
            for layers, times in new:
                over = rng.sample(range(len(held)), min(len(held), rng.randint(0, 1)))  # in place of another
                own = [*over, *range(len(held), len(held) + times - len(over))]
                held += [layers] * (times - len(over))
                for row in over:
                    held[row] = layers
                places.append((layers, own))
            rows.load([(layers, own) for layers, own in places if own], len(held), longest(held))
        elif held and rng.random() < 0.4:
            left = rng.randint(max(0, len(held) - 30), len(held) - 1)
            moved = {rng.randrange(left): row for row in range(left, len(held)) if rng.random() < 0.5 and left}
            sources, targets = list(moved.values()), list(moved)
            rows.move(sources, targets, [held[row][0][0].shape[1] for row in sources])
            held = [held[moved.get(row, row)] for row in range(left)]
            rows.shrink(left, longest(held))
            assert rows.length == longest(held)
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
