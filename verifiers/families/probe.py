"""Probes: a small head on the hidden states of a language model that stays as it is.

`verifiers.training.probe` trains them.

The folder of a probe names its backbone and holds the head alone, so that it is small, and a policy and its verifier
share the weights of one checkpoint. config.json says ``architectures: [StepProbe]`` and what `ProbeConfig` lists;
model.safetensors has ``probe.weight`` and ``probe.bias``, or those of ``probe.0`` and ``probe.2`` for two layers with a
ReLU between. The score of a step is the sigmoid of the head's one output at the last token of the separator that closes
the step; what is read is the last norm of the backbone, of its first `layers` layers: the others are not run.

What a solution shows without a model may be weighed beside that (`BESIDE`): the log-odds are then pooled, as
`verifiers.ensemble` does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from envs.core import Environment
from envs.messages import short
from policies.models.errors import UnsupportedModel
from verifiers.confidence import ConfidenceVerifier
from verifiers.core import Verifier
from verifiers.equations import EquationVerifier
from verifiers.families.token_classification import TokenClassification
from verifiers.scoring.hf_model import Linear
from verifiers.scoring.score_layout import Head, Reading, Script
from verifiers.scoring.tokenization import Texts, read_config

BESIDE: Mapping[str, Callable[[Environment], Verifier]] = {
    "perplexity": partial(ConfidenceVerifier, measure="perplexity"),
    "equations": EquationVerifier,
}
"""What costs nothing and may be weighed beside a probe: how sure the policy was, and whether its arithmetic holds."""

_ARCHITECTURE = "StepProbe"


@dataclass(frozen=True)
class ProbeConfig:
    """What config.json says of a probe.

    Args:
        backbone: ``smollm2``, a folder, a GGUF file, or a hub's id.
        layers: how many of its layers are run.
        hidden_size: of the backbone.
        separator: what closes a step.
        beside: by names of `BESIDE`, the weights of their log-odds; if there are any,
        weight: is that of the head's own, and
        bias: is what is added to all.
    """

    backbone: str
    layers: int
    hidden_size: int
    separator: str = "\n"
    beside: Mapping[str, float] = field(default_factory=dict)
    weight: float = 1.0
    bias: float = 0.0


class Probe:
    """A head of one output over hidden states, in the layout of `TokenClassification`.

    Args:
        texts: of the backbone.
        separator: what closes a step.
    """

    name = "probe"
    head: Head = "probe"
    reading = Reading((0,))

    def __init__(self, texts: Texts, separator: str = "\n") -> None:
        self._layout = TokenClassification(texts, separator)

    def write(self, question: str, steps: Sequence[str]) -> Sequence[Script]:
        """One script: the question, then the steps with their separators."""
        return self._layout.write(question, steps)


def read_probe(folder: Path) -> tuple[ProbeConfig, list[Linear]]:
    """The configuration of a probe, and the matrices of its head, the last one last.

    Raises:
        UnsupportedModel: when something is missing, or does not fit.
    """
    raw = read_config(folder)
    try:
        beside = {name: float(weight) for name, weight in dict(raw.get("beside", {})).items()}
        pooled = beside, float(raw.get("weight", 1.0)), float(raw.get("bias", 0.0))
        config = ProbeConfig(raw["backbone"], raw["layers"], raw["hidden_size"], raw["separator"], *pooled)
        tensors = load_file(folder / "model.safetensors")
        layers = ("probe.0", "probe.2") if "probe.0.weight" in tensors else ("probe",)
        head: list[Linear] = [(tensors[f"{name}.weight"], tensors[f"{name}.bias"]) for name in layers]
    except KeyError as error:
        raise UnsupportedModel(f"the probe in {folder} lacks {error}") from None
    except FileNotFoundError:
        raise UnsupportedModel(f"the probe in {folder} has no model.safetensors") from None
    except (TypeError, ValueError) as error:
        raise UnsupportedModel(f"the probe in {folder}: {error}") from None
    for name in config.beside:
        if name not in BESIDE:
            raise UnsupportedModel(
                f"the probe in {folder} weighs {short(name)} beside its head; known: {', '.join(BESIDE)}"
            )
    widths = [config.hidden_size, *(weight.shape[0] for weight, _ in head)]
    if widths[-1] != 1 or any(weight.shape[1] != width for (weight, _), width in zip(head, widths, strict=False)):
        shapes = " and ".join(str(tuple(weight.shape)) for weight, _ in head)
        raise UnsupportedModel(f"the head in {folder} is of shape {shapes}; its backbone has width {widths[0]}")
    return config, head


def save_probe(folder: Path, config: ProbeConfig, head: Sequence[Linear]) -> None:
    """Write what `read_probe` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("probe.0", "probe.2") if len(head) > 1 else ("probe",)
    tensors: Mapping[str, Tensor] = {
        f"{name}.{part}": tensor.contiguous()
        for name, matrix in zip(names, head, strict=True)
        for part, tensor in zip(("weight", "bias"), matrix, strict=True)
        if tensor is not None
    }
    save_file(dict(tensors), folder / "model.safetensors", {"format": "pt"})
    content = {"architectures": [_ARCHITECTURE], **asdict(config)}
    (folder / "config.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
