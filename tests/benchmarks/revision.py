"""What revising is worth: ``python tests/benchmarks/revision.py --policy runs/arithmetic-s-reviser``.

On problems of the calibration split: how often attempts are right by their place in a chain, how often a right one
turns wrong at the next revision and a wrong one right, and the accuracy and FLOPs of N attempts at several ratios of
chain length to chains, 1 / N being Best-of-N by the same policy; by the verifier's vote and by majority.
"""

from __future__ import annotations

import argparse

from agent.search.budget import Budget
from agent.search.engine import Engine, Task
from agent.search.graph import SearchGraph
from agent.strategies import Revision
from envs import load_environment
from policies import load_policy
from verifiers import load_verifier
from verifiers.voting import Vote


def turns(graphs: list[SearchGraph]) -> tuple[list[list[int]], dict[tuple[bool, bool], int]]:
    """(right, attempts) by place in the chain, and how often (right before, right after) it was."""
    by_place: list[list[int]] = []
    pairs: dict[tuple[bool, bool], int] = {}

    def right(graph: SearchGraph, end: int) -> bool:
        return graph.environment.check(graph.problem, graph[end]["answer"])

    for graph in graphs:
        for end in (node for node in graph.graph if graph.status(node) == "terminated"):
            *before, _ = graph.attempts(end)
            while len(by_place) <= len(before):
                by_place.append([0, 0])
            count, is_right = graph.count(end), right(graph, end)
            by_place[len(before)][0] += count * is_right
            by_place[len(before)][1] += count
            if before:
                pair = right(graph, before[-1]), is_right
                pairs[pair] = pairs.get(pair, 0) + count
    return by_place, pairs


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="arithmetic")
    parser.add_argument("--policy", default="arithmetic-s-reviser")
    parser.add_argument("--verifier", default="arithmetic-prm")
    parser.add_argument("-n", type=int, default=200, help="problems")
    parser.add_argument("--attempts", type=int, default=16)
    parser.add_argument("--ratio", type=float, nargs="+", default=[1 / 16, 1 / 4, 1, 4, 16])
    arguments = parser.parse_args()
    environment = load_environment(arguments.env)
    engine = Engine(
        environment,
        load_policy(arguments.policy, environment),
        load_verifier(arguments.verifier, environment),
    )
    problems = environment.problems("calibration", arguments.n)
    print("| ratio | PRM-vote | majority | all attempts, PRM-vote | MFLOP | right by place in the chain | turned |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for ratio in arguments.ratio:
        strategy = Revision(arguments.attempts, ratio)
        tasks = (Task(problem, strategy.search, Budget(samples=arguments.attempts)) for problem in problems)
        graphs = list(engine.run(tasks))
        places, pairs = turns(graphs)
        scores = [sum(bool(graph.correct()) for graph in graphs)]
        for graph in graphs:
            for node in graph.graph:
                graph[node]["pruned"] = False
        for vote in (Vote("majority"), Vote()):
            for graph in graphs:
                groups = graph.tally(vote)
                graph.info["answer"] = groups[0].answer if groups else None
            scores.append(sum(bool(graph.correct()) for graph in graphs))
        kept, lost = pairs.get((True, True), 0), pairs.get((True, False), 0)
        gained, failed = pairs.get((False, True), 0), pairs.get((False, False), 0)
        by_place = " ".join(f"{right / total:.1%}" for right, total in places)
        turned = (
            f"right to wrong {lost / max(1, lost + kept):.1%}, wrong to right {gained / max(1, gained + failed):.1%}"
        )
        shares = " | ".join(f"{score / len(graphs):.1%}" for score in scores)
        flops = sum(graph.info["spent"]["flops"] for graph in graphs) / len(graphs) / 1e6
        print(f"| {ratio:g} | {shares} | {flops:.0f} | {by_place} | {turned} |", flush=True)


if __name__ == "__main__":
    main()
