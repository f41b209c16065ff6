"""What a language model writes for a sample, token by token, and when a step of it has ended.

Every backend that sees tokens as they come has it so: it begins a step, adds tokens, and is told what each led to.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from envs.core import Environment, Finish, State, Step, transition
from policies.generation.chat import Dialogue
from policies.generation.options import SamplingOptions
from policies.generation.requests import Job
from policies.generation.step_splitter import THOUGHT, cut, is_thinking
from policies.models.prefix_tree import Ids

Led = Literal["on", "step", "anew", "end"]
"""What a token led to: more of the same step; the next step, written right after it; the next step, for which what the
state reads as must be run again; or the end of the sample."""


@dataclass(eq=False)
class Writing:
    """A sample in progress.

    Args:
        job: it belongs to.
        place: there.
        seed: its own.
        state: where it is; `ids` are those of it, and `made` counts the steps that it added.
        drawn: tokens of the sample.
        new: tokens of the current step, and their `logprobs`.
        thinking: whether it is in the middle of thinking.
        limit: tokens at which the current step is cut.
        room: tokens at which it is cut, whatever it holds.
        whole: whether its ids are the very tokens that were written so far, and the trajectory goes on.
    """

    job: Job
    place: tuple[int, int]
    seed: int
    state: State
    ids: Ids
    drawn: int = 0
    made: int = 0
    new: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    thinking: bool = False
    limit: int = 0
    room: int = 0
    whole: bool = True

    @property
    def steps(self) -> tuple[Step, ...]:
        """Those it added."""
        return self.state.steps[len(self.state.steps) - self.made :]


class Writer:
    """Follows samples as they are written.

    Args:
        dialogue: between texts and ids.
        context: most tokens of a text.
    """

    def __init__(self, dialogue: Dialogue, context: int) -> None:
        self.dialogue, self.context = dialogue, context
        self.environment: Environment = dialogue.environment
        self.options: SamplingOptions = dialogue.options
        # a step may have ended after a token that has one of these characters, or half of one; thinking, of the others
        self._lasts = {"\ufffd", *(text[-1] for text in (self.environment.delimiter, THOUGHT, *self.options.stop))}
        self._thought_lasts = {"\ufffd", THOUGHT[-1]}
        self._texts: dict[int, str] = {}  # of tokens

    def begin(self, sample: Writing) -> None:
        """Before the first token of a step."""
        sample.new, sample.logprobs = [], []
        spent = sum(step.tokens for step in sample.state.steps)
        sample.room = max(1, min(self.options.solution_tokens - spent, self.context - len(sample.ids)))
        sample.thinking = self._opened(sample)
        sample.limit = sample.room if sample.thinking else min(self.options.step_tokens, sample.room)

    def add(self, sample: Writing, token: int, logprob: float) -> Led:
        """Take the next token, with its log-probability at temperature 1."""
        sample.new.append(token)
        sample.logprobs.append(logprob)
        sample.drawn += 1
        if len(sample.new) < sample.limit and not self._may_end(sample, token):
            return "on"
        text, opened = self.dialogue.decode(sample.new), self._opened(sample)
        thinking = is_thinking(text, opened)
        over: Finish | None = None
        if token in self.dialogue.ends:
            over = "answer"
        elif len(sample.new) >= (sample.room if thinking else sample.limit):
            over = "length"
        ended = cut(text, self.environment.delimiter, self.options.stop, opened=opened, over=over)
        if ended is None:
            if thinking:
                sample.limit = sample.room
            elif sample.thinking:  # it speaks now
                sample.limit = min(len(sample.new) + self.options.step_tokens, sample.room)
            sample.thinking = thinking
            return "on"
        # all tokens are the step's, as each one was looked at
        logprob = min(sum(sample.logprobs), 0.0)
        return self._after(sample, Step(ended.text, len(sample.new), logprob, ended.finish, thinking=ended.thinking))

    def _after(self, sample: Writing, step: Step) -> Led:
        """Where a step leads."""
        sample.made += 1
        last = sample.made == sample.job.request.max_steps
        # where the last step leads is not asked here: the search asks, and an environment may take its time
        after = transition(sample.state.then(step)) if last else self.environment.step(sample.state, step)
        ids = sample.ids + self.dialogue.step(after.state.steps[-1])
        running = after.status == "running"
        sample.whole = running and ids == (*sample.ids, *sample.new)
        sample.state, sample.ids = after.state, ids
        spent = sum(each.tokens for each in after.state.steps)
        self.begin(sample)
        if last or not running or len(ids) >= self.context or spent >= self.options.solution_tokens:
            return "end"
        return "step" if sample.whole else "anew"

    def _may_end(self, sample: Writing, token: int) -> bool:
        """Whether a step, or the thinking before it, may have ended after a token: only then is text decoded."""
        if token in self.dialogue.ends:
            return True
        if token not in self._texts:
            self._texts[token] = self.dialogue.decode((token,))
        lasts = self._thought_lasts if sample.thinking else self._lasts
        return not lasts.isdisjoint(self._texts[token])

    def _opened(self, sample: Writing) -> bool:
        return self.dialogue.opened and not sample.state.steps
