"""What the README shows is true."""

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agent.interface.session.session import Session
from agent.interface.terminal.console import PlainConsole
from agent.recipes.recipe import load_recipe
from envs import Step, check_environment, load_environment

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def example(tmp_path: Path) -> Path:
    (source,) = (code for language, code in BLOCKS if language == "python" and code.startswith("# backwards.py"))
    path = tmp_path / "backwards.py"
    path.write_text(source)
    return path


def test_the_environment_of_the_readme_conforms(example: Path) -> None:
    check_environment(load_environment(str(example)))


def test_the_environment_of_the_readme_solves_its_problem(example: Path) -> None:
    environment = load_environment(str(example))
    state = environment.initial(environment.read("step"))
    for text in ("p", "e", "t", "s", "."):
        result = environment.step(state, Step(text))
        state = result.state
    assert result.status == "terminated"
    assert environment.check(state.problem, environment.answer(state) or "")


def test_continuous_integration_runs_the_test_command_of_the_readme() -> None:
    assert ".venv/bin/python -m pytest\n" in [code for _, code in BLOCKS]
    assert '"$bin/python" -m pytest' in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_links_lead_somewhere() -> None:
    for file in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", file.read_text(encoding="utf-8")):
            assert (file.parent / target).exists(), f"{file.name} links to {target}"


def test_the_steered_session_is_what_a_session_prints() -> None:
    """Its commands, typed into a pipe, print every line that is shown; what is left out is marked by dots."""
    (shown,) = (code for _, code in BLOCKS if code.startswith("> 1000 - 1"))
    file = io.StringIO()
    session = Session(load_recipe(), PlainConsole(file=file, width=100), echo=True)
    for line in shown.splitlines():
        if line.startswith("> "):
            session.handle(line[2:])
    printed = file.getvalue()
    for part in shown.split("...\n"):
        assert part.rstrip("\n") in printed
        printed = printed[printed.index(part.rstrip("\n")) :]


def test_the_python_of_the_page_on_steering_runs() -> None:
    page = (ROOT / "docs" / "steering.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"^```python\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)
    done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
