"""RLHFlow's PRMs (Dong et al. 2024; Xiong et al. 2024): a dialogue in which the assistant answers each step with "+".

``RLHFlow/Llama3.1-8B-PRM-Mistral-Data`` and ``-Deepseek-Data`` are causal models. In the chat template of Llama 3.1
the user says the question and the first step, ``{question} {step 1}``, then one step per turn, and the assistant
answers "+" to every one. The score of a step is the probability of "+" beside that of "-" (a softmax over these two)
where the "+" after it is predicted; it thus assumes that the steps before it were good. The authors take the mean of
the steps' scores. Both variants are read alike, as Liu et al. 2025 (arXiv 2502.06703) do.
"""

from __future__ import annotations

from collections.abc import Sequence

from verifiers.scoring.score_layout import Head, Reading, Script
from verifiers.scoring.tokenization import Piece, Texts


class RLHFlow:
    """A causal model in a dialogue, read where the assistant's "+" is predicted: "+" beside "-"."""

    name = "rlhflow"
    head: Head = "causal"

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        self._plus = (texts.single("+"),)
        self.reading = Reading((texts.single("+"), texts.single("-")))
        texts.template(("user", "assistant"))  # raises if there is none

    def write(self, question: str, steps: Sequence[str]) -> Sequence[Script]:
        """One script: the dialogue, up to where the last "+" would be."""
        gaps = self._texts.template(("user", "assistant") * len(steps))
        pieces: list[Piece] = [*gaps[0], f"{question} "]
        cuts: list[tuple[int, int | None]] = [(len(pieces), None)]
        for index, step in enumerate(steps):
            pieces += [step, *gaps[2 * index + 1]]
            cuts.append((len(pieces), index))
            pieces += [self._plus, *gaps[2 * index + 2]]
        last = cuts[-1][0]
        return [Script(tuple(pieces[:last]), tuple(cuts))]
