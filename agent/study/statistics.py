"""Intervals of accuracies and of their differences, at 95 %."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Z = 1.959964  # of a 95 % interval


def wilson(right: float, n: float) -> tuple[float, float]:
    """The 95 % Wilson score interval of a proportion (Wilson 1927); (0, 1) when nothing was measured.

    `n` may be an effective sample size, and then neither count is whole.
    """
    if n == 0:
        return 0.0, 1.0
    p = right / n
    centre, spread = p + Z * Z / (2 * n), Z * math.sqrt(max(0.0, p * (1 - p)) / n + Z * Z / (4 * n * n))
    scale = 1 + Z * Z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def clustered(marks: Mapping[str, Sequence[float]]) -> tuple[float, tuple[float, float]]:
    """The mean of marks in [0, 1] that come in clusters (a problem's, under several seeds), and its 95 % interval.

    Seeds of one problem are no independent problems. The interval is Wilson's at the effective sample size: that at
    which independent marks would have the variance that the clusters' means show, but no more than there are marks and
    no fewer than there are clusters (Korn and Graubard 1998). With one mark each it is Wilson's own.
    """
    means = [sum(each) / len(each) for each in marks.values()]
    if not means:
        return math.nan, (0.0, 1.0)
    n, mean = len(means), sum(means) / len(means)
    effective = float(n)
    if 0 < mean < 1:
        variance = sum((each - mean) ** 2 for each in means) / n
        effective = max(effective, n * mean * (1 - mean) / variance if variance else math.inf)
    effective = min(effective, sum(map(len, marks.values())))
    return mean, wilson(mean * effective, effective)


def paired_difference(first: Mapping[str, float], second: Mapping[str, float]) -> tuple[float, float, float]:
    """Mean of `second` minus that of `first` over the problems both have, with its 95 % interval.

    Problems are paired, so only those on which the two differ tell anything. The interval is Wald's with half a problem
    added to each of the four counts (Agresti and Min 2005), which keeps it honest when few differ. Marks may be
    fractions (means over seeds): the squared differences then take the place of the counts.
    """
    shared = [problem for problem in first if problem in second]
    n = len(shared)
    if not n:
        return 0.0, -1.0, 1.0
    differences = [second[problem] - first[problem] for problem in shared]
    total, squares = math.fsum(differences), math.fsum(each * each for each in differences)
    centre = total / (n + 2)
    half = Z / (n + 2) * math.sqrt(squares + 1 - total**2 / (n + 2))
    return total / n, max(-1.0, centre - half), min(1.0, centre + half)
