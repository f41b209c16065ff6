r"""Cutting what a language model writes into steps.

A model writes text, token by token. A step ends with the environment's delimiter, which is not part of it; a solution
ends with a stop string, which is, or with a token of the model's own. Blank steps are none, unless asked for: further
delimiters after a step are its closing, and those at the start of one are part of its thinking. So environments do not
see them, and the model goes on from what it wrote: a program whose blank lines are left out goes on with imports for
ever. For the same reason the closing is kept as it was written where that is not the delimiter: a line may end with
``\r\n`` where a delimiter or a stop string has ``\n``. What stands between ``<think>`` and ``</think>`` before a step
is the step's thinking: delimiters and stop strings do not count in it.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from envs.core import Finish, Step

THINK, THOUGHT = "<think>", "</think>"
"""What thinking stands between: DeepSeek-R1, Qwen3, SmolLM3 and most others."""
CLOSE, WAIT = f"\n{THOUGHT}\n\n", "Wait"
"""What is written where thinking is to end, and where it is not to end yet (budget forcing)."""


@dataclass(frozen=True)
class Cut:
    """The first step of a text.

    Args:
        thinking: what comes before it, with its marks and the space after them, and delimiters.
        text: of the step.
        finish: how it ended.
        end: characters of the text that it took, the delimiter or stop string included; None for all there is, and
            for the token that ended the solution.
        closing: what ended it, where that is other than the delimiter alone: with more delimiters, or other line ends.
    """

    thinking: str
    text: str
    finish: Finish
    end: int | None
    closing: str = ""

    def step(self, lengths: Sequence[int], logprobs: Sequence[float]) -> Step:
        """The step with what it cost.

        Args:
            lengths: for each token, the characters of the text up to its end; a token belongs to the step if the step
                cannot do without it.
            logprobs: of each token.
        """
        tokens = len(logprobs) if self.end is None else bisect_left(lengths, self.end) + 1
        logprob = min(sum(logprobs[:tokens]), 0.0)
        return Step(self.text, tokens, logprob, self.finish, thinking=self.thinking, closing=self.closing)


def cut(
    text: str,
    delimiter: str,
    stop: Sequence[str] = (),
    *,
    opened: bool = False,
    over: Finish | None = None,
    blank: bool = False,
) -> Cut | None:
    """Cut the first step from a text.

    Args:
        text: what was generated since the last step.
        delimiter: of the environment.
        stop: texts that end the solution.
        opened: whether the prompt ends with ``<think>``, so that the text starts in the middle of thinking.
        over: how the text ended, or None while more may come.
        blank: whether a delimiter at the start ends an empty step, instead of being part of the thinking.

    Returns:
        The step, or None while it may go on.
    """
    start = _thought(text, opened)
    if start is None:
        return None if over is None else Cut(text, "", over, None)
    ends = with_any_line_ends(delimiter)
    first = start if blank else _after_delimiters(text, ends, start)
    thinking = text[:first]
    stops = [found.span() for each in stop if (found := with_any_line_ends(each).search(text, first))]
    end = ends.search(text, first)
    if stops and (end is None or min(stops)[0] < end.start()):
        last = min(stops)[1]
        return Cut(thinking, text[first:last], "answer", last)
    if end is not None:
        last = end.end() if blank else _after_delimiters(text, ends, end.end())
        written = text[end.start() : last]
        return Cut(thinking, text[first : end.start()], "step", last, "" if written == delimiter else written)
    return None if over is None else Cut(thinking, text[first:], over, None)


@cache
def with_any_line_ends(delimiter: str) -> re.Pattern[str]:
    r"""A delimiter or a stop string as models write it, whether they end lines with ``\n`` or with ``\r\n``."""
    return re.compile(r"\r*\n".join(map(re.escape, re.split("\r*\n", delimiter))))


def _after_delimiters(text: str, delimiter: re.Pattern[str], at: int) -> int:
    """Where the delimiters end that stand at a place of a text."""
    while found := delimiter.match(text, at):
        at = found.end()
    return at


def is_thinking(text: str, opened: bool = False) -> bool:
    """Whether a text that is being generated is in the middle of thinking."""
    return _thought(text, opened) is None


def _thought(text: str, opened: bool) -> int | None:
    """Characters of thinking at the start of a text, with the space that follows; None while it goes on."""
    if not opened and not text.lstrip().startswith(THINK):
        return 0
    at = text.find(THOUGHT)
    if at < 0:
        return None
    return len(text) - len(text[at + len(THOUGHT) :].lstrip())
