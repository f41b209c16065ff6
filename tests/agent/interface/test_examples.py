"""The examples that help, errors and documents print are answered rightly: they are the first that people type."""

import json
import re
import shlex
from pathlib import Path

import pytest

from agent.interface.cli import EPILOG, main
from agent.recipes.recipe import load_recipe
from agent.solver import Solver
from envs.core import UnreadableQuestion

ROOT = Path(__file__).parents[3]
ELSEWHERE = ("--config", ".py")  # other models, and environments that the reader writes


def commands(text: str) -> list[str]:
    """The commands of a text that solve a question with what ships."""
    found = re.findall(r"stepwell (solve [^\n`]*)", text)
    return [each for each in found if '"' in each and not any(word in each for word in ELSEWHERE)]


TEXTS = {"help": EPILOG} | {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/repl.md")}
EXAMPLES = [(name, command) for name, text in TEXTS.items() for command in dict.fromkeys(commands(text))]


@pytest.mark.parametrize(("where", "command"), EXAMPLES)
def test_an_example_is_answered_rightly(where: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(command.split("  ")[0])
    assert main([*words, "--json"]) == 0, where
    assert json.loads(capsys.readouterr().out)["correct"], (where, command)


def test_there_are_examples_everywhere() -> None:
    assert {name for name, _ in EXAMPLES} == set(TEXTS)


@pytest.mark.parametrize("name", ["arithmetic", "countdown"])
def test_the_questions_that_an_error_suggests_are_answered_rightly(name: str) -> None:
    recipe = load_recipe(name)
    solver = Solver.from_recipe(recipe)
    with pytest.raises(UnreadableQuestion) as caught:
        solver.environment.read("hello")
    suggested = re.findall(r"'([^']*)'", str(caught.value).partition(" reads ")[2])
    assert len(suggested) > 1
    for question in suggested:
        assert solver.solve_recipe(solver.environment.read(question), recipe).correct, question
