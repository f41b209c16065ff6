r"""Skywork-o1-Open-PRM (Skywork o1 team, 2024): a value at the newline that ends each step.

``Skywork/Skywork-o1-Open-PRM-Qwen-2.5-1.5B`` and ``-7B``: a Qwen2 decoder with a value head (``v_head``, one linear
layer, as TRL's wrapper of models saves it). The text is the beginning-of-sequence token, ``{question}\n``, and then the
steps, each tokenised by itself and closed by the token of a newline; the score of a step is the sigmoid of the value at
that token. The head is ours, on the stock decoder: no remote code.

The authors take every line for a step. Here a step is one of the search: its lines are joined by spaces, as Liu et al.
2025 (arXiv 2502.06703) do, so that it has one score.
"""

from __future__ import annotations

from collections.abc import Sequence

from policies.models.errors import UnsupportedModel
from verifiers.scoring.score_layout import Head, Reading, Script
from verifiers.scoring.tokenization import Piece, Texts


class Skywork:
    """A decoder with a value head, read at the newline that ends a step: the sigmoid of the value."""

    name = "skywork"
    head: Head = "value"
    reading = Reading((0,))

    def __init__(self, texts: Texts) -> None:
        if not texts.bos:
            raise UnsupportedModel(f"the tokenizer in {texts.folder} names no bos_token, which begins what is scored")
        self._begin = texts.bos
        self._newline = (texts.single("\n"),)

    def write(self, question: str, steps: Sequence[str]) -> Sequence[Script]:
        """One script: the question, then a line for each step."""
        pieces: list[Piece] = [self._begin, f"{question}\n", ()]
        cuts: list[tuple[int, int | None]] = [(len(pieces), None)]
        for index, step in enumerate(steps):
            pieces += [" ".join(step.split("\n")), self._newline]
            cuts.append((len(pieces), index))
        return [Script(tuple(pieces), tuple(cuts))]
