"""The guide to environments is true: its blocks make up an environment, and its commands print what it says."""

import io
import re
import shlex
import sys
from pathlib import Path

import pytest

from agent.interface.cli import main
from envs import check_environment, load_environment

GUIDE = (Path(__file__).resolve().parent.parent / "docs" / "environments.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", GUIDE, flags=re.DOTALL | re.MULTILINE)
PYTHON = [code for language, code in BLOCKS if language == "python"]
COMMANDS = [code.removeprefix("$ stepwell ").split("\n", 1) for language, code in BLOCKS if language == "console"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the file that the blocks make up, and with the one that forgets something."""
    source = "\n".join(code for code in PYTHON if not code.startswith("# test_"))
    left_out = ' or step.finish != "step"'
    assert f"`{left_out.strip()}`" in GUIDE
    assert left_out in source
    (tmp_path / "shop.py").write_text(source)
    (tmp_path / "forgetful.py").write_text(source.replace(left_out, ""))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_environment_of_the_guide_conforms(folder: Path) -> None:
    check_environment(load_environment(str(folder / "shop.py")))


def test_the_test_of_the_guide_passes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (test,) = (code for code in PYTHON if code.startswith("# test_shop.py"))
    (folder / "test_shop.py").write_text(test)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    module = __import__("test_shop")
    module.test_it_keeps_every_rule_that_search_relies_on()


@pytest.mark.parametrize(("command", "output"), COMMANDS, ids=[" ".join(each[0].split()[:2]) for each in COMMANDS])
def test_the_commands_of_the_guide_print_what_it_says(
    folder: Path, command: str, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(shlex.split(command))
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    said = output.splitlines()
    assert printed[: len(said)] == said
    assert code == ("breaks" in output)
    assert (command.startswith("new-env")) == (folder / "word-sums").is_dir()


def test_the_session_shows_what_the_shop_answers(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("fig + grape\n/tree\n/why 1\n"))
    assert main(["--env", "shop.py", "--policy", "scripted", "--verifier", "table", "--strategy", "beam"]) == 0
    out = capsys.readouterr().out
    assert out.count("price of fig → 12 cents") == 3  # in the solution, in the tree, in the node's path
    assert "answer  16  ✓ right" in out


def test_every_kind_of_command_is_shown() -> None:
    assert [command.split()[0] for command, _ in COMMANDS] == ["check-env", "check-env", "solve", "new-env"]
