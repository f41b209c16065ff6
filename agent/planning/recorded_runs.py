"""The runs that a calibration is fitted to: each action, alone, several times on every problem.

What is run is an `Arm`: a strategy at a size. Whatever a planner does is a sequence of arms, and what it then holds is
very nearly the union of what they find alone: their samples are independent, and what two of them would share (a
prefix in the verifier's cache, samples that merge) changes costs a little and votes hardly. So one sweep is enough to
try any number of plans without a model (`Replay`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from agent.planning.features import Answer, Evidence
from agent.planning.plan_file import Action
from agent.search.budget import Budget
from agent.search.engine import Engine, Task
from agent.search.graph import SearchGraph
from agent.strategies import STRATEGIES, Traits
from envs.core import Environment, Problem
from policies.training.jsonl_log import JsonlLog
from verifiers.voting import Vote, aggregate, classes

VOTE = Vote()  # what plans are fitted for


@dataclass(frozen=True)
class Arm:
    """A strategy at a size, run several times.

    Args:
        strategy: its name.
        n: sample-equivalents of a run.
        repeats: runs per problem.
        knobs: of the strategy.
        parts: n' = 2 n, 3 n, ... is as good as 2, 3, ... runs: those of the strategy do not compete with each other.
    """

    strategy: str
    n: int
    repeats: int = 1
    knobs: Mapping[str, Any] = field(default_factory=dict)
    parts: bool = False

    @cached_property
    def traits(self) -> Traits:
        """What the strategy says of itself."""
        return STRATEGIES[self.strategy].sized(max(self.n, 1), **self.knobs).traits

    @property
    def name(self) -> str:
        """As people read it, e.g. ``dvts branch=4 n=4``."""
        return " ".join([self.strategy, *(f"{key}={value}" for key, value in self.knobs.items()), f"n={self.n}"])


# ------------------------------------------------------------------------------------------------------------- runs


def sweep(
    engine: Engine,
    arms: Sequence[Arm],
    problems: Sequence[Problem],
    results: JsonlLog,
    seed: int = 0,
    report: Callable[[str], None] = lambda line: None,
    temperature: float = 1.0,
) -> None:
    """Run every arm `repeats` times on every problem, each run with a seed of its own; what `results` has is skipped.

    Args:
        engine: with the policy and the verifier.
        arms: what to run.
        problems: of the calibration split.
        results: where runs are kept, each as soon as it is over.
        seed: of the first run.
        report: called with a line of progress now and then.
        temperature: of the samples of every arm that has none of its own.

    Raises:
        RuntimeError: a search failed; the message is its error.
    """
    done = {(row["arm"], row["run"], row["problem"]) for row in results.rows}
    total = sum(arm.repeats for arm in arms) * len(problems)

    def tasks() -> Iterator[Task]:
        runs = [(arm, run) for arm in arms for run in range(arm.repeats)]
        for place, (arm, run) in enumerate(runs):
            strategy = STRATEGIES[arm.strategy].sized(arm.n, **{"temperature": temperature, **arm.knobs})
            for problem in problems:
                if (arm.name, run, problem.id) not in done:
                    info = {"arm": arm.name, "run": run}
                    yield Task(problem, strategy.search, Budget(samples=arm.n), seed + place, VOTE, info)

    for graph in engine.run(tasks()):
        if "error" in graph.info:
            raise RuntimeError(f"{graph.info['arm']} on {graph.problem.id}: {graph.info['error']}")
        results.append(_row(graph))
        if len(results.rows) % 500 == 0:
            report(f"{len(results.rows)} of {total} runs, the latest of {graph.info['arm']}")


def _row(graph: SearchGraph) -> dict[str, Any]:
    spent, candidates = graph.info["spent"], graph.candidates()
    ends = [node for node in graph.graph if graph.status(node) != "running" or not graph.children(node)]
    return {
        "arm": graph.info["arm"],
        "run": graph.info["run"],
        "problem": graph.problem.id,
        "found": [[each.answer, round(aggregate(each.scores, VOTE.aggregate), 5), each.count] for each in candidates],
        "places": [ends.index(each.node) for each in candidates],
        "policy_flops": spent["policy_flops"] or spent["generated"],
        "verifier_flops": spent["verifier_flops"] or spent["verifier_tokens"],
        "reads": spent["policy_reads"] + spent["verifier_reads"],
    }


@dataclass(frozen=True)
class Run:
    """What one run found and cost.

    Args:
        found: finished trajectories: the index of the answer, the score, and how many identical samples they stand for.
        policy_flops, verifier_flops: as `agent.search.budget.Meter.cost` counts them.
        places: where among the ends of the search each was.
    """

    found: tuple[tuple[int, float, int], ...]
    policy_flops: float
    verifier_flops: float
    places: tuple[int, ...] = ()

    @property
    def flops(self) -> float:
        """Of policy and verifier together."""
        return self.policy_flops + self.verifier_flops


Sample = tuple[int, float] | None


@dataclass(frozen=True)
class Recorded:
    """All runs on one problem.

    Args:
        problem: its id.
        question: its text.
        right: the indices of its right answers.
        samples: independent complete samples: answer and score, or None for one that never answered.
        runs: by the name of the arm.
        sample_flops, score_flops: of one sample, and of scoring one.
        sharing: by the name of an arm with parts: n parts take n ** sharing times the FLOPs of one.
        orders: samples as they were drawn one after the other, where that matters; else any order is as good.
        overlap: n samples take n ** overlap times the FLOPs of one: less than 1 where they share what they begin with.
    """

    problem: str
    question: str
    right: frozenset[int]
    samples: tuple[Sample, ...]
    runs: Mapping[str, Sequence[Run]]
    sample_flops: float
    score_flops: float
    sharing: Mapping[str, float] = field(default_factory=dict)
    orders: Sequence[Sequence[Sample]] = ()
    overlap: float = 1.0

    @property
    def pass_at_1(self) -> float:
        """Share of the samples that are right."""
        return sum(each is not None and each[0] in self.right for each in self.samples) / len(self.samples)


def read_runs(
    rows: Iterable[Mapping[str, Any]], arms: Sequence[Arm], problems: Sequence[Problem], environment: Environment
) -> list[Recorded]:
    """The runs in rows of `sweep`, by problem; the first arm is Best-of-N, whose samples are the independent ones.

    Answers that the environment finds the same are one.
    """
    by_problem: dict[str, list[Mapping[str, Any]]] = {problem.id: [] for problem in problems}
    for row in sorted(rows, key=lambda row: row["run"]):
        by_problem[row["problem"]].append(row)
    recorded = []
    for problem in problems:
        given = [answer for row in by_problem[problem.id] for answer, _, _ in row["found"]]
        leaders = classes(given, environment.same)
        answers = list(dict.fromkeys(leaders[answer] for answer in given))
        places_of = {answer: place for place, answer in enumerate(answers)}
        index = {answer: places_of[leader] for answer, leader in leaders.items()}
        runs: dict[str, list[Run]] = {arm.name: [] for arm in arms}
        for row in by_problem[problem.id]:
            found = tuple((index[answer], score, count) for answer, score, count in row["found"])
            places = tuple(row.get("places", ()))
            runs[row["arm"]].append(Run(found, row["policy_flops"], row["verifier_flops"], places))
        pool = runs[arms[0].name][0]
        samples: list[Sample] = [(answer, score) for answer, score, count in pool.found for _ in range(count)]
        samples += [None] * (arms[0].n - len(samples))
        random.Random(problem.id).shuffle(samples)
        right = frozenset(i for i, answer in enumerate(answers) if environment.check(problem, answer))
        n = len(samples)
        costs = pool.policy_flops / n, pool.verifier_flops / n
        recorded.append(Recorded(problem.id, problem.question, right, tuple(samples), runs, *costs))
    shared = {arm.name: sharing(arm, arms, recorded) for arm in arms if arm.parts}
    return [replace(each, sharing=shared) for each in recorded]


def drawn_distinct(recorded: Sequence[Recorded], arm: Arm) -> list[Recorded]:
    """The runs, the independent samples of each problem those of an arm that draws without replacement.

    What samples share is measured by whole runs, as that of parts is (`sharing`): the first takes what one takes that
    is drawn with replacement.
    """
    one = sum(each.sample_flops for each in recorded)
    whole = sum(run.policy_flops for each in recorded for run in each.runs[arm.name]) / arm.repeats
    overlap = math.log(whole / one) / math.log(arm.n)
    made = []
    for each in recorded:
        orders, runs = [], each.runs[arm.name]
        for run in runs:
            order: list[Sample] = [None] * arm.n
            for (answer, score, _), place in zip(run.found, run.places, strict=True):
                order[place] = answer, score
            orders.append(order)
        policy, verifier = (sum(getattr(run, kind) for run in runs) for kind in ("policy_flops", "verifier_flops"))
        costs = policy / (len(runs) * arm.n**overlap), verifier / (len(runs) * arm.n)
        made.append(replace(each, orders=orders, sample_flops=costs[0], score_flops=costs[1], overlap=overlap))
    return made


def sharing(arm: Arm, arms: Sequence[Arm], recorded: Sequence[Recorded]) -> float:
    """The exponent of what parts cost together, by the largest whole run of the same strategy; 1 if there is none."""
    same = [each for each in arms if each.strategy == arm.strategy and each.knobs == arm.knobs and each.n > arm.n]
    if not same:
        return 1.0
    whole = max(same, key=lambda each: each.n)
    costs = [sum(run.flops for each in recorded for run in each.runs[name]) for name in (arm.name, whole.name)]
    ratio = (costs[1] / whole.repeats) / (costs[0] / arm.repeats)
    return math.log(ratio) / math.log(whole.n / arm.n)


# ----------------------------------------------------------------------------------------------------------- replay


class Replay:
    """A search that never was, put together of recorded runs.

    Args:
        recorded: the runs on its problem.
        arms: of the sweep.
        rng: which runs it gets.
        prior: what the text of the problem says of pass@1.
    """

    def __init__(self, recorded: Recorded, arms: Sequence[Arm], rng: random.Random, prior: float = 0.5) -> None:
        self.recorded = recorded
        self.prior = prior
        self.arms = arms
        self.flops = 0.0
        self.plain = 0
        self.greedy = 0  # of those
        self.searched = 0
        drawn = rng.sample(recorded.samples, len(recorded.samples))
        self._samples = list(rng.choice(recorded.orders)) if recorded.orders else drawn
        self._scored = 0  # of the samples
        self._orders = {name: rng.sample(range(len(runs)), len(runs)) for name, runs in recorded.runs.items()}
        self._used: dict[str, int] = {}
        self._found: list[tuple[int, float, int]] = []

    def copy(self) -> Replay:
        """One that goes its own way from here."""
        twin = object.__new__(Replay)
        twin.__dict__ |= self.__dict__
        twin._used, twin._found = dict(self._used), list(self._found)
        return twin

    @property
    def spent(self) -> int:
        """Sample-equivalents spent so far, independent samples and searches together."""
        return self.plain + self.searched

    @property
    def unscored(self) -> int:
        """Independent samples that have no scores."""
        return self.plain - self._scored

    def samples(self) -> Sequence[Sample]:
        """The independent samples drawn so far."""
        return self._samples[: self.plain]

    def before(self, action: Action) -> float:
        """Sample-equivalents spent in the way of an action so far; all independent samples are one way."""
        if action.traits.independent:
            return self.plain - self.greedy
        same = [arm for arm in self.arms if arm.strategy == action.strategy and arm.knobs == action.knobs]
        return sum(arm.n * self._used.get(arm.name, 0) for arm in same)

    def can(self, action: Action) -> bool:
        """Whether enough was recorded to take an action."""
        if action.traits.deterministic:
            return not self.spent and any(arm.traits.deterministic for arm in self.arms)
        if action.traits.independent:
            return self.plain + action.n <= len(self._samples)
        return self._runs(action) is not None

    def _runs(self, action: Action) -> tuple[str, int] | None:
        for arm in self.arms:
            if arm.strategy == action.strategy and arm.knobs == action.knobs:
                count = round(action.n / arm.n) if arm.parts else int(arm.n == action.n)
                if count and self._used.get(arm.name, 0) + count <= arm.repeats:
                    return arm.name, count
        return None

    def make(self, action: Action) -> Replay:
        """Take an action that `can` allows; one that scores also scores all samples that have no scores yet."""
        scoring = action.traits.needs_scores
        if action.traits.deterministic:
            arm = next(arm for arm in self.arms if arm.traits.deterministic)
            (run,) = self.recorded.runs[arm.name]
            self._samples = [run.found[0][:2] if run.found else None, *self._samples]
            self.plain, self.greedy, self.flops = 1, 1, run.policy_flops
            if scoring:
                self._scored, self.flops = 1, run.flops
            return self
        if action.traits.independent:
            before, power = self.plain - self.greedy, self.recorded.overlap
            self.plain += action.n
            self.flops += self.recorded.sample_flops * ((before + action.n) ** power - before**power)
            if scoring:
                self.flops += self.unscored * self.recorded.score_flops
                self._scored = self.plain
            return self
        runs = self._runs(action)
        assert runs is not None
        name, count = runs
        first = self._used.get(name, 0)
        power = self.recorded.sharing.get(name, 1.0)
        for part, place in enumerate(self._orders[name][first : first + count], first):
            run = self.recorded.runs[name][place]
            self._found += run.found
            self.flops += run.flops * ((part + 1) ** power - part**power)
        self._used[name] = first + count
        self.searched += action.n
        return self

    def _ranked(self) -> list[tuple[int, Answer]]:
        # per answer: independent samples, all samples, weight, best score
        told: dict[int, list[float]] = {}
        for place, sample in enumerate(self.samples()):
            if sample is not None:
                answer, score = sample
                entry = told.setdefault(answer, [0, 0, 0.0, 0.0])
                entry[0] += 1
                entry[1] += 1
                if place < self._scored:
                    entry[2] += score
                    entry[3] = max(entry[3], score)
        for answer, score, count in self._found:
            entry = told.setdefault(answer, [0, 0, 0.0, 0.0])
            entry[1] += count
            entry[2] += score * count
            entry[3] = max(entry[3], score)
        order = sorted(told, key=lambda answer: (-told[answer][2], -told[answer][1]))
        return [(answer, Answer(int(told[answer][0]), told[answer][2], told[answer][3])) for answer in order]

    def look(self) -> tuple[Evidence, bool]:
        """The state, and whether the leading answer is right."""
        ranked = self._ranked()
        scored = bool(self._scored or self._found)
        evidence = Evidence(self.plain, self.searched, scored, [answer for _, answer in ranked], self.prior)
        return evidence, bool(ranked) and ranked[0][0] in self.recorded.right
