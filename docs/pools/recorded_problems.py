"""Problems of a pool of recorded samples, without their texts: known is which of the recorded answers are right.

    python docs/pools/recorded_problems.py POOL.jsonl.gz STUDY.sqlite [...] > answers.json
    stepwell eval --env docs/pools/recorded_problems.py --set environment.answers=answers.json \
        --set environment.max_steps=16 --policy recorded:POOL.jsonl.gz --verifier recorded:POOL.jsonl.gz ...

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
from policies.sample_pool import SamplePool

_NONE = "none of those that were recorded"  # a right answer there is, and it is none of theirs


class RecordedProblems(Math):
    """Mathematics whose questions are not known.

    Args:
        answers: a file that `main` wrote.
        max_steps: as it was when the samples were drawn.
    """

    observes = False

    def __init__(self, answers: str, max_steps: int = 64) -> None:
        super().__init__(max_steps=max_steps)
        known = json.loads(Path(answers).read_text(encoding="utf-8"))
        own = [Problem(id, id, answer or _NONE, {}) for id, answer in known["answers"].items()]
        self.splits = {split: own if split == known["split"] else [] for split in SPLITS}


def main() -> None:
    """Print the right answers by problem, for those problems of a pool that it has samples of at every temperature."""
    pool, *studies = sys.argv[1:]
    known = SamplePool.read(pool).problems
    temperatures = {temperature for _, temperature in known}
    answers = {id: None for id, _ in sorted(known) if all((id, each) in known for each in temperatures)}
    for path in studies:
        with StudyFile(path) as file:
            split = file.config["split"]
            found = "SELECT id, candidates.answer FROM candidates JOIN problems USING (problem) WHERE correct"
            answers |= {id: answer for id, answer in file.rows(found) if id in answers}
    print(json.dumps({"split": split, "answers": answers}, indent=0))


if __name__ == "__main__":
    main()
