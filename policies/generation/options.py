"""What may be said about a language model as a policy, whichever backend runs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from envs.options import Above, AtLeast, check_ranges


@dataclass(frozen=True)
class SamplingOptions:
    r"""How a language model is asked, and where its steps and solutions end.

    Temperature and seeds are not here: they come with each request.

    Args:
        top_p: sample from the likeliest tokens that together have this probability (nucleus sampling); 1 is all.
        top_k: sample from this many of the likeliest tokens; 0 is all.
        step_tokens: a step that is longer is cut (finish ``length``); what was thought before it does not count.
        solution_tokens: all the steps of a trajectory together, thinking included; what goes beyond is cut.
        stop: texts that end the solution; they stay in it.
        system: the system prompt of a chat model.
        prefill: what the answer starts with, before the first step, e.g. ``<think>\n``.
        chat: whether the prompt is a user's turn, by the model's chat template, or plain text to go on from; None
            asks in a chat where the model has a template.
        thinking: whether the model thinks before it answers, for templates that can say so; None leaves it to them.

        thinking_tokens: most tokens of the thinking before a step; where more are thought, the thinking is closed and
            the model speaks (budget forcing, Muennighoff et al. 2025, arXiv 2501.19393, section 3.1); 0 is no limit.
        thinking_least: fewest tokens of it; where the model would end its thinking before, it goes on with "Wait".
        thinking_probe: after every so many tokens of thinking the model is asked for its answer, and the thinking is
            closed when it has settled (`policies.generation.thought_probe`); 0 never asks.
        thinking_agree: so many answers in a row must be the same.
        thinking_answer: the words that are written after the closed thinking when the answer is asked for.

    Raises:
        ValueError: for a value that cannot be.
    """

    top_p: Annotated[float, Above(0, 1)] = 1.0
    top_k: Annotated[int, AtLeast(0)] = 0
    step_tokens: Annotated[int, AtLeast(1)] = 512
    solution_tokens: Annotated[int, AtLeast(1)] = 8192
    stop: Sequence[str] = ()
    system: str = ""
    prefill: str = ""
    chat: bool | None = None
    thinking: bool | None = None
    thinking_tokens: Annotated[int, AtLeast(0)] = 0
    thinking_least: Annotated[int, AtLeast(0)] = 0
    thinking_probe: Annotated[int, AtLeast(0)] = 0
    thinking_agree: Annotated[int, AtLeast(2)] = 3
    thinking_answer: str = r"The final answer is \boxed{"

    def __post_init__(self) -> None:
        """Check the values."""
        check_ranges(self)
        if isinstance(self.stop, str) or not all(self.stop):
            raise ValueError(f"stop is {self.stop!r}; expected a list of texts, none empty")
        if self.thinking_tokens and self.thinking_least > self.thinking_tokens:
            raise ValueError(
                f"thinking_least is {self.thinking_least} and thinking_tokens {self.thinking_tokens}; the least is more"
                " than the most"
            )
        if self.chat is False and (self.system or self.thinking is not None):
            raise ValueError("a system prompt and thinking are a chat's; give neither with chat=False")
