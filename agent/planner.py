"""The planner: judge a problem's difficulty with a little of the budget, then choose how to spend the rest.

Compute-optimal test-time scaling after Snell et al. 2024 (arXiv 2408.03314, section 3.2: choose by difficulty, as
predicted by the verifier) and Liu et al. 2025 (arXiv 2502.06703, sections 3.1-3.2: the choice belongs to the pair of
policy and reward model; difficulty is absolute pass@1, not a quantile). What the papers leave out is charged here:
the probe is part of the budget, and its samples stay candidates.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self

from agent.graph import SearchGraph
from agent.search import Search, propose, score
from agent.strategies import STRATEGIES, Strategy
from verifiers.voting import Group, Vote, aggregate

Difficulty = Literal["easy", "medium", "hard"]
EASY, HARD = 0.5, 0.1  # pass@1 thresholds of Liu et al. 2025, section 3.2
_CLIP = 1e-3
# the working tree's configs, then those inside an installed package
PLANS = (Path(__file__).parents[1] / "configs" / "plans", Path(__file__).parent / "_configs" / "plans")


@dataclass(frozen=True)
class Choice:
    """A strategy by name, with knobs for its `sized` method."""

    strategy: str
    knobs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Probe:
    """What the first few samples say.

    Args:
        samples: how many were drawn.
        agreement: share of all samples that gave the leading answer.
        score: mean over the samples of the trajectory's aggregated score; 0 for one without an answer.
        lead: log odds of the leading answer's weight against all others' together.
        best: the best trajectory score for the leading answer.
    """

    samples: int
    agreement: float
    score: float
    lead: float
    best: float

    def features(self) -> tuple[float, ...]:
        """(1, logit of score, logit of smoothed agreement): the regressors of pass@1."""
        smoothed = (self.agreement * self.samples + 0.5) / (self.samples + 1)
        return (1.0, _logit(self.score), _logit(smoothed))

    def confidence_features(self) -> tuple[float, ...]:
        """(1, lead, logit of best): the regressors of "the leading answer is right"."""
        return (1.0, self.lead, _logit(self.best))


@dataclass(frozen=True)
class Calibration:
    """What was fitted for one (policy, verifier, environment); a JSON file of configs/plans/.

    Args:
        policy, verifier, environment: names; using it with others is refused.
        pass_at_1: logistic coefficients over `Probe.features`, by probe size.
        confidence: logistic coefficients over `Probe.confidence_features`.
        table: per difficulty, per budget in samples: what to do with the rest of the budget.
        fitted: how, on what, and with what error.
    """

    policy: str
    verifier: str
    environment: str
    pass_at_1: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    confidence: tuple[float, ...] = ()
    table: Mapping[Difficulty, Mapping[int, Choice]] = field(default_factory=dict)
    fitted: Mapping[str, Any] = field(default_factory=dict)

    def estimate(self, probe: Probe) -> float:
        """Estimated pass@1; without a fit, the mean score (Snell et al.: predicted difficulty)."""
        if not self.pass_at_1:
            return probe.score
        size = min(self.pass_at_1, key=lambda known: (abs(known - probe.samples), known))
        return _logistic(self.pass_at_1[size], probe.features())

    def confidence_in(self, probe: Probe) -> float:
        """Estimated probability that the leading answer is right; without a fit it is never enough to stop."""
        return _logistic(self.confidence, probe.confidence_features()) if self.confidence else 0.0

    def choose(
        self, difficulty: Difficulty, budget: float, parameters: int, thinks: bool = False
    ) -> tuple[Choice, str]:
        """What to do for a difficulty, and why: the fitted table at the nearest budget, else the papers' rules."""
        row = self.table.get(difficulty)
        if not row:
            return papers_rule(difficulty, parameters, thinks)
        known = min(row, key=lambda size: abs(math.log(size / max(budget, 1.0))))
        return row[known], f"fitted best for {difficulty} problems at a budget of {known} with this policy and verifier"

    def refuse_others(self, environment: str, policy: str, verifier: str) -> None:
        """Raise ValueError unless this was fitted for these."""
        if (self.environment, self.policy, self.verifier) != (environment, policy, verifier):
            whose = f"{self.policy!r}, {self.verifier!r} on {self.environment!r}"
            raise ValueError(f"a plan fitted for {whose} cannot serve {policy!r}, {verifier!r} on {environment!r}")

    def save(self, path: Path) -> None:
        """Write JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; raises ValueError naming the file when it is not that."""
        try:
            raw = json.loads(path.read_text())
            return cls(
                raw["policy"],
                raw["verifier"],
                raw["environment"],
                {int(size): tuple(map(float, fit)) for size, fit in raw["pass_at_1"].items()},
                tuple(map(float, raw["confidence"])),
                {
                    difficulty: {int(size): Choice(each["strategy"], each["knobs"]) for size, each in row.items()}
                    for difficulty, row in raw["table"].items()
                },
                raw["fitted"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{path} is not a plan file: {error!r}") from None


def plan_name(environment: str, policy: str, verifier: str) -> str:
    """The file name of a triple's calibration."""
    return f"{environment}--{policy}--{verifier}.json".replace("/", "_")


def find_calibration(graph: SearchGraph) -> Calibration:
    """The shipped calibration for the parts that a graph names, or one that holds nothing but the papers' rules."""
    return _find(*_parts(graph))


def _parts(graph: SearchGraph) -> tuple[str, str, str]:
    return graph.info["environment"], graph.info.get("policy", ""), graph.info.get("verifier") or ""


@lru_cache(maxsize=64)
def _find(environment: str, policy: str, verifier: str) -> Calibration:
    for folder in PLANS:
        path = folder / plan_name(environment, policy, verifier)
        if path.exists():
            found = Calibration.load(path)
            try:
                found.refuse_others(environment, policy, verifier)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None
            return found
    return Calibration(policy, verifier, environment)


def papers_rule(difficulty: Difficulty, parameters: int, thinks: bool = False) -> tuple[Choice, str]:
    """Liu et al. 2025, section 4: by difficulty and policy size. Unknown sizes (0) count as small.

    A model that thinks before it answers has searched before its first step: whole solutions are what to sample.
    """
    if thinks:
        return Choice("best-of-n"), "policies that think before they answer do their own search: whole solutions"
    billions = parameters / 1e9
    if billions > 32:
        return Choice("best-of-n"), "policies above 32B do best with Best-of-N (Liu et al. 2025)"
    if billions >= 7:
        name = "beam" if difficulty == "hard" else "dvts"
        return Choice(name), f"policies of 7B to 32B do best with {name} on {difficulty} problems (Liu et al. 2025)"
    name = "best-of-n" if difficulty == "easy" else "beam"
    return Choice(
        name
    ), f"small policies do best with {name} on {difficulty} problems (Liu et al. 2025; Snell et al. 2024)"


@dataclass(frozen=True)
class Planner:
    """Probe, judge, choose, spend; on N sample-equivalents in all.

    The probe is Best-of-N on ``probe`` of the budget (at least one sample, at most 8). Its agreement and scores give an
    estimated pass@1, that a difficulty (easy >= 50 %, medium 10-50 %, hard < 10 %), that a strategy for what is left.
    It stops early when no vote still to come can change the answer, or when the answer is right with an estimated
    probability of at least ``confident``.

    Args:
        n: the budget in sample-equivalents, the probe included.
        probe: share of the budget spent on judging difficulty.
        confident: stop at this estimated probability that the leading answer is right.
        temperature: of every sample.
        vote: over all finished trajectories, the probe's included.
        calibration: what was fitted for this policy and verifier; by default what `find_calibration` finds for them.
            That of others is refused with a ValueError.
    """

    n: int = 16
    probe: float = 0.25
    confident: float = 0.98
    temperature: float = 1.0
    vote: Vote = field(default_factory=Vote)
    calibration: Calibration | None = None

    @classmethod
    def sized(cls, n: int, **knobs: Any) -> Self:
        """A planner that spends n sample-equivalents."""
        return cls(n=n, **knobs)

    def search(self, graph: SearchGraph) -> Search[None]:
        """Fill the graph; the plan and its reasons are in ``graph.info["plan"]``."""
        calibration = self.calibration or find_calibration(graph)
        calibration.refuse_others(*_parts(graph))
        size = min(self.n, 8, max(1, round(self.n * self.probe)))
        (drawn,) = yield from propose(graph, [graph.root], size, self.temperature, max_steps=None)
        yield from score(graph, sorted(set(drawn)))
        probe = self.look(graph, size)
        estimate = calibration.estimate(probe)
        difficulty: Difficulty = "easy" if estimate >= EASY else "medium" if estimate >= HARD else "hard"
        reasons = [
            f"{size} of {self.n} samples probed: {probe.agreement:.0%} agree on the leading answer, "
            f"mean score {probe.score:.2f}",
            f"estimated pass@1 {estimate:.2f}: {difficulty}",
        ]
        plan: dict[str, Any] = {
            "strategy": "best-of-n",
            "knobs": {},
            "budget": self.n,
            "probe": asdict(probe),
            "pass_at_1": round(estimate, 4),
            "difficulty": difficulty,
            "reasons": reasons,
        }
        graph.info["plan"] = plan
        left = self.n - size
        if (why := self.settled(graph, calibration, probe, left)) is not None:
            reasons.append(why)
            return
        parameters, thinks = graph.info.get("policy_parameters", 0), graph.info.get("policy_thinks", False)
        choice, why = calibration.choose(difficulty, self.n, parameters, thinks)
        reasons.append(f"{choice.strategy} for the other {left}: {why}")
        plan |= {"strategy": choice.strategy, "knobs": dict(choice.knobs)}
        if choice.strategy == "best-of-n":
            yield from self.sample_in_rounds(graph, calibration, size, left, reasons)
        else:
            knobs = {"temperature": self.temperature, "vote": self.vote, **choice.knobs}
            strategy: Strategy = STRATEGIES[choice.strategy].sized(left, **knobs)
            yield from strategy.search(graph)

    def sample_in_rounds(
        self, graph: SearchGraph, calibration: Calibration, drawn: int, left: int, reasons: list[str]
    ) -> Search[None]:
        """Best-of-N in rounds that double what was drawn, ending as soon as the answer is settled."""
        while left > 0:
            count = min(left, drawn)
            (nodes,) = yield from propose(graph, [graph.root], count, self.temperature, max_steps=None)
            yield from score(graph, sorted(set(nodes)))
            drawn, left = drawn + count, left - count
            if left and (why := self.settled(graph, calibration, self.look(graph, drawn), left)) is not None:
                reasons.append(f"stopped after {drawn} samples: {why}")
                return

    def settled(self, graph: SearchGraph, calibration: Calibration, probe: Probe, left: int) -> str | None:
        """Why nothing more needs to be spent, or None."""
        if left <= 0:
            return "the probe was the whole budget"
        groups = graph.tally(self.vote)
        if groups and self.vote.rule != "max":
            lead = groups[0].weight - (groups[1].weight if len(groups) > 1 else 0.0)
            if lead > left:  # a vote weighs at most 1
                return f"the leading answer is ahead by more than the {left} votes still to come"
        confidence = calibration.confidence_in(probe)
        if groups and confidence >= self.confident:
            return f"the leading answer is right with an estimated probability of {confidence:.3f}"
        return None

    def look(self, graph: SearchGraph, samples: int) -> Probe:
        """Summarise the finished trajectories of a graph from which `samples` complete ones were drawn."""
        groups = graph.tally(self.vote)
        scores = [(aggregate(graph.scores(node), self.vote.aggregate), graph.count(node)) for node in graph.finished()]
        return summarize(groups, scores, samples)


def summarize(groups: Sequence[Group], scores: Sequence[tuple[float, int]], samples: int) -> Probe:
    """A `Probe` of tallied groups and of (score, count) per distinct finished trajectory."""
    total = sum(value * count for value, count in scores)
    if not groups:
        return Probe(samples, 0.0, 0.0, -5.0, 0.0)
    weights = [group.weight for group in groups]
    lead = math.log((weights[0] + 0.05) / (sum(weights[1:]) + 0.05))
    return Probe(samples, groups[0].count / samples, total / samples, lead, groups[0].score)


def _logit(p: float) -> float:
    p = min(max(p, _CLIP), 1 - _CLIP)
    return math.log(p / (1 - p))


def _logistic(coefficients: Sequence[float], features: Sequence[float]) -> float:
    z = sum(c * x for c, x in zip(coefficients, features, strict=True))
    return 1 / (1 + math.exp(-max(-50.0, min(50.0, z))))


METHODS: dict[str, type[Strategy]] = {"auto": Planner, **STRATEGIES}
"""All that ``--strategy`` takes: the planner and what it plans with."""
