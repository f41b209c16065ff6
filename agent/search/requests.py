"""How a strategy talks to the world: it is a generator that yields requests and is sent the replies (sans-IO).

A strategy holds no model, no batching, no clock and no budget. It says ``yield from propose(...)`` and
``yield from score(...)``, and writes what it learns into the graph.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TypeVar

from agent.search.graph import SearchGraph
from agent.search.shared_budget import Bid, Granted, Offer
from envs.core import State
from policies.core import Propose, Proposed
from verifiers.core import Score, Scored
from verifiers.voting import Aggregate, aggregate

T = TypeVar("T")


Request = Propose | Score | Bid
Reply = Proposed | Scored | Granted
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

    Returns:
        For each node, for each sample, the last node of the sample; identical samples share a node.

    Raises:
        ValueError: the reply has not the samples asked for, or one of them has no steps.
    """
    counts = [n] * len(nodes) if isinstance(n, int) else list(n)
    seeds = []
    drawn = {node: graph[node]["drawn"] for node in nodes}
    for node, count in zip(nodes, counts, strict=True):
        seeds.append(sample_seeds(graph, node, drawn[node], count))
        drawn[node] += count
    starts = tuple(graph.start(node) for node in nodes)
    reply = yield Propose(starts, tuple(seeds), temperature, max_steps, graph.scope, distinct)
    if not isinstance(reply, Proposed):
        raise TypeError(f"a Propose request was answered with {type(reply).__name__}")
    if (given := [len(samples) for samples in reply.samples]) != counts:
        raise ValueError(f"{counts} samples were asked for; the policy gave {given}")
    if not all(steps for samples in reply.samples for steps in samples):
        raise ValueError("the policy gave a sample without steps")
    if reply.transitions and (given := [len(each) for each in reply.transitions]) != counts:
        raise ValueError(f"{counts} samples were asked for; the policy gave transitions of {given}")
    for node, total in drawn.items():
        graph[node]["drawn"] = total
    known = reply.transitions or tuple(((),) * count for count in counts)
    return [
        [graph.add(node, steps, rollout, after) for steps, after in zip(samples, transitions, strict=True)]
        for node, samples, transitions in zip(nodes, reply.samples, known, strict=True)
    ]


def score(graph: SearchGraph, nodes: Sequence[int], how: Aggregate = "last") -> Search[list[float]]:
    """The aggregated step scores of nodes, asking the verifier only for those that have none yet."""
    known = {node: graph.scores(node) for node in nodes}
    lacking = [node for node, scores in known.items() if node != graph.root and not scores]
    if lacking:
        reply = yield Score(tuple(_alone(graph.state(node)) for node in lacking), graph.scope)
        if not isinstance(reply, Scored):
            raise TypeError(f"a Score request was answered with {type(reply).__name__}")
        for node, scores in zip(lacking, reply.scores, strict=True):
            graph.set_scores(node, scores)
            known[node] = graph.scores(node)
    return [aggregate(known[node], how) for node in nodes]


def _alone(state: State) -> State:
    """A verifier judges an attempt by itself."""
    return replace(state, attempts=()) if state.attempts else state


def bid(offers: Sequence[Offer]) -> Search[int | None]:
    """Ask which offer to take, if any, where a budget is shared; see `Bid`."""
    reply = yield Bid(tuple(offers))
    if not isinstance(reply, Granted):
        raise TypeError(f"a Bid was answered with {type(reply).__name__}")
    return reply.offer
