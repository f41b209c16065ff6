"""vLLM in this process as a policy, with tiny checkpoints; skipped where vLLM is not installed."""

import importlib.util
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

if importlib.util.find_spec("vllm") is None:
    pytest.skip("vLLM is not installed here; .ci/vllm.py makes an environment that has it", allow_module_level=True)

import torch
from transformers import AutoModelForCausalLM

from envs.arithmetic import Arithmetic
from envs.core import Problem, State, Step, Transition
from policies.backends.hf import TransformersPolicy
from policies.backends.lab import LabPolicy
from policies.backends.vllm import VllmPolicy
from policies.conformance import ask, check_policy
from policies.core import Policy, Propose, Proposed
from policies.generation.options import SamplingOptions
from policies.generation.requests import BrokenModel
from policies.models.errors import UnsupportedModel
from policies.registry import WEIGHTS, load_policy

LONG = "abc123 " * 12  # more than two blocks of keys and values


@pytest.fixture(scope="module")
def folder(checkpoint: Callable[..., Path]) -> Path:
    return checkpoint("policy", head_dim=32)  # the least that vLLM takes on a CPU


@pytest.fixture(scope="module")
def policy(folder: Path, chatter: Any) -> Iterator[VllmPolicy]:
    made = VllmPolicy(folder, chatter, SamplingOptions(step_tokens=20), kv_cache_gb=0.25)
    yield made
    made.close()


def one(state: State, *seeds: int, temperature: float = 1.0, steps: int | None = None, scope: str = "s") -> Propose:
    return Propose((state,), (seeds,), temperature, steps, scope)


def test_it_is_a_policy_and_conforms(policy: VllmPolicy, chatter: Any) -> None:
    assert isinstance(policy, Policy)
    assert policy.poll() == []
    check_policy(policy, chatter, chatter.problems("test", 3), patience=600)


def test_tokens_and_logprobs_are_those_of_the_model(policy: VllmPolicy, folder: Path, chatter: Any) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert policy.parameters == model.num_parameters()
    dialogue = policy.dialogue
    for problem in chatter.problems("test", 6):
        state = chatter.initial(problem)
        (reply,) = ask(policy, [one(state, 5, temperature=0.7)], 600)
        for step in reply.samples[0][0]:
            prompt, closed = dialogue.ids(state), dialogue.step(step)
            last = {"step": closed[-1:], "answer": sorted(dialogue.ends), "length": (None,)}[step.finish]
            written = [(*closed[:-1], *(() if token is None else (token,))) for token in last]
            assert {len(ids) for ids in written} == {step.tokens}
            totals = []
            for ids in written:
                with torch.inference_mode():
                    logprobs = model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 :].log_softmax(-1)
                totals.append(sum(float(logprobs[at, token]) for at, token in enumerate(ids)))
            assert any(step.logprob == pytest.approx(total, abs=1e-3) for total in totals)
            state = chatter.step(state, step).state


@pytest.mark.parametrize(
    ("temperature", "top_p", "top_k"), [(1.0, 1.0, 0), (0.6, 1.0, 0), (1.3, 0.8, 0), (1.0, 1.0, 3), (0.8, 0.9, 5)]
)
def test_samples_are_those_of_transformers(
    policy: VllmPolicy, folder: Path, chatter: Any, temperature: float, top_p: float, top_k: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """On a CPU: the same seeds, the same sampler, and numbers that differ in their last digits."""
    options = SamplingOptions(step_tokens=20, top_p=top_p, top_k=top_k)
    monkeypatch.setattr(policy, "_options", options)
    requests = [
        one(chatter.initial(problem), *range(8), 2**64 - 1, temperature=temperature)
        for problem in chatter.problems("test", 3)
    ]
    pairs = zip(
        ask(policy, requests, 600), ask(TransformersPolicy(folder, chatter, options), requests, 600), strict=True
    )
    samples = [pair for here, there in pairs for pair in zip(here.samples[0], there.samples[0], strict=True)]
    same = [(ours, theirs) for ours, theirs in samples if texts(ours) == texts(theirs)]
    assert len(same) >= len(samples) - 1
    for ours, theirs in same:
        logprobs = [[step.logprob for step in steps] for steps in (ours, theirs)]
        assert logprobs[0] == pytest.approx(logprobs[1], abs=1e-3)


def texts(steps: Sequence[Step]) -> list[str]:
    return [step.text for step in steps]


def test_a_sample_that_is_computed_again_goes_on_as_it_was(
    policy: VllmPolicy, chatter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM does so when there is no room for what it keeps of all requests."""
    request = one(chatter.initial(Problem("p", LONG)), *range(6), scope="again")
    (undisturbed,) = ask(policy, [request], 600)
    monkeypatch.setattr("policies.backends.vllm._BURST", 0.0)  # a poll is a pass
    policy.submit(0, request)
    replies: list[tuple[int, Proposed | Exception]] = []
    preempted = 0
    while not replies:
        replies += policy.poll()
        if policy._running and preempted < 3:
            preempted += policy._engine._engine.reset_prefix_cache(reset_running_requests=True)
    assert preempted == 3
    assert isinstance(replies[0][1], Proposed)
    assert replies[0][1].samples == undisturbed.samples


def test_prefixes_are_run_once_in_a_scope(policy: VllmPolicy, chatter: Any) -> None:
    state = chatter.initial(Problem("p", LONG))
    length = len(policy.dialogue.ids(state))
    shared = length // 32 * 32  # by siblings and by whoever comes later
    (first,) = ask(policy, [one(state, *range(8), steps=1)], 600)
    assert first.usage.prefilled == length + 7 * (length - shared)
    assert first.usage.flops == 2.0 * policy.parameters * (first.usage.prefilled + first.usage.generated)
    (again,) = ask(policy, [one(state, 9, steps=1)], 600)
    assert again.usage.prefilled == length - shared
    (other,) = ask(policy, [one(state, 9, steps=1, scope="other")], 600)
    assert other.usage.prefilled == length
    assert other.samples == again.samples
    policy.cancel("s")
    (later,) = ask(policy, [one(state, 9, steps=1)], 600)
    assert later.usage.prefilled == length


def test_a_log_probability_that_is_none_fails_its_request_alone(
    policy: VllmPolicy, chatter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = chatter.initial(Problem("p", "ab"))
    draw = policy._engine.draw
    monkeypatch.setattr(
        policy._engine, "draw", lambda: [each._replace(logprobs=[[math.nan]] * len(each.ids)) for each in draw()]
    )
    with pytest.raises(BrokenModel, match="NaN or infinite logits"):
        ask(policy, [one(root, 1)], 600)
    monkeypatch.undo()
    ask(policy, [one(root, 1)], 600)


def test_nothing_waits_for_the_slowest(policy: VllmPolicy, chatter: Any) -> None:
    root = chatter.initial(Problem("p", "ab"))
    for ticket in range(12):
        policy.submit(ticket, one(root, ticket, steps=1 if ticket % 2 else None, scope=str(ticket)))
    came: list[list[int]] = []
    while sum(map(len, came)) < 12:
        came.append([ticket for ticket, _ in policy.poll()])
        if came[-1] and sum(map(len, came)) < 12:
            policy.submit(100, one(root, 1, steps=1, scope="late"))  # joins those that run
            policy.cancel("late")
    assert len([group for group in came if group]) > 1
    assert policy.poll() == []


def test_more_prompts_than_one_pass_takes(policy: VllmPolicy, chatter: Any) -> None:
    root = chatter.initial(Problem("p", LONG))
    replies = ask(policy, [one(root, 3, steps=1, scope=str(index)) for index in range(60)], 600)
    assert len({reply.samples for reply in replies}) == 1


def test_what_an_environment_raises_fails_its_own_request(folder: Path, policy: VllmPolicy, chatter: Any) -> None:
    def step(state: State, step: Step) -> Transition:
        if state.problem.id == "bad":
            raise RuntimeError("out of order")
        led: Transition = ordinary(state, step)
        return led

    ordinary = chatter.step
    chatter.step = step
    try:
        for ticket, name in enumerate(["bad", "good"]):
            policy.submit(ticket, one(chatter.initial(Problem(name, "abc")), 1, 2, 3, scope=name))
        replies: dict[int, Proposed | Exception] = {}
        while len(replies) < 2:
            replies |= dict(policy.poll())
    finally:
        del chatter.step
    assert isinstance(replies[1], Proposed)
    assert str(replies[0]) == "out of order"
    assert policy.poll() == []


def test_what_does_not_fit_is_refused(policy: VllmPolicy, chatter: Any) -> None:
    with pytest.raises(ValueError, match="reads 1 to 127"):
        policy.submit(0, one(chatter.initial(Problem("p", "a" * 200)), 1))
    with pytest.raises(ValueError, match="one each"):
        policy.submit(0, replace(one(chatter.initial(Problem("p", "a")), 1), seeds=()))
    assert policy.poll() == []


def test_what_is_no_model_is_refused(tmp_path: Path, chatter: Any) -> None:
    with pytest.raises(UnsupportedModel, match="vLLM does not run"):
        VllmPolicy(tmp_path, chatter)
    with pytest.raises(ValueError, match="expected a number, above 0, at most 1"):
        VllmPolicy(tmp_path, chatter, gpu_memory_utilization=2)


def test_a_lab_policy_answers_as_it_does_in_the_lab(policy: VllmPolicy) -> None:
    """Beside another engine, in the same process."""
    environment = Arithmetic()
    problems = environment.problems("test", 100, 1)
    requests = [
        one(environment.initial(problem), 1, temperature=temperature, scope=f"{problem.id} {temperature}")
        for temperature in (0.0, 1.0)
        for problem in problems
    ]
    lab = LabPolicy(WEIGHTS / "arithmetic-s", environment, device="cpu")
    served = load_policy(f"vllm:{WEIGHTS / 'arithmetic-s'}", environment, step_tokens=48, kv_cache_gb=0.25)
    assert served.name == lab.name
    assert served.parameters == lab.parameters
    here, there = ask(lab, requests, 600), ask(served, requests, 600)
    served.close()
    written = [[tuple(step.text for step in reply.samples[0][0]) for reply in replies] for replies in (here, there)]
    assert sum(a == b for a, b in zip(*written, strict=True)) >= 196
    policy.submit(0, one(policy.environment.initial(Problem("p", "ab")), 1))  # the other engine still runs
    while not policy.poll():
        pass
