"""The conformance kit of environments: `check_environment` tries every rule that search relies on.

An author of a plug-in calls it in one test; it needs no model and takes a second or so. It raises one error that
lists every rule that was broken, with the input that broke it and what came back.
"""

from __future__ import annotations

import contextlib
import math
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import FrameType
from typing import Any, NoReturn, TypeVar

from envs.core import (
    SPLITS,
    Demonstrator,
    Environment,
    Finish,
    Problem,
    State,
    Step,
    StepChecker,
    Transition,
    UnreadableQuestion,
    render,
)
from envs.messages import short
from envs.registry import ENVIRONMENTS

T = TypeVar("T")

HOSTILE: tuple[str, ...] = (
    "",
    " ",
    "\t\r\n",
    "\x00\x01\x1b[2J\x7f",
    "\ud800",
    "\u202e\u200b\ufeff",
    "\N{MATHEMATICAL DOUBLE-STRUCK DIGIT FIVE}\N{ARABIC-INDIC DIGIT THREE}\N{SUPERSCRIPT TWO}",
    "naïve 数学 🙂",
    "__import__('os').getcwd()",
    "9" * 5000,
    "9**9**9**9",
    "1e999999999",
    "-" * 3000,
    "(" * 3000,
    "((((((((((" * 20 + "1" + "))))))))))" * 20,
    "a" * 60 + "!",
    " " * 10_000 + "x",
    "= = =",
    "#### ",
    "#### nan",
    r"\boxed{}",
    r"\boxed{" * 500,
    "%s%n{0}{}",
    "x" * 20_000,
)
"""Texts a model may write, or a person may type, that no environment may fail on."""

HUGE = "9" * 1_000_000
"""An action that no context holds: it ends the trajectory."""

NO_TEXT: tuple[str, ...] = ("\ud800", "1\udcff", "\udfff\ud800")
"""Actions with half a surrogate pair, which no encoding can write: they end the trajectory."""

_SEEDS = 4  # of the problems drawn to see that splits are disjoint
_ENDED: tuple[Finish, ...] = ("answer", "length")
_UNCHANGED = "Nothing is ever mutated"


class NonConforming(AssertionError):
    """An environment broke rules; `broken` has one sentence for each."""

    def __init__(self, name: str, broken: Sequence[str]) -> None:
        self.broken = tuple(broken)
        super().__init__(f"{name} breaks {len(broken)} rule(s):\n" + "\n".join(f"- {line}" for line in broken))


def check_environment(
    environment: Environment,
    problems: Sequence[Problem] = (),
    seed: int = 0,
    n: int = 12,
    patience: float | None = None,
) -> None:
    """Try every rule of the `Environment` protocol, and of `Demonstrator` and `StepChecker` where they apply.

    Args:
        environment: what to check.
        problems: problems to try beside those the environment draws itself.
        seed: of the problems drawn and of the demonstrations.
        n: problems drawn from each split.
        patience: seconds that any one call may take; if not given, the environment's `step_timeout`, or else 5.

    Raises:
        NonConforming: listing every rule that was broken.
    """
    if patience is None:
        patience = getattr(environment, "step_timeout", 5.0)
    broken = _Checks(environment, seed, n, patience).run(problems)
    if broken:
        raise NonConforming(f"environment {getattr(environment, 'name', type(environment).__name__)!r}", broken)


class _Failed(Exception):
    """A call failed and was reported; what depends on it is skipped."""


class _TooLong(BaseException):
    """Raised inside a call that outlives the patience; not an Exception, so that handlers let it through."""


class _Sealed(dict[str, Any]):
    """Facts about a problem that can be read, but neither pickled nor copied."""

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise _Copied("it was pickled or copied")


class _Copied(Exception):
    """What should have been left where it is was pickled or copied."""


class _Checks:
    """One run: collects the first breach of each rule and counts the others."""

    def __init__(self, environment: Environment, seed: int, n: int, patience: float) -> None:
        self.environment = environment
        self.seed = seed
        self.n = n
        self.patience = patience
        self.breaches: dict[str, list[str]] = {}
        self.others: Sequence[str] = ()  # the demonstration of the problem before

    def run(self, extra: Sequence[Problem]) -> list[str]:
        """Every rule in turn; returns the sentences."""
        missing = [name for name in ENVIRONMENTS.members() if not hasattr(self.environment, name)]
        if missing:
            return [f"An environment has {', '.join(ENVIRONMENTS.members())}: {', '.join(missing)} is missing."]
        state = random.getstate()
        try:
            self.attributes()
            if not self.breaches:  # nothing else can be judged without these
                self.rules(extra)
        finally:
            random.setstate(state)
        more = {rule: f" (and {len(seen) - 1} more)" if len(seen) > 1 else "" for rule, seen in self.breaches.items()}
        return [f"{rule}: {seen[0]}{more[rule]}." for rule, seen in self.breaches.items()]

    def rules(self, extra: Sequence[Problem]) -> None:
        """All rules but those of the attributes."""
        drawn: list[Problem] = []
        with contextlib.suppress(_Failed):
            drawn = self.splits()
        problems = [*extra, *drawn]
        self.answers(problems)
        for problem in problems:
            for rule in (self.questions, self.beginnings, self.sealed, self.steps, self.demonstrations):
                with contextlib.suppress(_Failed):
                    rule(problem)
        for rule in (self.hostile, self.endings):
            for problem in problems[:3]:
                with contextlib.suppress(_Failed):
                    rule(problem)

    # ------------------------------------------------------------------------------------------------- reporting

    def report(self, rule: str, seen: str) -> None:
        """Note a breach."""
        self.breaches.setdefault(rule, []).append(seen)

    def call(self, what: str, function: Callable[..., T], *arguments: Any, allow: type[Exception] | None = None) -> T:
        """Call a method twice; report if it raises, takes too long, changes its arguments or changes its mind.

        Raises:
            _Failed: if there is no result to go on with; or what is in `allow`, as it came.
        """
        shown = f"{what}({', '.join(short(argument) for argument in arguments)})"
        before = repr(arguments)
        first = self.once(what, shown, function, arguments, allow)
        if repr(arguments) != before:
            self.report(f"{_UNCHANGED} by `{what}`", f"{shown} changed its arguments")
        again = self.once(what, shown, function, arguments, allow)
        if not _equal(first, again):
            rule = f"`{what}` gives the same result for the same arguments"
            self.report(rule, f"{shown} gave {short(first)}, then {short(again)}")
        return first

    def once(
        self, what: str, shown: str, function: Callable[..., T], arguments: Any, allow: type[Exception] | None
    ) -> T:
        """One call, within the patience."""
        started = time.monotonic()
        mood = random.getstate()
        slow = f"`{what}` returns in bounded time"
        try:
            with _limit(self.patience):
                result = function(*arguments)
        except _TooLong:
            self.report(slow, f"{shown} was stopped after {self.patience:g} s")
            raise _Failed from None
        except Exception as error:
            if allow is not None and isinstance(error, allow):
                raise
            rule = "Nothing is pickled or copied" if _is_copied(error) else f"`{what}` never raises"
            self.report(rule, f"{shown} raised {type(error).__name__}: {short(str(error))}")
            raise _Failed from None
        if time.monotonic() - started > self.patience:
            self.report(slow, f"{shown} took {time.monotonic() - started:.1f} s")
        if random.getstate() != mood:
            self.report(f"`{what}` leaves the global random state alone", f"{shown} drew from it")
            random.setstate(mood)
        return result

    # ----------------------------------------------------------------------------------------------------- rules

    def attributes(self) -> None:
        """Name, delimiter, depth, time limit; and that the rest can be called."""
        environment = self.environment
        for name in ("name", "delimiter"):
            value: object = getattr(environment, name)
            if not isinstance(value, str) or not value:
                self.report(f"`{name}` is a text that is not empty", f"it is {short(value)}")
        depth: object = environment.max_steps
        if not isinstance(depth, int) or depth < 1:
            self.report("`max_steps` is a whole number of at least 1", f"it is {short(depth)}")
        limit: object = getattr(environment, "step_timeout", 1.0)
        if not isinstance(limit, int | float) or not limit > 0:
            self.report("`step_timeout`, if there is one, is a number of seconds above 0", f"it is {short(limit)}")
        for name in ENVIRONMENTS.members():
            if name not in ("name", "delimiter", "max_steps") and not callable(getattr(environment, name)):
                self.report(f"`{name}` is a method", f"it is {short(getattr(environment, name))}")

    def splits(self) -> list[Problem]:
        """Problems: as many as asked for, well made, distinct, disjoint between splits."""
        environment, drawn = self.environment, list[Problem]()
        home: dict[tuple[str, str], str] = {}
        for split in SPLITS:
            shown = f"problems({split!r}, {self.n}, {self.seed})"
            random.seed(f"{split} in another mood")
            given = list(self.call("problems", environment.problems, split, self.n, self.seed))
            random.seed("yet another mood")
            if list(self.call("problems", environment.problems, split, self.n, self.seed)) != given:
                self.report("`problems` gives the same result for the same arguments", f"{shown} gave others later")
            made = [problem for problem in given if isinstance(problem, Problem)]
            if len(made) != self.n or len(given) != self.n:
                self.report("`problems` gives as many problems as asked for", f"{shown} gave {len(made)}")
            if len({problem.id for problem in made}) != len(made):
                self.report("The ids of problems are unique", f"{shown} has {_twice(made)!r} more than once")
            for problem in made:
                texts = (problem.id, problem.question)
                if not all(isinstance(text, str) and text for text in texts):
                    self.report("A problem has an id and a question", f"{shown} gave {short(problem)}")
            self.at_home(made, split, self.seed, home)
            for seed in range(self.seed + 1, self.seed + _SEEDS):
                others = self.call("problems", environment.problems, split, self.n, seed)
                self.at_home([other for other in others if isinstance(other, Problem)], split, seed, home)
            drawn += made
        if given := list(self.call("problems", environment.problems, SPLITS[0], 0, self.seed)):
            shown = f"problems({SPLITS[0]!r}, 0, {self.seed})"
            self.report("`problems` gives as many problems as asked for", f"{shown} gave {len(given)}")
        return drawn

    def at_home(self, problems: Sequence[Problem], split: str, seed: int, home: dict[tuple[str, str], str]) -> None:
        """A problem is in one split only, under any seed and any id; `home` is what gave each so far."""
        shown = f"problems({split!r}, {self.n}, {seed})"
        for problem in problems:
            for kind, text in (("id", problem.id), ("question", problem.question)):
                other = home.setdefault((kind, text), shown)
                if not other.startswith(f"problems({split!r}"):
                    self.report("The splits are disjoint", f"{other} and {shown} gave the {kind} {short(text)}")
                    break

    def answers(self, problems: Sequence[Problem]) -> None:
        """`check` and `same`."""
        environment = self.environment
        gold = {problem.answer: problem for problem in problems if problem.answer is not None}
        texts = [*list(gold)[:8], *HOSTILE]
        for a in texts:
            with contextlib.suppress(_Failed):
                if self.verdict("same", environment.same, a, a) is not True:
                    self.report("`same` is reflexive", f"same({short(a)}, {short(a)}) gave False")
        for a, b in zip(texts, [*texts[1:], texts[0]], strict=True):
            with contextlib.suppress(_Failed):
                first = self.verdict("same", environment.same, a, b)
                second = self.verdict("same", environment.same, b, a)
                if first != second:
                    shown = f"same({short(a)}, {short(b)}) gave {first}, same({short(b)}, {short(a)}) {second}"
                    self.report("`same` is symmetric", shown)
        for index, (answer, problem) in enumerate(gold.items()):
            with contextlib.suppress(_Failed):
                self.gold(
                    problem, answer, [other for other in gold if other != answer], HOSTILE if index < 4 else ("",)
                )

    def gold(self, problem: Problem, answer: str, others: Sequence[str], nonsense: Sequence[str]) -> None:
        """The gold answer passes; the empty one, nonsense and most answers to other problems do not."""
        check = self.environment.check
        if not self.verdict("check", check, problem, answer):
            self.report("The gold answer passes", f"check({problem.id!r}, {short(answer)}) gave False")
        if self.verdict("check", check, replace(problem, answer=None), answer):
            shown = f"check({problem.id!r} without one, {short(answer)}) gave True"
            self.report("No answer passes when the gold answer is unknown", shown)
        for text in nonsense:
            if text != answer and self.verdict("check", check, problem, text):
                rule = "The empty answer fails" if not text.strip() else "Nonsense is no right answer"
                self.report(rule, f"check({problem.id!r}, {short(text)}) gave True")
        if len(others) > 3 and all(self.verdict("check", check, problem, other) for other in others[:12]):
            shown = f"check({problem.id!r}, {short(others[0])}) gave True"
            self.report(
                "A wrong answer fails", f"{shown}, as with the answers of {len(others[:12]) - 1} other problems"
            )

    def verdict(self, what: str, function: Callable[..., bool], *arguments: Any) -> bool:
        """Call something that must return a bool."""
        result: object = self.call(what, function, *arguments)
        if not isinstance(result, bool):
            shown = ", ".join(map(short, arguments))
            self.report(f"`{what}` returns True or False", f"{what}({shown}) gave {short(result)}")
        return bool(result)

    def questions(self, problem: Problem) -> None:
        """The environment reads its own questions; prompts are texts that do not depend on the gold answer."""
        environment, shown = self.environment, f"read({short(problem.question)})"
        try:
            read = self.call("read", environment.read, problem.question, allow=UnreadableQuestion)
            known = read.answer is not None and problem.answer is not None
            if known and not self.verdict("check", environment.check, read, problem.answer):
                rule = "A question read back has the same answer"
                self.report(rule, f"{shown} gave {short(read.answer)}, not {short(problem.answer)}")
        except UnreadableQuestion as error:
            rule = "`read` reads the environment's own questions"
            self.report(rule, f"{shown} raised UnreadableQuestion: {short(str(error))}")
        prompt: object = self.call("prompt", environment.prompt, problem)
        if not isinstance(prompt, str) or not prompt:
            self.report("A prompt is a text that is not empty", f"prompt({problem.id!r}) gave {short(prompt)}")
        for other in (None, "another answer"):
            if self.call("prompt", environment.prompt, replace(problem, answer=other)) != prompt:
                rule = "A prompt does not depend on the gold answer"
                self.report(rule, f"prompt({problem.id!r}) gave another text with the answer {other!r}")

    def beginnings(self, problem: Problem) -> None:
        """The state before the first step."""
        state = self.call("initial", self.environment.initial, problem)
        if not isinstance(state, State) or state.steps != () or state.problem != problem:
            given = f"{short(state.problem)} with steps {state.steps!r}" if isinstance(state, State) else short(state)
            self.report("`initial` gives the problem without steps", f"initial({problem.id!r}) gave {given}")
            raise _Failed
        try:
            hash(state)
        except TypeError as error:
            self.report("States are hashable", f"hash(initial({problem.id!r})) raised {error}")
        answer = self.call("answer", self.environment.answer, state)
        if answer is not None:
            self.report("There is no answer before the first step", f"answer({short(state)}) gave {short(answer)}")

    def move(self, state: State, step: Step) -> Transition:
        """Take a step and judge the transition."""
        shown = f"step({short(state)}, {short(step)})"
        result: object = self.call("step", self.environment.step, state, step)
        if not isinstance(result, Transition) or not isinstance(result.state, State):
            self.report("`step` gives a Transition", f"{shown} gave {short(result)}")
            raise _Failed
        after = result.state
        appended = len(after.steps) == len(state.steps) + 1 and after.steps[:-1] == state.steps
        if after.problem != state.problem or not appended or after.steps[-1].text != step.text:
            self.report("`step` appends the step and changes nothing else", f"{shown} led to {short(after.texts)}")
            raise _Failed
        try:
            hash(after)
        except TypeError as error:
            self.report("States are hashable", f"the state after {shown} raised {error}")
        if result.status not in ("running", "terminated", "truncated"):
            self.report("A status is running, terminated or truncated", f"{shown} gave {short(result.status)}")
        if not isinstance(result.reward, (int, float)) or not math.isfinite(result.reward):
            self.report("A reward is a finite number", f"{shown} gave {short(result.reward)}")
        answer: object = self.call("answer", self.environment.answer, after)
        if (result.status == "terminated") != isinstance(answer, str):
            rule = "A state has an answer if and only if it terminated"
            self.report(rule, f"{shown} is {result.status}, and its answer {short(answer)}")
        if result.status == "running" and step.finish != "step":
            rule = "A step that the policy ended or that was cut ends the trajectory"
            self.report(rule, f"{shown} is running")
        if result.status == "running" and len(after.steps) >= self.environment.max_steps:
            rule = "A trajectory ends within max_steps"
            self.report(rule, f"{shown} is running after {len(after.steps)} steps")
        return result

    def sealed(self, problem: Problem) -> None:
        """A trajectory needs no pickling and no deep copies: states are frozen, and are shared as they are."""
        problem = replace(problem, meta=_Sealed(problem.meta))
        self.call("prompt", self.environment.prompt, problem)
        self.along(problem, self.texts(problem))

    def steps(self, problem: Problem) -> None:
        """Branches of one state do not see each other, and a trajectory ends."""
        state = self.call("initial", self.environment.initial, problem)
        texts = self.texts(problem)
        first = self.move(state, Step(texts[0]))
        before = repr(first)
        for text in (texts[-1], texts[-1][:-1], "?"):
            with contextlib.suppress(_Failed):
                self.move(state, Step(text))
                if first.status == "running":
                    self.move(first.state, Step(text))
        if repr(first) != before or not _equal(self.move(state, Step(texts[0])), first):
            rule = "Two branches of one state do not affect each other"
            shown = f"step({short(state)}, {short(texts[0])})"
            self.report(rule, f"{shown} gave another state after a second branch")
        at = state
        for text in texts:
            for finish in _ENDED:
                self.move(at, Step(text, finish=finish))
            result = self.move(at, Step(text))
            if result.status != "running":
                break
            at = result.state
        for text in dict.fromkeys([*texts, "?"]):
            at, depth = state, 0
            while depth < self.environment.max_steps:
                result = self.move(at, Step(text))
                if result.status != "running":
                    break
                at, depth = result.state, depth + 1
            self.call("render", lambda state: render(self.environment, state), at)

    def texts(self, problem: Problem) -> tuple[str, ...]:
        """Steps to try: those of a demonstration, or the likeliest `options`, or else a question mark."""
        environment, written = self.environment, list[str]()
        with contextlib.suppress(Exception, _TooLong), _limit(self.patience):  # what is wrong is reported elsewhere
            if isinstance(environment, Demonstrator):
                written = list(environment.demonstrate(problem, random.Random(self.seed)))
            elif options := getattr(environment, "options", None):
                state, status = environment.initial(problem), "running"
                while status == "running" and (weights := options(state)):
                    written.append(max(weights, key=lambda text: weights[text]))
                    result = environment.step(state, Step(written[-1]))
                    state, status = result.state, result.status
        return tuple(written) if written and all(isinstance(text, str) for text in written) else ("?",)

    def demonstrations(self, problem: Problem) -> None:
        """A worked solution ends right, and no step of it is wrong."""
        environment = self.environment
        if not isinstance(environment, Demonstrator):
            return
        demonstrate = environment.demonstrate
        texts = self.call("demonstrate", lambda problem: demonstrate(problem, random.Random(self.seed)), problem)
        shown = f"demonstrate({problem.id!r})"
        bad = [text for text in texts if not isinstance(text, str) or environment.delimiter in text]
        if not texts or bad:
            rule = "A demonstration is one or more texts without the delimiter"
            self.report(rule, f"{shown} gave {short(texts)}")
            return
        others, self.others = self.others, texts
        if others and isinstance(environment, StepChecker):  # the solution of another problem is mostly wrong
            self.judged(environment, self.along(problem, others)[-1].state)
        seen = self.along(problem, texts)
        self.ending(problem, shown, texts, seen[-1])
        outcomes, otherwise = (
            [(result.status, result.reward) for result in results]
            for results in (seen, self.along(replace(problem, answer="another answer"), texts))
        )
        if outcomes != otherwise:
            rule = "Status and reward do not depend on the gold answer"
            ends = f"{outcomes[-1]}, and in {otherwise[-1]} with another gold answer"
            self.report(rule, f"{shown} ends in {ends}")

    def along(self, problem: Problem, texts: Sequence[str]) -> list[Transition]:
        """The transitions along a trajectory, until it ends."""
        state = self.call("initial", self.environment.initial, problem)
        seen: list[Transition] = []
        for text in texts:
            seen.append(self.move(state, Step(text)))
            if seen[-1].status != "running":
                break
            state = seen[-1].state
        return seen

    def ending(self, problem: Problem, shown: str, texts: Sequence[str], result: Transition) -> None:
        """The last step, and only it, gives the right answer; the step checker agrees."""
        environment = self.environment
        taken = len(result.state.steps)
        if result.status != "terminated" or taken != len(texts):
            rule = "A demonstration ends with its last step, in an answer"
            self.report(rule, f"{shown} is {result.status} after {taken} of {len(texts)} steps")
            return
        answer = self.call("answer", environment.answer, result.state)
        if problem.answer is not None and not self.verdict("check", environment.check, problem, answer):
            self.report("A demonstration ends right", f"{shown} ends in {short(answer)}, not {short(problem.answer)}")
        if not isinstance(environment, StepChecker):
            return
        error = self.call("first_error", environment.first_error, result.state)
        if error is not None:
            rule = "No step of a demonstration is an error"
            self.report(rule, f"first_error({short(result.state)}) gave {short(error)}")

    def endings(self, problem: Problem) -> None:
        """What no model can be shown again does not go on."""
        state = self.call("initial", self.environment.initial, problem)
        for rule, texts in (
            ("A huge action ends the trajectory", (HUGE, HUGE + self.environment.delimiter)),
            ("An action that is no text ends the trajectory", NO_TEXT),
        ):
            for text in texts:
                with contextlib.suppress(_Failed):
                    result = self.move(state, Step(text))
                    if result.status == "running":
                        size = f" ({len(text)} characters)" if len(text) > 200 else ""
                        self.report(rule, f"step({short(state)}, {short(text)}{size}) is running")

    def hostile(self, problem: Problem) -> None:
        """Whatever is typed or written, nothing raises and nothing hangs."""
        environment = self.environment
        state = self.call("initial", environment.initial, problem)
        finishes: tuple[Finish, ...] = ("step", *_ENDED)
        for text in (*HOSTILE, environment.delimiter, f"1{environment.delimiter}1"):
            with contextlib.suppress(_Failed, UnreadableQuestion):
                self.call("read", environment.read, text, allow=UnreadableQuestion)
            for finish in finishes:
                with contextlib.suppress(_Failed):
                    result = self.move(state, Step(text, finish=finish))
                    if isinstance(environment, StepChecker):
                        self.judged(environment, result.state)

    def judged(self, checker: StepChecker, state: State) -> None:
        """The step checker points at a step there is; a trajectory that ended wrong has a first error."""
        error: object = self.call("first_error", checker.first_error, state)
        if error is not None and not (isinstance(error, int) and 0 <= error < len(state.steps)):
            rule = "`first_error` gives the index of a step, or None"
            self.report(rule, f"first_error({short(state)}) gave {short(error)}")
        answer = self.call("answer", self.environment.answer, state)
        wrong = answer is not None and not self.verdict("check", self.environment.check, state.problem, answer)
        if wrong and error is None and state.problem.answer is not None:
            rule = "A trajectory that ends wrong has a first error"
            self.report(rule, f"first_error({short(state)}) gave None")


def _equal(a: object, b: object) -> bool:
    return a == b or repr(a) == repr(b)  # a NaN reward is reported as such, not as a change of mind


def _is_copied(error: BaseException | None) -> bool:
    return isinstance(error, _Copied) or (error is not None and _is_copied(error.__cause__ or error.__context__))


def _twice(problems: Sequence[Problem]) -> str:
    ids = [problem.id for problem in problems]
    return next(name for name in ids if ids.count(name) > 1)


@contextlib.contextmanager
def _limit(seconds: float) -> Iterator[None]:
    """Interrupt what runs too long, regular expressions included; where signals do not serve, only time it."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise _TooLong

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
