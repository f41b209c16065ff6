r"""Implicit PRMs (Yuan et al. 2024, arXiv 2412.01981): how much likelier a model finds a step than its reference does.

``PRIME-RL/EurusPRM-Stage1`` and ``-Stage2`` are causal models, trained as outcome reward models whose reward is
``beta log(pi(y) / pi_ref(y))``. The reward of a step is then that of its own tokens (proposition 3.1),
``r_k = beta sum(log pi(y_t | y_<t) - log pi_ref(y_t | y_<t))`` over the tokens t of step k and of the blank line that
closes it; the sum over all steps so far is the value of the state. Both are unbounded. As the models were trained with
the cross-entropy of ``sigmoid(beta log(pi / pi_ref))``, the score here is the sigmoid: of ``r_k`` (``measure: step``,
0.5 for a step that neither helps nor harms; its authors take the minimum), or of the sum up to step k (``measure:
prefix``, the chance of a right solution, to be aggregated by *last*).

The question is the user's message and the steps, each called ``Step k: ``, the assistant's, in the checkpoint's chat
template. The code on the models' cards reads one or two tokens further, into the step that follows; a score must not
depend on what comes after its step, so this does not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from verifiers.scoring.cached_scorer import ROUNDED, Part, Runner, Spent, Whole
from verifiers.scoring.score_layout import Head, Script
from verifiers.scoring.score_layout import Path as Text
from verifiers.scoring.tokenization import Piece, Texts

_CHUNK = 256  # tokens whose probabilities over the whole vocabulary are computed at a time

Measure = Literal["step", "prefix"]


class Implicit:
    """How an implicit PRM reads a state: a chat, each step up to the blank line after it."""

    name = "implicit"
    head: Head = "causal"

    def __init__(self, texts: Texts) -> None:
        self._before, self._after, _ = texts.template(("user", "assistant"))

    def write(self, question: str, steps: Sequence[str]) -> Sequence[Script]:
        """One script: the chat, up to the end of the last step."""
        pieces: list[Piece] = [*self._before, question, *self._after]
        cuts: list[tuple[int, int | None]] = [(len(pieces), None)]
        for index, step in enumerate(steps):
            called = "" if re.match(r"Step \d+:", step) else f"Step {index + 1}: "
            pieces.append(f"{called}{step}\n\n")
            cuts.append((len(pieces), index))
        return [Script(tuple(pieces), tuple(cuts))]


class LikelihoodReader:
    """Reads likelihoods: the note of a part is the log-likelihood of its tokens, and the state after its last one.

    Args:
        logits: hidden states to next-token logits.
    """

    def __init__(self, logits: Callable[[Tensor], Tensor]) -> None:
        self._logits = logits

    def wanted(self, part: Part) -> Sequence[int]:
        """Every position of a step; the last one of the prompt, whose own tokens do not count."""
        end = len(part.ids)
        return range(end - 1, end) if part.read < 0 else range(part.start, end)

    def notes(self, parts: Sequence[tuple[Part, Any]], hidden: Tensor) -> list[tuple[float, Tensor]]:
        """Log-likelihoods in nats, and last hidden states."""
        states: list[Tensor] = []
        targets: list[int] = []
        counts: list[int] = []
        lasts: list[Tensor] = []
        first, before = 0, hidden[:1]
        for part, note in parts:
            own = hidden[first : first + len(self.wanted(part))]
            first += len(own)
            if note is not None:
                before = note[1]
            if part.read >= 0:
                states += [before, own[:-1]]
                targets += part.ids[part.start :]
            counts.append(0 if part.read < 0 else len(own))
            before = own[-1:]
            lasts.append(before)
        likely: list[float] = []
        every = torch.cat(states) if states else hidden[:0]
        for start in range(0, len(every), _CHUNK):
            chosen = torch.tensor(targets[start : start + _CHUNK], device=hidden.device)[:, None]
            logits = self._logits(every[start : start + _CHUNK])
            likely += logits.log_softmax(-1).gather(1, chosen)[:, 0].tolist()
        notes, first = [], 0
        for count, last in zip(counts, lasts, strict=True):
            notes.append((math.fsum(likely[first : first + count]), last.clone()))
            first += count
        return notes


class Ratio:
    """Two models that read the same paths; their notes become scores, which is what `LocalVerifier` wants of a runner.

    Args:
        model: of the verifier, with a `LikelihoodReader`.
        reference: of what it was trained from, likewise.
        coef: beta.
        measure: what the score of a step is the sigmoid of.

    Raises:
        ValueError: for a coef that is not above 0 or a measure that is none.
    """

    def __init__(self, model: Runner | Whole, reference: Runner | Whole, coef: float, measure: Measure) -> None:
        if measure not in get_args(Measure):
            raise ValueError(f"measure {measure!r} given; allowed: {', '.join(get_args(Measure))}")
        if not coef > 0:
            raise ValueError(f"coef {coef} given; a number above 0 is needed")
        self.model, self.reference, self.coef, self.measure = model, reference, coef, measure

    def read(self, work: Sequence[tuple[str, Text]]) -> tuple[list[list[Any]], list[Spent]]:
        """Scores of the parts that are steps, and what both models ran."""
        own, spent = self.model.read(work)
        reference, more = self.reference.read(work)
        scores: list[list[Any]] = []
        for (_, path), mine, other in zip(work, own, reference, strict=True):
            total = 0.0
            found: list[float | None] = []
            for read, note, base in zip(path.reads, mine, other, strict=True):
                if note is None or base is None:
                    found.append(None)
                    continue
                ratio = 0.0 if read < 0 else note[0] - base[0]
                total += ratio
                found.append(_sigmoid(self.coef * (ratio if self.measure == "step" else total)))
            scores.append(found)
        return scores, [
            replace(each + other, weights=each.weights + other.weights) for each, other in zip(spent, more, strict=True)
        ]

    def drop(self, scope: str) -> None:
        """Forget what was kept for a scope."""
        self.model.drop(scope)
        self.reference.drop(scope)

    def clear(self) -> None:
        """Forget what both models kept, of all scopes."""
        self.model.clear()
        self.reference.clear()


def _sigmoid(value: float) -> float:
    if not math.isfinite(value):
        return math.nan
    return round(1 / (1 + math.exp(-value)) if value > -700 else 0.0, ROUNDED)
