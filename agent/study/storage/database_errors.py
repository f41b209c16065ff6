"""What can be wrong with a study's file, in one line that names it: SQLite's own errors say neither what nor where."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

from envs.messages import UsageError

_WORDS: Mapping[int, str] = {
    sqlite3.SQLITE_BUSY: "is locked by another program (a database browser, a backup); close it and try again",
    sqlite3.SQLITE_LOCKED: "is locked by another program (a database browser, a backup); close it and try again",
    sqlite3.SQLITE_FULL: "cannot grow: the disk is full; what was written is kept, and the same command goes on",
    sqlite3.SQLITE_READONLY: "cannot be written to: it, its folder or its disk is read-only",
    sqlite3.SQLITE_PERM: "cannot be opened: access is denied",
    sqlite3.SQLITE_AUTH: "cannot be opened: access is denied",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_IOERR: "cannot be read or written: the disk or the file system fails",
    sqlite3.SQLITE_NOTADB: "is not a file of a study; give another file",
    sqlite3.SQLITE_CORRUPT: "is a damaged database; give another file, or a copy of it from before",
}


@contextlib.contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """Within this context the errors of SQLite are RecipeErrors that name the file."""
    try:
        yield
    except (sqlite3.Error, OverflowError, UnicodeError) as error:
        code = getattr(error, "sqlite_errorcode", None)
        words = None if code is None else _WORDS.get(code & 0xFF)  # the lowest byte; the others say more of the same
        raise UsageError(f"{path} {words or f'is a damaged study: {error}; give another file'}") from None


def check_readable(path: Path) -> None:
    """Raise UsageError unless there is a regular file that may be read."""
    if path.is_symlink() and not path.exists():
        raise UsageError(f"{path} is a link to {os.readlink(path)!r}, which is not there")
    if not path.exists():
        raise UsageError(f"there is no file {str(path)!r}")
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "a device or a pipe"
        raise UsageError(f"{path} is {kind}, not a file of a study; give a file")
    if not os.access(path, os.R_OK):
        raise UsageError(f"{path} cannot be read: access is denied")


def check_writable(path: Path) -> None:
    """Raise UsageError unless a file is there that may be written to, or can be made; makes its folder."""
    try:
        if path.is_symlink() or path.exists():
            check_readable(path)
            if not os.access(path, os.W_OK):
                raise UsageError(f"{path} cannot be written to: access is denied; 'stepwell report' shows it")
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path} cannot be made: {error.strerror or error}") from None
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UsageError(f"{path} cannot be written to: access to its folder is denied")
