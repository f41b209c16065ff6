"""Probes: what their folders hold, how they score, and how they are trained, on tiny random backbones."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from loguru import logger
from safetensors.torch import load_file, save_file

from envs.core import Problem, State, Step
from envs.math.environment import Math
from envs.messages import UsageError
from policies.backends.hf import TransformersPolicy
from policies.conformance import ask
from policies.generation.options import SamplingOptions
from policies.models.errors import UnsupportedModel
from verifiers.confidence import ConfidenceVerifier
from verifiers.conformance import check_verifier
from verifiers.core import Score
from verifiers.equations import EquationVerifier
from verifiers.families.probe import ProbeConfig, save_probe
from verifiers.metrics import auroc_within
from verifiers.registry import WEIGHTS, load_verifier
from verifiers.training import probe
from verifiers.training import probe as probing
from verifiers.training.probe import Labelled, ProbeRecipe, fit, logits, read_features, train_probe
from verifiers.training.recipe import PrmRecipe
from verifiers.training.train import train_prm

Tiny = Callable[..., Path]
BACKBONES = ["judge", "versa", "math-shepherd"]  # Qwen 2; Llama that begins with a token; Mistral, with a window


@pytest.fixture(scope="module")
def environment() -> Math:
    return Math()


def probe_of(folder: Path, backbone: Path, layers: int = 1, width: int = 0, hidden: int = 32) -> Path:
    torch.manual_seed(layers)
    shapes = [(width, hidden), (1, width)] if width else [(1, hidden)]
    save_probe(
        folder,
        ProbeConfig(str(backbone), layers, hidden, "\n\n"),
        [(torch.randn(shape), torch.randn(shape[0])) for shape in shapes],
    )
    return folder


def test_a_long_reading_says_how_far_it_is(tiny: Tiny, environment: Math, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_TELL", 0.0)
    texts = "1 + 1?", "1 + 2?", "1 + 3?"
    labelled = [Labelled(State(environment.read(text), (Step("2"),)), [1.0], [1.0]) for text in texts]
    said: list[str] = []
    handler = logger.add(lambda message: said.append(str(message)), level="INFO", format="{message}")
    read_features(ProbeRecipe((1,)), tiny("judge"), environment, labelled, "cpu")
    logger.remove(handler)
    assert [line.partition(",")[0] for line in said] == ["1 of 3 problems read", "2 of 3 problems read"]


@pytest.mark.parametrize("width", [0, 5])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_scores_are_those_of_the_first_layers_and_the_last_norm(
    backbone: str, width: int, tiny: Tiny, environment: Math, solutions: list[State], tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = probe_of(tmp_path / "probe", tiny(backbone), width=width)
    verifier: Any = load_verifier(folder, environment, device="cpu")
    tokenizer = AutoTokenizer.from_pretrained(tiny(backbone))
    model = AutoModelForCausalLM.from_pretrained(tiny(backbone), dtype=torch.float32).eval()
    tensors = load_file(folder / "model.safetensors")
    state = solutions[2]
    bos = [] if tokenizer.bos_token is None else [tokenizer.bos_token_id]
    ids = bos + tokenizer.encode(state.problem.question, add_special_tokens=False)
    ends = []
    for step in state.steps:
        text = " ".join(piece for piece in step.text.split("\n\n") if piece).strip()
        ids += tokenizer.encode(text, add_special_tokens=False) + tokenizer.encode("\n\n", add_special_tokens=False)
        ends.append(len(ids) - 1)
    with torch.no_grad():
        hidden = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[1][0, ends]
        hidden = model.model.norm(hidden)
        if width:
            hidden = torch.relu(hidden @ tensors["probe.0.weight"].T + tensors["probe.0.bias"])
        last = "probe.2" if width else "probe"
        expected = torch.sigmoid(hidden @ tensors[f"{last}.weight"].T + tensors[f"{last}.bias"])[:, 0].tolist()
    (reply,) = ask(verifier, [Score((state,))])
    assert reply.scores[0] == pytest.approx(expected, abs=2e-5)
    assert verifier.name == "probe"
    check_verifier(verifier, environment, solutions)


def test_the_backbone_may_be_elsewhere(tiny: Tiny, environment: Math, solutions: list[State], tmp_path: Path) -> None:
    here = load_verifier(probe_of(tmp_path / "here", tiny("judge")), environment, device="cpu")
    hub = probe_of(tmp_path / "hub", Path("owner/name"))
    moved = load_verifier(hub, environment, device="cpu", backbone=str(tiny("judge")))
    assert ask(moved, [Score(tuple(solutions))]) == ask(here, [Score(tuple(solutions))])
    again: Any = load_verifier(probe_of(tmp_path / "here", tiny("judge")), environment, device="cpu")
    shutil.copytree(tiny("judge"), tmp_path / "backbone")
    (tmp_path / "backbone" / "more.json").write_text("{}")
    other: Any = load_verifier(hub, environment, device="cpu", backbone=str(tmp_path / "backbone"))
    assert "" != again.digest() != other.digest()  # the backbone is part of it


def test_what_costs_nothing_is_weighed_beside_the_head(
    tiny: Tiny, environment: Math, solutions: list[State], tmp_path: Path
) -> None:
    alone = load_verifier(probe_of(tmp_path / "probe", tiny("judge")), environment, device="cpu")
    config = json.loads((tmp_path / "probe" / "config.json").read_text())
    beside = {"beside": {"perplexity": 3.0, "equations": 0.5}, "weight": 0.25, "bias": -2.0}
    (tmp_path / "probe" / "config.json").write_text(json.dumps(config | beside))
    steps = [replace(step, tokens=4, logprob=-1.0) for step in solutions[0].steps]
    state = State(solutions[0].problem, (*steps, Step("1 + 1 = 2", 4, -9.0)))
    pooled = load_verifier(tmp_path / "probe", environment, device="cpu")
    assert pooled.name == "probe"
    parts = [alone, ConfidenceVerifier(environment, measure="perplexity"), EquationVerifier(environment)]
    told = [ask(part, [Score((state,))])[0].scores[0][-1] for part in parts]
    odds = [math.log(score / (1 - score)) for score in told]
    expected = 1 / (1 + math.exp(2 - 0.25 * odds[0] - 3 * odds[1] - 0.5 * odds[2]))
    assert ask(pooled, [Score((state,))])[0].scores[0][-1] == pytest.approx(expected, abs=1e-4)
    (tmp_path / "probe" / "config.json").write_text(json.dumps(config | {"beside": {"entropy": 1}}))
    with pytest.raises(UnsupportedModel, match="weighs 'entropy' beside its head; known: perplexity, equations"):
        load_verifier(tmp_path / "probe", environment, device="cpu")


def test_a_probe_that_does_not_fit_is_refused(tiny: Tiny, environment: Math, tmp_path: Path) -> None:
    good = probe_of(tmp_path / "good", tiny("judge"))
    with pytest.raises(UnsupportedModel, match=r"3 layers asked for; .* has 2"):
        load_verifier(probe_of(tmp_path / "deep", tiny("judge"), layers=3), environment, device="cpu")
    with pytest.raises(UnsupportedModel, match=r"a head for states of 16 numbers given; .* have 32"):
        load_verifier(probe_of(tmp_path / "narrow", tiny("judge"), hidden=16), environment, device="cpu")
    config = json.loads((good / "config.json").read_text())
    for change, said in (
        ({"hidden_size": 16}, "its backbone has width 16"),
        ({"backbone": "/gone"}, "no folder '/gone'"),
    ):
        shutil.copytree(good, tmp_path / "bad")
        (tmp_path / "bad" / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(UnsupportedModel, match=said):
            load_verifier(tmp_path / "bad", environment, device="cpu")
        shutil.rmtree(tmp_path / "bad")
    del config["layers"]
    (good / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModel, match="lacks 'layers'"):
        load_verifier(good, environment, device="cpu")
    save_file({"probe.weight": torch.zeros(1, 32)}, good / "model.safetensors")
    with pytest.raises(UnsupportedModel, match="lacks"):
        load_verifier(f"hf:{good}", environment, device="cpu")
    with pytest.raises(UnsupportedModel, match=r"hf:.* runs 'probe'"):
        load_verifier(f"vllm:{good}", environment)


@pytest.mark.parametrize("backend", ["hf", "vllm", "pooling"])
def test_a_verifier_of_the_lab_is_not_read_in_another_layout(backend: str, environment: Math) -> None:
    folder = WEIGHTS / "arithmetic-prm"
    with pytest.raises(UnsupportedModel, match=r"is a verifier of the lab.*give it without a backend"):
        load_verifier(f"{backend}:{folder}", environment)


# -------------------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("backbone", BACKBONES)
def test_what_is_learnt_from_is_what_is_read(
    backbone: str, tiny: Tiny, environment: Math, solutions: list[State], tmp_path: Path
) -> None:
    """A probe of each depth scores as the head does on the features of that depth."""
    labelled = [Labelled(state, [0.5] * len(state.steps), [1.0] * len(state.steps)) for state in solutions]
    data = read_features(ProbeRecipe((2, 1)), tiny(backbone), environment, labelled, "cpu")
    assert len(data.targets) == sum(len(state.steps) for state in solutions)
    for layers in (1, 2):
        verifier = load_verifier(probe_of(tmp_path / str(layers), tiny(backbone), layers), environment, device="cpu")
        scores = [score for state in sorted(solutions, key=lambda state: state.problem.id)
                  for reply in ask(verifier, [Score((state,))]) for score in reply.scores[0]]  # fmt: skip
        tensors = load_file(tmp_path / str(layers) / "model.safetensors")
        found = torch.sigmoid(logits([(tensors["probe.weight"], tensors["probe.bias"])], data.features[layers]))
        assert scores == pytest.approx(found.tolist(), abs=2e-5)


def test_prefixes_in_common_count_once_with_all_their_weight(tiny: Tiny, environment: Math) -> None:
    problem = Problem("p", "What?")
    first, second = (State(problem, (Step("so"), Step(text))) for text in ("1", "2"))
    labelled = [Labelled(first, (0.5, 1.0), (1.0, 1.0)), Labelled(second, (0.25, 0.0), (3.0, 0.0))]
    data = read_features(ProbeRecipe((1,)), tiny("judge"), environment, labelled, "cpu")
    assert data.weights.tolist() == [4.0, 1.0]  # a weight of 0 is not learnt from
    assert data.targets.tolist() == [(0.5 + 0.75) / 4, 1.0]
    assert data.ends.tolist() == [False, True]
    with pytest.raises(ValueError, match="no labelled step"):
        read_features(ProbeRecipe((1,)), tiny("judge"), environment, [], "cpu")


@pytest.mark.parametrize("width", [0, 6])
def test_a_head_learns_soft_labels_on_features_of_any_scale(width: int) -> None:
    torch.manual_seed(0)
    features = torch.randn(400, 8) * torch.logspace(-2, 3, 8) + 5
    direction = (features[:, 3] - features[:, 3].mean()) / features[:, 3].std()
    targets = torch.sigmoid(2 * direction)
    made = fit(features, targets, torch.ones(400), width, 1e-4, 100)
    assert len(made) == (2 if width else 1)
    assert (torch.sigmoid(logits(made, features)) - targets).abs().max() < 0.1
    strong = fit(features, targets, torch.ones(400), width, 1e3, 100)
    assert torch.sigmoid(logits(strong, features)).std() < 0.01


def test_training_finds_what_hidden_states_say(tiny: Tiny, environment: Math, tmp_path: Path) -> None:
    problems = [Problem(f"p{index}", f"What is {index} + {index}?") for index in range(24)]
    labelled = [
        Labelled(State(problem, (Step("Well."), Step(text))), (0.5, right), (1.0, 1.0))
        for problem in problems
        for text, right in (("It is 7.", 1.0), ("No idea", 0.0))
    ]
    recipe = ProbeRecipe((1, 2), (0, 4), (0.01, 10.0))
    record = train_probe(recipe, str(tiny("judge")), environment, labelled, tmp_path, seed=1)
    assert len(record["trials"]) == 8
    assert record["chosen"] == min(record["trials"], key=lambda trial: trial["loss"])
    assert record["chosen"]["auroc_within"] == 1.0
    assert record["prefixes"] == 24 * 3
    assert (tmp_path / "model.safetensors").stat().st_size < 20e3
    verifier = load_verifier(tmp_path, environment, device="cpu")
    scores = [reply.scores[0] for reply in ask(verifier, [Score((each.state,)) for each in labelled])]
    groups = [[(scores[at + k][-1], k == 0) for k in (0, 1)] for at in range(0, len(scores), 2)]
    assert auroc_within(groups) == 1.0
    again = train_probe(recipe, str(tiny("judge")), environment, labelled, tmp_path / "again", seed=1)
    assert again == record


def test_the_weights_beside_a_head_are_fitted_to_what_it_says_of_other_problems(
    tiny: Tiny, environment: Math, tmp_path: Path
) -> None:
    """Right solutions are those whose arithmetic holds, of which hidden states at a separator say little."""
    labelled = []
    for index in range(24):
        problem = Problem(f"p{index}", f"What is {index} + {index}?")
        for shift in (0, 1):
            step = Step(f"{index} + {index} = {2 * index + shift}", 4, -4.0 - index % 3)
            labelled.append(Labelled(State(problem, (step,)), (1.0 - shift,), (1.0,)))
    recipe = ProbeRecipe((1,), decays=(10.0,), beside=("perplexity", "equations"))
    record = train_probe(recipe, str(tiny("judge")), environment, labelled, tmp_path, seed=1)
    assert record["pooled"]["auroc_within"] == 1.0
    assert record["pooled"]["loss"] < record["chosen"]["loss"]
    assert record["pooled"]["without_the_head"]["auroc_within"] == 1.0
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["beside"]["equations"] > 1 > abs(config["beside"]["perplexity"])
    (reply,) = ask(load_verifier(tmp_path, environment, device="cpu"), [Score((each.state,)) for each in labelled[:1]])
    assert reply.scores[0][0] > 0.5
    with pytest.raises(UsageError, match="did you mean 'perplexity'"):
        ProbeRecipe((1,), beside=("perplexty",))


def test_a_language_models_own_samples_train_its_verifier(
    tiny: Tiny, chatter: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it, for a policy of transformers: sampling, labels, features, the head, the report; and it goes on."""
    backbone = tiny("judge")
    policy = TransformersPolicy(backbone, chatter, SamplingOptions(step_tokens=6, chat=False), device="cpu")
    recipe = PrmRecipe(
        *("prm", "chatter", "tiny", str(backbone)),
        ProbeRecipe((1, 2), beside=("perplexity",)),
        problems=10,
        held_out=5,
        solutions=4,
        rollouts=1,
    )
    folder = train_prm(recipe, chatter, policy, Path(), tmp_path / "prm", tmp_path / "samples")
    record = json.loads((folder / "training.json").read_text())
    assert record["recipe"]["probe"]["layers"] == [1, 2]
    assert record["sampled_tokens"] > 0
    assert 0 <= record["report"]["ece"] <= 1
    states = [State(problem, (Step("a"), Step("b"))) for problem in chatter.problems("test", 3)]
    check_verifier(load_verifier(folder, chatter, device="cpu"), chatter, states)
    monkeypatch.setattr(policy, "submit", None)  # all that is sampled is on the disk
    monkeypatch.setattr(probing, "find_checkpoint", lambda _: backbone)
    again = train_prm(replace(recipe, name="other"), chatter, policy, Path(), tmp_path / "other", tmp_path / "samples")
    assert (again / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
