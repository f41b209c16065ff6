"""Training of small policies from scratch on an environment's worked solutions (``stepwell train policy``).

Works for any environment that is a `Demonstrator`. Number tokens start as their digits (one-hot units, tens and
hundreds, and slow waves for size; in the spirit of FoNE, Zhou et al. 2025, arXiv 2502.09741), so that what is learnt
of one number serves its neighbours; a curriculum of environment options brings easy problems first. Matrices are
trained with Muon, the rest with AdamW. A run is checkpointed and resumes; it records the tokens it has seen, which
FLOPs-matched comparisons need.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from loguru import logger
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from envs.core import Demonstrator, Environment, Problem
from envs.optim import Optimizers
from policies.tokenizer import FIRST_NUMBER, NUMBERS, build_tokenizer


@dataclass(frozen=True)
class Architecture:
    """A Llama-architecture model. Sizes are counts of units; heads of 32 keep vLLM's kernels usable."""

    hidden_size: int = 128
    layers: int = 4
    heads: int = 4
    head_dim: int = 32
    intermediate_size: int = 352


@dataclass(frozen=True)
class Stage:
    """A stage of a curriculum: until this fraction of the tokens, problems come from the environment so configured."""

    until: float
    options: Mapping[str, Any]


@dataclass(frozen=True)
class PolicyRecipe:
    """What ``configs/train-policy-*.yaml`` may say.

    Args:
        name: of the policy, and of its folder.
        environment: name in the registry.
        architecture: the model's sizes.
        tokens: training tokens in all, questions included.
        batch_tokens: tokens per optimiser step, padding included.
        muon_lr: peak learning rate of the matrices (Muon).
        adam_lr: peak learning rate of embeddings and norms (AdamW).
        curriculum: stages of environment options; each holds until its fraction of the tokens has been seen.
        seed: of the weights and the data.
    """

    name: str
    environment: str = "arithmetic"
    architecture: Architecture = field(default_factory=Architecture)
    tokens: int = 10_000_000
    batch_tokens: int = 2048
    muon_lr: float = 0.02
    adam_lr: float = 0.002
    curriculum: tuple[Stage, ...] = ()
    seed: int = 0

    def options(self, fraction: float) -> Mapping[str, Any]:
        """The environment's options at a fraction of the run; after the last stage, none."""
        return next((stage.options for stage in self.curriculum if fraction < stage.until), {})


def build_model(architecture: Architecture, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained model; the torch seed decides its weights."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=architecture.hidden_size,
        intermediate_size=architecture.intermediate_size,
        num_hidden_layers=architecture.layers,
        num_attention_heads=architecture.heads,
        num_key_value_heads=architecture.heads,
        head_dim=architecture.head_dim,
        max_position_embeddings=1024,
        initializer_range=0.6 / math.sqrt(architecture.hidden_size),
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        weight = model.get_input_embeddings().weight
        weight[FIRST_NUMBER : FIRST_NUMBER + NUMBERS] = _number_features(architecture.hidden_size)
    return model


def _number_features(width: int) -> torch.Tensor:
    """(1000, width): one-hot units, tens and hundreds plus slow waves, over a little noise; rows of norm ~0.6."""
    numbers = torch.arange(NUMBERS)
    digits = [torch.eye(10)[numbers // place % 10] for place in (1, 10, 100)]
    angles = 2 * math.pi * numbers[:, None] / torch.tensor([1000.0, 100.0])
    waves = torch.stack([angles.cos(), angles.sin()], -1).flatten(1) * 0.5
    known = torch.cat([*digits, waves], 1)[:, :width]
    features = torch.randn(NUMBERS, width) * (0.1 / math.sqrt(width))
    features[:, : known.shape[1]] += known * 0.33
    return features


# ------------------------------------------------------------------------------------------------------------ data


CHUNK = 2000


@dataclass(frozen=True)
class Example:
    """Token ids of a prompt and a worked solution; only the ids from `start` on are learnt."""

    ids: list[int]
    start: int


def examples(
    environment: Callable[[], Environment],
    tokenizer: PreTrainedTokenizerFast,
    seed: int,
    skip: int = 0,
) -> Iterator[Example]:
    """Worked solutions of the train split without end, in chunks of problems drawn with consecutive seeds.

    Args:
        environment: asked anew for each chunk, so that a curriculum can change it.
        tokenizer: of the policy.
        seed: of the data.
        skip: examples already seen (a resumed run goes on with the next chunk).
    """
    for part in range(-(-skip // CHUNK), 1 << 30):
        source = environment()
        assert isinstance(source, Demonstrator)
        rng = random.Random(f"demonstrate/{seed}/{part}")
        problems = source.problems("train", CHUNK, seed=(seed << 20) + part + 1)
        solutions = [source.delimiter.join(source.demonstrate(problem, rng)) for problem in problems]
        prompts = [source.prompt(problem) for problem in problems]
        prompt_ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
        solution_ids = tokenizer(solutions, add_special_tokens=False)["input_ids"]
        for before, after in zip(prompt_ids, solution_ids, strict=True):
            first = [tokenizer.bos_token_id, *before]
            yield Example([*first, *after, tokenizer.eos_token_id], len(first))


def batches(stream: Iterator[Example], batch_tokens: int, rng: random.Random) -> Iterator[list[Example]]:
    """Batches of examples of like length (little padding), in random order within a pool."""
    while True:
        pool = sorted((next(stream) for _ in range(CHUNK)), key=lambda example: len(example.ids))
        made: list[list[Example]] = [[]]
        for example in pool:
            if (len(made[-1]) + 1) * len(example.ids) > batch_tokens and made[-1]:
                made.append([])
            made[-1].append(example)
        rng.shuffle(made)
        yield from made


def loss_of(model: LlamaForCausalLM, batch: Sequence[Example], device: torch.device) -> torch.Tensor:
    """Mean cross-entropy of the solutions' tokens; right padding needs no mask under causal attention."""
    longest = max(len(example.ids) for example in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    learn = torch.zeros(len(batch), longest, dtype=torch.bool)
    for row, example in enumerate(batch):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        learn[row, example.start : len(example.ids)] = True
    ids, learn = ids.to(device), learn.to(device)
    hidden = model.model(ids, use_cache=False).last_hidden_state[:, :-1][learn[:, 1:]]
    return cross_entropy(model.lm_head(hidden).float(), ids[:, 1:][learn[:, 1:]])


# -------------------------------------------------------------------------------------------------------- training


def train_policy(
    recipe: PolicyRecipe,
    load: Callable[..., Environment],
    folder: Path,
    device: str = "cpu",
    checkpoint_seconds: float = 120.0,
) -> Path:
    """Train a policy and save it under `folder`; an interrupted run goes on from its last checkpoint.

    Args:
        recipe: what to train.
        load: makes the environment, given options by keyword (the curriculum's).
        folder: where the policy and, meanwhile, its checkpoint go.
        device: as torch names it.
        checkpoint_seconds: time between checkpoints.

    Returns:
        The folder, holding config.json, model.safetensors (float16), tokenizer.json and training.json
        (the recipe, tokens seen, examples seen, seconds, and the loss as it fell).

    Raises:
        TypeError: when the environment cannot write worked solutions.
    """
    environment = load()
    if not isinstance(environment, Demonstrator):
        raise TypeError(f"environment {environment.name!r} has no `demonstrate` method to learn from")
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    tokenizer = build_tokenizer(_corpus(environment))
    model = build_model(recipe.architecture, tokenizer).to(device)
    model.train()
    optimizers = Optimizers(model, recipe.muon_lr, recipe.adam_lr)
    record: dict[str, Any] = {"recipe": asdict(recipe), "parameters": model.num_parameters()}
    progress: dict[str, Any] = {"tokens": 0, "examples": 0, "steps": 0, "seconds": 0.0, "losses": []}
    checkpoint = folder / "checkpoint"
    if (checkpoint / "progress.json").exists():
        progress = _resume(checkpoint, model, optimizers)
        logger.info("going on from {:,} tokens", progress["tokens"])
    rng = random.Random(f"batches/{recipe.seed}/{progress['examples']}")
    stream = examples(
        lambda: load(**recipe.options(progress["tokens"] / recipe.tokens)), tokenizer, recipe.seed, progress["examples"]
    )
    last_saved, started, recent = time.monotonic(), time.monotonic() - progress["seconds"], 0.0
    for batch in batches(stream, recipe.batch_tokens, rng):
        if progress["tokens"] >= recipe.tokens:
            break
        loss = loss_of(model, batch, torch.device(device))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizers.step(progress["tokens"] / recipe.tokens)
        progress["tokens"] += sum(len(example.ids) for example in batch)
        progress["examples"] += len(batch)
        progress["steps"] += 1
        progress["seconds"] = round(time.monotonic() - started, 1)
        weight = max(0.02, 1 / progress["steps"])
        recent += weight * (loss.item() - recent)
        if progress["steps"] % 50 == 0:
            progress["losses"].append([progress["tokens"], round(recent, 4)])
            logger.info("{:,} tokens, loss {:.4f}, {:.0f} s", progress["tokens"], recent, progress["seconds"])
        if time.monotonic() - last_saved > checkpoint_seconds:
            _checkpoint(checkpoint, model, optimizers, progress)
            last_saved = time.monotonic()
    save_model(model, tokenizer, folder, record | progress)
    for file in checkpoint.glob("*"):
        file.unlink()
    if checkpoint.exists():
        checkpoint.rmdir()
    return folder


def save_model(model: Any, tokenizer: PreTrainedTokenizerFast, folder: Path, record: dict[str, Any]) -> None:
    """Save a model in the standard transformers layout, in half precision, with its training record beside it."""
    model.eval()
    model.to("cpu", torch.float16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "training.json").write_text(json.dumps(record, indent=1) + "\n")


def _corpus(environment: Environment) -> list[str]:
    assert isinstance(environment, Demonstrator)
    rng = random.Random(0)

    def text(problem: Problem) -> str:
        assert isinstance(environment, Demonstrator)
        return environment.prompt(problem) + environment.delimiter.join(environment.demonstrate(problem, rng))

    return [text(problem) for problem in environment.problems("train", 3000)]


def _checkpoint(folder: Path, model: LlamaForCausalLM, optimizers: Optimizers, progress: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.named_parameters()}
    for name, content in (("model", tensors), ("optimizer", optimizers.state())):
        save_file(content, folder / f"{name}.new")
        (folder / f"{name}.new").replace(folder / f"{name}.safetensors")
    (folder / "progress.new").write_text(json.dumps(progress))
    (folder / "progress.new").replace(folder / "progress.json")


def _resume(folder: Path, model: LlamaForCausalLM, optimizers: Optimizers) -> dict[str, Any]:
    tensors = load_file(folder / "model.safetensors")
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(tensors[name])
    optimizers.load(load_file(folder / "optimizer.safetensors"))
    progress: dict[str, Any] = json.loads((folder / "progress.json").read_text())
    return progress
