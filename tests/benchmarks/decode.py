"""Tokens per second of `LabPolicy` against a bare decode loop and transformers' generate: ``python decode.py``.

All three sample 64 tokens for each of B prompts of 32 tokens with a model of about 1 M parameters, on one thread. What
is printed are ratios: absolute speeds belong to a machine. Run it when nothing else runs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.functional import embedding, linear, rms_norm, scaled_dot_product_attention, silu
from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel

from envs.core import Problem, State, Step, Transition, truncation
from policies.backends.lab import LabPolicy
from policies.core import Propose
from policies.training.tokenizer import build_tokenizer

PROMPT, NEW = 32, 64


@dataclass(frozen=True)
class Endless:
    """An environment whose delimiter no token holds: every step is cut by length, and truncates."""

    name: str = "endless"
    delimiter: str = "\0"
    max_steps: int = 1

    def prompt(self, problem: Problem) -> str:
        return problem.question

    def step(self, state: State, step: Step) -> Transition:
        return truncation(state.then(step))


def bare_forward(model: LlamaModel, rows: int, length: int) -> Callable[[torch.Tensor, int], torch.Tensor]:
    """The floor of a pass: fused projections and a pre-allocated cache; nothing else.

    Args:
        model: what is run.
        rows: sequences of the cache.
        length: their room.

    Returns:
        A function from new tokens (rows, new) and the position of the first to the last one's normalised hidden state.
    """
    config = model.config
    heads, width, eps = config.num_attention_heads, config.head_dim, config.rms_norm_eps
    weights: list[tuple[torch.Tensor, ...]] = []
    table, final = model.embed_tokens.weight, model.norm.weight
    for layer in model.layers:
        a, m = layer.self_attn, layer.mlp
        qkv = torch.cat([a.q_proj.weight, a.k_proj.weight, a.v_proj.weight])
        gate_up = torch.cat([m.gate_proj.weight, m.up_proj.weight])
        norms = layer.input_layernorm.weight, layer.post_attention_layernorm.weight
        weights.append((qkv, a.o_proj.weight, gate_up, m.down_proj.weight, *norms))
    cache = torch.zeros(len(weights), 2, rows, heads, length, width)
    angles: torch.Tensor = torch.arange(length)[:, None] / 10000 ** (torch.arange(0, width, 2) / width)
    cos, sin = angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)

    def turn(x: torch.Tensor, start: int, end: int) -> torch.Tensor:
        first, second = x.chunk(2, -1)
        turned: torch.Tensor = x * cos[start:end] + torch.cat([-second, first], -1) * sin[start:end]
        return turned

    def forward(new: torch.Tensor, start: int) -> torch.Tensor:
        end = start + new.shape[1]
        x = embedding(new, table)
        for (qkv, out, gate_up, down, before, after), kept in zip(weights, cache, strict=True):
            mixed = linear(rms_norm(x, x.shape[-1:], before, eps), qkv).view(rows, -1, 3, heads, width)
            q, k, v = mixed.permute(2, 0, 3, 1, 4)
            kept[0, :, :, start:end], kept[1, :, :, start:end] = turn(k, start, end), v
            y = scaled_dot_product_attention(
                turn(q, start, end), kept[0, :, :, :end], kept[1, :, :, :end], is_causal=start == 0
            )
            x = x + linear(y.transpose(1, 2).flatten(2), out)
            gate, up = linear(rms_norm(x, x.shape[-1:], after, eps), gate_up).chunk(2, -1)
            x = x + linear(silu(gate) * up, down)
        return rms_norm(x[:, -1], x.shape[-1:], final, eps)

    return forward


def bare_loop(model: LlamaForCausalLM, ids: torch.Tensor, new: int = NEW) -> torch.Tensor:
    """The floor of decoding: one sampled token per row and pass."""
    rows, prompt = ids.shape
    forward = bare_forward(model.model, rows, prompt + new)
    made: list[torch.Tensor] = []
    for step in range(new):
        hidden = forward(ids if step == 0 else made[-1], 0 if step == 0 else prompt + step - 1)
        logits = linear(hidden, model.model.embed_tokens.weight)
        made.append(torch.multinomial(torch.softmax(logits, -1), 1))
    return torch.cat(made, 1)


def best_of(times: int, run: Callable[[], None]) -> float:
    """Processor seconds of the fastest of some runs, after one to warm up."""
    run()
    seconds = []
    for _ in range(times):
        started = time.process_time()
        run()
        seconds.append(time.process_time() - started)
    return min(seconds)


def build(folder: Path) -> LlamaForCausalLM:
    """A model that never ends, saved with its tokenizer."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer([])
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=352, num_hidden_layers=4, num_attention_heads=4,
        head_dim=32, max_position_embeddings=1024, tie_word_embeddings=True, bos_token_id=None, eos_token_id=None,
        pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


@torch.inference_mode()
def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--times", type=int, default=5, help="runs of each, of which the fastest counts")
    times = arguments.parse_args().times
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        model = build(Path(name))
        print("rows  LabPolicy / bare loop  LabPolicy / generate")
        for rows in (1, 16, 64, 256):
            policy = LabPolicy(name, Endless(), device="cpu", rows=256, step_tokens=NEW)  # type: ignore[arg-type]
            generator = torch.Generator().manual_seed(rows)
            numbers = torch.randint(100, 1000, (rows, PROMPT // 2), generator=generator).tolist()
            states = [State(Problem(str(row), " ".join(map(str, each)) + " ")) for row, each in enumerate(numbers)]
            ids = torch.tensor([policy.tokens.encode(state.problem.question) for state in states])
            assert ids.shape == (rows, PROMPT)
            request = Propose(tuple(states), tuple((row,) for row in range(rows)), scope="benchmark")

            def lab(policy: LabPolicy = policy, request: Propose = request, rows: int = rows) -> None:
                policy.cancel("benchmark")
                policy.submit(0, request)
                while not (ready := policy.poll()):
                    pass
                reply = ready[0][1]
                assert not isinstance(reply, Exception)
                assert reply.usage.generated == rows * NEW

            def generate(ids: torch.Tensor = ids) -> None:
                made = model.generate(
                    ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, max_new_tokens=NEW
                )
                assert made.shape[1] == PROMPT + NEW

            def bare(ids: torch.Tensor = ids) -> None:
                bare_loop(model, ids)

            seconds = {run: best_of(times, run) for run in (lab, bare, generate)}
            print(f"{rows:4}  {seconds[bare] / seconds[lab]:21.2f}  {seconds[generate] / seconds[lab]:20.2f}")


if __name__ == "__main__":
    main()
