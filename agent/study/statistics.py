"""Intervals of accuracies and of their differences, at 95 %; many comparisons at once; how many problems to take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from statistics import NormalDist

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
    means = list(problem_means(marks).values())
    if not means:
        return math.nan, (0.0, 1.0)
    n, mean = len(means), sum(means) / len(means)
    variance = sum((each - mean) ** 2 for each in means) / n
    return mean, _effective_wilson(n, mean, variance, sum(map(len, marks.values())))


class GrowingClusters:
    """`clustered` of marks, each right or wrong, that come one by one: constant time for each, and exact sums.

    Attributes:
        count: of the marks so far.
        marked: how many of them hold.
    """

    def __init__(self) -> None:
        self.count = self.marked = 0
        self._clusters: dict[str, tuple[int, int]] = {}  # marks that hold, and all
        self._means = self._squares = Fraction()  # sums over the clusters

    def add(self, cluster: str, mark: bool) -> None:
        """Take up a mark."""
        marked, count = self._clusters.get(cluster, (0, 0))
        before, after = Fraction(marked, count or 1), Fraction(marked + mark, count + 1)
        self._clusters[cluster] = marked + mark, count + 1
        self._means += after - before
        self._squares += after**2 - before**2
        self.count += 1
        self.marked += mark

    def interval(self) -> tuple[float, float]:
        """The interval of the marks so far, of which there is one at least."""
        n = len(self._clusters)
        mean = self._means / n
        return _effective_wilson(n, float(mean), float(self._squares / n - mean**2), self.count)


def _effective_wilson(n: int, mean: float, variance: float, marks: int) -> tuple[float, float]:
    """Wilson's interval at the effective sample size of `clustered`, of n clusters' means."""
    effective = float(n)
    if 0 < mean < 1:
        effective = max(effective, n * mean * (1 - mean) / variance if variance else math.inf)
    effective = min(effective, marks)
    return wilson(mean * effective, effective)


def problem_means(marks: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The mean mark of each problem, over its seeds."""
    return {problem: sum(each) / len(each) for problem, each in marks.items()}


def paired_difference(first: Mapping[str, float], second: Mapping[str, float]) -> tuple[float, float, float]:
    """Mean of `second` minus that of `first` over the problems both have, with its 95 % interval.

    Problems are paired, so only those on which the two differ tell anything. The interval is Wald's with half a problem
    added to each of the four counts (Agresti and Min 2005), which keeps it honest when few differ. Marks may be
    fractions (means over seeds): the squared differences then take the place of the counts.
    """
    n, total, centre, error = _paired(first, second)
    if not n:
        return 0.0, -1.0, 1.0
    return total / n, max(-1.0, centre - Z * error), min(1.0, centre + Z * error)


def paired_p_value(first: Mapping[str, float], second: Mapping[str, float]) -> float:
    """The two-sided p-value of no difference that goes with `paired_difference`.

    It is below 0.05 exactly where the interval leaves 0 out; 1 when no problem is shared.
    """
    n, _, centre, error = _paired(first, second)
    return math.erfc(abs(centre) / error / math.sqrt(2)) if n else 1.0


def _paired(first: Mapping[str, float], second: Mapping[str, float]) -> tuple[int, float, float, float]:
    """How many problems are shared, the sum of the differences, and the centre and standard error of their mean."""
    shared = [problem for problem in first if problem in second]
    n = len(shared)
    differences = [second[problem] - first[problem] for problem in shared]
    total, squares = math.fsum(differences), math.fsum(each * each for each in differences)
    return n, total, total / (n + 2), math.sqrt(squares + 1 - total**2 / (n + 2)) / (n + 2)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for how many there are (Holm 1979), in the order given.

    Those below 0.05 may all be believed: the chance that any of them is an accident is 5 % at most, whatever the
    comparisons have to do with each other.
    """
    corrected, least = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[at]))
        corrected[at] = least
    return corrected


def problems_needed(difference: float, differing: float, power: float = 0.8) -> int:
    """How many problems two strategies must be compared on to see a difference between them.

    The sample size of McNemar's test at 5 %, two-sided (Connor 1987, Biometrics 43, 207-211; after Miettinen 1968).

    Args:
        difference: of their accuracies, in (0, 1]; 0.05 is five points.
        differing: share of the problems on which one is right and the other is wrong, from `difference` to 1.
        power: the chance to see it, in [0.5, 1).

    Raises:
        ValueError: when one of them is out of its range.
    """
    if not 0 < difference <= differing <= 1 or not 0.5 <= power < 1:
        raise ValueError(
            f"difference is {difference:g}, differing {differing:g}, power {power:g};"
            " needed: 0 < difference <= differing <= 1 and 0.5 <= power < 1"
        )
    z = NormalDist().inv_cdf(power)
    root = (Z * math.sqrt(differing) + z * math.sqrt(differing - difference**2)) / difference
    return math.ceil(root**2)


def difference_seen(problems: int, differing: float, power: float = 0.8) -> float | None:
    """The least difference that so many problems show: `problems_needed` the other way round.

    None when even strategies of which one is right wherever they differ would not be told apart.
    """
    if problems < 1 or not 0 < differing <= 1 or not 0.5 <= power < 1:
        raise ValueError(
            f"problems is {problems}, differing {differing:g}, power {power:g};"
            " needed: at least 1 problem, 0 < differing <= 1 and 0.5 <= power < 1"
        )
    z = NormalDist().inv_cdf(power)
    # (sqrt(n) d - Z sqrt(q))^2 = z^2 (q - d^2), solved for d
    inner = Z**2 * problems - (problems + z**2) * (Z**2 - z**2)
    found = math.sqrt(differing) * (Z * math.sqrt(problems) + math.sqrt(max(0.0, inner))) / (problems + z**2)
    return found if found <= differing else None
