"""Any instruction-tuned language model as a judge: the chance that it says "Yes" when asked if a solution is right.

The model is shown the problem and the solution so far, and asked if all of it is correct; nothing is generated. The
score is the probability of "Yes" beside that of "No" (a softmax over these two) as the first token of its answer, as in
the generative verifiers of Zhang et al. 2024 (arXiv 2408.15240, equation 4, without a chain of thought). The score of a
step is the answer about the solution up to it.
"""

from __future__ import annotations

from collections.abc import Sequence

from verifiers.scoring.score_layout import Head, Reading, Script
from verifiers.scoring.tokenization import Piece, Texts

TASK = "Here is a problem, and a solution of it that may be unfinished.\n\nProblem:\n"
SOLUTION = "\n\nSolution:\n"
QUESTION = (
    "\n\nIs every step of this solution correct, as far as it goes? A solution that is not finished is judged by what "
    "is there. Answer with one word, Yes or No."
)


def question_of(question: str, steps: Sequence[str]) -> str:
    """What the judge is asked about some steps, in one text."""
    joined = "\n\n".join(steps)
    return f"{TASK}{question}{SOLUTION}{joined}{QUESTION}"


BEST = (
    "\n\nWhich of these solutions is the most likely to have the right answer? Compare them where they differ. Answer "
    "with one letter."
)
MOST = 20  # solutions that are compared at once: as many letters as servers tell likeliest tokens


def choice_letters(count: int) -> tuple[str, ...]:
    """What solutions that are compared are called; raises ValueError for more than `MOST`."""
    if not 2 <= count <= MOST:
        raise ValueError(f"{count} solutions were to be compared; allowed: 2 to {MOST}")
    return tuple(map(chr, range(ord("A"), ord("A") + count)))


def comparison_of(question: str, solutions: Sequence[str]) -> str:
    """What the judge is asked about several solutions, in one text (GenSelect, arXiv 2507.17797, without a thought)."""
    shown = "".join(
        f"\n\nSolution {letter}:\n{solution}"
        for letter, solution in zip(choice_letters(len(solutions)), solutions, strict=True)
    )
    return f"Here is a problem, and {len(solutions)} solutions of it.\n\nProblem:\n{question}{shown}{BEST}"


class Judge:
    """A causal model that is asked about each prefix of a solution: "Yes" beside "No"."""

    name = "judge"
    head: Head = "causal"

    def __init__(self, texts: Texts) -> None:
        self._before, self._after = texts.template(("user",), reply=True)
        self.reading = Reading((texts.single("Yes"), texts.single("No")))

    def write(self, question: str, steps: Sequence[str]) -> Sequence[Script]:
        """A script for each prefix of the steps, its score read where the answer would begin."""
        scripts = []
        for last in range(len(steps)):
            pieces: list[Piece] = [*self._before, TASK, question, SOLUTION]
            cuts: list[tuple[int, int | None]] = [(len(pieces), None)]
            for index, step in enumerate(steps[: last + 1]):
                pieces.append(f"\n\n{step}" if index else step)
                cuts.append((len(pieces), None))
            pieces += [QUESTION, *self._after]
            cuts.append((len(pieces), last))
            scripts.append(Script(tuple(pieces), tuple(cuts)))
        return scripts
