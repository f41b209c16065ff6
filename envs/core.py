"""The MDP: problems, steps, states, transitions and the environment protocol.

A reasoning problem is an MDP (S, A, P, R, gamma = 1) after Liu et al. 2025 (arXiv 2502.06703, section 2): a state
is the problem with the steps so far, an action is the next step, the transition appends it.
Everything here is frozen: any state can be branched at any time, and nothing needs a deep copy.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from envs.errors import StepwellError

Finish = Literal["step", "answer", "length"]
Status = Literal["running", "terminated", "truncated"]
Split = Literal["train", "calibration", "test"]

Role = Literal["system", "user", "assistant"]

SPLITS: tuple[Split, ...] = ("train", "calibration", "test")


class UnreadableQuestion(StepwellError, ValueError):
    """The environment cannot read a question; the message says what was given and what it can read."""


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation.

    Args:
        role: who speaks.
        text: what is said.
    """

    role: Role
    text: str


@dataclass(frozen=True)
class Problem:
    """One problem.

    Args:
        id: unique within the environment; seeds of samples are derived from it.
        question: as a person would read it.
        answer: the gold answer, or None when unknown. Search never looks at it; only `check` does.
        meta: JSON-ready facts about the problem, e.g. ``{"level": 3}``.
        conversation: the turns before the question, oldest first, that a policy is shown which can be shown turns
            (`policies.core.Converser`). Environments and verifiers look at the question alone.
    """

    id: str
    question: str
    answer: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict, hash=False, compare=False)
    conversation: tuple[Turn, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One step (an action), without the step delimiter that separates it from the next.

    Args:
        text: the step, never containing the environment's delimiter.
        tokens: policy tokens it took to generate it, delimiter or end token included.
        logprob: sum of the log-probabilities of those tokens at temperature 1, in nats.
        finish: ``step`` (stopped at a delimiter), ``answer`` (the policy ended its solution) or ``length`` (cut).
        observation: the environment's reply to the step, if it gives one (a tool's output).
        thinking: what the policy wrote to itself before the step (``<think>...</think>`` and the space after it; blank
            steps, which are none). It belongs to the policy alone: it is no part of the text, and its tokens are among
            `tokens`.
        certainty: for each token how sure the policy was of it, confidence and entropy in nats; empty unless the policy
            was asked to record it (`policies.core.ConfidenceRecorder`). Saved searches leave it out.
        closing: what the policy wrote to end the step, where that is other than the delimiter alone: blank steps after
            it, or other line ends. As of `thinking`, nobody but the policy sees it.
    """

    text: str
    tokens: int = 0
    logprob: float = 0.0
    finish: Finish = "step"
    observation: str = ""
    thinking: str = ""
    certainty: tuple[tuple[float, float], ...] = field(default=(), compare=False, repr=False)
    closing: str = ""


@dataclass(frozen=True)
class State:
    """A problem and the steps taken so far; hashable, never mutated.

    Args:
        problem: what is being solved.
        steps: of this attempt.
        attempts: earlier attempts at the problem, oldest first, that the policy is shown (sequential revision). They
            are context: environments and verifiers look at the problem and the steps alone.
    """

    problem: Problem
    steps: tuple[Step, ...] = ()
    attempts: tuple[tuple[Step, ...], ...] = ()

    def then(self, step: Step) -> State:
        """Return the state one step further; this one is unchanged."""
        return State(self.problem, (*self.steps, step), self.attempts)

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of the steps: what identifies a state to a model."""
        return tuple(step.text for step in self.steps)


@dataclass(frozen=True)
class Transition:
    """What a step led to. Use the constructors `transition`, `termination` and `truncation`.

    Args:
        state: the state after the step.
        reward: R of the MDP, in [0, 1]: how good the step was, as far as the environment can honestly tell a solver
            now; 0 where it tells nothing. Never derived from the gold answer.
        status: ``running``, ``terminated`` (an answer was given) or ``truncated`` (ended without an answer).
    """

    state: State
    reward: float
    status: Status


def transition(state: State, reward: float = 0.0) -> Transition:
    """The trajectory goes on."""
    return Transition(state, reward, "running")


def termination(state: State, reward: float = 0.0) -> Transition:
    """The trajectory ended with an answer."""
    return Transition(state, reward, "terminated")


def truncation(state: State, reward: float = 0.0) -> Transition:
    """The trajectory ended without an answer: it has no vote."""
    return Transition(state, reward, "truncated")


@runtime_checkable
class Environment(Protocol):
    """A domain of problems. All methods are pure: same arguments, same result, nothing mutated.

    Attributes:
        name: as in the registry.
        delimiter: text that ends a step; a step never contains it.
        max_steps: depth at which `step` truncates.

    What else one may offer is declared by `Demonstrator`, `StepChecker`, `StepLister`, `SlowStepper`, `SelfProving`,
    `Observer` and `Reviser`.
    """

    @property
    def name(self) -> str: ...

    @property
    def delimiter(self) -> str: ...

    @property
    def max_steps(self) -> int: ...

    def read(self, question: str) -> Problem:
        """Make a problem of what a person typed; raises `UnreadableQuestion`."""
        ...

    def prompt(self, problem: Problem) -> str:
        """The text a policy continues; the first step follows it directly."""
        ...

    def initial(self, problem: Problem) -> State:
        """The state before the first step."""
        ...

    def step(self, state: State, step: Step) -> Transition:
        """Append a step. Never raises on any text a model may write: what is not legal truncates."""
        ...

    def answer(self, state: State) -> str | None:
        """The final answer a state holds, or None."""
        ...

    def check(self, problem: Problem, answer: str) -> bool:
        """Whether the answer is right (False when the gold answer is unknown)."""
        ...

    def same(self, a: str, b: str) -> bool:
        """Whether two answers are equivalent, for votes: reflexive and symmetric."""
        ...

    def problems(self, split: Split, n: int, seed: int = 0) -> Sequence[Problem]:
        """`n` distinct problems of a split; splits are disjoint, and the same arguments give the same problems."""
        ...


@runtime_checkable
class Demonstrator(Protocol):
    """An environment that can write worked solutions: what policies are trained on."""

    def demonstrate(self, problem: Problem, rng: random.Random) -> tuple[str, ...]:
        """The texts of the steps of one right solution, the answer step last."""
        ...


@runtime_checkable
class StepChecker(Protocol):
    """An environment that can tell exactly which step went wrong. Never used to supervise a verifier."""

    def first_error(self, state: State) -> int | None:
        """Index of the first wrong step, or None when every step so far is right."""
        ...


@runtime_checkable
class StepLister(Protocol):
    """An environment that knows some next steps: what the policy ``scripted`` draws from, without a model."""

    def options(self, state: State) -> Mapping[str, float]:
        """Texts of possible next steps, with weights above 0; empty where there is none."""
        ...


@runtime_checkable
class SlowStepper(Protocol):
    """An environment whose steps take their time: they run code, or wait for something.

    Its transitions run in parallel, as do those of every environment that does not ship (`envs.guarded`).

    Attributes:
        step_timeout: seconds that one call may take.
    """

    @property
    def step_timeout(self) -> float: ...


@runtime_checkable
class SelfProving(Protocol):
    """An environment whose answers prove themselves: `Environment.check` needs no gold answer.

    Attributes:
        self_proving: whether they do; the gold answer of a problem may then be any text that says so.
    """

    @property
    def self_proving(self) -> bool: ...


@runtime_checkable
class Observer(Protocol):
    """An environment that says beforehand whether it answers steps by observations (`agent.search.step_by_step`).

    Attributes:
        observes: whether any step may get an observation.
    """

    @property
    def observes(self) -> bool: ...


@runtime_checkable
class Reviser(Protocol):
    """An environment with a prompt of its own for another attempt. Others show attempts as `opening` does."""

    def revise(self, problem: Problem, attempts: Sequence[str]) -> str:
        """The text a policy continues when it is shown earlier attempts, oldest first; the first step follows it."""
        ...


def is_text(text: str) -> bool:
    """Whether an encoding can write it: half a surrogate pair is no text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def opening(environment: Environment, state: State) -> str:
    """The text before the first step: the prompt; for a revision, with the earlier attempts.

    An environment that is a `Reviser` words it. Without one, each attempt is a worked solution of its own, prompt and
    steps, and the prompt follows once more: what policies trained here read.
    """
    prompt = environment.prompt(state.problem)
    if not state.attempts:
        return prompt
    written = [_written(environment, steps) for steps in state.attempts]
    if isinstance(environment, Reviser):
        return environment.revise(state.problem, written)
    return "".join(prompt + attempt for attempt in written) + prompt


def revision_prompt(prompt: str, attempts: Sequence[str]) -> str:
    """A prompt for models that follow instructions: the attempts, numbered, and then the problem once more."""
    shown = "\n\n".join(f"Attempt {i}:\n{attempt.strip()}" for i, attempt in enumerate(attempts, 1))
    return (
        "Below is a problem, earlier attempts at it, and the problem again. The attempts may be wrong: find out where, "
        f"then solve the problem afresh, step by step, in the same form.\n\n{prompt.strip()}\n\n{shown}\n\n{prompt}"
    )


def render(environment: Environment, state: State) -> str:
    """The text a model continues: the opening, then each step (and its observation) closed by the delimiter."""
    return opening(environment, state) + _written(environment, state.steps)


def _written(environment: Environment, steps: Sequence[Step]) -> str:
    parts = [(step.text, step.observation) if step.observation else (step.text,) for step in steps]
    return "".join(part + environment.delimiter for each in parts for part in each)
