"""Uniform numbers that belong to a seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def uniform(seeds: NDArray[np.uint64], index: NDArray[np.int64]) -> NDArray[np.float32]:
    """One number in [0, 1) per (seed, index), by hashing (splitmix64, Steele et al. 2014): 24 random bits each."""
    x = _mix(seeds) + (index + 1).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return (_mix(x) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = x ^ (x >> np.uint64(30))
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x
