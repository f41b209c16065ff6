"""Packed layers compute what plain ones do, those in 8-bit integers nearly so; only those that can be are replaced."""

import pytest
import torch
from torch import nn

from policies.models.linears import Int8Linear, PackedLinear, can_pack, pack_linears, quantize_linears
from policies.models.pretrained import UnusableModel

packable = pytest.mark.skipif(not can_pack(), reason="oneDNN runs no bfloat16 here")


@packable
@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (64, 1), (1, 200)])
@pytest.mark.parametrize("bias", [False, True])
def test_it_computes_what_the_plain_layer_does(shape: tuple[int, int], bias: bool) -> None:
    torch.manual_seed(0)
    plain = nn.Linear(48, 80, bias, dtype=torch.bfloat16)
    inputs = torch.randn(*shape, 48, dtype=torch.bfloat16)
    with torch.inference_mode():
        expected = nn.functional.linear(inputs.float(), plain.weight.float(), plain.bias.float() if bias else None)
        assert torch.allclose(PackedLinear(plain)(inputs).float(), expected, rtol=0.02, atol=0.02)


@packable
def test_only_bfloat16_layers_on_a_cpu_are_replaced() -> None:
    model = nn.Sequential(nn.Linear(4, 4, dtype=torch.bfloat16), nn.Linear(4, 4), nn.Bilinear(4, 4, 4))
    pack_linears(model)
    assert [type(layer) for layer in model] == [PackedLinear, nn.Linear, nn.Bilinear]


# -------------------------------------------------------------------------------------------------- 8-bit integers


def by_hand(layer: nn.Linear, inputs: torch.Tensor) -> torch.Tensor:
    """Both sides rounded to 8 bits, multiplied as 64-bit integers."""
    weight_scales = layer.weight.abs().amax(1) / 127
    weights = (layer.weight / weight_scales[:, None]).round().to(torch.int64)
    scales = inputs.abs().amax(-1, keepdim=True).clamp(min=1e-10) / 127
    summed = (inputs / scales).round().to(torch.int64) @ weights.T
    bias = 0.0 if layer.bias is None else layer.bias
    return summed.float() * scales * weight_scales + bias


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (64, 1), (1, 200), (130,)])
@pytest.mark.parametrize("bias", [False, True])
def test_it_multiplies_what_was_rounded(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    plain = nn.Linear(48, 80, bias)
    inputs = torch.randn(*shape, 48)
    with torch.inference_mode():
        found = Int8Linear(plain)(inputs)
        assert torch.allclose(found, by_hand(plain, inputs), rtol=1e-4, atol=1e-5)
        assert torch.allclose(found, plain(inputs), rtol=0, atol=0.03)


def test_a_token_with_one_huge_activation_costs_the_others_nothing() -> None:
    torch.manual_seed(0)
    plain = nn.Linear(48, 80)
    inputs = torch.randn(8, 48)
    with torch.inference_mode():
        alone = Int8Linear(plain)(inputs[1:])
        inputs[0, 5] = 1e6
        assert torch.equal(Int8Linear(plain)(inputs)[1:], alone)


@pytest.mark.parametrize("outlier", [0.0, 1e30])
def test_zeros_and_huge_weights_stay_finite(outlier: float) -> None:
    plain = nn.Linear(16, 4)
    with torch.inference_mode():
        plain.weight[1] = 0.0
        plain.weight[2, 3] = outlier
        quantized = Int8Linear(plain)
        assert quantized(torch.zeros(2, 16)).isfinite().all()
        assert torch.allclose(quantized(torch.zeros(2, 16)), plain.bias.expand(2, 4))
        assert torch.allclose(quantized(torch.ones(1, 16))[0, 1], plain.bias[1])


def test_all_linear_layers_are_replaced_and_tied_embeddings_stay() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(10, 8)
            self.inner = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))
            self.head = nn.Linear(8, 10, bias=False)
            self.head.weight = self.embed.weight

    model = Tied()
    before = model.embed.weight.clone()
    quantize_linears(model)
    assert [type(model.head), type(model.inner[0]), type(model.inner[1])] == [Int8Linear, Int8Linear, nn.LayerNorm]
    assert torch.equal(model.embed.weight, before)


def test_a_model_without_linear_layers_is_refused() -> None:
    with pytest.raises(UnusableModel, match="a Embedding has no linear layers, so int8 does nothing for it"):
        quantize_linears(nn.Embedding(3, 3))


def test_a_model_elsewhere_is_refused() -> None:
    with pytest.raises(UnusableModel, match="int8 is for a model on a CPU"):
        quantize_linears(nn.Sequential(nn.Linear(3, 3, device="meta")))
