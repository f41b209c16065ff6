r"""ThinkPRM (Khalifa et al. 2025, arXiv 2504.16828): a reasoning model writes a critique, then says if all is right.

``launch/ThinkPRM-1.5B``, ``-7B`` and ``-14B``. The user's message holds the problem, the steps called ``Step k: `` and
the task; the assistant goes on from ``Let's verify step by step:``, thinks, and comes to ``Is the solution correct?``,
after which " Yes" is read beside " No". Greedy, 4096 tokens at most. Any other reasoning model can be asked so too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from policies.models.prefix_tree import Ids
from verifiers.scoring.critique_generation import CritiqueOptions
from verifiers.scoring.score_layout import Head, Reading, Script
from verifiers.scoring.tokenization import Piece, Texts

TASK = "You are given a math problem and a proposed step-by-step solution:\n\n[Math Problem]\n\n"
SOLUTION = "\n\n[Solution]\n\n"
REVIEW = (
    "\n\nReview and critique each step in the proposed solution to determine whether each step is correct. "
    "If the solution is incomplete, only verify the provided steps."
)
START = "\nLet's verify step by step:"


class ThinkPRM:
    """A causal model that writes a critique of each prefix of a solution: " Yes" beside " No" at its end."""

    name = "thinkprm"
    head: Head = "causal"
    sampling = CritiqueOptions(tokens=4096)
    stop = "Is the solution correct?"
    verdict = ""
    chained = False

    def __init__(self, texts: Texts) -> None:
        self._before, self._after = texts.template(("user",), reply=True)
        self.reading = Reading((texts.single(" Yes"), texts.single(" No")))

    def write(self, question: str, steps: Sequence[str], before: Ids, right: bool) -> Script:
        """The problem, the steps so far and the task, up to where the critique begins."""
        pieces: list[Piece] = [*self._before, TASK, question, SOLUTION]
        cuts: list[tuple[int, int | None]] = [(len(pieces), None)]
        for index, step in enumerate(steps):
            called = "" if re.match(r"Step \d+:", step) else f"Step {index + 1}: "
            pieces.append(("\n\n" if index else "") + called + step)
            cuts.append((len(pieces), None))
        pieces += [REVIEW, *self._after, START]
        return Script(tuple(pieces), (*cuts, (len(pieces), len(steps) - 1)))
