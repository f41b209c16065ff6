"""How the lab's models are trained: Muon for the matrices, AdamW for the rest, and checkpoints of a run.

It lives in the lowest room because both policies and verifiers are trained, and neither may import the other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

_A, _B, _C = 3.4445, -4.7750, 2.0315


def orthogonalize(matrices: torch.Tensor, iterations: int = 5) -> torch.Tensor:
    """The nearest semi-orthogonal matrices, roughly: singular values end between 0.7 and 1.2 (Newton-Schulz).

    Args:
        matrices: (count, rows, columns).
        iterations: of the polynomial.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x: torch.Tensor = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum whose matrix is made orthogonal before it is applied (Jordan et al. 2024), for hidden layers only.

    torch.optim.Muon runs its Newton-Schulz iteration in bfloat16, which CPUs without bfloat16 units emulate more than
    ten times slower; this one keeps the parameters' own precision.

    Args:
        params: two-dimensional parameters.
        lr: the step, scaled by sqrt(rows / columns) for tall matrices.
        momentum: of the running gradient.
    """

    def __init__(self, params: Iterable[torch.nn.Parameter], lr: float = 0.02, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One update; a closure is not supported and not called."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[tuple[torch.nn.Parameter, torch.Tensor]]] = {}
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                buffer = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                buffer.lerp_(parameter.grad, 1 - group["momentum"])
                alike.setdefault(parameter.shape, []).append(
                    (parameter, parameter.grad.lerp(buffer, group["momentum"]))
                )
            # all of a shape at once: a GPU would spend its time on starting many small products
            for shape, pairs in alike.items():
                parameters, updates = zip(*pairs, strict=True)
                step = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
                for parameter, update in zip(parameters, orthogonalize(torch.stack(updates)), strict=True):
                    parameter.add_(update, alpha=-step)


class Optimizers:
    """Muon for the matrices, AdamW for everything else, one schedule; its state saves as safetensors."""

    def __init__(self, model: torch.nn.Module, muon_lr: float, adam_lr: float) -> None:
        matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name]
        chosen = {id(p) for p in matrices}
        others = [p for p in model.parameters() if id(p) not in chosen]
        self.parts: list[torch.optim.Optimizer] = []
        if matrices:
            self.parts.append(Muon(matrices, lr=muon_lr))
        self.parts.append(torch.optim.AdamW(others, lr=adam_lr, betas=(0.9, 0.95), weight_decay=0.0))
        self.peaks = [part.param_groups[0]["lr"] for part in self.parts]

    def step(self, fraction: float) -> None:
        """One update at `fraction` of the run: 2 % linear warm-up, then cosine down to 2 % of the peak."""
        scale = min(1.0, (fraction + 1e-4) / 0.02) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, fraction))))
        for part, peak in zip(self.parts, self.peaks, strict=True):
            part.param_groups[0]["lr"] = peak * scale
            part.step()
            part.zero_grad(set_to_none=True)

    def state(self) -> dict[str, torch.Tensor]:
        """Every tensor of the optimisers' state under a flat name."""
        return {
            f"{i}.{index}.{name}": torch.as_tensor(value).clone().contiguous()
            for i, part in enumerate(self.parts)
            for index, values in part.state_dict()["state"].items()
            for name, value in values.items()
        }

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Restore the optimiser from the tensors that `state` returned."""
        for i, part in enumerate(self.parts):
            whole = part.state_dict()
            for key, value in tensors.items():
                which, index, name = key.split(".", 2)
                if int(which) == i:
                    whole["state"].setdefault(int(index), {})[name] = value
            part.load_state_dict(whole)


# ------------------------------------------------------------------------------------------------------ checkpoints


def save_checkpoint(path: Path, model: torch.nn.Module, optimizers: Optimizers, progress: dict[str, Any]) -> None:
    """Write model, optimisers and progress (JSON) as one safetensors file, whole or not at all."""
    tensors = {f"model.{name}": value.detach().cpu().contiguous() for name, value in model.named_parameters()}
    tensors |= {f"optimizer.{name}": value.cpu() for name, value in optimizers.state().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".new")
    save_file(tensors, unfinished, metadata={"progress": json.dumps(progress)})
    unfinished.replace(path)


def read_progress(path: Path) -> dict[str, Any]:
    """The progress that a checkpoint was saved with; raises ValueError if the file is none."""
    try:
        with safe_open(path, framework="pt") as file:
            progress: dict[str, Any] = json.loads(file.metadata()["progress"])
    except Exception as error:  # the library's own, which is no ValueError
        raise ValueError(f"{path} is no checkpoint of a training ({error}); remove it to begin anew") from None
    return progress


def load_checkpoint(path: Path, model: torch.nn.Module, optimizers: Optimizers) -> dict[str, Any]:
    """Undo `save_checkpoint`; returns the progress."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
        progress: dict[str, Any] = json.loads(file.metadata()["progress"])
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(tensors[f"model.{name}"])
    prefix = "optimizer."
    optimizers.load({name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)})
    return progress
