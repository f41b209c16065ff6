r"""Math-Shepherd (Wang et al. 2024, arXiv 2312.08935): the chance that a tag after each step is followed by "+".

``peiyi9979/math-shepherd-mistral-7b-prm`` is a causal model that was trained to write "+" or "-" after the tag "ки".
Its card writes ``{question} {step 1} ки\n{step 2} ки\n...``, and the score of a step is the probability of "+" beside
that of "-" (a softmax over these two) in the logits at its tag.
"""

from __future__ import annotations

from collections.abc import Sequence

from verifiers.scoring.score_layout import Head, Reading, Script
from verifiers.scoring.tokenization import Piece, Texts

TAG = "ки"


class MathShepherd:
    """A causal model, read at the tag that closes a step: "+" beside "-"."""

    name = "math-shepherd"
    head: Head = "causal"

    def __init__(self, texts: Texts) -> None:
        self._begin = texts.begin
        self.reading = Reading(texts.words("+ -", 2))

    def write(self, question: str, steps: Sequence[str]) -> Sequence[Script]:
        """One script: the question and the steps in one text, a tag after each."""
        pieces: list[Piece] = [self._begin, f"{question} "]
        cuts: list[tuple[int, int | None]] = [(len(pieces), None)]
        for index, step in enumerate(steps):
            pieces += [f"\n{step} " if index else f"{step} ", TAG]
            cuts.append((len(pieces), index))
        return [Script(tuple(pieces), tuple(cuts))]
