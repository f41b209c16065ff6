r"""GenPRM (Zhao et al. 2025, arXiv 2504.00891): a dialogue in which the model analyses one paragraph after another.

``GenPRM/GenPRM-1.5B``, ``-7B`` and ``-32B``. The system message makes the model a teacher who reviews paragraphs; the
user's first message is the question with the first paragraph, the others one paragraph each. The assistant goes on from
``<analyze>\nLet's analyze the Paragraph k step by step: ``, and after the analysis from ``<output>\n**Judgement**:
$\boxed{``, where "Yes" is read beside "No"; what it wrote about the steps before stays in the dialogue. Temperature
0.6, top_p 0.95, top_k 20, 2048 tokens at most; several votes are averaged.

The authors' other mode also has the model write Python between the two, runs it and shows it the output. Here that part
is left out, as their own code can leave it out: nothing that a model wrote is executed.
"""

from __future__ import annotations

from collections.abc import Sequence

from policies.models.prefix_tree import Ids
from verifiers.scoring.critique_generation import CritiqueOptions
from verifiers.scoring.score_layout import Head, Reading, Script
from verifiers.scoring.tokenization import Piece, Texts

SYSTEM = "You are a math teacher. Your task is to review and critique the paragraphs in solution step by step."


class GenPRM:
    """A causal model that analyses each step in a dialogue: "Yes" beside "No" in its judgement."""

    name = "genprm"
    head: Head = "causal"
    sampling = CritiqueOptions(temperature=0.6, top_p=0.95, top_k=20, tokens=2048)
    stop = "</analyze>"
    verdict = "\n<output>\n**Judgement**: $\\boxed{"
    chained = True

    def __init__(self, texts: Texts) -> None:
        yes, no = texts.single("Yes"), texts.single("No")
        self.reading = Reading((yes, no))
        system, user, self._reply = texts.template(("system", "user"), reply=True)
        self._first = (*system, SYSTEM, *user)
        # what stands between an answer and the next message
        self._next = texts.template(("system", "user", "assistant", "user"))[3]

    def write(self, question: str, steps: Sequence[str], before: Ids, right: bool) -> Script:
        """The dialogue so far and the next paragraph, up to where its analysis begins."""
        if before:
            pieces: list[Piece] = [
                before,
                (self.reading.columns[0 if right else 1],),
                "}$\n</output>",
                *self._next,
                steps[-1],
            ]
        else:
            pieces = [*self._first, f"Question: {question}\n\n", steps[-1]]
        pieces += [*self._reply, f"<analyze>\nLet's analyze the Paragraph {len(steps)} step by step: "]
        return Script(tuple(pieces), ((len(pieces), len(steps) - 1),))
