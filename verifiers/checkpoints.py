"""From a folder or a hub's id to a verifier: which family it is of, and what runs it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from envs.core import Environment
from envs.llama import UnsupportedModel
from envs.registry import nearest
from verifiers.backbone import Backbone, check_head, head_of
from verifiers.core import Verifier
from verifiers.families import FAMILIES
from verifiers.layout import Family, lay_out
from verifiers.local import LocalVerifier
from verifiers.runner import Runner, ScoreReader, Whole
from verifiers.texts import Texts, read_config

KNOWN: dict[str, str] = {
    "peiyi9979/math-shepherd-mistral-7b-prm": "math-shepherd",
    "Qwen/Qwen2.5-Math-7B-PRM800K": "qwen-prm",
    "Qwen/Qwen2.5-Math-PRM-72B": "qwen-prm",
    "Qwen/Qwen2.5-Math-PRM-7B": "qwen-prm",
    "RLHFlow/Llama3.1-8B-PRM-Deepseek-Data": "rlhflow",
    "RLHFlow/Llama3.1-8B-PRM-Mistral-Data": "rlhflow",
    "Skywork/Skywork-o1-Open-PRM-Qwen-2.5-1.5B": "skywork",
    "Skywork/Skywork-o1-Open-PRM-Qwen-2.5-7B": "skywork",
    "UW-Madison-Lee-Lab/Llama-PRM800K": "versa",
    "UW-Madison-Lee-Lab/Qwen-PRM800K": "versa",
    "UW-Madison-Lee-Lab/VersaPRM": "versa",
}
"""Published checkpoints and the families that they are of; so is a folder that has the name of one."""

_BY_HEAD = {"mlp": "qwen-prm", "value": "skywork", "classifier": "token-classification", "sequence": "outcome"}
_FILES = ["*.json", "*.jinja", "*.safetensors", "tokenizer.model"]
_PASS = {"cpu": 512, "cuda": 4096}  # tokens of one pass


def load_checkpoint(
    name: str | Path,
    environment: Environment,
    *,
    family: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    context: int | None = None,
    memory: int = 2 << 30,
    revision: str | None = None,
    **options: Any,
) -> Verifier:
    """Load a checkpoint that transformers runs.

    Args:
        name: a folder, or a hub's id.
        environment: whose states it scores.
        family: which family it is of, where its name and its head do not say.
        device: ``cpu``, ``cuda``, or None for a GPU where there is one.
        dtype: ``float32``, ``bfloat16`` or ``float16``; by default the first on a CPU and the second on a GPU.
        context: most tokens of a text, if fewer than the model has positions; steps that end beyond it are NaN.
        memory: bytes of keys and values kept for reuse.
        revision: of a hub's id.
        options: of the family.

    Raises:
        UnsupportedModel: there is no such checkpoint, its head is another one than the family's, or its tokenizer lacks
            what the family needs.
        ValueError: no such family or option; the message names the nearest one.
    """
    folder = find_checkpoint(str(name), revision)
    kind = FAMILIES[family_of(str(name), folder, family)]
    check_options(kind, options)
    check_head(folder, kind.head)
    texts = Texts(folder)
    chosen: Family = kind(texts, **options)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = Backbone(folder, chosen.head, device, dtype or ("float32" if device == "cpu" else "bfloat16"))
    if max(chosen.reading.columns) >= model.outputs:
        raise UnsupportedModel(
            f"the head of {folder} has {model.outputs} outputs; family {chosen.name!r} reads number "
            f"{max(chosen.reading.columns) + 1}"
        )
    reader = ScoreReader(model.logits, chosen.reading)
    room = min(model.context, context or model.context)
    runner: Runner | Whole
    if model.pieces:
        runner = Runner(model, room, reader, memory, _PASS[model.device.type])
    else:
        runner = Whole(model.whole, room, reader)
    return LocalVerifier(
        folder_name(str(name)), model.parameters, lambda state: lay_out(chosen, texts, environment, state), runner
    )


def find_checkpoint(name: str, revision: str | None = None) -> Path:
    """The folder of a checkpoint: as it is given, or as it comes from a hub.

    Raises:
        UnsupportedModel: when there is neither.
    """
    if Path(name).is_dir():
        return Path(name)
    if name.count("/") != 1:
        raise UnsupportedModel(f"there is no folder {name!r}{nearest(name, KNOWN)}")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_FILES))
    except Exception as error:  # of many kinds, those of the network among them
        raise UnsupportedModel(
            f"{name!r} is no folder here and cannot be had from the hub: {error}{nearest(name, KNOWN)}"
        ) from None


def family_of(name: str, folder: Path, given: str | None = None) -> str:
    """The family of a checkpoint: as given, by its name, or by what it has on top.

    Raises:
        ValueError: when the family that is given is none.
        UnsupportedModel: when it cannot be told.
    """
    if given is not None:
        if given not in FAMILIES:
            allowed = sorted(FAMILIES)
            raise ValueError(f"family {given!r} given{nearest(given, allowed) or ';'} allowed: {', '.join(allowed)}")
        return given
    for known, family in KNOWN.items():
        if name.lower() == known.lower() or folder_name(name).lower() == folder_name(known).lower():
            return family
    head = head_of(folder)
    if head in _BY_HEAD:
        return _BY_HEAD[head]
    architecture = (read_config(folder).get("architectures") or ["model without a name"])[0]
    raise UnsupportedModel(
        f"{name!r} holds a {architecture}, which may be of several families; "
        f"say which with `family`: {', '.join(sorted(FAMILIES))}"
    )


def folder_name(name: str) -> str:
    """The last part of a path or of a hub's id."""
    return Path(name).name or Path(name).resolve().name


def check_options(kind: Callable[..., Any], options: Iterable[str]) -> None:
    """Refuse what is no option of a family; raises ValueError naming the nearest one."""
    allowed = list(inspect.signature(kind).parameters)[1:]
    own = inspect.signature(load_checkpoint).parameters.values()
    known = [each.name for each in own if each.kind is each.KEYWORD_ONLY] + allowed
    for option in options:
        if option not in allowed:
            raise ValueError(f"no option {option!r}{nearest(option, known) or ';'} allowed: {', '.join(known)}")
