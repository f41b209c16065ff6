"""What each strategy really spends at a budget of N: ``python tests/benchmarks/budgets.py``.

Mean sample-equivalents over problems of the calibration split, as a share of N. A strategy may spend less where its
search ended early because everything finished (MCTS once the tree is explored, the planner once the answer is settled,
greedy always); the last column says how often a search was ended by its limit.
"""

from __future__ import annotations

import argparse

from agent.planning.planner import METHODS
from agent.search.budget import Budget
from agent.search.engine import Engine, Task
from envs import load_environment
from policies import load_policy
from verifiers import load_verifier


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="arithmetic")
    parser.add_argument("--policy", default="arithmetic-s")
    parser.add_argument("--verifier", default="arithmetic-prm")
    parser.add_argument("-n", type=int, default=100, help="problems")
    parser.add_argument("--budget", type=int, nargs="+", default=[4, 16, 64])
    arguments = parser.parse_args()
    environment = load_environment(arguments.env)
    policy = load_policy(arguments.policy, environment)
    verifier = load_verifier(arguments.verifier, environment)
    problems = environment.problems("calibration", arguments.n)
    print("| strategy | N | spent | spent / N | within 0.9 to 1.1 | ended by the limit |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, method in METHODS.items():
        for n in arguments.budget:
            strategy = method.sized(n)
            tasks = (Task(problem, strategy.search, Budget(samples=n), vote=strategy.vote) for problem in problems)
            graphs = list(Engine(environment, policy, verifier).run(tasks))
            spent = [graph.samples() for graph in graphs]
            mean = sum(spent) / len(spent)
            within = sum(0.9 * n <= each <= 1.1 * n for each in spent) / len(spent)
            limited = sum(graph.info["stopped"] != "finished" for graph in graphs) / len(spent)
            print(f"| {name} | {n} | {mean:.2f} | {mean / n:.2f} | {within:.0%} | {limited:.0%} |", flush=True)


if __name__ == "__main__":
    main()
