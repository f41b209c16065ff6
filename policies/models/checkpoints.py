"""Getting a tokenizer and a model from what a person names: a folder, a GGUF file, or a hub's id."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from envs.messages import nearest
from policies.models.gguf import UnusableModel, dequantized, quietly

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


def load_checkpoint(model: str | Path, device: str, dtype: Dtype) -> tuple[Any, Any]:
    """A tokenizer and a causal model.

    Args:
        model: a folder, a GGUF file, or a hub's id.
        device: ``cpu``, ``cuda``, or ``auto`` for all the GPUs there are.
        dtype: of the weights in memory; ``auto`` is that of the files.

    Raises:
        UnusableModel: when it is not there, or is no causal language model with safe weights.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = Path(model).expanduser()
    if path.suffix == ".gguf":
        path = dequantized(path)
    elif not path.exists() and (path.is_absolute() or str(model).startswith((".", "~"))):
        siblings = map(str, path.parent.iterdir()) if path.parent.is_dir() else ()
        raise UnusableModel(f"there is no folder {str(path)!r}{nearest(str(path), siblings)}")
    source = str(path) if path.exists() else str(model)
    placed = {"device_map": "auto"} if device == "auto" else {}
    try:
        with quietly():
            tokenizer = AutoTokenizer.from_pretrained(source)
            loaded = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, use_safetensors=True, **placed)
    except Exception as error:  # of many kinds: a wrong name, no network, weights that are missing or of another kind
        said = str(error).partition("\n")[0]
        raise UnusableModel(f"cannot load {source!r} with transformers: {type(error).__name__}: {said}") from error
    return tokenizer, loaded.eval() if placed else loaded.to(device).eval()
