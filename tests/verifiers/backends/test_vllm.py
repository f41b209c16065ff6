"""vLLM in this process as what runs verifiers, with tiny checkpoints; skipped where vLLM is not installed."""

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

if importlib.util.find_spec("vllm") is None:
    pytest.skip("vLLM is not installed here; .ci/vllm.py makes an environment that has it", allow_module_level=True)

from envs.core import Problem, State, Step
from policies.conformance import ask
from policies.models.errors import UnsupportedModel
from verifiers.conformance import check_verifier
from verifiers.core import Score, Scored, Verifier
from verifiers.registry import load_verifier

SIZES = {"num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 32}  # the least that vLLM takes on a CPU


def scored(verifier: Verifier, *states: State, scope: str = "s") -> Scored:
    (reply,) = ask(verifier, [Score(states, scope)], 600)
    return reply


@pytest.fixture(params=["outcome", "qwen-prm", "rlhflow", "token-classification"])
def pair(
    request: pytest.FixtureRequest, tiny: Callable[..., Path], chatter: Any
) -> Iterator[tuple[Verifier, Verifier]]:
    """The same checkpoint run by transformers and by vLLM; one family for each kind of head."""
    folder = tiny(request.param, **SIZES)
    local = load_verifier(f"hf:{folder}", chatter, family=request.param, device="cpu")
    served = load_verifier(f"vllm:{folder}", chatter, family=request.param, kv_cache_gb=0.25)
    yield local, served
    served.close()


def test_it_conforms_and_scores_as_transformers_do(
    pair: tuple[Verifier, Verifier], solutions: Sequence[State], chatter: Any
) -> None:
    local, served = pair
    assert served.name == local.name
    assert served.parameters == pytest.approx(local.parameters, rel=0.05)  # heads are left out
    check_verifier(served, chatter, solutions, patience=600)
    for here, there in zip(scored(local, *solutions).scores, scored(served, *solutions).scores, strict=True):
        assert there == pytest.approx(here, abs=1e-4)
    long = State(Problem("long", "Why? " * 40), tuple(Step(f"Because of {number}.") for number in range(4)))
    whole, child = scored(served, long), scored(served, long.then(Step("So.")))
    assert child.scores[0][:4] == whole.scores[0]
    assert child.tokens < whole.tokens / 2
    served.cancel("s")
    assert scored(served, long).tokens >= whole.tokens


def test_a_head_that_vllm_does_not_run_is_refused(tiny: Callable[..., Path], chatter: Any) -> None:
    with pytest.raises(UnsupportedModel, match=r"hf:.* runs it"):
        load_verifier(f"vllm:{tiny('skywork')}", chatter, family="skywork")
