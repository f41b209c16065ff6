"""New plug-in projects: what is written installs, is found by its name, conforms and solves; bad names are refused."""

import json
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

from agent.interface.cli import main
from agent.interface.new_environment import new_environment
from envs import check_environment, load_environment
from envs.messages import UsageError

ROOT = Path(__file__).parents[3]


def test_a_project_installs_in_a_fresh_environment_conforms_and_solves(tmp_path: Path) -> None:
    """Nothing is downloaded: the new virtual environment sees the packages of this one."""
    project = tmp_path / "word-sums"
    new_environment("word-sums", project)
    venv.create(tmp_path / "venv", with_pip=False)
    folder = "Scripts" if sys.platform == "win32" else "bin"
    python = tmp_path / "venv" / folder / "python"

    def run(*words: str, cwd: Path = tmp_path) -> str:
        done = subprocess.run([python, *words], cwd=cwd, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    packages = Path(run("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    paths = dict.fromkeys([str(ROOT), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    (packages / "parent.pth").write_text("\n".join(paths) + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--no-input"]
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    subprocess.run([*pip, "install", *offline, str(project)], check=True, timeout=120)
    (listed,) = [line.split() for line in run("-m", "agent.interface.cli", "envs").splitlines() if "word-sums" in line]
    assert listed == ["word-sums", "Sums,", "one", "addition", "per", "step.", "(stepwell-word-sums)"]
    assert (
        run("-m", "agent.interface.cli", "check-env", "word-sums")
        == "environment 'word-sums' conforms: no rule is broken\n"
    )
    solve = ["-m", "agent.interface.cli", "solve", "17 + 5 + 40", "--env", "word-sums", "--json"]
    solution = json.loads(run(*solve))  # with the recipe that came with it, in another folder
    assert (solution["answer"], solution["correct"]) == ("62", True)
    assert "2 passed" in run("-m", "pytest", "-p", "no:cacheprovider", "-q", cwd=project)


def test_what_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = tmp_path / "deep" / "sums"
    assert main(["new-env", "word-sums", "--folder", str(project)]) == 0
    out = capsys.readouterr().out
    files = [
        "pyproject.toml",
        "word_sums/__init__.py",
        "test_word_sums.py",
        "word_sums/configs/word-sums.yaml",
        "README.md",
    ]
    assert out.splitlines()[0] == f"{project}: {', '.join(files)}"
    assert sorted(str(file.relative_to(project)) for file in project.rglob("*") if file.is_file()) == sorted(files)
    points = tomllib.loads((project / "pyproject.toml").read_text())["project"]["entry-points"]["stepwell.envs"]
    assert points == {"word-sums": "word_sums:WordSums"}
    check_environment(load_environment(str(project / "word_sums" / "__init__.py")))


def test_what_is_there_is_never_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written = new_environment("sums")
    assert written[0] == Path("sums/pyproject.toml")
    written[0].write_text("mine")
    with pytest.raises(UsageError, match="sums is there already and not empty; give another --folder"):
        new_environment("sums")
    assert written[0].read_text() == "mine"
    Path("file").write_text("mine")
    with pytest.raises(UsageError, match="file is there already"):
        new_environment("other", Path("file"))
    Path("empty").mkdir()
    assert new_environment("other", Path("empty"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("WordSums", "joined by hyphens; did you mean 'word-sums'?"),
        ("word_sums", "joined by hyphens; did you mean 'word-sums'?"),
        ("Word sums", "joined by hyphens; did you mean 'word-sums'?"),
        ("24-game", "joined by hyphens; did you mean 'game'?"),
        ("../sums", "joined by hyphens; did you mean 'sums'?"),
        ("", "joined by hyphens"),
        ("--", "joined by hyphens"),
        ("class", "it is a word of Python"),
        ("toy", "there is one already (built in)"),
        ("json", "there is a Python module 'json' already"),
        ("policies", "there is a Python module 'policies' already"),
        ("prompt-toolkit", "there is a Python module 'prompt_toolkit' already"),
    ],
)
def test_names_that_will_not_do(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new-env", "--", name]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"stepwell: {name!r} cannot be the name of an environment")
    assert error.endswith(f"{message}\n")
    assert not list(tmp_path.iterdir())
