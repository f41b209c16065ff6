"""LoRA adapters (Hu et al. 2022, arXiv 2106.09685, section 4.1), merged into their base: W + (alpha / r) B A.

An adapter's folder (``adapter_config.json``, ``adapter_model.safetensors``, as peft saves it) names its base. The two
are merged once into a plain checkpoint in the user's cache, so that whatever runs folders runs it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policies.models.made_once import made_once
from policies.models.pretrained import UnusableModel, said

if TYPE_CHECKING:
    from torch import Tensor

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_INDEX = "model.safetensors.index.json"
_BESIDE = (
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "vocab.json", "*.txt"),
    *("spiece.model", "sentencepiece.bpe.model", "generation_config.json"),
)
_HEADS = {"CAUSAL_LM": "ForCausalLM", "TOKEN_CLS": "ForTokenClassification", "SEQ_CLS": "ForSequenceClassification"}
_INSTEAD = "merge it into its base first (peft: merge_and_unload, save_pretrained) and give that folder"
_HEAD = "lm_head.weight"


@dataclass(frozen=True)
class Adapter:
    """What an adapter changes.

    Args:
        folder: its own.
        config: of ``adapter_config.json``.
        pairs: by the name of a module, A of shape (r, in) and B (out, r).
        embeddings: the same for embeddings: A (r, tokens), B (width, r).
        whole: tensors that replace those of the base, or are new, by name.
    """

    folder: Path
    config: Mapping[str, Any]
    pairs: Mapping[str, tuple[Tensor, Tensor]]
    embeddings: Mapping[str, tuple[Tensor, Tensor]]
    whole: Mapping[str, Tensor]

    def scale(self, module: str, rank: int) -> float:
        """What is alpha / r, or alpha / sqrt(r) if the adapter is stabilised by rank."""
        given = self.config.get("lora_alpha")
        alpha = float(rank if given is None else given)
        for pattern, own in (self.config.get("alpha_pattern") or {}).items():
            if re.fullmatch(rf"(.*\.)?({re.escape(pattern.removeprefix('^'))})", module):
                alpha = float(own)
        return alpha / (math.sqrt(rank) if self.config.get("use_rslora") else rank)


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter."""
    return (folder / CONFIG).is_file()


def merged(folder: Path, find: Callable[[str], Path]) -> Path:
    """The folder of an adapter's base with the adapter in it; any other folder is returned as it is.

    Args:
        folder: maybe of an adapter.
        find: gives the folder of a base by its path or hub's id.

    Raises:
        UnusableModel: when it is no LoRA adapter, or it does not fit its base, or the base is not to be had.
    """
    if not is_adapter(folder):
        return folder
    try:
        adapter = _read(folder)
        base = _base(adapter, find)
    except UnusableModel:
        raise
    except Exception as error:  # of files that are none, or say what cannot be
        raise UnusableModel(f"the adapter in {folder} cannot be read: {said(error)}") from None
    name = f"{folder.resolve().name}-{_digest(folder, base)}"
    doing = f"merging the adapter {folder.name} into {base.name}"
    return made_once(name, doing, lambda made: _merge(adapter, base, made))


def _digest(folder: Path, base: Path) -> str:
    """Of the adapter, and of what tells its base from another one."""
    digest = hashlib.sha256(str(base.resolve()).encode())
    for file in sorted(each for each in folder.iterdir() if each.is_file()):
        with file.open("rb") as content:
            digest.update(f"{file.name}:{hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())
    for file in sorted(each for each in base.iterdir() if each.is_file()):
        stat = file.stat()
        digest.update(f"{file.name}:{stat.st_size}:{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


# ----------------------------------------------------------------------------------------------------------- reading


def _read(folder: Path) -> Adapter:
    from safetensors.torch import load_file

    config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise UnusableModel(f"{folder} holds an adapter of the kind {kind}; LORA is allowed: {_INSTEAD}")
    if not (folder / WEIGHTS).is_file():
        raise UnusableModel(f"{folder} has no {WEIGHTS}; weights in other formats can hold code, and are not loaded")
    odd = [key for key in ("use_dora", "layer_replication", "lora_bias", "megatron_config") if config.get(key)]
    if odd:
        raise UnusableModel(f"{folder} holds an adapter with {odd[0]}; plain LoRA is allowed: {_INSTEAD}")
    found: dict[str, dict[str, Tensor]] = {"lora_A.weight": {}, "lora_B.weight": {}}
    found |= {"lora_embedding_A": {}, "lora_embedding_B": {}, "": {}}
    for name, tensor in load_file(folder / WEIGHTS).items():
        module = name.removeprefix(_PREFIX)
        ending = next((each for each in found if each and module.endswith(f".{each}")), "")
        found[ending][module.removesuffix(f".{ending}") if ending else module] = tensor
    strange = [name for name in found[""] if "lora_" in name or not name.endswith((".weight", ".bias"))]
    if strange:
        raise UnusableModel(f"{folder} holds {strange[0]}, which is no part of plain LoRA: {_INSTEAD}")
    pairs = _paired(folder, found["lora_A.weight"], found["lora_B.weight"])
    embeddings = _paired(folder, found["lora_embedding_A"], found["lora_embedding_B"])
    return Adapter(folder, config, pairs, embeddings, found[""])


def _paired(folder: Path, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    for module in a.keys() ^ b.keys():
        raise UnusableModel(f"{folder} holds half of the adapter of {module}")
    for module, tensor in a.items():
        if tensor.ndim != 2 or b[module].ndim != 2 or len(tensor) != b[module].shape[1] or not len(tensor):
            raise UnusableModel(f"the two matrices of {module} in {folder} do not fit each other")
    return {module: (tensor.float(), b[module].float()) for module, tensor in a.items()}


def _base(adapter: Adapter, find: Callable[[str], Path]) -> Path:
    """The base: where the adapter says, in the adapter's folder, or beside that under its name."""
    named, folder = str(adapter.config.get("base_model_name_or_path") or ""), adapter.folder
    if not named and not _is_base(folder):
        raise UnusableModel(f"the adapter in {folder} does not name its base (base_model_name_or_path)")
    beside = [Path(named).expanduser(), folder / named, folder.resolve().parent / Path(named).name] if named else []
    for path in (*beside, folder):
        if _is_base(path):
            return path
    if any(path.resolve() != folder.resolve() and is_adapter(path) for path in beside):
        raise UnusableModel(f"the base of the adapter in {folder} is an adapter, too ({named}): {_INSTEAD}")
    try:
        return find(named)
    except ValueError as error:
        raise UnusableModel(f"the base of the adapter in {folder} cannot be had: {error}") from None


def _is_base(folder: Path) -> bool:
    weights = [file for file in folder.glob("*.safetensors") if file.name != WEIGHTS]
    return bool(weights) and (folder / "config.json").is_file()


# ----------------------------------------------------------------------------------------------------------- merging


def _merge(adapter: Adapter, base: Path, made: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    try:
        config: dict[str, Any] = json.loads((base / "config.json").read_text(encoding="utf-8"))
        if config.get("quantization_config"):
            raise UnusableModel(f"the base of {adapter.folder} is quantised ({base}): {_INSTEAD}")
        where: dict[str, Path] = {}
        for file in sorted(base.glob("*.safetensors")):
            if file.name != WEIGHTS:
                with safe_open(file, "pt") as content:
                    where |= dict.fromkeys(content.keys(), file)
        changes = _changes(adapter, where)
        new = {name: change for name, change in changes.items() if name not in where}
        shards = sorted(set(where.values()))
        for file in shards:
            with safe_open(file, "pt") as content:
                own = [name for name, each in where.items() if each == file]
                tensors = {name: _changed(content.get_tensor(name), changes.get(name)) for name in own}
            if file == shards[-1]:
                tensors |= {name: _new(name, change, where) for name, change in new.items()}
            whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
            save_file(whole, made / file.name, {"format": "pt"})
        if len(shards) > 1:
            index = {name: file.name for name, file in where.items()} | dict.fromkeys(new, shards[-1].name)
            (made / _INDEX).write_text(json.dumps({"metadata": {}, "weight_map": index}))
        _configure(adapter, config, changes)
    except UnusableModel:
        raise
    except Exception as error:  # as above
        raise UnusableModel(f"the adapter in {adapter.folder} cannot be merged into {base}: {said(error)}") from None
    for source in (base, adapter.folder):
        for pattern in _BESIDE:
            for file in source.glob(pattern):
                shutil.copyfile(file, made / file.name)
    (made / "config.json").write_text(json.dumps(config, indent=1))


Change = Callable[["Tensor"], "Tensor"]


def _changes(adapter: Adapter, where: Mapping[str, Path]) -> dict[str, Change]:
    """What becomes of tensors, by their names in the base's files; those that are not there are new."""
    made: dict[str, Change] = {}
    for module, (a, b) in adapter.pairs.items():
        scale, turned = adapter.scale(module, len(a)), bool(adapter.config.get("fan_in_fan_out"))
        made[_name(adapter, f"{module}.weight", where)] = _add(module, (b @ a).T * scale if turned else b @ a * scale)
    for module, (a, b) in adapter.embeddings.items():
        made[_name(adapter, f"{module}.weight", where)] = _add(module, (b @ a).T * adapter.scale(module, len(a)))
    for name, tensor in adapter.whole.items():
        made[_name(adapter, name, where, new=True)] = _become(tensor)
    return made


def _add(module: str, delta: Tensor) -> Change:
    def change(weight: Tensor) -> Tensor:
        if weight.shape != delta.shape:
            shapes = f"{tuple(delta.shape)}, that of its base is {tuple(weight.shape)}"
            raise UnusableModel(f"the adapter of {module} is for a matrix of {shapes}")
        return (weight.float() + delta).to(weight.dtype)

    return change


def _become(tensor: Tensor) -> Change:
    return lambda _: tensor


def _changed(tensor: Tensor, change: Change | None) -> Tensor:
    return tensor if change is None else change(tensor)


def _new(name: str, change: Change, where: Mapping[str, Path]) -> Tensor:
    """A tensor that the base's files have not; a head that is tied to the embeddings begins as they are."""
    import torch
    from safetensors import safe_open

    tied = next((each for each in where if each.endswith("embed_tokens.weight")), None)
    if name != _HEAD or tied is None:
        return change(torch.empty(0))
    with safe_open(where[tied], "pt") as content:
        return change(content.get_tensor(tied))


def _name(adapter: Adapter, name: str, where: Mapping[str, Path], new: bool = False) -> str:
    """A tensor's name in the files of the base, which may leave out, or have, the wrapper's ``model.`` in front."""
    for each in (name, name.removeprefix("model."), f"model.{name}"):
        if each in where:
            return each
    if new or (name == _HEAD and any(each.endswith("embed_tokens.weight") for each in where)):
        return name
    raise UnusableModel(f"the adapter in {adapter.folder} changes {name}, which its base has not")


def _configure(adapter: Adapter, config: dict[str, Any], changes: Mapping[str, Change]) -> None:
    """Change a base's configuration to what the merged checkpoint is."""
    ending = _HEADS.get(str(adapter.config.get("task_type")))
    architecture = (config.get("architectures") or [""])[0]
    if ending and "For" in architecture:
        config["architectures"] = [architecture[: architecture.index("For")] + ending]
    head = adapter.whole.get("score.weight", adapter.whole.get("classifier.weight"))
    if head is not None and len(config.get("id2label") or ()) != len(head):
        config["id2label"] = {str(index): f"LABEL_{index}" for index in range(len(head))}
        config["label2id"] = {label: int(index) for index, label in config["id2label"].items()}
    if _HEAD in changes:
        config["tie_word_embeddings"] = False
    for name, tensor in adapter.whole.items():
        if name.endswith(("embed_tokens.weight", "wte.weight")):
            config["vocab_size"] = len(tensor)
