"""Python functions, written one line per step and judged by running tests in a sandbox.

A problem is a text (or the head of a function) with a few *visible* tests; an answer is a program, and it is right if
it passes tests that are *hidden*. The reward of the last step is the share of visible tests that pass: what an honest
solver can know.

How a program is judged, and why it cannot fake a pass. Everything that a model wrote is hostile: it may search memory
for the expected values, replace ``==``, write what it likes to every descriptor, end the process at any time. So there
are two sandboxes (`envs.code.sandbox`): one runs the program, the other the tests, and a pipe each way between them
carries calls and returned values as text (`envs.code.sandboxed.harness`). What a test expects never enters the first.
Values are rebuilt as plain data in the second, where the comparison is made. Whether a test passed is written by the
second to a descriptor that the first does not have. A program has no secret to find and no verdict to forge: all it can
send is values, and the right values are what was asked for. A program that dies early fails the tests that are left,
and each verdict starts from two fresh processes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import random
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path

from loguru import logger

from envs.code.program import END, Draft, read_draft
from envs.code.sandbox import Limits, Sandbox, find_isolation, wait
from envs.code.tasks import ProgrammingTask, read_tasks, typed_task
from envs.core import SPLITS, Problem, Split, State, Step, Transition, is_text, termination, transition, truncation

RUN = "# run"
MAX_PROGRAM = 20_000  # characters
MAX_NOTE = 200

_RULES = f"""\
# Write the Python function that is described below.
# A line '{RUN}' shows how the tests go so far; a line '{END}' ends the program.
"""
# Every answer ends in this line, so that a program cannot end in one of its own.
_BEHAVIOUR = "# behaviour on the visible tests: "
_NONE = "it passes none"
_ENDS = re.compile(r"\r\n|\r|\n")  # of lines, to Python; there are other characters that end a line to people
# What `Code.options` makes of a line of a solution: one slip that is easily made.
_SLIPS = {" + ": " - ", " - ": " + ", " < ": " <= ", " > ": " >= ", " <= ": " < ", " == ": " != ", "max(": "min("}
_SLIPS |= {"min(": "max(", " += ": " = ", "[0]": "[1]", " 0": " 1", " 1": " 2", "[-1]": "[0]", "sorted": "list"}


@dataclass(frozen=True)
class Verdict:
    """What came of running a program against tests.

    Args:
        loaded: whether it ran without an error and defines the function.
        passed: for each test, whether it passes.
        note: one line about what went wrong first; empty if nothing did.
        behaviour: a digest of what the function did when the tests called it; empty if it passes none of them.
    """

    loaded: bool
    passed: tuple[bool, ...]
    note: str = ""
    behaviour: str = ""

    @property
    def share(self) -> float:
        """The share of tests that pass; without tests, 1 for a program that loads."""
        return sum(self.passed) / len(self.passed) if self.passed else float(self.loaded)


class Code:
    """Python functions, one line per step, judged by tests in a sandbox.

    Conforms to `Environment`, `Demonstrator` and `StepChecker`.

    Args:
        tasks: a file of problems, see `envs.code.tasks`; by default those that ship.
        seconds: of wall-clock time for a program and its tests; a third of it may be processor time.
        unsandboxed: if nothing on this machine isolates a program, run it all the same, with all your rights.
        template: the prompt, with ``{question}`` where the head of the program or the question goes; by default the
            beginning of a file, comments and head, which a base model continues.

    Raises:
        ValueError: `seconds` is not above 0, or `template` does not hold ``{question}`` once.
        NoIsolation: nothing isolates a program here, and `unsandboxed` is not set.
        UnreadableTasks: the file is in none of the layouts.
        OSError: there is no such file.
    """

    name = "code"
    delimiter = "\n"
    max_steps = 100

    def __init__(
        self,
        tasks: str | Path | None = None,
        seconds: float = 9.0,
        unsandboxed: bool = False,
        template: str | None = None,
    ) -> None:
        if not 0 < seconds < math.inf:
            raise ValueError(f"seconds={seconds} given; it must be above 0")
        if template is not None and template.count("{question}") != 1:
            raise ValueError(f"template {template!r} given; it must hold {{question}} once")
        self.template = template
        self._limits = Limits(seconds, cpu_seconds=math.ceil(seconds / 3))
        self.step_timeout = 2 * seconds + 10  # a call runs a program twice at most; the rest is for a busy machine
        file = resources.files("envs.code").joinpath("tasks.jsonl") if tasks is None else Path(tasks).expanduser()
        given = read_tasks(file.read_text("utf-8"), str(file))
        if hindered := [f"{task.id} ({task.hindrance})" for task in given if task.hindrance]:
            logger.warning("{}: left out, as no program can pass: {}", file, "; ".join(hindered))
        self._tasks = [task for task in given if not task.hindrance]
        self._known = {task.spaced: task for task in reversed(self._tasks)}
        self.isolation = find_isolation(unsandboxed)
        self._sandbox = Sandbox(self.isolation)
        self._judged = lru_cache(maxsize=8192)(self._judge)

    # ------------------------------------------------------------------------------------------------- questions

    def read(self, question: str) -> Problem:
        """A question of the file, or words and ``assert`` statements; raises `UnreadableQuestion`."""
        task = self._known.get(" ".join(question.split()))
        return self._problem(typed_task(question) if task is None else task)

    def _problem(self, task: ProgrammingTask) -> Problem:
        tests = {"visible": list(task.visible), "hidden": list(task.hidden)}
        meta = {"function": task.function, "head": task.head, "setup": task.setup, **tests}
        return Problem(f"{self.name}/{task.id}", task.question, task.solution, meta)

    def prompt(self, problem: Problem) -> str:
        """The head of the program, or the question in comments, after a comment on how to end; or by the template."""
        head: str = problem.meta["head"]
        if self.template is not None:
            return self.template.replace("{question}", (head or problem.question).strip())
        return _RULES + (head or "".join(f"# {line}\n" for line in _ENDS.split(problem.question)))

    # ---------------------------------------------------------------------------------------------------- the MDP

    def initial(self, problem: Problem) -> State:
        """The state before the first step."""
        return State(problem)

    def step(self, state: State, step: Step) -> Transition:
        """A line goes on; the last one terminates if the program loads, with the share of visible tests as reward.

        The reward of a line before that is at least 0.5: it may yet become right (`_promise`).

        The last line is ``# end``, the fence that closes the program, or the one with which the policy ended. That one
        and the line ``# run`` are answered with an observation, a comment that says how the visible tests go.
        """
        after = state.then(step)
        draft = _draft(after)
        if draft is None:
            return truncation(after)
        ended = self._has_ended(after, draft)
        if not ended and step.text.rstrip() != RUN:
            full = len(after.steps) >= self.max_steps
            return truncation(after) if full else transition(after, self._promise(after, draft.program))
        verdict = self.judge(state.problem, draft.program)
        after = state.then(replace(step, observation=_observation(verdict)))
        if not ended:
            full = len(after.steps) >= self.max_steps
            return truncation(after) if full else transition(after, self._promise(after, draft.program))
        return termination(after, verdict.share) if verdict.loaded else truncation(after)

    def answer(self, state: State) -> str | None:
        """The program, closed by a comment with a digest of what it does in the visible tests, or None."""
        draft = _draft(state)
        if draft is None or not self._has_ended(state, draft):
            return None
        verdict = self.judge(state.problem, draft.program)
        return f"{draft.program}\n{_BEHAVIOUR}{verdict.behaviour or _NONE}\n" if verdict.loaded else None

    def check(self, problem: Problem, answer: str) -> bool:
        """Whether a program passes the hidden tests."""
        return problem.answer is not None and bool(problem.meta["hidden"]) and self._passes(problem, answer, "hidden")

    def same(self, a: str, b: str) -> bool:
        """Whether two answers did the same in the visible tests; programs that pass none of them, if equal as texts."""
        first, second = _behaviour_of(a), _behaviour_of(b)
        return a.strip() == b.strip() or (first is not None and first == second)

    def first_error(self, state: State) -> int | None:
        """The last step, if it cannot be part of a program or ends one that fails a test, visible or hidden."""
        if not state.steps:
            return None
        last, draft = len(state.steps) - 1, _draft(state)
        if draft is None:
            return last
        passes = (self._passes(state.problem, draft.program, kind) for kind in ("visible", "hidden"))
        return None if not self._has_ended(state, draft) or all(passes) else last

    def _has_ended(self, state: State, draft: Draft) -> bool:
        """Whether the last step ends the program. A block that fails a visible test may yet be corrected."""
        may_go_on = draft.tentative and state.steps[-1].finish == "step" and len(state.steps) < self.max_steps
        return draft.ended and not (may_go_on and self.judge(state.problem, draft.program).share < 1)

    def judge(self, problem: Problem, program: str) -> Verdict:
        """What a program does in the visible tests; at once if it is known already."""
        return self._verdict(problem, program, "visible")

    def _passes(self, problem: Problem, program: str, kind: str) -> bool:
        verdict = self._verdict(problem, program, kind)
        return verdict.loaded and all(verdict.passed)

    def _verdict(self, problem: Problem, program: str, kind: str) -> Verdict:
        facts = problem.meta
        return self._judged(program, facts["function"], facts["setup"], tuple(facts[kind]))

    # -------------------------------------------------------------------------------------------------- problems

    def problems(self, split: Split, n: int, seed: int = 0) -> Sequence[Problem]:
        """`n` distinct problems; raises ValueError when the split has fewer."""
        if split not in SPLITS:
            raise ValueError(f"split {split!r} given; allowed: {', '.join(SPLITS)}")
        chosen = [task for task in self._tasks if task.split == split]
        if n > len(chosen):
            raise ValueError(f"{n} problems of {split!r} asked for; there are {len(chosen)}")
        return [self._problem(task) for task in random.Random(f"{self.name}/{split}/{seed}").sample(chosen, n)]

    def demonstrate(self, problem: Problem, rng: random.Random) -> tuple[str, ...]:
        """The lines of the reference solution; ValueError when there is none."""
        if problem.answer is None:
            raise ValueError(f"problem {problem.id!r} has no solution to show")
        return (*problem.answer.removeprefix(problem.meta["head"]).removesuffix("\n").split("\n"), END)

    # ------------------------------------------------------------------------------------------ for fakes and tests

    def options(self, state: State) -> Mapping[str, float]:
        """Steps that a careless writer would take, with weights: the next line of the solution, or that with a slip."""
        if state.problem.answer is None:
            return {}
        lines = self.demonstrate(state.problem, random.Random(0))
        line = lines[min(len(state.steps), len(lines) - 1)]
        slips = [line.replace(right, wrong, 1) for right, wrong in _SLIPS.items() if right in line]
        return {line: 3.0} | dict.fromkeys(slips[:1], 1.0)

    def _promise(self, state: State, program: str) -> float:
        """The reward of a program that is not ended: 0.5, or the share of visible tests after a line that returns."""
        returns = state.steps[-1].text.lstrip().startswith("return")
        return max(self.judge(state.problem, program).share, 0.5) if returns else 0.5

    # --------------------------------------------------------------------------------------------------- judging

    def _judge(self, program: str, function: str, setup: str, tests: tuple[str, ...]) -> Verdict:
        """Run a program against tests in two fresh sandboxes."""
        if len(program) > 2 * MAX_PROGRAM or not is_text(program):
            return Verdict(False, (False,) * len(tests), "it is no text of a program")
        if re.search(rf"\b{function}\b", program) is None:
            return Verdict(False, (False,) * len(tests), f"there is no function {function}")
        harness = resources.files("envs.code.sandboxed").joinpath("harness.py").read_text("utf-8")
        stub = f"from __main__ import function as {function}"
        modules = {f"test_{number}.py": f"{setup}\n{stub}\n{test}\n" for number, test in enumerate(tests)}
        with contextlib.ExitStack() as stack:
            verdicts = stack.enter_context(tempfile.TemporaryFile())
            with contextlib.ExitStack() as pipes:  # our copies of the ends are closed as soon as both have theirs
                ends = (*os.pipe(), *os.pipe())
                for end in ends:
                    pipes.callback(os.close, end)
                calls_out, calls_in, replies_out, replies_in = ends
                stack.enter_context(
                    self._sandbox.start(
                        {"main.py": harness, "solution.py": program},
                        ["candidate", function],
                        self._limits,
                        stdin=calls_out,
                        stdout=replies_in,
                    )
                )
                tester = stack.enter_context(
                    self._sandbox.start(
                        {"main.py": harness, **modules},
                        ["tester", str(calls_in), str(len(tests))],
                        self._limits,
                        stdin=replies_out,
                        stdout=verdicts.fileno(),
                        inherit=[calls_in],
                    )
                )
            wait(tester, self._limits)
            verdicts.seek(0)
            lines = verdicts.read(self._limits.output).splitlines()
        return _verdict_of(lines, tests)


def _verdict_of(lines: Sequence[bytes], tests: Sequence[str]) -> Verdict:
    """Read what the tester wrote: a line for the load of the program, then one for each test it came to."""
    told = [json.loads(line) for line in lines]
    reached, notes = told[1:], [entry["note"] for entry in told]
    passed = tuple(entry["passed"] for entry in reached) + (False,) * (len(tests) - len(reached))
    if not told or not told[0]["passed"]:
        return Verdict(False, passed, notes[0] if told else "it did not load in time")
    if all(passed):
        note = ""
    else:
        first = passed.index(False)
        said = reached[first]["note"] if first < len(reached) else "did not end in time"
        note = f"{' '.join(tests[first].split())}: {said}"
    behaviour = hashlib.sha256("".join(entry["behaviour"] for entry in reached).encode()).hexdigest()[:16]
    return Verdict(True, passed, note, behaviour if any(passed) else "")


def _draft(state: State) -> Draft | None:
    """The program so far and whether it has ended; None if a step is no line of a program or follows its end."""
    texts, last = state.texts, state.steps[-1].finish if state.steps else "step"
    short = sum(len(text) + 1 for text in texts) <= MAX_PROGRAM
    if not short or last == "length" or any(step.finish != "step" for step in state.steps[:-1]):
        return None
    if any("\n" in text or not is_text(text) for text in texts):
        return None
    draft = read_draft(texts, state.problem.meta["function"], state.problem.meta["head"])
    return replace(draft, ended=draft.ended or last == "answer") if draft else None


def _behaviour_of(answer: str) -> str | None:
    """What the last line of an answer says that it does; None if it passes no visible test."""
    said = answer.rstrip("\n").rpartition("\n")[2].removeprefix(_BEHAVIOUR)
    return said if re.fullmatch(r"[0-9a-f]{16}", said) else None


def _observation(verdict: Verdict) -> str:
    """One line, a comment, so that what follows is a program still."""
    if not verdict.loaded:
        said = f"the program does not load: {verdict.note}"
    else:
        said = f"{sum(verdict.passed)} of {len(verdict.passed)} tests pass"
        said += f"; {verdict.note}" if verdict.note else ""
    return "# " + (said if len(said) <= MAX_NOTE else said[: MAX_NOTE - 3] + "...")
