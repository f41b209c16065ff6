"""The planner beside the strategies that need no plan, at equal FLOPs, in replays of recorded runs on the test split.

python tests/benchmarks/comparators.py record arithmetic -n 500 --runs FILE   records; interrupted, it goes on
python tests/benchmarks/comparators.py show arithmetic -n 500 --runs FILE     replays, without a model

Every arm of `ARMS` is run on every problem; a whole search is then put together of recorded runs, as a plan is fitted
(`agent.planning.recorded_runs`). Arms that are not complete are left out. The plan is the one that ships or that of
``--plan``, fitted on the calibration split: nothing is chosen on the test split, but the oracle, an upper bound.
``--set KEY=VALUE`` changes the recipe, e.g. its policy.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from agent.build import environment_of, models_of
from agent.planning.decision import decide, hopeless
from agent.planning.plan_file import Action, Calibration, Online, calibration_of
from agent.planning.recorded_runs import Arm, Recorded, Replay, drawn_distinct, read_runs, sweep
from agent.recipes.recipe import Recipe, load_recipe
from agent.search.engine import Engine
from agent.strategies.answers.adaptive_consistency import ahead
from agent.strategies.answers.blend_asc import unsettled
from agent.study.equal_compute import Curves, difference, gap_closed
from agent.study.statistics import clustered
from policies.training.jsonl_log import JsonlLog

_DECODED = {"temperature": 0.0}
ARMS = {
    "arithmetic": (
        Arm("best-of-n", 64),
        Arm("best-of-n", 1, 1, _DECODED),
        Arm("dvts", 4, 16, {"branch": 4}, parts=True),
    ),
    "countdown": (
        Arm("best-of-n", 64),
        Arm("best-of-n", 1, 1, _DECODED),
        Arm("best-of-n", 64, 1, {"distinct": True, "temperature": 0.3}),
        Arm("dvts", 4, 4, {"branch": 4}, parts=True),
    ),
}
REPLAYS = 3
PLANNED = (4, 16)


def record(recipe: Recipe, n: int, runs: Path) -> None:
    """Run all arms; what is there is not run again."""
    made = environment_of(recipe)
    policy, verifier = models_of(recipe, made)
    problems = made.problems("test", n)
    config = {"environment": made.name, "policy": policy.name, "n": n, "temperature": recipe.temperature}
    with JsonlLog(runs, config) as results:
        sweep(Engine(made, policy, verifier), ARMS[made.name], problems, results, 0, print, recipe.temperature)


def load(recipe: Recipe, n: int, runs: Path, plan: Path | None) -> tuple[list[Recorded], tuple[Arm, ...], Online]:
    """The recorded runs of complete arms, what is drawn without replacement among them, and the plan."""
    made = environment_of(recipe)
    rows = [row for row in map(json.loads, runs.read_text().splitlines()[1:]) if "arm" in row]
    problems = made.problems("test", n)
    ids = {problem.id for problem in problems}
    counts = pd.DataFrame([(row["arm"], row["problem"]) for row in rows if row["problem"] in ids]).value_counts([0, 1])
    arms = []
    for arm in ARMS[made.name]:
        whole = min((counts.get((arm.name, each), 0) for each in ids), default=0)
        if whole:
            arms.append(replace(arm, repeats=min(arm.repeats, int(whole))))
    known = {arm.name: arm.repeats for arm in arms}
    rows = [
        row
        for row in rows
        if row["problem"] in ids and row["run"] - _first(rows, row["arm"]) < known.get(row["arm"], 0)
    ]
    recorded = read_runs(rows, arms, problems, made)
    names = made.name, recipe.policy.name, recipe.verifier.name
    online = (Calibration.load(plan) if plan else calibration_of(*names)).online
    assert online is not None
    powers = {move.strategy: move.sharing for move in online.moves if move.knobs.get("branch") == 4}
    shared = {arm.name: powers[arm.strategy] for arm in arms if arm.parts}
    return [replace(each, sharing=shared) for each in recorded], tuple(arms), online


def _first(rows: Sequence[dict[str, Any]], arm: str) -> int:
    first: int = min(row["run"] for row in rows if row["arm"] == arm)
    return first


@dataclass(frozen=True)
class End:
    """How a replayed search ended."""

    right: bool
    flops: float
    samples: float
    abstained: bool = False


def fixed(run: Recorded, arms: Sequence[Arm], action: Action, rng: random.Random) -> End | None:
    """A strategy at a size, whatever the problem."""
    replay = Replay(run, arms, rng)
    if not replay.can(action):
        return None
    replay.make(action)
    return End(replay.look()[1], replay.flops, replay.spent)


def planned(run: Recorded, arms: Sequence[Arm], fit: Online, n: int, rng: random.Random, abstain: float = 0.0) -> End:
    """The online planner, with the actions that were recorded."""
    _, opening = fit.opening(n)
    replay, move = Replay(run, arms, rng, fit.look(run.question)), fit.moves[opening.move]
    gave_up = False
    while move is not None:
        replay.make(move)
        evidence, right = replay.look()
        left = n - replay.spent
        following = decide(fit, replay, evidence, min(left, opening.stride), opening.price / fit.sample_cost)
        gave_up = following is not None and hopeless(fit, replay, evidence, left, abstain)
        if following is None or gave_up:
            return End(right, replay.flops, replay.spent, fit.probability(evidence) < abstain)
        move = following
    raise AssertionError


class Counted:
    """The votes of independent samples, one after another."""

    def __init__(self, run: Recorded, rng: random.Random) -> None:
        self.run, self.drawn, self.counts = run, 0, dict[int, int]()
        self.order = rng.sample(run.samples, len(run.samples))

    def draw(self) -> None:
        """One more sample."""
        sample = self.order[self.drawn]
        self.drawn += 1
        if sample is not None:
            self.counts[sample[0]] = self.counts.get(sample[0], 0) + 1

    @property
    def two(self) -> tuple[int, int]:
        """The counts of the two commonest answers."""
        first, second = (*sorted(self.counts.values(), reverse=True), 0, 0)[:2]
        return first, second

    def end(self) -> End:
        """What the vote says."""
        leader = max(self.counts, key=lambda answer: self.counts[answer], default=-1)
        return End(leader in self.run.right, self.drawn * self.run.sample_flops, self.drawn)


def adaptive(run: Recorded, n: int, rng: random.Random, settled: Callable[[float], bool]) -> End:
    """Adaptive-Consistency with at most n samples."""
    votes = Counted(run, rng)
    while votes.drawn < n:
        votes.draw()
        if settled(ahead(*votes.two)):
            break
    return votes.end()


def blended(recorded: Sequence[Recorded], mean: int, seed: int) -> list[End]:
    """Blend-ASC over the whole set, with so many samples a problem on the mean, at most 64 each."""
    votes = [Counted(run, random.Random(f"{run.problem}/{seed}")) for run in recorded]
    for each in votes:
        each.draw()
    waiting = [(-unsettled(*each.two, each.drawn / 64), place) for place, each in enumerate(votes)]
    heapq.heapify(waiting)
    for _ in range((mean - 1) * len(votes)):
        _, place = heapq.heappop(waiting)
        each = votes[place]
        each.draw()
        if each.drawn < len(each.order):
            heapq.heappush(waiting, (-unsettled(*each.two, each.drawn / 64), place))
    return [each.end() for each in votes]


def frame_of(name: str, budget: str, ends: Iterable[tuple[Recorded, int, End]]) -> pd.DataFrame:
    """Rows as those of a study."""
    rows = [
        {"id": run.problem, "seed": seed, "strategy": name, "budget": budget, "correct": int(end.right)}
        | {"flops": end.flops, "samples": end.samples, "abstained": end.abstained}
        for run, seed, end in ends
    ]
    return pd.DataFrame(rows)


def show(recipe: Recipe, n: int, runs: Path, plan: Path | None) -> None:
    """Print the tables, as Markdown."""
    recorded, arms, fit = load(recipe, n, runs, plan)
    distinct = next((arm for arm in arms if arm.knobs.get("distinct")), None)
    own = drawn_distinct(recorded, distinct) if distinct is not None else recorded
    seeds = range(REPLAYS)
    pairs = [(run, seed) for run in recorded for seed in seeds]
    frames = []

    def rng(run: Recorded, seed: int) -> random.Random:
        return random.Random(f"{run.problem}/{seed}")

    sizes = (1, 4, 16, 64)
    actions = [
        Action("best-of-n", 1, _DECODED),
        *(Action(name, size) for name in ("majority", "best-of-n") for size in sizes),
    ]
    actions += [Action("dvts", size, {"branch": 4}) for size in (4, 8, 16, 28)]
    for action in actions:
        tried = [(run, seed, fixed(run, arms, action, rng(run, seed))) for run, seed in pairs]
        if all(end is not None for *_, end in tried):
            name = "greedy, scored" if action.first_only else action.way
            frames.append(frame_of(name, str(action.n), ((run, seed, end) for run, seed, end in tried if end)))
    singles = list(dict.fromkeys(frame["strategy"].iloc[0] for frame in frames))
    rules = {
        "adaptive-consistency": lambda p: p >= 0.95,
        "adaptive-consistency rule=bayes-factor": lambda p: p >= 100 * (1 - p),
    }
    for name, settled in rules.items():
        for size in (16, 64):
            ends = [(run, seed, adaptive(run, size, rng(run, seed), settled)) for run, seed in pairs]
            frames.append(frame_of(name, str(size), ends))
    for size in PLANNED:
        ends = [
            (run, seed, end) for seed in seeds for run, end in zip(recorded, blended(recorded, size, seed), strict=True)
        ]
        frames.append(frame_of("blend-asc", str(size), ends))
    for size in PLANNED:
        for abstain in (0.0, 0.5):
            name = "auto" if not abstain else f"auto abstain={abstain:g}"
            ends = [
                (run, seed, planned(run, arms, fit, size, rng(run, seed), abstain)) for run in own for seed in seeds
            ]
            frames.append(frame_of(name, str(size), ends))
    table = pd.concat(frames)
    known = ", ".join(f"{arm.name} x {arm.repeats}" for arm in arms)
    print(f"{len(recorded)} problems, {REPLAYS} replays; arms: {known}\n")
    print("| strategy | N | right, % | 95 % | abstains, % | right if answered, % | samples | MFLOP |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for (name, size), group in table.groupby(["strategy", "budget"], sort=False):
        marks = group.groupby("id")["correct"].apply(list).to_dict()
        mean, (low, high) = clustered(marks)
        answered = group[~group["abstained"]]["correct"].mean()
        silent = f"{100 * group['abstained'].mean():.1f} | {100 * answered:.1f}" if "abstain" in name else " | "
        cells = f"{100 * mean:.1f} | {100 * low:.1f} to {100 * high:.1f} | {silent} | {group['samples'].mean():.1f}"
        print(f"| {name} | {size} | {cells} | {group['flops'].mean() / 1e6:.0f} |")
    curves = Curves.of(table)
    head = ["planner", "best fixed within its FLOPs", "planner less it", "best comparator within its FLOPs"]
    print(f"\n| {' | '.join([*head, 'planner less it', 'oracle', 'gap closed'])} |")
    print("| --- | --- | ---: | --- | ---: | ---: | ---: |")
    for size in PLANNED:
        line = ("auto", str(size))
        cost = curves.flops[line].mean()
        right = curves.right[line]
        parts = [f"auto @ {size}: {100 * right.mean():.1f}, {cost / 1e6:.0f} MFLOP"]
        for names in (singles, [*rules, "blend-asc"]):
            lines = curves.lines(names, flops=1.02 * cost)
            if not lines:
                parts += ["none", ""]
                continue
            other = curves.best(lines)
            by, low, high = difference(curves.right[other], right)
            parts.append(f"{other[0]} @ {other[1]}: {100 * curves.right[other].mean():.1f}")
            parts.append(f"{100 * by:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})")
        oracle, _ = curves.oracle(curves.lines(singles), cost)
        best = curves.best(curves.lines(singles, flops=1.02 * cost))
        closed = gap_closed(curves.right[best].mean(), right.mean(), oracle.mean())
        print(f"| {' | '.join(parts)} | {100 * oracle.mean():.1f} | {100 * closed:.0f} % |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["record", "show"])
    parser.add_argument("environment", choices=list(ARMS))
    parser.add_argument("-n", type=int, default=500)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the recipe")
    parser.add_argument("--plan", type=Path, help="the plan (default: the one that ships)")
    given = parser.parse_args()
    chosen = load_recipe(given.environment, given.set)
    if given.what == "record":
        record(chosen, given.n, given.runs)
    else:
        show(chosen, given.n, given.runs, given.plan)
