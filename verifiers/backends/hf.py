"""From a folder or a hub's id to a verifier: which family it is of, and what runs it.

A probe is the head alone: its folder says which backbone it is read with (`verifiers.families.probe`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Unpack

import torch

from envs.core import Environment
from envs.messages import nearest
from envs.options import AtLeast
from policies.models.errors import UnsupportedModel
from policies.models.gguf import SMOLLM2, dequantized, smollm2_file
from policies.models.lora import merged
from policies.models.pretrained import quietly
from verifiers.core import Verifier
from verifiers.ensemble import Ensemble
from verifiers.families import CRITICS, FAMILIES
from verifiers.families.implicit import Implicit, LikelihoodReader, Measure, Ratio
from verifiers.families.options import FamilyOptions
from verifiers.families.probe import BESIDE, Probe, read_probe
from verifiers.scoring.cached_scorer import Reader, Runner, ScoreReader, Whole
from verifiers.scoring.critique_generation import CritiqueWriter
from verifiers.scoring.generative_verifier import CriticVerifier
from verifiers.scoring.hf_model import Backbone, check_head, head_of
from verifiers.scoring.local_verifier import LocalVerifier
from verifiers.scoring.score_layout import Family, Head, keys_of, lay_out
from verifiers.scoring.tokenization import Texts, architecture_of

KNOWN: dict[str, str] = {
    "GenPRM/GenPRM-1.5B": "genprm",
    "GenPRM/GenPRM-32B": "genprm",
    "GenPRM/GenPRM-7B": "genprm",
    "PRIME-RL/EurusPRM-Stage1": "implicit",
    "PRIME-RL/EurusPRM-Stage2": "implicit",
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
    "launch/ThinkPRM-1.5B": "thinkprm",
    "launch/ThinkPRM-14B": "thinkprm",
    "launch/ThinkPRM-7B": "thinkprm",
    "peiyi9979/math-shepherd-mistral-7b-prm": "math-shepherd",
}
"""Published checkpoints and the families that they are of; so is a folder that has the name of one."""

NAMES: tuple[str, ...] = tuple(sorted([*FAMILIES, *CRITICS, Implicit.name, Probe.name]))
"""Of all families."""

_BY_HEAD: dict[Head | None, str] = {
    "mlp": "qwen-prm",
    "value": "skywork",
    "classifier": "token-classification",
    "sequence": "outcome",
    "probe": Probe.name,
}
_LAB_RECORD = (
    "training.json"  # `verifiers.training.train` leaves it beside the weights of token classifiers, TRL does not
)
_FILES = ["*.json", "*.jinja", "*.safetensors", "*.model", "*.txt"]
_PASS = {"cpu": 512, "cuda": 4096}  # tokens of one pass


@dataclass(frozen=True)
class _Setting:
    """What a checkpoint is run with."""

    name: str
    folder: Path
    environment: Environment
    device: str
    dtype: str
    context: int | None
    memory: int

    @cached_property
    def texts(self) -> Texts:
        return Texts(self.folder)

    def model(self, head: Head, folder: Path | None = None, **of_probe: Any) -> Backbone:
        model = Backbone(folder or self.folder, head, self.device, self.dtype, **of_probe)
        if folder is None:
            self.check(model, self.texts.highest)
        return model

    def check(self, model: Backbone, token: int) -> None:
        """Refuse a model that does not know a token of its tokenizer."""
        if token >= model.embedded:
            raise UnsupportedModel(
                f"the tokenizer in {self.folder} writes token {token}, and its model knows {model.embedded} tokens"
            )

    def room(self, model: Backbone) -> int:
        return min(model.context, self.context or model.context)

    def runner(self, model: Backbone, reader: Reader) -> Runner | Whole:
        if not model.pieces:
            return Whole(model.whole, model.parameters, self.room(model), reader)
        return Runner(
            model, model.parameters, self.room(model), reader, self.memory, _PASS.get(model.device.type, _PASS["cuda"])
        )


def load_checkpoint(
    name: str | Path,
    environment: Environment,
    *,
    family: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    context: Annotated[int, AtLeast(1)] | None = None,
    memory: Annotated[int, AtLeast(0)] = 2 << 30,
    revision: str | None = None,
    **options: Unpack[FamilyOptions],
) -> Verifier:
    """Load a checkpoint that transformers runs.

    Args:
        name: a folder, or a hub's id.
        environment: whose states it scores.
        family: which family it is of, where its name and its head do not say.
        device: ``cpu``, ``cuda``, or None for a GPU where there is one.
        dtype: ``float32``, ``bfloat16``, ``float16``, or on a CPU ``int8``; by default the first on a CPU, the second
            on a GPU.
        context: most tokens of a text, if fewer than the model has positions; steps that end beyond it are NaN.
        memory: bytes of keys and values kept for reuse, per model.
        revision: of a hub's id.
        options: of the family: ``separator`` of ``token-classification``, and of it and ``outcome`` the ``label`` that
            stands for right; ``reference`` (folder or id of the model
            that it was trained from), ``coef`` (beta) and ``measure`` of ``implicit``; ``backbone`` of ``probe``, where
            that of its folder is not to be taken; ``votes``, ``temperature``, ``top_p``, ``top_k``, ``tokens``
            (most that are written about a step) and ``rows`` (most texts that are
            written at once) of those that write.

    Raises:
        UnsupportedModel: there is no such checkpoint, its head is another one than the family's, or its tokenizer lacks
            what the family needs.
        ValueError: no such family or option; the message names the nearest one.
    """
    folder = find_checkpoint(str(name), revision)
    chosen = family_of(str(name), folder, family)
    check_family_options(chosen, options)
    kind, build = _kind(chosen)
    check_head(folder, kind.head)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = dtype or ("float32" if device == "cpu" else "bfloat16")
    setting = _Setting(_last(str(name)), folder, environment, device, dtype, context, memory)
    return build(kind, setting, **options)


def find_checkpoint(name: str, revision: str | None = None, weights: bool = True) -> Path:
    """The folder of a checkpoint: as it is, made of a GGUF file or an adapter, or from a hub (with weights or not).

    Raises:
        UnsupportedModel: when there is none.
        UnusableModel: when a GGUF file, or SmolLM2's, is not there or cannot be read, or an adapter has no base.
    """
    if Path(name).expanduser().is_dir():
        return merged(Path(name).expanduser(), find_checkpoint)
    if name == SMOLLM2 or name.endswith(".gguf"):
        return dequantized(smollm2_file() if name == SMOLLM2 else Path(name).expanduser())
    if name.count("/") != 1 or name.startswith((".", "~", "/")):
        raise UnsupportedModel(f"there is no folder {name!r}{nearest(name, KNOWN)}")
    from huggingface_hub import snapshot_download

    try:
        with quietly():
            folder = snapshot_download(
                name, revision=revision, allow_patterns=_FILES, ignore_patterns=None if weights else ["*.safetensors"]
            )
    except Exception as error:  # of many kinds, those of the network among them
        said = str(error).partition("\n")[0]
        near = "" if name in KNOWN else nearest(name, KNOWN)
        raise UnsupportedModel(f"{name!r} is no folder here and cannot be had from the hub: {said}{near}") from None
    return merged(Path(folder), find_checkpoint)


def family_of(name: str, folder: Path, given: str | None = None) -> str:
    """The family of a checkpoint: as given, by its name, or by what it has on top.

    Raises:
        ValueError: when the family that is given is none.
        UnsupportedModel: when it cannot be told.
    """
    if given is not None:
        if given not in NAMES:
            raise ValueError(f"family {given!r} given{nearest(given, NAMES) or ';'} allowed: {', '.join(NAMES)}")
        return given
    for known, family in KNOWN.items():
        if _last(name).lower() == _last(known).lower():
            return family
    head = head_of(folder)
    if head == "classifier" and (folder / _LAB_RECORD).is_file():
        raise UnsupportedModel(
            f"{name!r} is a verifier of the lab, which reads a state in its own layout: give it without a backend, as "
            f"{str(folder)!r}"
        )
    if head in _BY_HEAD:
        return _BY_HEAD[head]
    architecture = architecture_of(folder) or "model without a name"
    raise UnsupportedModel(
        f"{name!r} holds a {architecture}, which may be of several families; "
        f"say which with `family`: {', '.join(NAMES)}"
    )


def _last(name: str) -> str:
    """The last part of a path or of a hub's id."""
    return Path(name).name or Path(name).resolve().name


def _kind(family: str) -> tuple[Any, Callable[..., Verifier]]:
    """The class of a family, and what makes verifiers of it."""
    if family in FAMILIES:
        return FAMILIES[family], _in_one_pass
    if family == Probe.name:
        return Probe, _probe
    return (CRITICS[family], _critic) if family in CRITICS else (Implicit, _implicit)


def _options(family: str) -> list[str]:
    """The options that a family has of its own."""
    kind, build = _kind(family)
    built = [each.name for each in inspect.signature(build).parameters.values() if each.kind is each.KEYWORD_ONLY]
    return [*built, *list(inspect.signature(kind).parameters)[1:]]


def check_family_options(family: str, given: Mapping[str, Any]) -> None:
    """Refuse an option that other families have and this one has not; raises ValueError naming what is allowed."""
    shared = inspect.signature(load_checkpoint).parameters.values()
    known = [each.name for each in shared if each.kind is each.KEYWORD_ONLY] + _options(family)
    for option in given:
        if option not in known:
            near = nearest(option, known) or ";"
            raise ValueError(f"family {family!r} has no option {option!r}{near} allowed: {', '.join(known)}")


# --------------------------------------------------------------------------------------------------------- builders


def _in_one_pass(kind: Any, setting: _Setting, **options: Any) -> Verifier:
    family = kind(setting.texts, **options)
    return _reading(family, setting, setting.model(family.head))


def _probe(kind: Any, setting: _Setting, *, backbone: str | None = None, **options: Any) -> Verifier:
    config, top = read_probe(setting.folder)
    below = replace(setting, folder=find_checkpoint(backbone or config.backbone))
    family = kind(below.texts, **{"separator": config.separator} | options)
    head = _reading(family, below, below.model(kind.head, layers=config.layers, top=top), setting.folder)
    if not config.beside:
        return head
    members = [head, *(BESIDE[name](setting.environment) for name in config.beside)]
    weights = [config.weight, *config.beside.values()]
    return Ensemble(members, weights, setting.name, pool="log-odds", bias=config.bias)


def _reading(family: Family, setting: _Setting, model: Backbone, *more: Path) -> Verifier:
    scripts = [keys_of(script, setting.texts)[0] for script in family.write("a", ["b"])]
    setting.check(model, max(chain.from_iterable(keys[-1] for keys in scripts)))
    most = max(family.reading.columns)
    if most >= model.outputs:
        raise UnsupportedModel(
            f"the head of {setting.folder} has {model.outputs} outputs; family {family.name!r} reads number {most + 1}"
        )
    return LocalVerifier(
        setting.name,
        model.parameters,
        lambda state: lay_out(family, setting.texts, setting.environment, state),
        setting.runner(model, ScoreReader(model.logits, family.reading)),
        (*more, setting.folder),
    )


def _implicit(
    kind: Any, setting: _Setting, *, reference: str | None = None, coef: float = 0.05, measure: Measure = "step"
) -> Verifier:
    if reference is None:
        raise ValueError(
            "family 'implicit' needs a `reference`: the folder or id of the model that it was trained from "
            "(of EurusPRM: Qwen/Qwen2.5-Math-7B-Instruct)"
        )
    base = find_checkpoint(reference)
    check_head(base, kind.head)
    if Texts(base).vocabulary != setting.texts.vocabulary:
        raise UnsupportedModel(f"{setting.folder} and its reference {base} have different vocabularies")
    family = kind(setting.texts)
    models = [setting.model(kind.head), setting.model(kind.head, base)]
    own, other = (setting.runner(model, LikelihoodReader(model.logits)) for model in models)
    return LocalVerifier(
        setting.name,
        sum(model.parameters for model in models),
        lambda state: lay_out(family, setting.texts, setting.environment, state),
        Ratio(own, other, coef, measure),
        (setting.folder, base),
    )


def _critic(
    kind: Any,
    setting: _Setting,
    *,
    votes: int = 1,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    tokens: int | None = None,
    rows: int = 64,
) -> Verifier:
    critic = kind(setting.texts)
    given = {"temperature": temperature, "top_p": top_p, "top_k": top_k, "tokens": tokens}
    sampling = replace(critic.sampling, **{key: value for key, value in given.items() if value is not None})
    model = setting.model(critic.head)
    if not model.pieces:
        raise UnsupportedModel(f"{setting.folder} cannot be run token by token, so it cannot write")
    writer = CritiqueWriter(
        model,
        setting.texts,
        critic.reading.columns,
        critic.stop,
        sampling,
        setting.room(model),
        max(1, rows),
        setting.memory,
    )
    return CriticVerifier(
        setting.name, model.parameters, critic, setting.texts, setting.environment, writer, votes, setting.folder
    )
