"""Balancing, molar masses, stoichiometry and limiting reagents, one line per step.

A solution of ``H2 + O2 -> H2O: how many g of H2O form from 10.0 g of H2?`` is::

    2 H2 + O2 -> 2 H2O
    M(H2) = 2 * 1.0079 = 2.0159 g/mol
    n(H2) = 10.0 g / 2.0159 g/mol = 4.9606 mol
    n(H2O) = 4.9606 mol * 2 / 2 = 4.9606 mol
    M(H2O) = 2 * 1.0079 + 15.999 = 18.015 g/mol
    m(H2O) = 4.9606 mol * 18.015 g/mol = 89.366 g
    #### 89.37 g

An equation is balanced by naming the coefficients a, b, c ..., writing what each element demands, choosing one of them
and solving for the others. Every line is checked against the exact solution: equations and coefficients exactly,
quantities with their units to a relative tolerance of `TOLERANCE`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

from envs.chemistry.formulas import (
    Quantity,
    balance,
)
from envs.chemistry.generator import LEVELS, draw_task
from envs.chemistry.lines import Claim, Demand, Limiting, Reaction, Stated, read_answer, read_line
from envs.chemistry.question import MAX_QUESTION, READABLE, read_task
from envs.chemistry.solution import Truth, solve
from envs.chemistry.task import LETTERS, TOLERANCE, ChemistryTask
from envs.chemistry.worked_solution import work, work_balance
from envs.core import (
    SPLITS,
    Problem,
    Split,
    State,
    Step,
    Transition,
    UnreadableQuestion,
    termination,
    transition,
    truncation,
)
from envs.splits import draw_distinct, split_of

ANSWER_MARK = "#### "
SLIP = 0.06  # how often the student of `options` is wrong, to how often right


def _is_of(task: ChemistryTask, answer: str) -> bool:
    """Whether the substance that an answer names, if it does, is the one that is asked about."""
    reading = read_answer(answer)
    if not isinstance(reading, Stated):
        return True
    return reading.substance == (task.given[-1] if task.kind == "yield" else task.wanted).substance


class Chemistry:
    """Balancing, molar masses, stoichiometry, limiting reagents. Conforms to `Demonstrator` and `StepChecker` too.

    Args:
        levels: which of the levels 1 to 5 `problems` draws from, in equal shares (repeats weigh).
    """

    name = "chemistry"
    delimiter = "\n"
    max_steps = 40

    def __init__(self, levels: Sequence[int] = (1, 2, 3, 4, 5)) -> None:
        wrong = [level for level in levels if level not in LEVELS]
        if wrong or not levels:
            raise ValueError(f"levels {list(levels)!r} given; allowed: one or more of {sorted(LEVELS)}")
        self.levels = tuple(levels)

    # ------------------------------------------------------------------------------------------------- questions

    def read(self, question: str) -> Problem:
        """Read a question; raises `UnreadableQuestion`."""
        if len(question) > MAX_QUESTION:
            raise UnreadableQuestion(f"a question of {len(question)} characters; at most {MAX_QUESTION} are read")
        try:
            return self._problem(read_task(question), {})
        except ValueError as error:
            raise UnreadableQuestion(f"cannot read {question!r}: {error}; {READABLE}") from None

    def _problem(self, task: ChemistryTask, meta: dict[str, int]) -> Problem:
        return Problem(f"{self.name}/{task}", str(task), solve(task).answer, {"kind": task.kind, **meta})

    def prompt(self, problem: Problem) -> str:
        """The question on a line of its own."""
        return problem.question + "\n"

    # ---------------------------------------------------------------------------------------------------- the MDP

    def initial(self, problem: Problem) -> State:
        """The state before the first step."""
        return State(problem)

    def step(self, state: State, step: Step) -> Transition:
        """A line ``#### answer`` terminates; one that `read_line` cannot read truncates, as does depth."""
        after = state.then(step)
        if self.answer(after) is not None:
            return termination(after)
        if len(after.steps) >= self.max_steps or step.finish != "step" or read_line(step.text.strip()) is None:
            return truncation(after)
        return transition(after)

    def answer(self, state: State) -> str | None:
        """The quantity, equation or formula after ``####`` in the last step, or None."""
        if not state.steps:
            return None
        line = state.steps[-1].text.strip()
        text = line.removeprefix(ANSWER_MARK.strip()).strip()
        return text if text != line and read_answer(text) is not None else None

    def check(self, problem: Problem, answer: str) -> bool:
        """Whether the answer is the gold answer: to the tolerance, with its unit; coefficients exactly."""
        if problem.answer is None or read_answer(answer) is None or not self.same(problem.answer, answer):
            return False
        return _is_of(read_task(problem.question), answer)

    def same(self, a: str, b: str) -> bool:
        """Quantities within the tolerance (0.5 mol is 500 mmol), equations and formulas by what they say."""
        first, second = read_answer(a), read_answer(b)
        if isinstance(first, Stated) and isinstance(second, Stated) and first.substance != second.substance:
            return False
        first, second = (each.quantity if isinstance(each, Stated) else each for each in (first, second))
        if isinstance(first, Quantity) and isinstance(second, Quantity):
            return first.near(second, TOLERANCE)
        return a.strip() == b.strip() if first is None or second is None else first == second

    def first_error(self, state: State) -> int | None:
        """Index of the first line that is not true of this problem, or None."""
        task = read_task(state.problem.question)
        truth = solve(task)
        scale: Fraction | None = None  # coefficients over the smallest whole ones, once one has been chosen
        for index, step in enumerate(state.steps):
            text = step.text.strip()
            if text.startswith(ANSWER_MARK.strip()):
                said = text.removeprefix(ANSWER_MARK.strip()).strip()
                right = self.same(truth.answer, said) and _is_of(task, said)
            else:
                line = read_line(text)
                if isinstance(line, Demand):
                    right, scale = _meets(line, task, scale)
                else:
                    right = line is not None and _is_true(line, task, truth)
            if not right:
                return index
        return None

    # -------------------------------------------------------------------------------------------------- problems

    def problems(self, split: Split, n: int, seed: int = 0) -> Sequence[Problem]:
        """`n` distinct problems of a split, the levels in turn; the same arguments give the same problems."""
        if split not in SPLITS:
            raise ValueError(f"split {split!r} given; allowed: {', '.join(SPLITS)}")
        return draw_distinct(self.stream(split, random.Random(f"{self.name}/{split}/{seed}")), n, split)

    def stream(self, split: Split, rng: random.Random) -> Iterator[Problem]:
        """Problems of a split without end, the levels in turn; they may repeat."""
        while True:
            for level in self.levels:
                while split_of(str(task := draw_task(LEVELS[level], rng))) != split:
                    pass
                yield self._problem(task, {"level": level})

    def demonstrate(self, problem: Problem, rng: random.Random) -> tuple[str, ...]:
        """A worked solution; where the order is free, it varies with `rng`."""
        task = read_task(problem.question)
        truth = solve(task)
        lines = work_balance(task.reaction, rng) if task.kind == "balance" else work(task, truth)
        return (*lines, f"{ANSWER_MARK}{truth.answer}")

    # ------------------------------------------------------------------------------------------ for fakes and tests

    def options(self, state: State) -> Mapping[str, float]:
        """Steps that a student would take, with weights: the next one, now and then with a wrong number in it.

        After a slip the answer is wrong, but not always in the same way.
        """
        texts = self.demonstrate(state.problem, random.Random(state.problem.id))
        if len(state.steps) >= len(texts):
            return {}
        text = texts[len(state.steps)]
        firsts = [match.start() for match in re.finditer(r"(?<![\d.])\d", text)]
        wrong = [f"{text[:at]}{int(text[at]) % 9 + 1}{text[at + 1 :]}" for at in firsts]
        if wrong and text is texts[-1] and self.first_error(state) is not None:
            return dict.fromkeys(wrong, 1.0)
        return {text: 1.0} | dict.fromkeys(wrong, SLIP / (len(wrong) or 1))


# ------------------------------------------------------------------------------------------------------ checking lines


def _is_true(line: Reaction | Limiting | Claim, task: ChemistryTask, truth: Truth) -> bool:
    match line:
        case Limiting(substance):
            return substance == truth.limiting
        case Claim(name, divisor, sides):
            value = truth.value(name)
            if value is None or divisor not in (1, truth.coefficients.get(name[2:-1], 1)):
                return False
            share = Quantity(value.value / divisor, value.dimension)
            return all(side.near(share, TOLERANCE) for side in sides)
        case Reaction(equation, coefficients):
            if task.equation is None:
                return False
            if equation == task.equation and coefficients == tuple(LETTERS[: len(coefficients)]):
                return True
            said = read_answer(equation.write(tuple(int(c or 1) if (c or "1").isdigit() else c for c in coefficients)))
            return said == read_answer(task.equation.write(tuple(truth.coefficients.values())))


def _meets(demand: Demand, task: ChemistryTask, scale: Fraction | None) -> tuple[bool, Fraction | None]:
    """Whether a linear equation holds for the coefficients, and their scale after it."""
    if task.equation is None:
        return False, scale
    exact = dict(zip(LETTERS, map(Fraction, balance(task.equation)), strict=False))
    form = dict(demand.form)
    constant = form.pop("", Fraction(0))
    if not set(form) <= set(exact):
        return False, scale
    if demand.element:
        row = task.equation.rows().get(demand.element, ())
        said = [form.get(letter, Fraction(0)) for letter in exact]
        factors = {a / b for a, b in zip(said, row, strict=False) if b}
        parallel = len(factors) == 1 and 0 not in factors and all(b or not a for a, b in zip(said, row, strict=False))
        return bool(row) and not constant and parallel, scale
    total = sum((factor * exact[letter] for letter, factor in form.items()), Fraction(0))
    if not constant or scale is not None:
        return total * (scale or 1) + constant == 0, scale
    chosen = -constant / total if total else Fraction(0)
    return chosen > 0, chosen if chosen > 0 else None
