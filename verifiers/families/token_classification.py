r"""Any PRM that classifies tokens, in the layout that TRL trains (`trl.PRMTrainer`).

A model of transformers' token classification with two labels (`verifiers.scoring.labels` tells which one stands for
right). The text is the beginning-of-sequence token if there is one, the question, and then each step with a separator
after it ("\n" unless the training said otherwise), all tokenised by themselves; the score of a step is the probability
of that label (softmax over both) at the last token of its separator.
"""

from __future__ import annotations

from collections.abc import Sequence

from verifiers.scoring.labels import reading_of
from verifiers.scoring.score_layout import Head, Reading, Script
from verifiers.scoring.tokenization import Piece, Texts, read_config


class TokenClassification:
    """A token classifier, read at the separator that closes a step: the label that stands for right beside the other.

    Args:
        texts: of the checkpoint.
        separator: what closes a step.
        label: the name or the number of the label that stands for right, where the names do not say; with it there may
            be more than two.
    """

    name = "token-classification"
    head: Head = "classifier"
    reading: Reading

    def __init__(self, texts: Texts, separator: str = "\n", label: str | None = None) -> None:
        self.reading = reading_of(read_config(texts.folder), texts.folder, label)
        if not separator:
            raise ValueError("an empty separator given; a step must be closed by something")
        self._begin = texts.bos
        self._separator = separator

    def write(self, question: str, steps: Sequence[str]) -> Sequence[Script]:
        """One script: the question, then the steps with their separators."""
        pieces: list[Piece] = [self._begin, question, ()]
        cuts: list[tuple[int, int | None]] = [(len(pieces), None)]
        for index, step in enumerate(steps):
            pieces += [step, (), self._separator]
            cuts.append((len(pieces), index))
            pieces.append(())
        return [Script(tuple(pieces), tuple(cuts))]
