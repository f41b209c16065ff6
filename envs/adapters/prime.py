"""Environments of PrimeIntellect's package `verifiers`: ``load_environment("prime", environment="gsm8k", python=...)``.

That package has the name of one of ours, so it is never imported here: it is installed in a virtual environment of its
own, whose interpreter runs `envs.adapters.prime_worker`, bounded in time and memory.

A problem is a row of the environment's data. Where the agent speaks once, a step is a paragraph of its reply, and the
answer is the reply. Where the environment answers, a step is a whole reply, and what the environment says to it is the
observation; states are restored by replay (`envs.adapters.episodes`). The reward of the rubric decides which answers
are right, and nothing else: it comes from what a solver must not see.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from loguru import logger

from envs.adapters.child import Child, ChildError, ChildFailure
from envs.adapters.episodes import Played, Replay, Reply
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
from envs.math.answer_finder import find_answer
from envs.options import Above, AtLeast
from envs.splits import split_of

VARIABLE = "STEPWELL_PRIME_PYTHON"
WORKER = Path(__file__).with_name("prime_worker.py")
PROVEN = "any reply that the rubric gives the goal"
LONGEST = 50_000  # characters of an answer
SHOWN = 20_000  # characters of an observation
KEPT = 32  # runs that are kept where they are
PAGE = 200  # questions that are asked for at a time
CHECKED = 1 << 14  # verdicts that are kept
ROUNDING = 1e-9  # by which a sum of weights may miss the goal
_ROW = re.compile(r"row (\d{1,9})", re.ASCII)
_GAP = re.compile(r"\n\s*\n")


def load_prime(
    environment: str,
    python: str = "",
    args: Mapping[str, Any] | None = None,
    folder: str = "",
    goal: float = 1.0,
    rows: Annotated[int, AtLeast(1, 100_000)] = 1000,
    max_steps: Annotated[int, AtLeast(1)] = 40,
    step_timeout: Annotated[float, Above(0)] = 30.0,
    loading: Annotated[float, Above(0)] = 120.0,
    memory: Annotated[int, AtLeast(512)] = 8192,
) -> Environment:
    """An environment of PrimeIntellect's `verifiers`.

    Args:
        environment: its id, such as ``gsm8k``; its package is installed where `python` finds it.
        python: the interpreter of a virtual environment with that package; by default what the variable
            ``STEPWELL_PRIME_PYTHON`` says.
        args: options of its taskset; of an older environment, of its ``load_environment``.
        folder: a folder with environments that are not installed.
        goal: the least reward of a right answer.
        rows: of its data that are used: the first ones.
        max_steps: paragraphs, or replies, after which a trajectory is cut.
        step_timeout: seconds that one call may take.
        loading: seconds for starting it.
        memory: MiB of address space of its process.

    Raises:
        ValueError: no such interpreter, package, environment or option.
    """
    first = {"environment": environment, "args": dict(args or {}), "folder": folder, "rows": rows, "memory": memory}
    if folder and not Path(folder).is_dir():
        raise ValueError(f"folder {folder!r} is none")
    try:
        source = _Source(_interpreter(python), {**first, "folder": folder and str(Path(folder).resolve())}, loading)
        return Prime(environment, source, goal, max_steps, step_timeout)
    except ChildFailure as error:
        raise ValueError(str(error)) from None


def _interpreter(python: str) -> str:
    given = python or os.environ.get(VARIABLE, "")
    if not given:
        raise ValueError(
            "python is missing: the interpreter of a virtual environment in which verifiers is installed (python -m"
            f" venv prime; prime/bin/pip install verifiers). Give python=prime/bin/python, or set {VARIABLE}"
        )
    found = shutil.which(os.path.expanduser(given))
    if found is None:
        folder = Path(os.path.expanduser(given))
        inside = [str(folder / "bin" / "python")] if (folder / "bin" / "python").exists() else []
        raise ValueError(f"python {given!r} is no program" + (f"; did you mean {inside[0]!r}?" if inside else ""))
    return found


class _Source:
    """The process that plays runs, started again where it has ended."""

    def __init__(self, python: str, first: dict[str, Any], loading: float) -> None:
        self._command = (python, "-I", str(WORKER))
        self._first, self._loading, self._lock = first, loading, threading.Lock()
        self.child = self._start()
        self.many, self.rows = bool(self.child.ready["many"]), int(self.child.ready["rows"])

    def _start(self) -> Child:
        child = Child(self._command, f"environment {self._first['environment']!r}", self._first, self._loading)
        found = child.ready
        well = isinstance(found, dict) and isinstance(found.get("digest"), str)
        if not well or not isinstance(found.get("rows"), int) or not 0 <= found["rows"] <= self._first["rows"]:
            raise ChildFailure(f"environment {self._first['environment']!r} did not say what it has")
        return child

    def current(self, restarted: Callable[[], None] = lambda: None) -> Child:
        """The process that is running; `restarted` is called when that is another one than before."""
        with self._lock:
            if not self.child.alive:
                again = self._start()
                if again.ready != self.child.ready:
                    raise ChildFailure("the environment was started again, and its rows are not the same again")
                self.child = again
                restarted()
            return self.child

    def questions(self, seconds: float) -> list[str | None]:
        """Of all rows: empty where the environment opens the conversation, None where it is too long."""
        found: list[str | None] = []
        for first in range(0, self.rows, PAGE):
            last = min(first + PAGE, self.rows)
            page = self.current().ask({"do": "questions", "first": first, "last": last}, seconds)
            if not isinstance(page, list) or len(page) != last - first:
                raise ChildFailure("it gave no list of questions")
            found += [text if isinstance(text, str) and is_text(text) else None for text in page]
        return found


class _Run:
    """A run of one row."""

    def __init__(self, child: Child, seconds: float) -> None:
        self._child, self._seconds = child, seconds
        self._name: str | None = None

    def reset(self, seed: int) -> str:
        """Begin with a row."""
        try:
            begun = self._child.ask({"do": "begin", "row": seed}, self._seconds)
        except ChildError as error:  # no reply is to blame
            raise ChildFailure(str(error)) from None
        reply = _reply(begun)
        self._name = str(begun["episode"])
        return reply.observation

    def act(self, action: str) -> Reply:
        """Reply in the agent's place."""
        return _reply(self._child.ask({"do": "act", "episode": self._name, "text": action}, self._seconds))

    def close(self) -> None:
        """Give it up."""
        if self._name is None or not self._child.alive:
            return
        with contextlib.suppress(ChildFailure):
            self._child.ask({"do": "end", "episode": self._name}, self._seconds)


def _reply(value: Any) -> Reply:
    """What a run said, looked at."""
    found = value if isinstance(value, dict) else {}
    text, over, reward = found.get("text"), found.get("over"), found.get("reward")
    if not isinstance(text, str) or not isinstance(over, bool) or not isinstance(reward, int | float):
        raise ChildFailure("a run said neither what it asks nor whether it is over")
    return Reply(text, float(reward), over)


class Prime:
    """Rows of an environment of `verifiers`.

    Args:
        environment: its id.
        source: the process that plays its runs.
        goal: the least reward of a right answer.
        max_steps: paragraphs, or replies, after which a trajectory is cut.
        step_timeout: seconds that one call may take.
    """

    name = "prime"
    delimiter = "\n\n"
    self_proving = True

    def __init__(self, environment: str, source: _Source, goal: float, max_steps: int, step_timeout: float) -> None:
        self.environment, self._source, self.goal = environment, source, goal
        self.max_steps, self.step_timeout, self.observes = max_steps, step_timeout, source.many
        self._replay = Replay(self._begin, str, _one_paragraph, KEPT)
        self._rows: dict[str, int] = {}
        self._opened = set[int]()  # by the environment: their prompt is what it says first
        for row, text in enumerate(source.questions(step_timeout)):
            opens = text == "" and source.many
            question = f"{environment}, row {row}" if opens else (text or "").strip()
            if question and self._rows.setdefault(question, row) == row and opens:
                self._opened.add(row)
        self._questions = {row: question for question, row in self._rows.items()}
        if not self._rows:
            raise ValueError(f"environment {environment!r} has no rows with a question of at most {LONGEST} characters")
        self._right = lru_cache(maxsize=CHECKED)(self._rewarded)

    # ---------------------------------------------------------------------------------------------- the contract

    def read(self, question: str) -> Problem:
        """Read a question of its data, or ``row 7``; raises `UnreadableQuestion`."""
        text = question.strip()
        row = self._rows.get(text)
        if row is None and (match := _ROW.fullmatch(text)) and int(match[1]) in self._questions:
            row = int(match[1])
        if row is None:
            raise UnreadableQuestion(
                f"cannot read {text[:80]!r}; {self.environment} has questions of its own: give one of those, or 'row 7'"
                f" (rows {min(self._questions)} to {max(self._questions)})"
            )
        return self._problem(row)

    def prompt(self, problem: Problem) -> str:
        """The row's prompt; the reply follows."""
        row = self._rows.get(problem.question)
        said = self._at(row, ()).observation if row is not None and row in self._opened else problem.question
        return f"{said}\n\n"

    def revise(self, problem: Problem, attempts: Sequence[str]) -> str:
        """The attempts between two copies of the prompt, and what to do with them."""
        return revision_prompt(self.prompt(problem), attempts)

    def initial(self, problem: Problem) -> State:
        """The state before the first step."""
        return State(problem)

    def step(self, state: State, step: Step) -> Transition:
        """A paragraph goes on until the policy ends its reply; a reply goes to the environment.

        Raises:
            ChildFailure: its process ended or hung.
            ValueError: it does not do the same again, so its states cannot be restored.
        """
        after = state.then(step)
        if step.finish == "length" or self.delimiter in step.text or not _is_reply(self._text(after)):
            return truncation(after)
        if self._source.many:
            return self._exchanged(state, step)
        if step.finish == "answer":
            return termination(after)
        goes_on = _is_reply(step.text) and len(after.steps) < self.max_steps
        return transition(after) if goes_on else truncation(after)

    def answer(self, state: State) -> str | None:
        """The reply; where the environment answers, all replies of a run that is over."""
        if not state.steps or state.steps[-1].finish == "length" or not _is_reply(text := self._text(state)):
            return None
        if any(self.delimiter in each for each in state.texts):
            return None
        if not self._source.many:
            return text if state.steps[-1].finish == "answer" else None
        return text if self._over(state) else None

    def check(self, problem: Problem, answer: str) -> bool:
        """Whether the rubric gives the reply the goal; of a question that is not its own, False.

        Raises:
            ChildFailure: its process ended or hung.
        """
        row = self._rows.get(problem.question)
        return row is not None and _is_reply(answer) and self._right(row, answer.strip())

    def same(self, a: str, b: str) -> bool:
        """Whether two replies end in the same final answer, as far as it can be found: boxed, tagged, or last."""
        return a == b or _final(a) == _final(b)

    def problems(self, split: Split, n: int, seed: int = 0) -> Sequence[Problem]:
        """`n` distinct rows of a split; ValueError if there are too few."""
        if split not in SPLITS:
            raise ValueError(f"split {split!r} given; allowed: {', '.join(SPLITS)}")
        found = [row for question, row in self._rows.items() if split_of(question) == split]
        if n > len(found):
            raise ValueError(f"{n} problems of {split!r} asked for; {self.environment} has {len(found)} (option rows)")
        return [self._problem(row) for row in random.Random(f"{self.name}/{seed}").sample(found, n)]

    def close(self) -> None:
        """End its process."""
        self._source.child.close()

    # ------------------------------------------------------------------------------------------------------ runs

    def _problem(self, row: int) -> Problem:
        return Problem(f"{self.name}/{self.environment}/{row}", self._questions[row], PROVEN, {"row": row})

    def _begin(self) -> _Run:
        return _Run(self._source.current(), self.step_timeout)

    def _at(self, row: int, replies: tuple[str, ...], state: State | None = None) -> Played:
        """Where replies lead; runs of a process that has ended are forgotten."""
        self._source.current(self._replay.close)
        return self._replay.at(row, replies, state)

    def _text(self, state: State) -> str:
        return self.delimiter.join(state.texts).strip()

    def _exchanged(self, state: State, step: Step) -> Transition:
        """One reply, and what the environment says to it."""
        row = self._rows.get(state.problem.question)
        before = tuple(text.strip() for text in state.texts)
        if row is None or not all(map(_is_reply, (*before, step.text))) or self._over(state):
            return truncation(state.then(step))
        played = self._played(row, (*before, step.text.strip()), state)
        if played is None:
            return truncation(state.then(step))
        seen = played.observation
        after = state.then(Step(step.text, step.tokens, step.logprob, step.finish, seen, step.thinking))
        if played.over:
            return termination(after)
        cut = len(after.steps) >= self.max_steps or step.finish != "step"
        return truncation(after) if cut else transition(after)

    def _over(self, state: State) -> bool:
        """Whether the run that these replies belong to is over."""
        row, texts = self._rows.get(state.problem.question), tuple(text.strip() for text in state.texts)
        legal = row is not None and 0 < len(texts) <= self.max_steps and all(map(_is_reply, texts))
        played = self._played(row, texts, state) if legal and row is not None else None
        return played is not None and played.over

    def _rewarded(self, row: int, answer: str) -> bool:
        replies = tuple(_GAP.split(answer)) if self._source.many else (answer,)
        played = self._played(row, replies)
        return played is not None and played.over and played.total >= self.goal - ROUNDING

    def _played(self, row: int, replies: tuple[str, ...], state: State | None = None) -> Played | None:
        """Where replies lead; None, with a warning, where the last one makes the environment or its rubric fail."""
        try:
            return self._at(row, replies, state)
        except ChildError as error:
            _warn(str(error))
            return None


@lru_cache(maxsize=1 << 8)
def _warn(error: str) -> None:
    """Tell an error once."""
    logger.warning("a reply is counted as wrong, for it made the environment fail: {}", error)


def _is_reply(text: str) -> bool:
    return bool(text.strip()) and len(text) <= LONGEST and is_text(text)


def _one_paragraph(observation: str) -> str:
    """An observation in a bounded length, without the delimiter and without control characters."""
    lines = observation[: 2 * SHOWN].splitlines()
    shown = "\n".join(filter(None, ("".join(each for each in line if each.isprintable()).strip() for line in lines)))
    return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."


@lru_cache(maxsize=CHECKED)
def _final(reply: str) -> str:
    """The final answer of a reply: what is boxed, tagged or marked, or else its last line."""
    last = reply.strip().splitlines()[-1:] or [""]
    return " ".join((find_answer(reply) or last[0]).split()).casefold()
