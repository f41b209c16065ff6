"""The countdown environment against an enumeration of its own, Python's own fractions, and reasoning-gym."""

import ast
import contextlib
import importlib
import operator
import random
import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import combinations_with_replacement, permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.interface.cli import main
from agent.search.budget import Budget
from agent.solver import Solver
from agent.strategies import Beam, Majority, Strategy
from envs import Problem, State, Step, UnreadableQuestion, check_environment, load_environment
from envs.conformance import HOSTILE
from envs.core import SPLITS
from envs.countdown import (
    CLASSIC,
    HELD_OUT,
    LARGEST,
    LEVELS,
    MAX_GIVEN,
    MAX_NUMBERS,
    MAX_QUESTION,
    Countdown,
    Numbers,
    moves,
    openness,
    reachable,
)
from policies import ScriptedPolicy
from policies.training.tokenizer import UNKNOWN, build_tokenizer
from verifiers import load_verifier

ENVIRONMENT = Countdown()
PROBLEMS = [*ENVIRONMENT.problems("test", 25, seed=3), *ENVIRONMENT.problems("train", 25, seed=3)]

_OPERATORS: dict[type[ast.operator], Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def enumerate_values(numbers: tuple[Fraction, ...]) -> set[Fraction]:
    """Everything that can be made of numbers, by playing every game to its end."""
    if len(numbers) == 1:
        return {numbers[0]}
    found = set[Fraction]()
    for a, b, *rest in set(permutations(numbers)):
        results = [a + b, a - b, a * b] + ([a / b] if b else [])
        for result in results:
            found |= enumerate_values((result, *rest))
    return found


def reference(text: str) -> tuple[list[int], int | Fraction]:
    """The numbers and the value of an expression by Python's grammar, with exact fractions."""
    used = list[int]()

    def value(node: ast.AST) -> Fraction:
        match node:
            case ast.Expression(body):
                return value(body)
            case ast.Constant(int() as number):
                used.append(number)
                return Fraction(number)
            case ast.BinOp(left, kind, right):
                result: Fraction = _OPERATORS[type(kind)](value(left), value(right))
                return result
        raise AssertionError(ast.dump(node))

    return used, value(ast.parse(text, mode="eval"))


def given_numbers(problem: Problem) -> tuple[list[int], int | Fraction]:
    """The numbers and the target of a question."""
    target, *numbers = map(int, re.findall(r"\d+", problem.question))
    return numbers, target


def follow(question: str, *texts: str) -> tuple[State, str]:
    """The state after some steps and the status of the last."""
    state, status = ENVIRONMENT.initial(ENVIRONMENT.read(question)), "running"
    for text in texts:
        assert status == "running"
        result = ENVIRONMENT.step(state, Step(text))
        state, status = result.state, result.status
    return state, status


# --------------------------------------------------------------------------------------------------------- the solver


def exact(n: int) -> st.SearchStrategy[tuple[Fraction, ...]]:
    number = st.integers(0, 13) | st.fractions(-12, 12, max_denominator=6)
    return st.lists(number, min_size=n, max_size=n).map(lambda found: tuple(sorted(map(Fraction, found))))


@given(exact(3), st.data())
def test_reachable_is_what_an_enumeration_of_all_games_finds(
    numbers: tuple[Fraction, ...], data: st.DataObject
) -> None:
    everything = enumerate_values(numbers)
    target = data.draw(st.sampled_from(sorted(everything)) | st.integers(-30, 60) | st.fractions(-9, 9))
    assert reachable(numbers, target) == (target in everything)


@pytest.mark.parametrize("numbers", [(1, 3, 4, 6), (0, 0, 5, 7), (3, 3, 8, 8), (1, 1, 1, 1), (2, 5, 11, 13)])
def test_reachable_with_four_numbers(numbers: tuple[int, ...]) -> None:
    everything = enumerate_values(tuple(map(Fraction, numbers)))
    for target in {*range(-20, 200), Fraction(1, 2), *random.Random(0).sample(sorted(everything), 9)}:
        assert reachable(numbers, target) == (target in everything), target


@given(exact(4).filter(lambda numbers: numbers[0] < 0), st.integers(-40, 40))
def test_reachable_with_negative_numbers_follows_the_moves(numbers: tuple[Fraction, ...], target: int) -> None:
    """A target is reachable if and only if it still is after some step, in whichever order the two numbers stand."""
    both = [
        (result, *rest)
        for a, b, *rest in set(permutations(numbers))
        for result in (a + b, a - b, a * b, *([a / b] if b else []))
    ]
    assert reachable(numbers, target) == any(reachable(tuple(sorted(left)), target) for left in both)


def test_reachable_knows_the_game_of_24() -> None:
    """Of the 1820 hands of four cards, 1362 have a solution, and 1346 one of whole numbers only."""
    hands = list(combinations_with_replacement(range(1, 14), 4))
    assert sum(reachable(hand, CLASSIC) for hand in hands) == 1362
    assert sum(reachable(hand, CLASSIC, whole=True) for hand in hands) == 1346


@given(st.lists(st.integers(1, 30), min_size=2, max_size=5).map(sorted), st.integers(1, 300))
def test_the_moves_are_enough(numbers: list[int], target: int) -> None:
    """Without the moves that are left out, every reachable target stays reachable."""
    after = [reachable(move.left, target) for move in moves(tuple(numbers))]
    assert any(after) == reachable(tuple(numbers), target)


def test_six_numbers_are_quickly_decided_either_way() -> None:
    numbers = (7, 10, 20, 42, 51, 84)
    assert reachable(numbers, 9777)
    assert not reachable(numbers, 9777, whole=True)
    assert not reachable(numbers, 9872)


# ---------------------------------------------------------------------------------------------------------- questions

WORDINGS = [
    ("4 6 8 2", "make 24 from 2 4 6 8"),
    ("4, 6, 8 and 2", "make 24 from 2 4 6 8"),
    ("make 24 from 4 6 8 2", "make 24 from 2 4 6 8"),
    ("Get 24 with 4, 6, 8, 2!", "make 24 from 2 4 6 8"),
    ("How can I make 24 using the numbers 4, 6, 8, and 2?", "make 24 from 2 4 6 8"),
    ("use 3, 5, 7 and 25 to reach 100", "make 100 from 3 5 7 25"),
    ("numbers 3 5 7 25, target 100", "make 100 from 3 5 7 25"),
    ("3 5 7 25 -> 100", "make 100 from 3 5 7 25"),
    ("100 from 3 5 7 25", "make 100 from 3 5 7 25"),
    ("Use each number once. Combine 3 8 3 8 to get 24.", "make 24 from 3 3 8 8"),
    (
        "Make 24 using 4, 9, 9, 2. You can only use each number once. You can use the operators +, -, *, /.\n"
        "Final answer format instructions:\n1. Do not include the target number in the expression.\n",
        "make 24 from 2 4 9 9",
    ),
    (
        "Using all the numbers 3, 5, 7, 25, create an expression that equals 100.\nYou can only use each number once.",
        "make 100 from 3 5 7 25",
    ),
    (
        "Find a way to make 100 using all of these numbers: 3, 5, 7, 25.\nEach number can only be used once.\n\n"
        "Final answer format instructions:\n1. Use '*' for multiplication.\n",
        "make 100 from 3 5 7 25",
    ),
    (
        "Calculate 100 using all of these numbers: 3, 5, 7, 25.\nEach number may be used at most once.",
        "make 100 from 3 5 7 25",
    ),
    ("Using the numbers [19, 36, 55, 7], create an equation that equals 65.", "make 65 from 7 19 36 55"),
    ("Create an equation using only the numbers [19, 36, 55, 7] that equals 65.", "make 65 from 7 19 36 55"),
    ("Find an expression for 65 from {19, 36, 55, 7}", "make 65 from 7 19 36 55"),
    ("nums = [19, 36, 55, 7], target = 65", "make 65 from 7 19 36 55"),
    ("Target: 65, numbers: 19 36 55 7", "make 65 from 7 19 36 55"),
    (
        "Using the numbers [19, 36, 55, 7], create an equation that equals 65. You can use basic arithmetic operations "
        "(+, -, *, /) one or multiple times but each number can only be used once. Show your work in <think> </think> "
        "tags. And return the final answer in <answer> </answer> tags, for example <answer> (1 + 2) / 3 </answer>.",
        "make 65 from 7 19 36 55",
    ),
    (
        "Using the numbers [19, 36, 55, 7], create an equation that equals 65. You can use basic arithmetic operations "
        "(+, -, *, /) and each number can only be used once.",
        "make 65 from 7 19 36 55",
    ),
    ("Use the numbers (4, 6, 8, 2) to write an expression that evaluates to 24.", "make 24 from 2 4 6 8"),
    ("Find an expression that makes 24 using the numbers {4, 6, 8, 2}", "make 24 from 2 4 6 8"),
    ("Create an equation that equals 24 from 4, 6, 8 and 2.", "make 24 from 2 4 6 8"),
    ("Given the numbers 4, 6, 8 and 2, make 24.", "make 24 from 2 4 6 8"),
    ("Numbers: 3, 5, 7, 25. Target: 100", "make 100 from 3 5 7 25"),
    ("numbers: [3, 5, 7, 25], target: 100", "make 100 from 3 5 7 25"),
    ("Game of 24: 4 6 8 2", "make 24 from 2 4 6 8"),
    ("Solve the 24 game for 4, 6, 8, 2", "make 24 from 2 4 6 8"),
    ("Input: 4 6 8 2 Target: 24", "make 24 from 2 4 6 8"),
    ("Cards: 3 5 7 25. Target 100.", "make 100 from 3 5 7 25"),
    ("Puzzle: 4 6 8 2", "make 24 from 2 4 6 8"),
    ("Combine the numbers 3, 5, 7, 25 using +, -, *, / to make 100.", "make 100 from 3 5 7 25"),
    ("Use +, -, × and ÷ to make 24 from 4, 6, 8, 2", "make 24 from 2 4 6 8"),
    ("I have the numbers 3, 5, 7 and 25. How do I get 100?", "make 100 from 3 5 7 25"),
    ("Write an equation equal to 100 using 3, 5, 7, 25.", "make 100 from 3 5 7 25"),
    ("Your goal is to make 100 using the numbers 3, 5, 7, 25 exactly once each.", "make 100 from 3 5 7 25"),
    ("From the numbers 3, 5, 7, 25 obtain 100 by arithmetic", "make 100 from 3 5 7 25"),
    ("Use 4, 6, 8 and 2 to make 24 (each number exactly once).", "make 24 from 2 4 6 8"),
    ("Use the numbers 3, 5, 7, 25 to reach the target number 100", "make 100 from 3 5 7 25"),
    (
        "Use numbers and basic arithmetic operations (+ - * /) to obtain 24. Each step, you are only allowed to choose "
        "two of the remaining numbers to obtain a new number.\nInput: 4 6 8 2",
        "make 24 from 2 4 6 8",
    ),
]


@pytest.mark.parametrize(("question", "canonical"), WORDINGS)
def test_questions_as_people_and_reasoning_gym_word_them(question: str, canonical: str) -> None:
    problem = ENVIRONMENT.read(question)
    assert problem.question == canonical
    assert ENVIRONMENT.read(canonical) == problem


@pytest.mark.parametrize(
    ("question", "why"),
    [
        ("", "the countdown environment reads"),
        ("24", "cannot read"),
        ("make 24", "cannot read"),
        ("What is 4 plus 6?", "cannot read"),
        ("Add 3, 5 and 7.", "cannot read"),
        ("Make 24 from 4, 6, 8 and 2 without division", "cannot read"),
        ("Use + and - to make 24 from 4, 6, 8, 2", "cannot read"),
        ("Make 24 from 4, 6, 8, 2 and then 10 from 1, 2, 3, 4", "cannot read"),
        ("make 24 from 4 6.5 8", "cannot read"),
        ("make 24 from 4 -6 8", "cannot read"),
        ("make 24 using 4, 6, 8, 2. You can use the operators +, -.", "cannot read"),
        ("1 1 1 1", "no way to make 24 from 1 1 1 1"),
        ("1 2 3 4 5 6 7", f"7 numbers; at most {MAX_NUMBERS}"),
        ("make 24 from 4 6 10000", f"10000 is too large; at most {MAX_GIVEN}"),
        ("make 24 from 4 6 " + "9" * 500, "too large"),
        ("1 " * MAX_QUESTION, f"at most {MAX_QUESTION}"),
    ],
)
def test_what_cannot_be_read_says_why(question: str, why: str) -> None:
    with pytest.raises(UnreadableQuestion, match=re.escape(why)):
        ENVIRONMENT.read(question)


@pytest.mark.parametrize("name", ["countdown", "puzzle24"])
def test_reads_what_reasoning_gym_generates(name: str) -> None:
    pytest.importorskip("reasoning_gym")
    gym = importlib.import_module("reasoning_gym")
    for entry in gym.create_dataset(name, size=100, seed=5):
        problem = ENVIRONMENT.read(entry["question"])
        assert sorted(entry["metadata"]["numbers"]) == given_numbers(problem)[0]
        assert ENVIRONMENT.check(problem, entry["answer"]), entry


# --------------------------------------------------------------------------------------------------------- the problems


def test_levels_come_in_turn_within_their_bounds() -> None:
    for split in SPLITS:
        problems = ENVIRONMENT.problems(split, 60, seed=11)
        assert [problem.meta["level"] for problem in problems[:5]] == list(LEVELS)
        for problem in problems:
            level, (numbers, target) = LEVELS[problem.meta["level"]], given_numbers(problem)
            assert len(numbers) == level.numbers
            assert max(numbers) <= level.largest
            assert level.targets[0] <= target <= level.targets[1]
            assert reachable(tuple(numbers), target, whole=True)
            if level.numbers < 5:
                assert level.open[0] <= openness(tuple(numbers), target) <= level.open[1]
            used, value = reference(problem.answer or "")
            assert (sorted(used), value) == (numbers, target)


def test_openness_is_the_share_of_first_steps_that_leave_a_way() -> None:
    assert openness((4, 6), 24) == pytest.approx(1 / 3)  # 6 + 4, 6 - 4, 6 * 4; the quotients are not whole


def test_only_the_levels_asked_for() -> None:
    assert {problem.meta["level"] for problem in Countdown(levels=(1, 3)).problems("train", 20)} == {1, 3}
    with pytest.raises(ValueError, match=r"levels \[6\] given"):
        Countdown(levels=(6,))


def test_the_published_test_puzzles_are_in_no_other_split() -> None:
    assert len(HELD_OUT) == 100
    assert all(reachable(numbers, CLASSIC) for numbers in HELD_OUT)
    for split in ("train", "calibration", "test"):
        classic = 0
        for problem in Countdown(levels=(2, 3)).problems(split, 120, seed=1):
            numbers, target = given_numbers(problem)
            if target == CLASSIC:
                classic += 1
                assert (tuple(numbers) in HELD_OUT) == (split == "test")
        assert classic > 5


@pytest.fixture
def puzzles(tmp_path: Path) -> Path:
    """A file like the published one, the last hundred rows of which are the test split."""
    hands = [hand for hand in combinations_with_replacement(range(1, 14), 4) if reachable(hand, CLASSIC)]
    ordered = [hand for hand in hands if hand not in HELD_OUT] + sorted(HELD_OUT)
    lines = [f"{rank},{' '.join(map(str, hand))},4.4" for rank, hand in enumerate(ordered, 1)]
    path = tmp_path / "puzzles.csv"
    path.write_text("\n".join(["Rank,Puzzles,AMT (s)", *lines]) + "\n")
    return path


def test_puzzles_come_from_a_file(puzzles: Path) -> None:
    environment = Countdown(puzzles=str(puzzles))
    assert sorted(problem.meta["rank"] for problem in environment.problems("test", 100)) == list(range(1263, 1363))
    assert len(environment.problems("train", 1000)) == 1000
    with pytest.raises(ValueError, match="101 problems of 'test' asked for; there are 100"):
        environment.problems("test", 101)
    check_environment(environment, n=3)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "'Rank' and 'Puzzles' are needed"),
        ("Rank,Puzzle\n1,1 1 4 6\n", "'Rank' and 'Puzzles' are needed"),
        ("Rank,Puzzles\n1,1 1 4 6\n2,1 1 x 6\n", "line 3: invalid literal"),
        ("Rank,Puzzles\n1,1 1 1 1\n", "line 2: there is no solution"),
        ("Rank,Puzzles\n1,24\n", "line 2: not a puzzle"),
        ("Rank,Puzzles\n1\n", "line 2"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "wrong.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=re.escape(why)):
        Countdown(puzzles=path)


def test_more_problems_than_there_are_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envs.splits.PATIENCE", 20)
    with pytest.raises(ValueError, match="2000 problems of 'test' asked for; after"):
        Countdown(levels=(1,)).problems("test", 2000)


# ---------------------------------------------------------------------------------------------------- demonstrations


@given(st.sampled_from(PROBLEMS), st.integers(0, 99))
def test_every_step_of_a_demonstration_is_legal_and_leads_to_the_target(problem: Problem, seed: int) -> None:
    texts = ENVIRONMENT.demonstrate(problem, random.Random(seed))
    numbers, target = given_numbers(problem)
    left = sorted(map(Fraction, numbers))
    for text in texts:
        match = re.fullmatch(r"(\S+) ([-+*/]) (\S+) = (\S+) \(left: (.*)\)", text)
        assert match is not None
        for number in (match[1], match[3]):
            left.remove(Fraction(number))  # raises if it is not there
        sign = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}[match[2]]
        assert sign(Fraction(match[1]), Fraction(match[3])) == Fraction(match[4])
        left = sorted([*left, Fraction(match[4])])
        assert left == list(map(Fraction, match[5].split()))
        assert all(number.denominator == 1 and 0 <= number <= LARGEST for number in left)
    assert left == [target]
    state, status = follow(problem.question, *texts)
    assert status == "terminated"
    assert ENVIRONMENT.first_error(state) is None
    answer = ENVIRONMENT.answer(state) or ""
    used, value = reference(answer)
    assert (sorted(used), value) == (numbers, target)
    assert ENVIRONMENT.check(problem, answer)


@pytest.mark.parametrize("question", ["1 3 4 6", "3 3 8 8", "1 5 5 5", "make 9777 from 7 10 20 42 51 84"])
def test_fractions_and_large_numbers_where_there_is_no_other_way(question: str) -> None:
    problem = ENVIRONMENT.read(question)
    state, status = follow(question, *ENVIRONMENT.demonstrate(problem, random.Random(0)))
    assert status == "terminated"
    assert ENVIRONMENT.first_error(state) is None


@given(st.lists(st.integers(0, 30) | st.integers(0, MAX_GIVEN), min_size=2, max_size=5), st.integers(0, 10**9))
def test_whatever_can_be_reached_can_be_demonstrated(numbers: list[int], seed: int) -> None:
    rng = random.Random(seed)
    left: Numbers = tuple(sorted(numbers))
    while len(left) > 1:
        left = rng.choice(list(moves(left))).left
    if left[0] == int(left[0]) <= MAX_GIVEN:
        problem = ENVIRONMENT.read(f"make {left[0]} from {' '.join(map(str, numbers))}")
        state, status = follow(problem.question, *ENVIRONMENT.demonstrate(problem, rng))
        assert status == "terminated"
        assert ENVIRONMENT.first_error(state) is None


def test_demonstrations_differ() -> None:
    problem = ENVIRONMENT.read("2 4 6 8")
    assert len({ENVIRONMENT.demonstrate(problem, random.Random(seed)) for seed in range(50)}) > 10


def test_every_number_can_be_tokenised() -> None:
    def corpus() -> Iterator[str]:
        for problem in PROBLEMS:
            yield ENVIRONMENT.prompt(problem) + "\n".join(ENVIRONMENT.demonstrate(problem, random.Random(0)))

    tokenizer = build_tokenizer(corpus())
    text = (
        "make 24 from 2 3 5 12\n2 - 5 = -3 (left: -3 3 12)\n3 / 12 = 1/4 (left: -3 1/4)\n1/4 * -3 = -3/4 (left: -3/4)"
    )
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.unk_token == UNKNOWN
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == text
    ids = tokenizer("1/4 * -3 = -3/4", add_special_tokens=False)["input_ids"]
    assert [tokenizer.decode([each]) for each in ids] == ["1", "/", "4", " * ", "-", "3", " = ", "-", "3", "/", "4"]


# ---------------------------------------------------------------------------------------------------------- the steps


@pytest.mark.parametrize(
    ("texts", "status"),
    [
        (["8 - 2 = 6 (left: 4 6 6)"], "running"),
        (["  8 -  2 = 6 (left:6 4  6 )  "], "running"),  # any order and any spaces
        (["2 - 8 = -6 (left: -6 4 6)"], "running"),
        (["6 / 4 = 3/2 (left: 3/2 2 8)"], "running"),
        (["6 / 4 = 6/4 (left: 6/4 2 8)"], "running"),
        (["4 - 2 = 2 (left: 2 6 8)", "8 * 6 = 48 (left: 2 48)", "48 / 2 = 24 (left: 24)"], "terminated"),
        (["8 - 2 = 6 (left: 4 6 6)", "6 * 6 = 36 (left: 4 36)", "36 - 4 = 32 (left: 32)"], "truncated"),  # not 24
        (["8 - 2 = 7 (left: 4 6 7)"], "truncated"),  # wrong result
        (["8 - 2 = 6 (left: 4 6)"], "truncated"),  # wrong rest
        (["8 - 2 = 6 (left: 4 6 7)"], "truncated"),
        (["8 - 3 = 5 (left: 4 5 6)"], "truncated"),  # 3 is not there
        (["8 - 8 = 0 (left: 0 2 4 6)"], "truncated"),  # one 8 only
        (["8 / 0 = 8 (left: 2 4 6 8)"], "truncated"),
        (["8 / 2/0 = 8 (left: 4 6 8)"], "truncated"),
        (["8-2=6 (left: 4 6 6)"], "running"),
        (["8 - 2 = 6 (left: 4, 6, 6)"], "running"),
        (["8 - 2 = 6 (Left: 4 6 6)."], "running"),
        (["8 \u2212 2=6(left:4,6,6)"], "running"),
        (["8 × 6 = 48 (left: 2 4 48)", "2 x 48 = 96 (left: 4 96)", "96 ÷ 4 = 24 (left: 24)."], "terminated"),
        (["2 - 8 = -6 (left: -6, 4, 6)", "4--6=10 (left: 10 6)"], "running"),
        (["8 x 6 = 47 (left: 2 4 47)"], "truncated"),
        (["1. 8 - 2 = 6 (left: 4 6 6)", "Step 2: 6 + 6 = 12, left: 4 12"], "running"),
        (["- 8 - 2 = 6 [remaining: 4 6 6]"], "running"),
        (["8 - 2 = 6 (left: [4, 6, 6])", "$6 \\times 6 = 36$ (left: 4 and 36)"], "running"),
        ([r"8 \div 2 = 4 (left 4 4 6)"], "running"),
        (["(8 - 2) = 6 (remaining numbers: 4, 6, 6)"], "running"),
        (["1. 8 - 2 = 7 (left: 4 6 7)"], "truncated"),
        (["8 - 2 = 6 (left: 4,, 6, 6)"], "truncated"),
        (["8 - 2 = 6 (left: 4 66)"], "truncated"),
        (["8 - 2 = 6"], "truncated"),
        (["8 - 2 = 6 (left: 4 6 6) "], "running"),
        (["8 - 2 = 6 (left: 4 6 6) and"], "truncated"),
        (["#### 24"], "truncated"),
        (["8 - 2 = 6 (left: 4 6 6)", "8 - 2 = 6 (left: 4 6 6)"], "truncated"),  # used up
    ],
)
def test_the_status_of_a_step(texts: list[str], status: str) -> None:
    state, found = follow("4 6 8 2", *texts)
    assert found == status
    assert (ENVIRONMENT.answer(state) is not None) == (status == "terminated")


def test_a_step_that_was_cut_or_ended_truncates_unless_the_target_is_left() -> None:
    state = ENVIRONMENT.initial(ENVIRONMENT.read("4 6 8 2"))
    for finish in ("length", "answer"):
        assert ENVIRONMENT.step(state, Step("8 - 2 = 6 (left: 4 6 6)", finish=finish)).status == "truncated"
        last, _ = follow("4 6 8 2", "4 - 2 = 2 (left: 2 6 8)", "8 * 6 = 48 (left: 2 48)")
        assert ENVIRONMENT.step(last, Step("48 / 2 = 24 (left: 24)", finish=finish)).status == "terminated"


def test_the_answer_is_the_expression_of_the_steps() -> None:
    state, _ = follow("4 4 6 8", "8 + 4 = 12 (left: 4 6 12)", "6 - 4 = 2 (left: 2 12)", "12 * 2 = 24 (left: 24)")
    assert ENVIRONMENT.answer(state) == "(8 + 4) * (6 - 4)"
    state, _ = follow("make 2 from 3 5 6", "3 - 5 = -2 (left: -2 6)", "-2 + 6 = 4 (left: 4)")
    assert ENVIRONMENT.answer(state) is None


@pytest.mark.parametrize(
    ("question", "texts", "error"),
    [
        ("4 6 8 2", ["4 - 2 = 2 (left: 2 6 8)", "8 * 6 = 48 (left: 2 48)"], None),
        ("4 6 8 2", ["8 - 2 = 6 (left: 4 6 6)"], 0),  # legal, but there is no way on
        ("4 6 8 2", ["4 - 2 = 2 (left: 2 6 8)", "8 - 6 = 2 (left: 2 2)", "2 + 2 = 4 (left: 4)"], 1),
        ("4 6 8 2", ["4 - 2 = 2 (left: 2 6 8)", "8 * 6 = 47 (left: 2 47)"], 1),
        ("4 6 8 2", ["4 - 2 = 2 (left: 2 6 8)", "8 * 6 = 48 (left: 2 48)", "48 + 2 = 50 (left: 50)"], 2),
        ("1 3 4 6", ["3 / 4 = 3/4 (left: 3/4 1 6)", "3/4 - 1 = -1/4 (left: -1/4 6)"], 1),  # 6 / -1/4 is below zero
        ("1 3 4 6", ["3 / 4 = 3/4 (left: 3/4 1 6)", "1 - 3/4 = 1/4 (left: 1/4 6)", "6 / 1/4 = 24 (left: 24)"], None),
        ("make 2 from 1 2 3", ["1 - 3 = -2 (left: -2 2)"], 0),
        ("make 4 from 1 2 3", ["1 - 3 = -2 (left: -2 2)", "2 - -2 = 4 (left: 4)"], None),
        ("4 6 8 2", ["nonsense"], 0),
    ],
)
def test_the_first_error_is_the_first_step_after_which_there_is_no_way(
    question: str, texts: list[str], error: int | None
) -> None:
    state = State(ENVIRONMENT.read(question), tuple(map(Step, texts)))
    assert ENVIRONMENT.first_error(state) == error


@given(st.sampled_from([each for each in PROBLEMS if each.meta["level"] < 5]), st.integers(0, 10**9))
def test_the_step_checker_agrees_with_the_enumeration(problem: Problem, seed: int) -> None:
    """Along careless games: the first error is where the target stops being among all that can be made."""
    rng, state, lost = random.Random(seed), ENVIRONMENT.initial(problem), None
    numbers, target = given_numbers(problem)
    while len(state.steps) < len(numbers) - 1:
        step = Step(rng.choice(list(ENVIRONMENT.options(state))))
        state = ENVIRONMENT.step(state, step).state
        left = tuple(map(Fraction, step.text.partition("left: ")[2].rstrip(")").split()))
        if lost is None and target not in enumerate_values(left):
            lost = len(state.steps) - 1
        assert ENVIRONMENT.first_error(state) == lost
    assert (ENVIRONMENT.first_error(state) is None) == (ENVIRONMENT.answer(state) is not None)


# ------------------------------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("8 * 6 / (4 - 2)", True),
        ("(8*6)/(4-2)", True),
        ("-2 * 8 + 6 * 4", False),
        ("6 * 8 ÷ (4 − 2)", True),
        ("(4 - 2) * 6 + 8", False),  # 20
        ("8 + 8 + 8", False),
        ("24", False),
        ("8 * 6 / (4 - 2) + 0", False),
        ("6 * 8 / (4 - 2) = 24", True),
        ("24 = 6 * 8 / (4 - 2)", True),
        ("6 * 8 / (4 - 2) = 25", False),
        ("6 * 8 = 24 * (4 - 2)", False),
        ("6 * 8 / (4 - 2) = 24 = 24", False),
        ("24 = 24", False),
        ("6 * 8 / (4 - 2) = x", False),
        ("6 * 8 / (4 - 2).", True),
        (" 6 x 8 / (4 - 2) ", True),
        ("6X(8)/(4-2)", True),
        (r"6 \times 8 \div (4 - 2)", True),
        (r"$6 \cdot 8 / (4 - 2)$", True),
        (r"$$\frac{6 \times 8}{4 - 2} = 24$$.", True),
        (r"\boxed{\dfrac{6 \cdot 8}{4-2}}", True),
        (r"\[\boxed{\left(\frac{6}{4-2}\right) \times 8 = 24}\]", True),
        (r"\(\frac{8}{\frac{4-2}{6}}\)", True),
        (r"\frac{8}{2} \times 6 \times 4", False),
        (r"\frac82 + 6", False),
        (r"\boxed{24}", False),
        ("Answer: 6 * 8 / (4 - 2)", True),
        ("The answer is 6 * 8 / (4 - 2) = 24.", True),
        ("6 * 8 / (4 - 2) == 24", True),
        ("6 ∗ 8 ／ (4 – 2);", True),  # noqa: RUF001
        ("８×６÷（４−２）＝２４", True),  # noqa: RUF001
        (r"\text{6 * 8 / (4 - 2)}", True),
        ("x = 6 * 8 / (4 - 2)", True),
        ("x = 24", False),
        ('"6 * 8 / (4 - 2)"', True),
        ("#### 6 * 8 / (4 - 2)", True),
        ("final_answer: 6 * 8 / (4 - 2)", True),
        ("6 * 8 / (4 - 2) → 24", True),
        ("6 * 8 / (4 - 2) = 24.0 ✓", True),
        ("{6 * 8}/{4 - 2}", True),
        ("6 * 8 : (4 - 2)", True),
        ("6 * 8 / (4 - 2) → 25", False),
        ("6 * 8 : 4 - 2", False),
        ("Answer: 24", False),
        (r"\boxed{6 * 8 / (4 - 2)} or 5", False),
        ("**6 * 8 / (4 - 2)**", True),
        ("`6 * 8 / (4 - 2)`", True),
        ("<answer> 6 * 8 / (4 - 2) </answer>", True),
        ("6 * 8 / (4 - 2) = 24 and so on", False),
        (r"6 \times 8 \timesx (4 - 2)", False),
        ("\\frac{" * 30, False),
        ("x * 8 * 6", False),
        ("6 / 0", False),
        ("", False),
    ],
)
def test_an_answer_uses_every_number_once_and_meets_the_target(answer: str, right: bool) -> None:
    assert ENVIRONMENT.check(ENVIRONMENT.read("4 6 8 2"), answer) == right


def test_all_solutions_of_a_puzzle_are_the_same_answer_and_others_are_not() -> None:
    problem = ENVIRONMENT.read("4 4 6 8")
    answers = set[str]()
    for seed in range(30):
        state, _ = follow(problem.question, *ENVIRONMENT.demonstrate(problem, random.Random(seed)))
        answers.add(ENVIRONMENT.answer(state) or "")
    assert len(answers) > 3
    for answer in answers:
        assert all(ENVIRONMENT.same(answer, other) for other in answers)
        assert not ENVIRONMENT.same(answer, "4 + 4 + 6 + 8")  # another value
        assert not ENVIRONMENT.same(answer, "4 * 6")  # other numbers
    assert ENVIRONMENT.same("none", " none ")


# -------------------------------------------------------------------------------------------------------- hostile text


@given(st.text(max_size=200) | st.text("0123456789+-*/()= left:.", max_size=200))
def test_no_text_raises(text: str) -> None:
    state = ENVIRONMENT.initial(PROBLEMS[0])
    result = ENVIRONMENT.step(state, Step(text))
    assert (ENVIRONMENT.answer(result.state) is not None) == (result.status == "terminated")
    ENVIRONMENT.first_error(result.state)
    ENVIRONMENT.check(PROBLEMS[0], text)
    assert ENVIRONMENT.options(result.state) is not None
    with contextlib.suppress(UnreadableQuestion):
        ENVIRONMENT.read(text)


_LONG = "9" * 45
LINES = [
    *HOSTILE,
    f"{_LONG} + 1 = {_LONG} (left: {_LONG})",
    "2 + 4 = 6 (left: " + "6 " * 5000 + ")",
    "2 + 4 = 6 (left: " + "6 " * 40,
    "٢ + 4 = 6 (left: 6 6 8)",
    "2 + 4 = 6/1/1 (left: 6 6 8)",
    "2 + 4 = 6.0 (left: 6.0 6 8)",
    "2 + 4 = 6.5 (left: 6.5 6 8)",
    "2 + 4 = 1e1 (left: 6 6 8)",
    "2 + 4 = 6 (left: 6 6 8)\n6 + 6 = 12 (left: 8 12)",
    "2 + 4 = 0/0 (left: 6 6 8)",
]


@pytest.mark.parametrize("text", LINES, ids=range(len(LINES)))
def test_hostile_lines_truncate_and_are_never_right(text: str) -> None:
    state, status = follow("4 6 8 2", text)
    assert status == "truncated"
    assert ENVIRONMENT.first_error(state) == 0
    assert not ENVIRONMENT.check(state.problem, text)
    assert not ENVIRONMENT.options(state)


# -------------------------------------------------------------------------------------------------- the conformance kit


def test_conforms() -> None:
    check_environment(load_environment("countdown"), [ENVIRONMENT.read(question) for question, _ in WORDINGS[:6]], n=5)


def test_a_scripted_policy_solves_it_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    careless = ["--policy", "scripted", "--verifier", "none", "--strategy", "majority", "--budget", "200"]
    assert main(["solve", "4 6 8 2", "--env", "countdown", *careless]) == 0
    out = capsys.readouterr().out
    assert "make 24 from 2 4 6 8" in out
    assert "(left: 24)" in out
    assert "✓ right" in out


def test_the_shipped_policy_solves_it_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solve", "4 6 8 2", "--env", "countdown"]) == 0
    out = capsys.readouterr().out
    assert "(left: 24)" in out
    assert "✓ right" in out
    assert "1 of 1 candidates, none of them scored" in out  # the greedy one, which proves itself
    assert "0% of the vote" not in out


def test_choosing_is_what_is_hard() -> None:
    """The same careless steps, chosen among by the exact checker, solve more at the same budget."""
    solver = Solver(ENVIRONMENT, ScriptedPolicy(ENVIRONMENT), load_verifier("symbolic", ENVIRONMENT))
    problems = Countdown(levels=(3, 4)).problems("test", 20)

    def solved(strategy: Strategy) -> int:
        solutions = list(solver.solve_many(problems, strategy, Budget(samples=32)))
        assert all(solution.correct for solution in solutions if solution.answer is not None)
        return sum(solution.answer is not None for solution in solutions)

    assert solved(Beam.sized(32)) > solved(Majority.sized(32)) > 0
