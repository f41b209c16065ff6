"""A policy for guarded environments: steps come from the policy inside, transitions from the environment, in parallel.

A policy that goes on for several steps has to ask the environment after each, and all that it works on waits for the
reply. Here it is asked for one step at a time, for which it needs no transition, or, if it can do that, for whole
solutions in an open loop. The transitions run in the threads of `envs.guarded.Guarded`, and each trajectory goes on as
soon as its own is there. The search then finds every transition done: the one that failed too, and that is where its
failure is raised, in that search and no other.

An environment that answers steps (a tool) must be asked before the model goes on. Whether it does is seen at the first
step, which is drawn by itself, and said by an attribute `observes`: where that is False the whole solution is one
request, where it is True each step is one. What was written after the trajectory ended, or after an observation that
the model could not see, is dropped and charged to the last step that holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from envs.core import Observer, State, Step
from envs.guarded import Call, Guarded
from policies.core import OpenLoopSampler, Policy, Propose, Proposed, Usage
from policies.service import Identified

_WAIT = 0.02  # seconds that a poll may wait for transitions when there is nothing else to do


@dataclass
class _Job:
    """A request under way."""

    ticket: int
    request: Propose
    samples: list[list[tuple[Step, ...]]]
    missing: int
    usage: Usage = field(default_factory=Usage)


@dataclass
class _Sample:
    """A sample under way.

    Args:
        job: it belongs to.
        place: there.
        state: where its last transition led.
        steps: those it has so far, the one whose transition is under way included.
        ahead: those that are written and were not tried yet.
    """

    job: _Job
    place: tuple[int, int]
    state: State
    steps: tuple[Step, ...] = ()
    ahead: tuple[Step, ...] = ()

    @property
    def left(self) -> int | None:
        """Tokens that it may still take (`Propose.tokens`)."""
        most = self.job.request.tokens
        return None if most is None else max(0, most - sum(step.tokens for step in self.steps))


class StepByStep:
    """A `Policy` around another one.

    The first step of a sample, or all of an open loop, is drawn with its own seed, as without this; each later one with
    a seed derived from that and its number, so that a sample still is a function of state, seed and temperature.

    Args:
        policy: proposes the steps.
        environment: makes the transitions.
    """

    def __init__(self, policy: Policy, environment: Guarded) -> None:
        self.policy = policy
        self.environment = environment
        self.name = policy.name
        self.parameters = policy.parameters
        observes = environment.observes if isinstance(environment, Observer) else None
        self._observes: bool | None = observes  # None: it does not say
        self._open_loop = isinstance(policy, OpenLoopSampler) and policy.open_loop and not self._observes
        self._tickets = 0
        self._jobs: dict[int, _Job] = {}
        self._asked: dict[int, list[_Sample]] = {}  # by ticket of the policy inside, in the order of its request
        self._moving: list[tuple[_Sample, Call]] = []
        self._begun: dict[str, list[Call]] = {}  # by scope: held until the search is over, as it will ask for them

    def digest(self) -> str:
        """That of the policy inside."""
        return self.policy.digest() if isinstance(self.policy, Identified) else ""

    # ------------------------------------------------------------------------------------------------ the contract

    def submit(self, ticket: int, request: Propose) -> None:
        """Queue a request; raises ValueError when its ticket is in use, and what the policy inside raises."""
        if ticket in self._jobs:
            raise ValueError(f"ticket {ticket} is in use")
        job = _Job(ticket, request, [[()] * len(seeds) for seeds in request.seeds], sum(map(len, request.seeds)))
        samples = [
            _Sample(job, (i, j), state) for i, state in enumerate(request.states) for j in range(len(request.seeds[i]))
        ]
        if samples:
            self._ask(self._next(request), samples)
        self._jobs[ticket] = job

    def poll(self) -> Sequence[tuple[int, Proposed | Exception]]:
        """Let the policy work, then go on with the transitions that are over; return what is complete."""
        failed: list[tuple[int, Exception]] = []
        if self._asked:
            for ticket, reply in self.policy.poll():
                if ticket not in self._asked:
                    continue
                samples = self._asked.pop(ticket)
                if not isinstance(reply, Exception):
                    self._proposed(samples, reply)
                elif self._jobs.pop(samples[0].job.ticket, None) is not None:
                    failed.append((samples[0].job.ticket, reply))
        elif self._moving:
            self.environment.wait(_WAIT)
        moving, self._moving = self._moving, []
        for sample, call in moving:
            if call.over():
                self._moved(sample, call)
            else:
                self._moving.append((sample, call))
        done = [job for job in self._jobs.values() if not job.missing]
        for job in done:
            del self._jobs[job.ticket]
        return [*failed, *((job.ticket, Proposed(tuple(map(tuple, job.samples)), job.usage)) for job in done)]

    def partial(self, ticket: int) -> Proposed | None:
        """What there is of a reply that is not complete: whole samples, none of their steps alone."""
        job = self._jobs.get(ticket)
        return None if job is None else Proposed(tuple(map(tuple, job.samples)), job.usage)

    def cancel(self, scope: str) -> None:
        """Drop the requests of a search, and let go of its transitions."""
        self._jobs = {ticket: job for ticket, job in self._jobs.items() if job.request.scope != scope}
        self._asked = {
            ticket: samples for ticket, samples in self._asked.items() if samples[0].job.request.scope != scope
        }
        self._moving = [(sample, call) for sample, call in self._moving if sample.job.request.scope != scope]
        for call in self._begun.pop(scope, ()):
            self.environment.release(call)
        self.policy.cancel(scope)

    def close(self) -> None:
        """Drop everything; the policy inside is closed too."""
        for scope in {job.request.scope for job in self._jobs.values()} | set(self._begun):
            self.cancel(scope)
        self.policy.close()

    # ---------------------------------------------------------------------------------------------------- the work

    def _next(self, request: Propose) -> Propose:
        """What to ask the policy inside: for a step, or for all that is left where the environment answers none."""
        if self._open_loop and request.max_steps is None and all(map(self._is_silent, request.states)):
            depth = min(len(state.steps) for state in request.states)
            return replace(request, max_steps=max(1, self.environment.max_steps - depth), open_loop=True)
        return replace(request, max_steps=1)

    def _is_silent(self, state: State) -> bool:
        """Whether the environment answered none of the steps of a state, of which there is one unless it says so."""
        return not any(step.observation for step in state.steps) and (self._observes is False or bool(state.steps))

    def _ask(self, request: Propose, samples: list[_Sample]) -> None:
        self._tickets += 1
        self.policy.submit(self._tickets, request)
        self._asked[self._tickets] = samples

    def _proposed(self, samples: list[_Sample], reply: Proposed) -> None:
        """Begin the transitions of the steps that came."""
        job = samples[0].job
        job.usage += reply.usage
        for sample, steps in zip(samples, (steps for each in reply.samples for steps in each), strict=True):
            sample.ahead = steps
            self._advance(sample)

    def _advance(self, sample: _Sample) -> None:
        """Begin the transition of the next step."""
        step, *ahead = sample.ahead
        sample.ahead = tuple(ahead)
        step = replace(step, observation="")  # it is the environment's to make
        sample.steps += (step,)
        self._begin(sample, step)

    def _begin(self, sample: _Sample, step: Step) -> None:
        call = self.environment.begin(sample.state, step)
        self._begun.setdefault(sample.job.request.scope, []).append(call)
        self._moving.append((sample, call))

    def _drop(self, sample: _Sample) -> None:
        """Let the last step that holds pay for those that do not; its transition is another one then."""
        *before, last = sample.steps
        last = replace(last, tokens=last.tokens + sum(step.tokens for step in sample.ahead))
        sample.steps, sample.ahead = (*before, last), ()
        self._begin(sample, last)

    def _moved(self, sample: _Sample, call: Call) -> None:
        """Go on from where a transition led, or finish; after one that failed, the search meets the failure."""
        job, (i, j) = sample.job, sample.place
        running = call.failure is None and call.value.status == "running"
        if sample.ahead and call.failure is None:
            if running and not call.value.state.steps[-1].observation:
                sample.state = call.value.state
                self._advance(sample)
            else:
                self._drop(sample)
            return
        if running and len(sample.steps) != job.request.max_steps and sample.left != 0:
            sample.state = call.value.state
            seeds = ((_seed(job.request.seeds[i][j], len(sample.steps)),),)
            rest = replace(job.request, states=(sample.state,), seeds=seeds, tokens=sample.left)
            try:
                self._ask(self._next(rest), [sample])
                return
            except ValueError:  # the policy has no room for more: the trajectory stays open
                pass
        job.samples[i][j] = sample.steps
        job.missing -= 1


def _seed(seed: int, index: int) -> int:
    """The seed of a later step of a sample, 64 bits."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=8).digest(), "big")
