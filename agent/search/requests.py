"""How a strategy talks to the world: it is a generator that yields requests and is sent the replies (sans-IO).

A strategy holds no model, no batching, no clock and no budget. It says ``yield from propose(...)`` and
``yield from score(...)``, and writes what it learns into the graph.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from agent.search.graph import SearchGraph
from agent.search.shared_budget import Bid, Granted, Offer
from envs.core import State
from policies.core import Propose, Proposed
from verifiers.core import Score, Scored
from verifiers.voting import Aggregate, aggregate

T = TypeVar("T")


@dataclass(frozen=True)
class Again:
    """The reply to a request of `propose` that was not submitted, as a person changed the graph: ask again as it is."""


@dataclass(frozen=True)
class Kept:
    """What there was of the reply to a request when its search ended; nothing that is asked for later is answered.

    Args:
        reply: samples that had not ended are empty.
    """

    reply: Proposed


class SubtreeCut(Exception):
    """A person cut the root of what a strategy searches: it ends there, as nothing that it asks for could be had."""


Request = Propose | Score | Bid
Reply = Proposed | Scored | Granted | Again | Kept
Search = Generator[Request, Reply, T]


def sample_seeds(graph: SearchGraph, node: int, first: int, count: int) -> tuple[int, ...]:
    """The seeds of samples at a node: 64 bits each of a hash of the run's seed, problem, steps and sample's index."""
    begun = graph.path_hashes.of(graph, node)
    begun.update(b"\x1e")
    seeds = []
    for index in range(first, first + count):
        whole = begun.copy()
        whole.update(str(index).encode())
        seeds.append(int.from_bytes(whole.digest(), "big"))
    return tuple(seeds)


def propose(
    graph: SearchGraph,
    nodes: Sequence[int],
    n: int | Sequence[int],
    temperature: float = 1.0,
    max_steps: int | None = 1,
    rollout: bool = False,
    distinct: bool = False,
    large: bool = False,
    shown: Sequence[Sequence[int]] = (),
) -> Search[list[list[int]]]:
    """Sample continuations and add them to the graph.

    Args:
        graph: of this search.
        nodes: running nodes to go on from, or terminated ones to revise.
        n: samples for each node, or for each its own number.
        temperature: 0 is greedy.
        max_steps: steps per sample; None goes on to the end.
        rollout: the samples only look ahead; they do not vote.
        distinct: they are drawn without replacement, if the policy can (`policies.core.Propose`).
        large: they are drawn by the larger one of two policies (`policies.pair`), and their nodes say so.
        shown: for each node, which is terminated, the ends of the attempts that its samples are shown, in place of
            those on the way to it; empty is those.

    Returns:
        For each node, for each sample, the last node of the sample; identical samples share a node. Of a node that a
        person cut nothing is drawn: its samples end at the node itself, which is then truncated.

    Raises:
        SubtreeCut: a person cut all that is searched.
        ValueError: the reply has not the samples asked for, or one of them has no steps.
    """
    counts = [n] * len(nodes) if isinstance(n, int) else list(n)
    attempts = shown or [()] * len(nodes)
    reply: Reply = Again()
    while isinstance(reply, Again):
        _refuse_cut(graph)
        asked = [(node, count) for node, count in zip(nodes, counts, strict=True) if not graph.steering.cuts(node)]
        if nodes and not asked:
            return [[node] * count for node, count in zip(nodes, counts, strict=True)]
        seeds = []
        drawn = {node: graph[node]["drawn"] for node, _ in asked}
        for node, count in asked:
            seeds.append(sample_seeds(graph, node, drawn[node], count))
            drawn[node] += count
        graph.steering.asked = tuple(drawn)
        seen = [each for node, each in zip(nodes, attempts, strict=True) if not graph.steering.cuts(node)]
        starts = tuple(graph.start(node, each) for (node, _), each in zip(asked, seen, strict=True))
        request = Propose(starts, tuple(seeds), temperature, max_steps, graph.scope, distinct, large=large)
        reply = yield request
    graph.steering.asked = ()
    kept = isinstance(reply, Kept)
    if isinstance(reply, Kept):
        reply = reply.reply
    if not isinstance(reply, Proposed):
        raise TypeError(f"a Propose request was answered with {type(reply).__name__}")
    wanted = [count for _, count in asked]
    if (given := [len(samples) for samples in reply.samples]) != wanted:
        raise ValueError(f"{wanted} samples were asked for; the policy gave {given}")
    if not kept and not all(steps for samples in reply.samples for steps in samples):
        raise ValueError("the policy gave a sample without steps")
    if reply.transitions and (given := [len(each) for each in reply.transitions]) != wanted:
        raise ValueError(f"{wanted} samples were asked for; the policy gave transitions of {given}")
    for node, total in drawn.items():
        graph[node]["drawn"] = total
    known = reply.transitions or tuple(((),) * count for count in wanted)
    before = len(graph)
    ends = iter(
        [
            [graph.add(node, steps, rollout, after, each) for steps, after in zip(samples, transitions, strict=True)]
            for (node, _), samples, transitions, each in zip(asked, reply.samples, known, seen, strict=True)
        ]
    )
    for node in range(before, len(graph)) if large else ():
        graph[node]["large"] = True
    if kept:
        yield request  # the search is closed here
    return [next(ends) if node in drawn else [node] * count for node, count in zip(nodes, counts, strict=True)]


def propose_each(
    graph: SearchGraph,
    heads: Mapping[int, int],
    n: int,
    temperature: float = 1.0,
    max_steps: int | None = 1,
    large: bool = False,
) -> Search[dict[int, list[int]]]:
    """Sample for chains that may be at one node: those draw together, so that equal samples are one node, then part.

    Args:
        graph: of this search.
        heads: by chain, the node that it goes on from.
        n: samples for each chain.
        temperature: as of `propose`, as are the others.
        max_steps: steps per sample.
        large: they are drawn by the larger one of two policies.

    Returns:
        By chain, the last nodes of its samples.
    """
    where: dict[int, list[int]] = {}
    for chain, node in heads.items():
        where.setdefault(node, []).append(chain)
    counts = [n * len(here) for here in where.values()]
    drawn = yield from propose(graph, list(where), counts, temperature, max_steps, large=large)
    return {
        chain: ends[n * i : n * (i + 1)]
        for here, ends in zip(where.values(), drawn, strict=True)
        for i, chain in enumerate(here)
    }


def score(graph: SearchGraph, nodes: Sequence[int], how: Aggregate = "last") -> Search[list[float]]:
    """The aggregated step scores of nodes, asking the verifier only for those that have none yet.

    A node that a person pinned is worth 1 whatever its scores; one that a person cut is not scored any more.

    Raises:
        SubtreeCut: a person cut all that is searched.
    """
    _refuse_cut(graph)
    known = {node: graph.scores(node) for node in nodes}
    steering = graph.steering
    lacking = [node for node, scores in known.items() if node != graph.root and not scores and not steering.cuts(node)]
    if lacking:
        reply = yield Score(tuple(_alone(graph.state(node)) for node in lacking), graph.scope)
        if not isinstance(reply, Scored):
            raise TypeError(f"a Score request was answered with {type(reply).__name__}")
        for node, scores in zip(lacking, reply.scores, strict=True):
            graph.set_scores(node, scores)
            known[node] = graph.scores(node)
        for node, deviations in zip(lacking, reply.deviations, strict=bool(reply.deviations)):
            graph.set_deviations(node, deviations)
    return [1.0 if node in steering.pinned else aggregate(known[node], how) for node in nodes]


def _refuse_cut(graph: SearchGraph) -> None:
    """End a strategy below a node that a person cut: many go on until samples are spent, and none would be."""
    if graph.steering.cuts(graph.root):
        raise SubtreeCut


def compare(graph: SearchGraph, groups: Sequence[Sequence[int]]) -> Search[list[tuple[float, ...]]]:
    """Which of some finished nodes is the best, group by group.

    Args:
        graph: of this search.
        groups: nodes that are shown together, in this order, two or more each.

    Returns:
        For each group the chances of its nodes; empty where the verdict cannot be read, which is no vote.
    """
    nodes = list(dict.fromkeys(node for group in groups for node in group))
    place = {node: index for index, node in enumerate(nodes)}
    states = tuple(_alone(graph.state(node)) for node in nodes)
    reply = yield Score(states, graph.scope, tuple(tuple(place[node] for node in group) for group in groups))
    if not isinstance(reply, Scored):
        raise TypeError(f"a comparison was answered with {type(reply).__name__}")
    if (given := list(map(len, reply.scores))) != (wanted := list(map(len, groups))):
        raise ValueError(f"groups of {wanted} were to be compared; the verifier gave {given} chances")
    return [chances if all(map(math.isfinite, chances)) else () for chances in reply.scores]


def _alone(state: State) -> State:
    """A verifier judges an attempt by itself."""
    return replace(state, attempts=()) if state.attempts else state


def bid(offers: Sequence[Offer]) -> Search[int | None]:
    """Ask which offer to take, if any, where a budget is shared; see `Bid`."""
    reply = yield Bid(tuple(offers))
    if not isinstance(reply, Granted):
        raise TypeError(f"a Bid was answered with {type(reply).__name__}")
    return reply.offer
