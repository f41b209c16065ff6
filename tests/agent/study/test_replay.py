"""Samples of a study are replayed without its models: the same answers, at the same cost."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent.interface.cli import main
from agent.planning.plan_file import Calibration
from agent.recipes.recipe import Component
from agent.study.export import export_samples
from agent.study.results_db import StudyFile
from agent.study.run import measure
from agent.study.study import Study
from envs.messages import UsageError
from policies.sample_pool import SamplePool

DRAWN = Study(
    environments=(Component("arithmetic"),),
    policies=(Component("arithmetic-xs"),),
    verifiers=(Component("arithmetic-prm"),),
    strategies=(Component("greedy"), Component("best-of-n")),
    budgets=(8,),
    n=12,
)


def results(path: Path) -> dict[tuple[str, str], tuple[object, ...]]:
    """By strategy and problem: the answer, whether it is right, and what it cost, up to the order of additions."""
    with StudyFile(path) as file:
        rows = file.rows("""SELECT strategy, id, results.answer, correct, generated, prefilled, verifier_tokens,
            policy_flops, verifier_flops, error FROM results JOIN cells USING (cell) JOIN problems USING (problem)""")
        return {(row[0], row[1]): (*row[2:7], round(row[7], 3), round(row[8], 3), row[9]) for row in rows}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A study, and its samples: one and eight of each of twelve problems."""
    folder = tmp_path_factory.mktemp("replay")
    measure(DRAWN, folder / "drawn.sqlite")
    with StudyFile(folder / "drawn.sqlite") as file:
        assert export_samples([file], folder / "samples.jsonl.gz") == 12 * 9
    return folder / "drawn.sqlite", folder / "samples.jsonl.gz"


def replay(samples: Path, out: Path, *strategies: str, budgets: tuple[int, ...] = (8,), verifier: bool = True) -> Path:
    part = Component(f"recorded:{samples}")
    study = Study(
        environments=DRAWN.environments,
        policies=(part,),
        verifiers=(part,) if verifier else (Component("none"),),
        strategies=tuple(map(Component, strategies)),
        budgets=budgets,
        n=12,
    )
    measure(study, out)
    return out


def test_a_replay_of_all_samples_is_the_study_again(drawn: tuple[Path, Path], tmp_path: Path) -> None:
    again = results(replay(drawn[1], tmp_path / "again.sqlite", "greedy", "best-of-n"))
    assert again == results(drawn[0])
    assert len(again) == 24


def test_fewer_samples_are_some_of_them_and_cost_less(drawn: tuple[Path, Path], tmp_path: Path) -> None:
    fewer = results(replay(drawn[1], tmp_path / "fewer.sqlite", "majority", budgets=(3,), verifier=False))
    whole = results(drawn[0])
    for (_, problem), row in fewer.items():
        assert row[-1] is None
        assert row[2] < whole["best-of-n", problem][2]  # type: ignore[operator]
        assert row[3] == whole["best-of-n", problem][3]  # the prompt, once


def test_what_cannot_be_replayed_says_why(drawn: tuple[Path, Path], tmp_path: Path) -> None:
    failed = results(replay(drawn[1], tmp_path / "beam.sqlite", "beam"))
    assert all("needs the model" in str(row[-1]) for row in failed.values())
    more = results(replay(drawn[1], tmp_path / "more.sqlite", "majority", budgets=(9,)))
    assert all("has 8 samples" in str(row[-1]) for row in more.values())


def test_samples_without_scores_are_no_verifier(tmp_path: Path) -> None:
    study = Study(
        environments=DRAWN.environments,
        policies=DRAWN.policies,
        verifiers=(Component("none"),),
        strategies=(Component("majority"),),
        budgets=(2,),
        n=3,
    )
    measure(study, tmp_path / "m.sqlite")
    with StudyFile(tmp_path / "m.sqlite") as file:
        export_samples([file], tmp_path / "m.jsonl")
    with pytest.raises(UsageError, match="samples without scores; give --verifier none"):
        replay(tmp_path / "m.jsonl", tmp_path / "r.sqlite", "best-of-n", budgets=(2,))


def test_samples_of_two_policies_are_not_mixed(tmp_path: Path) -> None:
    study = Study(
        environments=DRAWN.environments,
        policies=(Component("arithmetic-xs"), Component("arithmetic-s")),
        verifiers=(Component("none"),),
        strategies=(Component("greedy"),),
        budgets=(1,),
        n=2,
    )
    measure(study, tmp_path / "two.sqlite")
    with StudyFile(tmp_path / "two.sqlite") as file, pytest.raises(UsageError, match="of one"):
        export_samples([file], tmp_path / "two.jsonl")


def test_samples_of_several_studies_are_put_together(drawn: tuple[Path, Path], tmp_path: Path) -> None:
    parts = [tmp_path / "greedy.sqlite", tmp_path / "sampled.sqlite"]
    for path, strategy in zip(parts, DRAWN.strategies, strict=True):
        measure(replace(DRAWN, strategies=(strategy,)), path)
    out = tmp_path / "samples.jsonl.gz"
    assert main(["export", *map(str, parts), "--to", "samples", "--out", str(out)]) == 0
    assert SamplePool.read(out).problems == SamplePool.read(drawn[1]).problems
    assert main(["export", *map(str, parts), "--to", "trl-sft", "--out", str(out)]) == 2


def test_a_plan_is_fitted_to_samples_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / "decoded.sqlite", tmp_path / "sampled.sqlite"]
    for temperature, budget, path in zip((0.0, 1.0), (1, 8), files, strict=True):
        scored = replace(DRAWN, split="calibration", strategies=(Component("best-of-n"),), budgets=(budget,))
        measure(replace(scored, temperature=temperature), path)
    samples, plan = tmp_path / "samples.jsonl.gz", tmp_path / "plan.json"
    assert main(["export", *map(str, files), "--to", "samples", "--out", str(samples)]) == 0
    words = ["calibrate", "--env", "arithmetic", "--temperature", "1", "-n", "12"]
    words += ["--policy", f"recorded:{samples}", "--verifier", f"recorded:{samples}"]
    words += ["--runs", str(tmp_path / "runs.jsonl"), "--out", str(plan)]
    assert main([*words, "--independent", "8"]) == 0
    fitted = Calibration.load(plan)
    assert (fitted.policy, fitted.verifier) == ("arithmetic-xs", "arithmetic-prm")
    assert fitted.digests["policy"] == SamplePool.read(samples).head.policy_digest != ""
    assert fitted.online is not None
    assert {move.strategy for move in fitted.online.moves} == {"greedy", "majority", "best-of-n"}
    assert sorted(fitted.online.openings) == [1, 4, 8]
    assert main([*words, "--independent", "8", "--beams"]) == 2
    assert "leave out --beams" in capsys.readouterr().err
