r"""Every gold answer of MATH-500 and GSM8K, written in other ways and changed into wrong ones: how many are misjudged.

    python tests/sweeps/answers.py [FOLDER] [--math-verify [--one-in N]] [--show N]

FOLDER has math500.jsonl and gsm8k_test.jsonl (default: ../shared/data). The rules are those of
`tests/envs/math/rewritings.py`; they know the kind of an answer and its text, and nothing of how answers are compared.
With --math-verify the same pairs, or one in N of them, are also judged by math-verify alone, as its page shows it. Not
collected by pytest.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from envs.math.answers import Algebra, same_answer  # noqa: E402
from tests.envs.math.rewritings import perturbations, rewritings  # noqa: E402

SETS = {"MATH-500": "math500.jsonl", "GSM8K": "gsm8k_test.jsonl"}
Judge = Callable[[str, str], bool]


def gold_answers(path: Path) -> list[str]:
    """The answers of a file, those of GSM8K from behind their mark and without thousands separators."""
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line)["answer"] for line in file]
    return [row.rpartition("####")[2].strip().replace(",", "") if "####" in row else row for row in rows]


def misjudged(
    golds: Iterable[str], judge: Judge, one_in: int = 1
) -> tuple[dict[str, Counter[str]], list[tuple[str, str, str, str]], list[float]]:
    """Counts by rule, the misjudged pairs and the seconds of each comparison; of one pair in so many."""
    counts = {key: Counter[str]() for key in ("rewritings", "wrong", "refused", "taken")}
    bad, seconds = list[tuple[str, str, str, str]](), list[float]()
    number = 0
    for gold, often in Counter(golds).items():
        for made, kind, expected in ((rewritings, "rewritings", True), (perturbations, "wrong", False)):
            for rule, text in made(gold):
                number += 1
                if number % one_in:
                    continue
                counts[kind][rule] += often
                start = time.perf_counter()
                verdict = judge(gold, text)
                seconds.append(time.perf_counter() - start)
                if verdict != expected:
                    counts["refused" if expected else "taken"][rule] += often
                    bad.append((kind, rule, gold, text))
    return counts, bad, seconds


def alone(gold: str, text: str) -> bool:
    """math-verify by itself."""
    from math_verify import parse, verify

    try:
        return bool(verify(parse(f"${gold}$"), parse(f"${text}$" if "$" not in text else text)))
    except Exception:  # of any kind: then it has no verdict
        return False


def main() -> None:
    """Print a table, and a line for every misjudged pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--math-verify", action="store_true", help="judge the same pairs by math-verify alone, too")
    parser.add_argument("--one-in", type=int, default=1, help="of how many pairs math-verify judges one (1)")
    parser.add_argument("--show", type=int, default=40, help="how many misjudged pairs to print (40)")
    arguments = parser.parse_args()
    algebra = Algebra()
    algebra.warm()
    judges: dict[str, Judge] = {"Stepwell": lambda gold, text: same_answer(gold, text, algebra)}
    if arguments.math_verify:
        judges["math-verify alone"] = alone
    print("| set | judge | rules | rewritings | refused | rules | wrong answers | taken | median ms | longest s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, file in SETS.items():
        golds = gold_answers(arguments.folder / file)
        for judge, function in judges.items():
            ours = judge == "Stepwell"
            counts, bad, seconds = misjudged(golds, function, 1 if ours else arguments.one_in)
            print(
                f"| {name} | {judge} | {len(counts['rewritings'])} | {counts['rewritings'].total()} "
                f"| {counts['refused'].total()} | {len(counts['wrong'])} | {counts['wrong'].total()} "
                f"| {counts['taken'].total()} | {1000 * statistics.median(seconds):.2f} | {max(seconds):.2f} |",
                flush=True,
            )
            if ours:
                for kind, rule, gold, text in bad[: arguments.show]:
                    print(f"  {kind}, {rule}: {gold!r} and {text!r}", file=sys.stderr)
    algebra.close()


if __name__ == "__main__":
    main()
