"""Planted defects: each must be found, and named by its rule."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envs.conformance import NonConforming
from envs.core import Step
from envs.toy import Toy
from policies.backends.lab import LabPolicy
from policies.conformance import check_policy
from policies.core import Propose, Proposed
from policies.scripted import ScriptedPolicy

Change = Callable[[Propose, Proposed], Proposed]


class Spoiled:
    """A good policy whose requests and replies something is done to."""

    def __init__(
        self, policy: LabPolicy, reply: Change | None = None, request: Callable[[Propose], Propose] | None = None
    ):
        self.policy = policy
        self.name, self.parameters = policy.name, policy.parameters
        self.change_reply = reply or (lambda _, reply: reply)
        self.change_request = request or (lambda request: request)
        self.requests: dict[int, Propose] = {}

    def submit(self, ticket: int, request: Propose) -> None:
        self.requests[ticket] = request
        self.policy.submit(ticket, self.change_request(request))

    def poll(self) -> Sequence[tuple[int, Proposed | Exception]]:
        return [
            (ticket, reply if isinstance(reply, Exception) else self.change_reply(self.requests[ticket], reply))
            for ticket, reply in self.policy.poll()
        ]

    def cancel(self, scope: str) -> None:
        self.policy.cancel(scope)

    def close(self) -> None:
        self.policy.close()


def each_step(change: Callable[[Step], Step]) -> Change:
    def changed(_: Propose, reply: Proposed) -> Proposed:
        samples = tuple(tuple(tuple(map(change, steps)) for steps in group) for group in reply.samples)
        return replace(reply, samples=samples)

    return changed


def each_sample(change: Callable[[tuple[Step, ...]], tuple[Step, ...]]) -> Change:
    def changed(_: Propose, reply: Proposed) -> Proposed:
        return replace(reply, samples=tuple(tuple(map(change, group)) for group in reply.samples))

    return changed


count = 0


def unsteady(request: Propose) -> Propose:
    global count
    count += 1
    return replace(request, seeds=tuple(tuple(seed + count for seed in seeds) for seeds in request.seeds))


def with_gold(request: Propose) -> Propose:
    peek = sum(state.problem.answer is not None for state in request.states)
    return replace(request, seeds=tuple(tuple(seed + peek for seed in seeds) for seeds in request.seeds))


REPLIES: dict[str, Change] = {
    "one sample per seed": lambda _, reply: replace(reply, samples=tuple(group[:-1] for group in reply.samples)),
    "at least one step, if an empty one": each_sample(lambda steps: () if not steps[0].text else steps),
    "ends when the environment says": each_sample(lambda steps: (*steps, steps[-1])),
    "until the trajectory ends": each_sample(lambda steps: steps[:1]),
    "never contains the environment's delimiter": each_step(lambda step: replace(step, text=step.text + "\n")),
    "finish is one of": each_step(lambda step: replace(step, finish="stop")),  # type: ignore[arg-type]
    "at least one token": each_step(lambda step: replace(step, tokens=0)),
    "log-probability is finite": each_step(lambda step: replace(step, logprob=-step.logprob + 1)),
    "those of the steps, each counted once": lambda _, reply: replace(reply, usage=replace(reply.usage, generated=7)),
    "not negative": lambda _, reply: replace(reply, usage=replace(reply.usage, flops=-1.0)),
}
REQUESTS: dict[str, Callable[[Propose], Propose]] = {
    "never on what else is in the batch": unsteady,
    "wherever the seed stands among its siblings": lambda request: replace(
        request, seeds=tuple(tuple(range(len(seeds))) for seeds in request.seeds)
    ),
    "never sees the gold answer": with_gold,
    "the seed does not matter": lambda request: replace(request, temperature=1.0),
    "at most max_steps": lambda request: replace(request, max_steps=None),
}


@pytest.fixture
def policy(checkpoint: Callable[..., Path], chatter: Any) -> LabPolicy:
    return LabPolicy(checkpoint("policy"), chatter, device="cpu", step_tokens=12)


@pytest.mark.parametrize("rule", REPLIES)
def test_spoiled_replies_are_found(policy: LabPolicy, chatter: Any, rule: str) -> None:
    with pytest.raises(NonConforming, match=rule):
        check_policy(Spoiled(policy, reply=REPLIES[rule]), chatter, chatter.problems("test", 4))


@pytest.mark.parametrize("rule", REQUESTS)
def test_spoiled_requests_are_found(policy: LabPolicy, chatter: Any, rule: str) -> None:
    with pytest.raises(NonConforming, match=rule):
        check_policy(Spoiled(policy, request=REQUESTS[rule]), chatter, chatter.problems("test", 4))


def test_a_silent_policy_and_one_that_ignores_cancel_are_found(policy: LabPolicy, chatter: Any) -> None:
    class Silent(Spoiled):
        def poll(self) -> Sequence[tuple[int, Proposed]]:
            return ()

    class Stubborn(Spoiled):
        def cancel(self, scope: str) -> None:
            pass

    class Hasty(Spoiled):
        def cancel(self, scope: str) -> None:
            if scope.startswith("cancel"):
                self.policy.cancel("cancel/0")
                self.policy.cancel("cancel/1")

    problems = chatter.problems("test", 3)
    with pytest.raises(NonConforming, match="answered exactly once"):
        check_policy(Silent(policy), chatter, problems, patience=0.2)
    policy.close()
    with pytest.raises(NonConforming, match="A cancelled request gets no reply"):
        check_policy(Stubborn(policy), chatter, problems)
    policy.close()
    with pytest.raises(NonConforming, match="leaves the requests of others alone"):
        check_policy(Hasty(policy), chatter, problems, patience=1)


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("has a place for each sample", each_step(lambda step: replace(step, text=step.text + "x"))),
        ("has a place for each sample", lambda _, reply: replace(reply, samples=())),
        ("no more than the reply", lambda _, reply: replace(reply, usage=replace(reply.usage, generated=10**6))),
        ("tells nothing", None),
    ],
)
def test_wrong_parts_of_replies_are_found(policy: LabPolicy, chatter: Any, rule: str, change: Change | None) -> None:
    class Partial(Spoiled):
        def partial(self, ticket: int) -> Proposed | None:
            given = self.policy.partial(ticket)
            if change is None:
                return given or Proposed(())
            return None if given is None else change(self.requests[ticket], given)

    with pytest.raises(NonConforming, match=rule):
        check_policy(Partial(policy), chatter, chatter.problems("test", 4))


@pytest.mark.parametrize("shuffle", [None, 1])
def test_the_public_fake_conforms(shuffle: int | None) -> None:
    environment = Toy()
    check_policy(ScriptedPolicy(environment, shuffle=shuffle), environment, environment.problems("test", 4))


def test_too_few_problems_are_refused(policy: LabPolicy, chatter: Any) -> None:
    with pytest.raises(ValueError, match="1 problems given"):
        check_policy(policy, chatter, chatter.problems("test", 1))
