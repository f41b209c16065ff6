"""Packed layers compute what plain ones do, and only those that can be packed are."""

import pytest
import torch
from torch import nn

from policies.models.packed_linear import PackedLinear, can_pack, pack_linears

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
