r"""Free-form mathematics: any question, and an answer in a box.

A solution is text in steps, which blank lines separate; it ends with the first ``\boxed{...}`` or with a line
``#### 18`` (as GSM8K writes). What a model does not mark is read from its last line, "the answer is 18", once it says
that it is done. Answers are compared as mathematics, not as text (`envs.math.answers`).

Problems come from a file in the layout of MATH-500, AIME24, AMC23 or GSM8K, or from a hub; without one from a small
set of our own.
"""

from __future__ import annotations

import csv
import hashlib
import importlib
import importlib.util
import json
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from envs.core import (
    SPLITS,
    Problem,
    Split,
    State,
    Step,
    Transition,
    UnreadableQuestion,
    is_text,
    revision_prompt,
    termination,
    transition,
    truncation,
)
from envs.math.answers import Algebra, find_answer, same_answer
from envs.messages import nearest

MAX_QUESTION = 10_000  # characters
MAX_STEP = 20_000  # characters; the trajectory of a longer step is truncated
SAMPLES = Path(__file__).with_name("samples.jsonl")
CALIBRATION = 5  # one in so many questions of a train part

_QUESTION_KEYS = ("problem", "question")
_ANSWER_KEYS = ("answer", "extracted_groundtruth", "solution")
_SUBJECT_KEYS = ("subject", "type")
_HUB = re.compile(r"([\w.-]+/[\w.-]+)(?::([\w.-]+))?(?:@([\w.-]+))?", re.ASCII)
_TRAIN = re.compile(r"(?:^|[^a-z])train(?![a-z])", re.IGNORECASE)
_WHOLE = re.compile(r"0*(\d+)(?:\.0+)?", re.ASCII)
_LEVEL = re.compile(r"(?:Level )?(\d+)", re.ASCII)

Row = Mapping[str, Any]


class Math:
    r"""Free-form mathematics with answers in \boxed{}: MATH-500, AIME, AMC, GSM8K, or any question.

    Args:
        data: a file of problems (.jsonl, .json or .csv), a folder of such files, a list of both, or the id of a hub's
            dataset, ``owner/name`` with ``:configuration`` or ``@part`` where need be (with the package ``datasets``).
        delimiter: what separates steps.
        max_steps: depth at which a trajectory is truncated.
        template: the prompt, with ``{question}`` where the question goes.
        levels: of the problems that have a level, only those of these; all if empty.

    Raises:
        ValueError: for an option that cannot be, and for data that cannot be read: with the file and the line.
        ModuleNotFoundError: when math-verify is not installed.
    """

    name = "math"

    def __init__(
        self,
        data: str | Path | Sequence[str | Path] = SAMPLES,
        delimiter: str = "\n\n",
        max_steps: int = 64,
        template: str = "{question}\n\n",
        levels: Sequence[int] = (),
    ) -> None:
        if not delimiter or max_steps < 1:
            raise ValueError(
                f"delimiter {delimiter!r} and max_steps {max_steps} given; a text and at least 1 are needed"
            )
        if template.count("{question}") != 1:
            raise ValueError(f"template {template!r} given; it must hold {{question}} once")
        self.delimiter = delimiter
        self.max_steps = max_steps
        self.template = template
        self._algebra = _algebra()
        self.splits: dict[Split, list[Problem]] = {split: [] for split in SPLITS}
        known = set[str]()
        drawn = [entry for source in ([data] if isinstance(data, str | Path) else data) for entry in _load(source)]
        for problem, split in sorted(drawn, key=lambda entry: SPLITS.index(entry[1]), reverse=True):  # test first
            level = problem.meta.get("level")
            if (not levels or level is None or level in levels) and problem.id not in known:
                self.splits[split].append(problem)
            known.add(problem.id)

    # ------------------------------------------------------------------------------------------------- questions

    def read(self, question: str) -> Problem:
        """Take a question as it is, without a gold answer; raises `UnreadableQuestion` for what no model could read."""
        return _problem(question, None, {})

    def prompt(self, problem: Problem) -> str:
        """The template with the question in it."""
        return self.template.replace("{question}", problem.question)

    def revise(self, problem: Problem, attempts: Sequence[str]) -> str:
        """The attempts between two copies of the prompt, and what to do with them."""
        return revision_prompt(self.prompt(problem), attempts)

    # --------------------------------------------------------------------------------------------------- the MDP

    def initial(self, problem: Problem) -> State:
        """The state before the first step."""
        return State(problem)

    def step(self, state: State, step: Step) -> Transition:
        """A step that states the answer terminates; one that the policy ended or that was cut truncates."""
        after = state.then(step)
        if self.answer(after) is not None:
            return termination(after)
        goes_on = step.finish == "step" and len(after.steps) < self.max_steps and _is_readable(step.text)
        return transition(after) if goes_on else truncation(after)

    def answer(self, state: State) -> str | None:
        """The answer that the steps state, as the model wrote it."""
        if not state.steps or not _is_readable(state.steps[-1].text):
            return None
        return find_answer(self.delimiter.join(state.texts), state.steps[-1].finish)

    def check(self, problem: Problem, answer: str) -> bool:
        """Whether the answer is the gold answer, written in any way."""
        return problem.answer is not None and self.same(problem.answer, answer)

    def same(self, a: str, b: str) -> bool:
        """Whether two answers are the same mathematical object; a second of processor time at most, for any texts."""
        return same_answer(a, b, self._algebra)

    # -------------------------------------------------------------------------------------------------- problems

    def problems(self, split: Split, n: int, seed: int = 0) -> Sequence[Problem]:
        """`n` distinct problems of a split; the same arguments give the same problems.

        Raises:
            ValueError: for a split that is none, and when there are fewer problems than asked for.
        """
        if split not in SPLITS:
            raise ValueError(f"split {split!r} given; allowed: {', '.join(SPLITS)}")
        rows = self.splits[split]
        if n > len(rows):
            there = ", ".join(f"{len(self.splits[other])} of {other!r}" for other in SPLITS)
            raise ValueError(f"{n} problems of {split!r} asked for; in the data there are {there}")
        return random.Random(f"{self.name}/{split}/{seed}").sample(rows, n)

    # ------------------------------------------------------------------------------------------ for fakes and tests

    def options(self, state: State) -> Mapping[str, float]:
        """What a careless guesser writes: an operation on two numbers of the question, then its result in a box."""
        if state.steps:
            result = state.steps[-1].text.rpartition("= ")[2]
            return {rf"The answer is \boxed{{{result}}}.": 1.0}
        numbers = list(dict.fromkeys(re.findall(r"\d{1,9}", state.problem.question, re.ASCII)))[:8] or ["0"]
        pairs = [(int(a), int(b)) for a in numbers for b in numbers]
        steps = [(f"{a} + {b} = {a + b}", f"{a} - {b} = {a - b}", f"{a} * {b} = {a * b}") for a, b in pairs]
        return dict.fromkeys((step for three in steps for step in three), 1.0)


@lru_cache(maxsize=1)
def _algebra() -> Algebra:
    """One process for all environments."""
    return Algebra()


def _is_readable(text: str) -> bool:
    return len(text) <= MAX_STEP and is_text(text)


def _problem(question: str, answer: str | None, meta: Mapping[str, Any]) -> Problem:
    text = question.strip()
    if not any(character.isalnum() for character in text):
        raise UnreadableQuestion(f"cannot read {question[:60]!r}; a question in words or formulas is wanted")
    if len(text) > MAX_QUESTION:
        raise UnreadableQuestion(f"a question of {len(text)} characters; at most {MAX_QUESTION} are read")
    try:
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    except UnicodeEncodeError as error:
        raise UnreadableQuestion(f"cannot read {question[:60]!r}: {error.reason}") from None
    return Problem(f"{Math.name}/{digest}", text, answer, meta)


# ---------------------------------------------------------------------------------------------------------- loading


def _load(source: str | Path) -> Iterator[tuple[Problem, Split]]:
    """The problems of a file, a folder or a hub's dataset, with their splits; raises ValueError."""
    path = Path(source).expanduser()
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in _READERS)
        if not files:
            raise ValueError(f"there is no file of problems in {path}; {_READABLE}")
        for file in files:
            yield from _load(file)
    elif path.is_file():
        if path.suffix not in _READERS:
            raise ValueError(f"cannot read {path}: its name ends in {path.suffix!r}; {_READABLE}")
        try:
            rows = list(_READERS[path.suffix](path))
        except (UnicodeDecodeError, csv.Error, json.JSONDecodeError) as error:
            raise ValueError(f"{path}: {error}") from None
        yield from _entries(rows, str(path), "train" if _TRAIN.search(path.stem) else "test")
    elif isinstance(source, str) and (named := _HUB.fullmatch(source)) and path.suffix not in _READERS:
        yield from _from_hub(named[1], named[2], named[3])
    else:
        siblings = path.parent.iterdir() if path.parent.is_dir() else ()
        raise ValueError(f"there is no file {str(path)!r}{nearest(str(path), map(str, siblings))}")


def _entries(rows: Iterable[Any], where: str, part: str) -> Iterator[tuple[Problem, Split]]:
    for number, row in enumerate(rows, 1):
        try:
            yield _entry(row, part)
        except ValueError as error:
            raise ValueError(f"{where}, problem {number}: {error}") from None


def _entry(row: Any, part: str) -> tuple[Problem, Split]:
    if not isinstance(row, Mapping):
        raise ValueError(f"an object with fields is wanted, not a {type(row).__name__}")
    fields = {str(key).lower(): value for key, value in row.items() if value not in (None, "")}
    question = next((fields[key] for key in _QUESTION_KEYS if key in fields), None)
    if not isinstance(question, str):
        raise ValueError(f"the fields are {', '.join(fields)}; one of {', '.join(_QUESTION_KEYS)} must hold a text")
    subject = next((fields[key] for key in _SUBJECT_KEYS if key in fields), None)
    level = _LEVEL.fullmatch(str(fields.get("level", "")))
    meta = {"level": int(level[1])} if level else {}
    problem = _problem(question, _gold(fields), meta | ({"subject": str(subject)} if subject else {}))
    split = fields.get("split")
    if split is None:
        return problem, _split_of(problem) if part == "train" else "test"
    if split not in SPLITS:
        raise ValueError(f"its split is {split!r}{nearest(str(split), SPLITS)} allowed: {', '.join(SPLITS)}")
    return problem, split


def _gold(fields: Row) -> str:
    """The answer by itself, or the one that a worked solution states; raises ValueError if there is none."""
    key = next((key for key in _ANSWER_KEYS if key in fields), None)
    if key is None:
        raise ValueError(f"the fields are {', '.join(fields)}; one of {', '.join(_ANSWER_KEYS)} is needed")
    text = str(fields[key]).strip()
    answer = find_answer(text) if key == "solution" or "####" in text else text
    if not answer:
        raise ValueError(f"its {key} states no answer: neither in a box nor after '####'")
    whole = _WHOLE.fullmatch(answer)
    return whole[1] if whole else answer  # 025 is how AIME writes 25, and 27.0 how AMC23 has 27


def _split_of(problem: Problem) -> Split:
    return "calibration" if int(problem.id[-8:], 16) % CALIBRATION == 0 else "train"


def _read_lines(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield json.loads(line)
                except json.JSONDecodeError as error:
                    raise ValueError(f"{path}, line {number}: {error}") from None


def _read_list(path: Path) -> Iterator[Any]:
    content = json.loads(path.read_text(encoding="utf-8-sig"))
    if not isinstance(content, list):
        raise ValueError(f"{path} holds a {type(content).__name__}; a list of problems is wanted")
    yield from content


def _read_table(path: Path) -> Iterator[Any]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        yield from csv.DictReader(file)


_READERS = {".csv": _read_table, ".json": _read_list, ".jsonl": _read_lines}
_READABLE = f"files that end in {', '.join(_READERS)} are read"


def _from_hub(name: str, configuration: str | None, part: str | None) -> Iterator[tuple[Problem, Split]]:
    """What the package `datasets` gets. A "train" that was not asked for is a test if it is all there is."""
    if importlib.util.find_spec("datasets") is None:
        raise ValueError(
            f"there is no file or folder {name!r} here, and to read it from a hub takes: pip install datasets"
        )
    datasets = importlib.import_module("datasets")
    try:
        parts = datasets.load_dataset(name, configuration)
    except Exception as error:  # of many kinds, those of the network among them
        raise ValueError(f"{name!r} cannot be had from the hub: {type(error).__name__}: {error}") from None
    if part is not None and part not in parts:
        raise ValueError(f"{name!r} has no part {part!r}{nearest(part, parts)} (its parts: {', '.join(parts)})")
    for each in parts if part is None else [part]:
        trains = each == "train" and (part is not None or "test" in parts)
        yield from _entries(parts[each], f"{name} ({each})", "train" if trains else "test")
