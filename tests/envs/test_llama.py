import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification

from envs.core import Problem, State, Step, render
from envs.llama import Cache, Llama, Prefix, Prefixes, Tokens, UnsupportedModel

SHAPES: list[dict[str, Any]] = [
    {},
    {"num_key_value_heads": 4},
    {"num_key_value_heads": 1, "tie_word_embeddings": False},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}, "head_dim": 16},
]


@pytest.mark.parametrize("kind", ["policy", "verifier"])
@pytest.mark.parametrize("options", SHAPES, ids=["gqa", "mha", "mqa-untied", "theta"])
def test_logits_are_those_of_transformers(checkpoint: Callable[..., Path], kind: str, options: dict[str, Any]) -> None:
    # a dict is no key of the cache of checkpoints, so it is built afresh
    folder = checkpoint.__wrapped__(kind, **options)  # type: ignore[attr-defined]
    auto = AutoModelForCausalLM if kind == "policy" else AutoModelForTokenClassification
    theirs = auto.from_pretrained(folder, dtype=torch.float32)
    ours = Llama(folder)
    ids = torch.randint(3, 19, (3, 40), generator=torch.Generator().manual_seed(1))
    cache = Cache(ours)
    cache.reserve(3 + 1, 41)
    with torch.inference_mode():
        want = theirs(ids).logits
        whole = ours.logits(ours.run(cache, ids, torch.zeros(3, dtype=torch.long), 40))
        # the last tokens again, one by one after a shorter prefix
        ours.run(cache, ids[:, :36], torch.zeros(3, dtype=torch.long), 36)
        last = [ours.logits(ours.run(cache, ids[:, at : at + 1], torch.full((3,), at), at + 1)) for at in range(36, 40)]
    torch.testing.assert_close(whole, want, atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.cat(last, 1), want[:, 36:], atol=1e-4, rtol=0)
    assert ours.parameters == theirs.num_parameters()


def test_rows_do_not_depend_on_each_other_to_the_last_bit(checkpoint: Callable[..., Path]) -> None:
    model = Llama(checkpoint("policy"))
    ids = torch.randint(3, 19, (70, 8), generator=torch.Generator().manual_seed(1))
    cache = Cache(model)
    cache.reserve(70, 100)
    with torch.inference_mode():
        whole = model.run(cache, ids, torch.zeros(70, dtype=torch.long), 8)
        for rows in (1, 2, 5, 33):
            few = model.run(cache, ids[:rows], torch.zeros(rows, dtype=torch.long), 8 + 60)
            assert torch.equal(few, whole[:rows])
        shorter = model.run(cache, ids[:2, :4], torch.zeros(2, dtype=torch.long), 4)
        assert torch.equal(shorter, whole[:2, :4])


def test_the_cache_keeps_what_was_written_when_it_grows(checkpoint: Callable[..., Path]) -> None:
    cache = Cache(Llama(checkpoint("policy")))
    cache.reserve(2, 10)
    cache.data[:, 1, :, :10] = 3.0
    cache.reserve(9, 200)
    assert (cache.rows, cache.length) >= (9, 200)
    assert (cache.data[:, 1, :, :10] == 3).all()
    assert (cache.data[:, 2:] == 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["MistralForCausalLM"]}, "MistralForCausalLM"),
        ({"attention_bias": True}, "biases"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1.0}}, "rotary"),
        ({"hidden_act": "gelu"}, "gelu"),
    ],
)
def test_what_cannot_be_run_is_refused(
    checkpoint: Callable[..., Path], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    shutil.copytree(checkpoint("policy"), tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModel, match=message):
        Llama(tmp_path)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=r"no config\.json"):
        Llama(tmp_path)
    with pytest.raises(UnsupportedModel, match=r"no tokenizer\.json"):
        Tokens(tmp_path, None)


def test_parts_are_the_rendered_state_and_a_prefix_keeps_its_ids(checkpoint: Callable[..., Path], chatter: Any) -> None:
    tokens = Tokens(checkpoint("policy"), 1)
    state = State(Problem("p", "abc"), (Step("a 1"), Step("", observation="bb"), Step("#3")))
    parts = tokens.parts(chatter, state)
    assert tokens.decode([token for part in parts for token in part]) == render(chatter, state)
    assert parts[0][0] == 1
    assert tokens.parts(chatter, State(state.problem, state.steps[:2])) == parts[:3]


def test_text_cannot_forge_special_tokens(checkpoint: Callable[..., Path]) -> None:
    tokens = Tokens(checkpoint("policy"), 1)
    assert not {0, 1, 2} & set(tokens.encode("<eos><bos><pad>a"))
    assert tokens.encode("\ud800a")  # half a surrogate pair is read, somehow


def test_prefixes_drop_the_least_recently_used_leaf_first_and_hold_what_they_count() -> None:
    one = torch.zeros(1, 1, 4, 2)  # 32 bytes
    kept = Prefixes(limit=96)
    root = kept.add("a", (1,), None, one)
    child = kept.add("a", (1, 2), root, one)
    other = kept.add("b", (1,), None, one)
    assert (len(kept), kept.bytes) == (3, 96)
    assert kept.find("a", (1, 2)) is child
    newest = kept.add("c", (9,), None, one)  # b's is the least recently used
    assert not other.kept
    assert kept.find("b", (1,)) is None
    assert child.kept
    assert root.kept
    assert newest.kept
    kept.add("c", (9, 9), newest, one)  # now the child goes, not the root that it stands on
    assert (root.kept, child.kept) == (True, False)
    assert kept.bytes == 96
    orphan = kept.add("a", (1, 2, 3), child, one)
    assert not orphan.kept
    kept.drop("c")
    assert (len(kept), kept.bytes) == (1, 32)


def test_a_prefix_loads_its_whole_chain(checkpoint: Callable[..., Path]) -> None:
    model = Llama(checkpoint("policy"))
    cache = Cache(model)
    cache.reserve(4, 8)
    data = torch.randn(2, 4, 6, 8)
    root = Prefix((1, 2), None, data[:, :, :2])
    Prefix((1, 2, 3, 4, 5, 6), root, data[:, :, 2:]).load(cache, 2, 2)
    assert torch.equal(cache.data[:, 2, :, :6], data)
    assert torch.equal(cache.data[:, 3, :, :6], data)
    assert (cache.data[:, 1] == 0).all()
