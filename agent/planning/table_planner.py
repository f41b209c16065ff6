"""The planner by a table: judge a problem's difficulty with a little of the budget, then choose once.

Compute-optimal test-time scaling after Snell et al. 2024 (arXiv 2408.03314, section 3.2: choose by difficulty, as
predicted by the verifier) and Liu et al. 2025 (arXiv 2502.06703, sections 3.1-3.2: the choice belongs to the pair of
policy and reward model; difficulty is absolute pass@1, not a quantile). What the papers leave out is charged here:
the probe is part of the budget, and its samples stay candidates.

It goes by what `stepwell calibrate` fitted for the policy, the verifier and the environment; without that, the table is
the papers'.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Self

from agent.planning.plan_file import (
    Calibration,
    ProbeSummary,
    difficulty_of,
    find_calibration,
    parts_of,
    summarize,
)
from agent.search.graph import SearchGraph
from agent.search.requests import Search, propose, score
from agent.strategies import STRATEGIES, Strategy, Traits
from envs.options import AtLeast, check_ranges
from verifiers.voting import Vote, aggregate


@dataclass(frozen=True)
class TablePlanner:
    """Judges the difficulty by a probe, and spends the rest as the table says. N buys N samples, the probe included.

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

    n: Annotated[int, AtLeast(1)] = 16
    probe: Annotated[float, AtLeast(0, 1)] = 0.25
    confident: Annotated[float, AtLeast(0)] = 0.98
    temperature: Annotated[float, AtLeast(0)] = 1.0
    vote: Vote = field(default_factory=Vote)
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        check_ranges(self)

    @classmethod
    def sized(cls, n: int, **knobs: Any) -> Self:
        """A planner that spends n sample-equivalents."""
        return cls(n=n, **knobs)

    @property
    def traits(self) -> Traits:
        """Its probe is scored."""
        return Traits(decides=True)

    def search(self, graph: SearchGraph) -> Search[None]:
        """Fill the graph; the plan and its reasons are in ``graph.info["plan"]``."""
        calibration = self.calibration or find_calibration(graph)
        calibration.refuse_others(*parts_of(graph))
        size = min(self.n, 8, max(1, round(self.n * self.probe)))
        (drawn,) = yield from propose(graph, [graph.root], size, self.temperature, max_steps=None)
        yield from score(graph, sorted(set(drawn)))
        probe = self.look(graph, size)
        estimate = calibration.estimate(probe)
        difficulty = difficulty_of(estimate)
        reasons = [
            *calibration.warnings(self.temperature, graph.context),
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
        context = graph.context
        choice, why = calibration.choose(difficulty, self.n, context.policy_parameters, context.policy_thinks)
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

    def settled(self, graph: SearchGraph, calibration: Calibration, probe: ProbeSummary, left: int) -> str | None:
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

    def look(self, graph: SearchGraph, samples: int) -> ProbeSummary:
        """Summarise the finished trajectories of a graph from which `samples` complete ones were drawn."""
        groups = graph.tally(self.vote)
        scores = [(aggregate(graph.scores(node), self.vote.aggregate), graph.count(node)) for node in graph.finished()]
        return summarize(groups, scores, samples)
