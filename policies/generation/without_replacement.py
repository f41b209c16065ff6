"""Sampling without replacement: what was drawn before is taken out of what is drawn from.

Shi, Bieber and Sutton 2020 (arXiv 2002.09067, UniqueRandomizer): a tree of the tokens drawn so far keeps, for each
prefix, how much of the probability of what may follow it is left. The tree knows how likely its own branches are, so
whether a sample shares its next token with one before it is drawn without the model (`sample_shared_prefix`): that runs
only from where a sample goes a way of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from policies.core import Propose
from policies.generation.random_numbers import uniform
from policies.models.prefix_tree import Ids, KeptPrefix

_NOTHING = 1e-6  # what float32 probabilities that add up to 1 may be off by
_WALK = 0xD1B54A32D192ED03  # makes of a sample's seed another, for numbers that its own tokens are not drawn by
_AHEAD = 64  # tokens for which these numbers are made at once


class PrefixNode:
    """A prefix of what was drawn.

    Args:
        before: one token shorter; None for the empty prefix.
        share: the probability of its last token after those before.
        logprob: the same at temperature 1, as its logarithm.

    Attributes:
        left: the probability, once the prefix is drawn, that what follows it was not drawn yet.
        after: the branches of one token more, by that token.
        kept: what a policy kept of a sample that drew it.
    """

    __slots__ = ("after", "before", "kept", "left", "logprob", "share")

    def __init__(self, before: PrefixNode | None = None, share: float = 1.0, logprob: float = 0.0) -> None:
        self.before = before
        self.share = share
        self.logprob = logprob
        self.left = 1.0
        self.after: dict[int, PrefixNode] = {}
        self.kept: KeptPrefix | None = None

    @property
    def rest(self) -> float:
        """The probability of the tokens that nobody drew after it."""
        rest = 1.0 - sum(branch.share for branch in self.after.values())
        return rest if rest > _NOTHING else 0.0

    def draw(self, number: float) -> int | None:
        """The next token, if it is one that was drawn before and has something left; None for one of the others.

        None, too, where nothing is left of anything: then all is to be drawn from.

        Args:
            number: in [0, 1), which decides.
        """
        shares = {token: branch.share * branch.left for token, branch in self.after.items() if branch.left}
        token, mark = None, number * (sum(shares.values()) + self.rest)
        for token, share in shares.items():
            mark -= share
            if mark < 0:
                return token
        return token if shares and not self.rest else None

    def end(self) -> None:
        """A sample ends here: it is not to be drawn again."""
        branch, lost = self, self.left
        branch.left = 0.0
        while branch.before is not None:
            lost *= branch.share
            branch = branch.before
            branch.left = branch.left - lost if branch.left - lost > _NOTHING else 0.0

    def keep(self, kept: KeptPrefix) -> None:
        """Remember what was kept of a sample that ends here, where what was before is not kept any more."""
        branch: PrefixNode | None = self
        while branch is not None:
            if branch.kept is None or not branch.kept.kept:
                branch.kept = kept
            branch = branch.before


def sample_shared_prefix(branch: PrefixNode, seed: int, index: int) -> Iterator[tuple[int, PrefixNode]]:
    """The tokens that a sample shares with those before it, with the branches that they lead to.

    Args:
        branch: where it is.
        seed: its own.
        index: how many tokens it has.
    """
    while True:
        places = np.arange(index, index + _AHEAD)
        for number in uniform(np.full(_AHEAD, (seed ^ _WALK) & 0xFFFFFFFFFFFFFFFF, np.uint64), places).tolist():
            token = branch.draw(number)
            if token is None:
                return
            branch = branch.after[token]
            yield token, branch
        index += _AHEAD


def take_out(weights: NDArray[np.float32], branches: Mapping[int, PrefixNode]) -> NDArray[np.float32]:
    """The weights of tokens without those that were drawn before, for the rows of some branches.

    Where nothing would be left, a row stays as it is.

    Args:
        weights: (rows, vocabulary); it is not changed.
        branches: by row; whether to draw what was drawn before is decided (`sample_shared_prefix`).
    """
    taken = {row: list(branch.after) for row, branch in branches.items() if branch.after and branch.rest}
    if not taken:
        return weights
    weights = weights.copy()
    for row, tokens in taken.items():
        rest = weights[row].copy()
        rest[tokens] = 0.0
        if rest.any():
            weights[row] = rest
    return weights


def follow(
    weights: NDArray[np.float32],
    tokens: NDArray[np.int64],
    logprobs: NDArray[np.float32],
    branches: MutableMapping[int, PrefixNode],
) -> None:
    """Put in the place of each branch the one of the token that was drawn after it.

    Args:
        weights: (rows, vocabulary), with nothing taken out.
        tokens: (rows,).
        logprobs: (rows,) of the tokens at temperature 1.
        branches: by row.
    """
    for row, branch in branches.items():
        token = int(tokens[row])
        if token not in branch.after:
            share = float(weights[row, token] / weights[row].sum())
            branch.after[token] = PrefixNode(branch, share, float(logprobs[row]))
        branches[row] = branch.after[token]


# --------------------------------------------------------------------------------------------------------- in turn


class Drawn(Protocol):
    """A sample in progress: if it shall differ from others, `queue` is of those, and `node` is what it has drawn."""

    queue: SampleQueue | None
    node: PrefixNode | None


S = TypeVar("S", bound=Drawn)


@dataclass(eq=False)
class SampleQueue:
    """Samples of one state that shall differ: one is drawn after the other.

    Args:
        root: of what was drawn.
        waiting: how to begin each that is still to be drawn.
        busy: whether one is being drawn.
    """

    root: PrefixNode = field(default_factory=PrefixNode)
    waiting: deque[Callable[[], None]] = field(default_factory=deque)
    busy: bool = False

    def go_on(self) -> None:
        """Begin the next, if none is being drawn."""
        if self.waiting and not self.busy:
            self.busy = True
            self.waiting.popleft()()


class SampleQueues(Generic[S]):
    """The queues of all searches.

    Args:
        begin: puts a sample where a policy takes up those to draw next.
    """

    def __init__(self, begin: Callable[[S], None]) -> None:
        self._begin = begin
        self._queues: dict[str, dict[tuple[Ids, float, int | None], SampleQueue]] = {}  # by scope

    def add(self, request: Propose, ids: Ids, sample: S) -> None:
        """Draw a sample of a request at a state: at once, or if it shall differ from others, when its turn comes."""
        if not request.distinct:
            self._begin(sample)
            return
        key = ids, request.temperature, request.max_steps
        queue = self._queues.setdefault(request.scope, {}).setdefault(key, SampleQueue())
        sample.queue, sample.node = queue, queue.root
        queue.waiting.append(lambda: self._begin(sample))
        queue.go_on()

    def nodes(self, active: Sequence[S]) -> dict[int, PrefixNode]:
        """What `policies.generation.sampling.draw` needs, by the row of each sample in progress."""
        if not self._queues:
            return {}
        return {row: sample.node for row, sample in enumerate(active) if sample.node is not None}

    def follow(self, active: Sequence[S], nodes: Mapping[int, PrefixNode]) -> None:
        """Keep what `draw` made of the nodes."""
        for row, node in nodes.items():
            active[row].node = node

    def end(self, sample: S) -> None:
        """A sample is complete: the next of its queue has its turn, if it is in one."""
        if sample.queue is not None and sample.node is not None:
            sample.node.end()
            sample.queue.busy = False
            sample.queue.go_on()

    def drop(self, scope: str) -> None:
        """Forget a search."""
        self._queues.pop(scope, None)

    def clear(self) -> None:
        """Forget all."""
        self._queues.clear()
