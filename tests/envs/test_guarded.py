"""What a guarded environment does, raises and waits for."""

import inspect
import itertools
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import envs.guarded
from envs import (
    Arithmetic,
    EnvironmentFailure,
    Guarded,
    Problem,
    State,
    Step,
    Toy,
    Transition,
    UnreadableQuestion,
    check_environment,
    guard,
    load_environment,
    termination,
    transition,
    truncation,
)
from envs.core import SlowStepper, StepChecker, StepLister

LIMIT = 1.0  # seconds; sound calls take far less, however busy the machine
TOY = Toy()
PROBLEM = TOY.read("12 with 1 6 10")
ROOT = State(PROBLEM)


class Plugin(Toy):
    """Not one of those that ship."""


def plugin(**members: Any) -> Guarded:
    """A guarded toy with some members replaced; a function is given the arguments of the method."""
    methods = {name: staticmethod(member) if callable(member) else member for name, member in members.items()}
    guarded = guard(type("Odd", (Plugin,), {"step_timeout": LIMIT, **methods})())
    assert isinstance(guarded, Guarded)
    return guarded


def test_what_ships_is_trusted_and_what_does_not_is_guarded() -> None:
    arithmetic = Arithmetic()
    assert guard(arithmetic) is arithmetic
    guarded = guard(Plugin())
    assert isinstance(guarded, Guarded)
    assert guard(guarded) is guarded
    assert guarded.limit == envs.guarded.STEP_TIMEOUT
    slow = Toy()
    slow.step_timeout = 60  # type: ignore[attr-defined]
    assert isinstance(guard(slow), Guarded)


@pytest.mark.parametrize("limit", [0, -1.0, "10", None])
def test_a_time_limit_is_a_number_above_nothing(limit: Any) -> None:
    with pytest.raises(ValueError, match=r"environment 'toy': step_timeout is .*; a number above 0 is needed"):
        plugin(step_timeout=limit)


def test_a_guarded_environment_conforms_and_has_the_attributes_of_its_inside() -> None:
    guarded = guard(Plugin())
    check_environment(guarded, n=3)
    assert guarded.options(ROOT) == TOY.options(ROOT)  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="nothing"):
        guarded.nothing  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(UnreadableQuestion, match="cannot read"):
        guarded.read("what?")


def test_results_are_remembered() -> None:
    taken: list[str] = []

    def step(state: State, step: Step) -> Transition:
        taken.append(step.text)
        return TOY.step(state, step)

    guarded = plugin(step=step)
    for text in ("6", "1", "6"):
        assert guarded.step(ROOT, Step(text)) == TOY.step(ROOT, Step(text))
    assert taken == ["6", "1"]


def _raise(error: BaseException) -> Callable[..., Any]:
    def method(*arguments: Any) -> Any:
        raise error

    return method


def _loop(*arguments: Any) -> Any:
    for _ in itertools.count():
        pass


def _sleep(*arguments: Any) -> Any:
    time.sleep(3600)


CALLS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "initial": ("initial('toy/12 with 1 6 10')", (PROBLEM,)),
    "prompt": ("prompt('toy/12 with 1 6 10')", (PROBLEM,)),
    "step": ("step('toy/12 with 1 6 10' after ('6',), '1')", (ROOT.then(Step("6")), Step("1"))),
    "answer": ("answer('toy/12 with 1 6 10' after ())", (ROOT,)),
    "check": ("check('toy/12 with 1 6 10', '2')", (PROBLEM, "2")),
    "same": ("same('2', '3')", ("2", "3")),
    "problems": ("problems('test', 3, 0)", ("test", 3, 0)),
    "read": ("read('12 with 1 6 10')", ("12 with 1 6 10",)),
}


@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize(
    ("trouble", "did"),
    [
        (_raise(ZeroDivisionError("odd")), "raised ZeroDivisionError: odd"),
        (_raise(SystemExit(3)), "raised SystemExit: 3"),
        (_raise(TimeoutError("no reply")), "raised TimeoutError: no reply"),
        (lambda *arguments: 17, "gave 17, which is no "),
    ],
    ids=["raises", "exits", "times out by itself", "nonsense"],
)
def test_a_failure_names_the_environment_the_state_and_the_action(
    method: str, trouble: Callable[..., Any], did: str
) -> None:
    asked, arguments = CALLS[method]
    if method == "problems" and did.startswith("gave"):
        trouble, did = lambda split, n, seed: [17], "gave 17, which is no Problem"
    guarded = plugin(**{method: trouble})
    message = f"environment 'toy' ({__name__}:Odd): {asked} {did}"
    with pytest.raises(EnvironmentFailure, match="^" + re.escape(message)):
        getattr(guarded, method)(*arguments)


def test_an_environment_from_a_file_is_named_by_it(tmp_path: Path) -> None:
    file = tmp_path / "odd.py"
    file.write_text("from envs import Toy\n\n\nclass Odd(Toy):\n    def same(self, a, b):\n        return None\n")
    with pytest.raises(
        EnvironmentFailure, match=re.escape(f"environment 'toy' ({file}:Odd): same('1', '2') gave None")
    ):
        guard(load_environment(str(file))).same("1", "2")


@pytest.mark.parametrize("method", [name for name in CALLS if name != "problems"])
def test_a_call_that_hangs_is_given_up(method: str) -> None:
    asked, arguments = CALLS[method]
    with pytest.raises(EnvironmentFailure, match=re.escape(f"{asked} was given up after 1 s")):
        getattr(plugin(**{method: _sleep}), method)(*arguments)


def test_problems_may_take_longer_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envs.guarded, "LOADING", 1.5)
    with pytest.raises(EnvironmentFailure, match=r"problems\('test', 3, 0\) was given up after 1.5 s"):
        plugin(problems=_sleep).problems("test", 3)


def test_a_loop_that_is_given_up_ends() -> None:
    threads: list[threading.Thread] = []

    def step(state: State, step: Step) -> Transition:
        threads.append(threading.current_thread())
        _loop()
        raise AssertionError

    with pytest.raises(EnvironmentFailure, match="was given up"):
        plugin(step=step).step(ROOT, Step("1"))
    threads[0].join(30)
    assert not threads[0].is_alive()


def test_calls_that_hang_hold_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them than there are threads; those that wait for a thread are not on the clock."""
    monkeypatch.setattr(envs.guarded, "WORKERS", 2)
    guarded = plugin(step=lambda state, step: TOY.step(state, step) if step.text == "6" else _sleep())
    hung = [guarded.begin(ROOT, Step(str(number))) for number in range(5)]
    sound = guarded.begin(ROOT, Step("6"))
    sound.wait()
    assert sound.value == TOY.step(ROOT, Step("6"))
    for call in hung:
        call.wait()
        assert "given up" in str(call.failure)


@pytest.mark.parametrize(
    ("result", "wrong"),
    [
        (transition(ROOT), "is not the state with the step appended"),
        (transition(State(TOY.read("13 with 1 6"), (Step("6"),))), "is not the state with the step appended"),
        (transition(ROOT.then(Step("7"))), "is not the state with the step appended"),
        (transition(State(PROBLEM, ("6",))), "is not the state with the step appended"),  # type: ignore[arg-type]
        (Transition(ROOT.then(Step("6")), 0.0, "over"), "has a status other than running, terminated, truncated"),  # type: ignore[arg-type]
        (transition(ROOT.then(Step("6")), float("nan")), "has the reward .*, which is no finite int or float"),
        (transition(ROOT.then(Step("6")), "1"), "has the reward .*, which is no finite int or float"),  # type: ignore[arg-type]
        (transition(ROOT.then(Step("6", observation=b"6"))), "has the observation b'6', which is no str"),  # type: ignore[arg-type]
    ],
)
def test_a_transition_that_makes_no_sense(result: Transition, wrong: str) -> None:
    with pytest.raises(
        EnvironmentFailure, match=rf"step\('toy/12 with 1 6 10' after \(\), '6'\) gave .*, which {wrong}"
    ):
        plugin(step=lambda state, step: result).step(ROOT, Step("6"))


@pytest.mark.parametrize(
    ("problem", "wrong"),
    [
        (None, "which is no Problem"),
        ({"id": "1", "question": "1"}, "which is no Problem"),
        (Problem(7, "7"), "whose id is 7, which is no str"),  # type: ignore[arg-type]
        (Problem("7", None), "whose question is None, which is no str"),  # type: ignore[arg-type]
        (Problem("7", "7", ["7"]), "whose answer is \\['7'\\], which is no str"),  # type: ignore[arg-type]
        (Problem("7", "7", meta={"seen": {1}}), "whose meta is no JSON: .*set"),
        (Problem("7", "7", meta=[1]), "whose meta is no JSON"),  # type: ignore[arg-type]
    ],
)
def test_a_problem_that_makes_no_sense(problem: object, wrong: str) -> None:
    odd = plugin(read=lambda question: problem, problems=lambda split, n, seed: [problem])
    with pytest.raises(EnvironmentFailure, match=rf"read\('7'\) gave .*{wrong}"):
        odd.read("7")
    with pytest.raises(EnvironmentFailure, match=rf"problems\('test', 1, 0\) gave .*{wrong}"):
        odd.problems("test", 1)


@pytest.mark.parametrize(
    "given", [None, 7, "texts", b"bytes", {PROBLEM}, iter([PROBLEM])], ids=lambda given: type(given).__name__
)
def test_problems_are_a_sequence(given: object) -> None:
    with pytest.raises(EnvironmentFailure, match="which is no sequence"):
        plugin(problems=lambda split, n, seed: given).problems("test", 1)


def test_what_an_environment_can_do_is_asked_of_its_guard_as_python_asks() -> None:
    for declared in (StepLister, SlowStepper):
        assert isinstance(plugin(), declared)
        for name in vars(declared):
            if not name.startswith("_"):
                inspect.getattr_static(plugin(), name)  # how isinstance looks from Python 3.12 on
    assert not isinstance(plugin(), StepChecker)


def test_other_nonsense() -> None:
    with pytest.raises(EnvironmentFailure, match="which is no Transition"):
        plugin(step=lambda state, step: None).step(ROOT, Step("6"))
    with pytest.raises(EnvironmentFailure, match="raised TypeError: unhashable type: 'list'"):
        plugin(step=lambda state, step: transition(State(PROBLEM, [step]))).step(ROOT, Step("6"))  # type: ignore[arg-type]
    with pytest.raises(EnvironmentFailure, match=r"after \('6',\), which is not the problem without steps"):
        plugin(initial=lambda problem: ROOT.then(Step("6"))).initial(PROBLEM)
    endless = plugin(step=lambda state, step: transition(state.then(step)))
    state = State(PROBLEM, (Step("1"),) * 7)
    with pytest.raises(EnvironmentFailure, match="which is running after 8 steps, and max_steps is 8"):
        endless.step(state, Step("1"))


def test_a_failure_is_forgotten_when_nobody_waits_for_it_any_more() -> None:
    moods = iter((ZeroDivisionError("odd"), None))

    def step(state: State, step: Step) -> Transition:
        if mood := next(moods):
            raise mood
        return termination(state.then(step))

    guarded = plugin(step=step)
    held = guarded.begin(ROOT, Step("6"))
    for _ in range(2):
        with pytest.raises(EnvironmentFailure, match="odd"):
            guarded.step(ROOT, Step("6"))
    guarded.release(held)
    assert guarded.step(ROOT, Step("6")).status == "terminated"


def test_what_nobody_waits_for_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envs.guarded, "WORKERS", 1)
    hold, taken = threading.Event(), list[str]()

    def step(state: State, step: Step) -> Transition:
        hold.wait()
        taken.append(step.text)
        return truncation(state.then(step))

    guarded = plugin(step=step, step_timeout=60)
    first, dropped, last = (guarded.begin(ROOT, Step(text)) for text in "abc")
    guarded.release(dropped)
    hold.set()
    for call in (first, last):
        call.wait()
    assert taken == ["a", "c"]
    assert guarded.step(ROOT, Step("b")).status == "truncated"  # and it can be asked for again


def test_threads_end_when_there_is_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envs.guarded, "_IDLE", 0.05)
    before = set(threading.enumerate())
    plugin().step(ROOT, Step("6"))
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive()
