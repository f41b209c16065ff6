"""Folders that are made of a user's files once, and lie in the user's cache for the next time."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from loguru import logger


def cache_folder() -> Path:
    """Where what was made of a user's files is kept (``XDG_CACHE_HOME``)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stepwell"


def made_once(name: str, doing: str, make: Callable[[Path], None]) -> Path:
    """A folder of the user's cache, made if it is not there; what fails, or is killed, leaves no folder of that name.

    Args:
        name: of the folder; it holds the digest of what the folder is made of.
        doing: what is being done, for the one line that says so.
        make: fills a new folder.
    """
    folder = cache_folder() / name
    if (folder / "config.json").is_file():
        return folder
    logger.info("{}, once; kept in {}", doing, folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
    try:
        make(made)
        try:
            made.rename(folder)
        except OSError:  # another process was faster
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder
