"""Training of probes (``stepwell train prm`` with a ``probe``): what a language model's hidden states say of its steps.

The backbone is run once, over every labelled prefix, and what it thinks at the tokens that close the steps is kept, at
several depths. Heads are then fitted to the soft labels in seconds. How deep, how wide and how smooth is chosen by
cross-validation over the problems that are learnt from; the chosen head is fitted to all of them.

What costs nothing may be weighed beside the head (`verifiers.families.probe.BESIDE`): a logistic regression on its
log-odds and theirs, fitted to what the head says of problems that it was not fitted to.
"""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from loguru import logger
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from envs.core import Environment, State
from envs.options import choose
from policies.models.kv_cache import DecodeRows, PagedPrefill
from verifiers.backends.hf import find_checkpoint
from verifiers.ensemble import log_odds
from verifiers.families.probe import BESIDE, Probe, ProbeConfig, save_probe
from verifiers.metrics import auroc_within
from verifiers.scoring.cached_scorer import Part, Runner
from verifiers.scoring.hf_model import Backbone, Linear
from verifiers.scoring.score_layout import lay_out
from verifiers.scoring.tokenization import Texts
from verifiers.training.score_all import score_all

_PASS = 1024  # tokens
_TELL = 30.0  # seconds between two lines of progress
_POOL_DECAY = 0.001
_MEMORY = 256 << 20


@dataclass(frozen=True)
class ProbeRecipe:
    """What ``probe`` in ``configs/training/train-prm-*.yaml`` may say.

    Each of the lists is what cross-validation chooses from.

    Args:
        layers: how many layers of the backbone are run.
        widths: hidden units of the head; 0 is a linear one.
        decays: of the head's weights: half of it times their squared length is added to the loss.
        folds: of the cross-validation.
        dtype: precision of the backbone.
        iterations: most of L-BFGS.
        beside: what is weighed beside the head, by names of `BESIDE`.
    """

    layers: tuple[int, ...]
    widths: tuple[int, ...] = (0,)
    decays: tuple[float, ...] = (0.01, 0.1, 1.0)
    folds: int = 4
    dtype: str = "float32"
    iterations: int = 100
    beside: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse names that are none."""
        for name in self.beside:
            choose(name, BESIDE, "part beside a probe")


@dataclass(frozen=True)
class Labelled:
    """A trajectory with a soft label for each step, and the weight of each; a weight of 0 is not learnt from."""

    state: State
    labels: Sequence[float]
    weights: Sequence[float]


@dataclass(frozen=True)
class Trial:
    """A choice and how well it did on problems that it was not fitted to.

    Args:
        loss: cross-entropy, in nats.
        auroc_within: how well it tells right from wrong solutions of one problem, at their last steps.
    """

    layers: int
    width: int
    decay: float
    loss: float
    auroc_within: float | None


def train_probe(
    recipe: ProbeRecipe,
    backbone: str,
    environment: Environment,
    labelled: Sequence[Labelled],
    folder: Path,
    device: str = "cpu",
    seed: int = 0,
) -> dict[str, Any]:
    """Fit a probe to labelled trajectories and save it; returns what to record of it."""
    torch.manual_seed(seed)
    data = read_features(recipe, find_checkpoint(backbone), environment, labelled, device)
    logger.info("{:,} prefixes of {:,} problems read", len(data.targets), len(set(data.problems)))
    trials = list(cross_validate(recipe, data, seed))
    best = min(trials, key=lambda trial: trial.loss)
    logger.info("chosen: {}", best)
    head = fit(*data.some(best.layers), best.width, best.decay, recipe.iterations)
    config = ProbeConfig(backbone, best.layers, data.features[best.layers].shape[1], environment.delimiter)
    record = {
        "parameters": sum(each.numel() for matrix in head for each in matrix if each is not None),
        "prefixes": len(data.targets),
        "chosen": asdict(best),
        "trials": [asdict(trial) for trial in trials],
    }
    if recipe.beside:
        beside, record["pooled"] = pool(recipe, data, best, seed)
        logger.info("pooled: {}", record["pooled"])
        config = replace(config, **beside)
    save_probe(folder, config, head)
    return record


def pool(recipe: ProbeRecipe, data: Features, chosen: Trial, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The weights of a chosen head and of what is beside it, as `ProbeConfig` has them; how well they do.

    Beside that, for comparison, the weights and the worth of the rest without the head (an `ensemble` in a recipe).
    """
    folds = folds_of(recipe, data, seed)
    own = held_out_logits(data.features[chosen.layers], data, folds, chosen.width, chosen.decay, recipe.iterations)

    def weigh(parts: Tensor) -> tuple[list[float], float, dict[str, Any]]:
        found = held_out_logits(parts, data, folds, 0, _POOL_DECAY, recipe.iterations)
        ((weights, bias),) = fit(parts, data.targets, data.weights, 0, _POOL_DECAY, recipe.iterations)
        assert bias is not None
        done = {"loss": loss_of(found, data), "auroc_within": _within(data, found.tolist())}
        return [round(each, 5) for each in weights[0].tolist()], round(bias.item(), 5), done

    (first, *others), bias, done = weigh(torch.cat([own[:, None], data.beside], 1))
    beside = {"beside": dict(zip(recipe.beside, others, strict=True)), "weight": first, "bias": bias}
    weights, bias, alone = weigh(data.beside)
    without = {"weights": dict(zip(recipe.beside, weights, strict=True)), "bias": bias} | alone
    return beside, done | {"without_the_head": without}


# -------------------------------------------------------------------------------------------------------- features


@dataclass(frozen=True)
class Features:
    """What was read of n distinct prefixes.

    Args:
        features: by the number of layers that were run, (n, hidden) in float32.
        targets: (n,) soft labels.
        weights: (n,).
        problems: the problem of each.
        ends: whether it is a whole trajectory.
        beside: (n, parts), the log-odds of what is weighed beside a head.
    """

    features: dict[int, Tensor]
    targets: Tensor
    weights: Tensor
    problems: list[str]
    ends: Tensor
    beside: Tensor

    def some(self, layers: int) -> tuple[Tensor, Tensor, Tensor]:
        """Features after so many layers, targets and weights."""
        return self.features[layers], self.targets, self.weights


def read_features(
    recipe: ProbeRecipe, base: Path, environment: Environment, labelled: Sequence[Labelled], device: str
) -> Features:
    """Run a backbone over trajectories; what they have in common is run, and counted, once."""
    texts = Texts(base)
    family = Probe(texts, environment.delimiter)
    model = Backbone(base, "probe", device, recipe.dtype, max(recipe.layers), ())
    runner = Runner(_Depths(model, recipe.layers), model.parameters, model.context, _States(), _MEMORY, _PASS)
    rows: dict[tuple[str, Any], int] = {}
    states: list[Tensor] = []
    odds: list[list[float]] = []
    sums: list[list[float]] = []  # of a row: weight, weight x label, whether it ends a trajectory
    by_problem = itertools.groupby(sorted(labelled, key=lambda each: each.state.problem.id), _problem)
    groups = [(problem, list(group)) for problem, group in by_problem]
    begun = told_at = time.monotonic()
    for done, (problem, members) in enumerate(groups):
        now = time.monotonic()
        if done and now - told_at >= _TELL:
            told_at = now
            left = (now - begun) / done * (len(groups) - done) / 60
            logger.info("{} of {} problems read, about {:.0f} min left", done, len(groups), left)
        told = [score_all(BESIDE[name](environment), [each.state for each in members]) for name in recipe.beside]
        layouts = [lay_out(family, texts, environment, each.state) for each in members]
        paths = [path for layout in layouts for path in layout.paths]
        notes = iter(runner.read([(problem, path) for path in paths])[0])
        runner.drop(problem)
        for member, (each, layout) in enumerate(zip(members, layouts, strict=True)):
            if not layout.paths:
                continue
            made, (path,) = next(notes), layout.paths
            steps = zip(layout.origin, each.labels, each.weights, strict=True)
            for step, (origin, label, weight) in enumerate(steps):
                if origin is None or not weight or made[origin[1]] is None:
                    continue
                row = rows.setdefault((problem, path.keys[origin[1]]), len(rows))
                if row == len(states):
                    states.append(made[origin[1]])
                    odds.append([log_odds(scores[member][step]) for scores in told])
                    sums.append([0.0, 0.0, 0.0])
                sums[row][0] += weight
                sums[row][1] += weight * label
                sums[row][2] = float(step + 1 == len(each.labels))
    if not states:
        raise ValueError("there is no labelled step to learn from")
    weights, weighted, ends = torch.tensor(sums).T
    every = torch.stack(states).view(len(states), -1, model.width).unbind(1)
    return Features(
        dict(zip(recipe.layers, every, strict=True)),
        weighted / weights,
        weights,
        [of for of, _ in rows],
        ends > 0,
        torch.tensor(odds),
    )


def _problem(labelled: Labelled) -> str:
    return labelled.state.problem.id


class _Depths:
    """A `Backbone` whose hidden states are those after several of its layers, side by side, each after the last norm.

    Args:
        model: the backbone, as deep as the deepest of them.
        layers: how many layers are before each.
    """

    def __init__(self, model: Backbone, layers: Sequence[int]) -> None:
        self.config, self.device, self.dtype = model.config, model.device, model.dtype
        self._model, self._layers = model, layers

    def run(
        self, keys: DecodeRows | PagedPrefill, ids: Tensor, positions: Tensor, wanted: Tensor | None = None
    ) -> Tensor:
        """As `Backbone.run`, (tokens or wanted, depths x hidden)."""
        return torch.cat(self._model.depths(keys, ids, positions, self._layers, wanted), -1)


class _States:
    """Remembers the hidden state of each part that is read."""

    def wanted(self, part: Part) -> Sequence[int]:
        """The position where the score would be."""
        return part.reads

    def notes(self, parts: Sequence[tuple[Part, Any]], hidden: Tensor) -> list[Any]:
        """The states, in float32."""
        found = iter(hidden.float().cpu())
        return [next(found) if part.read >= 0 else None for part, _ in parts]


# ------------------------------------------------------------------------------------------------------------ heads


def fit(features: Tensor, targets: Tensor, weights: Tensor, width: int, decay: float, iterations: int) -> list[Linear]:
    """Fit a head to soft labels.

    Args:
        features: (n, hidden).
        targets: (n,) in [0, 1].
        weights: (n,).
        width: of the layer between; 0 for none.
        decay: of the weights, which work on features of unit variance.
        iterations: most of L-BFGS.

    Returns:
        Its matrices, for features as they are.
    """
    mean = features.mean(0)
    scale = features.std(0, correction=0).clamp_min(1e-6)
    inputs, weights = (features - mean) / scale, weights / weights.sum()
    head = torch.nn.Sequential(
        *([torch.nn.Linear(features.shape[1], width), torch.nn.ReLU()] if width else []),
        torch.nn.Linear(width or features.shape[1], 1),
    )
    matrices = [layer for layer in head if isinstance(layer, torch.nn.Linear)]
    with torch.no_grad():
        share = ((targets * weights).sum()).clamp(1e-4, 1 - 1e-4)
        matrices[-1].weight.zero_()
        matrices[-1].bias.fill_(torch.logit(share).item())
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=iterations, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        found = _cross_entropy(head(inputs)[:, 0], targets, weights)
        found = found + decay / 2 * sum((layer.weight**2).sum() for layer in matrices)
        found.backward()  # type: ignore[no-untyped-call]
        return found

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    first, last = matrices[0], matrices[-1]
    weight = first.weight.detach() / scale
    made: list[Linear] = [(weight, first.bias.detach() - weight @ mean)]
    return made if first is last else [*made, (last.weight.detach(), last.bias.detach())]


def logits(head: Sequence[Linear], features: Tensor) -> Tensor:
    """(n, hidden) to (n,): what a head makes of features."""
    *inner, last = head
    for weight, bias in inner:
        features = torch.relu(torch.nn.functional.linear(features, weight, bias))
    return torch.nn.functional.linear(features, *last)[:, 0]


def cross_validate(recipe: ProbeRecipe, data: Features, seed: int) -> Iterator[Trial]:
    """Try every choice of a recipe: fit on all folds but one, look at that one; the folds are of whole problems."""
    folds = folds_of(recipe, data, seed)
    for layers, width, decay in itertools.product(recipe.layers, recipe.widths, recipe.decays):
        found = held_out_logits(data.features[layers], data, folds, width, decay, recipe.iterations)
        yield Trial(layers, width, decay, loss_of(found, data), _within(data, found.tolist()))


def folds_of(recipe: ProbeRecipe, data: Features, seed: int) -> Tensor:
    """(n,): the fold of each row; those of a problem are in one."""
    order = sorted(set(data.problems))
    random.Random(f"folds/{seed}").shuffle(order)
    fold_of = {problem: index % recipe.folds for index, problem in enumerate(order)}
    return torch.tensor([fold_of[problem] for problem in data.problems])


def held_out_logits(
    features: Tensor, data: Features, folds: Tensor, width: int, decay: float, iterations: int
) -> Tensor:
    """(n,): what heads say that were fitted to the other folds."""
    found = torch.zeros(len(folds))
    for fold in range(int(folds.max()) + 1):
        rest = folds != fold
        head = fit(features[rest], data.targets[rest], data.weights[rest], width, decay, iterations)
        found[~rest] = logits(head, features[~rest])
    return found


def loss_of(found: Tensor, data: Features) -> float:
    """Cross-entropy of logits with the labels, in nats."""
    return round(_cross_entropy(found, data.targets, data.weights / data.weights.sum()).item(), 5)


def _cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(logits, targets, weights, reduction="sum")


def _within(data: Features, scores: Sequence[float]) -> float | None:
    """Mean AUROC among the whole trajectories of a problem, over the problems that have right and wrong ones."""
    groups: dict[str, list[tuple[float, bool]]] = {}
    for problem, score, target, end in zip(data.problems, scores, data.targets.tolist(), data.ends, strict=True):
        if end:
            groups.setdefault(problem, []).append((score, target > 0))
    value = auroc_within(groups.values())
    return None if math.isnan(value) else round(value, 4)
