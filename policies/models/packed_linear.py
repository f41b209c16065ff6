"""Linear layers whose weights lie in memory as oneDNN reads them, for bfloat16 on a CPU.

torch hands oneDNN the plain weights, which it rearranges in each call. Rearranged once, a layer takes two thirds of the
time at 1 to 128 rows (0.5 B parameters, a core with AMX; ``python -m tests.benchmarks.linears``).
"""

from __future__ import annotations

import platform

import torch
from loguru import logger
from torch import Tensor, nn


class PackedLinear(nn.Module):
    """A linear layer for inference.

    Args:
        linear: the layer; its weights, (outputs, inputs) in bfloat16, are copied.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), _ROWS)
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        outputs: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, self._packed, self._bias, "none", [], "")
        return outputs


_ROWS = 64  # that the order is best for; others lose nothing that can be measured


def can_pack() -> bool:
    """Whether oneDNN runs bfloat16 here."""
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def warn_of_emulation(model: nn.Module) -> None:
    """Tell a person whose model is in bfloat16 on a processor that has no instructions for it."""
    if (
        any(each.dtype == torch.bfloat16 and each.device.type == "cpu" for each in model.parameters())
        and _is_emulated()
    ):
        logger.warning(
            "this processor has no instructions for bfloat16: int8 or float32 is several times as fast (dtype)"
        )


def _is_emulated() -> bool:
    """Whether this is an x86 processor that computes in float32 what it is given in bfloat16."""
    return platform.machine().lower() in ("x86_64", "amd64") and not (
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )


def pack_linears(model: nn.Module) -> None:
    """Replace the linear layers of a model on a CPU in bfloat16, where oneDNN can run them; else leave it as it is.

    Layers of other classes (quantised ones, adapters) stay; so does an embedding whose weights are tied to a layer's.
    """
    if not can_pack():
        return
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear and layer.weight.dtype == torch.bfloat16 and layer.weight.device.type == "cpu":
                setattr(parent, name, PackedLinear(layer))
