"""The decode loop: what is copied between rows and prefixes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from envs.core import Problem, State, Step, Transition, transition
from policies.backends.lab import LabPolicy
from policies.conformance import ask
from policies.core import Propose
from policies.models.kv_cache import Cache, Prefix, Prefixes


class Endless:
    """Every line is a step, and none is the last."""

    name, delimiter, max_steps = "endless", "\n", 1000

    def prompt(self, problem: Problem) -> str:
        return problem.question

    def step(self, state: State, step: Step) -> Transition:
        return transition(state.then(step))


def beam(policy: LabPolicy, depth: int) -> tuple[int, list[str]]:
    """Beam search: four samples of each of four states; tokens drawn, and the texts of the last beams."""
    frontier, tokens = [State(Problem("p", "abc"))], 0
    for level in range(depth):
        seeds = tuple(tuple(range(100 * level + 10 * i, 100 * level + 10 * i + 4)) for i in range(len(frontier)))
        (reply,) = ask(policy, [Propose(tuple(frontier), seeds, scope="s")], 600)
        assert reply.usage.prefilled <= (len("abc") if level == 0 else 0)  # all is gone on from
        tokens += reply.usage.generated
        children = [
            state.then(steps[0])
            for state, samples in zip(frontier, reply.samples, strict=True)
            for steps in samples
            if steps[0].finish == "step"
        ]
        frontier = sorted(children, key=lambda child: child.texts[-1], reverse=True)[:4]
    policy.cancel("s")
    return tokens, ["\n".join(child.texts) for child in frontier]


@pytest.fixture
def policy(checkpoint: Callable[..., Path]) -> LabPolicy:
    environment: Any = Endless()
    policy = LabPolicy(checkpoint("policy"), environment, device="cpu", step_tokens=6)
    bias = torch.zeros(policy.model.config.vocabulary)
    bias[:4] = -1e9  # no special tokens, which text does not show
    bias[policy.tokens.encode("\n")[0]] = 3.0
    policy.model.head_bias = bias
    return policy


def test_what_is_copied_does_not_grow_with_depth(policy: LabPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = 0
    load, move = Prefixes.load, Cache.move

    def counted_load(self: Prefixes, prefixes: Sequence[tuple[Prefix, Sequence[int], int]], cache: Cache) -> None:
        nonlocal copied
        copied += sum((len(prefix.ids) - start) * len(rows) for prefix, rows, start in prefixes)
        load(self, prefixes, cache)

    def counted_move(self: Cache, source: int, target: int, start: int, end: int) -> None:
        nonlocal copied
        copied += end - start
        move(self, source, target, start, end)

    monkeypatch.setattr(Prefixes, "load", counted_load)
    monkeypatch.setattr(Cache, "move", counted_move)
    per_token = []
    for depth in (4, 16):
        copied = 0
        tokens, _ = beam(policy, depth)
        per_token.append(copied / tokens)
    assert per_token[1] < 1.5 * per_token[0]


def test_rows_that_hold_some_of_it_already_change_nothing(policy: LabPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    _, expected = beam(policy, 12)
    monkeypatch.setattr("policies.models.kv_cache._common", lambda one, other: 0)  # everything is copied
    assert beam(policy, 12)[1] == expected
    assert len(expected[0]) > 12  # not blank lines alone
