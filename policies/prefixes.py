"""What is kept of the prefixes of a search: keys and values of transformers models.

A prefix holds its own last part only; its siblings share what is before them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from policies.models.prefix_tree import Ids, KeptPrefix, PrefixTree

KeysValues = Sequence[tuple[Tensor, Tensor]]
"""For each layer the keys and the values of a sequence, (heads, tokens, width) each."""


@dataclass(eq=False, slots=True)
class Prefix(KeptPrefix):
    """A prefix with its keys and values.

    Args:
        own: keys and values of the tokens that it has more than the prefix before it.
    """

    own: KeysValues

    @property
    def bytes(self) -> int:
        """Memory of its own part."""
        return sum(tensor.numel() * tensor.element_size() for layer in self.own for tensor in layer)

    def whole(self) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of the whole sequence."""
        path: list[KeysValues] = []
        at: Prefix | None = self
        while at is not None:
            path.append(at.own)
            at = at.before
        layers = zip(*reversed(path), strict=True)
        return [(torch.cat([k for k, _ in parts], 1), torch.cat([v for _, v in parts], 1)) for parts in layers]


class Prefixes(PrefixTree[Prefix]):
    """Prefixes, each with tensors of its own."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """Memory of all that is kept."""
        return self._bytes

    def add(self, scope: str, ids: Ids, before: Prefix | None, own: KeysValues) -> Prefix:
        """Keep a prefix, unless it is kept already, or what is before it is not any more."""
        made = Prefix(scope, ids, before, own)
        if before is not None and not before.kept:
            made.kept = False
            return made
        self._bytes += made.bytes
        return self._add(made)

    def _first(self, prefix: Prefix, length: int) -> Prefix:
        count = length - (len(prefix.before.ids) if prefix.before else 0)
        # copies: a view would hold on to the memory of the whole
        own = [(k[:, :count].clone(), v[:, :count].clone()) for k, v in prefix.own]
        prefix.own = [(k[:, count:].clone(), v[:, count:].clone()) for k, v in prefix.own]
        return Prefix(prefix.scope, prefix.ids[:length], prefix.before, own)

    def _release(self, prefixes: Sequence[Prefix]) -> None:
        self._bytes -= sum(prefix.bytes for prefix in prefixes)
