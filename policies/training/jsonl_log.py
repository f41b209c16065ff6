"""A file of JSON lines that outlives a kill: what is paid for, and is read back by the same command.

Lines are written and synced before the next is waited for. The first holds the configuration and its fingerprint. A
line that was torn by a kill is dropped. Results of studies are kept in `agent.study.results_db` instead.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from envs.messages import UsageError, differences
from policies.service import Identified

FORMAT = 1  # a change of meaning needs another number


class JsonlLog:
    """An append-only file of JSON lines that belongs to one configuration. A context manager; one writer at a time.

    Args:
        path: made, with its folder, if it does not exist.
        config: what the results depend on; a file of another configuration is refused.
        models: by their part in it, the digests of the models that the results are of (`digests_of`); a file of other
            models under the same names is refused. One of an older version does not say which they were.

    Raises:
        UsageError: when the file belongs to another configuration or other models, is none of ours, or is being
            written to.
    """

    def __init__(self, path: Path, config: Mapping[str, Any], models: Mapping[str, str] | None = None) -> None:
        self.models = dict(models or {})
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = path.open("a+b")
        try:
            self._lock()
            self.rows = self._open(dict(config))
        except BaseException:
            self._file.close()
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(
                f"{self.path} is being written to by another run; wait for it or give another file"
            ) from None

    def _open(self, config: dict[str, Any]) -> list[dict[str, Any]]:
        self._file.seek(0)
        content = self._file.read()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):  # the last line was torn by a kill
            self._file.truncate(len(whole))
        lines = whole.splitlines()
        if not lines:
            header = {"stepwell": "log", "format": FORMAT, "fingerprint": fingerprint(config), "config": config}
            self._write(header | ({"models": self.models} if self.models else {}))
            return []
        try:
            header, *rows = [json.loads(line) for line in lines]
            theirs, version, models = header["config"], header["format"], dict(header.get("models", {}))
        except (ValueError, KeyError, TypeError):
            raise UsageError(f"{self.path} is not a file of results; give another file") from None
        if version != FORMAT:
            raise UsageError(f"{self.path} has format {version}, this version writes {FORMAT}; give another file")
        if header["fingerprint"] != fingerprint(config):
            raise UsageError(
                f"{self.path} belongs to another configuration ({'; '.join(differences(theirs, config))});"
                " give another file, or the same options to go on"
            )
        other = [part for part, digest in self.models.items() if models.get(part, digest) != digest]
        if other:
            raise UsageError(f"{self.path} is of another {' and '.join(other)} under the same name; give another file")
        return rows

    def append(self, *rows: dict[str, Any]) -> None:
        """Add rows: write them and wait until they are on the disk."""
        self._write(*rows)
        self.rows += rows

    def _write(self, *rows: Mapping[str, Any]) -> None:
        lines = [json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows]
        self._file.write("".join(lines).encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let another process write to it."""
        self._file.close()

    def __enter__(self) -> JsonlLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def fingerprint(config: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that stand for a configuration, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()[:16]


def digests_of(**services: object) -> dict[str, str]:
    """The digests of the models of some services by their part in it, where they are known."""
    known = {part: service.digest() for part, service in services.items() if isinstance(service, Identified)}
    return {part: digest for part, digest in known.items() if digest}
