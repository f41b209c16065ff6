"""Folders of verifiers whose config.json says what no model can be: one sentence, and no traceback."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from verifiers.registry import load_verifier


@pytest.fixture
def folder(checkpoint: Callable[..., Path], tmp_path: Path) -> Path:
    made = Path(shutil.copytree(checkpoint("verifier"), tmp_path / "mine"))
    (made / "training.json").unlink(missing_ok=True)
    return made


@pytest.mark.parametrize("text", ["[]", "null", '"llama"', "[" * 100_000, "{", '{"a": ' + "9" * 6000 + "}"])
def test_a_configuration_that_is_none(text: str, folder: Path, chatter: Any) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"has no config\.json that can be read"):
        load_verifier(f"hf:{folder}", chatter)


@pytest.mark.parametrize("architectures", [5, [None], {}, [], [["LlamaForTokenClassification"]]])
def test_an_architecture_that_is_no_name(architectures: Any, folder: Path, chatter: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": architectures}))
    with pytest.raises(ValueError, match="holds a model without a name"):
        load_verifier(f"hf:{folder}", chatter, family="token-classification")
