"""What is kept of the token sequences of a search, so that no prefix is run twice: a tree per scope."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Self, TypeVar

Ids = tuple[int, ...]  # of tokens


@dataclass(eq=False, slots=True)
class KeptPrefix:
    """A token sequence that was run: its own last part, and the prefix before it.

    Args:
        scope: the search it belongs to.
        ids: of the whole sequence.
        before: the shorter prefix that this one goes on from.
    """

    scope: str
    ids: Ids
    before: Self | None
    kept: bool = field(default=True, init=False)
    after: int = field(default=0, init=False)  # kept prefixes that go on from this one


P = TypeVar("P", bound=KeptPrefix)


class Extension(Generic[P]):
    """Tokens to run or to keep: the parts that end `keys`, each of which goes on from the one before, after a prefix.

    Attributes:
        start: tokens that are kept already.
        length: tokens to run.
    """

    __slots__ = ("before", "keys", "length", "scope", "start")

    def __init__(self, scope: str, before: P | None, keys: tuple[Ids, ...]) -> None:
        self.scope, self.before, self.keys = scope, before, keys
        self.start = len(before.ids) if before else 0
        self.length = len(keys[-1]) - self.start


class PrefixTree(ABC, Generic[P]):
    """Prefixes by scope and token ids.

    Beyond a limit of memory, `trim` drops the least recently used, but none before those that go on from it.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept: dict[str, dict[Ids, P]] = {}
        self._recent: OrderedDict[P, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._recent)

    @property
    @abstractmethod
    def bytes(self) -> int:
        """Memory of all that is kept."""

    @abstractmethod
    def _first(self, prefix: P, length: int) -> P:
        """The first tokens of a prefix, more than those before it have, as another; its own part loses them."""

    @abstractmethod
    def _release(self, prefixes: Sequence[P]) -> None:
        """Free what prefixes hold that are not kept any more, or were not kept at all."""

    def find(self, scope: str, ids: Ids) -> P | None:
        """The prefix of exactly these ids, now most recently used."""
        found = self._kept.get(scope, {}).get(ids)
        if found is not None:
            self._recent.move_to_end(found)
        return found

    def nearest(self, scope: str, ids: Ids, known: KeptPrefix | None, parts: Callable[[], Sequence[Ids]]) -> P | None:
        """The longest kept prefix of some ids: up to their last token, or to the last of one of the parts before.

        Args:
            scope: the search.
            ids: what is to be gone on from.
            known: a prefix that may begin so (`longest`).
            parts: that the ids are made of, asked for when they are needed.
        """
        found = self.find(scope, ids[:-1]) or self.longest(known, ids[:-1])
        for part in reversed(parts()[1:]) if found is None else ():
            ids = ids[: len(ids) - len(part)]
            if (found := self.find(scope, ids[:-1])) is not None:
                break
        return found

    def longest(self, known: KeptPrefix | None, ids: Ids) -> P | None:
        """The longest kept prefix of some ids, now most recently used, among a known one and those before it.

        One that goes on beyond the ids is split where they end. The known one need not be kept any more.
        """
        while known is not None and ids:
            common = min(len(known.ids), len(ids))
            inside = known.before is None or len(known.before.ids) < common
            if known.kept and inside and known.ids[:common] == ids[:common]:
                found = self.find(known.scope, ids[:common])
                return found or self._split(self._kept[known.scope][known.ids], common)
            known = known.before
        return None

    def _split(self, prefix: P, length: int) -> P:
        first = self._first(prefix, length)
        first.after = 1
        prefix.before = first
        self._kept[first.scope][first.ids] = first
        self._recent[first] = None
        return first

    def touch(self, prefix: P | None) -> None:
        """A prefix and what is before it are now the most recently used."""
        path = []
        while prefix is not None:
            path.append(prefix)
            prefix = prefix.before
        for each in reversed(path):
            self._recent.move_to_end(each)

    def trim(self) -> None:
        """Drop prefixes until what is kept is within the limit."""
        while self._recent and self.bytes > self.limit:
            prefix = next(iter(self._recent))
            if prefix.after:
                self._recent.move_to_end(prefix)
                continue
            del self._recent[prefix], self._kept[prefix.scope][prefix.ids]
            prefix.kept = False
            self._release((prefix,))
            if prefix.before is not None:
                prefix.before.after -= 1

    def drop(self, scope: str) -> None:
        """Free all that a scope keeps."""
        dropped = list(self._kept.pop(scope, {}).values())
        for prefix in dropped:
            prefix.kept = False
            del self._recent[prefix]
        if dropped:
            self._release(dropped)

    def _add(self, prefix: P) -> P:
        """Keep a prefix whose `before` is kept, unless it is kept already: then that one is returned."""
        there = self._kept.setdefault(prefix.scope, {})
        found = there.setdefault(prefix.ids, prefix)
        if found is not prefix:
            self._release((prefix,))
            return found
        self._recent[prefix] = None
        if prefix.before is not None:
            prefix.before.after += 1
        return prefix
