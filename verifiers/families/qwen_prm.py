r"""Qwen2.5-Math-PRM (Zhang et al. 2025, arXiv 2501.07301): two labels at a special token after each step.

``Qwen/Qwen2.5-Math-PRM-7B`` and ``-72B``, and ``Qwen2.5-Math-7B-PRM800K``: a Qwen2 decoder with two layers on top
(``score``: linear, ReLU, linear to two labels). As their cards say: a chat whose system message asks for steps and a
\boxed{} answer, the question as the user's, the steps as the assistant's with ``<extra_0>`` after each; the score is
the probability of label 1 (softmax over both) at ``<extra_0>``. The head is ours, on the stock decoder: no remote code.
"""

from __future__ import annotations

from collections.abc import Sequence

from verifiers.scoring.score_layout import Head, Reading, Script
from verifiers.scoring.tokenization import Piece, Texts

SYSTEM = r"Please reason step by step, and put your final answer within \boxed{}."
TAG = "<extra_0>"


class QwenPRM:
    """A decoder with a head of two layers, read at ``<extra_0>``: label 1 beside label 0."""

    name = "qwen-prm"
    head: Head = "mlp"
    reading = Reading((0, 1), want=1)

    def __init__(self, texts: Texts) -> None:
        self._tag = (texts.special(TAG),)
        system, user, assistant, _ = texts.template(("system", "user", "assistant"))
        self._before, self._after = (*system, SYSTEM, *user), assistant

    def write(self, question: str, steps: Sequence[str]) -> Sequence[Script]:
        """One script: the chat, up to the last tag."""
        pieces: list[Piece] = [*self._before, question, *self._after]
        cuts: list[tuple[int, int | None]] = [(len(pieces), None)]
        for index, step in enumerate(steps):
            pieces += [step, self._tag]
            cuts.append((len(pieces), index))
        return [Script(tuple(pieces), tuple(cuts))]
