"""Getting a tokenizer and a model from what a person names: a folder, a GGUF file, or a hub's id."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from envs.messages import nearest
from policies.models.gguf import dequantized
from policies.models.lora import merged
from policies.models.pretrained import UnusableModel, check_files, highest_id, load_model, load_tokenizer, quietly, said

Dtype = Literal["auto", "float32", "bfloat16", "float16"]

_FILES = ["*.json", "*.jinja", "*.safetensors", "*.model", "*.txt"]
_OTHERS = ["consolidated*", "original/*", "onnx/*"]  # the same weights once more


def load_checkpoint(model: str | Path, device: str, dtype: Dtype) -> tuple[Any, Any]:
    """A tokenizer and a causal model.

    Args:
        model: a folder, a GGUF file, or a hub's id; also of a LoRA adapter, which names its base.
        device: ``cpu``, ``cuda``, or ``auto`` for all the GPUs there are.
        dtype: of the weights in memory; ``auto`` is that of the files.

    Raises:
        UnusableModel: when it is not there, is no causal language model with safe weights, lacks some of them, or has
            others than its tokenizer wants.
    """
    from transformers import AutoModelForCausalLM

    folder = find_folder(model)
    placed = {"device_map": "auto"} if device == "auto" else {}
    tokenizer = load_tokenizer(folder)
    loaded = load_model(AutoModelForCausalLM, folder, dtype=dtype, **placed)
    tokens, known = highest_id(tokenizer) + 1, len(loaded.get_input_embeddings().weight)
    if tokens > known:
        raise UnusableModel(f"the tokenizer of {model} has {tokens} tokens and its model {known}: they do not fit")
    return tokenizer, loaded.eval() if placed else loaded.to(device).eval()


def find_folder(model: str | Path) -> Path:
    """The folder of a checkpoint: the one that is named, or what was made of a GGUF file or an adapter, or a hub's.

    Raises:
        UnusableModel: when there is none.
    """
    path = Path(model).expanduser()
    if path.suffix == ".gguf":
        return dequantized(path)
    if path.is_dir():
        check_files(path)
        return merged(path, find_folder)
    siblings = [str(each) for each in path.parent.iterdir()] if path.parent.is_dir() else []
    near = nearest(str(path), siblings)
    if str(model).count("/") > 1 or path.is_absolute() or str(model).startswith((".", "~")):
        raise UnusableModel(f"there is no folder {str(path)!r}{near}")
    return merged(_downloaded(str(model), near), find_folder)


def _downloaded(name: str, near: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        with quietly():
            return Path(snapshot_download(name, allow_patterns=_FILES, ignore_patterns=_OTHERS))
    except Exception as error:  # of many kinds, those of the network among them
        why = f"is no folder here and cannot be had from the hub: {said(error)}"
        raise UnusableModel(f"{name!r} {why}{near}") from error
