"""The Beta-binomial likelihood and the spread of a belief, by hand."""

import math

import pytest
import torch

from policies.models.beliefs import deviation
from verifiers.training.beta import beta_loss, counts
from verifiers.training.recipe import PrmRecipe


def test_the_loss_is_the_likelihood_of_the_counts() -> None:
    """Beta(2, 1): one right of one has the chance 2/3; two of three, in one order, B(4, 2) / B(2, 1) = 2 / 20."""
    logits = torch.tensor([[0.0, math.log(2)]]).expand(3, 2)
    loss = beta_loss(logits, torch.tensor([1.0, 0.0, 2.0]), torch.tensor([1.0, 1.0, 3.0]))
    assert loss.tolist() == pytest.approx([-math.log(2 / 3), -math.log(1 / 3), -math.log(1 / 10)], abs=1e-5)


def test_one_completion_teaches_the_mean_alone() -> None:
    logits = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)  # the same mean, another concentration
    beta_loss(logits, torch.ones(2), torch.ones(2)).sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad.sum(-1).abs().max().item() < 1e-4


def test_counts_that_agree_make_it_surer_and_others_less_sure() -> None:
    def pull(right: float) -> float:
        logits = torch.tensor([[0.0, 0.0]], requires_grad=True)
        beta_loss(logits, torch.tensor([right]), torch.tensor([8.0])).sum().backward()  # type: ignore[no-untyped-call]
        assert logits.grad is not None
        return float(-logits.grad.sum())  # along the concentration

    assert pull(4) > 0 > pull(8)


def test_the_spread_of_a_belief() -> None:
    """Beta(2, 1): 2/3 * 1/3 / 4 = 1/18."""
    assert deviation([0.0, math.log(2)]) == pytest.approx(math.sqrt(1 / 18))
    assert deviation([5.0, 5.0]) < deviation([0.0, 0.0])
    assert math.isnan(deviation([math.inf, 0.0]))
    assert counts([(1, 2), (3,)]).tolist() == [1.0, 2.0, 3.0]


def test_a_probe_has_no_beta() -> None:
    with pytest.raises(ValueError, match="beta and probe are both given"):
        PrmRecipe("prm", beta=True, probe={"layers": [1]})  # type: ignore[arg-type]
