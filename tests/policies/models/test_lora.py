"""Adapters are their base with B A added to it, whoever runs them; what is no plain LoRA is refused."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig

from policies.models.checkpoints import find_folder, load_checkpoint
from policies.models.lora import merged
from policies.models.pretrained import UnusableModel
from tests.policies.models.brought import adapter_of, configure, folder_of
from verifiers.backends.hf import family_of, find_checkpoint

Q = "model.layers.0.self_attn.q_proj"
A, B = torch.arange(64.0).reshape(2, 32) / 64, torch.arange(64.0).reshape(32, 2) / 32 - 1
PAIR = {f"{Q}.lora_A.weight": A, f"{Q}.lora_B.weight": B}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "base")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({}, 4), ({"lora_alpha": 2}, 1), ({"use_rslora": True}, 8 / math.sqrt(2)), ({"lora_alpha": 0}, 0),
        ({"alpha_pattern": {"q_proj": 16}}, 8), ({"alpha_pattern": {"k_proj": 16}}, 4), ({"r": 99}, 4),
        ({"alpha_pattern": {"layers.0.self_attn.q_proj": 2}}, 1),
    ],
)  # fmt: skip
def test_a_merged_matrix_is_the_bases_and_the_scaled_product(
    config: dict[str, Any], scale: float, base: Path, tmp_path: Path
) -> None:
    made = merged(adapter_of(tmp_path / "lora", str(base), PAIR, **config), find_folder)
    before, after = weights(base), weights(made)
    assert after.keys() == before.keys()
    torch.testing.assert_close(after[f"{Q}.weight"], before[f"{Q}.weight"] + scale * (B @ A))
    assert all(torch.equal(after[name], before[name]) for name in before if name != f"{Q}.weight")
    assert merged(tmp_path / "lora", find_folder) == made
    assert load_checkpoint(tmp_path / "lora", "cpu", "float32")[1].config.hidden_size == 32


@pytest.mark.parametrize("named", ["base", "/elsewhere/of/the/author/base"])
def test_the_base_may_lie_beside_its_adapter_or_around_it(named: str, base: Path, tmp_path: Path) -> None:
    assert weights(merged(adapter_of(tmp_path / "lora", named, PAIR), find_folder)).keys() == weights(base).keys()
    own = merged(adapter_of(base, "/nowhere/any", PAIR), find_folder)
    assert weights(own).keys() == load_file(base / "model.safetensors").keys()


def test_another_adapter_or_base_is_another_folder(base: Path, tmp_path: Path) -> None:
    lora = adapter_of(tmp_path / "lora", str(base), PAIR)
    first = merged(lora, find_folder)
    second = merged(adapter_of(lora, str(base), PAIR | {f"{Q}.lora_A.weight": -A}), find_folder)
    folder_of(base, seed=1)
    third = merged(lora, find_folder)
    assert len({first, second, third}) == 3


def test_shards_heads_and_embeddings(tmp_path: Path) -> None:
    base = folder_of(tmp_path / "base", LlamaConfig, shards="60kB", tie_word_embeddings=True)
    config = json.loads((base / "config.json").read_text())
    tokens = config["vocab_size"]
    tensors = PAIR | {
        "model.embed_tokens.lora_embedding_A": torch.ones(2, tokens),
        "model.embed_tokens.lora_embedding_B": torch.ones(32, 2),
        "lm_head.weight": torch.ones(tokens, 32),
    }
    made = merged(adapter_of(tmp_path / "lora", "base", tensors), find_folder)
    model = load_checkpoint(made, "cpu", "float32")[1]
    torch.testing.assert_close(model.get_input_embeddings().weight, weights(base)["model.embed_tokens.weight"] + 8)
    assert torch.equal(model.get_output_embeddings().weight, torch.ones(tokens, 32))
    assert not model.config.tie_word_embeddings


def test_a_lora_on_a_tied_head_unties_it(tmp_path: Path) -> None:
    base = folder_of(tmp_path / "base", tie_word_embeddings=True)
    tokens = json.loads((base / "config.json").read_text())["vocab_size"]
    head = {"lm_head.lora_A.weight": torch.ones(2, 32), "lm_head.lora_B.weight": torch.ones(tokens, 2)}
    model = load_checkpoint(adapter_of(tmp_path / "lora", "base", head), "cpu", "float32")[1]
    torch.testing.assert_close(model.get_output_embeddings().weight, model.get_input_embeddings().weight + 8)


def test_a_reward_models_adapter_is_a_verifier(base: Path, tmp_path: Path) -> None:
    tensors = PAIR | {"score.weight": torch.ones(2, 32)}
    lora = adapter_of(tmp_path / "prm", str(base), tensors, task_type="TOKEN_CLS")
    folder = find_checkpoint(str(lora))
    assert family_of(str(lora), folder) == "token-classification"
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["LlamaForTokenClassification"]


@pytest.mark.parametrize(
    ("tensors", "config", "said"),
    [
        (PAIR, {"peft_type": "IA3"}, "an adapter of the kind IA3; LORA is allowed: merge it"),
        (PAIR, {"use_dora": True}, "an adapter with use_dora"),
        (PAIR | {f"{Q}.lora_magnitude_vector": torch.ones(3)}, {}, "no part of plain LoRA"),
        ({f"{Q}.lora_A.weight": A}, {}, "half of the adapter of model.layers.0"),
        (PAIR | {f"{Q}.lora_B.weight": B[:30]}, {}, r"is for a matrix of \(30, 32\), that of its base is \(32, 32\)"),
        (PAIR | {f"{Q}.lora_B.weight": B[:, :1]}, {}, "do not fit each other"),
        ({"model.layers.9.x.lora_A.weight": A, "model.layers.9.x.lora_B.weight": B}, {}, "which its base has not"),
        (PAIR, {"base_model_name_or_path": None}, "does not name its base"),
        (PAIR, {"base_model_name_or_path": "nobody/nothing"}, "the base of .* cannot be had: 'nobody/nothing'"),
        (PAIR, {"base_model_name_or_path": "lora"}, "cannot be had|does not name"),
        (PAIR, {"lora_alpha": "x"}, "cannot be merged"),
        (PAIR, {"lora_alpha": [[]]}, "cannot be merged"),
    ],
)  # fmt: skip
def test_what_is_no_plain_lora_of_its_base_is_refused(
    tensors: dict[str, torch.Tensor], config: dict[str, Any], said: str, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(UnusableModel, match=said):
        merged(adapter_of(tmp_path / "lora", str(base), tensors, **config), find_folder)
    assert not list((tmp_path / "cache").glob("stepwell/*"))


def test_pickled_weights_and_broken_files_are_refused(base: Path, tmp_path: Path) -> None:
    lora = adapter_of(tmp_path / "lora", str(base), PAIR)
    (lora / "adapter_model.safetensors").rename(lora / "adapter_model.bin")
    with pytest.raises(UnusableModel, match=r"has no adapter_model\.safetensors; weights in other formats"):
        merged(lora, find_folder)
    (lora / "adapter_model.safetensors").write_bytes(b"x" * 40)
    with pytest.raises(UnusableModel, match="cannot be read: SafetensorError"):
        merged(lora, find_folder)
    (lora / "adapter_config.json").write_text("[")
    with pytest.raises(UnusableModel, match="cannot be read: JSONDecodeError"):
        merged(lora, find_folder)


def test_a_quantised_base_and_an_adapter_of_an_adapter_are_refused(base: Path, tmp_path: Path) -> None:
    lora = adapter_of(tmp_path / "lora", str(base), PAIR)
    with pytest.raises(UnusableModel, match="is an adapter, too"):
        merged(adapter_of(tmp_path / "second", str(lora), PAIR), find_folder)
    configure(base, quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(UnusableModel, match="is quantised"):
        merged(lora, find_folder)
