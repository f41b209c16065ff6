"""The planner beside the strategies that need no plan, at equal FLOPs, in replays of recorded runs on the test split.

python tests/benchmarks/comparators.py record arithmetic -n 500 --runs FILE   records; interrupted, it goes on
python tests/benchmarks/comparators.py show arithmetic -n 500 --runs FILE     replays, without a model

Every arm of `ARMS` is run on every problem; a whole search is then put together of recorded runs, as a plan is fitted
(`agent.planning.recorded_runs`). Runs that are not there for every problem are left out. The plan is the one that ships
or that of ``--plan``, fitted on the calibration split: nothing is chosen on the test split, but the oracle. The fair
oracle knows one half of the runs of each problem and is judged on the other half, and the reverse. Everything is
replayed with the runs of one half, on each half.
``--set KEY=VALUE`` changes the recipe, e.g. its policy.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

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
from agent.study.table import points_text
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
        Arm("best-of-n", 16, 4, {"distinct": True, "temperature": 0.3}),
        Arm("dvts", 4, 8, {"branch": 4}, parts=True),
    ),
}
REPLAYS = 3  # on each half
PLANNED = (4, 8, 16)
SIZES = (1, 2, 4, 8, 16, 32)
RULES: dict[str, Callable[[float], bool]] = {
    "adaptive-consistency": lambda p: p >= 0.95,
    "adaptive-consistency rule=bayes-factor": lambda p: p >= 100 * (1 - p),
}


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
    rows = [row for row in rows if row["problem"] in ids]
    counts = Counter((row["arm"], row["run"]) for row in rows)
    whole = {run for run, count in counts.items() if count == len(ids)}
    repeats = Counter(name for name, _ in whole)
    rows = [row for row in rows if (row["arm"], row["run"]) in whole]
    arms = [replace(arm, repeats=repeats[arm.name]) for arm in ARMS[made.name] if repeats[arm.name]]
    recorded = read_runs(rows, arms, problems, made)
    names = made.name, recipe.policy.name, recipe.verifier.name
    online = (Calibration.load(plan) if plan else calibration_of(*names)).online
    assert online is not None
    powers = {move.strategy: move.sharing for move in online.moves if move.knobs.get("branch") == 4}
    shared = {arm.name: powers[arm.strategy] for arm in arms if arm.parts}
    return [replace(each, sharing=shared) for each in recorded], tuple(arms), online


def half_of(run: Recorded, which: int) -> Recorded:
    """Every other run and sample of a problem, from the first or the second on; both halves have the only run."""
    runs = {name: each[which::2] if len(each) > 1 else each for name, each in run.runs.items()}
    return replace(run, samples=run.samples[which::2], runs=runs, orders=run.orders[which::2])


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


def rng_of(run: Recorded, seed: int) -> random.Random:
    """Which runs a replay gets: the same for every strategy."""
    return random.Random(f"{run.problem}/{seed}")


def fixed_lines(recorded: Sequence[Recorded], own: Sequence[Recorded], arms: Sequence[Arm]) -> list[pd.DataFrame]:
    """Rows of the strategies that are alike on every problem, of each size that was recorded."""
    actions = [Action("greedy", 1), Action("best-of-n", 1, _DECODED)]
    actions += [Action(name, size) for name in ("majority", "best-of-n") for size in SIZES]
    actions += [Action("dvts", size, {"branch": 4}) for size in SIZES]
    frames = []
    for runs, added in ((recorded, ""), (own, " distinct=true")):
        for action in actions if not added else [Action("majority", size) for size in SIZES]:
            pairs = [(run, seed) for run in runs for seed in range(REPLAYS)]
            ends = [(run, seed, end) for run, seed in pairs if (end := fixed(run, arms, action, rng_of(run, seed)))]
            name = "greedy, scored" if action.first_only and action.traits.needs_scores else action.way + added
            if ends:
                frames.append(frame_of(name, str(action.n), ends))
    return frames


def planned_lines(
    own: Sequence[Recorded], arms: Sequence[Arm], fit: Online, abstain: float = 0.0
) -> list[pd.DataFrame]:
    """Rows of the planner."""
    name = f"auto abstain={abstain:g}" if abstain else "auto"
    pairs = [(run, seed) for run in own for seed in range(REPLAYS)]
    return [
        frame_of(
            name,
            str(size),
            [(run, seed, planned(run, arms, fit, size, rng_of(run, seed), abstain)) for run, seed in pairs],
        )
        for size in PLANNED
    ]


def comparators(recorded: Sequence[Recorded]) -> list[pd.DataFrame]:
    """Rows of what stops by the votes alone."""
    pairs = [(run, seed) for run in recorded for seed in range(REPLAYS)]
    frames = []
    for name, settled in RULES.items():
        for size in (16, 32):
            ends = [(run, seed, adaptive(run, size, rng_of(run, seed), settled)) for run, seed in pairs]
            frames.append(frame_of(name, str(size), ends))
    for size in PLANNED:
        ends = []
        for seed in range(REPLAYS):
            ends += [(run, seed, end) for run, end in zip(recorded, blended(recorded, size, seed), strict=True)]
        frames.append(frame_of("blend-asc", str(size), ends))
    return frames


def show(recipe: Recipe, n: int, runs: Path, plan: Path | None, abstain: float) -> None:
    """Print the tables, as Markdown."""
    recorded, arms, fit = load(recipe, n, runs, plan)
    distinct = next((arm for arm in arms if arm.knobs.get("distinct") and arm.repeats > 1), None)
    own = drawn_distinct(recorded, distinct) if distinct else []
    known = ", ".join(f"{arm.name} x {arm.repeats}" for arm in arms)
    print(f"{len(recorded)} problems, {REPLAYS} replays of each half; arms: {known}\n")
    arms = tuple(replace(arm, repeats=arm.repeats // 2) for arm in arms)
    halves, names = [], set[str]()
    for which in (0, 1):
        half, half_own = ([half_of(run, which) for run in each] for each in (recorded, own))
        frames = fixed_lines(half, half_own, arms)
        names |= {frame["strategy"].iloc[0] for frame in frames}
        frames += [*comparators(half), *planned_lines(half_own or half, arms, fit)]
        frames += planned_lines(half_own or half, arms, fit, abstain) if abstain else []
        halves.append(pd.concat(frames))
    told(pd.concat(halves))
    beside(Curves.of(pd.concat(halves)))
    gaps(halves, names)


def told(table: pd.DataFrame) -> None:
    """What every line reaches, and at what cost."""
    print("| strategy | N | right, % | 95 % | abstains, % | right if answered, % | samples | MFLOP |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for (name, size), group in table.groupby(["strategy", "budget"], sort=False):
        marks = group.groupby("id")["correct"].apply(list).to_dict()
        mean, (low, high) = clustered(marks)
        answered = group[~group["abstained"]]["correct"].mean()
        silent = f"{100 * group['abstained'].mean():.1f} | {100 * answered:.1f}" if "abstain" in name else " | "
        cells = f"{100 * mean:.1f} | {100 * low:.1f} to {100 * high:.1f} | {silent} | {group['samples'].mean():.1f}"
        print(f"| {name} | {size} | {cells} | {group['flops'].mean() / 1e6:.0f} |")


def beside(curves: Curves) -> None:
    """The planner beside the best of the comparators that costs as much."""
    print("\n| planner | best comparator within its FLOPs | planner less it |\n| --- | --- | ---: |")
    for size in PLANNED:
        line = ("auto", str(size))
        right, cost = curves.right[line], curves.flops[line].mean()
        lines = curves.lines([*RULES, "blend-asc"], flops=1.02 * cost)
        cells = ["none", ""]
        if lines:
            other = curves.best(lines)
            cells = [f"{' @ '.join(other)}: {100 * curves.right[other].mean():.1f}"]
            cells += [points_text(difference(curves.right[other], right))]
        print(f"| auto @ {size}: {100 * right.mean():.1f}, {cost / 1e6:.0f} MFLOP | {' | '.join(cells)} |")


def gaps(halves: Sequence[pd.DataFrame], names: Iterable[str]) -> None:
    """The planner between the best fixed line and the oracles, on the two halves of the runs."""
    both, parts = Curves.of(pd.concat(halves)), [Curves.of(half) for half in halves]
    lines = both.lines(names)
    head = ["planner", "best fixed within its FLOPs", "planner less it", "fair oracle", "gap", "gap closed, %"]
    print(f"\n| {' | '.join([*head, 'flattered oracle', 'gap closed, %'])} |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for size in PLANNED:
        line = ("auto", str(size))
        right, cost = both.right[line], both.flops[line].mean()
        best = both.best(both.lines(names, flops=1.02 * cost))
        fixed = both.right[best]
        cells = [f"auto @ {size}: {100 * right.mean():.1f}, {cost / 1e6:.0f} MFLOP"]
        cells += [f"{' @ '.join(best)}: {100 * fixed.mean():.1f}, {both.flops[best].mean() / 1e6:.0f} MFLOP"]
        cells += [points_text(difference(fixed, right))]
        expected = [part.expected(lines, parts[1 - which]) for which, part in enumerate(parts)]
        for known in (expected, parts):
            ends = [part.oracle(lines, cost, by) for part, by in zip(parts, known, strict=True)]
            oracle, flops = ((ends[0][kind] + ends[1][kind]) / 2 for kind in (0, 1))
            share = [100 * each for each in gap_closed(fixed, right, oracle)]
            cells += [f"{100 * oracle.mean():.1f}, {flops.mean() / 1e6:.0f} MFLOP"]
            cells += [points_text(difference(fixed, oracle))] if known is expected else []
            cells += [f"{share[0]:.0f} ({share[1]:.0f} to {share[2]:.0f})"]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["record", "show"])
    parser.add_argument("environment", choices=list(ARMS))
    parser.add_argument("-n", type=int, default=500)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the recipe")
    parser.add_argument("--abstain", type=float, default=0.0, help="show the planner that abstains below it, too")
    parser.add_argument("--plan", type=Path, help="the plan (default: the one that ships)")
    given = parser.parse_args()
    chosen = load_recipe(given.environment, given.set)
    if given.what == "record":
        record(chosen, given.n, given.runs)
    else:
        show(chosen, given.n, given.runs, given.plan, given.abstain)
