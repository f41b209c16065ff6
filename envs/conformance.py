"""The conformance kit of environments: `check_environment` tries every rule that search relies on.

An author of a plug-in calls it in one test; it needs no model and takes some seconds. It raises one error that lists
every rule that was broken, with the input that broke it and what came back; if none was, it says how long calls took.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import math
import random
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import FrameType
from typing import Any, NoReturn, TypeGuard, TypeVar

from envs.core import (
    SPLITS,
    Demonstrator,
    Environment,
    Finish,
    Problem,
    SelfProving,
    SlowStepper,
    Split,
    State,
    Step,
    StepChecker,
    StepLister,
    Transition,
    UnreadableQuestion,
    is_text,
    render,
)
from envs.errors import StepwellError
from envs.messages import no_json, short
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

MAX_OBSERVATION = 100_000
"""Characters that an environment may answer to a step: all that follows has to fit beside it in a context."""

MAX_PROMPT = 1_000_000
"""Characters of a prompt: no context holds more."""

NO_TEXT: tuple[str, ...] = ("\ud800", "1\udcff", "\udfff\ud800")
"""Actions with half a surrogate pair, which no encoding can write: they end the trajectory."""

SLOW = 0.05  # seconds a call takes on average: a thousand steps of a search then take a minute
_AGAIN = 8  # calls of each method that are made once more at the end
_RUN = 40  # times that a character is repeated in a text that is to make a regular expression backtrack
_STRETCHED = 24  # such texts
_TRIES = 60  # steps tried for one that goes on
_LONG = 4.0  # seconds after which a walk, or a look at `options`, is broken off: steps may be slow
_SEEDS = 4  # of the problems drawn to see that splits are disjoint
_ALL = 300.0  # seconds that all of it may take, or so many times the patience as are in _PATIENCES
_PATIENCES = 60
_STOPPED = 6  # calls that are stopped for the time they take, before the check ends: each takes all of the patience
_ENDED: tuple[Finish, ...] = ("answer", "length")
_BLIND = "Status and reward do not depend on the gold answer"
_UNCHANGED = "Nothing is ever mutated"


@dataclass(frozen=True)
class Timing:
    """How long the calls of a method took.

    Args:
        method: its name.
        calls: how many were made.
        mean: seconds, on average.
        longest: seconds.
        slowest: the call that took longest, in words.
    """

    method: str
    calls: int
    mean: float
    longest: float
    slowest: str

    def __str__(self) -> str:
        took = f"{self.mean:.2g} s on average, {self.longest:.2g} s at most"
        return f"`{self.method}` took {took} ({self.calls} calls; the longest: {self.slowest})"


@dataclass(frozen=True)
class Findings:
    """What was found of an environment.

    Args:
        broken: one sentence for each rule that was broken.
        timings: how long the calls of each method took, the slowest on average first.
        untried: what could not be tried, and what it takes to have it tried.
    """

    broken: tuple[str, ...]
    timings: tuple[Timing, ...]
    untried: tuple[str, ...] = ()


class NonConforming(StepwellError, AssertionError):
    """An environment broke rules; `broken` has one sentence for each, `timings` how long calls took."""

    def __init__(self, name: str, broken: Sequence[str], timings: Sequence[Timing] = ()) -> None:
        self.broken, self.timings = tuple(broken), tuple(timings)
        super().__init__(f"{name} breaks {len(broken)} rule(s):\n" + "\n".join(f"- {line}" for line in broken))


def check_environment(
    environment: Environment,
    problems: Sequence[Problem] = (),
    seed: int = 0,
    n: int = 12,
    patience: float | None = None,
) -> tuple[Timing, ...]:
    """Try every rule of the `Environment` protocol, and of `Demonstrator` and `StepChecker` where they apply.

    Args:
        environment: what to check.
        problems: problems to try beside those the environment draws itself.
        seed: of the problems drawn and of the demonstrations.
        n: problems drawn from each split.
        patience: as of `examine_environment`.

    Returns:
        How long the calls of each method took, the slowest on average first.

    Raises:
        NonConforming: listing every rule that was broken.
    """
    found = examine_environment(environment, problems, seed, n, patience)
    if found.broken:
        name = getattr(environment, "name", type(environment).__name__)
        raise NonConforming(f"environment {name!r}", found.broken, found.timings)
    return found.timings


def examine_environment(
    environment: Environment,
    problems: Sequence[Problem] = (),
    seed: int = 0,
    n: int = 12,
    patience: float | None = None,
    watch: Callable[[str], object] = lambda call: None,
) -> Findings:
    """`check_environment`, for who wants to read what was found: nothing is raised.

    An environment whose answers prove themselves (a plan that reaches a goal, say, of which there are many) says so by
    an attribute, ``self_proving = True``. Its `check` needs no gold answer: that of a problem may be any text that says
    what is wanted, and need not pass. What must pass then is the answer of a demonstration (or of the likeliest
    `options`), with any gold answer and with none.

    Args:
        environment: what to check.
        problems: problems to try beside those the environment draws itself.
        seed: of the problems drawn and of the demonstrations.
        n: problems drawn from each split.
        patience: seconds that any one call may take; if not given, the environment's `step_timeout`, or else 5. All of
            it may take 60 times as long, and five minutes at least.
        watch: is told each call, in words, before it is made.
    """
    if patience is None:
        patience = environment.step_timeout if isinstance(environment, SlowStepper) else 5.0
    checks = _Checks(environment, seed, n, patience, watch)
    broken = checks.run(problems)
    return Findings(tuple(broken), checks.timings(), checks.untried())


class _Failed(Exception):
    """A call failed and was reported; what depends on it is skipped."""


class _TooLong(BaseException):
    """Raised inside a call that outlives the patience; not an Exception, so that handlers let it through."""


class _Enough(BaseException):
    """So much time has gone that what is left would take hours; not an Exception, as `_TooLong`. Says how it went."""


class _Sealed(dict[str, Any]):
    """Facts about a problem that can be read, but neither pickled nor copied."""

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise _Copied("it was pickled or copied")


class _Copied(Exception):
    """What should have been left where it is was pickled or copied."""


class _Checks:
    """One run: collects the first breach of each rule and counts the others."""

    def __init__(
        self, environment: Environment, seed: int, n: int, patience: float, watch: Callable[[str], object]
    ) -> None:
        self.environment = environment
        self.seed = seed
        self.n = n
        self.patience = patience
        self.watch = watch
        self.time = max(_ALL, _PATIENCES * patience) if math.isfinite(patience) else patience
        self.begun = time.monotonic()
        self.answered = False  # a step that was tried has ended in an answer
        self.breaches: dict[str, list[str]] = {}
        self.proving = isinstance(environment, SelfProving) and environment.self_proving is True
        self.stopped = 0  # calls that outlived the patience
        self.others: Sequence[str] = ()  # the demonstration of the problem before
        self.seconds: dict[str, list[tuple[float, str]]] = {}  # that the calls of each method took, with the call
        self.made: dict[str, list[tuple[str, Callable[..., Any], tuple[Any, ...], object]]] = {}  # the first of each

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
        except _Enough as enough:
            self.report("All rules can be tried in bounded time", f"{enough}, and the rest was not tried")
        finally:
            random.setstate(state)
        more = {rule: f" (and {len(seen) - 1} more)" if len(seen) > 1 else "" for rule, seen in self.breaches.items()}
        return [f"{rule}: {seen[0]}{more[rule]}." for rule, seen in self.breaches.items()]

    def timings(self) -> tuple[Timing, ...]:
        """How long calls took, by method."""
        found = [
            Timing(what, len(taken), sum(seconds for seconds, _ in taken) / len(taken), *max(taken))
            for what, taken in self.seconds.items()
        ]
        return tuple(sorted(found, key=lambda timing: -timing.mean))

    def untried(self) -> tuple[str, ...]:
        """What no rule was tried on, as nothing led there."""
        if self.answered or self.breaches:
            return ()
        what = "no step that was tried ends in an answer, so no ending was tried"
        return (f"{what}: give the environment `demonstrate` or `options`",)

    def rules(self, extra: Sequence[Problem]) -> None:
        """All rules but those of the attributes."""
        drawn: list[Problem] = []
        with contextlib.suppress(_Failed):
            drawn = self.splits()
        problems = [*extra, *drawn]
        self.answers(problems)
        for problem in problems:
            for rule in (self.questions, self.beginnings, self.sealed, self.steps, self.demonstrations, self.blind):
                with contextlib.suppress(_Failed):
                    rule(problem)
        for rule in (self.hostile, self.endings, self.fakes):
            for problem in problems[:3]:
                with contextlib.suppress(_Failed):
                    rule(problem)
        texts = tuple(dict.fromkeys(text for problem in problems for text in self.texts(problem)))
        for problem in problems[:2]:
            for rule in (self.stretched, partial(self.walks, texts=texts)):
                with contextlib.suppress(_Failed):
                    rule(problem)
        self.later()

    # ------------------------------------------------------------------------------------------------- reporting

    def report(self, rule: str, seen: str) -> None:
        """Record what was seen of a broken rule; a rule may be broken in several ways."""
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
        elif len(made := self.made.setdefault(what, [])) < _AGAIN:
            made.append((shown, function, arguments, first))
        return first

    def later(self) -> None:
        """State that hides in the environment may set in after some calls: the first ones are made once more."""
        for what, made in self.made.items():
            for shown, function, arguments, first in made:
                with contextlib.suppress(_Failed):
                    again = self.once(what, shown, function, arguments, None)
                    if not _equal(first, again):
                        rule = f"`{what}` gives the same result for the same arguments"
                        self.report(rule, f"{shown} gave {short(first)}, and after many other calls {short(again)}")

    def once(
        self, what: str, shown: str, function: Callable[..., T], arguments: Any, allow: type[Exception] | None
    ) -> T:
        """One call, within the patience."""
        self.watch(shown)
        started = time.monotonic()
        if started - self.begun > self.time:
            calls = sum(map(len, self.seconds.values()))
            slowest = "".join(f"; {each}" for each in self.timings()[:1])
            raise _Enough(f"{self.time:g} s were over after {calls} calls{slowest}")
        mood = random.getstate()
        slow = f"`{what}` returns in bounded time"
        try:
            with self.limit():
                result = function(*arguments)
        except (_TooLong, _Enough) as stopped:
            self.report(slow, f"{shown} was stopped after {self.patience:g} s")
            if isinstance(stopped, _Enough):
                raise
            raise _Failed from None
        except (Exception, SystemExit) as error:
            if allow is not None and isinstance(error, allow):
                raise
            rule = "Nothing is pickled or copied" if _is_copied(error) else f"`{what}` never raises"
            self.report(rule, f"{shown} raised {type(error).__name__}: {short(str(error))}")
            raise _Failed from None
        seconds = time.monotonic() - started
        self.seconds.setdefault(what, []).append((seconds, shown))
        if seconds > self.patience:
            self.report(slow, f"{shown} took {seconds:.1f} s")
        if random.getstate() != mood:
            self.report(f"`{what}` leaves the global random state alone", f"{shown} drew from it")
            random.setstate(mood)
        if promise := _promised(result):
            self.report(f"`{what}` returns its result", f"{shown} gave {promise}")
            raise _Failed
        return result

    @contextlib.contextmanager
    def limit(self) -> Iterator[None]:
        """The patience for what is called within this context; raises `_TooLong`, and `_Enough` the last time."""
        try:
            with _limit(self.patience):
                yield
        except _TooLong:
            self.stopped += 1
            if self.stopped >= _STOPPED:
                raise _Enough(f"{self.stopped} calls were stopped after {self.patience:g} s") from None
            raise

    # ----------------------------------------------------------------------------------------------------- rules

    def attributes(self) -> None:
        """Name, delimiter, depth, time limit; and that the rest can be called."""
        environment = self.environment
        for name in ("name", "delimiter"):
            value: object = getattr(environment, name)
            if not _is_full_text(value):
                self.report(f"`{name}` is a text that is not empty", f"it is {short(value)}")
        depth: object = environment.max_steps
        if not isinstance(depth, int) or isinstance(depth, bool) or depth < 1:
            self.report("`max_steps` is a whole number of at least 1", f"it is {short(depth)}")
        limit: object = getattr(environment, "step_timeout", 1.0)
        if not isinstance(limit, int | float) or not limit > 0:
            self.report("`step_timeout`, if there is one, is a number of seconds above 0", f"it is {short(limit)}")
        for name in ENVIRONMENTS.members():
            if name not in ("name", "delimiter", "max_steps") and not callable(getattr(environment, name)):
                self.report(f"`{name}` is a method", f"it is {short(getattr(environment, name))}")
            elif _is_async(getattr(environment, name)):  # calls within the environment would never be awaited
                self.report(f"`{name}` is a plain method", "it is `async`")

    def splits(self) -> list[Problem]:
        """Problems: as many as asked for, well made, distinct, disjoint between splits."""
        drawn: list[Problem] = []
        home: dict[tuple[str, str], str] = {}
        for split in SPLITS:
            shown = f"problems({split!r}, {self.n}, {self.seed})"
            random.seed(f"{split} in another mood")
            given = self.problems(split, self.n, self.seed)
            random.seed("yet another mood")
            if not _equal(self.problems(split, self.n, self.seed), given):
                self.report("`problems` gives the same result for the same arguments", f"{shown} gave others later")
            if len(given) != self.n:
                self.report("`problems` gives as many problems as asked for", f"{shown} gave {len(given)}")
            if others := [other for other in given if not isinstance(other, Problem)]:
                self.report("`problems` gives Problems", f"{shown} gave {short(others[0])}")
            made = [problem for problem in given if isinstance(problem, Problem) and self.well_made(problem, shown)]
            if len({problem.id for problem in made}) != len(made):
                self.report("The ids of problems are unique", f"{shown} has {_twice(made)!r} more than once")
            self.at_home(made, split, self.seed, home)
            for seed in range(self.seed + 1, self.seed + _SEEDS):
                more = [each for each in self.problems(split, self.n, seed) if isinstance(each, Problem)]
                self.at_home(more, split, seed, home)
            drawn += made
        if given := self.problems(SPLITS[0], 0, self.seed):
            shown = f"problems({SPLITS[0]!r}, 0, {self.seed})"
            self.report("`problems` gives as many problems as asked for", f"{shown} gave {len(given)}")
        return drawn

    def problems(self, split: Split, n: int, seed: int) -> Sequence[object]:
        """What `problems` gives, in the form that it should have."""
        given: object = self.call("problems", self.environment.problems, split, n, seed)
        if not isinstance(given, Sequence) or isinstance(given, str | bytes):
            shown = f"problems({split!r}, {n}, {seed})"
            self.report("`problems` gives a sequence", f"{shown} gave {short(given)}")
            raise _Failed
        return list(given)

    def well_made(self, problem: Problem, shown: str) -> bool:
        """Whether a problem is one that everything else can be tried on."""
        if not _is_full_text(problem.id) or not _is_full_text(problem.question):
            self.report("A problem has an id and a question", f"{shown} gave {short(problem)}")
            return False
        if problem.answer is not None and not (isinstance(problem.answer, str) and is_text(problem.answer)):
            with_answer = f"{short(problem)} with the answer {short(problem.answer)}"
            self.report("A gold answer is a text, or None", f"{shown} gave {with_answer}")
            return False
        if why := no_json(problem.meta):
            facts = f"{short(problem)} with {short(problem.meta)}: {short(why)}"
            self.report("The facts (`meta`) of a problem are JSON", f"{shown} gave {facts}")
        return not why

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
        """Check `same` (reflexive, symmetric, for hostile texts too) and `check` (of gold and of other answers)."""
        environment = self.environment
        gold = {answer: problem for problem in problems if (answer := self.right(problem)) is not None}
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
                self.gold(problem, answer, [other for other in gold if other != answer])
                self.nonsense(problem, answer, HOSTILE if index < 4 else ("",))
        if self.proving and not gold:
            for problem in problems[:4]:
                with contextlib.suppress(_Failed):
                    self.nonsense(problem, None, HOSTILE)

    def right(self, problem: Problem) -> str | None:
        """An answer that must pass: the gold one, or where answers prove themselves that of a demonstration, if any."""
        if not self.proving:
            return problem.answer
        environment = self.environment
        with contextlib.suppress(Exception, SystemExit, _TooLong), self.limit():  # reported elsewhere
            state = environment.initial(problem)
            for text in self.texts(problem):
                state = environment.step(state, Step(text)).state
            return environment.answer(state)
        return None

    def gold(self, problem: Problem, answer: str, others: Sequence[str]) -> None:
        """The right answer passes, and most answers to other problems do not."""
        check, unknown = self.environment.check, replace(problem, answer=None)
        if not self.verdict("check", check, problem, answer):
            self.report("The gold answer passes", f"check({problem.id!r}, {short(answer)}) gave False")
        passes, shown = (
            self.verdict("check", check, unknown, answer),
            f"check({problem.id!r} without one, {short(answer)})",
        )
        if self.proving and not passes:
            self.report("An answer that proves itself passes when the gold answer is unknown", f"{shown} gave False")
        if passes and not self.proving:
            self.report("No answer passes when the gold answer is unknown", f"{shown} gave True")
        for other in others[:12]:
            same = self.verdict("same", self.environment.same, answer, other)
            if same and not self.verdict("check", check, problem, other):
                pair = f"{short(answer)}, {short(other)}"
                seen = f"same({pair}) gave True, and check({problem.id!r}, {short(other)}) False"
                self.report("An answer that is the same as the right one passes", seen)
        if len(others) > 3 and all(self.verdict("check", check, problem, other) for other in others[:12]):
            shown = f"check({problem.id!r}, {short(others[0])}) gave True"
            self.report(
                "A wrong answer fails", f"{shown}, as with the answers of {len(others[:12]) - 1} other problems"
            )

    def nonsense(self, problem: Problem, answer: str | None, texts: Sequence[str]) -> None:
        """What is no answer does not pass; `answer` is the right one, if it is known."""
        check = self.environment.check
        for text in texts:
            if text != answer and self.verdict("check", check, problem, text):
                rule = "The empty answer fails" if not text.strip() else "Nonsense is no right answer"
                self.report(rule, f"check({problem.id!r}, {short(text)}) gave True")

    def verdict(self, what: str, function: Callable[..., bool], *arguments: Any) -> bool:
        """Call something that must return a bool; raises `_Failed` if it does not."""
        result: object = self.call(what, function, *arguments)
        if not isinstance(result, bool):
            shown = ", ".join(map(short, arguments))
            self.report(f"`{what}` returns True or False", f"{what}({shown}) gave {short(result)}")
            raise _Failed
        return result

    def questions(self, problem: Problem) -> None:
        """The environment reads its own questions; prompts are texts that do not depend on the gold answer."""
        environment, shown = self.environment, f"read({short(problem.question)})"
        try:
            read: object = self.call("read", environment.read, problem.question, allow=UnreadableQuestion)
            if not isinstance(read, Problem):
                self.report("`read` gives a Problem", f"{shown} gave {short(read)}")
                raise _Failed
            known = read.answer is not None and problem.answer is not None
            right = self.right(problem)
            with contextlib.suppress(_Failed):
                if known and right is not None and not self.verdict("check", environment.check, read, right):
                    rule = "A question read back has the same answer"
                    self.report(rule, f"{shown} gave {short(read.answer)}, not {short(problem.answer)}")
        except UnreadableQuestion as error:
            rule = "`read` reads the environment's own questions"
            self.report(rule, f"{shown} raised UnreadableQuestion: {short(str(error))}")
        prompt: object = self.call("prompt", environment.prompt, problem)
        if not _is_full_text(prompt):
            self.report("A prompt is a text that is not empty", f"prompt({problem.id!r}) gave {short(prompt)}")
        elif len(prompt) > MAX_PROMPT:
            rule = f"A prompt has at most {MAX_PROMPT} characters"
            self.report(rule, f"prompt({problem.id!r}) gave {len(prompt)} characters")
            raise _Failed
        for other in (None, "another answer"):
            if self.call("prompt", environment.prompt, replace(problem, answer=other)) != prompt:
                rule = "A prompt does not depend on the gold answer"
                self.report(rule, f"prompt({problem.id!r}) gave another text with the answer {other!r}")

    def beginning(self, problem: Problem) -> State:
        """The state before the first step; without a sound one nothing can be tried."""
        state: object = self.call("initial", self.environment.initial, problem)
        if not isinstance(state, State) or state.steps != () or state.problem != problem:
            given = f"{short(state.problem)} with steps {state.steps!r}" if isinstance(state, State) else short(state)
            self.report("`initial` gives the problem without steps", f"initial({problem.id!r}) gave {given}")
            raise _Failed
        return state

    def beginnings(self, problem: Problem) -> None:
        """The state before the first step can be branched, and has no answer."""
        state = self.beginning(problem)
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
        elif not 0 <= result.reward <= 1:
            self.report("A reward is between 0 and 1", f"{shown} gave {short(result.reward)}")
        seen: object = after.steps[-1].observation
        if not isinstance(seen, str) or len(seen) > MAX_OBSERVATION or not is_text(seen):
            rule = f"An observation is a text of at most {MAX_OBSERVATION} characters"
            size = f" ({len(seen)} characters)" if isinstance(seen, str) else ""
            self.report(rule, f"{shown} was answered {short(seen)}{size}")
            raise _Failed  # a trajectory of such states would fill the memory
        answer: object = self.call("answer", self.environment.answer, after)
        if (result.status == "terminated") != isinstance(answer, str):
            rule = "A state has an answer if and only if it terminated"
            self.report(rule, f"{shown} is {result.status}, and its answer {short(answer)}")
        self.answered = self.answered or isinstance(answer, str)
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
        state = self.beginning(problem)
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
        with contextlib.suppress(Exception, SystemExit, _TooLong), self.limit():  # what is wrong is reported elsewhere
            if isinstance(environment, Demonstrator):
                written = list(environment.demonstrate(problem, random.Random(self.seed)))
            elif options := getattr(environment, "options", None):
                state, status = environment.initial(problem), "running"
                while status == "running" and _fits(state) and (weights := options(state)):
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
            ends = f"{outcomes[-1]}, and in {otherwise[-1]} with another gold answer"
            self.report(_BLIND, f"{shown} ends in {ends}")

    def blind(self, problem: Problem) -> None:
        """What a search sees is the same with another gold answer, and with none."""
        texts = self.texts(problem)
        seen = self.along(problem, texts)
        for rule, facts in (
            (_BLIND, lambda result: (result.status, result.reward)),
            ("An observation does not depend on the gold answer", lambda result: result.state.steps[-1].observation),
        ):
            for other in ("another answer", None):
                otherwise = self.along(replace(problem, answer=other), texts)
                for step, (result, changed) in enumerate(zip(seen, otherwise, strict=False)):
                    if facts(result) != facts(changed) and (rule != _BLIND or rule not in self.breaches):
                        shown = f"after {short(texts[: step + 1])} on {problem.id!r} there is {short(facts(result))}"
                        self.report(rule, f"{shown}, and {short(facts(changed))} with the gold answer {other!r}")
                        break

    def along(self, problem: Problem, texts: Sequence[str]) -> list[Transition]:
        """The transitions along a trajectory, until it ends."""
        state = self.beginning(problem)
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
        state = self.beginning(problem)
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

    def fakes(self, problem: Problem) -> None:
        """What `options` gives, where there is such a method: steps with weights."""
        environment = self.environment
        if not isinstance(environment, StepLister):
            return
        end = time.monotonic() + _LONG
        for state in [self.beginning(problem)] + [
            result.state for result in self.along(problem, self.texts(problem)) if result.status == "running"
        ]:  # a policy is never asked after the end
            if time.monotonic() > end:
                return
            self.weights(state, self.call("options", environment.options, state))

    def weights(self, state: State, weights: object) -> None:
        """Steps that can be taken, with weights to draw by."""
        rule, shown = "`options` gives texts without the delimiter, with weights above 0", f"options({short(state)})"
        if not isinstance(weights, Mapping):
            self.report(rule, f"{shown} gave {short(weights)}")
            return
        for text, weight in weights.items():
            fits = isinstance(text, str) and self.environment.delimiter not in text
            if not fits or not isinstance(weight, int | float) or not 0 < weight < math.inf:
                self.report(rule, f"{shown} gave {short(text)} with the weight {short(weight)}")

    def walks(self, problem: Problem, texts: Sequence[str]) -> None:
        """Legal steps, one after another, end within max_steps as well (`move` sees to it).

        Tried are `options`, steps of demonstrations, and these with two words or letters exchanged: back and forth.
        """
        texts = tuple(dict.fromkeys([*texts, *itertools.chain.from_iterable(map(_exchanged, texts))]))
        options = getattr(self.environment, "options", None)
        rng = random.Random(f"{self.seed}/{problem.id}")
        state, depth, running = self.beginning(problem), 0, True
        end = time.monotonic() + _LONG
        while running and depth < self.environment.max_steps and time.monotonic() < end:
            known: list[str] = []
            with contextlib.suppress(Exception, SystemExit, _TooLong), self.limit():
                known = [text for text in options(state) if isinstance(text, str)] if options else []
            tries = [*rng.sample(known, len(known)), *rng.sample(texts, len(texts))][:_TRIES]
            going_on = (self.goes_on(state, text) for text in tries)
            state, running = next(((after, True) for after in going_on if after is not None), (state, False))
            depth += running

    def goes_on(self, state: State, text: str) -> State | None:
        """The state after a step that is not the last, tried once; at the depth where all must end, with every rule."""
        step = Step(text)
        if len(state.steps) + 1 >= self.environment.max_steps:
            self.move(state, step)
            return None
        with contextlib.suppress(Exception, SystemExit, _TooLong), self.limit():  # reported elsewhere
            result = self.environment.step(state, step)
            return result.state if result.status == "running" and _fits(result.state) else None
        return None

    def stretched(self, problem: Problem) -> None:
        """Long runs of one character in a text that is otherwise legal: expressions that backtrack do so on them."""
        environment, slow = self.environment, " returns in bounded time"
        state = self.beginning(problem)
        texts = dict.fromkeys(itertools.chain.from_iterable(map(_stretched, self.texts(problem))))
        for text in itertools.islice(texts, _STRETCHED):
            if any(rule.endswith(slow) for rule in self.breaches):
                return  # each of them would take all of the patience
            with contextlib.suppress(_Failed):
                self.move(state, Step(text))
        for text in itertools.islice(_stretched(problem.question), _STRETCHED):
            if any(rule.endswith(slow) for rule in self.breaches):
                return
            with contextlib.suppress(_Failed, UnreadableQuestion):
                self.call("read", environment.read, text, allow=UnreadableQuestion)
        for text in itertools.islice(_stretched(problem.answer or ""), _STRETCHED):
            if any(rule.endswith(slow) for rule in self.breaches):
                return
            with contextlib.suppress(_Failed):
                self.verdict("check", environment.check, problem, text)

    def hostile(self, problem: Problem) -> None:
        """Whatever is typed or written, nothing raises and nothing hangs."""
        environment = self.environment
        state = self.beginning(problem)
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
    """Whether two results are the same; a NaN reward is reported as such, not as a change of mind."""
    with contextlib.suppress(Exception):  # of a class of somebody else: arrays are neither true nor false
        if a == b:
            return True
    return repr(a) == repr(b)


def _is_full_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and bool(value) and is_text(value)


def _is_async(method: object) -> bool:
    return inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)


def _promised(result: object) -> str:
    """What a call gave in place of its result: something that is yet to be run."""
    if inspect.iscoroutine(result):
        result.close()  # or Python warns that it was never awaited
        return "a coroutine"
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        return "a generator"
    return "what is yet to be awaited" if inspect.isawaitable(result) else ""


def _fits(state: State) -> bool:
    """Whether the last observation is one that a context holds; what is not is reported by `move`."""
    return not state.steps or len(state.steps[-1].observation) <= MAX_OBSERVATION


def _exchanged(text: str) -> Iterator[str]:
    """A text with two of its words exchanged, or the letters of its last word turned round."""
    words = text.split(" ")
    for i, j in itertools.islice(itertools.combinations(range(len(words)), 2), 10):
        turned = words.copy()
        turned[i], turned[j] = words[j], words[i]
        yield " ".join(turned)
    yield " ".join([*words[:-1], words[-1][::-1]])


def _stretched(text: str) -> Iterator[str]:
    """A text with each of its words, numbers and blanks in turn as a long run of one character, and a flaw behind."""
    for match in itertools.chain(re.finditer(r"[^\W\d_]+", text), re.finditer(r"\d+|\s+|[^\w\s]", text)):
        for character in dict.fromkeys((match[0][0], match[0][-1])):
            run = character * _RUN
            yield text[: match.start()] + run + text[match.end() :]
            yield text[: match.start()] + run + "!" + text[match.end() :]
            yield text[: match.start()] + run


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
