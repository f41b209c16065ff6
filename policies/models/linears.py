"""Linear layers of a model that infers on a CPU, where they are nearly all of the work.

**Packed.** torch hands oneDNN plain bfloat16 weights, which it rearranges in each call. Rearranged once, a layer takes
two thirds of the time at 1 to 128 rows (0.5 B parameters, a core with AMX).

**8-bit integers.** A processor that multiplies them (VNNI, AMX) runs a real model at a multiple of its speed. Weights
are rounded once, with a scale for each output, activations in each pass, with a scale for each token: "W8A8" of Xiao et
al. 2023 (arXiv 2211.10438, section 2, "per-token" and "per-channel"), without their smoothing. All else stays as it is:
embeddings, norms, attention, keys and values.

``python -m tests.benchmarks.linears`` compares them.
"""

from __future__ import annotations

import platform

import torch
from loguru import logger
from torch import Tensor, nn

from policies.models.pretrained import UnusableModel

_ROWS = 64  # that the order of the weights is best for; others lose nothing that can be measured
_MOST = 127  # of a symmetric 8-bit integer
_ZERO = 128  # what is added to activations, as oneDNN multiplies unsigned ones with signed weights
_TINY = 1e-10  # a scale above 0, for a token of zeros


# ---------------------------------------------------------------------------------------------------------- packed


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


# -------------------------------------------------------------------------------------------------- 8-bit integers


class Int8Linear(nn.Module):
    """A linear layer for inference.

    Args:
        linear: the layer; its weights, (outputs, inputs), are rounded, copied and rearranged.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weights = linear.weight.detach().float()
        self._scales = weights.abs().amax(1).clamp_(min=_TINY) / _MOST
        rounded = (weights / self._scales[:, None]).round_().to(torch.int8)
        self._zeros = torch.zeros(len(weights), dtype=torch.int32)
        self._packed = torch.ops.onednn.qlinear_prepack(rounded, [_ROWS, weights.shape[1]])
        self._bias = None if linear.bias is None else linear.bias.detach().float()

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs), both in float32."""
        rows = inputs.reshape(-1, inputs.shape[-1])
        scales = rows.abs().amax(-1, keepdim=True).clamp_(min=_TINY) / _MOST
        rounded = (rows / scales).round_().add_(_ZERO).to(torch.uint8)
        weights = (self._packed, self._scales, self._zeros)
        # scale and zero of the inputs, bias, those of the outputs; then what is fused with it: nothing
        outputs: Tensor = torch.ops.onednn.qlinear_pointwise(
            rounded, 1.0, _ZERO, *weights, None, 1.0, 0, torch.float32, "none", [], ""
        )
        outputs.mul_(scales)
        if self._bias is not None:
            outputs.add_(self._bias)
        return outputs.reshape(*inputs.shape[:-1], -1)


def quantize_linears(model: nn.Module) -> None:
    """Replace the linear layers of a float32 model on a CPU.

    Layers of other classes stay; so does an embedding whose weights are tied to a layer's.

    Raises:
        UnusableModel: for a model elsewhere, or without a linear layer.
    """
    linears = [
        (parent, name, layer)
        for parent in model.modules()
        for name, layer in parent.named_children()
        if type(layer) is nn.Linear
    ]
    if not linears:
        raise UnusableModel(f"a {type(model).__name__} has no linear layers, so int8 does nothing for it")
    for parent, name, layer in linears:
        if layer.weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
            raise UnusableModel("int8 is for a model on a CPU, by oneDNN; elsewhere take bfloat16")
        setattr(parent, name, Int8Linear(layer))
