"""Is a verifier right about how sure it is? Scores and deviations against the rollouts of a training's held-out sample.

    python tests/benchmarks/reliability.py countdown countdown-prm-beta \\
        runs/countdown-prm-beta/samples/calibration.jsonl --against countdown-prm

The second verifier is measured on the same prefixes, those of solutions that were not finished. The expected error is
what the belief says: the deviation of the chance, and that of K of N completions.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

from envs.registry import load_environment
from verifiers.core import Score
from verifiers.metrics import auroc, ece
from verifiers.registry import load_verifier
from verifiers.training.examples import replay
from verifiers.training.rollouts import LabelledTrajectory

Row = tuple[int, int, float, float]
"""Completions that ended right, completions, score, deviation."""


def rows_of(name: str, environment_name: str, path: Path, n: int, seed: int) -> list[Row]:
    """What a verifier says of each distinct unfinished prefix."""
    environment = load_environment(environment_name)
    verifier = load_verifier(name, environment)
    problems = {problem.id: problem for problem in environment.problems("calibration", n, seed)}
    lines = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    solutions = [
        LabelledTrajectory(line["problem"], tuple(texts), tuple(right), tuple(total), count, start)
        for line in lines
        for texts, right, total, count, start, *_ in line["solutions"]
        if not start
    ]
    rows: dict[tuple[str, tuple[str, ...]], Row] = {}
    for index, each in enumerate(solutions):
        state = replay(environment, problems[each.problem], each)
        verifier.submit(index, Score((state,), "reliability"))
        ((_, reply),) = verifier.poll()
        if isinstance(reply, Exception):
            raise reply
        scores, spread = reply.scores[0], reply.deviations[0] if reply.deviations else (0.0,) * len(each.texts)
        for step in range(len(each.texts) - 1):
            row = (each.right[step], each.total[step], scores[step], spread[step])
            rows.setdefault((each.problem, each.texts[: step + 1]), row)
    return list(rows.values())


def rms(values: list[float]) -> float:
    """The root of the mean square."""
    return math.sqrt(math.fsum(value * value for value in values) / len(values))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("environment")
    parser.add_argument("verifier")
    parser.add_argument("samples", type=Path)
    parser.add_argument("--against", default=None)
    parser.add_argument("--problems", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for name in filter(None, (options.against, options.verifier)):
        rows = rows_of(name, options.environment, options.samples, options.problems, options.seed)
        scores = [score for _, _, score, _ in rows]
        area = auroc(scores, [right > 0 for right, *_ in rows])
        gap = ece(scores, [right / total for right, total, *_ in rows])
        error = rms([score - right / total for right, total, score, _ in rows])
        print(f"{name}: {len(rows)} prefixes, AUROC {area:.4f}, ECE {gap:.4f}, error {error:.3f}")
    rows.sort(key=lambda row: row[3])
    for quarter in range(4):
        part = rows[quarter * len(rows) // 4 : (quarter + 1) * len(rows) // 4]
        error = rms([score - right / total for right, total, score, _ in part])
        expected = rms([math.sqrt(sd * sd + max(0.0, mu * (1 - mu) - sd * sd) / total) for _, total, mu, sd in part])
        mean = math.fsum(row[3] for row in part) / len(part)
        print(f"  quarter {quarter + 1}: deviation {mean:.3f}, error {error:.3f}, expected {expected:.3f}")


if __name__ == "__main__":
    main()
