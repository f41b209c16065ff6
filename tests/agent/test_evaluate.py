"""Evaluation: intervals on known numbers, results that outlive kill -9, refusal of another configuration."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.evaluate import Evaluation, Progress, ResultsFile, paired_difference, summarize, wilson
from agent.recipe import Component, RecipeError, load_recipe

CONFIG = {"policy": "p", "n": 3}


# ------------------------------------------------------------------------------------------------------ statistics


def test_the_wilson_interval_on_published_numbers() -> None:
    # Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    for right, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson(right, n) == pytest.approx((low, high), abs=5e-5)
    assert wilson(0, 0) == (0.0, 1.0)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_wilson_interval_holds_the_proportion(pair: tuple[int, int]) -> None:
    right, n = pair
    low, high = wilson(right, n)
    assert 0 <= low <= right / n + 1e-12
    assert right / n - 1e-12 <= high <= 1


def test_the_paired_difference_uses_shared_problems_only_and_is_never_certain() -> None:
    first = {"a": True, "b": False, "c": False, "d": True, "only": True}
    second = {"a": True, "b": True, "c": True, "d": False}
    mean, low, high = paired_difference(first, second)
    assert mean == pytest.approx(0.25)
    # gained 2, lost 1, n 4: centre 1/6, half 1.959964 / 6 * sqrt(4 - 1/6)
    assert (low, high) == pytest.approx((1 / 6 - 0.63957, 1 / 6 + 0.63957), abs=1e-4)
    mean, low, high = paired_difference(first, first)
    assert mean == 0
    assert low < 0 < high


def test_there_is_no_eta_before_there_is_something_to_tell() -> None:
    assert Progress(fraction=0.0, fresh=0.0, seconds=30).eta is None
    assert Progress(fraction=0.6, fresh=0.1, seconds=20).eta == pytest.approx(80)


# ------------------------------------------------------------------------------------------------- durable results


def test_a_torn_last_line_is_dropped_and_the_rest_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "results.jsonl"
    with ResultsFile(path, CONFIG) as results:
        results.append({"cell": "a", "problem": "1"})
        results.append({"cell": "a", "problem": "2"})
    whole = path.read_bytes()
    for cut in range(1, len(whole.splitlines(keepends=True)[-1])):
        path.write_bytes(whole[:-cut])
        with ResultsFile(path, CONFIG) as results:
            assert [row["problem"] for row in results.rows] == ["1"]
            results.append({"cell": "a", "problem": "2"})
        assert path.read_bytes() == whole


def test_a_torn_header_starts_again(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with ResultsFile(path, CONFIG):
        pass
    header = path.read_bytes()
    path.write_bytes(header[:20])
    with ResultsFile(path, CONFIG) as results:
        assert results.rows == []
    assert path.read_bytes() == header


def test_a_file_of_another_configuration_is_refused_with_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with ResultsFile(path, CONFIG) as results:
        results.append({"cell": "a", "problem": "1"})
    before = path.read_bytes()
    with pytest.raises(RecipeError, match="belongs to another configuration \\(n: 3 there, 4 now\\)"):
        ResultsFile(path, {**CONFIG, "n": 4})
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"hello\n", b'{"a": 1}\n', b"[1]\n", b"\xff\xfe\n"])
def test_a_file_that_is_not_ours_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match="is not a file of results"):
        ResultsFile(path, CONFIG)
    assert path.read_bytes() == content


def test_two_runs_cannot_write_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with ResultsFile(path, CONFIG), pytest.raises(RecipeError, match="being written to by another run"):
        ResultsFile(path, CONFIG)


# --------------------------------------------------------------------------------------------------- real processes


def test_summaries_count_failures_as_wrong_and_do_not_depend_on_order() -> None:
    evaluation = Evaluation(load_recipe("toy"), (Component("beam"),), ("4",), n=3)
    spent = {
        "samples": 4.0,
        "generated": 10,
        "prefilled": 2,
        "policy_flops": 0.1,
        "verifier_tokens": 3,
        "verifier_flops": 0.3,
    }
    rows: list[dict[str, Any]] = [
        {"cell": "beam @ 4", "problem": str(i), "level": i % 2, "correct": i == 0, "spent": spent, "elapsed": 1.0 + i}
        for i in range(3)
    ]
    rows[2]["error"] = "boom"
    (summary,) = summarize(evaluation, rows)
    assert (summary["n"], summary["correct"], summary["errors"]) == (3, 1, 1)
    assert summary["accuracy"] == pytest.approx(1 / 3)
    assert summary["levels"]["0"]["accuracy"] == pytest.approx(1 / 2)
    assert summary["cost"]["samples"] == 4.0
    assert summary["seconds"] == 3.0
    assert summarize(evaluation, rows[::-1]) == [summary]


WORDS = ["eval", "--env", "toy", "-n", "30", "--strategy", "beam", "best-of-n", "--budget", "4", "--json"]


def start(out: Path, *more: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "agent.cli", *WORDS, "--out", str(out), *more],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def results_of(child: subprocess.Popen[bytes]) -> list[dict[str, Any]]:
    out, err = child.communicate(timeout=120)
    assert child.returncode == 0, err.decode()
    results: list[dict[str, Any]] = json.loads(out)["results"]
    for summary in results:
        del summary["seconds"]  # the one thing that a kill may change
    return results


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_killing_it_loses_nothing_and_the_same_command_resumes(tmp_path: Path) -> None:
    whole = results_of(start(tmp_path / "whole.jsonl"))
    assert [summary["n"] for summary in whole] == [30, 30]
    path = tmp_path / "killed.jsonl"
    slow = ["--concurrency", "4", "--set", "policy.delay=0.002"]
    kills = 0
    for least in (1, 8, 25, 40):  # lines that must be there before the kill
        child = start(path, *slow)
        end = time.monotonic() + 60
        while lines_of(path) < least and child.poll() is None and time.monotonic() < end:
            time.sleep(0.005)
        if child.poll() is None:
            kills += 1
            child.send_signal(signal.SIGKILL)
        child.communicate()
        before = lines_of(path)
        path.write_bytes(path.read_bytes() + b'{"cell": "beam @ 4", "prob')  # a torn line on top
    assert kills >= 2
    assert before >= 40
    assert results_of(start(path, *slow)) == whole
    rows = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    assert len({(row["cell"], row["problem"]) for row in rows}) == len(rows) == 60


def test_ctrl_c_keeps_what_has_finished_and_says_how_to_go_on(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    child = start(path, "--concurrency", "2", "--set", "policy.delay=0.01")
    while lines_of(path) < 5 and child.poll() is None:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert b"the same command goes on" in err
    assert b"Traceback" not in err
    assert json.loads(out)["results"][0]["n"] == lines_of(path) - 1


def test_a_file_of_another_run_is_refused_by_the_command(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    results_of(start(path))
    child = start(path, "--seed", "1")
    _, err = child.communicate(timeout=60)
    assert child.returncode == 2
    assert b"belongs to another configuration (seed: 0 there, 1 now)" in err
