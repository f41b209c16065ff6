import numpy as np
import pytest
import torch

from policies.generation.random_numbers import uniform
from policies.generation.sampling import certainties, draw
from policies.generation.without_replacement import PrefixNode


def test_samples_follow_the_softmax_at_any_temperature() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, -torch.inf]]).repeat(20000, 1)
    uniforms = uniform(np.full(20000, 7, np.uint64), np.arange(20000))
    for temperature in (0.5, 1.0, 2.0):
        tokens, logprobs = draw(logits, uniforms, np.full(20000, temperature, np.float32))
        want = torch.softmax(logits[0] / temperature, -1).numpy()
        assert np.bincount(tokens, minlength=4) / 20000 == pytest.approx(want, abs=0.012)
        np.testing.assert_allclose(logprobs, torch.log_softmax(logits[0], -1).numpy()[tokens], atol=1e-6)


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 1e-37, 1e-38, 1e-40, 1e-45])
def test_next_to_zero_the_likeliest_is_drawn(temperature: float) -> None:
    """Logits that are divided by so little are beyond the largest float32."""
    logits = torch.tensor([[1.0, 30.0, -torch.inf, 29.0]]).repeat(8, 1)
    uniforms = np.linspace(0, 0.99, 8, dtype=np.float32)
    tokens, logprobs = draw(logits, uniforms, np.full(8, temperature, np.float32))
    assert set(tokens.tolist()) == {1}
    np.testing.assert_allclose(logprobs, torch.log_softmax(logits[0], -1)[1].item(), atol=1e-6)


def test_uniforms_are_uniform_and_independent_of_neighbouring_seeds() -> None:
    grid = uniform(np.repeat(np.arange(200, dtype=np.uint64), 50), np.tile(np.arange(50), 200)).reshape(200, 50)
    assert 0 <= grid.min() < 0.001
    assert 0.999 < grid.max() < 1
    assert grid.mean() == pytest.approx(0.5, abs=0.01)
    assert abs(np.corrcoef(grid[:-1].ravel(), grid[1:].ravel())[0, 1]) < 0.03
    assert abs(np.corrcoef(grid[:, :-1].ravel(), grid[:, 1:].ravel())[0, 1]) < 0.03


def test_nucleus_and_top_k_leave_the_tail_out_and_the_rest_in_proportion() -> None:
    logits = torch.log(torch.tensor([[0.1, 0.4, 0.2, 0.3]])).repeat(20000, 1)
    uniforms, ones = uniform(np.full(20000, 3, np.uint64), np.arange(20000)), np.ones(20000, np.float32)
    for options, want in (
        ({"top_k": 2}, [0, 4 / 7, 0, 3 / 7]),
        ({"top_p": 0.6}, [0, 4 / 7, 0, 3 / 7]),
        ({"top_p": 0.3}, [0, 1, 0, 0]),
        ({"top_k": 3, "top_p": 0.8}, [0, 4 / 9, 2 / 9, 3 / 9]),  # of the three, 7/9 are not enough
        ({"top_k": 2, "top_p": 0.5}, [0, 1, 0, 0]),  # of the two, 4/7 are enough
        ({"top_k": 9}, [0.1, 0.4, 0.2, 0.3]),
    ):
        tokens, logprobs = draw(logits, uniforms, ones, **options)
        assert np.bincount(tokens, minlength=4) / 20000 == pytest.approx(want, abs=0.012)
        np.testing.assert_allclose(logprobs, logits[0].numpy()[tokens], atol=1e-6)  # of the whole distribution
    tokens, _ = draw(logits, uniforms, 0 * ones, top_p=0.3)
    assert set(tokens) == {1}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("options", [{}, {"top_k": 5}, {"top_p": 0.9}])
def test_a_row_is_drawn_as_if_it_were_alone(dtype: torch.dtype, options: dict[str, float]) -> None:
    """Of many rows of a large vocabulary few are looked at at once."""
    rows, vocabulary = 30, 150_001
    logits = (3 * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(0))).to(dtype)
    logits[17] = torch.nan
    uniforms = uniform(np.arange(rows, dtype=np.uint64), np.zeros(rows, np.int64))
    temperatures = np.resize(np.array([0.7, 1, 0, 2], np.float32), rows)

    def nodes() -> dict[int, PrefixNode]:  # of some rows, with a token that is not to be drawn again
        made = {row: PrefixNode() for row in range(1, rows, 3)}
        for row, node in made.items():
            node.after[int(logits[row].argmax())] = PrefixNode(node, 0.1)
        return made

    together, alone = nodes(), nodes()
    tokens, logprobs = draw(logits, uniforms, temperatures, branches=together, **options)  # type: ignore[arg-type]
    for row in range(rows):
        own, one = {0: alone[row]} if row in alone else {}, slice(row, row + 1)
        token, logprob = draw(logits[one].float(), uniforms[one], temperatures[one], branches=own, **options)  # type: ignore[arg-type]
        assert token == tokens[one]
        np.testing.assert_array_equal(logprob, logprobs[one])
        if own:
            assert together[row].before.after.keys() == own[0].before.after.keys()  # type: ignore[union-attr]
            assert (together[row].share, together[row].logprob) == pytest.approx(
                (own[0].share, own[0].logprob), nan_ok=True
            )
    assert certainties(logits, 4)[:17] == certainties(logits.float(), 4)[:17]


@pytest.mark.parametrize("flat", [0.2, 3.0])
@pytest.mark.parametrize("top_p", [0.01, 0.8, 0.95, 0.9999])
def test_a_nucleus_of_any_size_is_that_of_the_sorted_weights(flat: float, top_p: float) -> None:
    """Whether a few of the likeliest tokens of 5,000 are enough, or all must be sorted."""
    logits = flat * torch.randn(40, 5000, generator=torch.Generator().manual_seed(1))
    uniforms = uniform(np.arange(40, dtype=np.uint64), np.zeros(40, np.int64))
    tokens, _ = draw(logits, uniforms, np.ones(40, np.float32), top_p=top_p)
    weights = logits.double().softmax(-1)
    ordered, order = weights.sort(-1, descending=True)
    inside = torch.zeros_like(weights).scatter(-1, order, (ordered.cumsum(-1) - ordered < top_p) * ordered)
    inside = inside.cumsum(-1) / inside.sum(-1, keepdim=True)
    want = (inside <= torch.from_numpy(uniforms.astype(np.float64))[:, None]).sum(-1).numpy()
    assert (tokens == want).mean() >= 0.95  # rounding may move one at the edge of another
