"""Small checkpoints as people bring them: folders of random models, GGUF files, adapters."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig

from tests.policies.families import QWEN25, tokenizer_of

SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.35,
    "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 2,
}  # fmt: skip


def folder_of(folder: Path, kind: Any = LlamaConfig, seed: int = 0, **options: Any) -> Path:
    """A random model with a chat model's tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = {"max_shard_size": options.pop("shards")} if "shards" in options else {}
    tokenizer = tokenizer_of(QWEN25)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    sizes = SIZES | {"vocab_size": len(tokenizer), "tie_word_embeddings": False} | options
    AutoModelForCausalLM.from_config(kind(**sizes)).save_pretrained(folder, **shards)
    return folder


def change(folder: Path, **tensors: torch.Tensor | None) -> Path:
    """Replace tensors of a folder of one file by others, or leave them out; ``__`` in a name stands for a dot."""
    weights = load_file(folder / "model.safetensors")
    for key, tensor in tensors.items():
        name = key.replace("__", ".")
        if tensor is None:
            del weights[name]
        else:
            weights[name] = tensor
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def configure(folder: Path, name: str = "config.json", **values: Any) -> Path:
    """Change values of a JSON file of a folder; None leaves one out."""
    config = json.loads((folder / name).read_text())
    config = {key: value for key, value in (config | values).items() if value is not None}
    (folder / name).write_text(json.dumps(config))
    return folder


def adapter_of(folder: Path, base: str, tensors: dict[str, torch.Tensor], **config: Any) -> Path:
    """A folder as peft saves one."""
    folder.mkdir(parents=True, exist_ok=True)
    said = {"peft_type": "LORA", "base_model_name_or_path": base, "r": 2, "lora_alpha": 8, "task_type": "CAUSAL_LM"}
    (folder / "adapter_config.json").write_text(json.dumps(said | config))
    named = {f"base_model.model.{name}": tensor.contiguous() for name, tensor in tensors.items()}
    save_file(named, folder / "adapter_model.safetensors")
    return folder


def gguf_of(file: Path, source: Path, leave_out: str = "") -> Path:
    """The model of a folder (of Qwen2) as a GGUF file, its matrices in eight bits; without the tensors of a name."""
    import gguf
    from gguf.quants import quantize

    config = json.loads((source / "config.json").read_text())
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    writer = gguf.GGUFWriter(file, "qwen2")
    writer.add_name("tiny")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(10000.0)
    vocabulary = dict(tokenizer["model"]["vocab"])
    added = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    tokens = sorted(vocabulary | added, key=lambda token: (vocabulary | added)[token])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    kinds = (gguf.TokenType.NORMAL, gguf.TokenType.CONTROL)
    writer.add_token_types([kinds[token in added] for token in tokens])
    merges = tokenizer["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_bos_token_id(added["<|endoftext|>"])
    writer.add_eos_token_id(added["<|im_end|>"])
    writer.add_chat_template(QWEN25.template)
    names = {
        "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }  # fmt: skip
    for name, tensor in load_file(source / "model.safetensors").items():
        ours = name.replace("model.layers.", "blk.")
        for theirs, short in names.items():
            ours = ours.replace(theirs, short)
        if leave_out and leave_out in ours:
            continue
        values = tensor.float().numpy()
        if values.ndim == 2 and values.shape[1] % 32 == 0:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(ours, quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(ours, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
