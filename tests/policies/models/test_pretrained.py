"""What people bring is loaded whole, quietly and without code of its own, or refused in one sentence."""

import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, Qwen2Config

from policies.models.checkpoints import find_folder, load_checkpoint
from policies.models.pretrained import (
    UnusableModel,
    check_tokenizer,
    growth,
    highest_id,
    load_tokenizer,
    panics,
    quietly,
)
from tests.policies.models.brought import change, configure, folder_of


def load(folder: Path) -> Any:
    return load_checkpoint(folder, "cpu", "float32")[1]


def test_missing_tensors_are_refused_by_name(tmp_path: Path) -> None:
    layer = "model__layers__1__mlp__down_proj__weight"
    with pytest.raises(UnusableModel, match=r"lacks 1 tensors of its architecture: lm_head\.weight"):
        load(change(folder_of(tmp_path / "head"), lm_head__weight=None))
    with pytest.raises(UnusableModel, match=r"lacks 1 tensors .*: model\.layers\.1\.mlp\.down_proj\.weight"):
        load(change(folder_of(tmp_path / "layer"), **{layer: None}))
    with pytest.raises(UnusableModel, match=r"lacks 9 tensors .*: model\.layers\.2\."):
        load(configure(folder_of(tmp_path / "deeper"), num_hidden_layers=3))


def test_missing_shards_and_short_indices_are_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "sharded", shards="60kB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    assert load(folder) is not None
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    lost = index["weight_map"]["model.layers.0.mlp.down_proj.weight"]
    kept = {name: file for name, file in index["weight_map"].items() if file != lost}
    configure(folder, "model.safetensors.index.json", weight_map=kept)
    with pytest.raises(UnusableModel, match=r"lacks \d+ tensors .*model\.layers\.0\."):
        load(folder)
    configure(folder, "model.safetensors.index.json", weight_map=index["weight_map"])
    next(folder.glob("model-00002*")).unlink()
    with pytest.raises(UnusableModel, match="cannot load"):
        load(folder)


def test_tied_weights_are_not_missing(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "tied", tie_word_embeddings=True)
    assert load(folder).get_output_embeddings().weight is not None
    plain = folder_of(tmp_path / "named")
    from safetensors.torch import load_file, save_file

    weights = {name.removeprefix("model."): tensor for name, tensor in load_file(plain / "model.safetensors").items()}
    save_file(weights, plain / "model.safetensors", {"format": "pt"})
    assert load(plain) is not None  # names without the prefix


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(value: float, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "nan", LlamaConfig)
    broken = torch.zeros(32, 64)
    broken[3, 5] = value
    change(folder, model__layers__0__mlp__down_proj__weight=broken)
    with pytest.raises(UnusableModel, match=r"1 tensors that are not finite numbers: model\.layers\.0\.mlp\.down_proj"):
        load(folder)


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "small", vocab_size=300)
    with pytest.raises(UnusableModel, match=r"the tokenizer of .* has \d+ tokens and its model 300"):
        load(folder)
    tokenizer = load_tokenizer(folder_of(tmp_path / "padded"))
    known = highest_id(tokenizer) + 1
    assert known < len(tokenizer)  # its control tokens come last
    assert load(folder_of(tmp_path / "without controls", vocab_size=known)) is not None


def test_a_folder_without_a_tokenizer_says_so(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "bare")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(UnusableModel, match="tokenizer"):
        load(folder)


def _auto(kind: str, folder: Path) -> None:
    named = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model", "AutoTokenizer": ["own.Tok", None]}
    (folder / "own.py").write_text(f"open({str(folder / 'RAN')!r}, 'w')\nclass Config: pass\nclass Model: pass\n")
    if kind == "tokenizer":
        configure(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Tok", None]}, tokenizer_class="Tok")
    else:
        configure(folder, model_type="strange", auto_map=named)


@pytest.mark.parametrize("kind", ["model", "tokenizer"])
def test_code_that_comes_with_a_model_is_neither_run_nor_asked_about(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: Any) -> str:
        raise AssertionError("a question was asked")

    monkeypatch.setattr("builtins.input", asked)
    folder = folder_of(tmp_path / "own code")
    _auto(kind, folder)
    with pytest.raises(UnusableModel, match="needs code of its own, and no code that comes with a model is run"):
        load(folder)
    assert not (folder / "RAN").exists()


def test_loading_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = folder_of(tmp_path / "sharded", Qwen2Config, shards="60kB")
    configure(folder, architectures=["Qwen2ForCausalLM"], torch_dtype="float32", rope_scaling=None)
    capfd.readouterr()
    load(folder)
    assert capfd.readouterr() == ("", "")


def test_quiet_ends_where_it_ends() -> None:
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled
    from transformers.utils import logging as bars

    logger = logging.getLogger("transformers")
    before = logger.level, bars.is_progress_bar_enabled(), are_progress_bars_disabled()
    with quietly():
        warnings.warn("nobody hears this", stacklevel=1)
        assert not logger.isEnabledFor(logging.ERROR)
        assert not bars.is_progress_bar_enabled()
    assert before == (logger.level, bars.is_progress_bar_enabled(), are_progress_bars_disabled())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", "{"), ("config.json", "[]"), ("config.json", '{"model_type": "llama", "hidden_size": "x"}'),
        ("config.json", '{"model_type": 5}'), ("tokenizer.json", "{}"), ("tokenizer.json", "[" * 100_000),
        ("tokenizer.json", '{"normalizer": 5}'), ("model.safetensors", "x" * 99),
        ("model.safetensors", "\x08\0\0\0\0\0\0\0{\"a\": 1}"),
    ],
)  # fmt: skip
def test_files_that_are_none_are_one_sentence(name: str, content: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "broken")
    (folder / name).write_text(content)
    with pytest.raises(UnusableModel) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def _replace(pattern: Any, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def test_a_tokenizer_that_makes_texts_too_long_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "long")
    growing = [_replace({"String": "a"}, "a" * 80)] * 6
    configure(folder, "tokenizer.json", normalizer={"type": "Sequence", "normalizers": growing})
    with pytest.raises(UnusableModel, match=r"makes texts up to 2\.62e\+11 times as long; at most 4096"):
        load(folder)


@pytest.mark.parametrize(
    ("part", "times"),
    [
        (None, 1), ({"type": "NFC"}, 1), ({"type": "NFKD"}, 18),
        (_replace({"String": " "}, "▁"), 3), (_replace({"String": "``"}, '"'), 1),
        (_replace({"Regex": " {2,}"}, "▁"), 4),
        ({"type": "Prepend", "prepend": "▁"}, 4),
        ({"type": "Sequence", "decoders": [_replace({"String": "a"}, "bb"), _replace({"String": "b"}, "cc")]}, 4),
    ],
)  # fmt: skip
def test_growth_is_counted_in_bytes(part: Any, times: float) -> None:
    assert growth(part) == times


def test_the_tokenizers_of_this_house_pass(checkpoint: Callable[..., Path]) -> None:
    check_tokenizer(checkpoint("policy"))


def test_a_panic_is_an_unusable_model() -> None:
    class PanicException(BaseException):
        pass

    with pytest.raises(UnusableModel, match="the tokenizer of here fails: PanicException: too deep"), panics("here"):
        raise PanicException("too deep")
    with pytest.raises(KeyboardInterrupt), panics("here"):
        raise KeyboardInterrupt


def test_a_hubs_id_is_found_where_it_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    revision = "0" * 40
    kept = tmp_path / "models--someone--model"
    folder_of(kept / "snapshots" / revision)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(revision)
    asked: dict[str, Any] = {}

    def download(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        return str(kept / "snapshots" / revision)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert load_checkpoint("someone/model", "cpu", "float32")[1].config.hidden_size == 32
    assert asked["name"] == "someone/model"
    assert "*.safetensors" in asked["allow_patterns"]


def test_what_is_nowhere_is_said(tmp_path: Path) -> None:
    (tmp_path / "qwen").mkdir()
    with pytest.raises(UnusableModel, match=r"there is no folder .*qwem'; did you mean .*qwen'"):
        find_folder(tmp_path / "qwem")
    with pytest.raises(UnusableModel, match="'nobody/nothing' is no folder here and cannot be had from the hub"):
        find_folder("nobody/nothing")
