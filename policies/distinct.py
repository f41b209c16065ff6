"""Sampling without replacement: what was drawn before is taken out of what is drawn from.

Shi, Bieber and Sutton 2020 (arXiv 2002.09067, UniqueRandomizer): a tree of the tokens drawn so far keeps, for each
prefix, how much of the probability of what may follow it is left.
"""

from __future__ import annotations

from collections.abc import MutableMapping

import numpy as np
from numpy.typing import NDArray

_NOTHING = 1e-6  # what float32 probabilities that add up to 1 may be off by


class Branch:
    """A prefix of what was drawn.

    Args:
        before: one token shorter; None for the empty prefix.
        share: the probability of its last token after those before.

    Attributes:
        left: the probability, once the prefix is drawn, that what follows it was not drawn yet.
        after: the branches of one token more, by that token.
    """

    __slots__ = ("after", "before", "left", "share")

    def __init__(self, before: Branch | None = None, share: float = 1.0) -> None:
        self.before = before
        self.share = share
        self.left = 1.0
        self.after: dict[int, Branch] = {}

    def end(self) -> None:
        """A sample ends here: it is not to be drawn again."""
        branch, lost = self, self.left
        branch.left = 0.0
        while branch.before is not None:
            lost *= branch.share
            branch = branch.before
            branch.left = branch.left - lost if branch.left - lost > _NOTHING else 0.0


def take_out(weights: NDArray[np.float32], branches: MutableMapping[int, Branch]) -> NDArray[np.float32]:
    """The weights of tokens without those of the samples that were drawn, for the rows of some branches.

    Where nothing would be left, a row stays as it is.

    Args:
        weights: (rows, vocabulary); it is not changed.
        branches: by row.
    """
    weights = weights.copy()
    for row, branch in branches.items():
        tokens = list(branch.after)
        left = weights[row, tokens] * np.array([branch.after[token].left for token in tokens], np.float32)
        if weights[row].sum() - weights[row, tokens].sum() + left.sum() > _NOTHING:
            weights[row, tokens] = left
    return weights


def follow(weights: NDArray[np.float32], tokens: NDArray[np.int64], branches: MutableMapping[int, Branch]) -> None:
    """Put in the place of each branch the one of the token that was drawn after it.

    Args:
        weights: (rows, vocabulary), with nothing taken out.
        tokens: (rows,).
        branches: by row.
    """
    for row, branch in branches.items():
        token = int(tokens[row])
        if token not in branch.after:
            branch.after[token] = Branch(branch, float(weights[row, token] / weights[row].sum()))
        branches[row] = branch.after[token]
