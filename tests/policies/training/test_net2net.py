"""A widened model answers as the smaller one did, and every part of it learns."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from envs.arithmetic import Arithmetic
from policies.training import train as training
from policies.training.net2net import widen
from policies.training.tokenizer import build_tokenizer
from policies.training.train import Architecture, PolicyRecipe, build_model, configuration, train_policy

SMALL = Architecture(hidden_size=32, layers=1, heads=1, intermediate_size=48)
LARGE = Architecture(hidden_size=64, layers=2, heads=2, intermediate_size=80)
IDS = torch.tensor([[1, 5, 27, 19, 4, 30]])


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return build_tokenizer(["make 24 from 4 6 8 2\n8 - 2 = 6 (left: 4 6 6)"])


@pytest.fixture
def small(tokenizer: Any) -> LlamaForCausalLM:
    torch.manual_seed(0)
    model = build_model(SMALL, tokenizer).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return model


def test_the_logits_are_those_of_the_smaller_one(small: LlamaForCausalLM, tokenizer: Any) -> None:
    large = widen(small, configuration(LARGE, tokenizer)).eval()
    assert large.num_parameters() > 2 * small.num_parameters()
    with torch.no_grad():
        expected, found = small(IDS).logits, large(IDS).logits
    assert expected.std() > 0.1
    assert torch.allclose(expected, found, atol=1e-4)


def test_every_matrix_learns(small: LlamaForCausalLM, tokenizer: Any) -> None:
    large = widen(small, configuration(LARGE, tokenizer)).train()
    start = {name: parameter.detach().clone() for name, parameter in large.named_parameters()}
    optimizer = torch.optim.SGD(large.parameters(), lr=0.5)
    for _ in range(3):  # what is written to must be written before it is read
        optimizer.zero_grad()
        large(IDS, labels=IDS).loss.backward()
        optimizer.step()
    for name, parameter in large.named_parameters():
        changed = parameter.detach() != start[name]
        assert changed.any(0).all() if parameter.ndim == 1 else changed.any(), name
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            assert changed[-1].any(), name  # the new part of the stream
            assert changed[:, -1].any(), name  # the new units


@pytest.mark.parametrize(
    ("change", "message"),
    [({"layers": 0}, "num_hidden_layers 0 given"), ({"head_dim": 16}, "head_dim 16 given.*head_dim 32")],
)
def test_a_smaller_model_is_refused(small: LlamaForCausalLM, tokenizer: Any, change: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        widen(small, configuration(replace(LARGE, **change), tokenizer))


def test_a_recipe_goes_on_from_a_smaller_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "CHUNK", 50)
    first = PolicyRecipe("a", architecture=SMALL, tokens=3000, batch_tokens=512)
    before = train_policy(first, Arithmetic, tmp_path / "a")
    more = replace(first, name="b", architecture=LARGE, tokens=2000, start="a")
    after = train_policy(more, Arithmetic, tmp_path / "b", before)
    config = LlamaForCausalLM.from_pretrained(after).config
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (64, 2, 2)
    seen = [json.loads((folder / "training.json").read_text())["tokens_seen"] for folder in (before, after)]
    assert 3000 <= seen[0] <= seen[1] - 2000
