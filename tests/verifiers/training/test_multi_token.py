import math

import pytest
import torch

from verifiers.training.multi_token import Foresight
from verifiers.training.recipe import PrmRecipe


def test_the_loss_on_numbers_worked_by_hand() -> None:
    foresight = Foresight(2, 2)  # the first map is the identity, the second gives 0
    table = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    hidden = torch.zeros(2, 4, 2)
    hidden[0, 1] = torch.tensor([3.0, 0.0])
    hidden[1, 2] = torch.tensor([0.0, 5.0])
    ids = torch.tensor([[2, 2, 0, 1], [2, 2, 2, 1]])
    # row 0, after position 1: token 0, then token 1; row 1, after position 2: token 1, then its end
    loss = foresight.loss(hidden, ids, table, [(0, 1, 4), (1, 2, 4)], [1.0, 3.0])
    first = -math.log(math.exp(3) / (math.exp(3) + 1 + math.exp(-3)))
    other = -math.log(math.exp(5) / (math.exp(5) + 2))
    assert loss.item() == pytest.approx((first + math.log(3) + 3 * other) / 5, abs=1e-6)


def test_padding_is_not_learnt() -> None:
    foresight, table = Foresight(2, 3), torch.randn(4, 2)
    hidden, ids = torch.randn(1, 5, 2), torch.tensor([[1, 2, 3, 0, 0]])
    short = foresight.loss(hidden[:, :3], ids[:, :3], table, [(0, 1, 3)], [1.0])
    assert foresight.loss(hidden, ids, table, [(0, 1, 3)], [1.0]).item() == pytest.approx(short.item())


def test_it_goes_with_a_backbone_that_learns() -> None:
    with pytest.raises(ValueError, match="foresight is 5 and extra_layers 3"):
        PrmRecipe("prm", foresight=5, extra_layers=3)
