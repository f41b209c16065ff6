r"""Particle filters over steps (Puri et al. 2025, arXiv 2502.01618, algorithm 1), with entropic annealing (2510.05825).

The policy is the transition model of a state-space model, and the verifier its likelihood. `n` particles each draw a
step; r is the verifier's score of the prefix, and a particle's weight and its share are

    w_i = exp(logit(r_i)) = r_i / (1 - r_i),      p_i = w_i^(1/T) / sum_j w_j^(1/T),      T = 1

by which the particles are drawn again, with replacement; finished ones take part and keep their weight. This is done
where the effective sample size ESS = 1 / sum_i p_i^2 is less than `ess` n (the paper: always, `ess` 1).

* ``multinomial``: n independent draws. ``systematic``: one draw u of [0, 1); the particle whose part of the running sum
  of p holds (u + i) / n, for i = 0 ... n - 1: a particle of share p then has n p copies, rounded down or up.
* `anneal` (Giannone et al. 2025, section 3): while ESS < n / 2 in the first half of the steps,
  T = max(1, n / ESS (1 - t / t_max)); t_max is the depth limit of the environment.
* `exact` is ours. The paper multiplies in w at every step, so a long solution counts its early steps again and again.
  With `exact` the weight is multiplied by the ratio of w to that of the step before, and divided by n p_i where the
  particles are drawn again: particles are then properly weighted for the target P(x) w(x) over whole solutions x,
  whatever `ess`, `resampling` and `anneal` are.

The answer is the pooled vote: a finished particle votes with its weight at the end (nothing is drawn again there, which
would add noise alone), which the vote's rule ``vote`` counts (`verifiers.voting.Candidate.weight`). The authors' code
returns the one particle of the greatest weight: the vote's rule ``max``. A particle that is cut short weighs 0.
Every particle draws one step a round, so n buys n solutions.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Annotated, Any, Literal, Self

from agent.search.graph import SearchGraph
from agent.search.requests import Search, propose_each, score
from agent.strategies.traits import Traits
from envs.options import AtLeast, check_ranges
from verifiers.voting import Vote

Resampling = Literal["systematic", "multinomial"]

_LEAST = 1e-6  # a score nearer than this to 0 or 1 counts as this near: its odds would be infinite
_COLLAPSED = 0.5  # of n: the ESS below which annealing acts
_EARLY = 0.5  # of the steps: for how long it does


@dataclass(frozen=True)
class ParticleFilter:
    """Draw a step for each particle, weigh the particles by the verifier, draw the particles again.

    Args:
        n: particles.
        resampling: how particles are drawn again, ``systematic`` or ``multinomial``.
        ess: they are where the effective sample size is less than this share of n; 1 is always, 0 never.
        anneal: flatten the shares in the first half of the steps where few particles have all the weight.
        exact: weigh whole solutions by the target alone, as the module says.
        temperature: of the samples.
        vote: over the finished particles; its aggregation is also what r is.
    """

    n: Annotated[int, AtLeast(1)] = 16
    resampling: Resampling = "systematic"
    ess: Annotated[float, AtLeast(0)] = 1.0
    anneal: bool = False
    exact: bool = False
    temperature: Annotated[float, AtLeast(0)] = 1.0
    vote: Vote = field(default_factory=Vote)

    def __post_init__(self) -> None:
        check_ranges(self)

    @classmethod
    def sized(cls, n: int, **knobs: Any) -> Self:
        """A filter of n particles."""
        return cls(n=n, **knobs)

    @property
    def traits(self) -> Traits:
        """Steered by the verifier."""
        return Traits()

    def search(self, graph: SearchGraph) -> Search[None]:
        """Expand every particle, evaluate, select by drawing the particles again."""
        nodes = [graph.root] * self.n
        logs = [0.0] * self.n  # log weights
        odds = [0.0] * self.n  # logit of r, of the last step
        rng = random.Random(f"{graph.seed}/{graph.problem.id}/particles")
        turn = 0
        while going := [i for i, node in enumerate(nodes) if graph.status(node) == "running"]:
            turn += 1
            drawn = yield from propose_each(graph, {i: nodes[i] for i in going}, 1, self.temperature)
            for i, (end,) in drawn.items():
                nodes[i] = end
            moved = {nodes[i] for i in going if graph.status(nodes[i]) != "truncated"}
            ordered = sorted(moved)
            values = dict(zip(ordered, (yield from score(graph, ordered, self.vote.aggregate)), strict=True))
            for i in going:
                if nodes[i] not in moved:
                    continue
                r = graph[nodes[i]]["value"] = values[nodes[i]]
                after = logit(r)
                logs[i] = logs[i] + after - odds[i] if self.exact and turn > 1 else after
                odds[i] = after
            # a person may have cut particles that ended long ago, too
            logs = [
                -math.inf if graph.status(node) == "truncated" else each for node, each in zip(nodes, logs, strict=True)
            ]
            if any(graph.status(node) == "running" for node in nodes) and max(logs) > -math.inf:
                shares = self.shares(logs, turn / graph.environment.max_steps)
                if effective(softmax(logs)) < self.ess * self.n:
                    picked = resample(shares, self.n, self.resampling, rng)
                    if self.exact:
                        logs = [logs[i] - math.log(self.n * shares[i]) for i in picked]
                    else:
                        logs = [logs[i] for i in picked]
                    before = {node for node in nodes if graph.status(node) != "truncated"}
                    nodes, odds = [nodes[i] for i in picked], [odds[i] for i in picked]
                    for node in before:
                        graph[node]["pruned"] = node not in nodes
        self.weigh(graph, nodes, logs)

    def shares(self, logs: Sequence[float], progress: float) -> list[float]:
        """The probabilities of the particles, of their log weights.

        Args:
            logs: of each particle; minus infinity is none.
            progress: t / t_max.
        """
        shares = softmax(logs)
        size = effective(shares)
        if self.anneal and progress < _EARLY and size < _COLLAPSED * self.n:
            temperature = max(1.0, self.n / size * (1 - progress))
            return softmax([each / temperature for each in logs])
        return shares

    def weigh(self, graph: SearchGraph, nodes: Sequence[int], logs: Sequence[float]) -> None:
        """Give every finished node the weight of its particles, which adds up to the sum of their scores.

        So a filter has as much weight among other samples of a search as a vote by scores would give its particles.
        """
        finished = [i for i, node in enumerate(nodes) if graph.status(node) == "terminated"]
        if not finished:
            return
        scale = math.fsum(graph[nodes[i]]["value"] for i in finished)
        weights: dict[int, float] = {}
        for i, share in zip(finished, softmax([logs[i] for i in finished]), strict=True):
            weights[nodes[i]] = weights.get(nodes[i], 0.0) + scale * share
        for node, weight in weights.items():
            graph[node]["weight"] = (graph[node].weight or 0.0) + weight


def logit(r: float) -> float:
    """The log odds of a score in [0, 1], finite."""
    r = min(max(r, _LEAST), 1 - _LEAST)
    return math.log(r / (1 - r))


def softmax(logs: Sequence[float]) -> list[float]:
    """Shares that add up to 1; one of the logs at least is finite."""
    top = max(logs)
    weights = [math.exp(each - top) for each in logs]
    total = math.fsum(weights)
    return [each / total for each in weights]


def effective(shares: Sequence[float]) -> float:
    """The effective sample size, 1 / sum of the squared shares."""
    return 1 / math.fsum(share * share for share in shares)


def resample(shares: Sequence[float], n: int, how: Resampling, rng: random.Random) -> list[int]:
    """Draw n indices with replacement.

    Args:
        shares: their probabilities, which add up to 1.
        n: how many.
        how: ``systematic`` or ``multinomial``.
        rng: one number is drawn of it for ``systematic``, n for ``multinomial``.

    Returns:
        The indices, in order.
    """
    if how == "multinomial":
        return sorted(rng.choices(range(len(shares)), shares, k=n))
    begun = rng.random()
    ends = list(accumulate(shares))
    last = max(index for index, share in enumerate(shares) if share > 0)
    picked, at = [], 0
    for i in range(n):
        while at < last and ends[at] <= (begun + i) / n:
            at += 1
        picked.append(at)
    return picked
