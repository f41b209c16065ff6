"""Linear layers in 8-bit integers: a real model at a multiple of its speed on a CPU that multiplies them (VNNI, AMX).

Weights are rounded once, with a scale for each output, activations in each pass, with a scale for each token: "W8A8" of
Xiao et al. 2023 (arXiv 2211.10438, section 2, "per-token" and "per-channel"), without their smoothing. All else stays
as it is: embeddings, norms, attention, keys and values.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from policies.models.pretrained import UnusableModel

_MOST = 127  # of a symmetric 8-bit integer
_ZERO = 128  # what is added to activations, as oneDNN multiplies unsigned ones with signed weights
_ROWS = 64  # that the order of the weights is best for; others lose nothing that can be measured
_TINY = 1e-10  # a scale above 0, for a token of zeros


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
