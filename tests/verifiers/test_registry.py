import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from envs.arithmetic import Arithmetic
from envs.messages import UsageError
from policies.models.errors import UnsupportedModel
from verifiers import registry
from verifiers.registry import check_options, load_verifier, verifier_names


def test_shipped_folders_are_listed_and_loaded_by_name(
    checkpoint: Callable[..., Path], chatter: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path)
    (tmp_path / "arithmetic-prm").symlink_to(checkpoint("verifier"))
    assert verifier_names() == ["arithmetic-prm", "confidence", "ensemble", "equations", "reward", "symbolic", "table"]
    assert load_verifier("arithmetic-prm", chatter).parameters > 0
    assert load_verifier("symbolic", Arithmetic()).parameters == 0
    with pytest.raises(
        ValueError,
        match=r"verifier 'symbolik' is not known; did you mean 'symbolic'\? Allowed: arithmetic-prm, confidence, ens",
    ):
        load_verifier("symbolik", chatter)


def test_a_folder_is_loaded_by_path(checkpoint: Callable[..., Path], chatter: Any) -> None:
    assert load_verifier(checkpoint("verifier"), chatter, device="cpu").name == checkpoint("verifier").name
    with pytest.raises(UnsupportedModel):
        load_verifier(str(checkpoint("policy")), chatter)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("folder", {"memory": "abc"}, "'memory' is 'abc'; expected a whole number, at least 0"),
        ("folder", {"memry": 1}, "has no option 'memry'; did you mean 'memory'? allowed: device, memory"),
        ("hf:any", {"votes": 0}, "'votes' is 0; expected a whole number, at least 1"),
        ("hf:any", {"coef": 0}, "'coef' is 0; expected a number, above 0"),
        ("hf:any", {"seperator": ";"}, "has no option 'seperator'; did you mean 'separator'?"),
        ("pooling:any", {"timout": 1}, "has no option 'timout'; did you mean 'timeout'?"),
        ("openai:any", {"patience": -1}, "'patience' is -1; expected a number, at least 0"),
        ("vllm:any", {"max_num_seqs": 0}, "'max_num_seqs' is 0; expected a whole number, at least 1"),
        ("symbolic", {"x": 1}, "verifier 'symbolic' has no option 'x'; it takes none"),
        ("ensemble", {"members": "table"}, "'members' is 'table'; expected a list"),
        ("ensemble", {"members": [{"name": "table", "shufle": 1}]}, "has no option 'shufle'; did you mean 'shuffle'?"),
        ("ensemble", {"members": [3]}, "'members[0]' is 3; expected a text or a mapping"),
        ("ensemble", {"members": [{"nam": "table"}]}, "expected a name, or a mapping with a 'name'"),
    ],
)
def test_wrong_options_are_one_clear_error_before_anything_is_loaded(
    name: str, options: dict[str, Any], message: str, checkpoint: Callable[..., Path], chatter: Any
) -> None:
    name = str(checkpoint("verifier")) if name == "folder" else name
    for check in (lambda: check_options(name, options), lambda: load_verifier(name, chatter, **options)):
        with pytest.raises(UsageError, match=re.escape(message)):
            check()
