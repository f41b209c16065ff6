"""A plan knows the models and the problems that it was fitted to; for others it says so first."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.planning.planner import Planner
from agent.search.budget import Budget
from agent.search.engine import Engine, Task
from envs.arithmetic import Arithmetic
from envs.core import Environment, Problem
from envs.digest import environment_digest
from envs.toy import Toy
from policies.models.digest import model_digest
from policies.registry import WEIGHTS, load_policy
from verifiers.registry import load_verifier

EASY = "(17 + 8) * 3 - 40"


def reasons(environment: Environment, policy: str | Path) -> Sequence[str]:
    engine = Engine(environment, load_policy(policy, environment), load_verifier("arithmetic-prm", environment))
    planner = Planner(4)
    (graph,) = engine.run([Task(environment.read(EASY), planner.search, Budget(samples=4), vote=planner.vote)])
    assert "error" not in graph.info
    found: Sequence[str] = graph.info["plan"]["reasons"]
    return found


def test_what_a_plan_was_fitted_to_gets_no_warning() -> None:
    assert "another" not in " ".join(reasons(Arithmetic(), "arithmetic-s"))
    assert "another" not in " ".join(reasons(Arithmetic(levels=(1, 2, 3, 4, 5)), "arithmetic-s"))


def test_other_weights_under_a_name_are_told_first(tmp_path: Path) -> None:
    shutil.copytree(WEIGHTS / "arithmetic-xs", tmp_path / "arithmetic-s")
    first, *_ = reasons(Arithmetic(), tmp_path / "arithmetic-s")
    assert first == "the plan was fitted to another policy of this name (its weights differ): it may mislead"


def test_the_same_weights_elsewhere_are_the_same(tmp_path: Path) -> None:
    shutil.copytree(WEIGHTS / "arithmetic-s", tmp_path / "arithmetic-s")
    assert "another" not in " ".join(reasons(Arithmetic(), tmp_path / "arithmetic-s"))


def test_other_options_of_the_environment_are_told_first() -> None:
    first, *_ = reasons(Arithmetic(levels=(5,)), "arithmetic-s")
    assert (
        first
        == "the plan was fitted to another environment of this name (its options or problems differ): it may mislead"
    )


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"])
def test_every_file_of_a_model_counts(tmp_path: Path, file: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(WEIGHTS / "arithmetic-xs", folder)
    before = model_digest(folder)
    assert before == model_digest(WEIGHTS / "arithmetic-xs")
    with (folder / file).open("ab") as content:
        content.write(b" ")
    assert model_digest(folder) != before


def test_shards_count_and_records_do_not(tmp_path: Path) -> None:
    for shard in (1, 2):
        (tmp_path / f"model-0000{shard}-of-00002.safetensors").write_bytes(b"weights")
    (tmp_path / "config.json").write_text("{}")
    before = model_digest(tmp_path)
    (tmp_path / "training.json").write_text("{}")
    assert model_digest(tmp_path) == before
    (tmp_path / "model-00002-of-00002.safetensors").write_bytes(b"others!")
    assert model_digest(tmp_path) != before
    assert model_digest(tmp_path / "nowhere") == ""
    (tmp_path / "empty").mkdir()
    assert model_digest(tmp_path / "empty") == ""


def test_one_file_is_a_model(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF1")
    (tmp_path / "b.gguf").write_bytes(b"GGUF2")
    assert len({model_digest(tmp_path / "a.gguf"), model_digest(tmp_path / "b.gguf")}) == 2


class Dumb(Toy):
    def problems(self, split: str, n: int, seed: int = 0) -> Sequence[Problem]:
        raise RuntimeError("there are none")


def test_an_environment_without_problems_has_no_digest() -> None:
    assert environment_digest(Dumb()) == ""
    assert environment_digest(Toy()) == environment_digest(Toy()) != ""
