"""Tiny random checkpoints with the architectures, heads and token layouts of published verifiers."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from envs.core import Problem, State, Step

WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHATML = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nBe helpful.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (
    "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\nToday Date: {{ date_string }}\n\n<|eot_id|>"
    "{% for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n"
    "{{ message.content | trim }}<|eot_id|>{% endfor %}"
)
SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<extra_0>",
    "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
]  # fmt: skip
SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 2048, "initializer_range": 0.35,
    "rms_norm_eps": 1e-6, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 0,
}  # fmt: skip

Tiny = Callable[..., Path]


def byte_tokenizer(begin: str | None = None) -> Any:
    """Byte-level BPE with the pre-tokenizer of Qwen, and what the families need as single tokens."""
    from tokenizers import AddedToken, Regex, Tokenizer
    from tokenizers.decoders import ByteLevel as Decoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
    from tokenizers.processors import TemplateProcessing

    merges = [("Ċ", "Ċ"), ("ĊĊ", "ĊĊ"), ("Ġ", "ĊĊĊĊ"), (".", "ĊĊ"), ("Y", "e"), ("Ye", "s"), ("N", "o")]
    merges += [("Ġ", "Yes"), ("Ġ", "No"), ("e", "p"), ("t", "ep"), ("Ġ", "="), ("Ġ", "+")]
    pieces = sorted(ByteLevel.alphabet()) + [left + right for left, right in merges]
    tokenizer = Tokenizer(BPE({piece: index for index, piece in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = Sequence([Split(Regex(WORDS), "isolated"), ByteLevel(False, use_regex=False)])
    tokenizer.decoder = Decoder()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    if begin:
        marks = [(begin, tokenizer.token_to_id(begin))]
        tokenizer.post_processor = TemplateProcessing(single=f"{begin} $A", pair=None, special_tokens=marks)
    return tokenizer


def sentence_tokenizer() -> Any:
    """BPE over whole texts, spaces written as ``▁``, bytes for what it does not know: as of Llama 2 and Mistral."""
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.decoders import ByteFallback, Fuse, Replace, Sequence
    from tokenizers.models import BPE
    from tokenizers.normalizers import Prepend
    from tokenizers.normalizers import Replace as Replaced
    from tokenizers.normalizers import Sequence as Normalizers
    from tokenizers.processors import TemplateProcessing

    merges = [("к", "и"), ("▁", "+"), ("▁", "-"), ("▁", "S"), ("t", "e"), ("te", "p"), ("▁S", "tep"), ("▁", "▁")]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "к", "и"]
    pieces += [chr(code) for code in range(33, 127)] + [left + right for left, right in merges]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = Normalizers([Prepend("▁"), Replaced(" ", "▁")])
    tokenizer.decoder = Sequence([Replace("▁", " "), ByteFallback(), Fuse()])
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in pieces[:3]])
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", pair=None, special_tokens=[("<s>", 1)])
    return tokenizer


def save_tokenizer(folder: Path, tokenizer: Any, **options: Any) -> int:
    """Save a tokenizer as transformers does; returns the size of its vocabulary."""
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **options).save_pretrained(folder)
    return int(tokenizer.get_vocab_size())


def save_model(folder: Path, model: Any, architecture: str | None = None, **heads: Any) -> None:
    """Save a model; with `heads`, without its own one and with these tensors beside."""
    import json

    import torch
    from safetensors.torch import save_file

    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
        elif name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    if architecture:
        config = json.loads((folder / "config.json").read_text())
        config["architectures"] = [architecture]
        (folder / "config.json").write_text(json.dumps(config))
        save_file(model.state_dict() | heads, folder / "model.safetensors", {"format": "pt"})


def build(scratch: Path, family: str, **options: Any) -> Path:
    """Make the folder of a tiny checkpoint of a family in another folder; options are of the architecture."""
    import torch
    import transformers as hf

    folder = scratch / family
    folder.mkdir()
    torch.manual_seed(len(family))
    width = options.get("hidden_size", SIZES["hidden_size"])
    chatml = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "chat_template": CHATML}
    match family:
        case "math-shepherd":
            size = save_tokenizer(folder, sentence_tokenizer(), bos_token="<s>", eos_token="</s>")
            config = hf.MistralConfig(**SIZES | {"vocab_size": size, "sliding_window": 24} | options)
            save_model(folder, hf.MistralForCausalLM(config))
        case "rlhflow":
            size = save_tokenizer(
                folder, byte_tokenizer("<|begin_of_text|>"), bos_token="<|begin_of_text|>",
                eos_token="<|eot_id|>", chat_template=LLAMA,
            )  # fmt: skip
            config = hf.LlamaConfig(**SIZES | {"vocab_size": size, "tie_word_embeddings": True} | options)
            save_model(folder, hf.LlamaForCausalLM(config))
        case "versa":
            bos = "<|begin_of_text|>"
            size = save_tokenizer(folder, byte_tokenizer(bos), bos_token=bos, eos_token="<|eot_id|>")
            save_model(folder, hf.LlamaForCausalLM(hf.LlamaConfig(**SIZES | {"vocab_size": size} | options)))
        case "judge":
            size = save_tokenizer(folder, byte_tokenizer(), **chatml)
            save_model(folder, hf.Qwen2ForCausalLM(hf.Qwen2Config(**SIZES | {"vocab_size": size} | options)))
        case "qwen-prm":
            size = save_tokenizer(folder, byte_tokenizer(), **chatml)
            model = hf.Qwen2ForCausalLM(hf.Qwen2Config(**SIZES | {"vocab_size": size} | options))
            del model.lm_head
            shapes = {"score.0.weight": (width, width), "score.0.bias": (width,), "score.2.weight": (2, width)}
            heads = {name: torch.randn(shape) * 0.3 for name, shape in (shapes | {"score.2.bias": (2,)}).items()}
            save_model(folder, model, "Qwen2ForProcessRewardModel", **heads)
        case "skywork":
            size = save_tokenizer(
                folder, byte_tokenizer(), bos_token="<|endoftext|>", eos_token="<|im_end|>", chat_template=CHATML
            )
            model = hf.Qwen2ForCausalLM(hf.Qwen2Config(**SIZES | {"vocab_size": size} | options))
            heads = {"v_head.summary.weight": torch.randn(1, width) * 0.3, "v_head.summary.bias": torch.randn(1)}
            save_model(folder, model, "Qwen2ForPrmModel", **heads)
        case "token-classification":
            size = save_tokenizer(folder, byte_tokenizer(), bos_token="<|endoftext|>", eos_token="<|im_end|>")
            config = hf.Qwen3Config(**SIZES | {"vocab_size": size, "num_labels": 2} | options)
            save_model(folder, hf.Qwen3ForTokenClassification(config))
        case "outcome":
            size = save_tokenizer(folder, byte_tokenizer(), **chatml)
            config = hf.Qwen2Config(**SIZES | {"vocab_size": size, "num_labels": 1} | options)
            save_model(folder, hf.Qwen2ForSequenceClassification(config))
        case _:
            raise ValueError(family)
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """Make the folder of a tiny checkpoint of a family: ``tiny("skywork")``, ``tiny("outcome", num_labels=2)``."""
    import torch

    torch.set_num_threads(1)
    return functools.cache(lambda family, **options: build(tmp_path_factory.mktemp("made"), family, **options))


TEXTS = (
    "First, 2 + 3 = 5.",
    "Step 2: take 7 - 5\nand so on.",
    "Then 5 * 7 = 35, + 1.",
    "Ünïcode ки → 36 + more.",
    "So the answer is 36.",
)


@pytest.fixture
def solutions() -> list[State]:
    """States of several problems, two to five steps each; some share their first steps."""
    return [
        State(
            Problem(f"p{problem}", f"What is {problem} + {problem * 7}? Say why."), tuple(map(Step, TEXTS[start:end]))
        )
        for problem, (start, end) in enumerate([(0, 2), (0, 5), (1, 4), (2, 5), (0, 3)])
    ]
