"""The recipe of a process reward model: its architecture and how it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from verifiers.training.probe import ProbeRecipe


@dataclass(frozen=True)
class PrmRecipe:
    """What ``configs/training/train-prm-*.yaml`` may say.

    Args:
        name: of the verifier, and of its folder.
        environment: name in the registry, or a mapping of that ``name`` and options.
        policy: whose samples it learns from: name, folder or ``BACKEND:MODEL``, or a mapping of a ``name`` and options.
        backbone: the causal model whose weights it starts from (name of a policy or folder), or, for `extra_layers` 0,
            the folder of a verifier to go on from. With a probe: ``smollm2``, a folder, a GGUF file or a hub's id.
        probe: leaves the backbone as it is, and fits a small head to its hidden states (`verifiers.training.probe`).
            What is said below of layers, loss and optimiser is then of no account.
        extra_layers: 0 trains the backbone itself, under a new head; 2 or more train that many new layers on top of
            the frozen backbone and a layer that compares what it expected with what was written
            (`verifiers.training.comparison_layer`).
        warm_up: tokens on which the extra layers first learn the backbone's log-likelihoods, without labels.
        foresight: how many tokens after each step the backbone learns to predict beside the labels
            (`verifiers.training.multi_token`), for `extra_layers` 0.
        beta: learn how sure a score is, too: a Beta of the counts of rollouts (`verifiers.training.beta`).
        start: a verifier (name or folder) that it goes on from, on labels alone, in place of a backbone; its last
            `extra_layers` layers are trained, all of it if that is 0.
        problems: of the train split.
        held_out: problems of the calibration split, for the report.
        solutions: sampled for each problem.
        rollouts: completions sampled from each distinct unfinished prefix of the solutions; without any, a label is
            the share of the solutions through the prefix that end right.
        held_out_rollouts: the same for the held-out problems; as many as `rollouts` if it is not given.
        temperature: of solutions and rollouts.
        uniform: share of the problems whose solutions all ended alike that is rolled out and kept; what tells a right
            step from a wrong one is in the problems whose solutions ended differently.
        uniform_weight: what these problems weigh together: 1 makes up for those that were left out, so that scores
            are calibrated; less gives more weight to the others.
        epochs: passes over the data.
        batch_tokens: tokens per optimiser step, padding included.
        muon_lr: peak learning rate of the matrices (Muon).
        adam_lr: peak learning rate of embeddings, norms and the head (AdamW).
        seed: of samples and training.
    """

    name: str
    environment: str | Mapping[str, Any] = "arithmetic"
    policy: str | Mapping[str, Any] = "arithmetic-s"
    backbone: str = "arithmetic-m"
    probe: ProbeRecipe | None = None
    extra_layers: int = 0
    warm_up: int = 0
    foresight: int = 0
    beta: bool = False
    start: str | None = None
    problems: int = 2000
    held_out: int = 200
    solutions: int = 8
    rollouts: int = 8
    held_out_rollouts: int | None = None
    temperature: float = 1.0
    uniform: float = 1.0
    uniform_weight: float = 1.0
    epochs: int = 2
    batch_tokens: int = 2048
    muon_lr: float = 0.01
    adam_lr: float = 0.002
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be combined."""
        if self.foresight and self.extra_layers:
            raise ValueError(f"foresight is {self.foresight} and extra_layers {self.extra_layers}; one of them is 0")
        if self.beta and self.probe is not None:
            raise ValueError("beta and probe are both given; the head of a probe gives one number, no Beta")
