"""The conformance kit of policies: `check_policy` tries every rule that search relies on.

An author of a plug-in calls it in one test, with a handful of problems. It raises one error that lists every rule
that was broken, each in one sentence.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import TypeVar, get_args

from envs.conformance import NonConforming
from envs.core import Environment, Finish, Problem, State, Transition
from policies.core import PartialReplier, Policy, Propose, Proposed
from policies.service import Service

Rule = Callable[[bool, str], None]
Asked = TypeVar("Asked")
Answered = TypeVar("Answered")


def ask(service: Service[Asked, Answered], requests: Sequence[Asked], patience: float = 60.0) -> list[Answered]:
    """Submit requests together and poll until all are answered; replies in the order of the requests.

    Raises:
        TimeoutError: when a request is still unanswered after `patience` seconds, or is answered twice or unasked.
        Exception: the one that a request was answered by.
    """
    for ticket, request in enumerate(requests):
        service.submit(ticket, request)
    replies: dict[int, Answered] = {}
    started = time.monotonic()
    while len(replies) < len(requests):
        for ticket, reply in service.poll():
            if ticket in replies or not 0 <= ticket < len(requests):
                raise TimeoutError(f"ticket {ticket} was answered twice or never submitted")
            if isinstance(reply, Exception):
                raise reply
            replies[ticket] = reply
        if time.monotonic() - started > patience:
            raise TimeoutError(f"{len(requests) - len(replies)} of {len(requests)} requests got no reply")
    return [replies[ticket] for ticket in range(len(requests))]


def check_policy(policy: Policy, environment: Environment, problems: Sequence[Problem], patience: float = 60.0) -> None:
    """Check a policy against its contract on some problems.

    Args:
        policy: idle, and idle again afterwards.
        environment: the one it proposes steps for.
        problems: two or more; a handful is enough.
        patience: seconds to wait for replies before the policy counts as silent.

    Raises:
        NonConforming: with one sentence for each rule that was broken.
        ValueError: fewer than two problems were given.
    """
    if len(problems) < 2:
        raise ValueError(f"{len(problems)} problems given; two or more are needed")
    broken: list[str] = []

    def rule(holds: bool, sentence: str) -> None:
        if not holds and sentence not in broken:
            broken.append(sentence)

    scopes: set[str] = set()

    def asked(
        scope: str, states: Sequence[State], seeds: Sequence[int], temperature: float = 1.0, steps: int | None = None
    ) -> Propose:
        scopes.add(scope)
        return Propose(tuple(states), (tuple(seeds),) * len(states), temperature, steps, scope)

    rule(bool(policy.name), "A policy has a name.")
    rule(policy.parameters >= 0, "The number of parameters is not negative (0 if unknown).")
    rule(len(policy.poll()) == 0, "An idle policy's poll returns nothing.")
    roots = [environment.initial(problem) for problem in problems]
    try:
        whole = [asked(f"whole/{i}", [root], range(4)) for i, root in enumerate(roots)]
        single = [asked(f"single/{i}", [root, root], range(3), steps=1) for i, root in enumerate(roots)]
        together = ask(policy, [*whole, *single], patience)
        for request, reply in zip([*whole, *single], together, strict=True):
            _check_reply(environment, request, reply, rule)
        pairs = zip([*whole, *single], together, strict=True)
        if not all(_shaped(request, reply) and _filled(reply) for request, reply in pairs):
            raise NonConforming(f"policy {policy.name!r}", broken)  # what follows would stumble over such replies
        for request in whole + single:
            policy.cancel(request.scope)
        alone = [ask(policy, [request], patience)[0] for request in whole]
        same = _texts(alone) == _texts(together[: len(whole)])
        rule(same, "A sample depends on its state, seed and temperature only, never on what else is in the batch.")
        for request in whole:
            policy.cancel(request.scope)
        fewer = ask(policy, [replace(request, seeds=(request.seeds[0][::-1],)) for request in whole], patience)
        turned = [tuple(tuple(reversed(samples)) for samples in reply) for reply in _texts(fewer)]
        rule(turned == _texts(alone), "A sample belongs to its seed, wherever the seed stands among its siblings.")

        blind = [replace(root, problem=replace(root.problem, answer=None)) for root in roots]
        unseen = ask(policy, [asked(f"blind/{i}", [root], range(4)) for i, root in enumerate(blind)], patience)
        rule(_texts(unseen) == _texts(alone), "A policy never sees the gold answer: without it nothing changes.")

        greedy = ask(
            policy,
            [asked(f"greedy/{i}", [root], (1, 2), temperature=0.0) for i, root in enumerate(roots)],
            patience,
        )
        constant = all(samples[0] == samples[1] for reply in _texts(greedy) for samples in reply)
        rule(constant, "At temperature 0 the seed does not matter.")
        for i, (root, reply) in enumerate(zip(roots, greedy, strict=True)):
            steps = reply.samples[0][0]
            state = root
            for step in steps:
                (one,) = ask(policy, [asked(f"step/{i}", [state], (0,), 0.0, 1)], patience)
                agrees = one.samples[0][0][0].text == step.text
                rule(agrees, "At temperature 0, step by step gives what one request for everything gives.")
                state = environment.step(state, step).state

        if isinstance(policy, PartialReplier):
            _check_parts(policy, asked("parts", [roots[0]], range(4)), patience, rule)

        for i, root in enumerate(roots[:2]):
            policy.submit(i, asked(f"cancel/{i}", [root], range(4)))
        policy.cancel("cancel/0")
        kept = _drain(policy, patience)
        rule(0 not in kept, "A cancelled request gets no reply.")
        rule(1 in kept, "Cancelling one scope leaves the requests of others alone.")
    except TimeoutError as silent:
        rule(False, f"Every request is answered exactly once: {silent}.")
    for scope in scopes:
        policy.cancel(scope)
    if broken:
        raise NonConforming(f"policy {policy.name!r}", broken)


def _check_reply(environment: Environment, request: Propose, reply: Proposed, rule: Rule) -> None:
    """The rules that one reply can break."""
    rule(_shaped(request, reply), "A reply has one sample per seed, for each state.")
    rule(_filled(reply), "A sample has at least one step, if an empty one.")
    flat = [(state, steps) for state, group in zip(request.states, reply.samples, strict=False) for steps in group]
    given = [transitions for group in reply.transitions for transitions in group]
    shaped = list(map(len, reply.transitions)) == list(map(len, reply.samples))
    rule(not reply.transitions or shaped, "Transitions, if a reply gives them, are given for every sample.")
    given += [()] * (len(flat) - len(given))
    for (start, steps), known in zip(flat, given, strict=False):
        rule(len(known) <= len(steps), "There are no more transitions of a sample than it has steps.")
        state, status = start, "running"
        for step, led in zip_longest(steps, known[: len(steps)]):
            rule(status == "running", "A sample ends when the environment says that the trajectory ended.")
            rule(environment.delimiter not in step.text, "A step never contains the environment's delimiter.")
            rule(step.finish in get_args(Finish), f"A step's finish is one of {', '.join(get_args(Finish))}.")
            rule(step.tokens >= 1, "A step costs at least one token, its delimiter or end included.")
            rule(step.logprob <= 0 and math.isfinite(step.logprob), "A log-probability is finite and at most 0.")
            after = environment.step(state, step)
            rule(led is None or _same(led, after), "A transition that a reply gives is what the environment says.")
            state, status = after.state, after.status
        if request.max_steps is not None:
            rule(len(steps) <= request.max_steps, "A sample has at most max_steps steps.")
        short = request.max_steps is None or len(steps) < request.max_steps
        rule(not short or status != "running", "A sample goes on for max_steps steps or until the trajectory ends.")
    generated = sum(step.tokens for _, steps in flat for step in steps)
    rule(reply.usage.generated == generated, "The tokens generated are those of the steps, each counted once.")
    costs = (reply.usage.prefilled, reply.usage.flops, reply.usage.reads)
    rule(min(costs) >= 0, "What a reply cost is not negative.")


def _check_parts(policy: PartialReplier, request: Propose, patience: float, rule: Rule) -> None:
    """The rules of what a policy tells of a reply before it is complete."""
    assert isinstance(policy, Policy)
    policy.submit(0, request)
    parts: list[Proposed] = []
    replies: list[Proposed | Exception] = []
    started = time.monotonic()
    while not replies and time.monotonic() - started < patience:
        if (part := policy.partial(0)) is not None:
            parts.append(part)
        replies += [reply for _, reply in policy.poll()]
    rule(bool(replies), "Every request is answered exactly once: one that is looked at meanwhile, too.")
    rule(policy.partial(0) is None, "Of a request that it does not know, or has answered, a policy tells nothing.")
    whole = [reply for reply in replies if isinstance(reply, Proposed)]
    for part in parts if whole else ():
        shaped = _shaped(request, part)
        pairs = [
            pair for given in zip(part.samples, whole[0].samples, strict=False) for pair in zip(*given, strict=False)
        ]
        kept = all(steps in ((), ended) for steps, ended in pairs)
        rule(shaped and kept, "What there is of a reply has a place for each sample: empty, or as it is in the reply.")
        less = part.usage.generated <= whole[0].usage.generated
        rule(less, "What there is of a reply has cost no more than the reply.")


def _same(given: Transition, after: Transition) -> bool:
    """Whether two transitions of a step agree in all that a search reads."""
    led = [(step.text, step.observation) for step in given.state.steps]
    return (given.status, given.reward, led) == (
        after.status,
        after.reward,
        [(step.text, step.observation) for step in after.state.steps],
    )


def _shaped(request: Propose, reply: Proposed) -> bool:
    return [len(seeds) for seeds in request.seeds] == [len(samples) for samples in reply.samples]


def _filled(reply: Proposed) -> bool:
    return all(all(samples) for samples in reply.samples)


def _texts(replies: Sequence[Proposed]) -> list[tuple[tuple[tuple[str, ...], ...], ...]]:
    return [
        tuple(tuple(tuple(step.text for step in steps) for steps in samples) for samples in reply.samples)
        for reply in replies
    ]


def _drain(policy: Policy, patience: float) -> set[int]:
    """The tickets answered before ticket 1, and for a moment after it."""
    answered: set[int] = set()
    started = time.monotonic()
    while 1 not in answered and time.monotonic() - started < patience:
        answered |= {ticket for ticket, _ in policy.poll()}
    return answered | {ticket for _ in range(3) for ticket, _ in policy.poll()}
