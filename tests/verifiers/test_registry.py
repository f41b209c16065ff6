from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from envs.arithmetic import Arithmetic
from policies.models.errors import UnsupportedModel
from verifiers import registry
from verifiers.registry import load_verifier, verifier_names


def test_shipped_folders_are_listed_and_loaded_by_name(
    checkpoint: Callable[..., Path], chatter: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path)
    (tmp_path / "arithmetic-prm").symlink_to(checkpoint("verifier"))
    assert verifier_names() == ["arithmetic-prm", "ensemble", "reward", "symbolic", "table"]
    assert load_verifier("arithmetic-prm", chatter).parameters > 0
    assert load_verifier("symbolic", Arithmetic()).parameters == 0
    allowed = "arithmetic-prm, ensemble, reward, symbolic"
    with pytest.raises(ValueError, match=rf"no verifier 'symbolik'; allowed: {allowed}.*mean 'symbolic'"):
        load_verifier("symbolik", chatter)


def test_a_folder_is_loaded_by_path(checkpoint: Callable[..., Path], chatter: Any) -> None:
    assert load_verifier(checkpoint("verifier"), chatter, device="cpu").name == checkpoint("verifier").name
    with pytest.raises(UnsupportedModel):
        load_verifier(str(checkpoint("policy")), chatter)
