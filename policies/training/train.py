"""Training of small policies (``stepwell train policy``) on worked solutions: an environment's, or what search found.

Works for any environment that is a `Demonstrator`, and for any at all where there are solutions to learn from. Number
tokens start as their digits (one-hot units, tens and hundreds, and slow waves for size; in the spirit of FoNE, Zhou et
al. 2025, arXiv 2502.09741), so that what is learnt of one number serves its neighbours; a curriculum of environment
options brings easy problems first. Matrices are trained with Muon, the rest with AdamW. A run is checkpointed and
resumes; it records the tokens it has seen, which FLOPs-matched comparisons need.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from loguru import logger
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from envs.core import Demonstrator, Environment
from policies.models.pretrained import quietly
from policies.training.net2net import widen
from policies.training.optimizers import Optimizers, load_checkpoint, read_progress, save_checkpoint
from policies.training.tokenizer import FIRST_NUMBER, NUMBERS, build_tokenizer
from policies.training.worked_solutions import Part, demonstration, problems_of


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
class Revise:
    """Learn from attempts of the policy that training starts from, not from worked solutions.

    `policies.training.revision_data` draws them.

    Args:
        problems: of the train split.
        samples: attempts at each.
    """

    problems: int = 4000
    samples: int = 16


@dataclass(frozen=True)
class PolicyRecipe:
    """What ``configs/training/train-policy-*.yaml`` may say.

    Args:
        name: of the policy, and of its folder.
        environment: name in the registry.
        architecture: the model's sizes; by default those of `start`, or else `Architecture`'s own.
        tokens: training tokens in all, questions included.
        batch_tokens: tokens per optimiser step, padding included.
        muon_lr: peak learning rate of the matrices (Muon).
        adam_lr: peak learning rate of embeddings and norms (AdamW).
        curriculum: stages of environment options; each holds until its fraction of the tokens has been seen.
        start: policy (name or folder) whose weights and tokenizer it goes on from, widened to `architecture` if that
            is given.
        revise: train a reviser, from `start`.
        seed: of the weights and the data.
    """

    name: str
    environment: str = "arithmetic"
    architecture: Architecture | None = None
    tokens: int = 10_000_000
    batch_tokens: int = 2048
    muon_lr: float = 0.02
    adam_lr: float = 0.002
    curriculum: tuple[Stage, ...] = ()
    start: str | None = None
    revise: Revise | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.revise is not None and self.start is None:
            raise ValueError(f"{self.name}: a reviser learns from the attempts of a policy to start from; give start")

    def options(self, fraction: float) -> Mapping[str, Any]:
        """The environment's options at a fraction of the run; after the last stage, none."""
        return next((stage.options for stage in self.curriculum if fraction < stage.until), {})


def configuration(architecture: Architecture, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    """The transformers configuration of a model of these sizes."""
    return LlamaConfig(
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


def build_model(architecture: Architecture, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained model; the torch seed decides its weights."""
    model = LlamaForCausalLM(configuration(architecture, tokenizer))
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


CHUNK = 2000  # examples in a part


@dataclass(frozen=True)
class Example:
    """Token ids of a prompt and a worked solution.

    Args:
        ids: of both.
        start: where what is learnt begins.
        given: from where to where, after that, ids are not learnt: what the environment observed.
    """

    ids: list[int]
    start: int
    given: tuple[tuple[int, int], ...] = ()


Make = Callable[[Environment, int], list[Example]]
"""What makes the examples of a part, given the environment as the curriculum has it then, and the part's number."""


def examples(
    environment: Environment, part: int, *, tokenizer: PreTrainedTokenizerFast, n: int, seed: int
) -> list[Example]:
    """Worked solutions of `n` problems of the train split; a part has problems and solutions of its own."""
    assert isinstance(environment, Demonstrator)
    rng = random.Random(f"demonstrate/{seed}/{part}")
    problems = problems_of(environment, "train", n, (seed << 20) + part + 1)
    return encode([(environment.prompt(each), demonstration(environment, each, rng)) for each in problems], tokenizer)


def found(
    environment: Environment,
    part: int,
    *,
    texts: Sequence[tuple[str, Sequence[Part]]],
    tokenizer: PreTrainedTokenizerFast,
    n: int,
    seed: int,
) -> list[Example]:
    """Of texts that are there already: all, in a new order, again and again, `n` in a part."""
    chosen: list[tuple[str, Sequence[Part]]] = []
    for at in range(part * n, (part + 1) * n):
        epoch, place = divmod(at, len(texts))
        if not place or not chosen:
            order = random.Random(f"found/{seed}/{epoch}").sample(range(len(texts)), len(texts))
        chosen.append(texts[order[place]])
    return encode(chosen, tokenizer)


def encode(texts: Sequence[tuple[str, Sequence[Part]]], tokenizer: PreTrainedTokenizerFast) -> list[Example]:
    """Prompts and solutions as token ids, with the begin and end tokens; each part by itself, as it will be read."""
    flat = [text for prompt, parts in texts for text in (prompt, *(text for text, _ in parts))]
    read = iter(tokenizer(flat, add_special_tokens=False)["input_ids"])
    made = []
    for _, parts in texts:
        ids = [tokenizer.bos_token_id, *next(read)]
        start, given = len(ids), []
        for _, learnt in parts:
            before = len(ids)
            ids += next(read)
            if not learnt:
                given.append((before, len(ids)))
        made.append(Example([*ids, tokenizer.eos_token_id], start, tuple(given)))
    return made


def revisions(revise: Revise, environment: Environment, start: Path, path: Path, seed: int) -> Make:
    """Sample a policy's attempts, or read them where that was done, and return what makes a part's examples of them."""
    from policies.backends.lab import LabPolicy
    from policies.training.revision_data import collect, trajectories

    policy = LabPolicy(start, environment, device="cpu")
    problems = problems_of(environment, "train", revise.problems, seed)
    pool = collect(environment, policy, problems, revise.samples, seed, path)
    policy.close()
    end = min(policy.model.config.end)

    def make(environment: Environment, part: int) -> list[Example]:
        rng = random.Random(f"revise/{seed}/{part}")
        return [Example(*each) for each in trajectories(environment, policy.tokens, end, pool, CHUNK, rng)]

    return make


def parts(
    recipe: PolicyRecipe,
    load: Callable[..., Environment],
    make: Make,
    progress: Mapping[str, Any],
    workers: int = 0,
) -> Iterator[list[Example]]:
    """What `make` gives for one part after another, from where `progress` says when it is asked for the next.

    The curriculum's stage of a part is that of its beginning. Workers are processes that make parts before they are
    asked for: at the stage of the part before, and again where that turns out to be another.
    """

    def options() -> Mapping[str, Any]:
        return recipe.options(progress["part_began"] / recipe.tokens)

    if not workers:
        while True:
            yield make(load(**options()), progress["part"])
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin_worker, (load, make))
    ahead: deque[Future[list[Example]]] = deque()
    stage = options()
    try:
        while True:
            if stage != options():
                while ahead:
                    ahead.popleft().cancel()
                stage = options()
            while len(ahead) <= workers:
                ahead.append(pool.submit(_make, stage, progress["part"] + len(ahead)))
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


_work: list[tuple[Callable[..., Environment], Make]] = []  # of a worker: what it was begun with


def _begin_worker(load: Callable[..., Environment], make: Make) -> None:
    _work[:] = [(load, make)]


def _make(options: Mapping[str, Any], part: int) -> list[Example]:
    ((load, make),) = _work
    return make(load(**options), part)


def batches(recipe: PolicyRecipe, pools: Iterator[list[Example]], progress: dict[str, Any]) -> Iterator[list[Example]]:
    """Batches without end of the parts that `parts` gives, from where `progress` says, which they keep up to date.

    Each part is sorted by length, so that there is little padding, cut, and put in random order.
    """
    for pool in pools:
        made: list[list[Example]] = [[]]
        for example in sorted(pool, key=lambda example: len(example.ids)):
            if (len(made[-1]) + 1) * len(example.ids) > recipe.batch_tokens and made[-1]:
                made.append([])
            made[-1].append(example)
        random.Random(f"batches/{recipe.seed}/{progress['part']}").shuffle(made)
        while progress["batch"] < len(made):
            progress["batch"] += 1
            yield made[progress["batch"] - 1]
        progress |= {"part": progress["part"] + 1, "part_began": progress["tokens"], "batch": 0}


def loss_of(model: LlamaForCausalLM, batch: Sequence[Example], device: torch.device) -> torch.Tensor:
    """Mean cross-entropy of the solutions' tokens; right padding needs no mask under causal attention."""
    longest = max(len(example.ids) for example in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    learn = torch.zeros(len(batch), longest, dtype=torch.bool)
    for row, example in enumerate(batch):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        learn[row, example.start : len(example.ids)] = True
        for first, end in example.given:
            learn[row, first:end] = False
    ids, learn = ids.to(device), learn.to(device)
    hidden = model.model(ids, use_cache=False).last_hidden_state[:, :-1][learn[:, 1:]]
    return cross_entropy(model.lm_head(hidden).float(), ids[:, 1:][learn[:, 1:]])


# -------------------------------------------------------------------------------------------------------- training


def train_policy(
    recipe: PolicyRecipe,
    load: Callable[..., Environment],
    folder: Path,
    start: Path | None = None,
    device: str = "cpu",
    checkpoint_seconds: float = 120.0,
    texts: Sequence[tuple[str, Sequence[Part]]] = (),
    workers: int = 0,
) -> Path:
    """Train a policy and save it under `folder`; an interrupted run goes on from its last checkpoint.

    Args:
        recipe: what to train.
        load: makes the environment, given options by keyword (the curriculum's).
        folder: where the policy and, meanwhile, its checkpoint go.
        start: the folder of the recipe's `start`, if it has one.
        device: as torch names it.
        checkpoint_seconds: time between checkpoints.
        texts: prompts and solutions in parts to learn from, in place of those that the environment writes.
        workers: processes that write the examples while this one trains, so that a GPU need not wait for them; what is
            learnt is the same with any number. (A reviser's are put together in this one.)

    Returns:
        The folder, holding config.json, model.safetensors (float16), tokenizer.json and training.json
        (the recipe; tokens, examples and seconds of this run; the loss as it fell; `tokens_seen`, those of `start`
        included).

    A run that is complete is not done again.

    Raises:
        TypeError: when the environment cannot write worked solutions.
        ValueError: when the folder holds a model, or a checkpoint, of another recipe.
    """
    environment = load()
    if recipe.revise is None and not texts and not isinstance(environment, Demonstrator):
        raise TypeError(f"environment {environment.name!r} has no `demonstrate` method to learn from")
    record: dict[str, Any] = {"recipe": json.loads(json.dumps(asdict(recipe)))}
    if texts:
        record["solutions"] = len(texts)
    if is_trained(folder, record):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    before = 0
    if start is None:
        tokenizer = build_tokenizer(
            [prompt + "".join(text for text, _ in parts) for prompt, parts in texts] or _corpus(environment)
        )
        model = build_model(recipe.architecture or Architecture(), tokenizer)
    else:
        with quietly():
            tokenizer = PreTrainedTokenizerFast.from_pretrained(start, local_files_only=True)
            model = LlamaForCausalLM.from_pretrained(start, dtype=torch.float32, local_files_only=True)
        if recipe.architecture is not None:
            model = widen(model, configuration(recipe.architecture, tokenizer))
        before = json.loads((start / "training.json").read_text())["tokens_seen"]

    if recipe.revise is not None and start is not None:
        make = revisions(recipe.revise, environment, start, folder / "attempts.jsonl", recipe.seed)
    elif texts:
        make = partial(found, texts=texts, tokenizer=tokenizer, n=CHUNK, seed=recipe.seed)
    else:
        make = partial(examples, tokenizer=tokenizer, n=CHUNK, seed=recipe.seed)
    model.to(device).train()
    optimizers = Optimizers(model, recipe.muon_lr, recipe.adam_lr)
    record["parameters"] = model.num_parameters()
    progress: dict[str, Any] = {"tokens": 0, "examples": 0, "steps": 0, "seconds": 0.0, "recent": 0.0, "losses": []}
    progress |= {"part": 0, "part_began": 0, "batch": 0}
    checkpoint = folder / "checkpoint" / "state.safetensors"
    if checkpoint.exists():
        check_recipe(checkpoint, read_progress(checkpoint).get("recipe"), record["recipe"])
        progress = load_checkpoint(checkpoint, model, optimizers)
        del progress["recipe"]
        logger.info("going on from {:,} tokens", progress["tokens"])
    last_saved, started = time.monotonic(), time.monotonic() - progress["seconds"]
    pools = parts(recipe, load, make, progress, 0 if recipe.revise else workers)
    for batch in batches(recipe, pools, progress):
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
        progress["recent"] += max(0.02, 1 / progress["steps"]) * (loss.item() - progress["recent"])
        if progress["steps"] % 50 == 0:
            progress["losses"].append([progress["tokens"], round(progress["recent"], 4)])
            logger.info(
                "{:,} tokens, loss {:.4f}, {:.0f} s", progress["tokens"], progress["recent"], progress["seconds"]
            )
        if time.monotonic() - last_saved > checkpoint_seconds:
            save_checkpoint(checkpoint, model, optimizers, progress | {"recipe": record["recipe"]})
            last_saved = time.monotonic()
    record["tokens_seen"] = before + progress["tokens"]
    for key in ("recent", "part", "part_began", "batch"):
        del progress[key]
    save_model(model, tokenizer, folder, record | progress)
    if checkpoint.exists():
        checkpoint.unlink()
        checkpoint.parent.rmdir()
    return folder


def is_trained(folder: Path, record: Mapping[str, Any]) -> bool:
    """Whether a folder holds what a training with such a record made, and say so.

    Raises:
        ValueError: when it holds what another recipe made.
    """
    path = folder / "training.json"
    if not path.is_file() or not (folder / "config.json").is_file():
        return False
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({error}); choose another folder with --out") from None
    check_recipe(folder, found.get("recipe"), record["recipe"])
    if found.get("solutions") != record.get("solutions"):
        raise ValueError(
            f"{folder} holds what was learnt from {found.get('solutions')} solutions, and there are "
            f"{record.get('solutions')} now; choose another folder with --out"
        )
    logger.info("{} is trained already, {:,} tokens; to train it anew, remove it", folder, found.get("tokens", 0))
    return True


def check_recipe(where: Path, found: object, asked: Mapping[str, Any]) -> None:
    """Refuse what another recipe made; raises ValueError with the keys that differ."""
    if not isinstance(found, Mapping):
        raise ValueError(f"{where} does not say which recipe it is of; choose another folder with --out, or remove it")
    keys = [key for key in {**found, **asked} if found.get(key) != asked.get(key)]
    if keys:
        differ = "; ".join(f"{key} is {found.get(key)!r} there and {asked.get(key)!r} now" for key in keys)
        raise ValueError(f"{where} is of another recipe ({differ}); choose another folder with --out, or remove it")


def save_model(model: Any, tokenizer: PreTrainedTokenizerFast, folder: Path, record: dict[str, Any]) -> None:
    """Save a model in the standard transformers layout, in half precision, with its training record beside it."""
    model.eval()
    with quietly():
        model.to("cpu", torch.float16).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    (folder / "training.json").write_text(json.dumps(record, indent=1) + "\n")


def _corpus(environment: Environment) -> list[str]:
    rng = random.Random(0)
    return [
        environment.prompt(problem) + "".join(text for text, _ in demonstration(environment, problem, rng))
        for problem in problems_of(environment, "train", 3000, 0)
    ]
