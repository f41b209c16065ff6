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
from agent.search.budget import Budget, flop_equivalents
from agent.search.engine import Engine, Task
from agent.search.graph import SearchGraph
from agent.search.shared_budget import Currency
from agent.strategies import STRATEGIES, Traits
from envs.core import Environment, Problem
from envs.messages import UsageError
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
    currency: Currency = "flops",
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
        currency: of the plan; in FLOP-equivalents each run must tell its memory traffic.

    Raises:
        RuntimeError: a search failed; the message is its error.
        UsageError: the memory traffic of a run is not known, and the currency needs it.
    """
    for row in results.rows:
        reads_of(row, currency)
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
        row = _row(graph)
        reads_of(row, currency)
        results.append(row)
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
        "policy_reads": spent["policy_reads"],
        "verifier_reads": spent["verifier_reads"],
    }


def reads_of(row: Mapping[str, Any], currency: Currency) -> tuple[float, float]:
    """Numbers that the policy and the verifier read from memory in a run; 0 in a currency that does not charge them.

    Raises:
        UsageError: they are charged, and not known.
    """
    if currency != "flop-equivalents":
        return 0.0, 0.0
    if not {"policy_reads", "verifier_reads"} <= row.keys():
        raise UsageError(
            "these runs were recorded before the memory traffic of policy and verifier was kept, which FLOP-equivalents"
            " need; record them again, in another file"
        )
    for part in ("policy", "verifier"):
        if row[f"{part}_flops"] and not row[f"{part}_reads"]:
            raise UsageError(f"the memory traffic of this {part} is not known, so FLOP-equivalents are not; use flops")
    return float(row["policy_reads"]), float(row["verifier_reads"])


@dataclass(frozen=True)
class Run:
    """What one run found and cost.

    Args:
        found: finished trajectories: the index of the answer, the score, and how many identical samples they stand for.
        policy_flops, verifier_flops: as `agent.search.budget.Meter.cost` counts them.
        places: where among the ends of the search each was.
        policy_reads, verifier_reads: numbers read from memory, where they are charged.
    """

    found: tuple[tuple[int, float, int], ...]
    policy_flops: float
    verifier_flops: float
    places: tuple[int, ...] = ()
    policy_reads: float = 0.0
    verifier_reads: float = 0.0

    @property
    def flops(self) -> float:
        """Of policy and verifier together."""
        return self.policy_flops + self.verifier_flops

    @property
    def reads(self) -> float:
        """Of policy and verifier together."""
        return self.policy_reads + self.verifier_reads


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
        sample_reads, score_reads: numbers read from memory for one sample that is drawn alone, and for its scores.
        further: what each further one of a round reads, as a share of the first: of samples (``policy``), of their
            scores (``verifier``), and of the parts of an arm, by its name. Weights are read once for a round.
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
    sample_reads: float = 0.0
    score_reads: float = 0.0
    further: Mapping[str, float] = field(default_factory=dict)

    @property
    def pass_at_1(self) -> float:
        """Share of the samples that are right."""
        return sum(each is not None and each[0] in self.right for each in self.samples) / len(self.samples)


def read_runs(
    rows: Iterable[Mapping[str, Any]],
    arms: Sequence[Arm],
    problems: Sequence[Problem],
    environment: Environment,
    currency: Currency = "flops",
) -> list[Recorded]:
    """The runs in rows of `sweep`, by problem; the first arm is Best-of-N, whose samples are the independent ones.

    Answers that the environment finds the same are one.

    Raises:
        UsageError: the currency needs memory traffic, and it is not known.
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
            costs = row["policy_flops"], row["verifier_flops"]
            runs[row["arm"]].append(Run(found, *costs, places, *reads_of(row, currency)))
        pool = runs[arms[0].name][0]
        samples: list[Sample] = [(answer, score) for answer, score, count in pool.found for _ in range(count)]
        samples += [None] * (arms[0].n - len(samples))
        random.Random(problem.id).shuffle(samples)
        right = frozenset(i for i, answer in enumerate(answers) if environment.check(problem, answer))
        n = len(samples)
        costs = pool.policy_flops / n, pool.verifier_flops / n
        recorded.append(Recorded(problem.id, problem.question, right, tuple(samples), runs, *costs))
    shared = {arm.name: sharing(arm, arms, recorded) for arm in arms if arm.parts}
    recorded = [replace(each, sharing=shared) for each in recorded]
    return with_reads(recorded, arms) if currency == "flop-equivalents" else recorded


def with_reads(recorded: Sequence[Recorded], arms: Sequence[Arm]) -> list[Recorded]:
    """The runs, with what one sample reads that is drawn alone, and what each further one of a round adds to that.

    It is measured by whole rounds, the smallest and the largest: what a round reads grows by nearly as much with each
    sample, as the weights are read for all together, and keys and values for each.

    Raises:
        UsageError: no arm draws one sample.
    """
    pool = arms[0]
    single = next((arm for arm in arms if arm.traits.deterministic and arm.n == 1), None)
    if single is None:
        raise UsageError("FLOP-equivalents need a run of one sample, to tell what a round reads once; add such an arm")
    further: dict[str, float] = {}
    for part in ("policy", "verifier"):
        kind = f"{part}_reads"
        further[part] = _further(_mean(recorded, single, kind), _mean(recorded, pool, kind), pool.n)
    for arm in arms:
        if arm.parts and (whole := _whole(arm, arms)):
            reads = _mean(recorded, arm, "reads"), _mean(recorded, whole, "reads")
            further[arm.name] = _further(*reads, whole.n / arm.n)
    made = []
    for each in recorded:
        run = each.runs[pool.name][0]
        policy = run.policy_reads / together(pool.n, further["policy"])
        verifier = run.verifier_reads / together(pool.n, further["verifier"])
        made.append(replace(each, sample_reads=policy, score_reads=verifier, further=further))
    return made


def together(n: float, further: float) -> float:
    """What n of one round read, in terms of what one does alone, if each further one adds such a share."""
    return 1 + (n - 1) * further if n else 0.0


def _further(one: float, whole: float, n: float) -> float:
    """The share of what one reads that each further one adds, by what n read together."""
    return max(0.0, (whole / one - 1) / (n - 1)) if one else 0.0


def _mean(recorded: Sequence[Recorded], arm: Arm, kind: str) -> float:
    """Of all problems together, for one run of an arm."""
    return float(sum(getattr(run, kind) for each in recorded for run in each.runs[arm.name])) / arm.repeats


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
    whole = _whole(arm, arms)
    if whole is None:
        return 1.0
    ratio = _mean(recorded, whole, "flops") / _mean(recorded, arm, "flops")
    return math.log(ratio) / math.log(whole.n / arm.n)


def _whole(arm: Arm, arms: Sequence[Arm]) -> Arm | None:
    """The largest run of the same strategy as an arm, if any is larger."""
    same = [each for each in arms if each.strategy == arm.strategy and each.knobs == arm.knobs and each.n > arm.n]
    return max(same, key=lambda each: each.n, default=None)


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
        self.reads = 0.0
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
    def cost(self) -> float:
        """In the currency of the plan: FLOPs, with the memory traffic where that is charged."""
        return flop_equivalents(self.flops, self.reads)

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
            self.plain, self.greedy, self.flops, self.reads = 1, 1, run.policy_flops, run.policy_reads
            if scoring:
                self._scored, self.flops, self.reads = 1, run.flops, run.reads
            return self
        if action.traits.independent:
            known, before = self.recorded, self.plain - self.greedy
            self.plain += action.n
            self.flops += known.sample_flops * ((before + action.n) ** known.overlap - before**known.overlap)
            self.reads += known.sample_reads * together(action.n, known.further.get("policy", 1.0))
            if scoring:
                self.flops += self.unscored * known.score_flops
                self.reads += known.score_reads * together(self.unscored, known.further.get("verifier", 1.0))
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
            self.reads += run.reads * (self.recorded.further.get(name, 1.0) if part > first else 1.0)
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
