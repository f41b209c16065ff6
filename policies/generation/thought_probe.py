"""Probing a thought: what the model would answer if it stopped thinking here.

A model often has its answer long before it ends its thought. Answer consistency (Liu and Wang 2025, arXiv 2506.02536)
asks for the answer again and again while the model thinks, and stops once the same one keeps coming. Here, after every
so many tokens of a thought, the thought is closed, the words that an answer begins with are written, and a few tokens
are drawn greedily. That is a short sample of its own. It goes on from what the thinking sample has, which waits for it,
and then goes on as if nothing had been asked. When the last few probes gave the same answer, the thought is closed.
"""

from __future__ import annotations

from dataclasses import dataclass

from policies.generation.step_splitter import CLOSE
from policies.generation.step_stream import Chat, StreamedSample
from policies.models.prefix_tree import Ids

_LONGEST = 48  # tokens of an answer; a probe that comes to no end by then has none


@dataclass(eq=False, slots=True, kw_only=True)
class ThoughtProbe(StreamedSample):
    """A probe in progress; its `ids` are those of the thought so far, closed, and of the words.

    Args:
        thinker: the sample that waits for it.
        answer: what the model would answer; None if it came to no end.
    """

    thinker: StreamedSample
    answer: str | None = None


class ThoughtProbes:
    """When thoughts are probed, how a probe is read, and when a thought is closed.

    Args:
        chat: between texts and ids; its options say how often, by what words, and how many probes must agree.
        context: most tokens of a text.
    """

    def __init__(self, chat: Chat, context: int) -> None:
        self._chat, self._options, self._context = chat, chat.options, context
        words = self._options.thinking_answer
        self._words: Ids = chat.inside(CLOSE + words) if self._options.thinking_probe else ()
        self._closing: Ids = chat.inside(CLOSE) if self._options.thinking_probe else ()
        self._depth = words.count("{") - words.count("}")

    def due(self, sample: StreamedSample, new: Ids) -> ThoughtProbe | None:
        """The probe to draw after the new tokens of a step, if there is to be one."""
        every = self._options.thinking_probe
        if not every or not sample.thinking or sample.closed:
            return None
        ids = sample.ids + new + self._words
        if len(new) % every or len(new) < self._options.thinking_least or len(ids) + _LONGEST > self._context:
            return None
        return ThoughtProbe(
            sample.scope, 0, 0.0, ids, job=sample.job, place=sample.place, state=sample.state, most=0, thinker=sample
        )

    def read(self, probe: ThoughtProbe, new: Ids) -> bool:
        """Take the tokens that a probe has drawn; whether it is complete."""
        text = self._chat.decode(new)
        over = new[-1] in self._chat.ends
        probe.answer = written_answer(text + "\n" if over else text, self._depth)
        return over or probe.answer is not None or len(new) >= _LONGEST

    def take(self, probe: ThoughtProbe) -> None:
        """Charge a complete probe to the sample that waits for it, and close its thought if the last probes agree."""
        sample = probe.thinker
        sample.probed += probe.drawn
        sample.beside += probe.drawn
        sample.answers += (probe.answer,)
        last = sample.answers[-self._options.thinking_agree :]
        if len(last) == self._options.thinking_agree and probe.answer is not None and len(set(last)) == 1:
            sample.forced += self._closing
            sample.closed = True


def written_answer(text: str, depth: int = 0) -> str | None:
    """The answer that a text begins with: up to a line break, or to the brace that closes those that are open.

    Args:
        text: what follows the words that an answer begins with.
        depth: braces that the words leave open.

    Returns:
        None while the answer may go on, and where there is none.
    """
    for place, character in enumerate(text):
        closes = character == "}" and depth == 1
        if (closes or character == "\n") and (answer := text[:place].strip()):
            return answer
        depth += (character == "{") - (character == "}")
    return None
