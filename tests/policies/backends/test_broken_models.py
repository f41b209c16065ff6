"""Models whose numbers are none, or that read a text otherwise than token by token: the search is told."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from loguru import logger
from safetensors.torch import load_file, save_file

from policies.backends.hf import TransformersPolicy
from policies.backends.lab import LabPolicy
from policies.core import Policy, Propose
from policies.generation.requests import BrokenModel
from policies.generation.sampling import draw
from policies.models.digest import model_digest
from policies.models.pretrained import UnusableModel
from tests.policies.models.brought import SIZES, folder_of


def _break(policy: Any, value: float) -> None:
    """Make the logits of every text that has been read further than its prompt useless."""
    if isinstance(policy, LabPolicy):
        logits = policy.model.logits
        policy.model.logits = lambda hidden: logits(hidden) + value  # type: ignore[method-assign]
    else:
        run = policy._run
        policy._run = lambda *given: run(*given) + value


@pytest.fixture(params=["lab", "hf"])
def policy(request: pytest.FixtureRequest, checkpoint: Callable[..., Path], chatter: Any) -> Policy:
    folder = checkpoint("policy")
    if request.param == "lab":
        return LabPolicy(folder, chatter, device="cpu", step_tokens=12, rows=3)
    return TransformersPolicy(folder, chatter, device="cpu", rows=3)


def replies(policy: Policy, requests: list[Propose]) -> dict[int, Any]:
    for ticket, request in enumerate(requests):
        policy.submit(ticket, request)
    found: dict[int, Any] = {}
    while len(found) < len(requests):
        found |= dict(policy.poll())
    return found


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("distinct", [False, True])
@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_logits_that_are_no_distribution_fail_the_search(
    value: float, distinct: bool, temperature: float, policy: Policy, chatter: Any
) -> None:
    states = [chatter.initial(problem) for problem in chatter.problems("test", 2)]
    seeds = tuple(range(5))
    distinct = distinct and temperature > 0
    asked = [Propose((state,), (seeds,), temperature, None, str(i), distinct) for i, state in enumerate(states)]
    logits = policy.model.logits if isinstance(policy, LabPolicy) else None
    run = getattr(policy, "_run", None)
    _break(policy, value)
    found = replies(policy, asked)
    assert all(isinstance(reply, BrokenModel) for reply in found.values())
    assert "gives NaN or infinite logits" in str(found[0])
    assert policy.poll() == []
    # whole again, it serves the next search, and the one that failed
    if isinstance(policy, LabPolicy):
        policy.model.logits = logits  # type: ignore[method-assign, assignment]
    else:
        policy._run = run  # type: ignore[attr-defined]
    for scope in ("0", "1"):
        policy.cancel(scope)
    again = replies(policy, asked)
    assert all(len(reply.samples[0]) == 5 for reply in again.values())


def test_one_broken_row_spoils_its_own_search_only(
    policy: Policy, chatter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import policies.generation.batch

    states = [chatter.initial(problem) for problem in chatter.problems("test", 2)]
    asked = [Propose((state,), ((1, 2),), 1.0, None, str(i)) for i, state in enumerate(states)]
    alone = replies(policy, asked[1:])[0]
    policy.cancel("1")

    def breaking(logits: torch.Tensor, *given: Any, **named: Any) -> Any:
        for row, sample in enumerate(policy._proposals.loop.active):  # type: ignore[attr-defined]
            if sample.scope == "0" and row < len(logits):
                logits[row, 3] = float("nan")
        return draw(logits, *given, **named)

    monkeypatch.setattr(policies.generation.batch, "draw", breaking)
    found = replies(policy, asked)
    assert isinstance(found[0], BrokenModel)
    assert [step.text for steps in found[1].samples[0] for step in steps] == [
        step.text for steps in alone.samples[0] for step in steps
    ]


def test_draw_says_which_rows_are_no_distribution() -> None:
    logits = torch.zeros(5, 7)
    logits[1, 3], logits[2, 4], logits[3] = float("nan"), float("inf"), float("-inf")
    logits[4, 1] = float("-inf")  # a token that cannot be drawn: that is a distribution
    import numpy as np

    for temperature in (0.0, 0.7, 1.0):
        tokens, logprobs = draw(logits, np.full(5, 0.5, np.float32), np.full(5, temperature, np.float32), top_p=0.9)
        assert np.isnan(logprobs).tolist() == [False, True, True, True, False]
        assert all(0 <= token < 7 for token in tokens)


@pytest.mark.parametrize("kind", ["RobertaConfig", "XLMRobertaConfig", "CamembertConfig"])
def test_positions_of_another_kind_are_refused(kind: str, tmp_path: Path, chatter: Any) -> None:
    folder = folder_of(tmp_path / "roberta")
    own = {key: value for key, value in SIZES.items() if key not in ("num_key_value_heads",)}
    torch.manual_seed(0)
    config = getattr(transformers, kind)(**own | {"vocab_size": 700, "is_decoder": True, "pad_token_id": 1})
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    with pytest.raises(UnusableModel, match="does not read a text from left to right, token by token"):
        TransformersPolicy(folder, chatter, device="cpu")


# ---------------------------------------------------------------------------------------------------- files of models


Load = Callable[[Path], object]


@pytest.fixture(params=["lab", "hf"])
def load(request: pytest.FixtureRequest, chatter: Any) -> Load:
    if request.param == "lab":
        return lambda folder: LabPolicy(folder, chatter, device="cpu")
    return lambda folder: TransformersPolicy(folder, chatter, device="cpu")


@pytest.fixture
def folder(checkpoint: Callable[..., Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint("policy"), tmp_path / "mine"))


def configure(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "training.json"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_file_is_not_read(kind: str, name: str, folder: Path, load: Load) -> None:
    """The reading of a pipe to which nobody writes never ends, nor does that of a device."""
    (folder / name).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(folder / name)
    else:
        (folder / name).symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=f"{name} is a device or a pipe"):
        load(folder)
    assert model_digest(folder)


def test_weights_of_more_layers_than_the_configuration_are_not_run_in_silence(folder: Path, load: Load) -> None:
    layers = json.loads((folder / "config.json").read_text())["num_hidden_layers"]
    configure(folder, num_hidden_layers=layers - 1)
    said: list[str] = []
    sink = logger.add(said.append, format="{message}")
    try:
        load(folder)
    except ValueError as error:
        said.append(str(error))
    finally:
        logger.remove(sink)
    assert any(f"layers.{layers - 1}." in line for line in said)


def test_more_layers_than_there_can_be_are_refused_at_once(folder: Path, load: Load) -> None:
    configure(folder, num_hidden_layers=10**6)
    with pytest.raises(ValueError, match="layers"):
        load(folder)


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_quantised_weights_without_a_word_of_it_are_refused(kind: torch.dtype, folder: Path, load: Load) -> None:
    """Read as numbers they are wrong by a scale that is not there."""
    weights = load_file(folder / "model.safetensors")
    name = next(each for each in weights if "down_proj" in each)
    weights[name] = weights[name].clamp(-100, 100).to(kind)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="down_proj"):
        load(folder)
