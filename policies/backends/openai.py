"""Language models behind a server that speaks the OpenAI protocol: vLLM, SGLang, llama.cpp, Ollama and others.

One request for each sample, with its seed, many in flight at once (`policies.models.http_client`). A state is
continued, never asked about anew: as token ids made here when a tokenizer is given, else as the assistant's own
message, which the server is told to go on with. The server keeps the prefixes; what it says it did not run again is not
charged.
"""

from __future__ import annotations

import hashlib
import itertools
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

from loguru import logger

from envs.core import Environment, Finish, State, Step, opening
from envs.options import Above, AtLeast, Group
from policies.core import Propose, Proposed
from policies.generation.chat import Dialogue, messages, own_text
from policies.generation.options import SamplingOptions
from policies.generation.requests import Job
from policies.generation.step_splitter import THINK, THOUGHT, Cut, cut, is_thinking
from policies.models.http_client import Client, Limits, ServerRefused
from policies.models.openai_protocol import Prompt, Sampling, Written, find_model, request_of

_WAIT = 0.02  # seconds that a poll may wait for replies
_MOST_BLANK = 3  # requests in a row that bring nothing but blanks


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
        asked: requests answered in all, and `blank` of them since the last that brought more than blanks.
        prompt: tokens of the last one's prompt, if known.
        most: tokens that the next request asks for at most, once the context has proved too small; 0 before.
    """

    job: Job
    place: tuple[int, int]
    seed: int
    state: State
    made: int = 0
    text: str = ""
    ends: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    asked: int = 0
    blank: int = 0
    prompt: int | None = None
    most: int = 0


class ServedPolicy:
    """A model behind a server as a `Policy`.

    Args:
        model: as the server calls it; may be left empty where the server has but one.
        environment: whose problems it continues; ends steps and trajectories.
        options: of sampling.
        name: in records; by default the last part of the model's.
        base_url: of the server, with its version.
        server: its kind, one of `policies.models.openai_protocol.KINDS`; ``auto`` asks it.
        tokenizer: folder or hub id of the model's tokenizer. Prompts are then rendered here and sent as token ids,
            which is exact whatever a template does to a message; without it the server's chat template is used.
        parameters: of the model, for FLOPs; 0 takes what the server says, if it says.
        key_variable: the environment variable that holds the API key, if the server wants one.
        logprobs: whether to ask for log-probabilities; without them those of steps are 0.
        connections, timeout, patience, pause, longest_pause: see `policies.models.http_client.Limits`.

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
        connections: Annotated[int, AtLeast(1)] = Limits.connections,
        timeout: Annotated[float, Above(0)] = Limits.timeout,
        patience: Annotated[float, AtLeast(0)] = Limits.patience,
        pause: Annotated[float, Above(0)] = Limits.pause,
        longest_pause: Annotated[float, Above(0)] = Limits.longest_pause,
    ) -> None:
        self.environment = environment
        self.options = options or SamplingOptions()
        self._logprobs = logprobs
        self._dialogue = None
        if tokenizer is not None:
            from transformers import AutoTokenizer  # imported by those who need it only

            self._dialogue = Dialogue(AutoTokenizer.from_pretrained(tokenizer), environment, self.options)
        limits = Limits(connections, timeout, patience, pause, longest_pause)
        self._client = Client(base_url, limits, key_variable)
        try:
            self.model = find_model(self._client, model, server)
            self._check()
        except BaseException:
            self._client.close()
            raise
        self.name = name or self.model.name.rstrip("/").rpartition("/")[2]
        self.parameters = parameters or self.model.parameters
        self._keys = itertools.count()
        self._jobs: dict[int, Job] = {}
        self._flying: dict[int, _Sample] = {}  # by key of the client
        self._done: list[tuple[Job, Proposed | Exception]] = []
        self._warned = False

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
        if options.top_k and not kind.top_k:
            raise ValueError(f"top_k is {options.top_k}, and this server takes none; set it there")
        if options.stop and not kind.stopped_by:
            raise ValueError(
                "this server does not say which stop string it met: give no stop, the model ends its answer"
            )

    # ------------------------------------------------------------------------------------------------ the contract

    def submit(self, ticket: int, request: Propose) -> None:
        """Queue a request; raises ValueError when it is malformed or its ticket is in use (`Job.of`)."""
        job = Job.of(ticket, request, self._jobs)
        self._jobs[ticket] = job
        if not job.missing:
            self._complete(job)
        for i, state in enumerate(request.states):
            for j, seed in enumerate(request.seeds[i]):
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
        options, delimiter = self.options, self.environment.delimiter
        left = options.solution_tokens - sum(step.tokens for step in sample.state.steps) - len(sample.ends)
        if is_thinking(sample.text, self._opened(sample.state)):
            stop: tuple[str, ...] = (THOUGHT,)
        elif sample.job.request.max_steps is None:
            stop = tuple(options.stop)
        else:
            stop, left = (delimiter, *options.stop), min(left, options.step_tokens - self._spoken(sample))
        prompt = self._prompt(sample.state, sample.text)
        if self.model.context is not None:  # how long a prompt is that the server renders, it alone knows
            left = min(left, self.model.context - (1 if self._dialogue is None else len(prompt)))
        if left < 1:
            self._cut(sample, "length")
            return
        seed = sample.seed if not sample.asked else _later_seed(sample.seed, sample.asked)
        sample.most = min(left, sample.most or left)
        sampling = Sampling(
            tokens=sample.most,
            temperature=sample.job.request.temperature,
            seed=seed,
            stop=stop,
            top_p=options.top_p,
            top_k=options.top_k,
            logprobs=self._logprobs,
        )
        path, body, read = request_of(self.model, prompt, sampling)
        if self._dialogue is not None and self.model.kind.stop_ids:
            body["stop_token_ids"] = sorted(self._dialogue.ends)
        if "messages" in body and options.thinking is not None and self.model.kind.template_options:
            body["chat_template_kwargs"] = {"enable_thinking": options.thinking, "thinking": options.thinking}
        key = next(self._keys)
        self._flying[key] = sample
        self._client.submit(key, path, body, read)

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

    def _spoken(self, sample: _Sample) -> int:
        """Tokens of the step under way that are no thinking."""
        delimiter, opened = self.environment.delimiter, self._opened(sample.state)
        found = cut(sample.text, delimiter, opened=opened, over="length")
        return len(sample.ends) - (self._thought(sample, found) if found else 0)

    # -------------------------------------------------------------------------------------------------- receiving

    def _arrived(self, sample: _Sample, outcome: Written | Exception) -> None:
        """Go on from what a request led to."""
        if isinstance(outcome, ServerRefused) and _says_full(outcome):
            if sample.most > 1:
                sample.most = sample.most * 3 // 4  # the context has not that much room
                self._ask(sample)
            else:
                self._cut(sample, "length")
            return
        if isinstance(outcome, Exception):
            raise outcome
        sample.asked, sample.most = sample.asked + 1, 0
        if outcome.prompt is not None:
            sample.job.prefilled += max(0, outcome.prompt - outcome.cached)
        if outcome.generated is None or outcome.prompt is None:
            self._warn()
        over = self._add(sample, outcome)
        if sample.blank > 1 and outcome.prompt is not None and outcome.prompt == sample.prompt:
            raise ValueError(
                f"the chat template of {self.model.name} drops space at the end of the assistant's message, so its"
                " server cannot go on from there; give the model's tokenizer"
            )
        sample.prompt = outcome.prompt
        self._cut(sample, "length" if over is None and sample.blank > _MOST_BLANK else over)

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
                text, over = text + self.environment.delimiter, None
        count = written.generated or 1
        start = len(sample.text)
        sample.blank = 0 if text.strip() else sample.blank + 1
        sample.text += text
        sample.ends += [start + end for end in _ends(text, written.pieces, count)]
        sample.logprobs += _spread(written.logprobs, count)
        return over  # type: ignore[return-value]

    def _answers(self, sample: _Sample, text: str) -> bool:
        """Whether a model ended its answer here, or else a step, where the server does not say: as the text reads."""
        if not (sample.text + text).strip():
            return True
        last = Step(sample.text + text, 1, 0.0, "answer")
        return self.environment.answer(sample.state.then(last)) is not None

    def _cut(self, sample: _Sample, over: Finish | None) -> None:
        """Cut the steps that are complete from what was written, follow them, and finish the sample or ask for more."""
        while (first := self._first(sample, over)) is not None:
            found, count = first
            step = Step(found.text, max(count, 1), sum(sample.logprobs[:count]), found.finish, thinking=found.thinking)
            unread = len(sample.ends) - count
            sample.made += 1
            if sample.made == sample.job.request.max_steps:  # where the last step leads is not asked here
                self._finish(sample, step, unread)
                return
            after = self.environment.step(sample.state, step)
            if after.status != "running":
                self._finish(sample, after.state.steps[-1], unread)
                return
            seen = bool(after.state.steps[-1].observation)
            if found.end is None or seen:  # what was written after an observation was written without it
                step = replace(after.state.steps[-1], tokens=step.tokens + unread)
                sample.state = sample.state.then(step)
                sample.text, sample.ends, sample.logprobs, over = "", [], [], None
            else:
                sample.state, sample.text = after.state, sample.text[found.end :]
                sample.ends = [max(end - found.end, 0) for end in sample.ends[count:]]
                sample.logprobs = sample.logprobs[count:]
            sample.blank = 0
            if not sample.text and over is None:
                break
        self._ask(sample)

    def _first(self, sample: _Sample, over: Finish | None) -> tuple[Cut, int] | None:
        """The first step of what was written and how many of the tokens are its; None while it may go on."""
        delimiter, stop, opened = self.environment.delimiter, self.options.stop, self._opened(sample.state)
        found = cut(sample.text, delimiter, stop, opened=opened, over=over)
        if found is None:
            return None
        count = len(sample.ends)
        if found.end is not None:
            count = min(bisect_left(sample.ends, found.end) + 1, count)
        most = self._thought(sample, found) + self.options.step_tokens
        if count <= most:
            return found, count
        shorter = cut(sample.text[: sample.ends[most - 1]], delimiter, stop, opened=opened, over="length")
        assert shorter is not None
        return shorter, most

    def _thought(self, sample: _Sample, found: Cut) -> int:
        """Tokens of the thinking before a step."""
        return bisect_left(sample.ends, len(found.thinking)) + 1 if found.thinking else 0

    def _finish(self, sample: _Sample, step: Step, unread: int) -> None:
        """The sample is complete; tokens that were generated after its last step are charged to that."""
        steps = sample.state.then(replace(step, tokens=step.tokens + unread)).steps[-sample.made :]
        if sample.job.finish(sample.place, steps, sum(each.tokens for each in steps)):
            self._complete(sample.job)

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "{} leaves counts of tokens out of its replies: prompts then cost nothing, and what was generated is"
                " counted by its log-probabilities, or as one token where there are none",
                self._client.base_url,
            )


def _says_full(refusal: ServerRefused) -> bool:
    """Whether a request was refused because prompt and answer together would not fit the context."""
    return refusal.status in (400, 413, 422) and "context" in str(refusal).lower()


def _later_seed(seed: int, index: int) -> int:
    """The seed of a later request of a sample."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=8).digest(), "big")


def _ends(text: str, pieces: Sequence[str], count: int) -> list[int]:
    """Where in a text each of its tokens ends: by their own lengths, or evenly where those do not add up to it."""
    if len(pieces) == count and "".join(pieces).startswith(text):
        return [min(end, len(text)) for end in itertools.accumulate(map(len, pieces))]
    return [len(text) * (index + 1) // count for index in range(count)]


def _spread(logprobs: Sequence[float], count: int) -> list[float]:
    """The log-probabilities of `count` tokens; evenly spread where there are not as many."""
    return list(logprobs) if len(logprobs) == count else [sum(logprobs) / count] * count
