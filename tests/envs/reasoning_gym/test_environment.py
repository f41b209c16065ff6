"""Tasks of reasoning-gym as environments: each gold answer passes, the empty one fails, and its traps are not ours."""

import json
import random
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.interface.cli import main
from envs import (
    Environment,
    Problem,
    State,
    Step,
    StepChecker,
    UnreadableQuestion,
    UnusableEnvironment,
    check_environment,
    list_environments,
    load_environment,
)
from envs.conformance import HOSTILE
from envs.countdown import HELD_OUT
from envs.reasoning_gym.environment import FAULTY, INNER, SingleAnswer, Source, Stepwise, split_of_task, tasks
from envs.reasoning_gym.puzzles import PUZZLES, RIGHT, Moves, distances


@cache
def source(task: str) -> Source:
    """The entries of a task, made once for all tests."""
    return Source(task)


@cache
def moves(task: str) -> Moves:
    """One of the puzzles of moves."""
    return Moves(PUZZLES[task])


def follow(environment: Environment, problem: Problem, texts: tuple[str, ...]) -> tuple[State, str]:
    """The state after some steps and the status of the last."""
    state, status = environment.initial(problem), "running"
    for text in texts:
        assert status == "running", (text, texts)
        result = environment.step(state, Step(text))
        state, status = result.state, result.status
    return state, status


# ----------------------------------------------------------------------------------------------------------- the sweep


@pytest.mark.parametrize("task", tasks())
def test_the_gold_answer_passes_and_others_fail(task: str) -> None:
    found = source(task)
    environment: Any = Stepwise(found) if task in INNER else SingleAnswer(found)
    (problem,) = environment.problems("train", 1)
    index = problem.meta["index"]
    gold = found.gold(index)
    assert environment.check(problem, gold)
    assert environment.check(problem, problem.answer)
    assert task in INNER or found.accepts(index, gold)
    for wrong in ("", " ", "\n", "no answer", *HOSTILE):
        assert not environment.check(problem, wrong), wrong
    assert not environment.check(Problem(problem.id, problem.question, None, problem.meta), gold)


def test_every_task_is_there_or_refused_with_a_reason() -> None:
    from reasoning_gym.factory import DATASETS

    assert set(FAULTY) <= set(DATASETS)
    assert {*tasks(), *FAULTY} == set(DATASETS)
    assert len(tasks()) >= 96
    for task, reason in FAULTY.items():
        with pytest.raises(UnusableEnvironment, match=re.escape(f"{task!r} of reasoning-gym is refused: {reason}")):
            load_environment("reasoning-gym", task=task)


def test_the_package_and_not_this_module_is_asked() -> None:
    import reasoning_gym

    assert Path(reasoning_gym.__file__).parent.name == "reasoning_gym"
    assert sys.modules["envs.reasoning_gym.environment"] is not reasoning_gym


# --------------------------------------------------------------------------------------------------------------- traps


def test_the_refusals_are_deserved() -> None:
    """If one of these fails, the task has been mended and need not be refused any more."""
    import reasoning_gym

    halting = reasoning_gym.create_dataset("game_of_life_halting", seed=0, size=1)
    assert halting.score_answer("nonsense", halting[0]) == 1.0
    for task in ("boxnet", "rush_hour"):
        assert reasoning_gym.create_dataset(task, seed=0, size=1)[0]["answer"] is None


@pytest.mark.parametrize("task", ["binary_matrix", "n_queens", "spiral_matrix", "string_insertion"])
def test_no_scorer_runs_what_a_model_wrote(task: str, tmp_path: Path) -> None:
    import reasoning_gym

    witness = tmp_path / "witness"
    code = f"[__import__('pathlib').Path({str(witness)!r}).touch()]"
    assert not source(task).accepts(0, code)
    assert not witness.exists()
    dataset = reasoning_gym.create_dataset(task, seed=0, size=1)
    dataset.score_answer(code, dataset[0])
    assert witness.exists()  # if not, the task has been mended and need not be guarded any more


@pytest.mark.parametrize("task", ["countdown", "puzzle24"])
def test_expressions_are_never_run(task: str, tmp_path: Path) -> None:
    environment = load_environment("reasoning-gym", task=task)
    (problem,) = environment.problems("train", 1)
    witness = tmp_path / "witness"
    assert not environment.check(problem, f"open({str(witness)!r}, 'w')")
    assert not witness.exists()


def test_puzzle24_wants_its_own_numbers() -> None:
    environment = load_environment("reasoning-gym", task="puzzle24")
    problem = environment.read("Make 24 using 4, 6, 8, 2. You can only use each number once.")
    assert environment.check(problem, "(8 - 6 + 4) * 2 * 2") is False
    assert environment.check(problem, "6 * 8 / (4 - 2)")
    assert not environment.check(problem, "6 * 4 * 1 * 1")  # the scorer of reasoning-gym takes it


def test_text_around_a_long_answer_is_no_answer() -> None:
    import reasoning_gym

    found = source("word_sorting")
    gold = ", ".join([found.gold(0)] * 5)
    dataset = reasoning_gym.create_dataset("gcd", seed=0, size=1)
    assert dataset.score_answer(f"{gold}.", {"answer": gold, "metadata": {}}) >= 0.99  # the trap
    life = source("game_of_life")
    assert life.accepts(0, life.gold(0))
    assert not life.accepts(0, f"{life.gold(0)}.")


def test_numbers_that_take_hours_are_no_answer() -> None:
    assert not source("coin_flip").accepts(0, "1e999999999")


def test_contradictory_premises_are_passed_over() -> None:
    environment = load_environment("reasoning-gym", task="propositional_logic")
    assert isinstance(environment, SingleAnswer)
    for problem in environment.problems("train", 20):
        assert not environment.check(problem, "(P ∧ ¬P)")


def test_the_published_test_puzzles_are_in_the_test_split() -> None:
    environment = Stepwise(source("puzzle24"))
    for numbers in sorted(HELD_OUT)[::5]:
        assert split_of_task(environment.read(f"Make 24 using {', '.join(map(str, numbers))}.")) == "test"
    splits = {split_of_task(environment.read(f"make {target} from 1 2 3 4")) for target in range(1, 25)}
    assert splits == {"train", "calibration", "test"}


# --------------------------------------------------------------------------------------------------------- step by step


@pytest.mark.parametrize("task", sorted(INNER))
def test_conforms(task: str) -> None:
    environment = load_environment("reasoning-gym", task=task)
    assert isinstance(environment, StepChecker)
    check_environment(environment, n=2, patience=60)


def test_a_task_with_a_single_answer_conforms() -> None:
    check_environment(load_environment("reasoning-gym", task="gsm_symbolic"), n=3, patience=30)


@pytest.mark.parametrize("task", sorted(INNER))
def test_demonstrations_are_right_by_the_scorer_too(task: str) -> None:
    environment = load_environment("reasoning-gym", task=task)
    assert isinstance(environment, Stepwise)
    for problem in environment.problems("train", 4):
        for seed in range(2):
            state, status = follow(environment, problem, environment.demonstrate(problem, random.Random(seed)))
            assert status == "terminated"
            answer = environment.answer(state) or ""
            assert environment.check(problem, answer)
            assert environment.first_error(state) is None
            assert environment.source.score(problem.meta["index"], answer) >= RIGHT


JUGS = "Jugs A:3, B:5; target: 4"
HANOI = "Tower of Hanoi with 2 disks and 3 pegs: move all disks from Peg 1 to Peg 3"
LADDER = "Transform the word ladder 'COLD' to 'WARM'"


@pytest.mark.parametrize(
    ("task", "question", "lines", "status"),
    [
        ("jugs", JUGS, ("fill B", "pour B->A", "empty A", "pour B->A", "fill B", "pour B->A"), "terminated"),
        ("jugs", JUGS, ("fill B", "fill B", "  pour B -> A "), "running"),
        ("jugs", JUGS, ("fill C",), "truncated"),
        ("jugs", JUGS, ("pour A->A",), "truncated"),
        ("jugs", JUGS, ("drink A",), "truncated"),
        ("tower_of_hanoi", HANOI, ("Move disk 1 from Peg 1 to Peg 2",), "running"),
        ("tower_of_hanoi", HANOI, ("Move disk 2 from Peg 1 to Peg 2",), "truncated"),  # not on top
        ("tower_of_hanoi", HANOI, ("Move disk 1 from Peg 2 to Peg 3",), "truncated"),  # not there
        (
            "tower_of_hanoi",
            HANOI,
            ("Move disk 1 from Peg 1 to Peg 2", "Move disk 2 from Peg 1 to Peg 2"),
            "truncated",
        ),
        ("word_ladder", LADDER, ("CORD", "CARD", "WARD", "WARM"), "terminated"),
        ("word_ladder", LADDER, ("cord", "card"), "running"),
        ("word_ladder", LADDER, ("CARD",), "truncated"),  # two letters
        ("word_ladder", LADDER, ("COLX",), "truncated"),  # no word
    ],
)
def test_moves_are_legal_or_not(task: str, question: str, lines: tuple[str, ...], status: str) -> None:
    environment = moves(task)
    state, found = follow(environment, environment.read(question), lines)
    assert found == status
    assert environment.first_error(state) == (len(lines) - 1 if status == "truncated" else None)
    assert (environment.answer(state) is not None) == (status == "terminated")


def test_more_moves_than_needed_are_wrong_where_moves_count() -> None:
    environment = moves("tower_of_hanoi")
    problem = environment.read(HANOI)
    line = "Move disk {} from Peg {} to Peg {}".format
    state, status = follow(environment, problem, (line(1, 1, 3), line(1, 3, 2), line(2, 1, 3), line(1, 2, 3)))
    assert status == "terminated"
    assert not environment.check(problem, environment.answer(state) or "")
    assert environment.first_error(state) == 0


@given(st.lists(st.integers(0, 50), max_size=25))
@settings(max_examples=30)
def test_a_random_player_is_judged_as_by_the_scorer(choices: list[int]) -> None:
    environment = load_environment("reasoning-gym", task="jugs", config={"difficulty": 3})
    assert isinstance(environment, Stepwise)
    (problem,) = environment.problems("train", 1)
    state, texts = environment.initial(problem), list[str]()
    for choice in choices:
        options = list(environment.options(state))
        texts.append(options[choice % len(options)])
        result = environment.step(state, Step(texts[-1]))
        state = result.state
        if result.status != "running":
            assert result.status == "terminated"
            break
    answer = json.dumps(texts)
    assert environment.check(problem, answer) == (environment.source.score(problem.meta["index"], answer) >= RIGHT)


def test_distances_are_those_of_the_tower_of_hanoi() -> None:
    kind = PUZZLES["tower_of_hanoi"]
    for disks in range(1, 7):
        puzzle = kind.read(f"{disks} disks and 3 pegs: move all disks from Peg 2 to Peg 1")
        assert distances(puzzle)[puzzle.start] == 2**disks - 1


@pytest.mark.parametrize(
    ("task", "question", "why"),
    [
        ("jugs", "Jugs A:4, B:6; target: 3", "no way to the goal"),
        ("jugs", "Jugs A:4; target: 3", "two to seven jugs"),
        ("jugs", "Jugs A:99, B:98, C:97, D:91, E:89; target: 3", "positions"),
        ("tower_of_hanoi", "9 disks and 4 pegs: move all disks from Peg 1 to Peg 2", "positions"),
        ("tower_of_hanoi", "3 disks and 3 pegs: move all disks from Peg 1 to Peg 4", "two of the pegs"),
        ("word_ladder", "'COLD' to 'ZZZZ'", "not among the words"),
        ("word_ladder", "cold to warm", "two words in quotes"),
        ("word_ladder", "x" * 3000, "at most 2000"),
    ],
)
def test_what_cannot_be_read_says_why(task: str, question: str, why: str) -> None:
    with pytest.raises(UnreadableQuestion, match=why):
        moves(task).read(question)


@pytest.mark.parametrize("task", ["arc_1d", *PUZZLES])
@given(text=st.text(max_size=80) | st.text('Move disk123fromPeg fillpourAB->,"[] COLD', max_size=80))
@settings(max_examples=50)
def test_no_text_raises(task: str, text: str) -> None:
    question = {"jugs": JUGS, "tower_of_hanoi": HANOI, "word_ladder": LADDER}.get(task, "What comes next?")
    environment: Any = moves(task) if task in PUZZLES else SingleAnswer(source(task))
    problem = environment.read(question)
    state = environment.step(environment.initial(problem), Step(text)).state
    assert (environment.answer(state) is None) or task == "arc_1d"
    assert not environment.check(problem, text)
    assert environment.same(text, text)


# ----------------------------------------------------------------------------------------------------- single answers


@pytest.mark.parametrize(
    ("texts", "status", "answer"),
    [
        (("Let me think.", "#### 12"), "terminated", "12"),
        (("Two lines\nin a step", "####\n1 2\n3 4"), "terminated", "1 2\n3 4"),
        (("It is 12.",), "running", None),
        (("####",), "truncated", None),
        ((" ",), "truncated", None),
    ],
)
def test_an_answer_is_the_last_paragraph(texts: tuple[str, ...], status: str, answer: str | None) -> None:
    environment = SingleAnswer(source("gsm_symbolic"))
    state, found = follow(environment, environment.read("How many?"), texts)
    assert (found, environment.answer(state)) == (status, answer)


# --------------------------------------------------------------------------------------------------------- from outside


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"task": "jug"}, "task 'jug' is not known; did you mean 'jugs'?"),
        ({"task": "???"}, "task '???' is not known; allowed: "),
        ({"task": "jugs", "config": {"num_jug": 4}}, "jugs has no option 'num_jug'; did you mean 'num_jugs'?"),
        ({"task": "jugs", "config": {"num_jugs": 1}}, "num_jugs must be gt 2"),
        ({"task": "jugs", "config": {"seed": 1}}, "no option 'seed'"),
        ({"tusk": "jugs"}, "no option 'tusk'; did you mean 'task'?"),
    ],
)
def test_wrong_names_are_said_with_the_nearest(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UnusableEnvironment, match=re.escape(said)):
        load_environment("reasoning-gym", **options)


def test_options_of_the_task() -> None:
    environment = load_environment("reasoning-gym", task="jugs", config={"num_jugs": 4, "difficulty": 3})
    assert all(problem.question.count(":") == 5 for problem in environment.problems("train", 3))


def test_too_many_problems_are_refused() -> None:
    environment = load_environment("reasoning-gym", task="tower_of_hanoi", config={"max_disks": 3, "max_pegs": 3})
    with pytest.raises(ValueError, match=r"500 problems of 'train' asked for; after \d there are hardly others"):
        environment.problems("train", 500)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    monkeypatch.delitem(sys.modules, "envs.reasoning_gym.environment")
    wanted = "needs reasoning_gym, not installed here: pip install 'stepwell[reasoning-gym]'"
    with pytest.raises(UnusableEnvironment, match=re.escape(wanted)):
        load_environment("reasoning-gym")
    (listed,) = (entry for entry in list_environments() if entry.name == "reasoning-gym")
    assert wanted in (listed.failure or "")


def test_solved_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solve", JUGS, "--env", "reasoning-gym"]) == 0
    assert "✓ right" in capsys.readouterr().out


def test_another_task_is_named_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The recipe holds no options that only its own task has."""
    assert main(["solve", LADDER, "--env", "reasoning-gym", "--set", "environment.task=word_ladder", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problem"]["question"] == LADDER
