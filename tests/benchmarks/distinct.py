"""At what temperature to draw without replacement: ``python tests/benchmarks/distinct.py --env countdown``.

On problems of the calibration split, whose answers must prove themselves: one sample after another, none twice, until
one has an answer. What that takes by temperature, and what it would if the model ran again what samples share.
"""

from __future__ import annotations

import argparse

from agent.search.budget import Budget
from agent.search.engine import Engine, Task
from agent.search.graph import SearchGraph
from agent.search.requests import Search, propose
from envs import load_environment
from policies import load_policy


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="countdown")
    parser.add_argument("--policy", default="countdown-m")
    parser.add_argument("-n", type=int, default=800, help="problems")
    parser.add_argument("--samples", type=int, default=64, help="at most")
    parser.add_argument("--temperatures", type=float, nargs="+", default=[0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6])
    arguments = parser.parse_args()
    environment = load_environment(arguments.env)
    engine = Engine(environment, load_policy(arguments.policy, environment))
    problems = environment.problems("calibration", arguments.n)
    print("| temperature | right, % | samples | MFLOP | if all were run |\n| --- | --- | --- | --- | --- |")
    for temperature in arguments.temperatures:

        def search(graph: SearchGraph, temperature: float = temperature) -> Search[None]:
            for _ in range(arguments.samples):
                ends = yield from propose(graph, [graph.root], 1, temperature, max_steps=None, distinct=True)
                if graph.status(ends[0][0]) == "terminated":
                    return

        tasks = (Task(problem, search, Budget(samples=arguments.samples)) for problem in problems)
        graphs = list(engine.run(tasks))
        right = 100 * sum(bool(graph.correct()) for graph in graphs) / len(graphs)
        spent = {
            key: sum(graph.info["spent"][key] for graph in graphs) / len(graphs)
            for key in ("samples", "generated", "prefilled", "policy_flops")
        }
        without = 2 * engine.policy.parameters * (spent["generated"] + spent["prefilled"])
        flops = [f"{each / 1e6:.0f}" for each in (spent["policy_flops"], without)]
        print(f"| {temperature:g} | {right:.1f} | {spent['samples']:.2f} | {' | '.join(flops)} |", flush=True)


if __name__ == "__main__":
    main()
