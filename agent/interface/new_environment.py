"""A new plug-in project: an environment that runs as it is, with its recipe, its test and what installs it."""

from __future__ import annotations

import importlib.util
import keyword
import re
from pathlib import Path
from string import Template

from envs.messages import UsageError
from envs.registry import list_environments

NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")


def new_environment(name: str, folder: Path | None = None) -> list[Path]:
    """Write the project of a new environment.

    Args:
        name: of the environment, in lower-case words joined by hyphens. Its module is called the same, with
            underscores.
        folder: of the project; one called as the environment, here, if not given. It may exist if it is empty.

    Returns:
        The files that were written.

    Raises:
        UsageError: for a name that will not do or is taken, and for a folder with something in it.
    """
    folder = Path(name) if folder is None else folder
    _check_name(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already and not empty; give another --folder")
    words = name.split("-")
    values = {"name": name, "module": "_".join(words), "kind": "".join(word.capitalize() for word in words)}
    written = []
    for path, template in _FILES.items():
        file = folder / Template(path).substitute(values)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(Template(template).substitute(values), encoding="utf-8")
        written.append(file)
    return written


def _check_name(name: str) -> None:
    wrong = f"{name!r} cannot be the name of an environment"
    if not NAME.fullmatch(name):
        better = "-".join(re.findall(r"[a-z][a-z0-9]*", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()))
        hint = f"; did you mean {better!r}?" if better else ""
        raise UsageError(f"{wrong}; allowed: lower-case words of letters and digits, joined by hyphens{hint}")
    for entry in list_environments():
        if entry.name == name:
            raise UsageError(f"{wrong}: there is one already ({entry.source})")
    module = name.replace("-", "_")
    if keyword.iskeyword(module) or keyword.issoftkeyword(module):
        raise UsageError(f"{wrong}: it is a word of Python")
    spec = importlib.util.find_spec(module)
    if spec is not None and spec.origin is not None:
        raise UsageError(f"{wrong}: there is a Python module {module!r} already")


_PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "stepwell-$name"
version = "0.1.0"
description = "The environment $name for Stepwell."
requires-python = ">=3.11"
dependencies = ["stepwell"]

[project.entry-points."stepwell.envs"]
$name = "$module:$kind"

[tool.setuptools.packages.find]
include = ["$module*"]

[tool.setuptools.package-data]
"*" = ["*.yaml", "*.json"]
"""

_ENVIRONMENT = '''\
"""Sums, one addition per step: a place to start from. Keep the methods, and replace what they say."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

from envs import (
    Problem,
    Split,
    State,
    Step,
    Transition,
    UnreadableQuestion,
    split_of,
    termination,
    transition,
    truncation,
)

_QUESTION = re.compile(r"\\d{1,3}(?: \\+ \\d{1,3}){1,5}", re.ASCII)
_LINE = re.compile(r"(\\d{1,6}) \\+ (\\d{1,3}) = (\\d{1,6})", re.ASCII)


class $kind:
    """Sums, one addition per step."""

    name = "$name"
    delimiter = "\\n"
    max_steps = 6

    # ------------------------------------------------------------------------------------------- what a problem is

    def read(self, question: str) -> Problem:
        """Read a question as a person types it."""
        if not _QUESTION.fullmatch(question):
            raise UnreadableQuestion(f"{question!r} given; two to six numbers are wanted, such as '17 + 5 + 40'")
        return Problem(f"{self.name}/{question}", question, str(sum(_numbers(question))))

    def problems(self, split: Split, n: int, seed: int = 0) -> Sequence[Problem]:
        """Draw problems. The split is a property of the question, so that no two splits share one."""
        rng, chosen = random.Random(f"{self.name}/{split}/{seed}"), dict[str, Problem]()
        while len(chosen) < n:
            question = " + ".join(str(rng.randint(1, 99)) for _ in range(rng.randint(2, 6)))
            if split_of(question, 5) == split:
                chosen[question] = self.read(question)
        return list(chosen.values())

    def prompt(self, problem: Problem) -> str:
        """What a model reads before its first step."""
        return f"{problem.question}\\n"

    # ------------------------------------------------------------------------------------------- what a step does

    def initial(self, problem: Problem) -> State:
        """Nothing added yet."""
        return State(problem)

    def step(self, state: State, step: Step) -> Transition:
        """An addition goes on, the last one terminates, and whatever else a model may write truncates.

        The reward, in [0, 1], is what an environment can honestly tell of a step: here, whether the sum is right. It
        may be left out. `--verifier reward` scores steps by it.
        """
        after = state.then(step)
        totals, numbers = _totals(after), _numbers(state.problem.question)
        if totals is None:
            return truncation(after)
        reward = 0.9 if totals[-1] == sum(numbers[: len(totals)]) else 0.1
        if self.answer(after) is not None:
            return termination(after, reward)
        return transition(after, reward) if step.finish == "step" else truncation(after, reward)

    # ------------------------------------------------------------------------------------------- which answer is right

    def answer(self, state: State) -> str | None:
        """The last total, once every number was added."""
        totals = _totals(state)
        return str(totals[-1]) if totals is not None and len(totals) == len(_numbers(state.problem.question)) else None

    def check(self, problem: Problem, answer: str) -> bool:
        """Whether an answer is right; never, if the gold answer is not known."""
        return problem.answer is not None and self.same(problem.answer, answer)

    def same(self, a: str, b: str) -> bool:
        """Whether two answers are one, for votes."""
        return a.strip() == b.strip()

    # ------------------------------------------------------- not needed: to solve without a model, and to train one

    def options(self, state: State) -> Mapping[str, float]:
        """Steps that somebody might take, with weights: what `--policy scripted` draws from."""
        totals, numbers = _totals(state), _numbers(state.problem.question)
        if totals is None or len(totals) >= len(numbers):
            return {}
        number = numbers[len(totals)]
        guesses = {0: 8.0, 1: 1.0, 10: 1.0}  # mostly right, at times one too many, or ten
        return {f"{totals[-1]} + {number} = {totals[-1] + number + more}": weight for more, weight in guesses.items()}

    def demonstrate(self, problem: Problem, rng: random.Random) -> tuple[str, ...]:
        """A worked solution: what `stepwell train policy` learns from."""
        numbers = _numbers(problem.question)
        sums = [sum(numbers[: end + 1]) for end in range(len(numbers))]
        return tuple(f"{a} + {b} = {a + b}" for a, b in zip(sums, numbers[1:], strict=False))


def _numbers(question: str) -> list[int]:
    return [int(number) for number in question.split(" + ")]


def _totals(state: State) -> list[int] | None:
    """The first number, then the total that each step claims; None after a step that is no addition."""
    first, *others = _numbers(state.problem.question)
    totals = [first]
    for step, number in zip(state.steps, others, strict=False):
        line = _LINE.fullmatch(step.text)
        if line is None or step.finish == "length" or (int(line[1]), int(line[2])) != (totals[-1], number):
            return None
        totals.append(int(line[3]))
    return totals

'''

_TEST = """\
from $module import $kind

from envs import check_environment, load_environment


def test_it_keeps_every_rule_that_search_relies_on() -> None:
    check_environment($kind())


def test_it_is_found_by_its_name() -> None:
    assert isinstance(load_environment("$name"), $kind)
"""

_RECIPE = """\
# How to solve `$name` when nothing else is said: `stepwell solve ... --env $name`, in any folder.
environment: $name
policy: scripted # draws from `options`; or the folder of a model
verifier: reward # what `step` gives; or the folder of a model, or none
strategy: beam
budget: {samples: 8}
"""

_README = """\
# $name

An environment for Stepwell, in `$module/__init__.py`.

```
python -m pip install --editable .
stepwell check-env $name
stepwell solve "17 + 5 + 40" --env $name
python -m pytest
```

`$module/configs/$name.yaml` says what it is solved with. It is part of the package, and so are plans in
`$module/configs/plans/` (`stepwell calibrate ... --out`): who installs the environment has them.
"""

_FILES = {
    "pyproject.toml": _PYPROJECT,
    "$module/__init__.py": _ENVIRONMENT,
    "test_$module.py": _TEST,
    "$module/configs/$name.yaml": _RECIPE,
    "README.md": _README,
}
