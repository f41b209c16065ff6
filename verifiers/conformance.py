"""The conformance kit of verifiers: `check_verifier` tries every rule that search relies on.

An author of a plug-in calls it in one test, with a few trajectories. It raises one error that lists every rule that
was broken, each in one sentence.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from envs.conformance import NonConforming
from envs.core import Environment, State, Step
from policies.conformance import ask
from verifiers.core import Score, Verifier

# Kernels of other batch shapes may add in another order, which can tip the fifth decimal, to which ours are rounded.
_ROUNDING = 2e-5


def check_verifier(
    verifier: Verifier, environment: Environment, states: Sequence[State], patience: float = 60.0
) -> None:
    """Check a verifier against its contract on some states.

    Args:
        verifier: idle, and idle again afterwards.
        environment: the one whose states it scores.
        states: two or more, each with at least two steps that have text, of at least two problems.
        patience: seconds to wait for replies before the verifier counts as silent.

    Raises:
        NonConforming: with one sentence for each rule that was broken.
        ValueError: the states given are too few or too short.
    """
    if len({state.problem for state in states}) < 2 or any(len(state.steps) < 2 for state in states):
        raise ValueError("two or more states of different problems are needed, with two or more steps each")
    broken: list[str] = []
    scopes: set[str] = set()

    def rule(holds: bool, sentence: str) -> None:
        if not holds and sentence not in broken:
            broken.append(sentence)

    def asked(name: str, group: Sequence[State]) -> list[Score]:
        made = [Score((state,), f"{name}/{index}") for index, state in enumerate(group)]
        scopes.update(request.scope for request in made)
        return made

    def scores(name: str, group: Sequence[State]) -> list[tuple[float, ...]]:
        return [scored for reply in ask(verifier, asked(name, group), patience) for scored in reply.scores]

    rule(bool(verifier.name), "A verifier has a name.")
    rule(verifier.parameters >= 0, "The number of parameters is not negative (0 for a symbolic checker).")
    rule(len(verifier.poll()) == 0, "An idle verifier's poll returns nothing.")
    try:
        replies = ask(verifier, asked("together", states), patience)
        for state, reply in zip(states, replies, strict=True):
            shape = [len(each) for each in reply.scores] == [len(state.steps)]
            rule(shape, "A reply has one score per step, for each state.")
            inside = all(0 <= score <= 1 or score != score for each in reply.scores for score in each)
            rule(inside, "A score is in [0, 1], or NaN where the model failed.")
            rule(min(reply.tokens, reply.flops, reply.reads) >= 0, "What a reply cost is not negative.")
        known = [each for reply in replies for each in reply.scores]
        alone = [scores(f"alone/{index}", [state])[0] for index, state in enumerate(states)]
        rule(_alike(alone, known), "A score depends on its state only, never on what else is in the batch.")
        (joined,) = ask(verifier, [Score(tuple(states), "joined")], patience)
        scopes.add("joined")
        rule(_alike(list(joined.scores), known), "The states of one request are scored as if asked for alone.")
        rule(_alike(scores("together", states), known), "Scoring a state again in its scope gives the same scores.")
        growing = [
            [ask(verifier, [Score((State(state.problem, state.steps[:end]),), f"growing/{index}")], patience)[0]
             for end in range(1, len(state.steps) + 1)][-1].scores[0]
            for index, state in enumerate(states)
        ]  # fmt: skip
        scopes.update(f"growing/{index}" for index in range(len(states)))
        rule(_alike(growing, known), "Scoring a state after its parents, in one scope, gives the same scores.")

        empty = scores("empty", [state.then(Step("")) for state in states])
        rule(_alike([each[:-1] for each in empty], known), "An empty last step never changes the scores before it.")
        rule(all(each[-1] == each[-2] for each in empty), "An empty step has the score of the step before it.")
        closed = [
            State(state.problem, (*state.steps[:-1], replace(state.steps[-1], text=text + environment.delimiter)))
            for state in states
            for text in [state.steps[-1].text]
        ]
        rule(_alike(scores("closed", closed), known), "A trailing delimiter never changes a score.")
        blind = [State(replace(state.problem, answer=None), state.steps) for state in states]
        rule(_alike(scores("blind", blind), known), "A verifier never sees the gold answer: nothing changes without.")

        for index, request in enumerate(asked("cancel", states[:2])):
            verifier.submit(index, request)
        verifier.cancel("cancel/0")
        answered: set[int] = set()
        started = time.monotonic()
        while 1 not in answered and time.monotonic() - started < patience:
            answered |= {ticket for ticket, _ in verifier.poll()}
        answered |= {ticket for _ in range(3) for ticket, _ in verifier.poll()}
        rule(0 not in answered, "A cancelled request gets no reply.")
        rule(1 in answered, "Cancelling one scope leaves the requests of others alone.")
    except TimeoutError as silent:
        rule(False, f"Every request is answered exactly once: {silent}.")
    for scope in scopes:
        verifier.cancel(scope)
    if broken:
        raise NonConforming(f"verifier {verifier.name!r}", broken)


def _alike(found: Sequence[Sequence[float]], known: Sequence[Sequence[float]]) -> bool:
    """Whether scores of the same states are equal, but for rounding."""
    return [len(some) for some in found] == [len(others) for others in known] and all(
        math.isclose(a, b, abs_tol=_ROUNDING) for a, b in zip(chain(*found), chain(*known), strict=True)
    )
