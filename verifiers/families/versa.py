r"""VersaPRM and its siblings (Zeng et al. 2025, arXiv 2502.06737): "+" or "-" after four newlines that close a step.

``UW-Madison-Lee-Lab/VersaPRM``, ``Llama-PRM800K`` and ``Qwen-PRM800K`` are causal models. The text is
``{question} \n\n`` and then each step with ``" \n\n\n\n"``, one token, after it; the score of a step is the probability
of "+" beside that of "-" (a softmax over these two) in the logits at that token. The authors take the minimum of the
steps' scores.
"""

from __future__ import annotations

from collections.abc import Sequence

from verifiers.scoring.score_layout import Head, Reading, Script
from verifiers.scoring.tokenization import Piece, Texts

TAG = " \n\n\n\n"


class Versa:
    """A causal model, read at the four newlines that close a step: "+" beside "-"."""

    name = "versa"
    head: Head = "causal"

    def __init__(self, texts: Texts) -> None:
        texts.single(TAG)
        self._begin = texts.begin
        self.reading = Reading((texts.single("-"), texts.single("+")), want=1)

    def write(self, question: str, steps: Sequence[str]) -> Sequence[Script]:
        """One script: the question and the steps in one text, a tag after each."""
        pieces: list[Piece] = [self._begin, f"{question} \n\n"]
        cuts: list[tuple[int, int | None]] = [(len(pieces), None)]
        for index, step in enumerate(steps):
            pieces += [step, TAG]
            cuts.append((len(pieces), index))
        return [Script(tuple(pieces), tuple(cuts))]
