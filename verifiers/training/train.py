"""Training of process reward models from final answers alone (``stepwell train prm``).

The papers' way (Math-Shepherd, Wang et al. 2023, section 3; Snell et al. 2024, appendix D): sample solutions from a
policy, roll out completions from every prefix of them, label the prefix with the fraction that ends right, and train a
token classifier on these soft labels at the tokens that close the steps. No step checker has a part in the labels; it
only serves the report. Works for any environment and for any policy that keeps the contract.

Sampling is the long part: its results are appended to a file as they come, and a run that was killed goes on from
there. So does training, from its last checkpoint.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from loguru import logger
from torch.nn.functional import log_softmax
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForTokenClassification, PreTrainedTokenizerFast

from envs.core import Environment, Problem, Split
from envs.messages import UsageError
from policies.core import Policy
from policies.models.lab_tokens import Tokens
from policies.models.llama import ModelConfig
from policies.models.pretrained import quietly
from policies.training.jsonl_log import digests_of
from policies.training.optimizers import Optimizers, load_checkpoint, read_progress, save_checkpoint
from policies.training.train import check_recipe, is_trained
from policies.training.worked_solutions import problems_of
from verifiers.backends.hf import load_checkpoint as load_verifier
from verifiers.backends.lab import LabVerifier
from verifiers.core import Verifier
from verifiers.training.beta import beta_loss, counts
from verifiers.training.comparison_layer import Learner, freeze, grow
from verifiers.training.examples import Example, batches, example, labelled_states, pad, problem_weights
from verifiers.training.multi_token import Foresight
from verifiers.training.probe import train_probe
from verifiers.training.recipe import PrmRecipe
from verifiers.training.report import report
from verifiers.training.report_table import report_table
from verifiers.training.rollouts import LabelledTrajectory, SampleFile, collect

_BESIDE_LABELS = 0.3  # weight of the likelihood loss once there are labels
_FORESEEN = 0.5  # weight of the foresight loss


def label_loss(
    head: torch.nn.Module, hidden: torch.Tensor, batch: Sequence[Example], beta: bool = False
) -> torch.Tensor:
    """Cross-entropy with soft labels at the closing tokens, weighted by how often a solution was sampled.

    Args:
        head: from hidden states to the logits of the two labels.
        hidden: (rows, longest, width), of the ids that `pad` gives.
        batch: the examples.
        beta: the likelihood of the counts in place of the cross-entropy (`verifiers.training.beta`).
    """
    device = hidden.device
    rows = torch.tensor([row for row, each in enumerate(batch) for _ in each.positions], device=device)
    columns = torch.tensor([position for each in batch for position in each.positions], device=device)
    weights = torch.tensor([each.weight for each in batch for _ in each.positions], device=device)
    if beta:
        right, total = (counts([getattr(each, key) for each in batch]).to(device) for key in ("right", "total"))
        return (beta_loss(head(hidden[rows, columns]), right, total) * weights).sum() / weights.sum()
    targets = torch.tensor([target for each in batch for target in each.targets], device=device)
    logs = log_softmax(head(hidden[rows, columns]).float(), -1)
    losses = -(targets * logs[:, 1] + (1 - targets) * logs[:, 0])
    return (losses * weights).sum() / weights.sum()


def foresight_loss(
    foresight: Foresight, table: torch.Tensor, hidden: torch.Tensor, ids: torch.Tensor, batch: Sequence[Example]
) -> torch.Tensor:
    """`Foresight.loss` after every step that the examples may learn from; 0 if there is none."""
    branches = [(row, place, each) for row, each in enumerate(batch) for place in each.branches]
    if not branches:
        return hidden.new_zeros(())
    places = [(row, place, len(each.ids)) for row, place, each in branches]
    return foresight.loss(hidden, ids, table, places, [each.weight for _, _, each in branches])


def likelihood_loss(
    learner: Learner, ids: torch.Tensor, states: tuple[torch.Tensor, ...], batch: Sequence[Example]
) -> torch.Tensor:
    """`Learner.likelihood_loss` over the tokens of the solutions."""
    places = torch.arange(ids.shape[1])
    own = torch.stack([(places >= each.start) & (places < len(each.ids)) for each in batch])
    return learner.likelihood_loss(ids, states, own.to(ids.device))


def train_prm(
    recipe: PrmRecipe,
    environment: Environment,
    policy: Policy,
    origin: Path,
    folder: Path,
    samples: Path,
    device: str = "cpu",
    checkpoint_seconds: float = 120.0,
) -> Path:
    """Sample, train, report; an interrupted run goes on from where it was.

    Args:
        recipe: what to train.
        environment: its train split is learnt from, its calibration split reported on.
        policy: the recipe's policy, loaded.
        origin: the folder of the recipe's `start`, if it has one, else of its backbone; a probe's is found by name.
        folder: where the verifier and, meanwhile, its checkpoint go.
        samples: folder of the sampled solutions, which other recipes with the same sampling may share.
        device: as torch names it.
        checkpoint_seconds: time between checkpoints.

    Returns:
        The folder, holding config.json, model.safetensors, tokenizer.json and training.json (the recipe,
        counts of what was sampled and seen, the loss as it fell, and the report of `report`). A run that is complete is
        not done again.

    Raises:
        ValueError: when the folder holds a model, or a checkpoint, of another recipe.
    """
    said = {"recipe": json.loads(json.dumps(asdict(recipe)))}
    if is_trained(folder, said):
        logger.info("report {}", report_table(json.loads((folder / "training.json").read_text())["report"]))
        return folder
    files: dict[Split, SampleFile] = {}
    problems: dict[Split, dict[str, Problem]] = {}
    rollouts = recipe.rollouts if recipe.held_out_rollouts is None else recipe.held_out_rollouts
    sizes: tuple[tuple[Split, int, PrmRecipe], ...] = (
        ("train", recipe.problems, recipe),
        ("calibration", recipe.held_out, replace(recipe, rollouts=rollouts, uniform=1.0)),
    )
    for split, n, sampling in sizes:
        keys = ("environment", "policy", "solutions", "rollouts", "temperature", "seed")
        header = {"split": split} | {key: value for key, value in asdict(sampling).items() if key in keys}
        header["uniform"] = sampling.uniform if sampling.rollouts else 1.0
        chosen = problems_of(environment, split, n, recipe.seed)
        problems[split] = {problem.id: problem for problem in chosen}
        with SampleFile(samples / f"{split}.jsonl", header, digests_of(policy=policy)) as files[split]:
            collect(sampling, environment, policy, chosen, files[split])
    learnt = [each for id in problems["train"] for each in files["train"].solutions[id]]
    fitted: dict[str, Any]
    verifier: Verifier
    if recipe.probe is None:
        fitted = _fit(recipe, environment, origin, folder, problems["train"], learnt, device, checkpoint_seconds)
        verifier = LabVerifier(folder, environment, device=device)
    else:
        if "perplexity" in recipe.probe.beside and not all(each.logprobs for each in learnt):
            raise UsageError(f"the samples in {samples} are without log-probabilities, which 'perplexity' reads; give"
                             " another folder, and they are drawn again")  # fmt: skip
        labelled = labelled_states(recipe, environment, problems["train"], learnt)
        fitted = train_probe(recipe.probe, recipe.backbone, environment, labelled, folder, device, recipe.seed)
        verifier = load_verifier(folder, environment, device=device, dtype=recipe.probe.dtype)
    record = said | fitted
    held = [each for id in problems["calibration"] for each in files["calibration"].solutions[id] if not each.start]
    record["policy"] = policy.name
    record["sampled_tokens"] = files["train"].generated
    record["report"] = report(verifier, environment, problems, [each for each in learnt if not each.start][:2000], held)
    (folder / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    logger.info("report {}", report_table(record["report"]))
    return folder


def _fit(
    recipe: PrmRecipe,
    environment: Environment,
    origin: Path,
    folder: Path,
    problems: dict[str, Problem],
    solutions: Sequence[LabelledTrajectory],
    device: str,
    checkpoint_seconds: float,
) -> dict[str, Any]:
    """Train on labelled solutions and save the model; returns the counts for the record."""
    said = json.loads(json.dumps(asdict(recipe)))
    torch.manual_seed(recipe.seed)
    tokens = Tokens(origin, ModelConfig.read(origin).begin)
    weights = problem_weights(solutions, recipe.uniform, recipe.uniform_weight)
    examples = [
        example(tokens, environment, problems[each.problem], each, weights[each.problem])
        for each in solutions
        if weights[each.problem]
    ]
    config = LlamaConfig.from_pretrained(origin, local_files_only=True, num_labels=2)
    examples = [each for each in examples if each.positions and len(each.ids) <= config.max_position_embeddings]
    learner: Learner | None = None
    foresight: Foresight | None = None
    if recipe.extra_layers and recipe.start is None:
        with quietly():
            known = LlamaForCausalLM.from_pretrained(origin, dtype=torch.float32, local_files_only=True).eval()
        typical = torch.tensor([examples[0].ids])
        learner = Learner(grow(known, recipe.extra_layers, typical), known).to(device)
        model = learner.prm
    else:
        config.classifier_dropout = 0.0  # the class would take 0.1 if it were not said
        with quietly():  # the head is new, which transformers would report
            model = LlamaForTokenClassification.from_pretrained(
                origin, config=config, dtype=torch.float32, local_files_only=True
            ).to(device)
        if recipe.extra_layers:
            freeze(model, recipe.extra_layers)
    whole: torch.nn.Module = model if learner is None else learner
    if recipe.foresight:
        foresight = Foresight(config.hidden_size, recipe.foresight).to(device)
        whole = torch.nn.ModuleDict({"prm": model, "foresight": foresight})
    whole.train()
    warm, plan = _plan(recipe, examples)
    optimizers = Optimizers(whole, recipe.muon_lr, recipe.adam_lr)
    progress: dict[str, Any] = {"steps": 0, "tokens": 0, "seconds": 0.0, "recent": 0.0, "losses": []}
    checkpoint = folder / "checkpoint" / "state.safetensors"
    if checkpoint.exists():
        check_recipe(checkpoint, read_progress(checkpoint).get("recipe"), said)
        progress = load_checkpoint(checkpoint, whole, optimizers)
        del progress["recipe"]
        logger.info("going on from step {} of {}", progress["steps"], len(plan))
    last_saved, started = time.monotonic(), time.monotonic() - progress["seconds"]
    for batch in plan[progress["steps"] :]:
        chosen = [examples[index] for index in batch]
        ids = pad(chosen, torch.device(device))
        step = progress["steps"]
        if learner is None:
            hidden = model.model(ids, use_cache=False).last_hidden_state
            loss = label_loss(model.score, hidden, chosen, recipe.beta)
            if foresight is not None:
                table = model.get_input_embeddings().weight
                loss = loss + _FORESEEN * foresight_loss(foresight, table, hidden, ids, chosen)
        else:
            states = learner.states(ids)
            loss = likelihood_loss(learner, ids, states, chosen)
            if step >= warm:
                loss = _BESIDE_LABELS * loss + label_loss(model.score, states[-1], chosen, recipe.beta)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(whole.parameters(), 1.0)
        optimizers.step(step / warm if step < warm else (step - warm) / (len(plan) - warm))
        progress["steps"] += 1
        progress["tokens"] += sum(len(each.ids) for each in chosen)
        progress["seconds"] = round(time.monotonic() - started, 1)
        progress["recent"] += max(0.02, 1 / progress["steps"]) * (loss.item() - progress["recent"])
        if progress["steps"] % 50 == 0 or progress["steps"] == len(plan):
            progress["losses"].append([progress["tokens"], round(progress["recent"], 4)])
            logger.info("step {} of {}, loss {:.4f}", progress["steps"], len(plan), progress["recent"])
        if time.monotonic() - last_saved > checkpoint_seconds:
            save_checkpoint(checkpoint, whole, optimizers, progress | {"recipe": said})
            last_saved = time.monotonic()
    parameters = model.num_parameters()
    model.eval()
    model.config.beta = recipe.beta  # how `LabVerifier` reads the two logits
    # half precision holds a fine-tuned backbone, but not the small numbers of one that has grown
    with quietly():
        model.to("cpu", torch.float32 if recipe.extra_layers else torch.float16).save_pretrained(folder)
    PreTrainedTokenizerFast.from_pretrained(origin, local_files_only=True).save_pretrained(folder)
    if checkpoint.exists():
        checkpoint.unlink()
        checkpoint.parent.rmdir()
    del progress["recent"]
    steps = {"solutions": len(solutions), "labelled_steps": sum(len(each.positions) for each in examples)}
    return {"parameters": parameters} | steps | progress


def _plan(recipe: PrmRecipe, examples: Sequence[Example]) -> tuple[int, list[list[int]]]:
    """How many batches of the warm-up come first, and all batches in order, as indices of examples."""
    plan: list[list[int]] = []
    seen = 0
    while seen < recipe.warm_up and recipe.extra_layers and recipe.start is None:
        for batch in batches(examples, recipe.batch_tokens, f"{recipe.seed}/warm-up/{len(plan)}"):
            if seen >= recipe.warm_up:
                break
            plan.append(batch)
            seen += sum(len(examples[index].ids) for index in batch)
    warm = len(plan)
    for epoch in range(recipe.epochs):
        plan += batches(examples, recipe.batch_tokens, f"{recipe.seed}/{epoch}")
    return warm, plan
