"""A small model that searches beside a large one that decodes greedily: the tables of docs/real-llm.md.

    python docs/pools/small_and_large.py LARGE.sqlite SMALL.sqlite [...]

LARGE is a study of greedy decoding, the others are studies of the small model on the same problems. Prints Markdown:
percent right with its 95 % interval, over all seeds; the paired difference to the large model in points; generated
tokens and TFLOP of a problem. Below it, what the small model may spend on a problem if training counts (Snell et al.
2024, section 7).
"""

from __future__ import annotations

import itertools
import sys
from typing import Any

from table import row_of

from agent.study.equal_compute import matched
from agent.study.results_db import StudyFile
from agent.study.statistics import problem_means
from agent.study.table import marks_by_problem

TRAINED_ON = 23.5e12  # tokens: 18 T of Qwen2.5, 5.5 T more of Qwen2.5-Coder (arXiv 2412.15115, 2409.12186)
SIZES = 0.49e9, 1.54e9  # parameters, as those reports count them
RATIOS = 0.16, 1.0, 16.0  # tokens of all queries over those of training


def rows_of(path: str) -> list[dict[str, Any]]:
    """The results of a study, in the order of its lines."""
    with StudyFile(path, trust=True) as file:
        return sorted(file.results(), key=_line)


def _line(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["verifier"], row["strategy"], int(row["budget"])


def main() -> None:
    """Print the table and what is allowed."""
    large, *small = map(rows_of, sys.argv[1:])
    lines = [("large, greedy", large)]
    for (verifier, strategy, budget), group in itertools.groupby(itertools.chain(*small), _line):
        lines.append((f"small, {strategy} at {budget}, {verifier.partition(' ')[0]}", list(group)))
    others = {"large, greedy": problem_means(marks_by_problem(large))}
    print("| | right, % | 95 % | to the large one | tokens | TFLOP |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for label, rows in lines:
        print(row_of(label, rows, others))
    tokens = sum(row["generated"] + row["prefilled"] for row in large) / len(large)
    query = tokens, sum(row["policy_flops"] for row in large) / len(large)
    trained = tuple(6 * size * TRAINED_ON for size in SIZES)
    allowed = (f"{matched(trained, query, TRAINED_ON, r) / 1e12:.1f} at r = {r:g}" for r in RATIOS)
    print(f"\nTFLOP for the small model if training counts: {', '.join(allowed)}")


if __name__ == "__main__":
    main()
