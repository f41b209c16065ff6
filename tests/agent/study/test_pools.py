"""The recorded samples that ship are replayed without a model, and give the numbers of docs/real-llm.md."""

import json
import re
from pathlib import Path

import pytest
import yaml

from agent.interface.cli import main
from agent.study.results_db import StudyFile
from policies.sample_pool import SamplePool

ROOT = Path(__file__).parents[3]
POOLS = ROOT / "docs" / "pools"
POOL = POOLS / "gsm8k-test.jsonl.gz"
PAGE = (ROOT / "docs" / "real-llm.md").read_text(encoding="utf-8")


PRM = f"recorded:{POOL}"
FREE = json.dumps(yaml.safe_load((POOLS / "gsm8k-test.yaml").read_text(encoding="utf-8"))["verifiers"][1])


def replay(out: Path, *words: str) -> list[str]:
    return [
        *("eval", "--env", str(POOLS / "recorded_problems.py"), "--temperature", "0.7", "--out", str(out)),
        *("--set", f"environment.answers={POOLS / 'gsm8k-test.json'}", "--set", "environment.max_steps=16"),
        *("--policy", f"recorded:{POOL}", *words),
    ]


@pytest.mark.parametrize(
    ("label", "verifier", "strategy", "budget", "orders"),
    [
        ("greedy", "none", "greedy", "1", 1),
        ("majority of 16", "none", "majority", "16", 4),  # the first of equally frequent answers depends on the order
        ("Best-of-16, vote, free scores", FREE, "best-of-n", "16", 1),
        ("Best-of-16, vote, PRM", PRM, "best-of-n", "16", 1),
        ("planner, at most 16, PRM", PRM, "auto", "16", 1),
    ],
)
def test_a_replay_gives_the_numbers_of_the_page(
    label: str, verifier: str, strategy: str, budget: str, orders: int, tmp_path: Path
) -> None:
    problems = {problem for problem, _ in SamplePool.read(POOL).problems}
    right = 0
    for seed in range(orders):
        out = tmp_path / f"{seed}.sqlite"
        words = "-n", str(len(problems)), "--strategy", strategy, "--budget", budget, "--seed", str(seed)
        assert main(replay(out, *words, "--set", f"verifier={verifier}")) == 0
        with StudyFile(out, trust=True) as file:
            rows = [row for row in file.results() if row["error"] is None]
        assert len(rows) == len(problems)
        right += sum(row["correct"] == 1 for row in rows)
    told = re.search(rf"^\| {re.escape(label)} \| ([\d.]+) \|", PAGE, re.MULTILINE)
    assert told is not None
    assert f"{100 * right / len(problems) / orders:.1f}" == told[1]
