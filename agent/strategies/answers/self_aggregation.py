r"""Recursive self-aggregation: a population of solutions, each round made of what the policy reads in the one before.

RSA (Venkatraman et al. 2025, arXiv 2509.26626, section 3). With N the population, K the solutions that are read at once
and T the rounds,

    P_1 = { N samples of the problem };   P_(t+1) = { sample of (problem, S_i) : S_i a random K of P_t, i = 1 ... N }

and the answer is the commonest of P_T. Nothing is scored, unless the vote is another one. What the policy reads is what
a revision reads (the environment's `revise`, or earlier attempts as worked solutions), in the order of the draw; the
paper's prompt for models that follow instructions asks for a better solution made of them.

n buys n solutions: T = `rounds` rounds of n / T, or as many rounds as leave K in each. A solution without an answer is
not read; where a round has no other, the next reads what that one read, or begins anew where nothing has an answer yet.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from agent.search.graph import SHOWN, SearchGraph
from agent.search.requests import Search, propose, score
from agent.strategies.beam import share
from agent.strategies.traits import Traits
from envs.options import AtLeast, check_ranges
from verifiers.voting import Vote


@dataclass(frozen=True)
class SelfAggregation:
    """Rounds of solutions, each written by a policy that is shown some of the round before.

    Args:
        n: solutions in all.
        rounds: T; fewer where n is less than `read` times as many.
        read: K, solutions that are shown at once.
        temperature: of all samples.
        vote: over the last round that has answers; unless its rule is ``majority``, that round is scored.
    """

    n: Annotated[int, AtLeast(1)] = 16
    rounds: Annotated[int, AtLeast(1)] = 4
    read: Annotated[int, AtLeast(1, SHOWN)] = SHOWN
    temperature: Annotated[float, AtLeast(0)] = 1.0
    vote: Vote = field(default_factory=lambda: Vote("majority"))

    def __post_init__(self) -> None:
        check_ranges(self)

    @classmethod
    def sized(cls, n: int, **knobs: Any) -> Self:
        """N solutions in all."""
        return cls(n=n, **knobs)

    @property
    def traits(self) -> Traits:
        """Attempts that depend on those before, scored unless they are only counted."""
        return Traits(needs_scores=self.vote.rule != "majority")

    def search(self, graph: SearchGraph) -> Search[None]:
        """Expand the population by a round, until the last."""
        rng = random.Random(f"{graph.seed}/{graph.problem.id}/aggregation")
        rounds = max(1, min(self.rounds, self.n // self.read))
        population: list[int] = []
        earlier: set[int] = set()
        for size in share(self.n, rounds):
            shown = [self.subset(population, rng) for _ in range(size)] if population else []
            starts = [ends[-1] for ends in shown] or [graph.root]
            counts = [1] * size if shown else [size]
            drawn = yield from propose(graph, starts, counts, self.temperature, max_steps=None, shown=shown)
            earlier |= set(population)
            ends = [end for each in drawn for end in each if graph.status(end) == "terminated" and end not in earlier]
            population = ends or population
        if self.vote.rule != "majority":
            yield from score(graph, sorted(set(population)))
        for node in earlier | set(population):
            graph[node]["pruned"] = node not in population

    def subset(self, population: list[int], rng: random.Random) -> list[int]:
        """K distinct members of a population, or all."""
        distinct = sorted(set(population))
        return rng.sample(distinct, min(self.read, len(distinct)))
