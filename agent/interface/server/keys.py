"""Who may ask, and how much: keys from a file, compared in constant time and never logged.

The file is YAML, a name for each key::

    ada: {key: 3f9c..., budget: {samples: 64}, daily: {tokens: 2000000}, concurrent: 8}
    bob: {key: 81d2...}

Keys are kept as digests only. What a key spent in a day (UTC) is kept in memory: each replica of the server counts for
itself, and starts at nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from loguru import logger

from agent.interface.server.core import Refused
from agent.recipes.files import LONGEST, parse_yaml
from agent.search.budget import Budget
from envs.messages import UsageError
from envs.options import AtLeast, check_ranges, load_dataclass

SHORTEST = 16  # characters of a key
_DAY = 86_400
_COUNTED = {"samples": ("samples",), "tokens": ("generated", "prefilled"), "flops": ("flops",), "seconds": ("seconds",)}


@dataclass(frozen=True)
class KeyEntry:
    """What the file says of a key.

    Args:
        key: the key itself.
        budget: most that one search may be allowed to spend; nothing limits it but the server.
        daily: what all its searches of a day may spend together.
        concurrent: searches at work or waiting at once; 0 is no limit.
    """

    key: str = field(repr=False)
    budget: Budget = field(default_factory=Budget)
    daily: Budget = field(default_factory=Budget)
    concurrent: Annotated[int, AtLeast(0)] = 0

    def __post_init__(self) -> None:
        check_ranges(self)
        if len(self.key) < SHORTEST or not self.key.isascii() or not self.key.isprintable() or " " in self.key:
            raise ValueError(f"a key is of at least {SHORTEST} printable ASCII characters, without blanks")


class Account:
    """Whoever uses a key, or the server without one.

    Args:
        name: in logs.
        budget: most that one search may be allowed to spend.
        daily: what all searches of a day may spend together.
        concurrent: searches at once; 0 is no limit.

    Attributes:
        open: searches at work or waiting.
    """

    def __init__(
        self, name: str, budget: Budget | None = None, daily: Budget | None = None, concurrent: int = 0
    ) -> None:
        self.name, self.budget, self.daily, self.concurrent = name, budget or Budget(), daily or Budget(), concurrent
        self.open = 0
        self._day = 0
        self._spent = dict.fromkeys(_COUNTED, 0.0)

    @property
    def limited(self) -> bool:
        """Whether what it spends must be counted."""
        limits = [*asdict(self.budget).values(), *asdict(self.daily).values()]
        return any(limit is not None for limit in limits)

    def charge(self, spent: Mapping[str, Any]) -> None:
        """Add what a search cost, as its meter says."""
        self._today()
        for name, keys in _COUNTED.items():
            self._spent[name] += sum(float(spent.get(key, 0.0)) for key in keys)

    def check(self, searches: int) -> None:
        """Raises `Refused` where that many more searches are not allowed now."""
        if self.concurrent and self.open + searches > self.concurrent:
            raise Refused(429, f"{self.open} searches of this key are open; {self.concurrent} may be", retry_after=1)
        self._today()
        for name, most in asdict(self.daily).items():
            if most is not None and self._spent[name] >= most:
                left = _DAY - int(time.time()) % _DAY
                raise Refused(429, f"the {name} of this key for today are spent ({most:g})", retry_after=left)

    def _today(self) -> None:
        day = int(time.time()) // _DAY
        if day != self._day:
            self._day, self._spent = day, dict.fromkeys(_COUNTED, 0.0)


class Keyring:
    """The keys of a server.

    Args:
        accounts: with the key of each; none at all lets everybody ask.
    """

    def __init__(self, accounts: Mapping[str, Account] | None = None) -> None:
        self._salt = secrets.token_bytes(32)
        self._accounts = [(self._digest(key), account) for key, account in (accounts or {}).items()]
        self._nobody = Account("nobody")

    def __bool__(self) -> bool:
        return bool(self._accounts)

    def find(self, headers: Mapping[str, str]) -> Account:
        """Whose key a request has, as ``Authorization: Bearer KEY`` or ``x-api-key: KEY``.

        Raises:
            Refused: it has none, or one that is not known.
        """
        if not self._accounts:
            return self._nobody
        scheme, _, given = headers.get("authorization", "").partition(" ")
        key = given.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        if not key:
            raise Refused(401, "this server wants a key: Authorization: Bearer KEY, or x-api-key: KEY")
        digest, found = self._digest(key), None
        for known, account in self._accounts:  # all of them, so that the time tells nothing
            if hmac.compare_digest(known, digest):
                found = account
        if found is None:
            raise Refused(401, "this server does not know the key")
        return found

    def _digest(self, key: str) -> bytes:
        return hashlib.blake2b(key.encode("utf-8", "replace"), key=self._salt).digest()


def read_keys(path: Path) -> Keyring:
    """Read a file of keys.

    Raises:
        UsageError: it cannot be read, has no keys, or an entry is wrong; the message holds no key.
    """
    try:
        with path.open("rb") as file:
            text = file.read(LONGEST + 1).decode()
        if path.stat().st_mode & 0o007:
            logger.warning("{} can be read by everybody on this machine: chmod 600 {}", path, path)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"keys: {path}: {error}") from None
    try:
        content = parse_yaml(text, "keys")
    except UsageError:
        raise UsageError(f"keys: {path} is no YAML") from None  # the reason would show a line of the file
    if not isinstance(content, dict) or not content:
        raise UsageError(f"keys: {path} has no keys; expected NAME: {{key: KEY}} for each")
    accounts: dict[str, Account] = {}
    for name, entry in content.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("key"), str):
            raise UsageError(f"keys: {name!s} has no key; expected {name!s}: {{key: KEY}}, the key a text")
        made = load_dataclass(KeyEntry, entry, f"keys: {name!s}")
        if made.key in accounts:
            raise UsageError(f"keys: {accounts[made.key].name} and {name!s} have the same key")
        accounts[made.key] = Account(str(name), made.budget, made.daily, made.concurrent)
    return Keyring(accounts)
