"""Muon in float32: momentum whose matrix is made orthogonal before it is applied (Jordan et al. 2024).

torch.optim.Muon runs its Newton-Schulz iteration in bfloat16, which CPUs without bfloat16 units emulate more than ten
times slower; this one keeps the parameters' own precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

_A, _B, _C = 3.4445, -4.7750, 2.0315


def orthogonalize(matrix: torch.Tensor, iterations: int = 5) -> torch.Tensor:
    """The nearest semi-orthogonal matrix, roughly: singular values end between 0.7 and 1.2 (Newton-Schulz)."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x: torch.Tensor = wide / (wide.norm() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x if wide is matrix else x.T


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; for the matrices of hidden layers only.

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
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                buffer = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                buffer.lerp_(parameter.grad, 1 - group["momentum"])
                update = orthogonalize(parameter.grad.lerp(buffer, group["momentum"]))
                parameter.add_(update, alpha=-group["lr"] * max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5)
