import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForTokenClassification

from envs.arithmetic import Arithmetic
from envs.core import Environment, Problem, State, Step
from envs.messages import UsageError
from policies.backends.lab import LabPolicy
from policies.models.lab_tokens import Tokens
from verifiers.backends.lab import LabVerifier
from verifiers.core import Scored
from verifiers.training import train as training
from verifiers.training.examples import batches, example, pad, problem_weights
from verifiers.training.recipe import PrmRecipe
from verifiers.training.report import report
from verifiers.training.rollouts import LabelledTrajectory, SampleFile, collect, label_steps
from verifiers.training.train import label_loss, train_prm

RECIPE = PrmRecipe("prm", "chatter", problems=12, held_out=6, solutions=4, rollouts=3, epochs=2, batch_tokens=128)


@pytest.fixture
def policy(checkpoint: Callable[..., Path], chatter: Any) -> LabPolicy:
    return LabPolicy(checkpoint("policy"), chatter, device="cpu", step_tokens=12)


def test_labels_are_the_share_of_all_completions_through_a_prefix(chatter: Environment) -> None:
    problem = Problem("p", "abc")  # right answers have an odd number of characters

    def path(*lines: str) -> State:
        return State(problem, tuple(Step(line, 2, -0.5) for line in lines))

    def labelled(
        texts: tuple[str, ...], right: tuple[int, ...], total: tuple[int, ...], n: int, start: int = 0
    ) -> object:
        told = (2,) * len(texts), (-0.5,) * len(texts)
        return LabelledTrajectory("p", texts, right, total, n, start, *told)

    solutions = [path("a", "#aa"), path("a", "#aa"), path("a", "b", "#a"), path("c", "d", "e", "f", "g")]
    rollouts = {
        ("a",): [path("a", "#bb"), path("a", "#b")],
        ("a", "b"): [path("a", "b", "#b"), path("a", "b", "x", "y", "z")],
    }
    first, second, third, *rolled = label_steps(chatter, problem, solutions, rollouts)
    # through "a": three solutions, two of them right, and two rollouts, one of them right
    assert first == labelled(("a", "#aa"), (3, 2), (5, 2), 2)
    assert second == labelled(("a", "b", "#a"), (3, 0, 0), (5, 3, 1), 1)
    assert third == labelled(("c", "d", "e", "f", "g"), (0,) * 5, (1,) * 5, 1)
    assert first.labels == [0.6, 1.0]
    # rollouts: what they were given has the label of the solution's prefix, what only they reached their own outcomes
    assert rolled == [
        labelled(("a", "#bb"), (3, 1), (5, 1), 1, 1),
        labelled(("a", "#b"), (3, 0), (5, 1), 1, 1),
        labelled(("a", "b", "#b"), (3, 0, 0), (5, 3, 1), 1, 2),
        labelled(("a", "b", "x", "y", "z"), (3, 0, 0, 0, 0), (5, 3, 1, 1, 1), 1, 2),
    ]


def test_samples_are_durable_and_a_killed_run_goes_on(policy: LabPolicy, chatter: Any, tmp_path: Path) -> None:
    problems = chatter.problems("train", 12)
    with SampleFile(tmp_path / "whole.jsonl", {"a": 1}) as whole:
        collect(RECIPE, chatter, policy, problems, whole)
    assert [len(whole.solutions[problem.id]) > 0 for problem in problems] == [True] * 12
    lines = (tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "killed.jsonl").write_text("".join(lines[:5]) + lines[5][:20])
    with SampleFile(tmp_path / "killed.jsonl", {"a": 1}) as killed:
        assert len(killed.solutions) == 4
        collect(RECIPE, chatter, policy, problems, killed, concurrency=2)
        with pytest.raises(ValueError, match="being written to by another run"):
            SampleFile(tmp_path / "killed.jsonl", {"a": 1})
    with SampleFile(tmp_path / "killed.jsonl", {"a": 1}) as again:
        assert killed.solutions == whole.solutions == again.solutions
    assert killed.generated == whole.generated > 0
    assert len(policy._proposals.model.prefixes) == 0
    with pytest.raises(ValueError, match="belongs to another configuration"):
        SampleFile(tmp_path / "killed.jsonl", {"a": 2})


def test_every_unfinished_prefix_was_rolled_out(policy: LabPolicy, chatter: Any, tmp_path: Path) -> None:
    with SampleFile(tmp_path / "samples.jsonl", {}) as file:
        collect(RECIPE, chatter, policy, chatter.problems("train", 12), file)
    longest = 0
    for made in file.solutions.values():
        solutions = [each for each in made if each.start == 0]
        assert sum(solution.count for solution in solutions) == RECIPE.solutions
        for solution in solutions:
            through = [
                sum(other.count for other in solutions if other.texts[: k + 1] == solution.texts[: k + 1])
                for k in range(len(solution.texts))
            ]
            ended = len(solution.texts) - 1
            want = [count + RECIPE.rollouts * (k < ended) for k, count in enumerate(through)]
            assert list(solution.total) == want
            longest = max(longest, len(want))
        prefixes = {each.texts[:k] for each in solutions for k in range(1, len(each.texts))}
        assert sum(each.count for each in made if each.start) == RECIPE.rollouts * len(prefixes)
        assert {each.texts[: each.start] for each in made if each.start} == prefixes
    assert longest > 2


def test_problems_that_will_be_left_out_are_not_rolled_out(policy: LabPolicy, chatter: Any, tmp_path: Path) -> None:
    problems = chatter.problems("train", 12)
    with SampleFile(tmp_path / "samples.jsonl", {}) as file:
        collect(replace(RECIPE, uniform=0.3), chatter, policy, problems, file)
    every = [each for problem in problems for each in file.solutions[problem.id]]
    weights = problem_weights(every, 0.3)
    assert {each.problem for each in every if each.start} == {problem for problem, weight in weights.items() if weight}
    assert len({round(weight, 3) for weight in weights.values()}) > 1


def test_problems_that_end_alike_weigh_together_what_the_recipe_says() -> None:
    mixed = [LabelledTrajectory("mixed", ("a",), (right,), (1,), 1) for right in (0, 1)]
    alike = [LabelledTrajectory(f"alike {i}", ("a",), (1,), (1,), 1) for i in range(40)]
    for uniform, uniform_weight in ((1.0, 1.0), (0.3, 1.0), (0.3, 0.3)):
        weights = problem_weights([*mixed, *alike], uniform, uniform_weight)
        assert weights.pop("mixed") == 1
        kept = [weight for weight in weights.values() if weight]
        assert kept == [pytest.approx(uniform_weight / uniform)] * len(kept)
        assert 0.5 * uniform * 40 < len(kept) <= min(1.5 * uniform, 1) * 40


def test_without_rollouts_solutions_alone_give_the_labels(policy: LabPolicy, chatter: Any, tmp_path: Path) -> None:
    with SampleFile(tmp_path / "samples.jsonl", {}) as file:
        collect(replace(RECIPE, rollouts=0), chatter, policy, chatter.problems("train", 12), file)
    for made in file.solutions.values():
        assert sum(solution.count for solution in made) == RECIPE.solutions
        assert not any(solution.start for solution in made)
        assert all(solution.total[-1] == solution.count for solution in made)


def test_examples_are_read_as_the_verifier_reads_them(checkpoint: Callable[..., Path], chatter: Any) -> None:
    tokens = Tokens(checkpoint("policy"), 1)
    problem = Problem("p", "abc")
    made = example(tokens, chatter, problem, LabelledTrajectory("p", ("a", "", "bb"), (1, 2, 3), (4, 4, 4), 2))
    assert tokens.decode(made.ids) == "abc\na\nbb\n"
    assert (made.start, made.positions, made.targets, made.weight) == (5, (6, 9), (0.25, 0.75), 2.0)
    assert made.branches == (6,)
    # of a rollout only its own steps are learnt
    made = example(tokens, chatter, problem, LabelledTrajectory("p", ("a", "", "bb"), (1, 2, 3), (4, 4, 4), 2, start=1))
    assert (made.positions, made.targets) == ((9,), (0.75,))
    assert made.branches == (6,)
    made = example(tokens, chatter, problem, LabelledTrajectory("p", ("a", "b", "c"), (1, 2, 3), (4, 4, 4), 2, start=2))
    assert (made.positions, made.branches) == ((10,), (8,))


def test_the_loss_on_numbers_worked_by_hand(checkpoint: Callable[..., Path], chatter: Any) -> None:
    tokens = Tokens(checkpoint("verifier"), 1)
    model = AutoModelForTokenClassification.from_pretrained(checkpoint("verifier"), dtype=torch.float32).eval()
    problem = Problem("p", "abc")
    group = [
        example(tokens, chatter, problem, LabelledTrajectory("p", ("a", "bb"), (1, 3), (4, 4), 1)),
        example(tokens, chatter, problem, LabelledTrajectory("p", ("c",), (1,), (1,), 3)),
    ]
    with torch.no_grad():
        hidden = model.model(pad(group, torch.device("cpu"))).last_hidden_state
        got = label_loss(model.score, hidden, group).item()
        logs = [torch.log_softmax(model(torch.tensor([each.ids])).logits[0], -1) for each in group]
    parts = [
        -(0.25 * logs[0][6, 1] + 0.75 * logs[0][6, 0]),
        -(0.75 * logs[0][9, 1] + 0.25 * logs[0][9, 0]),
        -3 * logs[1][6, 1],
    ]
    assert got == pytest.approx(sum(part.item() for part in parts) / 5, abs=1e-5)


def test_batches_hold_every_example_once_and_keep_to_their_size(checkpoint: Callable[..., Path], chatter: Any) -> None:
    tokens = Tokens(checkpoint("policy"), 1)
    made = [
        example(tokens, chatter, problem, LabelledTrajectory(problem.id, ("a" * (i % 9 + 1),), (1,), (1,), 1))
        for i, problem in enumerate(chatter.problems("train", 40))
    ]
    plan = batches(made, 120, "seed")
    assert sorted(index for batch in plan for index in batch) == list(range(40))
    assert all(len(batch) * max(len(made[index].ids) for index in batch) <= 120 for batch in plan)
    assert plan == batches(made, 120, "seed") != batches(made, 120, "other")


def test_training_saves_a_verifier_and_goes_on_after_a_kill_as_if_nothing_happened(
    policy: LabPolicy, checkpoint: Callable[..., Path], chatter: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = checkpoint("policy")

    def train(name: str) -> Path:
        return train_prm(
            RECIPE, chatter, policy, backbone, tmp_path / name, tmp_path / "samples", "cpu", checkpoint_seconds=0
        )

    whole = train("whole")
    with monkeypatch.context() as other:
        other.setattr(policy, "digest", lambda: "another")
        with pytest.raises(UsageError, match="is of another policy under the same name"):
            train("other")
    seen, honest = 0, training.label_loss

    def dying(*arguments: Any) -> torch.Tensor:
        nonlocal seen
        seen += 1
        if seen == 4:
            raise KeyboardInterrupt
        return honest(*arguments)

    monkeypatch.setattr(training, "label_loss", dying)
    with pytest.raises(KeyboardInterrupt):
        train("killed")
    monkeypatch.setattr(training, "label_loss", honest)
    killed = train("killed")
    a, b = load_file(whole / "model.safetensors"), load_file(killed / "model.safetensors")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert a["score.weight"].dtype == torch.float16
    assert not (killed / "checkpoint").exists()
    record = json.loads((killed / "training.json").read_text())
    assert record["recipe"]["rollouts"] == 3
    assert record["steps"] > 4
    assert 0 <= record["report"]["ece"] <= 1
    assert LabVerifier(killed, chatter).parameters == record["parameters"]
    model = AutoModelForTokenClassification.from_pretrained(killed)
    assert model.config.num_labels == 2


@pytest.mark.parametrize("foresight", [0, 2])
def test_training_learns_what_can_be_learnt(
    checkpoint: Callable[..., Path], chatter: Any, tmp_path: Path, foresight: int
) -> None:
    # solutions whose first step has a '0' end right, the others wrong
    recipe = replace(RECIPE, epochs=20, batch_tokens=512, foresight=foresight)
    problems = {problem.id: problem for problem in chatter.problems("train", 60)}
    made = [
        LabelledTrajectory(id, (text, "#a"), (right, right), (1, 1), 1)
        for id in problems
        for text, right in (("a0", 1), ("ab", 0))
    ]
    training._fit(recipe, chatter, checkpoint("policy"), tmp_path, problems, made, "cpu", 1e9)
    found = report(LabVerifier(tmp_path, chatter), chatter, {"train": problems, "calibration": problems}, made, made)
    assert found["auroc"] > 0.95
    assert found["ece"] < 0.15
    assert "first_error" not in found  # chatter cannot check steps


def test_the_report_on_an_environment_that_checks_steps() -> None:
    environment = Arithmetic()
    problem = environment.read("1 + 2 + 4")
    problems: Any = {split: {problem.id: problem} for split in ("train", "calibration")}
    right = LabelledTrajectory(problem.id, ("1 + 2 = 3", "3 + 4 = 7", "#### 7"), (4, 4, 1), (4, 4, 1), 1)
    wrong = LabelledTrajectory(problem.id, ("1 + 2 = 4", "4 + 4 = 8", "#### 8"), (1, 0, 0), (4, 4, 1), 1)

    class Fixed:
        """Scores by text: a stand-in for the model."""

        def submit(self, _: int, request: Any) -> None:
            table = {"1 + 2 = 3": 0.9, "1 + 2 = 4": 0.3}
            self.scores = [
                tuple(table.get(step.text, table[state.texts[0]]) for step in state.steps) for state in request.states
            ]

        def poll(self) -> Any:
            return [(0, Scored(tuple(self.scores)))]

        def cancel(self, scope: str) -> None:
            pass

    fixed: Any = Fixed()
    found = report(fixed, environment, problems, [right, wrong], [right, wrong])
    # unfinished: 0.9 (can), 0.9 (can), 0.3 (can, once in four), 0.3 (cannot)
    assert found["auroc"] == pytest.approx((1 + 1 + 0.5) / 3, abs=1e-4)
    assert found["auroc_exact"] == 1.0
    # the bin of 0.9: three prefixes, targets 1; that of 0.3: targets 0.25, 0, 0
    assert found["ece"] == pytest.approx((3 * 0.1 + abs(0.9 - 0.25)) / 6, abs=1e-4)
    assert (found["prefixes"], found["unfinished_prefixes"], found["first_error"]) == (6, 4, 1.0)
    assert 0.3 < found["threshold"] <= 0.9
