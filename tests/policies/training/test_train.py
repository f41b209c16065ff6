"""A few steps of training: that it learns, saves what others can load, and goes on after a kill."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from envs.arithmetic import Arithmetic
from envs.core import render
from policies.backends.lab import LabPolicy
from policies.training import train as training
from policies.training.optimizers import Optimizers, load_checkpoint, orthogonalize, save_checkpoint
from policies.training.tokenizer import build_tokenizer
from policies.training.train import Architecture, PolicyRecipe, Stage, found, train_policy

RECIPE = PolicyRecipe(
    "tiny",
    architecture=Architecture(hidden_size=32, layers=1, heads=1, intermediate_size=48),
    tokens=30_000,
    batch_tokens=1024,
    curriculum=(Stage(0.5, {"levels": (1,)}),),
)


def test_a_trained_policy_is_a_standard_checkpoint_and_a_killed_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, honest = 0, training.loss_of

    def dying(*arguments: Any) -> torch.Tensor:
        nonlocal seen
        seen += 1
        if seen == 12:
            raise KeyboardInterrupt
        return honest(*arguments)

    monkeypatch.setattr(training, "loss_of", dying)
    with pytest.raises(KeyboardInterrupt):
        train_policy(RECIPE, Arithmetic, tmp_path / "tiny", checkpoint_seconds=0)
    folder = train_policy(RECIPE, Arithmetic, tmp_path / "tiny", checkpoint_seconds=0)
    monkeypatch.setattr(training, "loss_of", honest)
    whole = train_policy(RECIPE, Arithmetic, tmp_path / "whole")
    assert (folder / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    record = json.loads((folder / "training.json").read_text())
    assert 30_000 <= record["tokens"] < 32_000
    assert record["steps"] == seen - 1  # the first eleven were not done again
    assert not (folder / "checkpoint").exists()

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    environment = Arithmetic()
    policy = LabPolicy(folder, environment, device="cpu")
    state = environment.initial(environment.problems("test", 1)[0])
    text = render(environment, state)
    ids = tokenizer(text)["input_ids"]  # as others read it: the token that begins a text is put in front
    assert ids[0] == tokenizer.bos_token_id
    assert policy.tokens.parts(environment, state) == [tuple(ids)]
    assert policy.parameters == record["parameters"] == model.num_parameters()


def test_it_learns_the_same_where_other_processes_write_the_examples(tmp_path: Path) -> None:
    recipe = replace(RECIPE, tokens=150_000, curriculum=(Stage(0.2, {"levels": (1,)}), Stage(0.5, {"levels": (2,)})))
    alone = train_policy(recipe, Arithmetic, tmp_path / "alone")
    helped = train_policy(recipe, Arithmetic, tmp_path / "helped", workers=2)
    assert (alone / "model.safetensors").read_bytes() == (helped / "model.safetensors").read_bytes()


def test_an_environment_without_demonstrations_is_refused(chatter: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="'chatter' has no `demonstrate`"):
        train_policy(RECIPE, lambda: chatter, tmp_path)


def test_muon_makes_matrices_nearly_orthogonal() -> None:
    torch.manual_seed(0)
    for shape in ((1, 8, 20), (3, 20, 8)):
        values = torch.linalg.svdvals(orthogonalize(torch.randn(shape)))
        assert ((values > 0.6) & (values < 1.3)).all()


def test_a_checkpoint_restores_the_run_exactly(tmp_path: Path) -> None:
    def start() -> tuple[torch.nn.Module, Optimizers]:
        torch.manual_seed(0)
        model = torch.nn.Sequential()
        model.add_module("layers", torch.nn.Sequential(torch.nn.Linear(4, 4)))
        model.add_module("head", torch.nn.Linear(4, 2))
        return model, Optimizers(model, 0.02, 0.01)

    def step(model: torch.nn.Module, optimizers: Optimizers, at: int) -> None:
        torch.manual_seed(at)
        model(torch.randn(8, 4)).square().sum().backward()
        optimizers.step(at / 10)

    model, optimizers = start()
    for at in range(3):
        step(model, optimizers, at)
    save_checkpoint(tmp_path / "state.safetensors", model, optimizers, {"at": 3})
    again, theirs = start()
    assert load_checkpoint(tmp_path / "state.safetensors", again, theirs) == {"at": 3}
    for at in range(3, 6):
        step(model, optimizers, at)
        step(again, theirs, at)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]


def test_a_run_may_start_from_another_policy(tmp_path: Path) -> None:
    first = train_policy(RECIPE, Arithmetic, tmp_path / "first")
    second = train_policy(replace(RECIPE, start="first", tokens=2000), Arithmetic, tmp_path / "second", first)
    before, after = (json.loads((folder / "training.json").read_text()) for folder in (first, second))
    assert after["tokens_seen"] == before["tokens"] + after["tokens"]
    assert (second / "tokenizer.json").read_text() == (first / "tokenizer.json").read_text()


def test_solutions_that_are_there_are_learnt_in_passes_over_all_of_them(
    chatter: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [(f"{number} + 1\n", f"{number} + 1 = {number + 1}\n#### {number + 1}") for number in range(10, 16)]
    tokenizer = build_tokenizer([before + after for before, after in texts])
    make = partial(found, texts=texts, tokenizer=tokenizer, n=4, seed=0)
    seen = [tokenizer.decode(example.ids) for part in range(3) for example in make(chatter, part)]
    assert len(seen) == 12
    assert len(set(seen[:6])) == len(set(seen[6:])) == 6  # each pass has each once
    assert seen[:6] != seen[6:]
    recipe = replace(RECIPE, environment="chatter", tokens=4000, batch_tokens=256, curriculum=())
    folder = train_policy(recipe, lambda: chatter, tmp_path / "found", texts=texts)  # nothing there writes solutions
    record = json.loads((folder / "training.json").read_text())
    assert record["solutions"] == 6
    assert record["examples"] > 6
