import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification

from envs.core import Problem, State, Step, render
from policies.models.errors import UnsupportedModel
from policies.models.kv_cache import Cache, DecodeRows, Prefix, Prefixes, spans
from policies.models.lab_tokens import Tokens
from policies.models.llama import Llama
from policies.models.prefix_tree import Extension

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
    ids = torch.randint(3, 19, (4, 40), generator=torch.Generator().manual_seed(1))
    prefixes, cache = Prefixes(ours, 1 << 20), Cache(ours)
    cache.reserve(4, 41)
    with torch.inference_mode():
        want = theirs(ids).logits
        made, hidden = extend(prefixes, ids)
        # the last tokens again, one by one after a shorter prefix
        made, _ = extend(prefixes, ids[:, :36], scope="shorter")
        for row, prefix in enumerate(made):
            prefixes.load([(prefix, [row], 0)], cache)
        last = [decode(ours, cache, ids[:, at], at) for at in range(36, 40)]
    torch.testing.assert_close(ours.logits(hidden).view(want.shape), want, atol=1e-4, rtol=0)
    torch.testing.assert_close(ours.logits(torch.stack(last, 1)), want[:, 36:], atol=1e-4, rtol=0)
    assert ours.parameters == theirs.num_parameters()


def extend(prefixes: Prefixes, ids: torch.Tensor, scope: str = "s") -> tuple[list[Prefix], torch.Tensor]:
    tails: list[Extension[Prefix]] = [
        Extension(f"{scope}{row}", None, (tuple(each),)) for row, each in enumerate(ids.tolist())
    ]
    made, hidden = prefixes.extend(tails, range(ids.numel()))
    return [prefix for (prefix,) in made], hidden


def decode(model: Llama, cache: Cache, ids: torch.Tensor, at: int) -> torch.Tensor:
    positions = torch.full(ids.shape, at)
    return model.run(DecodeRows(cache, positions, at + 1), ids, positions)


def test_rows_do_not_depend_on_each_other_to_the_last_bit(checkpoint: Callable[..., Path]) -> None:
    model = Llama(checkpoint("policy"))
    ids = torch.randint(3, 19, (70, 9), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        made, hidden = extend(Prefixes(model, 1 << 20), ids)
        whole = hidden.view(70, 9, -1)
        for rows in (1, 2, 5, 33):
            _, few = extend(Prefixes(model, 1 << 20), ids[:rows])
            assert torch.equal(few.view(rows, 9, -1), whole[:rows])
        prefixes = Prefixes(model, 1 << 20)
        # beside a longer one, after a part of itself, and with less of itself
        long: Extension[Prefix] = Extension("long", None, (tuple(torch.randint(3, 19, (90,)).tolist()),))
        short = tuple(ids[0, :5].tolist())
        ((_,), (before,)), few = prefixes.extend([long, Extension("s", None, (short,))], range(90, 95))
        assert torch.equal(few, whole[0, :5])
        _, rest = prefixes.extend([Extension("s", before, (made[0].ids[:6], made[0].ids))], range(4))
        assert torch.equal(rest, whole[0, 5:])


def test_decoded_rows_do_not_depend_on_each_other_to_the_last_bit(checkpoint: Callable[..., Path]) -> None:
    model = Llama(checkpoint("policy"))
    ids = torch.randint(3, 19, (70, 8), generator=torch.Generator().manual_seed(1))
    runs = []
    with torch.inference_mode():
        for rows, end in ((70, 8), (4, 8), (33, 60)):
            cache = Cache(model)
            cache.reserve(70, 100)
            starts = torch.zeros(rows, dtype=torch.long)
            runs.append(
                [model.run(DecodeRows(cache, starts + at, end), ids[:rows, at], starts + at) for at in range(8)]
            )
    for few in runs[1:]:
        assert all(torch.equal(a, b[: len(a)]) for a, b in zip(few, runs[0], strict=True))


def test_the_cache_keeps_what_was_written_when_it_grows(checkpoint: Callable[..., Path]) -> None:
    cache = Cache(Llama(checkpoint("policy")))
    cache.reserve(2, 10)
    cache.data[:, 1, :10] = 3.0
    cache.reserve(9, 200)
    assert (cache.rows, cache.length) >= (9, 200)
    assert (cache.data[:, 1, :10] == 3).all()
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


def test_spans_are_ranges_one_after_another() -> None:
    assert spans(np.array([5, 9, 7]), np.array([2, 0, 3])).tolist() == [5, 6, 7, 8, 9]
    assert spans(np.array([5]), np.array([0])).tolist() == []


def test_prefixes_drop_the_least_recently_used_leaf_first_and_hold_what_they_count(
    checkpoint: Callable[..., Path],
) -> None:
    model = Llama(checkpoint("policy"))
    token = 2 * 2 * 2 * 8 * 4  # bytes: layers, keys and values, kv heads, head_dim, float32
    kept = Prefixes(model, 3 * token)

    def add(scope: str, ids: tuple[int, ...], before: Prefix | None = None) -> Prefix:
        (((made,),), _) = kept.extend([Extension(scope, before, (ids,))])
        kept.trim()
        return made

    with torch.inference_mode():
        root = add("a", (1,))
        child = add("a", (1, 2), root)
        other = add("b", (1,))
        assert (len(kept), kept.bytes) == (3, 3 * token)
        assert kept.find("a", (1, 2)) is child
        newest = add("c", (9,))  # b's is the least recently used
        assert not other.kept
        assert kept.find("b", (1,)) is None
        assert child.kept
        assert root.kept
        assert newest.kept
        add("c", (9, 9), newest)  # now the child goes, not the root that it stands on
        assert (root.kept, child.kept) == (True, False)
        assert kept.bytes == 3 * token
        assert add("a", (1,)) is root  # what is kept already is not kept twice
        assert kept.bytes == 3 * token
        kept.drop("c")
        assert (len(kept), kept.bytes) == (1, token)


def test_a_prefix_is_split_where_others_leave_it(checkpoint: Callable[..., Path]) -> None:
    model = Llama(checkpoint("policy"))
    prefixes, cache = Prefixes(model, 1 << 20), Cache(model)
    cache.reserve(2, 8)
    ids = (3, 4, 5, 6, 7, 8)
    with torch.inference_mode():
        ((root, leaf),), _ = prefixes.extend([Extension("s", None, (ids[:2], ids))])
        data, size = prefixes.pool[:, leaf.path], prefixes.bytes
        assert prefixes.longest(leaf, (*ids[:4], 9)) is root
        fork = prefixes.longest(leaf, ids[:4])
        assert fork is not None
        assert (fork.ids, fork.before, leaf.before, prefixes.bytes) == (ids[:4], root, fork, size)
        for prefix, length in ((fork, 4), (leaf, 6)):
            prefixes.load([(prefix, [0], 0)], cache)
            assert torch.equal(cache.data[:, 0, :length], data[:, :length])
        ((more,),), _ = prefixes.extend([Extension("s", fork, ((*ids[:4], 9),))])
        assert more.before is fork
        prefixes.drop("s")
    assert prefixes.bytes == 0


def test_a_prefix_loads_its_whole_chain_and_a_row_is_stored(checkpoint: Callable[..., Path]) -> None:
    model = Llama(checkpoint("policy"))
    prefixes, cache = Prefixes(model, 1 << 20), Cache(model)
    cache.reserve(6, 8)
    ids = (3, 4, 5, 6, 7, 8)
    with torch.inference_mode():
        ((root, whole),), _ = prefixes.extend([Extension("s", None, (ids[:2], ids))])
        assert whole.before is root
        data = prefixes.pool[:, whole.path]
        assert data.shape[1] == 6
        for rows in ([2, 3], [0, 5]):
            prefixes.load([(whole, rows, 0)], cache)
            assert all(torch.equal(cache.data[:, row, :6], data) for row in rows)
        assert (cache.data[:, [1, 4]] == 0).all()
        prefixes.store([Extension("t", None, (ids[:2],)), Extension("s", root, (ids[:5],))], cache, [3, 5])
        for scope, stored in (("t", ids[:2]), ("s", ids[:5])):
            found = prefixes.find(scope, stored)
            assert found is not None
            assert torch.equal(prefixes.pool[:, found.path], data[:, : len(stored)])
    assert (prefixes.pool[:, 0] == 0).all()


# ---------------------------------------------------------------------------------------------------- broken folders


def _broken(source: Path, folder: Path, name: str, content: bytes) -> Path:
    shutil.copytree(source, folder)
    (folder / name).write_bytes(content)
    return folder


def _load(folder: Path) -> None:
    config = Llama(folder).config
    Tokens(folder, config.begin, config.vocabulary)


def _header(content: bytes) -> bytes:
    return len(content).to_bytes(8, "little") + content


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", b""),
        ("model.safetensors", b"x" * 100),
        ("model.safetensors", b"\xff" * 8 + b"{}"),
        ("model.safetensors", _header(b"{")),
        ("model.safetensors", _header(b"[]")),
        ("model.safetensors", _header(b"{}")),
        ("model.safetensors", _header(b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}')),
        ("model.safetensors", _header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}') + b"1234"),
        ("model.safetensors", _header(b'{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}') + b"1234"),
        ("model.safetensors", _header(b'{"a":{"dtype":"F32","shape":[4611686018427387904,8],"data_offsets":[0,4]}}')),
        ("tokenizer.json", b""),
        ("tokenizer.json", b"{}"),
        ("tokenizer.json", b"[" * 99_999),
        ("tokenizer.json", b"\xff"),
        ("tokenizer.json", b'{"model": {"type": "BPE", "vocab": {}, "merges": [["a", "b"]]}}'),
        ("config.json", b"{"),
        ("config.json", b"[]"),
        ("config.json", b'{"architectures": ["LlamaForCausalLM"]}'),
        ("config.json", b'{"architectures": 5}'),
        ("config.json", b"\xff\xfe"),
        ("config.json", b"[" * 99_999),
    ],
)
def test_files_that_are_none_are_one_sentence(name: str, content: bytes, checkpoint: Any, tmp_path: Path) -> None:
    folder = _broken(checkpoint("policy"), tmp_path / "broken", name, content)
    with pytest.raises(UnsupportedModel) as caught:
        _load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("hidden_size", 64, r"is \(\d+, 32\); config.json says \(\d+, 64\)"),
        ("hidden_size", None, "hidden_size is None"),
        ("vocab_size", 10**12, "vocab_size is 1000000000000"),
        ("num_hidden_layers", 3, r"lacks the tensor layers\.2\."),
        ("num_hidden_layers", 10**9, "num_hidden_layers is"),
        ("max_position_embeddings", 10**12, "max_position_embeddings is"),
        ("num_attention_heads", 0, "num_attention_heads is 0"),
        ("num_attention_heads", "4", "num_attention_heads is 4"),
        ("num_key_value_heads", 3, "the second must divide"),
        ("head_dim", 7, "the third be even"),
        ("rope_theta", -1.0, "rope_theta is -1.0"),
        ("rms_norm_eps", "x", "rms_norm_eps is x"),
        ("bos_token_id", 10**6, "names the token 1000000"),
        ("eos_token_id", [1, "x"], "names the token x"),
        ("rope_parameters", 5, "says what cannot be"),
    ],
)
def test_sizes_that_no_model_has_are_refused(key: str, value: Any, said: str, checkpoint: Any, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    shutil.copytree(checkpoint("policy"), folder)
    config = json.loads((folder / "config.json").read_text()) | {key: value}
    if key == "rope_theta":
        config["rope_parameters"] = {"rope_theta": value}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModel, match=said):
        Llama(folder)


def test_weights_that_are_no_numbers_and_tokenizers_that_do_not_fit_are_refused(
    checkpoint: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "nan"
    shutil.copytree(checkpoint("policy"), folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UnsupportedModel, match=r"layers\.1\.mlp\.up_proj\.weight holds what is no finite number"):
        Llama(folder)
    with pytest.raises(UnsupportedModel, match=r"the tokenizer in .* has 19 tokens; its model knows 10"):
        Tokens(folder, 1, 10)


def test_padding_and_truncation_of_a_tokenizer_are_left_out(checkpoint: Any, tmp_path: Path) -> None:
    folder = tmp_path / "padded"
    shutil.copytree(checkpoint("policy"), folder)
    raw = json.loads((folder / "tokenizer.json").read_text())
    raw["padding"] = {
        "strategy": {"Fixed": 10**9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "<pad>",
    }  # fmt: skip
    raw["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    (folder / "tokenizer.json").write_text(json.dumps(raw))
    assert len(Tokens(folder, None).encode("abcd")) == 4
