"""What docs/strategies.md shows works."""

import re
import tomllib
from pathlib import Path

import pytest

from agent.interface.cli import main

PAGE = (Path(__file__).parents[1] / "docs" / "strategies.md").read_text(encoding="utf-8")
QUESTION = "14 with 1 3 7 10"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (source,) = re.findall(r"```python\n(# rounds.py\n.*?)```", PAGE, re.DOTALL)
    (tmp_path / "rounds.py").write_text(source)
    return tmp_path


def test_its_strategy_conforms_as_it_says(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ((command, expected),) = re.findall(r"\$ stepwell (.*)\n(.*)\n", PAGE)
    assert main(command.split()) == 0
    assert capsys.readouterr().out == f"{expected}\n"


def test_its_strategy_solves_and_its_knobs_are_checked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    solve = ["solve", "--env", "toy", QUESTION, "--strategy"]
    assert main([*solve, "rounds.py size=2"]) == 0
    assert main([*solve, "rounds.py size=0"]) == 2
    assert "'size' is 0; expected a whole number, at least 1" in capsys.readouterr().err


def test_its_entry_point_is_toml() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert tomllib.loads(text)["project"]["entry-points"]["stepwell.strategies"] == {"rounds": "rounds:Rounds"}
