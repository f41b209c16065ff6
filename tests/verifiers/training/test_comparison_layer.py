import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForTokenClassification

from policies.backends.lab import LabPolicy
from policies.registry import WEIGHTS
from verifiers.training.comparison_layer import Learner, grow, one_back
from verifiers.training.recipe import PrmRecipe
from verifiers.training.train import train_prm


def backbone(**changes: int) -> LlamaForCausalLM:
    torch.manual_seed(1)
    sizes = {
        "vocab_size": 40,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 16,
    }
    model = LlamaForCausalLM(
        LlamaConfig(**({"tie_word_embeddings": True} | sizes | changes), initializer_range=0.3)
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(40, (3, 30), generator=torch.Generator().manual_seed(0))


def test_rotary_attention_can_look_exactly_one_token_back() -> None:
    frequencies = 10000.0 ** (-torch.arange(0, 32, 2) / 32)
    angles = torch.arange(500)[:, None] * frequencies.double()
    products = torch.cat([angles.cos(), angles.sin()], 1) @ one_back(frequencies)
    assert products[1] == pytest.approx(1, abs=0.01)
    assert products[torch.arange(500) != 1].max() < -0.2


def test_the_comparing_layer_knows_the_logit_of_every_token(ids: torch.Tensor) -> None:
    model = backbone()
    prm = grow(model, 2, ids).eval()
    with torch.no_grad():
        found = prm.model(ids, output_hidden_states=True).hidden_states[3][:, 1:, -1] * 10
        wanted = model(ids).logits[:, :-1].gather(2, ids[:, 1:, None])[..., 0]
    # two of the 32 dimensions of the token are given up, and the frozen stream weighs a little
    assert torch.corrcoef(torch.stack([found.flatten(), wanted.flatten()]))[0, 1] > 0.99


def test_the_frozen_model_is_the_model(ids: torch.Tensor) -> None:
    model = backbone()
    prm = grow(model, 2, ids).eval()
    with torch.no_grad():
        old = model.model(ids, output_hidden_states=True).hidden_states[1]
        new = prm.model(ids, output_hidden_states=True).hidden_states[1][..., :32]
    assert torch.nn.functional.cosine_similarity(old, new, dim=-1).min() > 0.999


def test_only_what_comes_after_the_comparison_is_trained_and_every_score_starts_at_a_half(ids: torch.Tensor) -> None:
    model = backbone()
    prm = grow(model, 2, ids)
    learner = Learner(prm, model)
    trained = {name.split(".layers.")[-1].split(".")[0] for name, p in learner.named_parameters() if p.requires_grad}
    assert trained == {"3", "4", "prm", "token", "total"}
    states = learner.states(ids)
    assert prm.score(states[-1]).softmax(-1).flatten().tolist() == [0.5] * (ids.numel() * 2)


def test_the_likelihood_loss_is_that_of_the_model_itself(ids: torch.Tensor) -> None:
    model = backbone()
    learner = Learner(grow(model, 2, ids), model)
    own = torch.zeros_like(ids, dtype=torch.bool)
    own[:, 10:] = True
    with torch.no_grad():
        loss = learner.likelihood_loss(ids, learner.states(ids), own).item()
        logs = model(ids).logits.log_softmax(-1)[:, 9:-1].gather(2, ids[:, 10:, None])[..., 0].clamp(min=-8)
    # both heads say 0 yet
    wanted = (logs / 4).square().mean() + 0.5 * (logs.cumsum(1).clamp(min=-16) / 4).square().mean()
    assert loss == pytest.approx(wanted.item(), rel=0.01)


def test_the_layers_learn_the_likelihoods(ids: torch.Tensor) -> None:
    model = backbone()
    learner = Learner(grow(model, 2, ids), model)
    own = torch.ones_like(ids, dtype=torch.bool)
    optimizer = torch.optim.Adam([p for p in learner.parameters() if p.requires_grad], lr=0.003)
    losses = []
    for _ in range(60):
        loss = learner.likelihood_loss(ids, learner.states(ids), own)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.25 * losses[0]


def test_a_model_too_narrow_is_refused(ids: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"40 feed-forward units .* at least 60 units"):
        grow(backbone(intermediate_size=40), 2, ids)
    with pytest.raises(ValueError, match="1 of keys"):
        grow(backbone(num_key_value_heads=1), 2, ids)
    with pytest.raises(ValueError, match="tied"):
        grow(backbone(tie_word_embeddings=False), 2, ids)


def test_it_reads_back_as_it_was_saved(ids: torch.Tensor, tmp_path: Path) -> None:
    prm = grow(backbone(), 2, ids).eval()
    with torch.no_grad():
        prm.score.weight.normal_()
        prm.save_pretrained(tmp_path)
        again = LlamaForTokenClassification.from_pretrained(tmp_path, dtype="auto")
        assert torch.equal(again(ids).logits, prm(ids).logits)


def test_the_shipped_policies_can_be_grown_from() -> None:
    for name in ("arithmetic-s", "arithmetic-m"):
        model = LlamaForCausalLM.from_pretrained(WEIGHTS / name, dtype=torch.float32).eval()
        assert grow(model, 2, torch.arange(20, 60)[None]).config.num_labels == 2


def test_training_that_goes_on_from_a_verifier_changes_only_its_last_layers(
    checkpoint: Callable[..., Path], chatter: Any, ids: torch.Tensor, tmp_path: Path
) -> None:
    prm = grow(backbone(), 2, ids)
    prm.save_pretrained(tmp_path / "start")
    for file in checkpoint("policy").glob("tokenizer*"):
        shutil.copy(file, tmp_path / "start")
    policy = LabPolicy(checkpoint("policy"), chatter, device="cpu", step_tokens=12)
    recipe = PrmRecipe(
        "prm", "chatter", start="start", extra_layers=2, problems=6, held_out=4, solutions=4, rollouts=0,
        held_out_rollouts=2, epochs=1,
    )  # fmt: skip
    folder = train_prm(recipe, chatter, policy, tmp_path / "start", tmp_path / "made", tmp_path / "samples")
    old, new = load_file(tmp_path / "start" / "model.safetensors"), load_file(folder / "model.safetensors")
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    trained = ("model.layers.3.", "model.layers.4.", "model.norm.", "score.")
    assert changed
    assert all(name.startswith(trained) for name in changed)
    assert all(tensor.dtype == torch.float32 for tensor in new.values())  # half precision would lose the small numbers
    held_out = (tmp_path / "samples" / "calibration.jsonl").read_text().splitlines()
    assert json.loads(held_out[0])["config"]["rollouts"] == 2
