"""Each defect planted in a sound environment is caught, by the rule that names it."""

import dataclasses
import itertools
import random
import re
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from envs import (
    Arithmetic,
    NonConforming,
    Problem,
    Split,
    State,
    Step,
    Transition,
    UnreadableQuestion,
    check_environment,
    termination,
    transition,
    truncation,
)


class Backwards:
    """Words spelt backwards, one letter per step; sound, and simple enough to be broken in every way."""

    name = "backwards"
    delimiter = "\n"
    max_steps = 8

    def read(self, question: str) -> Problem:
        if not re.fullmatch("[a-z]{1,6}", question):
            raise UnreadableQuestion(f"{question!r} given; a word of at most six letters is wanted")
        return Problem(question, question, question[::-1])

    def prompt(self, problem: Problem) -> str:
        return problem.question + "\n"

    def initial(self, problem: Problem) -> State:
        return State(problem)

    def step(self, state: State, step: Step) -> Transition:
        after = state.then(step)
        if self.answer(after) is not None:
            return termination(after)
        legal = re.fullmatch("[a-z]", step.text) and step.finish == "step" and len(after.steps) < self.max_steps
        return transition(after) if legal else truncation(after)

    def answer(self, state: State) -> str | None:
        return "".join(state.texts[:-1]) if state.texts[-1:] == (".",) else None

    def check(self, problem: Problem, answer: str) -> bool:
        return problem.answer is not None and self.same(problem.answer, answer)

    def same(self, a: str, b: str) -> bool:
        return a == b

    def problems(self, split: Split, n: int, seed: int = 0) -> Sequence[Problem]:
        rng = random.Random(f"{split}/{seed}")
        first = {"train": "abc", "calibration": "def", "test": "ghi"}[split]
        words = (rng.choice(first) + "".join(rng.choices("xyz", k=5)) for _ in itertools.count())
        unique = dict.fromkeys(itertools.islice(words, 5 * n))
        return [self.read(word) for word in itertools.islice(unique, n)]

    def demonstrate(self, problem: Problem, rng: random.Random) -> tuple[str, ...]:
        return (*reversed(problem.question), ".")

    def first_error(self, state: State) -> int | None:
        right = (*reversed(state.problem.question), ".")
        for index, text in enumerate(state.texts):
            if index >= len(right) or text != right[index]:
                return index
        return None


SOUND = Backwards()


def plant(**changes: Any) -> Backwards:
    """The sound environment with some members replaced; a function is given the sound method's arguments."""
    methods = {name: staticmethod(change) if callable(change) else change for name, change in changes.items()}
    made: Backwards = type("Broken", (Backwards,), methods)()
    return made


def _counting() -> Callable[[State, Step], Transition]:
    taken = itertools.count()

    def step(state: State, step: Step) -> Transition:
        return dataclasses.replace(SOUND.step(state, step), reward=float(next(taken)))

    return step


def _remembering() -> Callable[[State, Step], Transition]:
    """Keeps the running state in the environment, as one that must be deep-copied to branch would."""
    kept: dict[str, State] = {}

    def step(state: State, step: Step) -> Transition:
        here = kept.get(state.problem.id, state)
        result = SOUND.step(here, step)
        kept[state.problem.id] = result.state
        return result

    return step


def _noting(state: State, step: Step) -> Transition:
    state.problem.meta["seen"] = len(state.problem.meta)  # type: ignore[index]
    return SOUND.step(state, step)


def _strict(state: State, step: Step) -> Transition:
    step.text.encode("ascii")
    return SOUND.step(state, step)


def _slow(state: State, step: Step) -> Transition:
    re.match(r"(a+)+$", step.text)
    return SOUND.step(state, step)


def _endless(state: State, step: Step) -> Transition:
    result = SOUND.step(state, step)
    return result if result.status == "terminated" or step.finish != "step" else transition(result.state)


def _deaf(state: State, step: Step) -> Transition:
    return _endless(state, dataclasses.replace(step, finish="step"))


def _peeking(state: State, step: Step) -> Transition:
    result = SOUND.step(state, step)
    answer = SOUND.answer(result.state)
    return dataclasses.replace(result, reward=float(answer is not None and answer == state.problem.answer))


def _vague(state: State, step: Step) -> Transition:
    return Transition(state.then(step), 0.0, "over")  # type: ignore[arg-type]


def _polite(state: State, step: Step) -> Transition:
    return SOUND.step(state, dataclasses.replace(step, text=step.text.strip() or "?"))


def _moody() -> Callable[[Problem, random.Random], tuple[str, ...]]:
    ticks = itertools.count()
    return lambda problem, rng: ("abc"[next(ticks) % 3], ".")


def _unseeded(split: Split, n: int, seed: int = 0) -> Sequence[Problem]:
    return SOUND.problems(split, n, random.randrange(1000))


def _one_pool(split: Split, n: int, seed: int = 0) -> Sequence[Problem]:
    return SOUND.problems("train", n, seed)


def _repeating(split: Split, n: int, seed: int = 0) -> Sequence[Problem]:
    return [*SOUND.problems(split, n, seed)[: n // 2]] * 2


def _prompt_from_meta(problem: Problem) -> str:
    return f"{problem.question} ({problem.answer})\n"


def _unhashable(problem: Problem) -> State:
    return State(problem, [])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "broken"),
    [
        ("`delimiter` is a text that is not empty", plant(delimiter="")),
        ("`max_steps` is a whole number", plant(max_steps=0)),
        ("`read` is a method", plant(read="no")),
        ("An environment has name", SimpleNamespace(name="bare")),
        ("`step` gives the same result for the same arguments", plant(step=_counting())),
        ("`step` appends the step and changes nothing else", plant(step=_remembering())),
        ("Nothing is ever mutated by `step`", plant(step=_noting)),
        ("`step` never raises", plant(step=_strict)),
        ("`step` returns in bounded time", plant(step=_slow)),
        ("A trajectory ends within max_steps", plant(step=_endless)),
        ("A step that the policy ended or that was cut ends", plant(step=_deaf)),
        ("Status and reward do not depend on the gold answer", plant(step=_peeking)),
        ("`step` appends the step", plant(step=_polite)),
        ("`step` gives a Transition", plant(step=lambda state, step: state.then(step))),
        ("A reward is a finite number", plant(step=lambda state, step: truncation(state.then(step), float("nan")))),
        ("A status is running", plant(step=_vague)),
        ("A state has an answer if and only if it terminated", plant(step=lambda s, step: truncation(s.then(step)))),
        ("`problems` leaves the global random state alone", plant(problems=_unseeded)),
        ("`problems` gives the same result for the same arguments", plant(problems=_unseeded)),
        ("The splits are disjoint", plant(problems=_one_pool)),
        ("The ids of problems are unique", plant(problems=_repeating)),
        ("`problems` gives as many problems", plant(problems=lambda split, n, seed=0: SOUND.problems(split, 3, seed))),
        ("A prompt does not depend on the gold answer", plant(prompt=_prompt_from_meta)),
        ("A prompt is a text", plant(prompt=lambda problem: "")),
        (
            "`read` reads the environment's own questions",
            plant(read=lambda text: SOUND.read(text.upper()), problems=SOUND.problems),
        ),
        ("`read` never raises", plant(read=lambda text: Problem(text, text, text.encode().decode()[::-1]))),
        (
            "A question read back has the same answer",
            plant(read=lambda text: Problem(text, text, "other"), problems=SOUND.problems),
        ),
        ("`initial` gives the problem without steps", plant(initial=_unhashable)),
        ("There is no answer before the first step", plant(answer=lambda state: "".join(state.texts))),
        ("The gold answer passes", plant(check=lambda problem, answer: False)),
        ("The empty answer fails", plant(check=lambda p, a: not a or SOUND.check(p, a))),
        ("Nonsense is no right answer", plant(check=lambda p, a: p.answer is not None and len(a) > 5)),
        ("A wrong answer fails", plant(check=lambda p, a: p.answer is not None and len(p.answer) == len(a))),
        ("No answer passes when the gold answer is unknown", plant(check=lambda p, a: p.question[::-1] == a)),
        ("`check` returns True or False", plant(check=lambda p, a: 1.0 if SOUND.check(p, a) else 0.0)),
        ("`same` is reflexive", plant(same=lambda a, b: a == b and a.isprintable())),
        ("`same` is symmetric", plant(same=lambda a, b: a <= b)),
        ("`same` never raises", plant(same=lambda a, b: a == b or int(a) == int(b))),
        ("A demonstration ends right", plant(demonstrate=lambda p, rng: (*p.question, "."))),
        ("A demonstration ends with its last step", plant(demonstrate=lambda p, rng: tuple(reversed(p.question)))),
        ("A demonstration is one or more texts without the delimiter", plant(demonstrate=lambda p, rng: ("a\n",))),
        (
            "`demonstrate` gives the same result",
            plant(demonstrate=_moody()),
        ),
        ("No step of a demonstration is an error", plant(first_error=lambda state: 0)),
        ("A trajectory that ends wrong has a first error", plant(first_error=lambda state: None)),
        ("`first_error` gives the index of a step", plant(first_error=lambda state: len(state.steps))),
    ],
)
def test_a_planted_defect_is_caught(rule: str, broken: Any) -> None:
    with pytest.raises(NonConforming) as caught:
        check_environment(broken, n=3, patience=0.3)
    assert any(line.startswith(rule) for line in caught.value.broken), caught.value


def test_sound_environments_pass_quickly() -> None:
    started = time.monotonic()
    check_environment(SOUND)
    check_environment(Arithmetic(), n=3)
    assert time.monotonic() - started < 20


def test_an_environment_that_cannot_demonstrate_passes() -> None:
    members = {name: getattr(SOUND, name) for name in dir(SOUND) if not name.startswith("_")}
    for name in ("demonstrate", "first_error"):
        del members[name]
    check_environment(SimpleNamespace(**members))


def test_every_broken_rule_is_listed_with_the_input_and_what_came_back() -> None:
    with pytest.raises(NonConforming) as caught:
        check_environment(plant(step=_strict, same=lambda a, b: a == b and a != "xyz"), [SOUND.read("zyx")], n=3)
    expected = (
        "`same` is reflexive: same('xyz', 'xyz') gave False.",
        "The gold answer passes: check('zyx', 'xyz') gave False.",
        "A question read back has the same answer: read('zyx') has 'xyz'.",
        "A demonstration ends right: demonstrate('zyx') ends in 'xyz', not 'xyz'.",
        "`step` never raises: step('zyx' after (), '\\ud800') raised UnicodeEncodeError: ",
    )
    for line, start in zip(caught.value.broken, expected, strict=True):
        assert line.startswith(start)
    assert str(caught.value).startswith("environment 'backwards' breaks 5 rule(s):\n- `same` is reflexive: ")


def test_problems_of_ones_own_are_tried_too() -> None:
    with pytest.raises(NonConforming, match="The gold answer passes: check\\('odd', 'wrong'\\) gave False"):
        check_environment(
            plant(check=lambda p, a: a != "wrong" and SOUND.check(p, a)), [Problem("odd", "abc", "wrong")]
        )


def test_the_global_random_state_is_left_as_it_was() -> None:
    random.seed(5)
    expected = random.Random(5).random()
    check_environment(SOUND, n=2)
    assert random.random() == expected
