"""Language models behind a server that speaks the OpenAI protocol: vLLM, SGLang, llama.cpp, Ollama and others.

One request for each sample, with its seed, many in flight at once (`policies.servers.http_client`). A state is
continued, never asked about anew: as token ids made here when a tokenizer is given, else as the assistant's own
message, which the server is told to go on with. The server keeps the prefixes; what it says it did not run again is not
charged.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from loguru import logger

from envs.core import Environment, Finish, State, Step, Transition, opening, termination, transition
from envs.options import Above, AtLeast, Group
from policies.core import Propose, Proposed
from policies.generation.chat import ChatFormat, messages, own_text
from policies.generation.confidence import MOST_TOLD, Certainty, certainty_of
from policies.generation.options import SamplingOptions
from policies.generation.requests import Job
from policies.generation.step_splitter import CLOSE, THINK, THOUGHT, WAIT, Cut, cut, is_thinking
from policies.models.pretrained import load_tokenizer
from policies.servers.http_client import Client, ConnectionLimits, ServerRefused
from policies.servers.openai_protocol import Prompt, Sampling, Written, find_model, longest, request_of
from policies.servers.refusals import printable, says_no_room

_WAIT = 0.02  # seconds that a poll may wait for replies
_MOST_BLANK = 3  # requests in a row that bring nothing but blanks
_MOST_STOPS = 4  # stop strings: more are refused by OpenAI
_TOLD = 8  # characters that tell the second half of a text from its first
_MARGIN = 256  # tokens that a chat template adds at most, where that matters little


@dataclass
class _Sample:
    """A sample in progress.

    Args:
        job: it belongs to.
        place: there.
        seed: its own.
        state: with the steps that are complete; `made` of them are its own.
        text: what was generated since.
        ends: for each token of that, the characters of the text up to its end.
        logprobs: of each token.
        certainty: the same, where it is recorded.
        asked: requests answered in all, and `blank` of them since the last that brought more than blanks.
        prompt: tokens of the last one's prompt, if known.
        most: tokens that the last request asked for, and the next at most, once the context has proved too small.
        refused: requests since the last reply for which there was no room.
        trying: whether the one under way only asks how long the prompt is.
        hidden: tokens that were generated and are in no text; the next step pays for them.
        last: what the last reply brought.
        doubt: while the server is asked whether it goes on at all: how what was written ended.
        transitions: of its steps, as far as the environment was asked.
    """

    job: Job
    place: tuple[int, int]
    seed: int
    state: State
    made: int = 0
    text: str = ""
    ends: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    certainty: list[Certainty] = field(default_factory=list)
    asked: int = 0
    blank: int = 0
    prompt: int | None = None
    most: int = 0
    refused: int = 0
    trying: bool = False
    hidden: int = 0
    last: str = ""
    doubt: tuple[Finish | None] | None = None
    transitions: tuple[Transition, ...] = ()


class ServedPolicy:
    """A model behind a server as a `Policy`, which can go on in an open loop: a solution is then one request.

    Args:
        model: as the server calls it; may be left empty where the server has but one.
        environment: whose problems it continues; ends steps and trajectories.
        options: of sampling.
        name: in records; by default the last part of the model's.
        base_url: of the server, with its version.
        server: its kind, one of `policies.servers.openai_protocol.KINDS`; ``auto`` asks it.
        tokenizer: folder or hub id of the model's tokenizer. Prompts are then rendered here and sent as token ids,
            which is exact whatever a template does to a message; without it the server's chat template is used.
        parameters: of the model, for FLOPs; 0 takes what the server says, if it says.
        key_variable: the environment variable that holds the API key, if the server wants one.
        logprobs: whether to ask for log-probabilities; without them those of steps are 0.
        connections, timeout, patience, pause, longest_pause: see `policies.servers.http_client.ConnectionLimits`.

    Raises:
        ConnectionError: the server does not answer.
        ValueError: the server has no such model, or cannot do what is asked of it.
    """

    def __init__(
        self,
        model: str,
        environment: Environment,
        options: Annotated[SamplingOptions | None, Group()] = None,
        *,
        name: str = "",
        base_url: str = "http://localhost:8000/v1",
        server: str = "auto",
        tokenizer: str | None = None,
        parameters: Annotated[int, AtLeast(0)] = 0,
        key_variable: str = "OPENAI_API_KEY",
        logprobs: bool = True,
        connections: Annotated[int, AtLeast(1)] = ConnectionLimits.connections,
        timeout: Annotated[float, Above(0)] = ConnectionLimits.timeout,
        patience: Annotated[float, AtLeast(0)] = ConnectionLimits.patience,
        pause: Annotated[float, Above(0)] = ConnectionLimits.pause,
        longest_pause: Annotated[float, Above(0)] = ConnectionLimits.longest_pause,
    ) -> None:
        self.environment = environment
        self.options = options or SamplingOptions()
        self._logprobs = logprobs
        self._top = 0  # likeliest tokens whose log-probabilities are asked for
        self._dialogue = None
        if tokenizer is not None:
            self._dialogue = ChatFormat(load_tokenizer(tokenizer), environment, self.options)
        limits = ConnectionLimits(connections, timeout, patience, pause, longest_pause)
        self._client = Client(base_url, limits, key_variable)
        try:
            self.model = find_model(self._client, model, server)
            self._check()
        except BaseException:
            self._client.close()
            raise
        self.name = name or printable(self.model.name.rstrip("/").rpartition("/")[2])
        self.parameters = parameters or self.model.parameters
        self._keys = itertools.count()
        self._jobs: dict[int, Job] = {}
        self._flying: dict[int, _Sample] = {}  # by key of the client
        self._done: list[tuple[Job, Proposed | Exception]] = []
        self._warned: set[str] = set()
        self._proven = self._dialogue is not None or self.options.chat is False  # that the server goes on with a text

    def _check(self) -> None:
        """Refuse what this kind of server cannot do."""
        kind, options = self.model.kind, self.options
        if self._dialogue is None and options.chat is not False and kind.goes_on is None:
            raise ValueError(
                f"it is not known whether {self._client.base_url} goes on with an assistant's message; give the model's"
                " tokenizer, or chat=False to go on from plain text, or say what server it is"
            )
        if not kind.raw and (self._dialogue is not None or options.chat is False):
            raise ValueError(
                "Ollama puts every prompt into the model's template: give neither tokenizer nor chat=False"
            )
        if self._chats and options.thinking_tokens and not kind.thinking_budget:
            raise ValueError(
                "this server takes no thinking budget: give the model's tokenizer, and the thinking is bounded here"
            )
        if self._chats and options.thinking_least:
            raise ValueError("thinking_least is kept where the prompts are made here: give the model's tokenizer")
        if options.thinking_probe:
            raise ValueError(
                "a server is not asked in the middle of a thought; run the model by hf: for thinking_probe"
            )
        if options.top_k and not kind.top_k:
            raise ValueError(f"top_k is {options.top_k}, and this server takes none; set it there")
        if options.stop and not kind.stopped_by:
            raise ValueError(
                "this server does not say which stop string it met: give no stop, the model ends its answer"
            )

    # ------------------------------------------------------------------------------------------------ the contract

    @property
    def base_url(self) -> str:
        """Of the server, with its version."""
        return self._client.base_url

    @property
    def key_variable(self) -> str:
        """The environment variable that holds the key."""
        return self._client.key_variable

    @property
    def converses(self) -> bool:
        """Whether the model is shown the turns before the question: it is asked in a chat."""
        return self._dialogue.chat if self._dialogue is not None else self.options.chat is not False

    def digest(self) -> str:
        """What the server calls the model: it shows no more of it."""
        return self.model.name

    def record_confidence(self, top: int) -> None:
        """Record how sure the model is of each token; raises ValueError for more likeliest tokens than servers tell."""
        if not 0 < top <= MOST_TOLD:
            given = "the whole vocabulary" if top == 0 else f"the {top} likeliest tokens"
            raise ValueError(f"servers tell the {MOST_TOLD} likeliest tokens; {given} of {self.name!r} were asked for")
        if not self._logprobs:
            raise ValueError(f"policy {self.name!r} has logprobs false: it does not ask how sure the model is")
        self._top = top

    def submit(self, ticket: int, request: Propose) -> None:
        """Queue a request; raises ValueError when it is malformed or its ticket is in use (`Job.of`)."""
        job = Job.of(ticket, request, self._jobs)
        self._jobs[ticket] = job
        if not job.missing:
            self._complete(job)
        for i, state in enumerate(request.states):
            for j, seed in enumerate(request.seeds[i]):
                if ticket in self._jobs:  # it may have failed already
                    self._ask(_Sample(job, (i, j), seed, state))

    def poll(self) -> Sequence[tuple[int, Proposed | Exception]]:
        """Take the replies that have come, or wait for one a moment; return what is complete."""
        if self._flying:
            for key, outcome in self._client.collect(0.0 if self._done else _WAIT):
                sample = self._flying.pop(key, None)  # type: ignore[call-overload]
                if sample is None:
                    continue  # cancelled
                try:
                    self._arrived(sample, outcome)
                except Exception as error:  # of the environment, or the outcome itself
                    self._fail(sample.job, error)
        done, self._done = self._done, []
        return [(job.ticket, reply) for job, reply in done]

    def partial(self, ticket: int) -> Proposed | None:
        """What there is of a reply that is not complete."""
        job = self._jobs.get(ticket)
        return None if job is None else job.partial(self.parameters)

    def cancel(self, scope: str) -> None:
        """Drop the requests of a search; the server is told by closing their connections."""
        for job in [job for job in self._jobs.values() if job.request.scope == scope]:
            self._drop(job)
        self._done = [(job, reply) for job, reply in self._done if job.request.scope != scope]

    def close(self) -> None:
        """Drop everything, connections included; the policy may be used again."""
        for job in list(self._jobs.values()):
            self._drop(job)
        self._done = []
        self._client.close()

    def _drop(self, job: Job) -> None:
        keys = [key for key, sample in self._flying.items() if sample.job is job]
        self._client.cancel(keys)
        for key in keys:
            del self._flying[key]
        del self._jobs[job.ticket]

    def _fail(self, job: Job, error: Exception) -> None:
        if job.ticket in self._jobs:
            self._drop(job)
            self._done.append((job, error))

    def _complete(self, job: Job) -> None:
        del self._jobs[job.ticket]
        self._done.append((job, job.reply(self.parameters)))

    # ---------------------------------------------------------------------------------------------------- asking

    def _ask(self, sample: _Sample) -> None:
        """Ask for what comes next: the end of the thinking, of the step, or of the solution."""
        options = self.options
        thinking = is_thinking(sample.text, self._opened(sample.state))
        budget = 0 if self._chats else options.thinking_tokens
        if thinking and budget and len(sample.ends) >= budget:
            self._write(sample, CLOSE)
            thinking = False
        spent = sum(step.tokens for step in sample.state.steps) + len(sample.ends) + sample.hidden
        left = options.solution_tokens - spent
        if (most := sample.job.request.tokens) is not None:
            before = sum(step.tokens for step in sample.job.request.states[sample.place[0]].steps)
            written = bool(sample.made or sample.text)  # a sample has at least a token
            left = min(left, max(most - (spent - before), 0 if written else 1))
        if thinking:
            stop: tuple[str, ...] = (THOUGHT,)
            left = min(left, budget - len(sample.ends)) if budget else left
        elif sample.job.request.max_steps is None or sample.job.request.open_loop:
            stop = tuple(options.stop)
        else:
            stop = (*self._delimiters(sample), *options.stop)
            left = min(left, options.step_tokens - self._spoken(sample))
        prompt = self._prompt(sample.state, sample.text)
        if self.model.context is not None:
            left = min(left, self._room(self.model.context, prompt))
        if left < 1:
            self._full(sample, f"the prompt of {sample.state.problem.id} has no room in the context of {self.name!r}")
            return
        seed = sample.seed if not sample.asked else _later_seed(sample.seed, sample.asked)
        sample.most = min(left, sample.most or left)
        sampling = Sampling(
            tokens=1 if sample.trying else sample.most,
            temperature=sample.job.request.temperature,
            seed=seed,
            stop=stop,
            top_p=options.top_p,
            top_k=options.top_k,
            logprobs=self._logprobs,
            alternatives=self._top,
        )
        self._send(sample, prompt, sampling)

    def _send(self, sample: _Sample, prompt: Prompt, sampling: Sampling) -> None:
        options, extra = self.options, dict[str, Any]()
        if self._dialogue is not None and self.model.kind.stop_ids:
            extra["stop_token_ids"] = sorted(self._dialogue.ends)
        if self._chats and options.thinking is not None and self.model.kind.template_options:
            extra["chat_template_kwargs"] = {"enable_thinking": options.thinking, "thinking": options.thinking}
        if self._chats and options.thinking_tokens:
            extra[self.model.kind.thinking_budget] = options.thinking_tokens
        key = next(self._keys)
        self._flying[key] = sample
        self._client.submit(key, *request_of(self.model, prompt, sampling, extra))

    @property
    def open_loop(self) -> bool:
        """Whether the model ends its solutions itself; one that only continues a text needs the environment for it."""
        return self.options.chat is not False

    @property
    def _chats(self) -> bool:
        """Whether the server renders the prompts."""
        return self._dialogue is None and self.options.chat is not False

    def _room(self, context: int, prompt: Prompt) -> int:
        """Tokens that the context has room for beside a prompt, whose length is known only if it is of token ids.

        Where the most that it can take matters little, that much is left for it; else the server finds out.
        """
        if self._dialogue is not None:
            return context - len(prompt)
        most = longest(prompt) + _MARGIN
        return context - (most if most <= context // 4 else 1)

    def _prompt(self, state: State, text: str) -> Prompt:
        """A state and what was written since, in the form that the server is to go on from."""
        if self._dialogue is not None:
            return [*self._dialogue.ids(state), *self._dialogue.inside(text)]
        if self.options.chat is False:
            written = own_text(self.environment, state.steps, self.options.prefill)
            return opening(self.environment, state) + written + text
        turns = messages(self.environment, state, self.options)
        if text and turns[-1]["role"] == "assistant":
            turns[-1] = {"role": "assistant", "content": turns[-1]["content"] + text}
        elif text:
            turns.append({"role": "assistant", "content": text})
        return turns

    def _opened(self, state: State) -> bool:
        """Whether the prompt of a state ends in the middle of thinking."""
        if state.steps:
            return False
        if self._dialogue is not None:
            return self._dialogue.opened
        return bool(self.options.thinking) or self.options.prefill.rstrip().endswith(THINK)

    def _delimiters(self, sample: _Sample) -> tuple[str, ...]:
        r"""What a step ends with, for the server to stop at; in both forms where the model ends lines with \r\n."""
        delimiter = self.environment.delimiter
        written = re.sub(r"\r*\n", "\r\n", delimiter)
        ends_so = "\r\n" in sample.text or any("\r\n" in step.closing for step in sample.state.steps)
        if written.endswith(delimiter) or not ends_so or len(self.options.stop) + 2 > _MOST_STOPS:
            return (delimiter,)
        return delimiter, written

    def _spoken(self, sample: _Sample) -> int:
        """Tokens of the step under way that are no thinking."""
        delimiter, opened = self.environment.delimiter, self._opened(sample.state)
        found = cut(sample.text, delimiter, opened=opened, over="length")
        return len(sample.ends) - (self._thought(sample, found) if found else 0)

    # -------------------------------------------------------------------------------------------------- receiving

    def _arrived(self, sample: _Sample, outcome: Written | Exception) -> None:
        """Go on from what a request led to."""
        if sample.doubt is not None:
            self._settle(sample, outcome, *sample.doubt)
            return
        if isinstance(outcome, ServerRefused) and says_no_room(outcome.words):
            self._refused(sample, outcome)
            return
        if isinstance(outcome, Exception):
            raise outcome
        self._count(sample, outcome)
        if sample.trying:
            self._tried(sample, outcome)
            return
        sample.asked, sample.most, sample.refused = sample.asked + 1, 0, 0
        again = not self._proven and self._is_again(sample, outcome.text)
        over = self._add(sample, outcome)
        if sample.blank > 1 and outcome.prompt is not None and outcome.prompt == sample.prompt:
            raise ValueError(
                f"the chat template of {self.model.name} drops space at the end of the assistant's message, so its"
                " server cannot go on from there; give the model's tokenizer"
            )
        sample.prompt, sample.last = outcome.prompt, outcome.text
        if again:
            self._doubt(sample, over)
        else:
            self._cut(sample, "length" if over is None and sample.blank > _MOST_BLANK else over)

    def _refused(self, sample: _Sample, refusal: ServerRefused) -> None:
        """There is no room for what was asked: ask for one token, which tells how much there is, or whether any."""
        sample.refused += 1
        if sample.trying or sample.most == 1:
            self._full(sample, refusal)
        elif sample.refused == 1:
            sample.trying = True
            self._ask(sample)
        else:
            sample.most = max(1, sample.most * 3 // 4)
            self._ask(sample)

    def _tried(self, sample: _Sample, outcome: Written) -> None:
        """There is room for one token: ask for as many as fit, if that is known now, or else for some fewer."""
        sample.trying = False
        sample.hidden += outcome.generated or 1
        fewer = max(1, sample.most * 3 // 4)
        if self.model.context is not None and outcome.prompt is not None:
            room = self.model.context - outcome.prompt
            fewer = room if 0 < room < sample.most else fewer
        sample.most = fewer
        self._ask(sample)

    def _full(self, sample: _Sample, why: ServerRefused | str) -> None:
        """The context has no room for another token: the end of a solution, but a problem must fit."""
        if sample.state.steps or sample.text:
            self._cut(sample, "length")
        else:
            self._fail(sample.job, why if isinstance(why, Exception) else ValueError(why))

    def _count(self, sample: _Sample, outcome: Written) -> None:
        """Charge a prompt, and say what is odd about a reply."""
        if outcome.prompt is not None:
            sample.job.prefilled += max(0, outcome.prompt - outcome.cached)
        if outcome.generated is None or outcome.prompt is None:
            self._warn(
                "{} leaves counts of tokens out of its replies: prompts then cost nothing, and what was generated is"
                " counted by its log-probabilities, or as one token where there are none"
            )
        if not outcome.believed:
            self._warn("{} counts more tokens than there can be; the most that there can be are charged instead")
        if outcome.reason:
            self._warn("{} ended a reply for the reason {!r}: such a sample counts as cut", outcome.reason)

    def _is_again(self, sample: _Sample, text: str) -> bool:
        """Whether a reply is what came before it: the model repeats itself, or its server begins anew each time.

        Of a short reply that is not asked before it came several times: models do write "Go on." twice.
        """
        said = text.strip()
        before = [sample.last, *(step.text for step in reversed(sample.state.steps))]
        if not sample.last:
            del before[0]
        elif len(before) > 1 and before[1].strip() == sample.last.strip():
            del before[1]  # the step that the last reply is
        repeated = len(list(itertools.takewhile(lambda each: each.strip() == said, before)))
        return not sample.text.strip() and len(said) > 1 and len(said) * repeated >= 2 * _TOLD

    def _doubt(self, sample: _Sample, over: Finish | None) -> None:
        """Ask what follows the first half of the last reply: the second half, if the server goes on with a message."""
        sample.doubt = (over,)
        half, _ = _halves(sample.last)
        prompt = self._prompt(sample.job.request.states[sample.place[0]], half)
        self._send(sample, prompt, Sampling(2 * _TOLD, seed=sample.seed, logprobs=self._logprobs))

    def _settle(self, sample: _Sample, outcome: Written | Exception, over: Finish | None) -> None:
        """Refuse a server that begins anew, whatever the assistant's message says; else go on where it was doubted."""
        sample.doubt = None
        if isinstance(outcome, Written):
            self._count(sample, outcome)
            sample.hidden += outcome.generated or 1
            came = (outcome.thought + outcome.text).strip()
            first, second = (text.strip()[:_TOLD] for text in (sample.last, _halves(sample.last)[1]))
            self._proven = came.startswith(second)
            if came.startswith(first) and not self._proven:
                raise ValueError(
                    f"{self._client.base_url} does not go on with the assistant's message, but begins anew each time"
                    f" ({printable(sample.last, 80)!r} again): the chat template of {self.model.name} must leave the"
                    " last message open; correct it, or take a server that takes the model's tokenizer"
                )
        elif not (isinstance(outcome, ServerRefused) and says_no_room(outcome.words)):
            raise outcome
        self._cut(sample, over)

    def _add(self, sample: _Sample, written: Written) -> Finish | None:
        """Add to a sample what was written, and tell how it ended: None for a stop string, which may not be the end."""
        thinking = is_thinking(sample.text, self._opened(sample.state))
        text, over = written.text, ("length" if written.cut else None if written.stop else "answer")
        if written.thought:
            closed = THOUGHT if written.text or over == "answer" else ""
            text = THINK * (not thinking) + written.thought + closed + written.text
        elif over == "answer" and not written.told:
            if thinking:
                text, over = text + THOUGHT, None
            elif not self._answers(sample, text):
                text, over = text + self._delimiters(sample)[-1], None
        start = len(sample.text)
        count = written.generated or 1
        if len(written.pieces) != count:  # without them no more than one for a byte is laid out
            shown = min(count, len(text.encode("utf-8", "replace")) + 1)
            sample.hidden, count = sample.hidden + count - shown, shown
        sample.blank = 0 if text.strip() else sample.blank + 1
        sample.text += text
        sample.ends += [start + end for end in _ends(text, written.pieces, count)]
        sample.logprobs += _spread(written.logprobs, count)
        if self._top:
            sample.certainty += self._certainties(written, count)
        if thinking and not self._chats:
            over = self._think_on(sample, over)
        return over  # type: ignore[return-value]

    def _think_on(self, sample: _Sample, over: str | None) -> str | None:
        """How a reply that was thought ended, under a budget: too early an end is none, and so is the budget's."""
        options, early = self.options, len(sample.ends) < self.options.thinking_least
        if over is None and early and sample.text.endswith(THOUGHT):
            sample.text = sample.text.removesuffix(THOUGHT)
            sample.ends = [min(end, len(sample.text)) for end in sample.ends]
            self._write(sample, WAIT)
        budget = options.thinking_tokens
        if budget and len(sample.ends) >= budget and is_thinking(sample.text, self._opened(sample.state)):
            return None
        return over

    def _write(self, sample: _Sample, text: str) -> None:
        """Add a text that the model did not write; it counts as a token."""
        sample.text += text
        sample.ends.append(len(sample.text))
        sample.logprobs.append(0.0)
        if self._top:
            sample.certainty += sample.certainty[-1:] or [(0.0, 0.0)]

    def _answers(self, sample: _Sample, text: str) -> bool:
        """Whether a model ended its answer here, or else a step, where the server does not say: as the text reads."""
        if not (sample.text + text).strip():
            return True
        last = Step(sample.text + text, 1, 0.0, "answer")
        return self.environment.answer(sample.state.then(last)) is not None

    def _cut(self, sample: _Sample, over: Finish | None) -> None:
        """Cut the steps that are complete from what was written, follow them, and finish the sample or ask for more."""
        begin = taken = 0  # characters and tokens of the steps that are cut
        while (first := self._first(sample, over, begin, taken)) is not None:
            found, count = first
            paid, sample.hidden = max(count + sample.hidden, 1), 0
            logprob = sum(sample.logprobs[taken : taken + count])
            certainty = tuple(sample.certainty[taken : taken + count])
            step = Step(
                found.text, paid, logprob, found.finish, "", found.thinking, certainty=certainty, closing=found.closing
            )
            taken += count
            unread = len(sample.ends) - taken
            sample.made += 1
            if sample.made == sample.job.request.max_steps:  # where the last step leads is not asked here
                self._finish(sample, step, unread)
                return
            after = self._after(sample, step)
            if after.status != "running":
                self._finish(sample, after.state.steps[-1], unread)
                return
            seen = bool(after.state.steps[-1].observation)
            if found.end is None or seen:  # what was written after an observation was written without it
                step = replace(after.state.steps[-1], tokens=step.tokens + unread)
                sample.state = sample.state.then(step)
                begin, taken, over = len(sample.text), len(sample.ends), None
            else:
                sample.state, begin = after.state, begin + found.end
            sample.blank = 0
            if begin == len(sample.text) and over is None:
                break
        sample.text, sample.logprobs = sample.text[begin:], sample.logprobs[taken:]
        sample.certainty = sample.certainty[taken:]
        sample.ends = [max(end - begin, 0) for end in sample.ends[taken:]]
        self._ask(sample)

    def _after(self, sample: _Sample, step: Step) -> Transition:
        """Where a step leads; in an open loop, by what the model did."""
        if not sample.job.request.open_loop:
            sample.transitions += (led := self.environment.step(sample.state, step),)
            return led
        after = sample.state.then(step)
        return transition(after) if step.finish == "step" else termination(after)

    def _first(self, sample: _Sample, over: Finish | None, begin: int, taken: int) -> tuple[Cut, int] | None:
        """The first step after so many characters and tokens, and the tokens that are its; None while it may go on."""
        delimiter, stop, opened = self.environment.delimiter, self.options.stop, self._opened(sample.state)
        found = cut(sample.text[begin:], delimiter, stop, opened=opened, over=over)
        if found is None:
            return None
        count = len(sample.ends) - taken
        if found.end is not None:
            count = min(bisect_left(sample.ends, begin + found.end, taken) + 1 - taken, count)
        most = self._thought(sample, found, begin, taken) + self.options.step_tokens
        if count <= most:
            return found, count
        shorter = cut(sample.text[begin : sample.ends[taken + most - 1]], delimiter, stop, opened=opened, over="length")
        assert shorter is not None
        return shorter, most

    def _thought(self, sample: _Sample, found: Cut, begin: int = 0, taken: int = 0) -> int:
        """Tokens of the thinking before a step."""
        return bisect_left(sample.ends, begin + len(found.thinking), taken) + 1 - taken if found.thinking else 0

    def _finish(self, sample: _Sample, step: Step, unread: int) -> None:
        """The sample is complete; tokens that were generated after its last step are charged to that."""
        steps = sample.state.then(replace(step, tokens=step.tokens + unread)).steps[-sample.made :]
        generated = sum(each.tokens for each in steps)
        if sample.job.finish(sample.place, steps, generated, transitions=sample.transitions):
            self._complete(sample.job)

    def _certainties(self, written: Written, count: int) -> list[Certainty]:
        """Of each of `count` tokens; evenly taken where the server tells of another number of them.

        Raises:
            ValueError: the server tells no likeliest tokens.
        """
        told = [certainty_of(list(tops.values()), self._top) for tops in written.alternatives if tops]
        if count and not told:
            raise ValueError(
                f"{self._client.base_url} tells no log-probabilities of the likeliest tokens of {self.model.name},"
                " which the confidence is read from; take another verifier, or measure=perplexity"
            )
        return [told[index * len(told) // count] for index in range(count)]

    def _warn(self, message: str, *values: str) -> None:
        """Say something of the server, once."""
        if message not in self._warned:
            self._warned.add(message)
            logger.warning(message, self._client.base_url, *values)


def _halves(text: str) -> tuple[str, str]:
    """A text in two, without the space around it and between them."""
    text = text.strip()
    first = text[: len(text) // 2].rstrip()
    return first, text[len(first) :].lstrip()


def _later_seed(seed: int, index: int) -> int:
    """The seed of a later request of a sample."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=8).digest(), "big")


def _ends(text: str, pieces: Sequence[str], count: int) -> list[int]:
    """Where in a text each of its tokens ends: by their own lengths, or evenly where those do not add up to it."""
    if len(pieces) == count and (joined := "".join(pieces)).startswith(text):
        ends = list(itertools.accumulate(map(len, pieces)))
        return ends if len(joined) == len(text) else [min(end, len(text)) for end in ends]
    return [len(text) * (index + 1) // count for index in range(count)]


def _spread(logprobs: Sequence[float], count: int) -> list[float]:
    """The log-probabilities of `count` tokens; evenly spread where there are not as many."""
    return list(logprobs) if len(logprobs) == count else [sum(logprobs) / count] * count
