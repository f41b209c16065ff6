"""The running sums from which `SearchGraph.samples` is worked out, in constant time, however large the graph is."""

from __future__ import annotations

from heapq import heappop, heappush


class LargestOf:
    """A bag of whole numbers that knows its largest one. Adding and removing take O(log distinct numbers)."""

    __slots__ = ("_counts", "_heap")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._heap: list[int] = []  # every key of the counts, negated, once

    def add(self, number: int) -> None:
        """Put a number in."""
        count = self._counts.get(number)
        if count is None:
            heappush(self._heap, -number)
        self._counts[number] = (count or 0) + 1

    def remove(self, number: int) -> None:
        """Take a number out that was put in."""
        self._counts[number] -= 1

    def largest(self, default: int = 0) -> int:
        """The largest number in the bag, or the default when it is empty."""
        heap = self._heap
        while heap:
            if self._counts[-heap[0]]:
                return -heap[0]
            del self._counts[-heappop(heap)]
        return default


class SampleCount:
    """What a search has spent, and how long its solutions are, in policy tokens.

    Attributes:
        generated: tokens of all samples.
        longest: of one sample from the root to any node.
        finished: samples that ended with an answer; `finished_tokens` have their paths together.
        open: the lengths of the trajectories that are not over and were not pruned, what was looked ahead included.
    """

    __slots__ = ("finished", "finished_tokens", "generated", "longest", "open")

    def __init__(self) -> None:
        self.generated = 0
        self.longest = 0
        self.finished = 0
        self.finished_tokens = 0
        self.open = LargestOf()

    def samples(self, since: int = 0) -> float:
        """Sample-equivalents; see `agent.search.graph.SearchGraph.samples`."""
        if not self.generated:
            return 0.0
        if not self.finished:
            return (self.generated - since) / (self.longest or 1)
        mean = self.finished_tokens / self.finished
        return (self.generated - since) / (max(mean, self.open.largest()) or 1)
