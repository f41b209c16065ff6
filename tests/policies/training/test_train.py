"""A few steps of training: that it learns, saves what others can load, and goes on after a kill."""

import json
import random
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from envs.arithmetic import Arithmetic
from envs.core import Problem, State, Step, Transition, render, termination, transition, truncation
from policies.backends.lab import LabPolicy
from policies.training import train as training
from policies.training.optimizers import Optimizers, load_checkpoint, orthogonalize, save_checkpoint
from policies.training.tokenizer import build_tokenizer
from policies.training.train import Architecture, PolicyRecipe, Revise, Stage, found, train_policy
from policies.training.worked_solutions import parts_of, problems_of, replay
from verifiers.training.probe import ProbeRecipe
from verifiers.training.recipe import PrmRecipe

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
    texts = [
        (f"{number} + 1\n", ((f"{number} + 1 = {number + 1}\n", True), ("told\n", False), (f"#### {number + 1}", True)))
        for number in range(10, 16)
    ]
    tokenizer = build_tokenizer([prompt + "".join(text for text, _ in parts) for prompt, parts in texts])
    make = partial(found, texts=texts, tokenizer=tokenizer, n=4, seed=0)
    seen = [tokenizer.decode(example.ids) for part in range(3) for example in make(chatter, part)]
    assert len(seen) == 12
    (example, *_) = make(chatter, 0)
    ((first, end),) = example.given  # what was observed is read, and not learnt
    assert tokenizer.decode(example.ids[first:end]) == "told\n"
    assert len(set(seen[:6])) == len(set(seen[6:])) == 6  # each pass has each once
    assert seen[:6] != seen[6:]
    recipe = replace(RECIPE, environment="chatter", tokens=4000, batch_tokens=256, curriculum=())
    folder = train_policy(recipe, lambda: chatter, tmp_path / "found", texts=texts)  # nothing there writes solutions
    record = json.loads((folder / "training.json").read_text())
    assert record["solutions"] == 6
    assert record["examples"] > 6


class Oracle:
    """Numbers are asked for and told, and the last step adds them up; five problems of each split."""

    name, delimiter, max_steps = "oracle", "\n", 6

    def problems(self, split: str, n: int, seed: int = 0) -> list[Problem]:
        every = [self.read(f"{split} a b{index}") for index in range(5)]
        return random.Random(seed).sample(every, n)

    def read(self, question: str) -> Problem:
        return Problem(question, question, "7")

    def prompt(self, problem: Problem) -> str:
        return problem.question + "\n"

    def initial(self, problem: Problem) -> State:
        return State(problem)

    def step(self, state: State, step: Step) -> Transition:
        if step.finish == "answer":
            return termination(state.then(step))
        if not step.text.startswith("ask"):
            return truncation(state.then(step))
        return transition(state.then(replace(step, observation=f"it is {len(state.steps) + 3}")))

    def demonstrate(self, problem: Problem, rng: random.Random) -> tuple[str, ...]:
        return ("ask a", "ask b", "#### 7")


ORACLE: Any = Oracle()
SMALL = replace(RECIPE, environment="oracle", tokens=2000, batch_tokens=256, curriculum=())


def test_a_policy_learns_from_what_it_will_read_and_not_to_write_observations() -> None:
    """The ids of an example are those of the state at its end, and the loss is that of the steps alone."""
    tokenizer = build_tokenizer(training._corpus(ORACLE))
    (example, *_) = training.examples(ORACLE, 0, tokenizer=tokenizer, n=9, seed=0)
    text = tokenizer.decode(example.ids)
    assert text.endswith("b0\nask a\nit is 3\nask b\nit is 4\n#### 7<eos>") or "it is 3" in text
    learnt = [id for at, id in enumerate(example.ids) if at >= example.start]
    for first, end in reversed(example.given):
        del learnt[first - example.start : end - example.start]
    assert tokenizer.decode(learnt) == "ask a\nask b\n#### 7<eos>"
    assert [tokenizer.decode(example.ids[first:end]) for first, end in example.given] == ["it is 3\n", "it is 4\n"]

    torch.manual_seed(0)
    model = training.build_model(Architecture(hidden_size=32, layers=1, heads=1, intermediate_size=48), tokenizer)
    loss = training.loss_of(model, [example], torch.device("cpu")).item()
    logs = torch.log_softmax(model(torch.tensor([example.ids])).logits[0], -1)
    given = {at for first, end in example.given for at in range(first, end)}
    places = [at for at in range(example.start, len(example.ids)) if at not in given]
    expected = -sum(logs[at - 1, example.ids[at]].item() for at in places) / len(places)
    assert loss == pytest.approx(expected, abs=1e-4)


def test_what_is_learnt_is_read_in_the_same_tokens(tmp_path: Path) -> None:
    folder = train_policy(SMALL, lambda: ORACLE, tmp_path / "oracle")
    policy = LabPolicy(folder, ORACLE, device="cpu")
    problem = ORACLE.problems("train", 1, seed=1)[0]
    state = replay(ORACLE, problem, ["ask a", "ask b", "#### 7"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    (example,) = training.encode([(ORACLE.prompt(problem), parts_of(ORACLE.delimiter, state.steps))], tokenizer)
    before = State(problem, state.steps[:2])
    read = [token for part in policy.tokens.parts(ORACLE, before) for token in part]
    assert example.ids[: len(read)] == read


def test_a_demonstration_that_the_environment_ends_is_refused() -> None:
    class Wrong(Oracle):
        def demonstrate(self, problem: Problem, rng: random.Random) -> tuple[str, ...]:
            return ("ask a", "tell b", "#### 7")

    wrong: Any = Wrong()
    with pytest.raises(ValueError, match=r"is truncated at step 2 of 3, 'tell b': no policy can write it"):
        training._corpus(wrong)


@pytest.mark.parametrize("n", [1, 4, 5, 6, 3000])
def test_a_split_with_fewer_problems_gives_all_it_has(n: int) -> None:
    assert len(problems_of(ORACLE, "train", n, 3)) == min(n, 5)


def test_an_environment_that_fails_for_another_reason_says_its_own() -> None:
    class Broken(Oracle):
        def problems(self, split: str, n: int, seed: int = 0) -> list[Problem]:
            raise KeyError("no data here")

    broken: Any = Broken()
    with pytest.raises(KeyError, match="no data here"):
        problems_of(broken, "train", 9, 0)


def test_a_finished_training_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = train_policy(SMALL, lambda: ORACLE, tmp_path / "oracle")
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}

    def again(*_: Any) -> None:
        raise AssertionError("a step was taken")

    monkeypatch.setattr(training, "loss_of", again)
    assert train_policy(SMALL, lambda: ORACLE, folder) == folder
    assert before == {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    with pytest.raises(ValueError, match=r"is of another recipe \(tokens is 2000 there and 4000 now\); choose another"):
        train_policy(replace(SMALL, tokens=4000), lambda: ORACLE, folder)
    with pytest.raises(ValueError, match="learnt from None solutions, and there are 1 now"):
        train_policy(SMALL, lambda: ORACLE, folder, texts=[("a", (("b", True),))])


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, honest = 0, training.loss_of

    def dying(*arguments: Any) -> torch.Tensor:
        nonlocal seen
        seen += 1
        if seen == 3:
            raise KeyboardInterrupt
        return honest(*arguments)

    monkeypatch.setattr(training, "loss_of", dying)
    with pytest.raises(KeyboardInterrupt):
        train_policy(SMALL, lambda: ORACLE, tmp_path / "oracle", checkpoint_seconds=0)
    with pytest.raises(ValueError, match=r"of another recipe \(muon_lr is 0\.02 there and 0\.5 now\)"):
        train_policy(replace(SMALL, muon_lr=0.5), lambda: ORACLE, tmp_path / "oracle")
    with pytest.raises(ValueError, match=r"of another recipe \(architecture is {'hidden_size': 32"):
        train_policy(replace(SMALL, architecture=Architecture(64)), lambda: ORACLE, tmp_path / "oracle")
    assert (train_policy(SMALL, lambda: ORACLE, tmp_path / "oracle") / "model.safetensors").exists()


def test_every_key_of_a_recipe_is_in_the_guide() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "training.md").read_text()
    for kind in (PolicyRecipe, Architecture, Stage, Revise, PrmRecipe, ProbeRecipe):
        missing = [field.name for field in fields(kind) if f"`{field.name}`" not in guide]
        assert not missing, f"{kind.__name__}: docs/training.md does not tell {', '.join(missing)}"
