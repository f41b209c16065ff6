"""What a search costs outside the models as it grows: CPU microseconds and bytes of memory for each node.

    python tests/benchmarks/scale.py mcts 2000 20000 200000 1000000
    python tests/benchmarks/scale.py best-of-n beam dvts lookahead 1000 10000 100000
    python tests/benchmarks/scale.py file 10000 1000000

Names of strategies (or ``file``) come first, then sizes: simulations of MCTS, samples of the others, nodes of a file.
Each measurement has a process of its own. The problem is to choose one of 64 moves ten times; every step is a text of
its own, and policy and verifier are functions of the state that cost next to nothing. What they take is measured apart
and is not counted; the transitions are counted. Times are of the processor, so that other work on the machine disturbs
them little. Bytes are the growth of the process's memory while the graph is held, by the nodes that it has.

``file`` saves and loads the graph of a majority vote with so many nodes, and one that is a single path of 10,000 steps.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from agent.build import collect_rarely
from agent.search.engine import Engine, Task
from agent.search.graph import SearchGraph
from agent.search.requests import Search
from agent.strategies import STRATEGIES, Mcts
from envs.core import Problem, State, Step, Transition, termination, transition
from envs.toy import Toy
from policies.core import Propose, Proposed, Usage
from policies.service import QueuedService
from verifiers.core import Score, Scored

T = TypeVar("T")
MOVES, DEPTH, ANSWERS = 64, 10, 16


class Moves(Toy):
    """Choose a move ten times; the answer is a number below 16."""

    __module__ = Toy.__module__  # so that it is called directly, as environments that ship are
    max_steps = DEPTH

    def step(self, state: State, step: Step) -> Transition:
        """Ends after the last move."""
        after = state.then(step)
        return termination(after) if len(after.steps) == DEPTH else transition(after)

    def answer(self, state: State) -> str | None:
        """The sum of the moves, modulo 16."""
        return str(sum(int(text.split()[1]) for text in state.texts) % ANSWERS)


class Chooser(QueuedService[Propose, Proposed]):
    """A policy that chooses at random."""

    name, parameters = "chooser", 1

    def _answer(self, request: Propose) -> Proposed:
        samples = tuple(
            tuple(self._sample(state, seed, request.max_steps) for seed in seeds)
            for state, seeds in zip(request.states, request.seeds, strict=True)
        )
        return Proposed(samples, Usage(0, sum(map(len, (steps for each in samples for steps in each)))))

    def _sample(self, state: State, seed: int, most: int | None) -> tuple[Step, ...]:
        rng, left = random.Random(seed), DEPTH - len(state.steps)
        return tuple(
            Step(f"move {rng.randrange(MOVES)} of the many", 1, -4.0) for _ in range(left if most is None else most)
        )


class Judge(QueuedService[Score, Scored]):
    """A verifier that judges each step by its text."""

    name, parameters = "judge", 1

    def _answer(self, request: Score) -> Scored:
        return Scored(tuple(tuple(hash(text) % 1009 / 1009 for text in state.texts) for state in request.states))


class Clock:
    """CPU seconds inside what it watches."""

    def __init__(self, *watched: Any) -> None:
        self.seconds = 0.0
        for service in watched:
            service.poll = self._timed(service.poll)

    def _timed(self, function: Callable[[], T]) -> Callable[[], T]:
        def timed() -> T:
            started = time.process_time()
            try:
                return function()
            finally:
                self.seconds += time.process_time() - started

        return timed


def main() -> None:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", metavar="NAME-or-SIZE", help="names, then sizes")
    parser.add_argument("--here", action="store_true", help="in this process")
    arguments = parser.parse_args()
    sizes = [int(each) for each in arguments.what if each.isdigit()]
    names = [each for each in arguments.what if not each.isdigit()]
    for name in names:
        for size in sizes:
            if arguments.here:
                (measure_file if name == "file" else measure_search)(name, size)
            else:
                command = [sys.executable, __file__, "--here", name, str(size)]
                subprocess.run(command, check=True, env=os.environ | {"PYTHONHASHSEED": "0"})


def measure_search(name: str, size: int) -> None:
    """Print what one search costs."""
    collect_rarely()
    policy, verifier = Chooser(), Judge()
    clock, simulations = Clock(policy, verifier), 0

    def search(graph: SearchGraph) -> Search[None]:
        nonlocal simulations
        if name != "mcts":
            yield from STRATEGIES[name].sized(size).search(graph)
            return
        inner, reply = Mcts(n=10**9, branch=2).search(graph), None
        while simulations <= size:
            request = inner.send(reply) if reply is not None else next(inner)
            simulations += isinstance(request, Propose) and request.max_steps == 1
            if simulations <= size:
                reply = yield request

    engine = Engine(Moves(), policy, verifier)
    gc.collect()
    before, started = resident(), time.process_time()
    (graph,) = engine.run([Task(Problem("moves", "60 with 1"), search)])
    seconds = time.process_time() - started - clock.seconds
    gc.collect()
    if "error" in graph.info:
        raise SystemExit(graph.info["error"])
    print(
        f"{name:10} {size:>9,}: {len(graph):>9,} nodes, {seconds / size * 1e6:6.0f} us each, "
        f"{seconds / len(graph) * 1e6:5.1f} us a node, {(resident() - before) / len(graph):5.0f} bytes a node, "
        f"{seconds:6.1f} s, {peak() / 1e9:.2f} GB at most, policy and verifier {clock.seconds:.1f} s"
    )


def measure_file(name: str, size: int) -> None:
    """Print what it costs to save and load graphs of so many nodes, and of one deep path."""
    collect_rarely()
    environment, problem = Moves(), Problem("moves", "60 with 1")
    graph = SearchGraph(environment, problem)
    seed, policy = 0, Chooser()
    while len(graph) < size:
        for steps in policy._answer(Propose((graph.start(0),), (tuple(range(seed, seed + 16)),), 1.0, None)).samples[0]:
            graph.set_scores(graph.add(0, steps), [0.123456789] * DEPTH)
        seed += 16
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.json"
        held = peak()
        nodes, finished = len(graph), graph.finished()[-5:]
        _, saving = timed(partial(graph.save, path))
        del graph
        gc.collect()
        before = resident()
        loaded, loading = timed(lambda: SearchGraph.load(path, environment))
        assert (len(loaded), loaded.finished()[-5:]) == (nodes, finished)
        size_of_file = path.stat().st_size
        print(
            f"{name:10} {size:>9,}: {nodes:>9,} nodes, {size_of_file / 1e6:.0f} MB, saved in {saving:.1f} s and loaded "
            f"in {loading:.1f} s ({(saving + loading) / nodes * 1e6:.1f} us a node), "
            f"{(resident() - before) / nodes:.0f} bytes a node, {peak() / 1e9:.2f} GB at most ({held / 1e9:.2f} before)"
        )
        deep = SearchGraph(environment, problem)
        Moves.step = lambda self, state, step: transition(state.then(step))  # type: ignore[method-assign]
        deep.add(0, [Step(f"step {i}", 1) for i in range(10_000)])
        _, saving = timed(lambda: deep.save(path))
        _, loading = timed(lambda: SearchGraph.load(path, environment))
        print(f"{'path':10} {len(deep) - 1:>9,}: saved in {saving:.2f} s and loaded in {loading:.2f} s")


def timed(function: Callable[[], T]) -> tuple[T, float]:
    """What a function returns, and its CPU seconds."""
    started = time.process_time()
    return function(), time.process_time() - started


def resident() -> int:
    """Bytes of memory that the process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak() -> int:
    """The most bytes of memory that the process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
