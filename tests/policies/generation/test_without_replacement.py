"""Sampling without replacement: nothing twice, and what is left in its old proportions."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from envs.core import Environment, State, Step, Transition, termination
from envs.countdown import Countdown
from policies.backends.hf import TransformersPolicy
from policies.backends.lab import LabPolicy
from policies.conformance import ask
from policies.core import Propose, Proposed
from policies.generation.options import SamplingOptions
from policies.generation.random_numbers import uniform
from policies.generation.sampling import draw
from policies.generation.without_replacement import PrefixNode, sample_shared_prefix
from policies.registry import WEIGHTS
from tests.conftest import Chatter

FIRST = (0.6, 0.3, 0.1)
SECOND = {0: (0.5, 0.5, 0.0), 1: (0.9, 0.1, 0.0), 2: (0.2, 0.3, 0.5)}
EVERY = {(a, b): FIRST[a] * p for a in SECOND for b, p in enumerate(SECOND[a]) if p}


def pair(root: PrefixNode, seed: int, temperature: float = 1.0) -> tuple[int, int]:
    """Draw two tokens after a root, the second from a distribution that depends on the first."""
    drawn: list[int] = []
    branches = {0: root}
    for token, branch in sample_shared_prefix(root, seed, 0):
        drawn.append(token)
        branches = {0: branch}
    while len(drawn) < 2:
        logits = torch.tensor([SECOND[drawn[0]] if drawn else FIRST]).log() * temperature
        uniforms = uniform(np.array([seed], np.uint64), np.array([len(drawn)]))
        tokens, _ = draw(logits, uniforms, np.array([temperature], np.float32), branches=branches)
        drawn.append(int(tokens[0]))
    branches[0].end()
    return drawn[0], drawn[1]


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_everything_is_drawn_once_before_anything_is_drawn_twice(temperature: float) -> None:
    for seed in range(50):
        root = PrefixNode()
        assert {pair(root, 100 * seed + i, temperature) for i in range(len(EVERY))} == set(EVERY)
        assert root.left == 0
        assert pair(root, 100 * seed + 99, temperature) in EVERY  # nothing is left: again


def test_what_is_left_keeps_its_proportions() -> None:
    counts: Counter[tuple[Any, ...]] = Counter()
    for i in range(5000):
        root = PrefixNode()
        counts[pair(root, 2 * i), pair(root, 2 * i + 1)] += 1
    for first, p in EVERY.items():
        for second, q in EVERY.items():
            want = 0.0 if first == second else p * q / (1 - p)
            assert counts[first, second] / 5000 == pytest.approx(want, abs=0.025)


# ---------------------------------------------------------------------------------------------------- in the policy


@pytest.fixture
def policy(checkpoint: Callable[..., Path], chatter: Environment) -> LabPolicy:
    return LabPolicy(checkpoint("policy"), chatter, device="cpu", step_tokens=2)


def asked(state: State, *seeds: int, scope: str = "s", distinct: bool = True, steps: int | None = 1) -> Propose:
    return Propose((state,), (seeds,), 0.4, steps, scope, distinct)


def texts(reply: Proposed) -> list[tuple[Any, ...]]:
    """The samples; their log-probabilities tell tokens apart that have no text."""
    return [tuple((step.text, step.finish, round(step.logprob, 4)) for step in steps) for steps in reply.samples[0]]


def test_samples_differ_within_and_across_requests_of_a_scope(policy: LabPolicy, chatter: Any) -> None:
    state = chatter.initial(chatter.problems("test", 1)[0])
    (plain,) = ask(policy, [asked(state, *range(12), distinct=False)])
    assert len(set(texts(plain))) < 12  # there is something to take out
    one, two = ask(policy, [asked(state, *range(6)), asked(state, *range(6, 12))])
    assert len({*texts(one), *texts(two)}) == 12
    assert texts(one)[0] == texts(plain)[0]  # the first has nothing to differ from
    assert one.usage.generated == sum(step.tokens for steps in one.samples[0] for step in steps)
    policy.cancel("s")
    (again,) = ask(policy, [asked(state, *range(6))])
    assert again.samples == one.samples  # what a search had is forgotten with it


def paths(branch: PrefixNode) -> Iterator[list[tuple[int, float]]]:
    """All that was drawn after a branch: tokens with their log-probabilities."""
    if not branch.after:
        yield []
    for token, after in branch.after.items():
        for path in paths(after):
            yield [(token, after.logprob), *path]


def size(branch: PrefixNode) -> int:
    """Branches after one."""
    return sum(1 + size(after) for after in branch.after.values())


@pytest.mark.parametrize("kind", ["lab", "hf"])
@pytest.mark.parametrize("steps", [1, None])
def test_what_samples_share_is_run_once(kind: str, steps: int | None) -> None:
    folder, environment = WEIGHTS / "countdown-m", Countdown()
    policy: Any = LabPolicy(folder, environment, device="cpu")
    if kind == "hf":
        policy = TransformersPolicy(folder, environment, device="cpu")
    state = environment.initial(environment.problems("test", 1)[0])
    requests = [asked(state, *range(10 * i, 10 * i + 9), steps=steps) for i in range(3)]
    replies = ask(policy, [replace(request, temperature=1.0) for request in requests])
    drawn = [sample for reply in replies for sample in texts(reply)]
    assert len(set(drawn)) == len(drawn)
    (queue,) = policy._proposals.loop._queues._queues["s"].values()
    ids = next(iter(policy._proposals.loop._queues._queues["s"]))[0]
    nodes, generated = size(queue.root), sum(reply.usage.generated for reply in replies)
    assert nodes < 0.9 * generated
    assert sum(reply.usage.prefilled for reply in replies) == len(ids) - 1
    assert sum(reply.usage.flops for reply in replies) == 2 * policy.parameters * (len(ids) - 1 + nodes)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    every = list(paths(queue.root))
    assert len(every) == len(drawn)
    for path in every:
        tokens = [token for token, _ in path]
        with torch.inference_mode():
            likely = model(torch.tensor([[*ids, *tokens]])).logits[0].log_softmax(-1)
        want = [float(likely[len(ids) - 1 + i, token]) for i, token in enumerate(tokens)]
        assert [logprob for _, logprob in path] == pytest.approx(want, abs=1e-3)


@pytest.mark.parametrize("kind", ["lab", "hf"])
def test_an_environment_may_change_its_mind(kind: str, checkpoint: Callable[..., Path]) -> None:
    class Fickle(Chatter):
        closed = False

        def step(self, state: State, step: Step) -> Transition:
            return termination(state.then(step)) if self.closed else super().step(state, step)

    environment = Fickle()
    policy: Any = LabPolicy(checkpoint("policy"), environment, device="cpu", step_tokens=2)
    if kind == "hf":
        options = SamplingOptions(step_tokens=2)
        policy = TransformersPolicy(checkpoint("policy"), environment, options, device="cpu")
    state = environment.initial(environment.problems("test", 1)[0])
    (before,) = ask(policy, [asked(state, *range(30), steps=None)])
    environment.closed = True  # what went on after a step is over there now
    (after,) = ask(policy, [asked(state, *range(30, 90), steps=None)])
    assert max(len(sample) for sample in before.samples[0]) > 1
    assert {len(sample) for sample in after.samples[0]} == {1}
    drawn = [{sample[0].text for sample in reply.samples[0]} for reply in (before, after)]
    assert drawn[0] & drawn[1]


def test_they_depend_on_their_own_scope_alone(policy: LabPolicy, chatter: Any) -> None:
    states = [chatter.initial(problem) for problem in chatter.problems("test", 5)]
    requests = [asked(state, 1, 2, 3, scope=str(i), steps=None) for i, state in enumerate(states)]
    busy = [asked(state, *range(60), scope="busy", distinct=False) for state in states]
    together = ask(policy, [*busy[:2], *requests, *busy[2:]])[2:7]
    for i in range(5):
        policy.cancel(str(i))
    for i in (4, 0):
        (alone,) = ask(policy, [requests[i]])
        assert alone.samples == together[i].samples


def test_a_request_in_progress_can_be_cancelled(policy: LabPolicy, chatter: Any) -> None:
    first, second = (chatter.initial(problem) for problem in chatter.problems("test", 2))
    policy.submit(7, asked(first, *range(9), scope="gone"))
    policy.poll()
    policy.cancel("gone")
    (reply,) = ask(policy, [asked(second, 1, 2)])
    assert len(set(texts(reply))) == 2
    policy.close()
    (again,) = ask(policy, [asked(second, 1, 2)])
    assert again.samples == reply.samples


def test_there_is_only_one_greedy_sample(policy: LabPolicy, chatter: Any) -> None:
    state = chatter.initial(chatter.problems("test", 1)[0])
    with pytest.raises(ValueError, match="distinct samples at temperature 0 were asked for; there is only one"):
        policy.submit(1, Propose((state,), ((1, 2),), 0.0, 1, "s", True))
