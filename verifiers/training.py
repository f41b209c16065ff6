"""Training of process reward models from final answers alone (``stepwell train prm``).

The papers' way (Math-Shepherd, Wang et al. 2023, section 3; Snell et al. 2024, appendix D): sample solutions from a
policy, roll out completions from every prefix of them, label the prefix with the fraction that ends right, and train a
token classifier on these soft labels at the tokens that close the steps. No step checker has a part in the labels; it
only serves the report. Works for any environment and for any policy that keeps the contract.

Sampling is the long part: its results are appended to a file as they come, and a run that was killed goes on from
there. So does training, from its last checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from loguru import logger
from torch.nn.functional import log_softmax
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForTokenClassification, PreTrainedTokenizerFast

from envs.core import Environment, Problem, Split, State, Step, StepChecker
from envs.llama import ModelConfig, Tokens
from envs.optim import Optimizers, load_checkpoint, read_progress, save_checkpoint
from envs.prefixes import Ids
from envs.pretrained import quietly

# The one import from another room's side: a PRM is trained on a policy's samples, and these are the types to ask for
# them with. No policy is imported; the caller hands one in.
from policies.core import Policy, Propose, Proposed, Usage
from policies.training import check_recipe, is_trained
from policies.worked_solutions import problems_of
from verifiers.checkpoints import load_checkpoint as load_verifier
from verifiers.core import Score, Verifier
from verifiers.foresight import Foresight
from verifiers.growth import Learner, freeze, grow
from verifiers.lab import LabVerifier, lay_out
from verifiers.metrics import agreement, auroc, auroc_within, best_threshold, ece
from verifiers.probing import Labelled, ProbeRecipe, train_probe
from verifiers.report_table import report_table

_BESIDE_LABELS = 0.3  # weight of the likelihood loss once there are labels
_FORESEEN = 0.5  # weight of the foresight loss


@dataclass(frozen=True)
class PrmRecipe:
    """What ``configs/train-prm-*.yaml`` may say.

    Args:
        name: of the verifier, and of its folder.
        environment: name in the registry, or a mapping of that ``name`` and options.
        policy: whose samples it learns from: name, folder or ``BACKEND:MODEL``, or a mapping of a ``name`` and options.
        backbone: the causal model whose weights it starts from (name of a policy or folder), or, for `extra_layers` 0,
            the folder of a verifier to go on from. With a probe: ``smollm2``, a folder, a GGUF file or a hub's id.
        probe: leaves the backbone as it is, and fits a small head to its hidden states (`verifiers.probing`). What is
            said below of layers, loss and optimiser is then of no account.
        extra_layers: 0 trains the backbone itself, under a new head; 2 or more train that many new layers on top of
            the frozen backbone and a layer that compares what it expected with what was written (`verifiers.growth`).
        warm_up: tokens on which the extra layers first learn the backbone's log-likelihoods, without labels.
        foresight: how many tokens after each step the backbone learns to predict beside the labels
            (`verifiers.foresight`), for `extra_layers` 0.
        start: a verifier (name or folder) that it goes on from, on labels alone, in place of a backbone; its last
            `extra_layers` layers are trained, all of it if that is 0.
        problems: of the train split.
        held_out: problems of the calibration split, for the report.
        solutions: sampled for each problem.
        rollouts: completions sampled from each distinct unfinished prefix of the solutions; without any, a label is
            the share of the solutions through the prefix that end right.
        held_out_rollouts: the same for the held-out problems; as many as `rollouts` if it is not given.
        temperature: of solutions and rollouts.
        uniform: share of the problems whose solutions all ended alike that is rolled out and kept; what tells a right
            step from a wrong one is in the problems whose solutions ended differently.
        uniform_weight: what these problems weigh together: 1 makes up for those that were left out, so that scores
            are calibrated; less gives more weight to the others.
        epochs: passes over the data.
        batch_tokens: tokens per optimiser step, padding included.
        muon_lr: peak learning rate of the matrices (Muon).
        adam_lr: peak learning rate of embeddings, norms and the head (AdamW).
        seed: of samples and training.
    """

    name: str
    environment: str | Mapping[str, Any] = "arithmetic"
    policy: str | Mapping[str, Any] = "arithmetic-s"
    backbone: str = "arithmetic-m"
    probe: ProbeRecipe | None = None
    extra_layers: int = 0
    warm_up: int = 0
    foresight: int = 0
    start: str | None = None
    problems: int = 2000
    held_out: int = 200
    solutions: int = 8
    rollouts: int = 8
    held_out_rollouts: int | None = None
    temperature: float = 1.0
    uniform: float = 1.0
    uniform_weight: float = 1.0
    epochs: int = 2
    batch_tokens: int = 2048
    muon_lr: float = 0.01
    adam_lr: float = 0.002
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be combined."""
        if self.foresight and self.extra_layers:
            raise ValueError(f"foresight is {self.foresight} and extra_layers {self.extra_layers}; one of them is 0")


# ------------------------------------------------------------------------------------------------------------ data


@dataclass(frozen=True)
class Solution:
    """One distinct sampled trajectory of a problem and what became of its prefixes.

    Args:
        problem: its id.
        texts: of the steps.
        right: for each step, how many of the completions through the prefix that ends with it ended right.
        total: for each step, how many completions there were (1 at the end of the solution).
        count: how often it was sampled.
        start: 0 for a solution; for a rollout, how many steps it was given: the labels of those belong to the
            solutions they were taken from, only the later ones are its own.
    """

    problem: str
    texts: tuple[str, ...]
    right: tuple[int, ...]
    total: tuple[int, ...]
    count: int
    start: int = 0

    @property
    def labels(self) -> list[float]:
        """The soft label of each step."""
        return [right / total for right, total in zip(self.right, self.total, strict=True)]


def label_steps(
    environment: Environment,
    problem: Problem,
    solutions: Sequence[State],
    rollouts: Mapping[tuple[str, ...], Sequence[State]],
) -> list[Solution]:
    """Label every step of the distinct solutions of a problem, and of the distinct rollouts from their prefixes.

    The completions through a prefix of a solution are the solutions that pass through it and the rollouts from it.
    Those from longer prefixes pass through it too, but would weigh by how many steps happened to follow. A prefix
    that only rollouts reached has the rollouts that pass through it.

    Args:
        environment: checks the final answers.
        problem: the problem.
        solutions: complete trajectories from the start.
        rollouts: complete trajectories from each unfinished prefix, by the texts of its steps.
    """

    def is_right(state: State) -> bool:
        answer = environment.answer(state)
        return answer is not None and environment.check(problem, answer)

    def count(tally: dict[tuple[str, ...], list[int]], state: State, first: int) -> None:
        for end in range(first, len(state.steps) + 1):
            entry = tally.setdefault(state.texts[:end], [0, 0])
            entry[0] += is_right(state)
            entry[1] += 1

    counts: dict[tuple[int, tuple[str, ...]], int] = {}
    solved: dict[tuple[str, ...], list[int]] = {}
    rolled: dict[tuple[str, ...], list[int]] = {}
    for state in solutions:
        counts[0, state.texts] = counts.get((0, state.texts), 0) + 1
        count(solved, state, 1)
    for prefix, states in rollouts.items():
        solved[prefix][0] += sum(map(is_right, states))
        solved[prefix][1] += len(states)
        for state in states:
            key = (len(prefix), state.texts)
            counts[key] = counts.get(key, 0) + 1
            count(rolled, state, len(prefix) + 1)
    made = []
    for (start, texts), times in counts.items():
        entries = [solved.get(texts[:end]) or rolled[texts[:end]] for end in range(1, len(texts) + 1)]
        right, total = tuple(entry[0] for entry in entries), tuple(entry[1] for entry in entries)
        made.append(Solution(problem.id, texts, right, total, times, start))
    return made


class SampleFile:
    """Labelled solutions in a JSONL file: a header with what they depend on, then a line per problem.

    Args:
        path: of the file, made if need be.
        header: JSON; a file that was written with another one is refused.

    Raises:
        ValueError: the file holds samples of something else.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.path = path
        self.solutions: dict[str, list[Solution]] = {}
        self.generated = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text() if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]  # a line that a kill cut short is dropped
        lines = [json.loads(line) for line in whole.splitlines()]
        if lines and lines[0] != header:
            raise ValueError(f"{path} holds samples for {lines[0]}, not for {header}; choose another file")
        if whole != text:
            path.write_text(whole)
        if not lines:
            path.write_text(json.dumps(header) + "\n")
        for line in lines[1:]:
            self._take(line)

    def _take(self, line: dict[str, Any]) -> None:
        self.generated += line["generated"]
        self.solutions[line["problem"]] = [
            Solution(line["problem"], tuple(texts), tuple(right), tuple(total), count, start)
            for texts, right, total, count, start in line["solutions"]
        ]

    def append(self, problem: str, solutions: Sequence[Solution], generated: int) -> None:
        """Add a problem; on return it is on the disk."""
        rows = [(each.texts, each.right, each.total, each.count, each.start) for each in solutions]
        line = {"problem": problem, "generated": generated, "solutions": rows}
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._take(json.loads(json.dumps(line)))


@dataclass
class _Open:
    """A problem being sampled."""

    problem: Problem
    solutions: list[State]
    prefixes: list[State]
    usage: Usage


def collect(
    recipe: PrmRecipe,
    environment: Environment,
    policy: Policy,
    problems: Sequence[Problem],
    file: SampleFile,
    concurrency: int = 32,
) -> None:
    """Sample and label what a file still lacks of some problems, many at a time, each line durable once written.

    Problems whose solutions all ended alike and that `problem_weights` will leave out are not rolled out.
    """
    waiting = iter([problem for problem in problems if problem.id not in file.solutions])
    running: dict[int, _Open] = {}
    ticket, started, first = 0, time.monotonic(), len(file.solutions)
    while True:
        while len(running) < concurrency and (problem := next(waiting, None)) is not None:
            root = environment.initial(problem)
            seeds = _seeds(recipe, root, recipe.solutions, "solution")
            policy.submit(ticket, Propose((root,), (seeds,), recipe.temperature, None, problem.id))
            running[ticket] = _Open(problem, [], [], Usage())
            ticket += 1
        if not running:
            return
        for replied, reply in policy.poll():
            if isinstance(reply, Exception):
                raise reply
            job = running.pop(replied)
            job.usage += reply.usage
            if not job.solutions:
                job.solutions = _trajectories([environment.initial(job.problem)], reply)[0]
                alike = len({each.labels[-1] for each in label_steps(environment, job.problem, job.solutions, {})}) == 1
                skip = not recipe.rollouts or (alike and not _kept(job.problem.id, recipe.uniform))
                job.prefixes = [] if skip else _unfinished(environment, job.solutions)
                if job.prefixes:
                    seeds_of = tuple(_seeds(recipe, state, recipe.rollouts, "rollout") for state in job.prefixes)
                    request = Propose(tuple(job.prefixes), seeds_of, recipe.temperature, None, job.problem.id)
                    policy.submit(ticket, request)
                    running[ticket] = job
                    ticket += 1
                    continue
                ends: list[list[State]] = []
            else:
                ends = _trajectories(job.prefixes, reply)
            policy.cancel(job.problem.id)
            rollouts = {state.texts: found for state, found in zip(job.prefixes, ends, strict=True)}
            labelled = label_steps(environment, job.problem, job.solutions, rollouts)
            file.append(job.problem.id, labelled, job.usage.generated)
            done = len(file.solutions)
            if done % 100 == 0:
                rate = (done - first) / (time.monotonic() - started)
                logger.info("{} problems sampled, {:.1f} a second", done, rate)


def _trajectories(states: Sequence[State], reply: Proposed) -> list[list[State]]:
    return [
        [State(state.problem, (*state.steps, *steps)) for steps in samples]
        for state, samples in zip(states, reply.samples, strict=True)
    ]


def _unfinished(environment: Environment, solutions: Sequence[State]) -> list[State]:
    """The distinct prefixes, of at least one step, that have not ended, in order of appearance."""
    found: dict[tuple[str, ...], State] = {}
    for solution in solutions:
        state = environment.initial(solution.problem)
        for step in solution.steps:
            after = environment.step(state, step)
            state = after.state
            if after.status == "running":
                found.setdefault(state.texts, state)
    return list(found.values())


def _seeds(recipe: PrmRecipe, state: State, n: int, purpose: str) -> tuple[int, ...]:
    key = json.dumps([recipe.seed, purpose, state.problem.id, state.texts])
    return tuple(int.from_bytes(hashlib.sha256(f"{key}/{index}".encode()).digest()[:8], "big") for index in range(n))


# -------------------------------------------------------------------------------------------------------- training


@dataclass(frozen=True)
class Example:
    """Token ids of a prompt and a solution (from `start` on), the positions that close its steps, the scores there.

    And, as `branches`, the positions that close a step after which the next one is its own.
    """

    ids: Ids
    start: int
    positions: tuple[int, ...]
    targets: tuple[float, ...]
    weight: float
    branches: tuple[int, ...] = ()


def problem_weights(solutions: Sequence[Solution], uniform: float, uniform_weight: float = 1.0) -> dict[str, float]:
    """Weights of problems: 1 if its solutions ended differently, else a share `uniform` has all their weight."""
    outcomes: dict[str, set[bool]] = {}
    for each in solutions:
        if each.start == 0:
            outcomes.setdefault(each.problem, set()).add(each.labels[-1] > 0)
    alike = uniform_weight / uniform
    return {problem: 1.0 if len(seen) > 1 else _kept(problem, uniform) * alike for problem, seen in outcomes.items()}


def _kept(problem: str, uniform: float) -> bool:
    """Whether a problem is of the share that is kept even if its solutions all end alike."""
    return random.Random(f"uniform/{problem}").random() < uniform


def example(
    tokens: Tokens, environment: Environment, problem: Problem, solution: Solution, weight: float = 1.0
) -> Example:
    """Read a solution exactly as `LabVerifier` will; steps without text are not learnt from."""
    layout = lay_out(tokens, environment, replay(environment, problem, solution))
    first: dict[tuple[int, int], tuple[int, float]] = {}
    for step, (origin, target) in enumerate(zip(layout.origin, solution.labels, strict=True)):
        if origin:
            first.setdefault(origin, (step, target))
    (path,) = layout.paths
    own = {path.reads[key]: target for (_, key), (step, target) in first.items() if step >= solution.start}
    steps = [step for step, _ in first.values()]
    branches = [place for place, step in zip(path.reads[1:-1], steps[1:], strict=True) if step >= solution.start]
    return Example(
        path.keys[-1],
        len(path.keys[0]),
        tuple(own),
        tuple(own.values()),
        weight * solution.count,
        tuple(branches),
    )


def replay(environment: Environment, problem: Problem, solution: Solution) -> State:
    """The state at the end of a solution, its observations made anew."""
    state = environment.initial(problem)
    for text in solution.texts:
        state = environment.step(state, Step(text)).state
    return state


def labelled_states(
    recipe: PrmRecipe, environment: Environment, problems: Mapping[str, Problem], solutions: Sequence[Solution]
) -> list[Labelled]:
    """What a probe learns from: of a rollout its own steps, of a problem what `problem_weights` says."""
    weights = problem_weights(solutions, recipe.uniform, recipe.uniform_weight)
    return [
        Labelled(
            replay(environment, problems[each.problem], each),
            each.labels,
            [weights[each.problem] * each.count * (step >= each.start) for step in range(len(each.texts))],
        )
        for each in solutions
        if weights[each.problem]
    ]


def batches(examples: Sequence[Example], batch_tokens: int, seed: str) -> list[list[int]]:
    """Indices of examples of like length, at most `batch_tokens` with padding, the batches in random order."""
    rng = random.Random(seed)
    order = sorted(range(len(examples)), key=lambda index: (len(examples[index].ids), rng.random()))
    made: list[list[int]] = [[]]
    for index in order:
        if made[-1] and (len(made[-1]) + 1) * len(examples[index].ids) > batch_tokens:
            made.append([])
        made[-1].append(index)
    rng.shuffle(made)
    return made


def pad(batch: Sequence[Example], device: torch.device) -> torch.Tensor:
    """(rows, longest) ids; right padding needs no mask under causal attention."""
    ids = torch.zeros(len(batch), max(len(each.ids) for each in batch), dtype=torch.long)
    for row, each in enumerate(batch):
        ids[row, : len(each.ids)] = torch.tensor(each.ids)
    return ids.to(device)


def label_loss(head: torch.nn.Module, hidden: torch.Tensor, batch: Sequence[Example]) -> torch.Tensor:
    """Cross-entropy with soft labels at the closing tokens, weighted by how often a solution was sampled.

    Args:
        head: from hidden states to the logits of the two labels.
        hidden: (rows, longest, width), of the ids that `pad` gives.
        batch: the examples.
    """
    device = hidden.device
    rows = torch.tensor([row for row, each in enumerate(batch) for _ in each.positions], device=device)
    columns = torch.tensor([position for each in batch for position in each.positions], device=device)
    targets = torch.tensor([target for each in batch for target in each.targets], device=device)
    weights = torch.tensor([each.weight for each in batch for _ in each.positions], device=device)
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
        files[split] = SampleFile(samples / f"{split}.jsonl", header)
        chosen = problems_of(environment, split, n, recipe.seed)
        problems[split] = {problem.id: problem for problem in chosen}
        collect(sampling, environment, policy, chosen, files[split])
    learnt = [each for id in problems["train"] for each in files["train"].solutions[id]]
    fitted: dict[str, Any]
    verifier: Verifier
    if recipe.probe is None:
        fitted = _fit(recipe, environment, origin, folder, problems["train"], learnt, device, checkpoint_seconds)
        verifier = LabVerifier(folder, environment, device=device)
    else:
        labelled = labelled_states(recipe, environment, problems["train"], learnt)
        fitted = train_probe(recipe.probe, recipe.backbone, environment, labelled, folder, device, recipe.seed)
        verifier = load_verifier(folder, environment, device=device, dtype=recipe.probe.dtype)
    record = said | fitted
    held = [each for id in problems["calibration"] for each in files["calibration"].solutions[id] if not each.start]
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
    solutions: Sequence[Solution],
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
            loss = label_loss(model.score, hidden, chosen)
            if foresight is not None:
                table = model.get_input_embeddings().weight
                loss = loss + _FORESEEN * foresight_loss(foresight, table, hidden, ids, chosen)
        else:
            states = learner.states(ids)
            loss = likelihood_loss(learner, ids, states, chosen)
            if step >= warm:
                loss = _BESIDE_LABELS * loss + label_loss(model.score, states[-1], chosen)
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


# ---------------------------------------------------------------------------------------------------------- report


def report(
    verifier: Verifier,
    environment: Environment,
    problems: dict[Split, dict[str, Problem]],
    train: Sequence[Solution],
    held_out: Sequence[Solution],
) -> dict[str, Any]:
    """Say how good a verifier is on held-out solutions.

    Returns:
        ``auroc``: of "can this prefix still end right" (did any completion), over distinct unfinished prefixes;
        ``auroc_all``: finished ones included; ``auroc_within``: of "ended right" among the finished solutions of one
        problem, mean over the problems whose solutions ended differently (a search needs this one; the others also
        reward telling easy problems from hard ones); ``ece``: 15 bins, over all distinct prefixes, against the soft
        labels; for environments that check steps, ``auroc_exact`` (no wrong step in an unfinished prefix) and
        ``first_error``: share of distinct solutions whose first step under ``threshold`` (chosen on the train split)
        is the first wrong one, with the share among wrong solutions as ``first_error_wrong``.
    """
    states = [replay(environment, problems["calibration"][each.problem], each) for each in held_out]
    scored = score_all(verifier, states)
    distinct: dict[tuple[str, tuple[str, ...]], tuple[float, float, bool, bool]] = {}
    checker: StepChecker | None = environment if isinstance(environment, StepChecker) else None
    errors = [checker.first_error(state) if checker else None for state in states]
    for solution, scores, error in zip(held_out, scored, errors, strict=True):
        for k, (score, soft) in enumerate(zip(scores, solution.labels, strict=True)):
            key = (solution.problem, solution.texts[: k + 1])
            exact = error is None or error > k
            unfinished = k + 1 < len(solution.texts)
            distinct.setdefault(key, (score, soft, exact, unfinished))
    every = list(distinct.values())
    going = [entry for entry in every if entry[3]]
    found: dict[str, Any] = {
        "solutions": len(held_out),
        "prefixes": len(every),
        "unfinished_prefixes": len(going),
        "auroc": _round(auroc([entry[0] for entry in going], [entry[1] > 0 for entry in going])),
        "auroc_all": _round(auroc([entry[0] for entry in every], [entry[1] > 0 for entry in every])),
        "ece": _round(ece([entry[0] for entry in every], [entry[1] for entry in every])),
    }
    finished: dict[str, list[tuple[float, bool]]] = {}
    for solution, scores in zip(held_out, scored, strict=True):
        finished.setdefault(solution.problem, []).append((scores[-1], solution.labels[-1] > 0))
    found["auroc_within"] = _round(auroc_within(finished.values()))
    if checker is not None:
        learnt = [replay(environment, problems["train"][each.problem], each) for each in train]
        threshold = best_threshold(score_all(verifier, learnt), [checker.first_error(state) for state in learnt])
        wrong = [index for index, error in enumerate(errors) if error is not None]
        found |= {
            "auroc_exact": _round(auroc([entry[0] for entry in going], [entry[2] for entry in going])),
            "threshold": threshold,
            "first_error": _round(agreement(scored, errors, threshold)),
            "first_error_wrong": _round(
                agreement([scored[index] for index in wrong], [errors[index] for index in wrong], threshold)
            ),
        }
    return found


def score_all(verifier: Verifier, states: Sequence[State], batch: int = 256) -> list[tuple[float, ...]]:
    """Score the steps of each state; NaN counts as 0, as in a search."""
    scores: list[tuple[float, ...]] = []
    for start in range(0, len(states), batch):
        verifier.submit(0, Score(tuple(states[start : start + batch]), "report"))
        while not (ready := verifier.poll()):
            pass
        verifier.cancel("report")
        ((_, reply),) = ready
        if isinstance(reply, Exception):
            raise reply
        scores += [tuple(0.0 if math.isnan(score) else score for score in each) for each in reply.scores]
    return scores


def _round(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)  # JSON has no NaN
