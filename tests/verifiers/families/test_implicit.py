"""Implicit PRMs: differences of log-likelihoods of two models, against a straight-line computation."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

from envs.core import Problem, State, Step
from envs.math.environment import Math
from policies.conformance import ask
from policies.models.errors import UnsupportedModel
from verifiers.conformance import check_verifier
from verifiers.core import Score, Scored
from verifiers.registry import load_verifier

Tiny = Callable[..., Path]


@pytest.fixture(scope="module")
def environment() -> Math:
    return Math()


@pytest.fixture(scope="module")
def folders(tiny: Tiny) -> tuple[Path, Path]:
    return tiny("judge"), tiny("judge", intermediate_size=40)


@pytest.fixture(scope="module")
def verifier(folders: tuple[Path, Path], environment: Math) -> Any:
    model, reference = folders
    return load_verifier(f"hf:{model}", environment, family="implicit", reference=str(reference), device="cpu")


def scored(verifier: Any, *group: State, scope: str = "s") -> Scored:
    reply: Scored
    (reply,) = ask(verifier, [Score(group, scope)])
    return reply


def rewards(folders: Sequence[Path], question: str, steps: Sequence[str], coef: float) -> list[float]:
    """``r_k`` of Yuan et al., with the tokens of a step found by tokenising prefixes that end in blank lines."""
    tokenizer = hf.AutoTokenizer.from_pretrained(folders[0])
    texts = []
    for end in range(len(steps) + 1):
        called = [step if step.startswith("Step ") else f"Step {i + 1}: {step}" for i, step in enumerate(steps[:end])]
        answer = "".join(f"{step}\n\n" for step in called)
        chat = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        texts.append(tokenizer.apply_chat_template(chat, tokenize=False).removesuffix("<|im_end|>\n"))
    ends = [len(tokenizer.encode(text)) for text in texts]
    ids = tokenizer.encode(texts[-1])
    both = []
    for folder in folders:
        model = hf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        with torch.inference_mode():
            likely = model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
        both.append(likely.gather(1, torch.tensor(ids)[1:, None])[:, 0])
    each = coef * (both[0] - both[1])
    return [float(each[start - 1 : end - 1].sum()) for start, end in itertools.pairwise(ends)]


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_scores_are_sigmoids_of_the_rewards_of_steps(
    verifier: Any, folders: tuple[Path, Path], solutions: list[State]
) -> None:
    for state in solutions[:3]:
        expected = [sigmoid(each) for each in rewards(folders, state.problem.question, state.texts, 0.05)]
        assert scored(verifier, state).scores[0] == pytest.approx(expected, abs=1.1e-5)
        assert max(expected) - min(expected) > 1e-3


def test_scores_of_prefixes_are_sigmoids_of_sums(
    environment: Math, folders: tuple[Path, Path], solutions: list[State]
) -> None:
    verifier = load_verifier(
        f"hf:{folders[0]}", environment, family="implicit", reference=str(folders[1]), device="cpu",
        coef=0.01, measure="prefix",
    )  # fmt: skip
    each = rewards(folders, solutions[1].problem.question, solutions[1].texts, 0.01)
    expected = [sigmoid(sum(each[: end + 1])) for end in range(len(each))]
    assert scored(verifier, solutions[1]).scores[0] == pytest.approx(expected, abs=1.1e-5)


def test_it_conforms(verifier: Any, environment: Math, solutions: list[State]) -> None:
    check_verifier(verifier, environment, solutions)


def test_both_models_are_charged_and_both_reuse(verifier: Any, solutions: list[State]) -> None:
    verifier.close()
    state = solutions[1]
    whole = scored(verifier, state, scope="whole")
    grown = [scored(verifier, State(state.problem, state.steps[:end])) for end in range(1, 6)]
    assert sum(reply.tokens for reply in grown) == whole.tokens
    assert whole.tokens % 2 == 0
    assert whole.flops == verifier.parameters * whole.tokens  # half of the tokens by each model
    verifier.cancel("s")
    verifier.cancel("whole")


def test_what_is_too_long_is_nan(environment: Math, folders: tuple[Path, Path], solutions: list[State]) -> None:
    short = load_verifier(
        f"hf:{folders[0]}", environment, family="implicit", reference=str(folders[1]), device="cpu", context=150
    )
    state = replace(solutions[1], steps=(*solutions[1].steps[:2], Step("long " * 60)))
    scores = scored(short, state).scores[0]
    assert not any(map(math.isnan, scores[:2]))
    assert math.isnan(scores[2])


def test_what_it_needs_is_said(environment: Math, folders: tuple[Path, Path], tiny: Tiny) -> None:
    spec = f"hf:{folders[0]}"
    with pytest.raises(ValueError, match="needs a `reference`"):
        load_verifier(spec, environment, family="implicit")
    with pytest.raises(UnsupportedModel, match="different vocabularies"):
        load_verifier(spec, environment, family="implicit", reference=str(tiny("math-shepherd")), device="cpu")
    with pytest.raises(UnsupportedModel, match="a value head"):
        load_verifier(spec, environment, family="implicit", reference=str(tiny("skywork")), device="cpu")
    for wrong, said in (({"coef": 0.0}, "'coef' is 0.0; expected"), ({"measure": "steps"}, "'measure' is 'steps'")):
        with pytest.raises(ValueError, match=said):
            load_verifier(spec, environment, family="implicit", reference=str(folders[1]), device="cpu", **wrong)
    with pytest.raises(ValueError, match="no option 'referense'; did you mean 'reference'"):
        load_verifier(spec, environment, family="implicit", referense="x")


def test_empty_steps(verifier: Any) -> None:
    problem = Problem("p", "What is it?")
    a, b = scored(verifier, State(problem, (Step("one"), Step("two.")))).scores[0]
    odd = State(problem, (Step(""), Step("one\n\n"), Step(" "), Step("two.\n\n"), Step("")))
    assert scored(verifier, odd).scores[0] == (0.5, a, a, b, b)
