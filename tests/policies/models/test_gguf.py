"""GGUF files: dequantised once, quietly, and whole or not at all."""

import importlib.util
from pathlib import Path

import pytest
import torch
from transformers import Qwen2Config

from policies.models import gguf
from policies.models.checkpoints import load_checkpoint
from policies.models.gguf import dequantized
from policies.models.pretrained import UnusableModel
from tests.policies.models.brought import folder_of, gguf_of

pytestmark = pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="gguf is not installed")


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that the log gets."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    lines: list[str] = []
    monkeypatch.setattr(
        "policies.models.made_once.logger.info", lambda form, *values: lines.append(form.format(*values))
    )
    return lines


@pytest.mark.parametrize("tied", [True, False])
def test_a_file_is_the_model_it_was_made_of(
    tied: bool, said: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = folder_of(tmp_path / "source", Qwen2Config, tie_word_embeddings=tied)
    file = gguf_of(tmp_path / "tiny.gguf", source)
    capfd.readouterr()
    tokenizer, model = load_checkpoint(file, "cpu", "float32")
    assert capfd.readouterr() == ("", "")  # no bar, no warning
    assert len(said) == 1
    assert "dequantising tiny.gguf (0 MB), once; kept in" in said[0]
    theirs, original = load_checkpoint(source, "cpu", "float32")
    ids = tokenizer("What is 2 + 3?").input_ids
    assert ids == theirs("What is 2 + 3?").input_ids
    assert tokenizer.chat_template == theirs.chat_template
    with torch.inference_mode():
        a, b = (each(torch.tensor([ids])).logits for each in (model, original))
    torch.testing.assert_close(a, b, rtol=0, atol=0.05 * float(b.abs().max()))


def test_it_is_dequantised_once_and_again_when_it_is_another_file(
    said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = folder_of(tmp_path / "source", Qwen2Config)
    first = dequantized(gguf_of(tmp_path / "tiny.gguf", source))
    (tmp_path / "elsewhere").mkdir()
    other = dequantized(gguf_of(tmp_path / "tiny.gguf", folder_of(tmp_path / "other", Qwen2Config, seed=1)))
    assert first != other
    monkeypatch.setattr(gguf, "_dequantize", None)  # nothing is done again
    copy = tmp_path / "elsewhere" / "tiny.gguf"
    copy.write_bytes((tmp_path / "tiny.gguf").read_bytes())
    assert dequantized(copy) == other
    assert len(said) == 2


def test_a_file_that_lacks_tensors_is_refused_by_their_name(said: list[str], tmp_path: Path) -> None:
    source = folder_of(tmp_path / "source", Qwen2Config)
    file = gguf_of(tmp_path / "less.gguf", source, leave_out="ffn_up")
    with pytest.raises(UnusableModel, match=r"cannot read .*less\.gguf.* lacks 2 tensors .*layers\.0\.mlp\.up_proj"):
        dequantized(file)
    assert list((tmp_path / "cache" / "stepwell").iterdir()) == []
