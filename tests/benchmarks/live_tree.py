"""What drawing the growing tree costs a search: seconds in `LiveTree` over seconds of the search, and frames a second.

    python -m tests.benchmarks.live_tree

Searches run with and without the drawing, in turn, on a pseudo-terminal of 200 x 50 whose other end is read. The goal
is less than 3 % of the search's time, and at most ten frames a second.
"""

from __future__ import annotations

import argparse
import os
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from agent.interface.terminal.console import PlainConsole
from agent.interface.terminal.live_tree import LiveTree
from agent.recipes.recipe import load_recipe
from agent.solver import Solver

CASES = {
    "toy, mcts, 300 samples": (["strategy=mcts", "budget.samples=300"], "toy", "45 with 1 7 10"),
    "toy, best-of-n, 4000 samples": (["strategy=best-of-n", "budget.samples=4000"], "toy", "45 with 1 7 10"),
    "arithmetic, beam, 256 samples": (
        ["strategy={name: beam, branch: 2}", "budget.samples=256"],
        "arithmetic",
        "(48 - 9) * 4 + 17",
    ),
    "arithmetic, mcts, 128 samples": (["strategy=mcts", "budget.samples=128"], "arithmetic", "(48 - 9) * 4 + 17"),
}


@contextmanager
def terminal(columns: int = 200, lines: int = 50) -> Iterator[Console]:
    """A console on a pseudo-terminal that somebody reads."""
    ours, theirs = os.openpty()

    def read() -> None:
        while True:
            try:
                if not os.read(ours, 1 << 16):
                    return
            except OSError:
                return

    threading.Thread(target=read, daemon=True).start()
    with os.fdopen(theirs, "w", encoding="utf-8") as file:
        import fcntl
        import struct
        import termios

        fcntl.ioctl(file.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        yield PlainConsole(file=file, force_terminal=True, color_system="256", width=columns, height=lines)


def main() -> None:
    """Print a line a case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    print(f"{'case':<32} {'search':>8} {'drawing':>9} {'share':>7} {'frames/s':>9} {'with / without':>15}")
    for name, (settings, recipe_name, question) in CASES.items():
        recipe = load_recipe(recipe_name, settings)
        solver = Solver.from_recipe(recipe)
        problem = solver.environment.read(question)
        solver.solve_recipe(problem, recipe)  # warm
        plain, drawn, spent, frames = [], [], [], []
        for _ in range(rounds):
            begun = time.perf_counter()
            solver.solve_recipe(problem, recipe)
            plain.append(time.perf_counter() - begun)
            with terminal() as console:
                begun = time.perf_counter()
                with LiveTree(console, "hint") as live:
                    solver.solve_recipe(problem, recipe, live)
                drawn.append(time.perf_counter() - begun)
            spent.append(live.spent / drawn[-1])
            frames.append(live.frames / drawn[-1])
        solver.close()
        median = statistics.median
        print(
            f"{name:<32} {median(drawn):7.2f}s {median(drawn) * median(spent) * 1000:7.1f}ms {median(spent):7.2%}"
            f" {max(frames):9.1f} {median(drawn) / median(plain):15.3f}"
        )


if __name__ == "__main__":
    main()
