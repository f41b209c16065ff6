"""Where the solutions of word problems first go wrong: the equations in their steps, computed again.

    python -m tests.benchmarks.equations runs/FILE.sqlite

A wrong solution counts as *arithmetic* if an equation of numbers in it is false, else as *setup* (what it computed is
true, and not what was asked), or as *no equation* if it has none that could be checked.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from agent.study.results_db import StudyFile

NUMBER = r"\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)%?"
EQUATION = re.compile(rf"({NUMBER}(?:\s*[-+*/x×]\s*{NUMBER})+)\s*=\s*(-?{NUMBER})")
NEAR = 0.011  # relative: 10 / 3 = 3.33 is true


def number(text: str) -> float:
    """``$1,200.50`` as 1200.5, ``20%`` as 0.2."""
    value = float(text.replace("$", "").replace(",", "").rstrip("%"))
    return value / 100 if text.endswith("%") else value


def compute(expression: str) -> float:
    """Numbers joined by + - * / x ×, products first; NaN for a division by zero."""
    first, *rest = re.split(r"\s*([-+*/x×])\s*", expression.strip())
    terms = [number(first)]
    for operator, text in zip(rest[::2], rest[1::2], strict=True):
        value = number(text)
        if operator in "+-":
            terms.append(value if operator == "+" else -value)
        elif operator == "/":
            terms[-1] = terms[-1] / value if value else float("nan")
        else:
            terms[-1] *= value
    return sum(terms)


def holds(expression: str, result: str) -> bool:
    """Whether an equation is true, to about a hundredth; a percentage may be said with or without its sign."""
    found, said = compute(expression), number(result)
    scales = (1, 100, 0.01) if "%" in expression + result else (1,)
    return any(abs(scale * found - said) <= NEAR * max(1.0, abs(said)) for scale in scales)


def judge(steps: Sequence[str]) -> tuple[str, int | None]:
    """What is wrong with a wrong solution, and the index of its first false equation's step."""
    seen = False
    for index, step in enumerate(steps):
        for expression, result in EQUATION.findall(step):
            seen = True
            if not holds(expression, result):
                return "arithmetic", index
    return ("setup" if seen else "no equation"), None


def main() -> None:
    """Print a table for each cell of a study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    for path in parser.parse_args().files:
        with StudyFile(path) as study:
            for cell in study.cells():
                kinds: Counter[str] = Counter()
                first: Counter[int] = Counter()
                solved = set()
                for row in study.rows("SELECT * FROM candidates WHERE cell = ?", (cell["cell"],)):
                    kind, index = "right", None
                    if row["correct"]:
                        solved.add(row["problem"])
                    else:
                        kind, index = judge([step["text"] for step in json.loads(row["steps"])])
                    kinds[kind] += row["count"]
                    if index is not None:
                        first[index + 1] += row["count"]
                (of,) = study.rows("SELECT count(*) AS n, sum(drawn) AS d FROM results WHERE cell = ?", (cell["cell"],))
                print(f"{cell['strategy']} @ {cell['budget']}: {of['n']} problems, {of['d']} samples,")
                print(f"  {kinds.total()} finished; {len(solved)} problems with a right one")
                for kind, count in kinds.most_common():
                    print(f"  {kind:12} {count:6} {count / kinds.total():7.1%}")
                print("  first false equation, by step:", dict(sorted(first.items())))


if __name__ == "__main__":
    main()
