r"""Outcome reward models: one judgement of a whole solution, by a model of transformers' sequence classification.

The question is the user's message and the steps, with blank lines between, the assistant's, in the checkpoint's own
chat template; a model that has none reads ``{question}\n\n{steps}`` and its end-of-sequence token. The score is read
at the last token: the sigmoid of one output (a reward, as of Bradley-Terry models, is a logit), or of two labels the
probability of the one that stands for right (`verifiers.scoring.labels`).

Such a model judges solutions, not steps. The score of a step is defined as that of the solution which ends with it, so
that the last score is the model's verdict on what there is, and the scores before are those of the parents. What such a
model says of half a solution it was never taught: aggregate by *last*.
"""

from __future__ import annotations

from collections.abc import Sequence

from verifiers.scoring.labels import reading_of
from verifiers.scoring.score_layout import Head, Reading, Script
from verifiers.scoring.tokenization import Piece, Texts, read_config


class Outcome:
    """A sequence classifier, read at the end of each prefix of a solution.

    Args:
        texts: of the checkpoint.
        label: the name or the number of the label that stands for right, where the names do not say; with it there may
            be more than two.
    """

    name = "outcome"
    head: Head = "sequence"
    reading: Reading

    def __init__(self, texts: Texts, label: str | None = None) -> None:
        self.reading = reading_of(read_config(texts.folder), texts.folder, label, single=True)
        if texts.chats:
            self._before, self._between, self._after = texts.template(("user", "assistant"))
        else:
            self._before, self._between, self._after = (texts.begin,), ("\n\n",), (texts.eos,)

    def write(self, question: str, steps: Sequence[str]) -> Sequence[Script]:
        """A script for each prefix of the steps, its score read at the last token."""
        scripts = []
        for last in range(len(steps)):
            pieces: list[Piece] = [*self._before, question, *self._between]
            cuts: list[tuple[int, int | None]] = [(len(pieces), None)]
            for index, step in enumerate(steps[: last + 1]):
                pieces.append(f"\n\n{step}" if index else step)
                cuts.append((len(pieces), None))
            pieces += self._after
            cuts.append((len(pieces), last))
            scripts.append(Script(tuple(pieces), tuple(cuts)))
        return scripts
