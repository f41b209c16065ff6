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
import math
import random
import re
import warnings
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
from envs.math.answer_finder import stated_answer
from envs.math.answers import Algebra, find_answer, right_answer, same_answer
from envs.messages import nearest, with_line_feeds

MAX_QUESTION = 10_000  # characters
MAX_STEP = 20_000  # characters; the trajectory of a longer step is truncated
SAMPLES = Path(__file__).with_name("samples.jsonl")
CALIBRATION = 5  # one in so many questions of a train part

_QUESTION_KEYS = ("problem", "question")
_ANSWER_KEYS = (
    "answer",
    "answerkey",
    "answer_key",
    "final_answer",
    "expected_answer",
    "extracted_groundtruth",
    "ground_truth",
    "correct_answer",
    "reference_answer",
    "target",
    "solution",
)
_SUBJECT_KEYS = ("subject", "type")
_CHOICE_KEYS = ("choices", "options")
_HUB = re.compile(r"([\w.-]+/[\w.-]+)(?::([\w.-]+))?(?:@([\w.-]+))?", re.ASCII)
_TRAIN = re.compile(r"(?:^|[^a-z])train(?![a-z])", re.IGNORECASE)
_NUMERIC = re.compile(r"-?\d[\d.,]*", re.ASCII)
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
        stratified: whether each level has the same share of the problems that are drawn as of all there are, so that
            a part of a set is as hard as the whole.

    Raises:
        ValueError: for an option that cannot be, and for data that cannot be read: with the file and the line.
        ModuleNotFoundError: when sympy is not installed.
    """

    name = "math"

    def __init__(
        self,
        data: str | Path | Sequence[str | Path] = SAMPLES,
        delimiter: str = "\n\n",
        max_steps: int = 64,
        template: str = "{question}\n\n",
        levels: Sequence[int] = (),
        stratified: bool = False,
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
        self.stratified = stratified
        self._algebra = _algebra()
        self.splits: dict[Split, list[Problem]] = {split: [] for split in SPLITS}
        known: dict[str, tuple[Problem, Split]] = {}
        again = list[tuple[Problem, Problem]]()
        drawn = [entry for source in ([data] if isinstance(data, str | Path) else data) for entry in _load(source)]
        for problem, split in sorted(drawn, key=lambda entry: SPLITS.index(entry[1]), reverse=True):  # test first
            level = problem.meta.get("level")
            if problem.id in known:
                if known[problem.id][1] == split:
                    again.append((known[problem.id][0], problem))
                continue
            known[problem.id] = problem, split
            if not levels or level is None or level in levels:
                self.splits[split].append(problem)
        if again:
            self._report(again)

    def _report(self, again: Sequence[tuple[Problem, Problem]]) -> None:
        """Warn of questions that occur more than once in a split; raises ValueError where their answers differ."""
        for first, second in again:
            if first.answer != second.answer and not self.same(first.answer or "", second.answer or ""):
                raise ValueError(
                    f"the question {first.question[:60]!r} has two answers in the data, {first.answer!r} and "
                    f"{second.answer!r}; one row of each question is wanted"
                )
        text = again[0][0].question
        warnings.warn(
            f"{len(again)} questions occur again in the data and count once, the first is {text[:60]!r}", stacklevel=3
        )

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
        """Whether the answer is the gold answer, written in any way; the question decides what is ambiguous."""
        return problem.answer is not None and right_answer(problem.answer, answer, problem.question, self._algebra)

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
        chance = random.Random(f"{self.name}/{split}/{seed}")
        return _stratified(rows, n, chance) if self.stratified else chance.sample(rows, n)

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


def _stratified(rows: Sequence[Problem], n: int, chance: random.Random) -> list[Problem]:
    """`n` of the rows, of each level in proportion; what rounding leaves goes to the largest remainders."""
    levels: dict[Any, list[Problem]] = {}
    for problem in rows:
        levels.setdefault(problem.meta.get("level"), []).append(problem)
    shares = {level: divmod(n * len(group), len(rows)) for level, group in levels.items()}
    left = n - sum(whole for whole, _ in shares.values())
    more = sorted(shares, key=lambda level: -shares[level][1])[:left]
    drawn = [
        problem
        for level, group in levels.items()
        for problem in chance.sample(group, shares[level][0] + (level in more))
    ]
    return chance.sample(drawn, n)


@lru_cache(maxsize=1)
def _algebra() -> Algebra:
    """One process for all environments."""
    return Algebra()


def _is_readable(text: str) -> bool:
    return len(text) <= MAX_STEP and is_text(text)


def _problem(question: str, answer: str | None, meta: Mapping[str, Any]) -> Problem:
    text = with_line_feeds(question.strip())
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
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in _READERS)
        if not files:
            raise ValueError(f"there is no file of problems in {path}; {_READABLE}")
        for file in files:
            yield from _load(file)
    elif path.is_file():
        if path.suffix.lower() not in _READERS:
            raise ValueError(f"cannot read {path}: its name ends in {path.suffix!r}; {_READABLE}")
        try:
            rows = list(_READERS[path.suffix.lower()](path))
        except (ValueError, RecursionError, csv.Error) as error:
            raise ValueError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from None
        yield from _entries(rows, str(path), "train" if _TRAIN.search(path.stem) else "test")
    elif isinstance(source, str) and (named := _HUB.fullmatch(source)) and path.suffix.lower() not in _READERS:
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
    choices = _choices(fields)
    if choices:
        question = question.rstrip() + "\n" + "".join(f"\n({letter}) {text}" for letter, text in choices.items())
    subject = next((fields[key] for key in _SUBJECT_KEYS if key in fields), None)
    level = _LEVEL.fullmatch(str(fields.get("level", "")))
    meta = {"level": int(level[1])} if level else {}
    problem = _problem(question, _gold(fields, choices), meta | ({"subject": str(subject)} if subject else {}))
    split = fields.get("split")
    if split is None:
        return problem, _split_of(problem) if part == "train" else "test"
    if split not in SPLITS:
        raise ValueError(f"its split is {split!r}{nearest(str(split), SPLITS) or ';'} allowed: {', '.join(SPLITS)}")
    return problem, split


def _choices(fields: Row) -> dict[str, str]:
    """The texts to choose from by their letters: a list, texts by letter, or a list of labels and one of texts."""
    given = next((fields[key] for key in _CHOICE_KEYS if key in fields), None)
    if isinstance(given, Mapping):
        texts, labels = given.get("text"), given.get("label")
        given = (
            dict(zip(labels, texts, strict=False)) if isinstance(texts, list) and isinstance(labels, list) else given
        )
        letters = {str(letter).strip("().").upper(): str(text) for letter, text in given.items()}
        if all(len(letter) == 1 for letter in letters):
            return letters
        raise ValueError(f"the choices are called {', '.join(map(str, given))}; letters are wanted")
    if given is None:
        return {}
    if not isinstance(given, list) or not 1 < len(given) <= 26:
        raise ValueError(f"the choices are {str(given)[:60]!r}; a list of 2 to 26 texts is wanted")
    bare = [re.sub(r"^\s*\(?[A-Z][).:]\s+", "", str(text)) for text in given]
    return {chr(ord("A") + index): text.strip() for index, text in enumerate(bare)}


def _chosen(value: Any, choices: Mapping[str, str]) -> str:
    """The right choice with its text, from its letter, its text or its place (from 0)."""
    text = str(value).strip()
    places = list(choices)
    if (
        isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(places)
    ):  # a number of JSON is a place, also among numbers
        letter = places[value]
    else:
        letter = _letter(text, choices) or _letter(stated_answer(text) or "", choices)
        if not letter and text.isdecimal() and int(text) < len(places):
            letter = places[int(text)]
    if not letter:
        raise ValueError(f"its answer {text[:60]!r} is none of the choices {', '.join(choices)}")
    return f"({letter}) {choices[letter]}"


def _letter(text: str, choices: Mapping[str, str]) -> str:
    """The letter that a text is, that stands before a choice, or whose choice the text is; empty for others."""
    letter, _, rest = text.strip("(").partition(")" if ")" in text[:3] else ".")
    letter = letter.strip("(). ").upper()
    if letter in choices and rest.strip() in ("", choices[letter].strip()):
        return letter
    return next((each for each, words in choices.items() if words.strip() == text), "")


def _gold(fields: Row, choices: Mapping[str, str]) -> str:
    """The answer by itself, or the one that a worked solution states; raises ValueError if there is none."""
    key = next((key for key in _ANSWER_KEYS if key in fields), None)
    if key is None:
        raise ValueError(f"the fields are {', '.join(fields)}; one of {', '.join(_ANSWER_KEYS)} is needed")
    if choices:
        return _chosen(fields[key], choices)
    text = _text_of(fields[key], key)
    worked = key == "solution" and not _NUMERIC.fullmatch(text)
    answer = find_answer(text) if worked else stated_answer(text)
    if not answer:
        raise ValueError(f"its {key} states no answer: neither in a box nor after '####'")
    whole = _WHOLE.fullmatch(answer)
    return whole[1] if whole else answer  # 025 is how AIME writes 25, and 27.0 how AMC23 has 27


def _text_of(value: Any, key: str) -> str:
    """A text or a number as it is; the texts of a list with commas between them."""
    if isinstance(value, list) and value and not any(isinstance(each, list) for each in value):
        return ", ".join(_text_of(each, key) for each in value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"its {key} is {value}; a text or a number is wanted")
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value).strip()
    raise ValueError(f"its {key} is {json.dumps(value)[:60]}; a text, a number or a list of them is wanted")


def _split_of(problem: Problem) -> Split:
    return "calibration" if int(problem.id[-8:], 16) % CALIBRATION == 0 else "train"


def _read_lines(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8-sig") as file:
        if re.match(r"\s*\[\s*\{", file.read(200)):  # a list under another name
            yield from _read_list(path)
            return
        file.seek(0)
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError) as error:  # of JSON, of a number of too many digits, of nesting
                    raise ValueError(f"{path}, line {number}: {error}") from None


def _read_list(path: Path) -> Iterator[Any]:
    text = path.read_text(encoding="utf-8-sig")
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        if not error.msg.startswith("Extra data"):
            raise
        yield from _read_lines(path)  # JSON Lines under another name
        return
    if (
        isinstance(content, Mapping)
        and len(lists := [each for each in content.values() if isinstance(each, list)]) == 1
    ):
        (content,) = lists
    elif isinstance(content, Mapping) and any(str(key).lower() in _QUESTION_KEYS for key in content):
        content = [content]  # JSON Lines of one line
    if not isinstance(content, list):
        raise ValueError(f"{path} holds a {type(content).__name__}; a list of problems is wanted")
    yield from content


def _read_table(path: Path) -> Iterator[Any]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        for row in reader:
            if None in row:
                raise ValueError(
                    f"{path}, line {reader.line_num}: {len(row) - 1 + len(row[None])} fields where the header has "
                    f"{len(row) - 1}; a field with a comma needs quotation marks"
                )
            yield row


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
