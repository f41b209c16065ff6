"""Each defect planted in a sound environment is caught, by the rule that names it."""

import copy
import dataclasses
import itertools
import pickle
import random
import re
import sys
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
    examine_environment,
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


def _counted(state: State, step: Step) -> Transition:
    if step.text.isdecimal():
        int(step.text)
    return SOUND.step(state, step)


def _first_letter(state: State, step: Step) -> Transition:
    return truncation(state.then(step)) if step.text[0] == "#" else SOUND.step(state, step)


def _lenient(state: State, step: Step) -> Transition:
    result = SOUND.step(state, step)
    over = result.status == "terminated" or step.finish != "step" or len(result.state.steps) >= SOUND.max_steps
    return result if over else transition(result.state)


def _sharing() -> Callable[[State, Step], Transition]:
    """Rewards what none of the branches so far has tried."""
    tried: dict[str, set[str]] = {}

    def step(state: State, step: Step) -> Transition:
        known = tried.setdefault(state.problem.id, set())
        known.add(step.text)
        return dataclasses.replace(SOUND.step(state, step), reward=float(len(known)))

    return step


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


def _split_by_seed(split: Split, n: int, seed: int = 0) -> Sequence[Problem]:
    return SOUND.problems("train", n, seed + ("train", "calibration", "test").index(split))


def _relabelled(split: Split, n: int, seed: int = 0) -> Sequence[Problem]:
    return [dataclasses.replace(each, id=f"{split}/{each.id}") for each in SOUND.problems("train", n, seed)]


def _prompt_from_meta(problem: Problem) -> str:
    return f"{problem.question} ({problem.answer})\n"


def _unhashable(problem: Problem) -> State:
    return State(problem, [])  # type: ignore[arg-type]


FOREVER = "a" * 60 + "!"
NINES = "'999999999999999999999999999...9999999999999999999999999999'"
DEEP = "('x', 'x', 'x', 'x', 'x', 'x', ...)"
PATH = "('x', 'x', 'y', 'x', 'z', 'a', ...)"

PLANTED: dict[str, tuple[str, str, Any]] = {  # the rule; the input and what came back, as the kit says it; the defect
    "no delimiter": ("`delimiter` is a text that is not empty", "it is ''", plant(delimiter="")),
    "no depth": ("`max_steps` is a whole number of at least 1", "it is 0", plant(max_steps=0)),
    "a name that is no text": ("`name` is a text that is not empty", "it is None", plant(name=None)),
    "no time": (
        "`step_timeout`, if there is one, is a number of seconds above 0",
        "it is 0",
        plant(step_timeout=0),
    ),
    "a member that is no method": ("`read` is a method", "it is 'no'", plant(read="no")),
    "a member missing": (
        "An environment has name, delimiter, max_steps, read, prompt, initial, step, answer, check, same, problems",
        "check, same, problems is missing",
        SimpleNamespace(
            **{name: getattr(SOUND, name) for name in dir(SOUND) if name not in ("check", "same", "problems")}
        ),
    ),
    "a counter": (
        "`step` gives the same result for the same arguments",
        "step('azxyxx' after (), 'x') gave running with reward 0.0 at 'azxyxx' after ('x',), "
        "then running with reward 1.0 at 'azxyxx' after ('x',)",
        plant(step=_counting()),
    ),
    "a state kept in the environment": (
        "`step` appends the step and changes nothing else",
        "step('azxyxx' after ('x',), 'x') led to ('x', 'x', 'x')",
        plant(step=_remembering()),
    ),
    "branches that share a memory": (
        "Two branches of one state do not affect each other",
        "step('azxyxx' after (), 'x') gave another state after a second branch",
        plant(step=_sharing()),
    ),
    "notes in the problem": (
        "Nothing is ever mutated by `step`",
        "step('azxyxx' after (), 'x') changed its arguments",
        plant(step=_noting),
    ),
    "deep copies": (
        "Nothing is pickled or copied",
        "step('azxyxx' after (), 'x') raised _Copied: 'it was pickled or copied'",
        plant(step=lambda state, step: SOUND.step(copy.deepcopy(state), step)),
    ),
    "pickling": (
        "Nothing is pickled or copied",
        "initial('azxyxx') raised _Copied: 'it was pickled or copied'",
        plant(initial=lambda problem: State(pickle.loads(pickle.dumps(problem)))),
    ),
    "a step in ASCII only": (
        "`step` never raises",
        r"step('azxyxx' after (), '\ud800') raised UnicodeEncodeError: ",
        plant(step=_strict),
    ),
    "a step that reads numbers": (
        "`step` never raises",
        f"step('azxyxx' after (), {NINES}) raised ValueError: ",
        plant(step=_counted),
    ),
    "a step that looks for text": (
        "`step` never raises",
        "step('azxyxx' after (), '') raised IndexError: 'string index out of range'",
        plant(step=_first_letter),
    ),
    "a regular expression without end": (
        "`step` returns in bounded time",
        f"step('azxyxx' after (), {FOREVER!r}) was stopped after 0.3 s",
        plant(step=_slow),
    ),
    "no end": (
        "A trajectory ends within max_steps",
        f"step('azxyxx' after {DEEP}, 'x') is running after 8 steps",
        plant(step=_endless),
    ),
    "deaf to the policy": (
        "A step that the policy ended or that was cut ends the trajectory",
        "step('azxyxx' after (), 'x' (finish 'answer')) is running",
        plant(step=_deaf),
    ),
    "deaf to the policy after a step that is legal": (
        "A step that the policy ended or that was cut ends the trajectory",
        "step('azxyxx' after (), 'x' (finish 'answer')) is running",
        plant(step=lambda state, step: SOUND.step(state, dataclasses.replace(step, finish="step"))),
    ),
    "huge steps": (
        "A huge action ends the trajectory",
        f"step('azxyxx' after (), {NINES} (1000000 characters)) is running",
        plant(step=_lenient),
    ),
    "steps that are no text": (
        "An action that is no text ends the trajectory",
        r"step('azxyxx' after (), '\ud800') is running",
        plant(step=_lenient),
    ),
    "a reward of the gold answer": (
        "Status and reward do not depend on the gold answer",
        "demonstrate('azxyxx') ends in ('terminated', 1.0), and in ('terminated', 0.0) with another gold answer",
        plant(step=_peeking),
    ),
    "a step made tidy": (
        "`step` appends the step and changes nothing else",
        "step('azxyxx' after (), '') led to ('?',)",
        plant(step=_polite),
    ),
    "a state for a transition": (
        "`step` gives a Transition",
        "step('azxyxx' after (), 'x') gave 'azxyxx' after ('x',)",
        plant(step=lambda state, step: state.then(step)),
    ),
    "a reward that is no number": (
        "A reward is a finite number",
        "step('azxyxx' after (), 'x') gave nan",
        plant(step=lambda state, step: truncation(state.then(step), float("nan"))),
    ),
    "another status": (
        "A status is running, terminated or truncated",
        "step('azxyxx' after (), 'x') gave 'over'",
        plant(step=_vague),
    ),
    "an answer of a truncated state": (
        "A state has an answer if and only if it terminated",
        "step('azxyxx' after (), '.') is truncated, and its answer ''",
        plant(step=lambda state, step: truncation(state.then(step))),
    ),
    "the global random state": (
        "`problems` leaves the global random state alone",
        "problems('train', 3, 0) drew from it",
        plant(problems=_unseeded),
    ),
    "problems without a seed": (
        "`problems` gives the same result for the same arguments",
        "problems('train', 3, 0) gave others later",
        plant(problems=_unseeded),
    ),
    "one pool for all splits": (
        "The splits are disjoint",
        "problems('train', 3, 0) and problems('calibration', 3, 0) gave the id 'azxyxx'",
        plant(problems=_one_pool),
    ),
    "splits by the seed": (
        "The splits are disjoint",
        "problems('train', 3, 1) and problems('calibration', 3, 0) gave the id ",
        plant(problems=_split_by_seed),
    ),
    "one question under two ids": (
        "The splits are disjoint",
        "problems('train', 3, 0) and problems('calibration', 3, 0) gave the question 'azxyxx'",
        plant(problems=_relabelled),
    ),
    "problems that repeat": (
        "The ids of problems are unique",
        "problems('train', 3, 0) has 'azxyxx' more than once",
        plant(problems=_repeating),
    ),
    "more problems than asked for": (
        "`problems` gives as many problems as asked for",
        "problems('train', 0, 0) gave 3",
        plant(problems=lambda split, n, seed=0: SOUND.problems(split, 3, seed)),
    ),
    "a problem without an id": (
        "A problem has an id and a question",
        "problems('train', 3, 0) gave ''",
        plant(problems=lambda split, n, seed=0: [Problem("", "abc"), *SOUND.problems(split, n, seed)][:n]),
    ),
    "a prompt with the answer in it": (
        "A prompt does not depend on the gold answer",
        "prompt('azxyxx') gave another text with the answer None",
        plant(prompt=_prompt_from_meta),
    ),
    "no prompt": (
        "A prompt is a text that is not empty",
        "prompt('azxyxx') gave ''",
        plant(prompt=lambda problem: ""),
    ),
    "questions it cannot read": (
        "`read` reads the environment's own questions",
        "read('azxyxx') raised UnreadableQuestion: \"'AZXYXX' given; ",
        plant(read=lambda text: SOUND.read(text.upper()), problems=SOUND.problems),
    ),
    "a question that raises": (
        "`read` never raises",
        r"read('\ud800') raised UnicodeEncodeError: ",
        plant(read=lambda text: Problem(text, text, text.encode().decode()[::-1])),
    ),
    "another answer when read back": (
        "A question read back has the same answer",
        "read('azxyxx') gave 'other', not 'xxyxza'",
        plant(read=lambda text: Problem(text, text, "other"), problems=SOUND.problems),
    ),
    "a state that is no key": (
        "`initial` gives the problem without steps",
        "initial('azxyxx') gave 'azxyxx' with steps []",
        plant(initial=_unhashable),
    ),
    "a state with a step in it": (
        "`initial` gives the problem without steps",
        "initial('azxyxx') gave 'azxyxx' with steps (Step(text='a', ",
        plant(initial=lambda problem: State(problem, (Step("a"),))),
    ),
    "an answer before the first step": (
        "There is no answer before the first step",
        "answer('azxyxx' after ()) gave ''",
        plant(answer=lambda state: "".join(state.texts)),
    ),
    "an answer that raises": (
        "`answer` never raises",
        "answer('azxyxx' after ()) raised IndexError: 'tuple index out of range'",
        plant(answer=lambda state: state.texts[-1]),
    ),
    "nothing passes": (
        "The gold answer passes",
        "check('azxyxx', 'xxyxza') gave False",
        plant(check=lambda problem, answer: False),
    ),
    "the empty answer passes": (
        "The empty answer fails",
        "check('azxyxx', '') gave True",
        plant(check=lambda p, a: not a or SOUND.check(p, a)),
    ),
    "nonsense passes": (
        "Nonsense is no right answer",
        r"check('azxyxx', '\x00\x01\x1b[2J\x7f') gave True",
        plant(check=lambda p, a: p.answer is not None and len(a) > 5),
    ),
    "everything of that length passes": (
        "A wrong answer fails",
        "check('azxyxx', 'yzxxxc') gave True, as with the answers of 7 other problems",
        plant(check=lambda p, a: p.answer is not None and len(p.answer) == len(a)),
    ),
    "right without a gold answer": (
        "No answer passes when the gold answer is unknown",
        "check('azxyxx' without one, 'xxyxza') gave True",
        plant(check=lambda p, a: p.question[::-1] == a),
    ),
    "a number for a verdict": (
        "`check` returns True or False",
        "check('azxyxx', 'xxyxza') gave 1.0",
        plant(check=lambda p, a: 1.0 if SOUND.check(p, a) else 0.0),
    ),
    "a text that is not itself": (
        "`same` is reflexive",
        r"same('\t\r\n', '\t\r\n') gave False",
        plant(same=lambda a, b: a == b and a.isprintable()),
    ),
    "an order for an equality": (
        "`same` is symmetric",
        "same('xxyxza', 'yzxxxc') gave True, same('yzxxxc', 'xxyxza') False",
        plant(same=lambda a, b: a <= b),
    ),
    "answers read as numbers": (
        "`same` never raises",
        "same('xxyxza', 'yzxxxc') raised ValueError: ",
        plant(same=lambda a, b: a == b or int(a) == int(b)),
    ),
    "a wrong demonstration": (
        "A demonstration ends right",
        "demonstrate('azxyxx') ends in 'azxyxx', not 'xxyxza'",
        plant(demonstrate=lambda p, rng: (*p.question, ".")),
    ),
    "a demonstration without an end": (
        "A demonstration ends with its last step, in an answer",
        "demonstrate('azxyxx') is running after 6 of 6 steps",
        plant(demonstrate=lambda p, rng: tuple(reversed(p.question))),
    ),
    "a demonstration with the delimiter": (
        "A demonstration is one or more texts without the delimiter",
        "demonstrate('azxyxx') gave ('a\\n',)",
        plant(demonstrate=lambda p, rng: ("a\n",)),
    ),
    "a demonstration without a seed": (
        "`demonstrate` gives the same result for the same arguments",
        "demonstrate('azxyxx') gave ('c', '.'), then ('a', '.')",
        plant(demonstrate=_moody()),
    ),
    "a step checker that finds fault": (
        "No step of a demonstration is an error",
        f"first_error('azxyxx' after {PATH}) gave 0",
        plant(first_error=lambda state: 0),
    ),
    "a step checker that finds none": (
        "A trajectory that ends wrong has a first error",
        f"first_error('cxxxzy' after {PATH}) gave None",
        plant(first_error=lambda state: None),
    ),
    "a step that is not there": (
        "`first_error` gives the index of a step, or None",
        f"first_error('cxxxzy' after {PATH}) gave 7",
        plant(first_error=lambda state: len(state.steps)),
    ),
}


@pytest.mark.parametrize(("rule", "seen", "broken"), PLANTED.values(), ids=PLANTED)
def test_a_planted_defect_is_caught(rule: str, seen: str, broken: Any) -> None:
    with pytest.raises(NonConforming) as caught:
        check_environment(broken, n=3, patience=0.3)
    assert any(line.startswith(f"{rule}: {seen}") for line in caught.value.broken), caught.value


async def _later(*arguments: object) -> None:
    """What an author writes who takes methods for coroutines."""


def _coroutine(*arguments: object) -> object:
    return _later()


def _generator(*arguments: object) -> object:
    return (each for each in arguments)


class _Array(list[bool]):
    """As of numpy: neither true nor false, and compared item by item."""

    def __eq__(self, other: object) -> Any:
        return self

    def __bool__(self) -> bool:
        raise ValueError("the truth value of an array is ambiguous")


def _drawn(**changes: Any) -> Callable[..., Sequence[Problem]]:
    def problems(split: Split, n: int, seed: int = 0) -> Sequence[Problem]:
        return [dataclasses.replace(each, **changes) for each in SOUND.problems(split, n, seed)]

    return problems


METHODS = ("read", "prompt", "initial", "step", "answer", "check", "same", "problems")
ODD: dict[str, object] = {
    "nothing": None,
    "a number": 1,
    "a text": "yes",
    "bytes": b"yes",
    "a list": [1, 2],
    "a mapping": {"id": "x", "question": "x", "answer": "x"},
    "not a number": float("nan"),
    "an array": _Array([True, False]),
    "a type": State,
    "not implemented": NotImplemented,
}


@pytest.mark.parametrize("method", METHODS)
def test_whatever_a_method_gives_is_told_and_ends_nothing(method: str) -> None:
    for name, odd in ODD.items():
        broken = plant(**{"problems": SOUND.problems, method: lambda *arguments, odd=odd: odd})
        if (method, name) in (("prompt", "a text"), ("answer", "nothing"), ("answer", "a text")):
            continue  # what it may give
        found = examine_environment(broken, n=2)
        assert any(f"{method}(" in line for line in found.broken), (name, found.broken)


@pytest.mark.parametrize("method", METHODS)
def test_methods_are_called_and_not_awaited(method: str) -> None:
    inner = method in ("prompt", "step", "answer")  # called by others, too, which do not await it either
    for given in (_later, _generator) if inner else (_later, _generator, _coroutine):
        broken = plant(**{"problems": SOUND.problems, method: given})
        found = examine_environment(broken, n=2)  # warnings are errors here: no coroutine is left behind
        rules = (f"`{method}` is a plain method: it is `async`", f"`{method}` returns its result: {method}(")
        assert any(line.startswith(rules) for line in found.broken), found.broken


WELL_MADE = {
    "an answer that is a list": (_drawn(answer=["a"]), "A gold answer is a text, or None"),
    "an answer that is no text": (_drawn(answer="\ud800"), "A gold answer is a text, or None"),
    "a number for an id": (_drawn(id=7), "A problem has an id and a question"),
    "half a character in a question": (_drawn(question="\udfff"), "A problem has an id and a question"),
    "facts that are no JSON": (_drawn(meta={"level": {1, 2}}), "The facts (`meta`) of a problem are JSON"),
    "facts that are a list": (_drawn(meta=[1]), "The facts (`meta`) of a problem are JSON"),
    "texts for problems": (lambda split, n, seed=0: ["a"] * n, "`problems` gives Problems"),
    "a set of problems": (lambda *given: set(SOUND.problems(*given)), "`problems` gives a sequence"),
    "nothing but problems, for ever": (
        lambda split, n, seed=0: (SOUND.read("abc"[i % 3]) for i in itertools.count()),
        "`problems` returns its result",
    ),
    "all answers the same": (None, "An answer that is the same as the right one passes"),
    "a prompt beyond all contexts": (None, "A prompt has at most 1000000 characters"),
    "a prompt that is no text": (None, "A prompt is a text that is not empty"),
    "true for a depth": (None, "`max_steps` is a whole number of at least 1"),
}
MADE_OTHERWISE = {
    "all answers the same": plant(same=lambda a, b: True, check=lambda problem, answer: problem.answer == answer),
    "a prompt beyond all contexts": plant(prompt=lambda problem: "x" * 1_000_001),
    "a prompt that is no text": plant(prompt=lambda problem: "\ud800"),
    "true for a depth": plant(max_steps=True),
}


@pytest.mark.parametrize("case", WELL_MADE)
def test_problems_and_prompts_are_well_made(case: str) -> None:
    problems, rule = WELL_MADE[case]
    broken = MADE_OTHERWISE[case] if problems is None else plant(problems=problems)
    assert any(line.startswith(rule) for line in examine_environment(broken, n=5).broken)


def test_all_of_it_takes_bounded_time_and_who_waits_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envs.conformance._ALL", 0.5)
    monkeypatch.setattr("envs.conformance._PATIENCES", 0)
    told: list[str] = []

    def check(problem: Problem, answer: str) -> bool:
        time.sleep(0.02)
        return SOUND.check(problem, answer)

    found = examine_environment(plant(check=check), n=12, watch=told.append)
    rule = "All rules can be tried in bounded time: 0.5 s were over after "
    assert any(line.startswith(rule) and "and the rest was not tried" in line for line in found.broken), found.broken
    assert any(call.startswith("check('") for call in told)


def test_what_could_not_be_tried_is_said() -> None:
    silent = type("Silent", (), {name: value for name, value in vars(Backwards).items() if name != "demonstrate"})()
    assert examine_environment(SOUND, n=3).untried == ()
    (said,) = examine_environment(silent, n=3).untried
    assert said.endswith("give the environment `demonstrate` or `options`")


# ------------------------------------------------------------------------------------------- an environment of moves


class Blocks:
    """Letters are brought into order by swaps of two neighbours; any way there is right, and steps are answered."""

    name = "blocks"
    delimiter = "\n"
    max_steps = 8
    self_proving = True

    def read(self, question: str) -> Problem:
        if not re.fullmatch("[A-F]{3,4}", question) or len(set(question)) < len(question):
            raise UnreadableQuestion(f"{question!r} given; three or four different letters from A to F are wanted")
        return Problem(question, question, "any swaps that bring the letters into order")

    def prompt(self, problem: Problem) -> str:
        return problem.question + "\n"

    def initial(self, problem: Problem) -> State:
        return State(problem)

    def step(self, state: State, step: Step) -> Transition:
        after, word = state.then(step), self.word(state.then(step))
        if self.answer(after) is not None:
            return termination(after, 1.0)
        if word is None or step.finish != "step" or len(after.steps) >= self.max_steps:
            return truncation(after)
        return transition(state.then(dataclasses.replace(step, observation=self.says(state.problem, word))))

    def says(self, problem: Problem, word: str) -> str:
        return f"now {word}"

    def word(self, state: State) -> str | None:
        word = state.problem.question
        for text in state.texts:
            swap = re.fullmatch("swap ([A-F])([A-F])", text)
            if swap is None or swap[1] + swap[2] not in word:
                return None
            word = word.replace(swap[1] + swap[2], swap[2] + swap[1])
        return word

    def answer(self, state: State) -> str | None:
        last = state.steps[-1].finish if state.steps else "length"
        word = self.word(state)
        return (
            ", ".join(state.texts) if last != "length" and word is not None and word == "".join(sorted(word)) else None
        )

    def check(self, problem: Problem, answer: str) -> bool:
        state = State(problem, tuple(Step(text) for text in answer.split(", ")))
        return self.answer(state) is not None

    def same(self, a: str, b: str) -> bool:
        return a == b

    def problems(self, split: Split, n: int, seed: int = 0) -> Sequence[Problem]:
        words = ("".join(word) for size in (3, 4) for word in itertools.permutations("ABCDEF", size))
        wanted = {"train": (0, 1, 2), "calibration": (3,), "test": (4,)}[split]
        chosen = [word for word in words if list(word) != sorted(word) and sum(map(ord, word)) * 7 % 5 in wanted]
        return [self.read(word) for word in random.Random(f"{split}/{seed}").sample(chosen, n)]

    def demonstrate(self, problem: Problem, rng: random.Random) -> tuple[str, ...]:
        word, texts = problem.question, list[str]()
        while turned := [pair for pair in map("".join, itertools.pairwise(word)) if pair[0] > pair[1]]:
            texts.append(f"swap {turned[0]}")
            word = word.replace(turned[0], turned[0][::-1])
        return tuple(texts)


def swap(**changes: Any) -> Any:
    """The sound environment of moves with some members replaced."""
    return type("Broken", (Blocks,), changes)()


def _gold_plan(self: Blocks, state: State, step: Step) -> Transition:
    """Says of a step whether it is one of the gold plan, which is kept as the gold answer."""
    result = Blocks.step(self, state, step)
    *before, last = result.state.steps
    good = (state.problem.answer or "").startswith(", ".join(result.state.texts))
    told = dataclasses.replace(last, observation=last.observation + (" good" if good else ""))
    return dataclasses.replace(result, state=State(state.problem, (*before, told)))


def _with_plan(self: Blocks, question: str) -> Problem:
    problem = Blocks.read(self, question)
    return dataclasses.replace(problem, answer=", ".join(self.demonstrate(problem, random.Random(0))))


def _without_end(self: Blocks, state: State, step: Step) -> Transition:
    result = Blocks.step(self, state, step)
    legal = (
        self.word(result.state) is not None and step.finish == "step" and len(result.state.texts) <= 3 * self.max_steps
    )
    return transition(result.state) if result.status == "truncated" and legal else result


def _backtracking(self: Blocks, state: State, step: Step) -> Transition:
    re.fullmatch("swap (?:(?:[A-F]+)+)", step.text)
    return Blocks.step(self, state, step)


def _backtracking_question(self: Blocks, question: str) -> Problem:
    re.fullmatch("(?:[A-F]+)+", question)
    return Blocks.read(self, question)


class _Late(Blocks):
    """Counts calls, and is another environment after thirty of them."""

    taken = 0

    def says(self, problem: Problem, word: str) -> str:
        type(self).taken += 1
        return f"now {word}" if self.taken <= 30 else f"then {word}"


WEIGHTS = {"swap BA": 1.0}
MISSED: dict[str, tuple[str, Any]] = {
    "the gold plan in observations": (
        r"An observation does not depend on the gold answer: after \('swap ..',\) on '.*' there is 'now .* good'",
        swap(step=_gold_plan, read=_with_plan),
    ),
    "legal moves without end": (
        r"A trajectory ends within max_steps: step\(.*\) is running after 8 steps",
        swap(step=_without_end),
    ),
    "legal moves without end, told by options alone": (
        r"A trajectory ends within max_steps",
        swap(
            step=_without_end,
            demonstrate=None,
            options=lambda self, state: {f"swap {a}{b}": 1.0 for a, b in itertools.pairwise(self.word(state) or "")},
        ),
    ),
    "an expression that backtracks on capital letters": (r"`step` returns in bounded time", swap(step=_backtracking)),
    "a question that backtracks": (r"`read` returns in bounded time", swap(read=_backtracking_question)),
    "state that sets in late": (
        r"`(step|check)` gives the same result for the same arguments: .*after many other calls",
        _Late(),
    ),
    "the delimiter in options": (
        r"`options` gives texts without the delimiter, with weights above 0: options\(.*\) gave 'swap\\nBA' with",
        swap(options=lambda self, state: WEIGHTS | {"swap\nBA": 1.0}),
    ),
    "a weight of nothing": (
        r"`options` gives texts .* with the weight 0",
        swap(options=lambda self, state: {"swap BA": 0}),
    ),
    "options that are a list": (
        r"`options` gives texts .* gave \['swap BA'\]",
        swap(options=lambda self, state: ["swap BA"]),
    ),
    "a reward of 2": (
        r"A reward is between 0 and 1: step\(.*\) gave 2.0",
        swap(step=lambda self, state, step: dataclasses.replace(Blocks.step(self, state, step), reward=2.0)),
    ),
    "an endless observation": (
        r"An observation is a text of at most 100000 characters: step\(.*\(200000 characters\)",
        swap(says=lambda self, problem, word: "x" * 200_000),
    ),
    "an observation that is no text": (
        r"An observation is a text",
        swap(says=lambda self, problem, word: "\ud800"),
    ),
    "sys.exit in a step": (
        r"`step` never raises: step\(.*\) raised SystemExit: '3'",
        swap(step=lambda self, state, step: sys.exit(3)),
    ),
    "any answer passes": (r"The empty answer fails", swap(check=lambda self, problem, answer: True)),
    "answers of other problems pass": (
        r"A wrong answer fails",
        swap(check=lambda self, problem, answer: answer.startswith("swap ") and "\n" not in answer),
    ),
    "a gold answer that is wanted after all": (
        r"An answer that proves itself passes when the gold answer is unknown: check\('.*' without one, 'swap",
        swap(check=lambda self, problem, answer: problem.answer is not None and Blocks.check(self, problem, answer)),
    ),
    "a right answer that does not pass": (r"The gold answer passes", swap(check=lambda self, problem, answer: False)),
    "a placeholder where answers are said to need the gold one": (r"The gold answer passes", swap(self_proving=False)),
}


@pytest.mark.parametrize(("rule", "broken"), MISSED.values(), ids=MISSED)
def test_a_defect_of_an_environment_of_moves_is_caught(rule: str, broken: Any) -> None:
    with pytest.raises(NonConforming) as caught:
        check_environment(broken, n=5, patience=0.3)
    assert any(re.match(rule, line) for line in caught.value.broken), caught.value


def test_answers_may_prove_themselves() -> None:
    check_environment(Blocks(), n=5)
    check_environment(swap(demonstrate=None), n=5)  # nothing shows an answer, so none is tried
    with pytest.raises(NonConforming, match="The empty answer fails"):
        check_environment(swap(demonstrate=None, check=lambda self, problem, answer: True), n=5)
    check_environment(plant(), [Problem("abc", "abc", None)], n=3)  # the gold answer of one's own may be unknown


def test_an_observation_may_hold_the_delimiter() -> None:
    check_environment(swap(says=lambda self, problem, word: f"now\n{word}"), n=5)


def test_slow_calls_are_told() -> None:
    def late(state: State, step: Step) -> Transition:
        time.sleep(0.002)
        return SOUND.step(state, step)

    timings = {timing.method: timing for timing in check_environment(plant(step=late), n=1)}
    assert next(iter(timings)) == "step"
    assert timings["step"].mean >= 0.002 > timings["same"].mean
    assert timings["step"].longest >= timings["step"].mean
    assert "`step` took 0.00" in str(timings["step"])
    assert "the longest: step('" in str(timings["step"])
    with pytest.raises(NonConforming) as caught:
        check_environment(plant(step=_strict), n=1)
    assert {"step", "check"} <= {timing.method for timing in caught.value.timings}


def test_sound_environments_pass_quickly() -> None:
    started = time.monotonic()
    check_environment(SOUND)
    check_environment(Arithmetic(), n=3)
    assert time.monotonic() - started < 20


def test_an_environment_may_say_how_long_a_call_may_take() -> None:
    def late(state: State, step: Step) -> Transition:
        time.sleep(0.3 if (step.text, step.finish) == ("= = =", "answer") else 0)
        return SOUND.step(state, step)

    check_environment(plant(step=late, step_timeout=30.0), n=1)
    with pytest.raises(
        NonConforming, match=r"`step` returns in bounded time: step\(.*, '= = =' .*\) was stopped after 0.1 s"
    ):
        check_environment(plant(step=late, step_timeout=0.1), n=1)


def test_an_environment_that_always_hangs_is_told_soon() -> None:
    def stuck(state: State, step: Step) -> Transition:
        time.sleep(60)
        raise AssertionError

    started = time.monotonic()
    with pytest.raises(NonConforming) as error:
        check_environment(plant(step=stuck), n=4, patience=0.2)
    assert time.monotonic() - started < 10
    slow, rest = error.value.broken
    assert slow.startswith("`step` returns in bounded time: step(")
    assert (
        rest == "All rules can be tried in bounded time: 6 calls were stopped after 0.2 s, and the rest was not tried."
    )


def test_no_trajectory_goes_on_after_an_observation_that_no_context_holds() -> None:
    longest = 0

    def long_winded(state: State, step: Step) -> Transition:
        nonlocal longest
        longest = max(longest, len(state.steps))
        result = SOUND.step(state, step)
        seen = dataclasses.replace(result.state.steps[-1], observation="x" * 200_000)
        return dataclasses.replace(result, state=state.then(seen))

    with pytest.raises(NonConforming, match="An observation is a text of at most 100000 characters"):
        check_environment(plant(step=long_winded), n=2)
    assert longest == 0


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
        "A question read back has the same answer: read('zyx') gave 'xyz', not 'xyz'.",
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
