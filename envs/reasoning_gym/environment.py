"""Any task of reasoning-gym as an environment: ``load_environment("reasoning-gym", task="jugs")``.

Where a task can be solved step by step with every step checked, it is: `Stepwise` puts its problems into the
environment that knows the steps. All others are `SingleAnswer`: free text, and an answer at the end. The tasks have
scorers, and these have traps:

* They give part marks, and full marks to many a wrong answer: `envs.reasoning_gym.answers` decides which are right.
* Some run the answer as Python code: those are never asked about an answer.
* Some take hours over a number such as 1e999999999: that is no right answer.
* Some tasks have entries whose own answer is wrong, or that any answer is right for: those are passed over. `FAULTY`
  lists the tasks that are refused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import random
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

from envs.arithmetic import Arithmetic
from envs.core import (
    SPLITS,
    Environment,
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
from envs.countdown import HELD_OUT, Countdown
from envs.messages import nearest, require
from envs.reasoning_gym.answers import is_right, is_sound, says_the_same
from envs.reasoning_gym.puzzles import PUZZLES, RIGHT, Moves
from envs.splits import split_of

require("reasoning-gym", "reasoning_gym")  # imported where it is used: it takes a second or more

NAME = "reasoning-gym"
ANSWER_MARK = "####"
MAX_QUESTION = 50_000  # characters
MAX_STEP = 20_000
POOL = 20_000  # entries that problems are drawn from
POOLS = {"acre": 500}  # makes all its entries at once
PATIENCE = 500  # draws in a row that bring no new problem

_NO_GOLD = "it has no answers to check against"
_RUNS = "its scorer runs the answer as Python code"
_CHANGES = "its questions change from one run of Python to the next"
FAULTY: dict[str, str] = {
    "boxnet": _NO_GOLD,
    "composite": "it is a mixture of other tasks; name one of those",
    "game_of_life_halting": "its scorer takes any answer that is not empty for a right one",
    "intermediate_integration": _RUNS,
    "isomorphic_strings": _CHANGES,
    "list_functions": _CHANGES,
    "polynomial_multiplication": f"{_RUNS}, and {_CHANGES}",
    "ransom_note": _CHANGES,
    "rush_hour": _NO_GOLD,
    "simple_integration": _RUNS,
}
"""The tasks that are refused, and why."""

SAMPLES = {
    "graph_color": "possible_answer",
    "propositional_logic": "example_answer",
    "rubiks_cube": "example_correct_answer",
}
"""Tasks with many right answers, and where one of them is found in their metadata."""

ABSURD = {"propositional_logic": "(P ∧ ¬P)"}
"""Answers that are wrong in any case: an entry of the task whose scorer takes this one for right is passed over."""

INNER: dict[str, Callable[[], Any]] = {
    "basic_arithmetic": Arithmetic,
    "chain_sum": Arithmetic,
    "countdown": Countdown,
    "puzzle24": Countdown,
    "simple_equations": Arithmetic,
    **{task: partial(Moves, kind) for task, kind in PUZZLES.items()},
}
"""Tasks whose steps are checked one by one, and the environment that does it."""


def load_task(task: str = "chain_sum", config: Mapping[str, Any] | None = None) -> Environment:
    """Any task of reasoning-gym; some with steps checked one by one.

    Args:
        task: its name there, such as ``jugs``.
        config: options of the task, such as ``{"num_jugs": 4}``.

    Raises:
        ValueError: no such task or option, a wrong value, or a task of `FAULTY`.
    """
    source = Source(task, json.dumps(dict(config or {}), sort_keys=True))
    return Stepwise(source) if task in INNER else SingleAnswer(source)


# -------------------------------------------------------------------------------------------------------------- source


def tasks() -> list[str]:
    """The names of all tasks but the faulty ones."""
    from reasoning_gym.factory import DATASETS

    return sorted(set(DATASETS) - set(FAULTY))


@lru_cache(maxsize=64)
def _dataset(task: str, config: str) -> Any:
    """The task's generator; entry n is always the same."""
    import reasoning_gym

    with _quiet():
        return reasoning_gym.create_dataset(task, seed=0, size=POOLS.get(task, POOL), **json.loads(config))


@lru_cache(maxsize=1 << 12)
def _entry(task: str, config: str, index: int) -> Mapping[str, Any]:
    with _quiet():
        entry: Mapping[str, Any] = _dataset(task, config)[index]
    return entry


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings, and nothing printed: the tasks do both, and threads of theirs print their errors."""
    nowhere = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        warnings.simplefilter("ignore")
        yield


class Source:
    """The entries of one task.

    Args:
        task: its name.
        config: its options, as JSON.
    """

    def __init__(self, task: str, config: str = "{}") -> None:
        from reasoning_gym.factory import DATASETS

        if task in FAULTY:
            raise ValueError(f"the task {task!r} of reasoning-gym is refused: {FAULTY[task]}")
        if task not in DATASETS:
            raise ValueError(f"task {task!r} is not known{nearest(task, tasks()) or ';'} allowed: {', '.join(tasks())}")
        allowed = [field.name for field in dataclasses.fields(DATASETS[task][1]) if field.name not in ("seed", "size")]
        for option in json.loads(config):
            if option not in allowed:
                raise ValueError(f"{task} has no option {option!r}{nearest(option, allowed)} (allowed: {allowed})")
        self.task, self.config = task, config
        try:
            _dataset(task, config)
        except (AssertionError, ValueError, TypeError) as error:
            raise ValueError(f"{task} cannot be made with {config}: {error}") from None

    def entry(self, index: int) -> Mapping[str, Any]:
        """One entry, as the task makes it."""
        return _entry(self.task, self.config, index)

    def gold(self, index: int) -> str:
        """A right answer; empty if the entry has none."""
        entry = self.entry(index)
        answer = entry["metadata"][SAMPLES[self.task]] if self.task in SAMPLES else entry["answer"]
        return json.dumps(answer) if isinstance(answer, dict) else str(answer).strip("\n")

    def accepts(self, index: int, answer: str) -> bool:
        """Whether an answer is right."""
        huge = re.search(r"\de[+-]?\d{4}", answer, re.IGNORECASE)  # a number that takes hours to write out
        if huge or not answer.strip() or len(answer) > MAX_STEP:
            return False
        return is_right(self.task, answer, self.gold(index), self.entry(index), partial(self.score, index))

    def is_sound(self, index: int) -> bool:
        """Whether the answer that an entry gives is right, by the scorer and by what else is known of the task."""
        gold, absurd = self.gold(index), ABSURD.get(self.task, "")
        try:
            scored = self.score(index, gold) >= RIGHT
        except Exception:  # whatever a scorer stumbles over
            return False
        sound = scored and is_sound(self.task, gold, self.entry(index))
        return sound and self.accepts(index, gold) and not self.accepts(index, absurd)

    def score(self, index: int, answer: str) -> float:
        """What the task's own scorer gives an answer, from 0 to 1; it may raise, and may run the answer as code."""
        with _quiet():
            return float(_dataset(self.task, self.config).score_answer(answer, self.entry(index)))

    def draw(self, split: Split, n: int, seed: int, make: Callable[[int], Problem | None]) -> list[Problem]:
        """`n` distinct problems of a split, made of entries drawn at random; `make` gives None for those to pass over.

        Raises:
            ValueError: for a split that is none, and when there are fewer problems than asked for.
        """
        if split not in SPLITS:
            raise ValueError(f"split {split!r} given; allowed: {', '.join(SPLITS)}")
        rng = random.Random(f"{NAME}/{self.task}/{seed}")  # the same entries for all splits: each is made only once
        chosen: dict[str, Problem] = {}
        idle = 0
        while len(chosen) < n:
            problem = make(rng.randrange(POOLS.get(self.task, POOL)))
            if problem is not None and problem.id not in chosen and split_of_task(problem) == split:
                chosen[problem.id] = problem
                idle = 0
            elif (idle := idle + 1) > PATIENCE:
                raise ValueError(f"{n} problems of {split!r} asked for; after {len(chosen)} there are hardly others")
        return list(chosen.values())


def split_of_task(problem: Problem) -> Split:
    """A property of the question, so that splits are disjoint; the environments within split theirs in the same way."""
    if problem.meta["task"] == "puzzle24" and tuple(map(int, problem.question.split()[3:])) in HELD_OUT:
        return "test"
    return split_of(problem.question)


# -------------------------------------------------------------------------------------------------------- environments


class SingleAnswer:
    """A task whose answer alone is judged: paragraphs of free text, then one that starts with ``####``.

    Args:
        source: the entries of the task.
    """

    name = NAME
    delimiter = "\n\n"  # an answer may have several lines
    max_steps = 40

    def __init__(self, source: Source) -> None:
        self.source = source
        self._made = lru_cache(maxsize=1 << 12)(self._problem)

    def read(self, question: str) -> Problem:
        """Any text is a question; its answer is not known. Raises `UnreadableQuestion` for none, or too much."""
        text = question.strip()
        if not text or len(text) > MAX_QUESTION:
            raise UnreadableQuestion(f"a question of {len(text)} characters; 1 to {MAX_QUESTION} are read")
        digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
        return Problem(f"{NAME}/{self.source.task}/{digest}", text, None, {"task": self.source.task})

    def prompt(self, problem: Problem) -> str:
        """The question, and how to answer."""
        how = f"Think in short paragraphs. End with a paragraph that is {ANSWER_MARK} and the answer alone."
        return f"{problem.question}\n\n{how}\n\n"

    def revise(self, problem: Problem, attempts: Sequence[str]) -> str:
        """The attempts between two copies of the prompt, and what to do with them."""
        return revision_prompt(self.prompt(problem), attempts)

    def initial(self, problem: Problem) -> State:
        """The state before the first step."""
        return State(problem)

    def step(self, state: State, step: Step) -> Transition:
        """An answer terminates; any other text goes on, up to a point."""
        after = state.then(step)
        if self.answer(after) is not None:
            return termination(after)
        text = step.text.strip()
        wordy = text and len(text) <= MAX_STEP and is_text(text) and not text.startswith(ANSWER_MARK)
        goes_on = wordy and len(after.steps) < self.max_steps and step.finish == "step"
        return transition(after) if goes_on else truncation(after)

    def answer(self, state: State) -> str | None:
        """What follows ``####`` in the last step, or None."""
        text = state.steps[-1].text.strip() if state.steps else ""
        answer = text.removeprefix(ANSWER_MARK)
        return (answer.strip() or None) if answer != text and len(answer) <= MAX_STEP else None

    def check(self, problem: Problem, answer: str) -> bool:
        """Whether it is right by the rules of the task; of other problems, whether it is the gold answer."""
        index = problem.meta.get("index")
        if problem.answer is None or not answer.strip():
            return False
        if isinstance(index, int) and self._question(index) == problem.question:
            return self.source.accepts(index, answer)
        return self.same(problem.answer, answer)

    def same(self, a: str, b: str) -> bool:
        """Whether two answers say the same, as an answer to the task is read."""
        return says_the_same(self.source.task, a, b)

    def problems(self, split: Split, n: int, seed: int = 0) -> Sequence[Problem]:
        """`n` distinct problems of a split whose own answer is right; ValueError if there are too few."""
        return self.source.draw(split, n, seed, self._made)

    def _problem(self, index: int) -> Problem | None:
        if not self.source.is_sound(index):
            return None
        gold = self.source.gold(index)
        problem = self.read(self._question(index))
        return dataclasses.replace(problem, answer=gold.strip(), meta={**problem.meta, "index": index})

    def _question(self, index: int) -> str:
        return str(self.source.entry(index)["question"]).strip()


class Stepwise:
    """A task solved step by step, every step checked, by the environment within. Also `Demonstrator`, `StepChecker`.

    Args:
        source: the entries of the task.
    """

    name = NAME

    def __init__(self, source: Source) -> None:
        self.source = source
        self.inner = INNER[source.task]()
        self._made = lru_cache(maxsize=1 << 12)(self._problem)
        self.delimiter: str = self.inner.delimiter
        self.max_steps: int = self.inner.max_steps
        self.prompt: Callable[[Problem], str] = self.inner.prompt
        self.initial: Callable[[Problem], State] = self.inner.initial
        self.step: Callable[[State, Step], Transition] = self.inner.step
        self.answer: Callable[[State], str | None] = self.inner.answer
        self.check: Callable[[Problem, str], bool] = self.inner.check
        self.same: Callable[[str, str], bool] = self.inner.same
        self.first_error: Callable[[State], int | None] = self.inner.first_error
        self.demonstrate: Callable[[Problem, random.Random], tuple[str, ...]] = self.inner.demonstrate
        if hasattr(self.inner, "options"):  # for fakes
            self.options: Callable[[State], Mapping[str, float]] = self.inner.options

    def read(self, question: str) -> Problem:
        """Read a question as reasoning-gym words it, or as the environment within does; raises `UnreadableQuestion`."""
        problem: Problem = self.inner.read(question)
        meta = {"task": self.source.task, **problem.meta}
        return dataclasses.replace(problem, id=f"{NAME}/{self.source.task}/{problem.question}", meta=meta)

    def problems(self, split: Split, n: int, seed: int = 0) -> Sequence[Problem]:
        """`n` distinct problems of a split whose own answer is right by the rules; ValueError if there are too few."""
        return self.source.draw(split, n, seed, self._made)

    def _problem(self, index: int) -> Problem | None:
        try:
            problem = self.read(self.source.entry(index)["question"])
        except UnreadableQuestion:
            return None
        right = self.check(problem, self.source.gold(index))
        return dataclasses.replace(problem, meta={**problem.meta, "index": index}) if right else None
