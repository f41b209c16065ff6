"""What tells a model from others under the same name: a digest of every file that makes it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

DIGITS = 12
_WEIGHTS = ("*.safetensors", "*.gguf", "*.bin")
_TEXT = ("*.json", "*.jinja", "*.model", "*.txt")  # configuration, tokenizer, chat template, adapter
_OTHER = {"training.json"}  # the record of a training, which runs nothing


def model_digest(place: Path) -> str:
    """Twelve digits of the SHA-256 of a model's files: weights, configuration, tokenizer and chat template.

    Args:
        place: a folder, or a file that holds all of it (GGUF). A folder is read again when a file of it changes.

    Returns:
        Empty where there is no such place, or nothing of a model in it.
    """
    if place.is_file():
        files = [place]
    else:
        files = sorted(
            {file for pattern in (*_WEIGHTS, *_TEXT) for file in place.glob(pattern)} if place.is_dir() else ()
        )
        files = [file for file in files if file.name not in _OTHER and file.is_file()]
    if not files:
        return ""
    state = tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files)
    return _digest(state)


def joint_digest(digests: Sequence[str]) -> str:
    """One digest of several; empty if there are none, or one of them is."""
    if len(digests) < 2 or not all(digests):
        return digests[0] if len(digests) == 1 else ""
    return hashlib.sha256("+".join(digests).encode()).hexdigest()[:DIGITS]


@lru_cache(maxsize=64)
def _digest(state: tuple[tuple[str, int, int], ...]) -> str:
    whole = hashlib.sha256()
    for name, _, size in state:
        whole.update(f"{Path(name).name}\0{size}\0".encode())
        with open(name, "rb") as content:
            whole.update(hashlib.file_digest(content, "sha256").digest())
    return whole.hexdigest()[:DIGITS]
