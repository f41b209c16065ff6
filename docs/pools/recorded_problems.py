"""Problems of a pool of recorded samples, without their texts: known is which of the recorded answers are right.

    python docs/pools/recorded_problems.py STUDY.sqlite [...] > answers.json
    stepwell eval --env docs/pools/recorded_problems.py --set environment.answers=answers.json \
        --policy recorded:POOL.jsonl.gz --verifier recorded:POOL.jsonl.gz --strategy majority --budget 16 ...

The data sets are not ours to pass on, and a replay does not need them: a problem is its id, and a right answer is one
that the environment of the study accepted.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from agent.study.results_db import StudyFile
from envs.core import SPLITS, Problem
from envs.math.environment import Math

_NONE = "none of those that were recorded"  # a right answer there is, and it is none of theirs


class RecordedProblems(Math):
    """Mathematics whose questions are not known.

    Args:
        answers: a file that `main` wrote.
    """

    observes = False

    def __init__(self, answers: str) -> None:
        super().__init__()
        known = json.loads(Path(answers).read_text(encoding="utf-8"))
        own = [Problem(id, id, answer or _NONE, {}) for id, answer in known["answers"].items()]
        self.splits = {split: own if split == known["split"] else [] for split in SPLITS}


def main() -> None:
    """Print the right answers of studies, by problem, in the order of their ids."""
    answers: dict[str, str | None] = {}
    for path in sys.argv[1:]:
        with StudyFile(path) as file:
            split = file.config["split"]
            answers |= {id: answers.get(id) for (id,) in file.rows("SELECT id FROM problems")}
            found = "SELECT id, candidates.answer FROM candidates JOIN problems USING (problem) WHERE correct"
            answers |= dict(file.rows(found))
    print(json.dumps({"split": split, "answers": dict(sorted(answers.items()))}, indent=0))


if __name__ == "__main__":
    main()
