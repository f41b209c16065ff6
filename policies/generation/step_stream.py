"""What a language model writes for a sample, token by token, and when a step of it has ended.

Every backend that sees tokens as they come has it so: it begins a step, adds tokens, and is told what each led to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from envs.core import Environment, Finish, State, Step, Transition, transition
from policies.core import Propose
from policies.generation.batch import DecodeSample, StepEnd, StepEvent
from policies.generation.options import SamplingOptions
from policies.generation.requests import Job
from policies.generation.step_splitter import CLOSE, THOUGHT, WAIT, cut, is_thinking
from policies.models.prefix_tree import Ids

_SPEAKING, _THINKING = 1, 2  # kinds of tokens: a step may end after them, while the model speaks, and while it thinks


class Chat(Protocol):
    """How states become tokens and tokens text: `policies.generation.chat.ChatFormat`, or that of an embedded model.

    Attributes:
        environment: whose steps.
        options: where steps and solutions end.
        ends: ids that end an answer; as the last of some tokens they have no text.
        opened: whether the prompt ends with ``<think>``.
        blank_steps: whether a delimiter at the start of a step ends it; otherwise it is part of its thinking.
    """

    environment: Environment
    options: SamplingOptions
    ends: frozenset[int]
    opened: bool
    blank_steps: bool

    def parts(self, state: State) -> list[Ids]:
        """The ids of the prompt, then of each step with its observation."""
        ...

    def inside(self, text: str) -> Ids:
        """The ids of a text in the middle of an answer."""
        ...

    def step(self, step: Step) -> Ids:
        """The ids of a step, closed by the delimiter, and of its observation."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of generated ids."""
        ...


@dataclass(slots=True)
class _Ended:
    """The end of a step, and what comes after it."""

    end: StepEnd
    state: State
    ids: Ids
    led: Transition | None  # what the environment said, if it was asked


@dataclass(eq=False, slots=True, kw_only=True)
class StreamedSample(DecodeSample):
    """A sample of a policy in progress; its `ids` are those of `state`.

    Args:
        job: it belongs to.
        place: there.
        state: where it is; `made` counts the steps that it added, and `spent` the tokens of all steps.
        most: tokens of all steps at which it ends.
        ended: steps that samples of the same request wrote, by the state before (its id), their tokens, and how many
            more their probes took.
        thinking: whether it is in the middle of thinking.
        closed: whether its thinking was ended for it.
        room: tokens at which the current step is cut, whatever it holds.
        transitions: of its steps, as far as the environment was asked.
        context: tokens before its first new one.
        answers: of the probes of the current step's thinking (`policies.generation.thought_probe`).
        probed: tokens of these probes.
        beside: tokens of the probes of all its steps.
    """

    job: Job
    place: tuple[int, int]
    state: State
    most: int
    spent: int = 0
    ended: dict[tuple[int, Ids, int], _Ended] = field(default_factory=dict)
    made: int = 0
    thinking: bool = False
    closed: bool = False
    room: int = 0
    transitions: tuple[Transition, ...] = ()
    context: int = 0
    answers: tuple[str | None, ...] = ()
    probed: int = 0
    beside: int = 0

    @property
    def steps(self) -> tuple[Step, ...]:
        """Those it added."""
        return self.state.steps[len(self.state.steps) - self.made :]


def spent_on(state: State) -> int:
    """Tokens of all steps of a state."""
    return sum(step.tokens for step in state.steps)


def last_characters(texts: Iterable[str]) -> frozenset[str]:
    """The characters of which a token that completes one of some texts has one; half of one reads as U+FFFD."""
    lasts = {text[-1] for text in texts}
    return frozenset(lasts if all(map(str.isascii, lasts)) else {"\ufffd", *lasts})


class StepWriter:
    """Follows samples as they are written.

    Args:
        chat: between texts and ids.
        context: most tokens of a text.
    """

    forces = False

    def __init__(self, chat: Chat, context: int) -> None:
        self.chat, self.context = chat, context
        self.environment: Environment = chat.environment
        self.options: SamplingOptions = chat.options
        # a step may have ended after a token that has one of these characters; thinking, of the others
        self._lasts = last_characters([self.environment.delimiter, THOUGHT, *self.options.stop])
        self._thought_lasts = last_characters([THOUGHT])
        self._kinds: dict[int, int] = {}  # of tokens
        self._closing: Ids = chat.inside(CLOSE) if self.options.thinking_tokens else ()
        self._waiting: Ids = chat.inside(WAIT) if self.options.thinking_least else ()
        self.forces = bool(self._closing or self._waiting or self.options.thinking_probe)

    def most(self, request: Propose, spent: int) -> int:
        """Tokens of all steps at which a sample of a request ends that goes on from so many."""
        longest = self.options.solution_tokens
        return longest if request.tokens is None else min(longest, spent + request.tokens)

    def begin(self, sample: StreamedSample) -> None:
        """Before the first token of a step."""
        sample.new, sample.logprob, sample.certainty, sample.closed = (), 0.0, [], False
        sample.answers, sample.probed = (), 0
        sample.room = max(1, min(sample.most - sample.spent, self.context - len(sample.ids)))
        self._limit(sample, self._opened(sample), 0)

    def add(self, sample: StreamedSample, token: int, logprob: float) -> StepEvent:
        """Take the next token, with its log-probability at temperature 1."""
        sample.new += (token,)
        sample.logprob += logprob
        sample.drawn += 1
        if len(sample.new) < sample.limit and not self.kind(token) & sample.watch:
            return "on"
        end = self.end_step(sample, sample.new, sample.logprob)
        return "on" if end is None else end.event

    def kind(self, token: int) -> int:
        """Whether a step, or the thinking before it, may have ended after a token: only then is text decoded."""
        if token not in self._kinds:
            self._kinds[token] = self._kind(token)
        return self._kinds[token]

    def end_step(self, sample: StreamedSample, new: Ids, logprob: float) -> StepEnd | None:
        """Take a step, if the new tokens end one; see `policies.generation.batch.SampleText`."""
        key = id(sample.state), new, sample.probed  # of a state that the request or `ended` holds
        ended = sample.ended.get(key)
        if ended is None:
            ended = self._ended(sample, new, logprob)
            if ended is None:
                return None
            sample.ended[key] = ended
        sample.state, sample.ids = ended.state, ended.ids
        if ended.led is not None:
            sample.transitions += (ended.led,)
        sample.made += 1
        sample.spent += len(new) + sample.probed
        if ended.end.event != "end":
            self.begin(sample)
        return ended.end

    def _ended(self, sample: StreamedSample, new: Ids, logprob: float) -> _Ended | None:
        """The step that new tokens are, and where it leads, if they end one."""
        text, opened = self.chat.decode(new), self._opened(sample)
        if self._waits(sample, new, text):
            sample.instead, sample.forced = self._waiting[0], self._waiting[1:]
            return None
        thinking = is_thinking(text, opened)
        over: Finish | None = None
        if new[-1] in self.chat.ends:
            over = "answer"
        elif len(new) >= (sample.room if thinking or sample.thinking else sample.limit):  # the limit was the thought's
            over = "length"
        delimiter, stop, blank = self.environment.delimiter, self.options.stop, self.chat.blank_steps
        ended = cut(text, delimiter, stop, opened=opened, over=over, blank=blank)
        if ended is None:
            if thinking or sample.thinking:  # it thinks on, or speaks now
                self._limit(sample, thinking, len(new))
            if thinking and self._closing and len(new) >= self.options.thinking_tokens and not sample.closed:
                sample.forced, sample.closed = self._closing, True
            return None
        # all tokens are the step's, as each one was looked at
        logprob = min(logprob, 0.0)
        tokens = len(new) + sample.probed
        step = Step(ended.text, tokens, logprob, ended.finish, thinking=ended.thinking, closing=ended.closing)
        if sample.certainty:
            step = replace(step, certainty=tuple(sample.certainty))
        return self._after(sample, new, step)

    def _after(self, sample: StreamedSample, new: Ids, step: Step) -> _Ended:
        """Where a step leads."""
        last = sample.made + 1 == sample.job.request.max_steps
        # where the last step leads is not asked here: the search asks, and an environment may take its time
        after = transition(sample.state.then(step)) if last else self.environment.step(sample.state, step)
        written = self.chat.step(after.state.steps[-1])
        ids, running = sample.ids + written, after.status == "running"
        whole = running and written == new
        spent = sample.spent + step.tokens
        event: StepEvent = "step" if whole else "anew"
        if last or not running or len(ids) >= self.context or spent >= sample.most:
            event = "end"
        return _Ended(StepEnd(event, whole), after.state, ids, None if last else after)

    def _limit(self, sample: StreamedSample, thinking: bool, count: int) -> None:
        """How far a step may go that has so many tokens, of which none speaks yet."""
        sample.thinking = thinking
        sample.limit = sample.room if thinking else min(count + self.options.step_tokens, sample.room)
        if thinking and self._closing and count < self.options.thinking_tokens:
            sample.limit = min(sample.limit, self.options.thinking_tokens)
        if thinking and (every := self.options.thinking_probe):
            sample.limit = min(sample.limit, (count // every + 1) * every)
        sample.watch = _THINKING if thinking else _SPEAKING

    def _waits(self, sample: StreamedSample, new: Ids, text: str) -> bool:
        """Whether the last token ends the thinking before its time: all of the mark, as no other token is replaced."""
        if not self._waiting or len(new) >= self.options.thinking_least or not text.endswith(THOUGHT):
            return False
        return self.chat.decode(new[-1:]) == THOUGHT and is_thinking(self.chat.decode(new[:-1]), self._opened(sample))

    def _kind(self, token: int) -> int:
        if token in self.chat.ends:
            return _SPEAKING | _THINKING
        text = self.chat.decode((token,))
        speaking = 0 if self._lasts.isdisjoint(text) else _SPEAKING
        return speaking | (0 if self._thought_lasts.isdisjoint(text) else _THINKING)

    def _opened(self, sample: StreamedSample) -> bool:
        return self.chat.opened and not sample.state.steps
