"""Drawing inside vLLM, without a model: requests that come, go and move. Skipped where vLLM is not installed."""

import importlib.util
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

if importlib.util.find_spec("vllm") is None:
    pytest.skip("vLLM is not installed here; .ci/vllm.py makes an environment that has it", allow_module_level=True)

from vllm.v1.sample.logits_processor import BatchUpdate, MoveDirectionality

from policies.generation.random_numbers import uniform
from policies.generation.sampling import draw
from policies.generation.vllm_draws import Drawing, SeededDraws
from policies.models.vllm_engine import DRAWING

GREEDY = None
ALONE, OTHER, NEXT = (Drawing(seed, 0, 0.8) for seed in (3, 2**64 - 1, 4))


class Batch:
    """What vLLM does with a processor, for logits that depend on a request and its tokens alone."""

    def __init__(self) -> None:
        self.processor = SeededDraws(None, torch.device("cpu"), False)
        self.rows: list[tuple[Drawing | None, list[int]]] = []

    def update(self, removed: Any = (), added: Any = (), moved: Any = ()) -> None:
        """Removals and moves as vLLM tells them; `added` are (row, drawing, tokens it has)."""
        news = [
            (row, SimpleNamespace(extra_args=drawing and {DRAWING: drawing}), None, written)
            for row, drawing, written in added
        ]
        for row, drawing, written in added:
            self.rows[row : row + 1] = [(drawing, written)]
        for source, target, way in moved:
            taken = self.rows[target]
            self.rows[target] = self.rows[source]
            if way is MoveDirectionality.SWAP:
                self.rows[source] = taken
        if removed:
            del self.rows[-len(removed) :]  # vLLM moves the last rows to where others left
        self.processor.update_state(BatchUpdate(len(self.rows), removed, news, moved))

    def step(self) -> None:
        """Draw a token for every row."""
        logits = torch.stack([_logits(written) for _, written in self.rows])
        for (_, written), token in zip(self.rows, self.processor.apply(logits).argmax(-1).tolist(), strict=True):
            written.append(token)
        self.processor.update_state(None)


def _logits(written: list[int]) -> torch.Tensor:
    return torch.randn(50, generator=torch.Generator().manual_seed(len(written)))


def drawn(drawing: Drawing, count: int) -> list[int]:
    """What is to be drawn, by the sampler of the other backends."""
    tokens: list[int] = []
    for place in range(count):
        uniforms = uniform(np.array([drawing.seed % 2**64], np.uint64), np.array([drawing.drawn + place]))
        scale = np.array([drawing.temperature], np.float32)
        token, _ = draw(_logits(tokens)[None], uniforms, scale, drawing.top_p, drawing.top_k)
        tokens.append(int(token[0]))
    return tokens


def greedy(count: int) -> list[int]:
    return [int(_logits([0] * place).argmax()) for place in range(count)]


@pytest.mark.parametrize(
    "drawing",
    [
        ALONE,
        OTHER,
        Drawing(2**64 + 5, 0, 0.8),
        Drawing(3, 9, 0.8),
        Drawing(3, 0, 1e-7),
        Drawing(3, 0, 0.8, top_p=0.4, top_k=7),
    ],
)
def test_a_request_draws_as_in_the_other_backends(drawing: Drawing) -> None:
    batch = Batch()
    tokens: list[int] = []
    batch.update(added=[(0, drawing, tokens)])
    for place in range(20):
        batch.step()
        assert drawing.logprob == pytest.approx(float(_logits([0] * place).log_softmax(-1)[tokens[-1]]), abs=1e-5)
    assert tokens == drawn(drawing, 20)


def test_neighbours_that_come_go_and_move_change_nothing() -> None:
    batch = Batch()
    own: list[int] = []
    others: list[int] = []
    plain: list[int] = []
    batch.update(added=[(0, OTHER, others), (1, GREEDY, plain), (2, ALONE, own)])
    batch.step()
    batch.update(moved=[(0, 2, MoveDirectionality.SWAP)])
    batch.step()
    batch.update(added=[(3, NEXT, []), (4, GREEDY, [])])
    batch.step()
    batch.update(removed=[4], moved=[(3, 1, MoveDirectionality.SWAP)])
    batch.step()
    batch.update(removed=[3], added=[(2, NEXT, [])])  # in the place of another that ended
    batch.step()
    batch.update(removed=[0], moved=[(2, 0, MoveDirectionality.UNIDIRECTIONAL)])
    batch.step()
    assert own == drawn(ALONE, 5)
    assert others == drawn(OTHER, 4)
    assert plain == greedy(4)
    assert [tokens for drawing, tokens in batch.rows] == [drawn(NEXT, 2), drawn(NEXT, 4)]


def test_a_request_that_is_begun_again_goes_on_where_it_was() -> None:
    batch = Batch()
    tokens: list[int] = []
    batch.update(added=[(0, ALONE, tokens)])
    for _ in range(3):
        batch.step()
    batch.update(removed=[0])
    batch.update(added=[(0, ALONE, tokens)])
    for _ in range(3):
        batch.step()
    assert tokens == drawn(ALONE, 6)


def test_draws_of_many_seeds_have_the_frequencies_of_the_model() -> None:
    count = 4000
    batch = Batch()
    batch.update(added=[(seed, Drawing(seed, 0, 1.5), []) for seed in range(count)])
    for place in range(3):
        batch.step()
        want = torch.softmax(_logits([0] * place).double() / 1.5, -1).numpy() * count
        have = np.bincount([tokens[-1] for _, tokens in batch.rows], minlength=50)
        assert ((have - want) ** 2 / want).sum() < 90  # chi-square of 49 degrees of freedom: once in 3,000


def test_logits_that_are_no_distribution_have_no_log_probability() -> None:
    batch, broken = Batch(), Drawing(3, 0, 1.0)
    batch.update(added=[(0, broken, [])])
    batch.processor.apply(torch.full((1, 50), torch.nan))
    assert math.isnan(broken.logprob)
