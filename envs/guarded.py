"""Containment: an environment that raises, hangs or returns nonsense spoils only the problem that it does it on.

The environments that ship are trusted and called as they are. Any other one, and one of ours that declares a
`step_timeout` because its transitions are slow, is called through `Guarded`: in a thread, within a time limit, and what
comes back is looked at before it is believed. Every failure becomes an `EnvironmentFailure` that names the environment,
the state and the action.

Threads rather than processes, because an environment is any object: it need not be importable, picklable or safe to
fork, and may hold a connection or a data set. A thread cannot be killed, so a call that outlives its limit is given up
instead: an exception is raised in it, which ends a loop of Python code, and another thread takes its place should it be
stuck where exceptions do not reach, in a system call say. One thing does stop everybody: C code that never lets go
of the interpreter, such as a regular expression that backtracks for ever. `check_environment` looks for those.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import queue
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar, get_args

from envs.core import (
    Demonstrator,
    Environment,
    Observer,
    Problem,
    Reviser,
    SelfProving,
    SlowStepper,
    Split,
    State,
    Status,
    Step,
    StepChecker,
    StepLister,
    Transition,
    UnreadableQuestion,
)
from envs.errors import StepwellError
from envs.messages import no_json, short
from envs.plugins import FILES

T = TypeVar("T")

STEP_TIMEOUT: Final = 10.0  # seconds that a call may take, unless the environment declares its own `step_timeout`
LOADING: Final = 300.0  # seconds that `problems` may take: it may have to load a data set
WORKERS: Final = min(32, (os.cpu_count() or 1) + 4)  # calls of one environment that run at once
_IDLE = 5.0  # seconds after which a thread without work ends
_TICK = 0.1  # seconds between two looks at the time that calls take
_KEPT = 1 << 16  # results remembered: more than the searches that run at once have on their way
_DECLARED = (Demonstrator, Observer, Reviser, SelfProving, SlowStepper, StepChecker, StepLister)
_ABILITIES = [name for declared in _DECLARED for name in vars(declared) if not name.startswith("_")]


class EnvironmentFailure(StepwellError, RuntimeError):
    """A call of an environment failed; the message names the environment, the state, the action and what happened."""


class _Nonsense(Exception):
    """What a call returned is not what the protocol says."""


class _TooLong(Exception):
    """A call outlived its limit."""


class _GivenUp(SystemExit):
    """Raised in a thread whose call is no longer waited for; not an Exception, so that handlers let it through."""


def guard(environment: Environment) -> Environment:
    """The environment itself if it ships and is fast, or else a `Guarded` one around it.

    Raises:
        ValueError: its `step_timeout` is no number above 0.
    """
    ships = type(environment).__module__.partition(".")[0] == __name__.partition(".")[0]
    if isinstance(environment, Guarded) or (ships and not hasattr(environment, "step_timeout")):
        return environment
    return Guarded(environment)


class Call:
    """One call of a method, queued, running or over; `Guarded` makes them.

    Args:
        method: its name.
        function: the method, with its result looked at.
        arguments: as they were given.
        limit: seconds it may take once it has begun.

    Attributes:
        wanted: how many wait for it; a queued call that nobody waits for is not begun.
        failure: what it raised, once it is over; None if it returned something that makes sense.
    """

    def __init__(self, method: str, function: Callable[..., Any], arguments: tuple[Any, ...], limit: float) -> None:
        self.method, self.arguments, self.limit = method, arguments, limit
        self.wanted = 1
        self.value: Any = None
        self.failure: BaseException | None = None
        self._function = function
        self._thread = 0
        self._started = math.inf  # on the clock of `time.monotonic`
        self._lock = threading.Lock()
        self._over = threading.Event()

    def run(self) -> None:
        """Do it in this thread; raises `_GivenUp` when it is over already by the time it returns."""
        self._thread, self._started = threading.get_ident(), time.monotonic()
        value, failure = None, None
        try:
            value = self._function(*self.arguments)
        except _GivenUp:
            raise
        except BaseException as error:  # a plug-in that calls sys.exit has failed like any other
            failure = error
        with self._lock:
            if self._over.is_set():
                _raise_in(self._thread, None)  # if it is still on its way
                raise _GivenUp
            self.value, self.failure = value, failure
            self._over.set()

    def give_up(self) -> bool:
        """End it if it has outlived its limit; whether that was done."""
        if time.monotonic() - self._started <= self.limit:
            return False
        with self._lock:
            if self._over.is_set():
                return False
            self.failure = _TooLong(f"was given up after {self.limit:g} s")
            self._over.set()
            _raise_in(self._thread, _GivenUp)
        return True

    def over(self) -> bool:
        """Whether it returned, raised or was given up."""
        return self._over.is_set()

    def wait(self) -> None:
        """Return when it is over."""
        self._over.wait()


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Raise an exception in another thread as soon as it runs Python code again; None takes it back."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), error and ctypes.py_object(error))


class _Pool:
    """Threads that run calls, and one that gives up those that take too long; all end when there is no work."""

    def __init__(self) -> None:
        self.news = threading.Event()  # set when a call is over
        self._queue: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._running: set[Call] = set()
        self._load = 0  # calls queued or running
        self._threads = 0  # that run calls, but for those that were given up
        self._watched = False

    def submit(self, call: Call) -> None:
        """Queue a call for a thread of the pool; `news` is set when it is over."""
        with self._lock:
            self._queue.put(call)
            self._load += 1
            self._grow()

    def _grow(self) -> None:
        if self._threads < min(WORKERS, self._load):
            self._threads += 1
            threading.Thread(target=self._work, name="environment", daemon=True).start()
        if not self._watched:
            self._watched = True
            threading.Thread(target=self._watch, name="environment-watch", daemon=True).start()

    def _work(self) -> None:
        with contextlib.suppress(_GivenUp):
            while True:
                try:
                    call = self._queue.get(timeout=_IDLE)
                except queue.Empty:
                    with self._lock:
                        if self._queue.empty():
                            self._threads -= 1
                            return
                    continue
                if call.wanted:
                    with self._lock:
                        self._running.add(call)
                    call.run()
                with self._lock:
                    self._running.discard(call)
                    self._load -= 1
                self.news.set()

    def _watch(self) -> None:
        while True:
            time.sleep(_TICK)
            with self._lock:
                for call in [call for call in self._running if call.give_up()]:
                    self._running.discard(call)
                    self._load -= 1
                    self._threads -= 1
                    self._grow()
                    self.news.set()
                if not self._threads:
                    self._watched = False
                    return


class Guarded:
    """An `Environment` around another one: same results, within a time limit, and never nonsense.

    Results are remembered, as environments are pure, so that what a transition cost is paid once. Attributes that are
    not of the protocol are those of the environment inside.

    Args:
        environment: what to call. Its `step_timeout`, if it has one, is how many seconds a call may take.

    Raises:
        ValueError: its `step_timeout` is no number above 0.
    """

    def __init__(self, environment: Environment) -> None:
        self.inside = environment
        self.name, self.delimiter, self.max_steps = environment.name, environment.delimiter, environment.max_steps
        self.limit = environment.step_timeout if isinstance(environment, SlowStepper) else STEP_TIMEOUT
        if not isinstance(self.limit, int | float) or not self.limit > 0:
            raise ValueError(f"environment {self.name!r}: step_timeout is {self.limit!r}; a number above 0 is needed")
        self._shown = f"environment {self.name!r} ({_origin(type(environment))})"
        self._pool = _Pool()
        self._calls: OrderedDict[tuple[str, tuple[Any, ...]], Call] = OrderedDict()
        self._lock = threading.Lock()
        for name in _ABILITIES:  # isinstance does not ask `__getattr__` from Python 3.12 on
            if hasattr(environment, name):
                setattr(self, name, getattr(environment, name))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inside, name)

    # ------------------------------------------------------------------------------------------------------ calls

    def begin(self, state: State, step: Step) -> Call:
        """Begin a transition, or join one that was begun; to be released when its end is not awaited any more."""
        return self._begin("step", self._step, state, step)

    def wait(self, seconds: float) -> None:
        """Return when a call is over that was not when this was last asked, or after some seconds."""
        self._pool.news.wait(seconds)
        self._pool.news.clear()

    def release(self, call: Call) -> None:
        """No longer wait for a call. What failed or was never waited for to its end is forgotten with the last."""
        with self._lock:
            call.wanted -= 1
            key = (call.method, call.arguments)
            lost = call.failure is not None or not call.over()
            if not call.wanted and lost and self._calls.get(key) is call:
                del self._calls[key]

    def _begin(self, method: str, function: Callable[..., Any], *arguments: Any) -> Call:
        with self._lock:
            call = self._calls.get((method, arguments))
            if call is not None:
                call.wanted += 1
                self._calls.move_to_end((method, arguments))
                return call
            limit = max(self.limit, LOADING) if method == "problems" else self.limit
            call = self._calls[method, arguments] = Call(method, function, arguments, limit)
            if len(self._calls) > _KEPT:
                self._calls.popitem(last=False)
        self._pool.submit(call)
        return call

    def _ask(self, method: str, function: Callable[..., T], *arguments: Any) -> T:
        call = self._begin(method, function, *arguments)
        call.wait()
        self.release(call)
        match call.failure:
            case None:
                value: T = call.value
                return value
            case UnreadableQuestion():
                raise call.failure
            case _Nonsense() | _TooLong():
                did = str(call.failure)
            case failure:
                did = f"raised {type(failure).__name__}: {failure}"
        asked = f"{method}({', '.join(map(short, arguments))})"
        raise EnvironmentFailure(f"{self._shown}: {asked} {did}") from call.failure

    # ----------------------------------------------------------------------------------------------- the protocol

    def read(self, question: str) -> Problem:
        """As the environment does; raises `UnreadableQuestion`, and `EnvironmentFailure` as all that follow do."""
        return self._ask("read", self._read, question)

    def prompt(self, problem: Problem) -> str:
        """As the environment does."""
        return self._ask("prompt", self._prompt, problem)

    def initial(self, problem: Problem) -> State:
        """As the environment does; its prompt, which all else needs, is tried too."""
        self.prompt(problem)
        return self._ask("initial", self._initial, problem)

    def step(self, state: State, step: Step) -> Transition:
        """As the environment does."""
        return self._ask("step", self._step, state, step)

    def answer(self, state: State) -> str | None:
        """As the environment does."""
        return self._ask("answer", self._answer, state)

    def check(self, problem: Problem, answer: str) -> bool:
        """As the environment does."""
        return self._ask("check", self._check, problem, answer)

    def same(self, a: str, b: str) -> bool:
        """As the environment does; equal texts are the same, and that is not asked."""
        return a == b or self._ask("same", self._same, a, b)

    def problems(self, split: Split, n: int, seed: int = 0) -> Sequence[Problem]:
        """As the environment does."""
        return self._ask("problems", self._problems, split, n, seed)

    # ------------------------------------------------------------------------------------ what may be believed of it

    def _read(self, question: str) -> Problem:
        return _expect_problem(self.inside.read(question))

    def _prompt(self, problem: Problem) -> str:
        return _expect(str, self.inside.prompt(problem))

    def _initial(self, problem: Problem) -> State:
        state = _expect(State, self.inside.initial(problem))
        if state != State(problem):
            raise _Nonsense(f"gave {short(state)}, which is not the problem without steps")
        return state

    def _step(self, state: State, step: Step) -> Transition:
        result = _expect(Transition, self.inside.step(state, step))
        after, wrong = _expect(State, result.state), ""
        before, last = (after.problem, tuple(after.steps[:-1])), after.steps[-1] if after.steps else None
        if before != (state.problem, state.steps) or not isinstance(last, Step) or last.text != step.text:
            wrong = "is not the state with the step appended"
        elif result.status not in get_args(Status):
            wrong = f"has a status other than {', '.join(get_args(Status))}"
        elif not isinstance(observed := getattr(last, "observation", None), str):
            wrong = f"has the observation {short(observed)}, which is no str"
        elif not isinstance(result.reward, int | float) or not math.isfinite(result.reward):
            wrong = f"has the reward {short(result.reward)}, which is no finite int or float"
        elif result.status == "running" and len(after.steps) >= self.max_steps:
            wrong = f"is running after {len(after.steps)} steps, and max_steps is {self.max_steps}"
        if wrong:
            raise _Nonsense(f"gave {short(result)}, which {wrong}")
        hash(after)
        return result

    def _answer(self, state: State) -> str | None:
        answer = self.inside.answer(state)
        return None if answer is None else _expect(str, answer)

    def _check(self, problem: Problem, answer: str) -> bool:
        return _expect(bool, self.inside.check(problem, answer))

    def _same(self, a: str, b: str) -> bool:
        return _expect(bool, self.inside.same(a, b))

    def _problems(self, split: Split, n: int, seed: int) -> Sequence[Problem]:
        given: object = self.inside.problems(split, n, seed)
        if not isinstance(given, Sequence) or isinstance(given, str | bytes):
            raise _Nonsense(f"gave {short(given)}, which is no sequence")
        return tuple(map(_expect_problem, given))


def _origin(kind: type) -> str:
    """What `load_environment` would find a class by."""
    place = kind.__module__
    if place.startswith(FILES):
        place = str(sys.modules[place].__file__)
    return f"{place}:{kind.__qualname__}"


def _expect_problem(value: object) -> Problem:
    """A problem whose parts are what everything else takes them for."""
    problem = _expect(Problem, value)
    for name in ("id", "question", "answer"):
        part: object = getattr(problem, name)
        if not isinstance(part, str) and (part is not None or name != "answer"):
            raise _Nonsense(f"gave {short(problem)}, whose {name} is {short(part)}, which is no str")
    if why := no_json(problem.meta):
        raise _Nonsense(f"gave {short(problem)}, whose meta is no JSON: {why}")
    return problem


def _expect(kind: type[T], value: object) -> T:
    if not isinstance(value, kind):
        raise _Nonsense(f"gave {short(value)}, which is no {kind.__name__}")
    return value
