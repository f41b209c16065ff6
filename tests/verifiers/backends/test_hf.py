"""From names to verifiers: which family is found, and what is said when none can be."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from envs.core import Problem, State, Step
from envs.math.environment import Math
from policies.conformance import ask
from policies.models.errors import UnsupportedModel
from tests.verifiers.conftest import SIZES, byte_tokenizer, save_model, save_tokenizer
from verifiers.backends import hf as checkpoints
from verifiers.backends.hf import KNOWN, NAMES, family_of, find_checkpoint
from verifiers.backends.lab import LabVerifier
from verifiers.conformance import check_verifier
from verifiers.core import Score
from verifiers.registry import load_verifier
from verifiers.scoring.hf_model import Backbone
from verifiers.scoring.tokenization import Texts

Tiny = Callable[..., Path]


@pytest.fixture(scope="module")
def environment() -> Math:
    return Math()


@pytest.mark.parametrize("name", ["qwen-prm", "skywork", "token-classification", "outcome"])
def test_a_head_tells_its_family(name: str, tiny: Tiny) -> None:
    assert family_of(str(tiny(name)), tiny(name)) == name


def test_every_published_name_has_a_family() -> None:
    assert set(KNOWN.values()) <= set(NAMES)
    for name, family in KNOWN.items():
        assert family_of(name, Path("nowhere")) == family
        assert family_of(f"/models/{name.partition('/')[2].lower()}", Path("nowhere")) == family


def test_a_folder_named_like_a_published_one_is_of_its_family(tiny: Tiny, environment: Math, tmp_path: Path) -> None:
    folder = tmp_path / "math-shepherd-mistral-7b-prm"
    shutil.copytree(tiny("math-shepherd"), folder)
    verifier: Any = load_verifier(folder, environment, device="cpu")
    assert verifier.name == "math-shepherd-mistral-7b-prm"
    state = State(Problem("p", "q"), (Step("a"),))
    (by_name,) = ask(verifier, [Score((state,))])
    (by_family,) = ask(
        load_verifier(f"hf:{tiny('math-shepherd')}", environment, family="math-shepherd", device="cpu"),
        [Score((state,))],
    )
    assert by_name == by_family


def test_the_id_of_a_published_checkpoint_is_a_name(
    tiny: Tiny, environment: Math, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str | None]] = []

    def find(name: str, revision: str | None = None) -> Path:
        asked.append((name, revision))
        return tiny("qwen-prm")

    monkeypatch.setattr(checkpoints, "find_checkpoint", find)
    verifier = load_verifier("Qwen/Qwen2.5-Math-PRM-7B", environment, device="cpu", revision="abc")
    assert verifier.name == "Qwen2.5-Math-PRM-7B"
    assert asked == [("Qwen/Qwen2.5-Math-PRM-7B", "abc")]


@pytest.mark.parametrize("name", ["qwen-prm", "skywork", "token-classification", "outcome", "math-shepherd"])
def test_scores_in_8_bit_integers_are_nearly_those_of_float32(name: str, tiny: Tiny, environment: Math) -> None:
    states = tuple(State(Problem(each, "q"), tuple(Step(text) for text in each)) for each in ("ab", "abc", "ba"))
    found = []
    for dtype in ("float32", "int8"):
        verifier: Any = load_verifier(f"hf:{tiny(name)}", environment, family=name, dtype=dtype, device="cpu")
        check_verifier(verifier, environment, states)
        (reply,) = ask(verifier, [Score(states)])
        found.append((reply.flops, [score for scores in reply.scores for score in scores]))
    (flops, exact), (rounded_flops, rounded) = found
    assert rounded_flops == flops > 0
    assert rounded == pytest.approx(exact, abs=0.05)
    assert rounded != exact


def test_what_cannot_be_found_or_told_is_said(tiny: Tiny, environment: Math, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=r"Qwen2ForCausalLM, which may be of several families; .*: genprm"):
        load_verifier(f"hf:{tiny('judge')}", environment)
    with pytest.raises(ValueError, match=r"family 'math-sheperd' given; did you mean 'math-shepherd'\? all"):
        load_verifier(f"hf:{tiny('judge')}", environment, family="math-sheperd")
    with pytest.raises(ValueError, match=r"no option 'seperator'; did you mean 'separator'\?"):
        load_verifier(f"hf:{tiny('token-classification')}", environment, seperator="\n")
    with pytest.raises(ValueError, match=r"no option 'famly'; did you mean 'family'\?"):
        load_verifier(f"hf:{tiny('judge')}", environment, famly="judge")
    with pytest.raises(ValueError, match=r"no option 'votes'; allowed: family, .*, separator"):
        load_verifier(f"hf:{tiny('token-classification')}", environment, votes=2)
    with pytest.raises(ValueError, match=r"dtype 'float8' given; allowed: float32"):
        load_verifier(f"hf:{tiny('qwen-prm')}", environment, dtype="float8", device="cpu")
    with pytest.raises(UnsupportedModel, match="there is no folder '/nowhere'"):
        find_checkpoint("/nowhere")
    with pytest.raises(UnsupportedModel, match=r"cannot be had from the hub.*mean 'Qwen/Qwen2.5-Math-PRM-7B'"):
        find_checkpoint("Qwen/Qwen2.5-Math-PRM-7b")
    with pytest.raises(ValueError, match=r"-7' is not known; did you mean 'Qwen/Qwen2.5-Math-PRM-7B'"):
        load_verifier("Qwen/Qwen2.5-Math-PRM-7", environment)
    (tmp_path / "config.json").write_text('{"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UnsupportedModel, match=r"no \.safetensors file; weights in other formats can hold code"):
        load_verifier(tmp_path, environment)


def test_a_folder_of_the_lab_is_run_by_the_lab_unless_transformers_is_asked_for(
    checkpoint: Callable[..., Path], chatter: Any
) -> None:
    folder = checkpoint("verifier")
    assert isinstance(load_verifier(folder, chatter, device="cpu"), LabVerifier)
    by_transformers: Any = load_verifier(f"hf:{folder}", chatter, device="cpu")
    assert by_transformers.runner.model.pieces
    check_verifier(
        by_transformers, chatter, [State(each, (Step("ab"), Step("c"))) for each in chatter.problems("test", 3)]
    )


def test_tensors_may_be_named_as_a_wrapper_saves_them(tiny: Tiny, environment: Math, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny("skywork"), tmp_path / "wrapped")
    weights = load_file(tmp_path / "wrapped" / "model.safetensors")
    named = {
        key.replace("summary.", "") if "v_head" in key else f"pretrained_model.{key}": tensor
        for key, tensor in weights.items()
    }
    save_file(named, tmp_path / "wrapped" / "model.safetensors", {"format": "pt"})
    state = State(Problem("p", "What?"), (Step("one"), Step("two")))
    plain, wrapped = (
        ask(load_verifier(f"hf:{folder}", environment, device="cpu"), [Score((state,))])
        for folder in (tiny("skywork"), tmp_path / "wrapped")
    )
    assert plain == wrapped


def test_a_checkpoint_that_lacks_tensors_is_refused(tiny: Tiny, environment: Math, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny("skywork"), tmp_path / "less")
    weights = load_file(tmp_path / "less" / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "less" / "model.safetensors", {"format": "pt"})
    with pytest.raises(UnsupportedModel, match=r"lacks 1 tensors of its architecture: .*layers\.1\.mlp\.up_proj"):
        load_verifier(f"hf:{tmp_path / 'less'}", environment, device="cpu")


def test_an_encoder_reads_each_text_as_a_whole(environment: Math, solutions: list[State], tmp_path: Path) -> None:
    """It sees what comes after a step, too: scores are those of the whole text, and nothing is kept."""
    import transformers as hf

    folder = tmp_path / "encoder"
    folder.mkdir()
    size = save_tokenizer(folder, byte_tokenizer(), bos_token="<|endoftext|>", eos_token="<|im_end|>")
    sizes = {key: SIZES[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "pad_token_id")}
    config = hf.BertConfig(
        **sizes, vocab_size=size, num_attention_heads=4, max_position_embeddings=512, initializer_range=0.3
    )
    save_model(folder, hf.BertForTokenClassification(config))
    verifier: Any = load_verifier(f"hf:{folder}", environment, device="cpu")
    check_whole = [State(each.problem, each.steps[:2]) for each in solutions[:3]]
    first, again = (ask(verifier, [Score(tuple(check_whole), "s")]) for _ in range(2))
    assert first[0].scores == again[0].scores
    assert first[0].tokens == again[0].tokens > 0
    model = hf.BertForTokenClassification.from_pretrained(folder).eval()
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    for state, scores in zip(check_whole, first[0].scores, strict=True):
        ids, ends = [tokenizer.bos_token_id, *tokenizer.encode(state.problem.question)], []
        for text in state.texts:
            ids += tokenizer.encode(text) + tokenizer.encode("\n")
            ends.append(len(ids) - 1)
        with torch.inference_mode():
            expected = model(torch.tensor([ids])).logits[0].softmax(-1)[ends, 1].tolist()
        assert scores == pytest.approx(expected, abs=1.1e-5)


@pytest.mark.parametrize(
    ("kind", "options", "pieces"),
    [
        ("Qwen2Config", {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}, True),
        ("Gemma3TextConfig", {"sliding_window": 8, "query_pre_attn_scalar": 50}, True),
        ("Gemma2Config", {"attn_logit_softcapping": 50.0}, False),
    ],
)
def test_other_decoders_are_run_in_pieces_if_their_attention_is_ours(
    kind: str, options: dict[str, Any], pieces: bool, tmp_path: Path
) -> None:
    """Layers with and without windows, scaled attention: as transformers computes them."""
    import transformers as hf

    config = getattr(hf, kind)(**SIZES | {"vocab_size": 64, "num_labels": 2} | options)
    save_model(tmp_path, hf.AutoModelForSequenceClassification.from_config(config))
    assert Backbone(tmp_path, "sequence").pieces == pieces


def test_what_is_more_than_a_matrix_on_top_is_refused(tmp_path: Path) -> None:
    import transformers as hf

    config = hf.Gemma2Config(**SIZES | {"vocab_size": 64, "final_logit_softcapping": 0.5})
    save_model(tmp_path, hf.Gemma2ForCausalLM(config))
    with pytest.raises(UnsupportedModel, match="outputs are more than a matrix"):
        Backbone(tmp_path, "causal")


def test_half_precision_and_little_memory_change_scores_little(
    tiny: Tiny, environment: Math, solutions: list[State]
) -> None:
    requests = [Score((state,), "s") for state in solutions]
    exact, halved, forgetful = (
        ask(load_verifier(f"hf:{tiny('qwen-prm')}", environment, device="cpu", **options), requests)
        for options in ({}, {"dtype": "bfloat16"}, {"memory": 0})
    )
    for a, b, c in zip(exact, halved, forgetful, strict=True):
        assert a.scores == c.scores
        assert b.scores[0] == pytest.approx(a.scores[0], abs=0.15)


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "awq", "compressed-tensors"])
def test_a_quantised_model_without_what_runs_it_is_one_sentence(
    method: str, tiny: Tiny, environment: Math, tmp_path: Path
) -> None:
    import json

    folder = tmp_path / "quantised"
    shutil.copytree(tiny("token-classification"), folder)
    config = json.loads((folder / "config.json").read_text())
    kinds: dict[str, dict[str, Any]] = {
        "bitsandbytes": {"load_in_4bit": True},
        "compressed-tensors": {"config_groups": {}},
    }
    config["quantization_config"] = {"quant_method": method, **kinds.get(method, {"bits": 4})}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModel, match=f"a model quantised by {method}, cannot be loaded as") as caught:
        load_verifier(f"hf:{folder}", environment, device="cpu")
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_tokenizer_says_so(tiny: Tiny, environment: Math, tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    shutil.copytree(tiny("token-classification"), folder)
    for file in folder.glob("*token*"):
        file.unlink()
    with pytest.raises(UnsupportedModel, match=r"has no tokenizer\.json, nor another file of a tokenizer"):
        load_verifier(f"hf:{folder}", environment, device="cpu")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(UnsupportedModel, match=r"the tokenizer in .* cannot be read"):
        load_verifier(f"hf:{folder}", environment, device="cpu")


def test_a_tokenizer_larger_than_the_model_is_refused(tiny: Tiny, environment: Math) -> None:
    with pytest.raises(UnsupportedModel, match=r"writes token \d+, and its model knows 100 tokens"):
        load_verifier(f"hf:{tiny('token-classification', vocab_size=100)}", environment, device="cpu")
    # one that lacks a single token that the family writes
    known = Texts(tiny("qwen-prm")).special("<extra_0>")
    with pytest.raises(UnsupportedModel, match=f"writes token {known}, and its model knows {known} tokens"):
        load_verifier(f"hf:{tiny('qwen-prm', vocab_size=known)}", environment, device="cpu")


def test_a_chat_template_without_end_is_refused(tiny: Tiny, environment: Math, tmp_path: Path) -> None:
    folder = tmp_path / "endless"
    shutil.copytree(tiny("outcome"), folder)
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    (folder / "chat_template.jinja").write_text(endless)
    with pytest.raises(UnsupportedModel, match="cannot write a chat of user, assistant: it takes more than 1 s"):
        load_verifier(f"hf:{folder}", environment, device="cpu")


@pytest.mark.parametrize("name", ["qwen-prm", "outcome", "thinkprm"])
def test_a_verifier_tells_its_model_from_others_under_the_same_name(
    name: str, tiny: Tiny, environment: Math, tmp_path: Path
) -> None:
    def digest(folder: Path) -> str:
        made: Any = load_verifier(f"hf:{folder}", environment, family=name, device="cpu")
        return str(made.digest())

    first = shutil.copytree(tiny(name if name != "thinkprm" else "judge"), tmp_path / "first" / "same")
    other = shutil.copytree(first, tmp_path / "other" / "same")
    assert digest(first) == digest(other) != ""
    (other / "config.json").write_text((other / "config.json").read_text() + " ")
    assert digest(first) != digest(other)
