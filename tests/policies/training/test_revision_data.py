"""Training data of revisers: attempts told apart by their answers, trajectories that end right, runs that go on."""

import json
import random
from pathlib import Path

import pytest

from envs.arithmetic import Arithmetic
from envs.core import Problem, State, Step, render
from envs.messages import UsageError
from envs.toy import Toy
from policies.backends.lab import LabPolicy
from policies.models.lab_tokens import Tokens
from policies.registry import WEIGHTS
from policies.scripted import ScriptedPolicy
from policies.training.revision_data import Attempts, collect, distance, trajectories
from policies.training.train import PolicyRecipe, Revise, train_policy

START = WEIGHTS / "arithmetic-s"
TOY = Toy()


def test_edit_distance_by_hand() -> None:
    assert [distance(*pair) for pair in (("kitten", "sitting"), ("", "abc"), ("abc", "abc"), ("ab", "ba"))] == [
        3,
        3,
        0,
        2,
    ]


def test_attempts_are_told_apart_by_their_answers_and_kept(tmp_path: Path) -> None:
    problems = TOY.problems("train", 6)
    path = tmp_path / "attempts.jsonl"
    pool = collect(TOY, ScriptedPolicy(TOY), problems, 8, 0, path)
    assert [each.problem for each in pool] == list(problems)
    for each in pool:
        assert 0 < len(each.right) + len(each.wrong) <= 8
        for attempts, is_right in ((each.right, True), (each.wrong, False)):
            for texts in attempts:
                answer = TOY.answer(State(each.problem, tuple(map(Step, texts))))
                assert answer is not None
                assert TOY.check(each.problem, answer) == is_right
    # a killed run goes on: what is there is not drawn again, a torn line is
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:4]) + lines[4][:10])
    assert collect(TOY, ScriptedPolicy(TOY), problems, 8, 0, path) == pool
    assert sorted(path.read_text().splitlines()) == sorted(line.strip() for line in lines)
    with pytest.raises(ValueError, match="belongs to another configuration"):
        collect(TOY, ScriptedPolicy(TOY), problems, 4, 0, path)


def test_attempts_of_another_model_under_the_same_name_are_not_mixed(tmp_path: Path) -> None:
    class Model(ScriptedPolicy):
        def __init__(self, weights: str) -> None:
            super().__init__(TOY)
            self.digest = lambda: weights

    problems, path = TOY.problems("train", 2), tmp_path / "attempts.jsonl"
    pool = collect(TOY, Model("first"), problems, 4, 0, path)
    with pytest.raises(UsageError, match="is of another policy under the same name"):
        collect(TOY, Model("second"), problems, 4, 0, path)
    assert collect(TOY, Model("first"), problems, 4, 0, path) == pool


def test_a_trajectory_shows_wrong_attempts_the_nearest_last_and_ends_right() -> None:
    environment = Arithmetic()
    problem = environment.read("17 + 8")
    right, near, far = (
        ("17 + 8 = 25", "#### 25"),
        ("17 + 8 = 26", "#### 26"),
        ("17 + 8 = 114", "114 + 1 = 115", "#### 115"),
    )
    pool = [Attempts(problem, (right,), (far, near)), Attempts(Problem("q", "1 + 1"), (), (near,))]
    tokens = Tokens(START, 1)
    made = trajectories(environment, tokens, 2, pool, 40, random.Random(0))
    assert len(made) == 40
    seen = set()
    for ids, start, given in made:
        assert given == ()
        assert ids[0] == 1
        assert ids[-1] == 2
        assert tokens.decode(ids[start:-1]) == "17 + 8 = 25\n#### 25"
        seen.add(tokens.decode(ids[1:start]))
    shown = {
        render(environment, State(problem, (), tuple(tuple(map(Step, attempt)) for attempt in attempts)))
        for attempts in ((), (near,), (far,), (far, near))
    }
    assert seen == shown  # never the near one before the far one
    with pytest.raises(ValueError, match="none of 1 problems was solved"):
        trajectories(environment, tokens, 2, pool[1:], 1, random.Random(0))


def test_a_reviser_is_trained_from_the_attempts_of_the_policy_it_starts_from(tmp_path: Path) -> None:
    recipe = PolicyRecipe("tiny", start="arithmetic-s", revise=Revise(12, 4), tokens=3000, batch_tokens=1024)
    folder = train_policy(recipe, lambda **options: Arithmetic(levels=(1,), **options), tmp_path / "tiny", START)
    assert len((folder / "attempts.jsonl").read_text().splitlines()) == 13
    record = json.loads((folder / "training.json").read_text())
    assert record["recipe"]["revise"] == {"problems": 12, "samples": 4}
    assert record["tokens_seen"] > record["tokens"] >= 3000
    assert LabPolicy(folder, Arithmetic(), device="cpu").parameters == record["parameters"]
    with pytest.raises(ValueError, match="give start"):
        PolicyRecipe("tiny", revise=Revise())
