"""Requests to a policy that runs in this process: their samples, decoded in one loop."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch

from policies.core import Propose, Proposed
from policies.generation.batch import DecodeLoop, DecodeModel, StepEnd
from policies.generation.requests import BrokenModel, Job
from policies.generation.step_stream import Chat, StepWriter, StreamedSample, spent_on
from policies.generation.thought_probe import ThoughtProbe, ThoughtProbes
from policies.memory_traffic import positions_read
from policies.models.prefix_tree import Ids

_SEED = 0xFFFFFFFFFFFFFFFF


class Proposals(StepWriter):
    """Requests in progress: a `policies.generation.batch.SampleText`, and what a `Policy` answers.

    Args:
        name: of the policy, in errors.
        parameters: of the model.
        chat: between texts and ids.
        context: most tokens of a text.
        model: what runs.
        rows: most samples in progress at once.
        steps: most decode steps of one poll.
        seconds: after which it returns, so that a caller can interrupt.
        position: numbers that the keys and values of a token have (`policies.memory_traffic.position_size`).
    """

    def __init__(
        self,
        name: str,
        parameters: int,
        chat: Chat,
        context: int,
        model: DecodeModel,
        rows: int,
        *,
        steps: int,
        seconds: float,
        position: int = 0,
    ) -> None:
        super().__init__(chat, context)
        self.name, self.parameters, self.model = name, parameters, model
        self.loop: DecodeLoop[StreamedSample] = DecodeLoop(model, self, rows, self.options.top_p, self.options.top_k)
        self._steps, self._seconds, self._position = steps, seconds, position
        self._probes = ThoughtProbes(chat, context)
        self._jobs: dict[int, Job] = {}
        self._done: list[Job] = []

    # ------------------------------------------------------------------------------------------------ the contract

    def record_confidence(self, top: int) -> None:
        """Record how sure the model is of each token, by so many of the likeliest, 0 for all."""
        self.loop.top = top

    def submit(self, ticket: int, request: Propose) -> None:
        """Queue a request.

        Raises:
            ValueError: when a state leaves no room in the model's context, the request is malformed (see `Job.of`), the
                ticket is in use, or confidences are recorded and the samples are to be distinct: such a sample has
                tokens that the model was not run for.
        """
        if request.distinct and self.loop.top is not None:
            raise ValueError("distinct samples have no confidences; leave distinct out, or take another verifier")
        job = Job.of(ticket, request, self._jobs)
        ids = [tuple(chain.from_iterable(self.chat.parts(state))) for state in request.states]
        for state, tokens in zip(request.states, ids, strict=True):
            if not 0 < len(tokens) < self.context:
                raise ValueError(
                    f"problem {state.problem.id!r} with {len(state.steps)} steps takes {len(tokens)} tokens; "
                    f"policy {self.name!r} reads 1 to {self.context - 1}"
                )
        self._jobs[ticket] = job
        if not job.missing:
            self._done.append(job)
        ended: dict[Any, Any] = {}
        for i, (state, tokens) in enumerate(zip(request.states, ids, strict=True)):
            spent = spent_on(state)
            for j, seed in enumerate(request.seeds[i]):
                sample = StreamedSample(
                    request.scope, seed & _SEED, request.temperature, tokens,
                    job=job, place=(i, j), state=state, most=self.most(request, spent), spent=spent, ended=ended,
                    context=len(tokens),
                )  # fmt: skip
                self.loop.add(sample, request)

    @torch.inference_mode()
    def poll(self) -> Sequence[tuple[int, Proposed | Exception]]:
        """Decode until a request is complete, for a while at most; return what is complete."""
        until = time.monotonic() + self._seconds
        for _ in range(self._steps):
            if self._done or not self.loop.step() or time.monotonic() > until:
                break
        done, self._done = self._done, []
        for job in done:
            del self._jobs[job.ticket]
        return [(job.ticket, job.reply(self.parameters, self._position)) for job in done]

    def partial(self, ticket: int) -> Proposed | None:
        """What there is of a reply; see `policies.core.PartialReplier`."""
        job = self._jobs.get(ticket)
        return None if job is None else job.partial(self.parameters, self._position)

    @torch.inference_mode()
    def cancel(self, scope: str) -> None:
        """Drop the requests of a search and what was kept for it."""
        self.loop.drop(scope)
        self._done = [job for job in self._done if job.request.scope != scope]
        self._jobs = {ticket: job for ticket, job in self._jobs.items() if job.request.scope != scope}

    def close(self) -> None:
        """Drop everything, the memory included."""
        self._jobs, self._done = {}, []
        self.loop.clear()

    # ------------------------------------------------------------------------------------------------- of the loop

    def begin(self, sample: StreamedSample) -> None:
        """Before the first token of a step; a probe is looked at after each."""
        if not isinstance(sample, ThoughtProbe):
            super().begin(sample)

    def end_step(self, sample: StreamedSample, new: Ids, logprob: float) -> StepEnd | None:
        """Take a step, if the new tokens end one, or an answer that was asked for; or ask for one."""
        if isinstance(sample, ThoughtProbe):
            return StepEnd("end", whole=False) if self._probes.read(sample, new) else None
        end = super().end_step(sample, new, logprob)
        if end is None and (probe := self._probes.due(sample, new)):
            self.loop.resume(probe)
            return StepEnd("wait", whole=False)
        return end

    def known(self, sample: StreamedSample) -> Any:
        """The longest kept prefix: up to its last token, or to the last of a state on the way to it."""
        before = sample.node.kept if sample.node is not None else None
        return self.model.prefixes.nearest(sample.scope, sample.tokens, before, lambda: self._parts(sample))

    def _parts(self, sample: StreamedSample) -> list[Ids]:
        """What the tokens of a sample are made of: the prompt, the steps, the start of the next, a probe's words."""
        parts = self.chat.parts(sample.state)
        if isinstance(sample, ThoughtProbe):
            return [*parts, sample.thinker.new, sample.ids[len(sample.thinker.tokens) :]]
        return [*parts, sample.new]

    def keys(self, sample: StreamedSample, known: int) -> tuple[Ids, ...]:
        """What is run is kept as one prefix."""
        return (sample.tokens[:-1],)

    def charge(self, sample: StreamedSample, tokens: int) -> None:
        """The request of the first sample pays."""
        sample.job.prefilled += tokens

    def broken(self, scopes: set[str]) -> set[str]:
        """Answer the requests of searches by the error that the model is broken."""
        for job in self._jobs.values():
            if job.request.scope in scopes and job.missing:
                job.error = BrokenModel(self.name)
                self._done.append(job)
        return scopes

    def finish(self, sample: StreamedSample, row: int | None) -> None:
        """Take a sample's steps; or of a probe the answer, with which the sample goes on that waits for it."""
        if isinstance(sample, ThoughtProbe):
            sample.job.positions += positions_read(len(sample.ids), 0, sample.drawn)
            self._probes.take(sample)
            self.loop.resume(sample.thinker)
            return
        ended = (sample.place, sample.steps, sample.drawn, sample.known, sample.transitions, sample.context)
        if sample.job.finish(*ended, beside=sample.beside):
            self._done.append(sample.job)
