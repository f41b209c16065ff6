"""What is kept of the prefixes of a search: keys and values of transformers models, a tree per scope.

A prefix holds its own last part only; its siblings share what is before them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from policies.dialogue import Ids

KeysValues = Sequence[tuple[Tensor, Tensor]]
"""For each layer the keys and the values of a sequence, (heads, tokens, width) each."""


@dataclass(eq=False)
class Prefix:
    """A token sequence whose keys and values are kept.

    Args:
        scope: the search it belongs to.
        ids: of the whole sequence.
        before: the shorter prefix that this one goes on from.
        own: keys and values of the tokens that it has more than that.
    """

    scope: str
    ids: Ids
    before: Prefix | None
    own: KeysValues
    kept: bool = field(default=True, init=False)
    after: int = field(default=0, init=False)  # kept prefixes that go on from this one

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


class Prefixes:
    """Prefixes by scope and ids, within a limit of memory; beyond it the least recently used go, ends first.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0
        self._kept: dict[str, dict[Ids, Prefix]] = {}
        self._recent: OrderedDict[Prefix, None] = OrderedDict()

    def find(self, scope: str, ids: Ids) -> Prefix | None:
        """The prefix with exactly these ids."""
        found = self._kept.get(scope, {}).get(ids)
        if found is not None:
            self._recent.move_to_end(found)
        return found

    def add(self, scope: str, ids: Ids, before: Prefix | None, own: KeysValues) -> Prefix:
        """Keep a prefix, unless it is kept already, or what is before it is not any more."""
        made = Prefix(scope, ids, before, own)
        if before is not None and not before.kept:
            made.kept = False
            return made
        found = self._kept.setdefault(scope, {}).setdefault(ids, made)
        if found is made:
            self._recent[made] = None
            self.bytes += made.bytes
            if before is not None:
                before.after += 1
        return found

    def trim(self) -> None:
        """Drop prefixes until what is kept is within the limit."""
        while self._recent and self.bytes > self.limit:
            prefix = next(iter(self._recent))
            if prefix.after:
                self._recent.move_to_end(prefix)
                continue
            del self._recent[prefix], self._kept[prefix.scope][prefix.ids]
            self._forget(prefix)
            if prefix.before is not None:
                prefix.before.after -= 1

    def drop(self, scope: str) -> None:
        """Free all that a scope keeps."""
        for prefix in self._kept.pop(scope, {}).values():
            del self._recent[prefix]
            self._forget(prefix)

    def _forget(self, prefix: Prefix) -> None:
        prefix.kept = False
        self.bytes -= prefix.bytes
