from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from envs.llama import UnsupportedModel
from policies import registry
from policies.registry import WEIGHTS, load_policy, policy_names
from verifiers import registry as verifier_registry


def test_shipped_folders_are_listed_and_loaded_by_name(
    checkpoint: Callable[..., Path], chatter: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path)
    for name in ("arithmetic-s", "arithmetic-m"):
        (tmp_path / name).symlink_to(checkpoint("policy"))
    (tmp_path / "notes").mkdir()
    assert policy_names() == ["arithmetic-m", "arithmetic-s", "scripted"]
    assert load_policy("arithmetic-m", chatter).parameters > 0
    with pytest.raises(
        ValueError, match=r"no policy 'aritmetic-m'; allowed: arithmetic-m, .*did you mean 'arithmetic-m'"
    ):
        load_policy("aritmetic-m", chatter)


def test_a_folder_is_loaded_by_path_with_options(checkpoint: Callable[..., Path], chatter: Any) -> None:
    policy = load_policy(checkpoint("policy"), chatter, step_tokens=5, device="cpu")
    assert policy.name == checkpoint("policy").name
    with pytest.raises(UnsupportedModel):
        load_policy(str(checkpoint("verifier")), chatter)


@pytest.mark.parametrize(
    "folder",
    [file.parent for weights in (WEIGHTS, verifier_registry.WEIGHTS) for file in weights.glob("*/config.json")],
    ids=lambda folder: folder.name,
)
def test_other_libraries_begin_a_text_as_the_shipped_models_were_trained(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    plain = tokenizer("1 + 1\n", add_special_tokens=False)["input_ids"]
    assert tokenizer("1 + 1\n")["input_ids"] == [tokenizer.bos_token_id, *plain]
