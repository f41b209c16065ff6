"""The table of docs/real-llm.md for GSM8K, of a study that replays a pool.

    stepwell study docs/pools/gsm8k-test.yaml --trust --out gsm8k-replayed.sqlite
    python docs/pools/table.py gsm8k-replayed.sqlite

Prints Markdown: percent right with its 95 % interval, over all seeds; the paired differences in points to greedy
decoding and to the majority of 16; generated tokens, and TFLOP of policy and verifier, per problem. The free scores are
those of perplexity and equations; a process reward model wrote those of the pool.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from agent.study.results_db import StudyFile
from agent.study.statistics import clustered, paired_difference, problem_means
from agent.study.table import marks_by_problem, points_text, revoted
from verifiers.voting import Vote

Line = tuple[str, str, str, str, Vote | None]
LINES: list[Line] = [
    ("greedy", "none", "greedy", "1", None),
    ("a sample", "none", "majority", "1", None),
    *((f"majority of {n}", "none", "majority", n, None) for n in ("4", "8", "16")),
    *(
        line
        for name, scores in (("free scores", "ensemble"), ("PRM", "recorded"))
        for line in (
            *((f"Best-of-{n}, vote, {name}", scores, "best-of-n", n, Vote("vote", "last")) for n in ("4", "8", "16")),
            *(
                (f"Best-of-{n}, greatest, {name}", scores, "best-of-n", n, Vote("max", "last"))
                for n in ("4", "8", "16")
            ),
            *((f"planner, at most {n}, {name}", scores, "auto", n, None) for n in ("4", "8", "16")),
        )
    ),
]


def row_of(label: str, rows: Sequence[Mapping[str, Any]], others: Mapping[str, Mapping[str, float]]) -> str:
    """What a line reaches and costs, in Markdown, and its paired differences to others, by their labels."""
    marks = marks_by_problem(rows)
    accuracy, (low, high) = clustered(marks)
    own = problem_means(marks)
    compared = ("" if label == name else points_text(paired_difference(mean, own)) for name, mean in others.items())
    tokens = sum(row["generated"] for row in rows) / len(rows)
    flops = sum(row["policy_flops"] + row["verifier_flops"] for row in rows) / len(rows)
    cells = label, f"{100 * accuracy:.1f}", f"{100 * low:.1f} to {100 * high:.1f}", *compared
    return f"| {' | '.join((*cells, f'{tokens:,.0f}', f'{flops / 1e12:.2f}'))} |"


def main() -> None:
    """Print the table."""
    with StudyFile(sys.argv[1], trust=True) as file:
        rows = list(file.results())
        found = {}
        for label, scores, strategy, budget, vote in LINES:
            own = [row for row in rows if (row["strategy"], row["budget"]) == (strategy, budget)]
            own = [row for row in own if row["verifier"].startswith(scores)]
            found[label] = own if vote is None else revoted(file, own, vote)
    others = {label: problem_means(marks_by_problem(found[label])) for label in ("greedy", "majority of 16")}
    print("| | right, % | 95 % | to greedy | to the majority of 16 | tokens | TFLOP |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for label, own in found.items():
        print(row_of(label, own, others))


if __name__ == "__main__":
    main()
