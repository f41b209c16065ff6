"""What the planner goes by for one (policy, verifier, environment): the calibration, a JSON file of configs/plans/.

Where none was fitted, the papers' rules hold.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, Self, get_args

from agent.planning.features import FEATURES, Evidence
from agent.planning.prior import TextPrior
from agent.planning.regression import logistic, logit
from agent.search.budget import flop_equivalents
from agent.search.context import Part, RunContext
from agent.search.graph import SearchGraph
from agent.search.shared_budget import Currency
from agent.strategies import STRATEGIES, Traits
from envs.plugins import folders_of
from envs.registry import ENTRY_POINTS
from verifiers.voting import Group

Difficulty = Literal["easy", "medium", "hard"]
KINDS: tuple[Difficulty, ...] = get_args(Difficulty)
CURRENCIES: tuple[Currency, ...] = ("flops", "flop-equivalents")
"""What a plan may price its actions in."""
EASY, HARD = 0.5, 0.1  # pass@1 thresholds of Liu et al. 2025, section 3.2
# the working tree's configs, then those inside an installed package
PLANS = (Path(__file__).parents[2] / "configs" / "plans", Path(__file__).parents[1] / "_configs" / "plans")


DIFFERENCES: Mapping[Part, str] = {
    "environment": "its options or problems differ",
    "policy": "its weights differ",
    "verifier": "its weights differ",
}


def difficulty_of(pass_at_1: float) -> Difficulty:
    """By fixed thresholds (Liu et al. 2025, section 3.2)."""
    return "easy" if pass_at_1 >= EASY else "medium" if pass_at_1 >= HARD else "hard"


@dataclass(frozen=True)
class Choice:
    """A strategy by name, with knobs for its `sized` method."""

    strategy: str
    knobs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ProbeSummary:
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
        return (1.0, logit(self.score), logit(smoothed))

    def confidence_features(self) -> tuple[float, ...]:
        """(1, lead, logit of best): the regressors of "the leading answer is right"."""
        return (1.0, self.lead, logit(self.best))


@dataclass(frozen=True)
class Action:
    """An action of the planner: a strategy at a size, and what is expected of it.

    Args:
        strategy: its name.
        n: sample-equivalents it spends.
        knobs: of the strategy.
        flops: that it takes on the mean as the first move, the verifier's included.
        reads: numbers that policy and verifier read from memory for it, on the mean, whatever was done before: every
            round reads the weights anew. 0 in a plan in FLOPs.
        sharing: n times as much of it takes n ** sharing times the FLOPs: prefixes are shared.
        alone: the probability of a right answer when it is all that was done.
        right: logistic coefficients over `Evidence.features`: the leading answer is right once the move is made; none
            for one that is only made first.
        repeats: how often it may be made in one search, as often as it was tried on one problem: what competes finds
            the same again. 0 is any number, for samples and subtrees.
        alone_by_prior: logistic coefficients of `alone` over (1, logit of the prior); none for a plan without a prior.
    """

    strategy: str
    n: int
    knobs: Mapping[str, Any] = field(default_factory=dict)
    flops: float = 0.0
    sharing: float = 1.0
    alone: float = 0.0
    right: tuple[float, ...] = ()
    repeats: int = 0
    alone_by_prior: tuple[float, ...] = ()
    reads: float = 0.0

    def flops_after(self, before: float) -> float:
        """What it takes where so many sample-equivalents were spent in the same way before."""
        first, last = before / self.n, (before + self.n) / self.n
        return self.flops * float(last**self.sharing - first**self.sharing)

    @cached_property
    def traits(self) -> Traits:
        """What the strategy says of itself."""
        return STRATEGIES[self.strategy].sized(max(self.n, 1), **self.knobs).traits

    @property
    def first_only(self) -> bool:
        """Whether it can only be the first action: greedy decoding, which gives the same answer when it is repeated."""
        return self.traits.deterministic

    @property
    def way(self) -> str:
        """The strategy and its knobs."""
        return " ".join([self.strategy, *(f"{key}={value}" for key, value in self.knobs.items())])

    @property
    def label(self) -> str:
        """As people read it, e.g. ``dvts branch=4 n=8``."""
        return f"{self.way} n={self.n}"


@dataclass(frozen=True)
class Opening:
    """How the online planner begins at a budget, how it goes on, and when it ends.

    Args:
        move: index of the first move.
        price: the probability of being right that what one scored sample costs must gain.
        stride: most sample-equivalents of a later move; small ones are looked at again sooner.
    """

    move: int
    price: float
    stride: int


@dataclass(frozen=True)
class Online:
    """What the online planner needs.

    Args:
        moves: the actions.
        right: logistic coefficients over `Evidence.features`: the leading answer is right.
        sample_flops: of a complete sample with its scores.
        score_flops: of scoring one complete sample.
        openings: by budget in samples.
        currency: what actions are priced in.
        sample_reads: numbers read from memory for a complete sample with its scores, if it is drawn alone; 0 in FLOPs.
        score_reads: the same of each further sample that is scored with others; 0 in FLOPs.
        prior: of pass@1 from the text of a problem; None for a plan that was fitted without.
        distinct: the temperature at which independent samples are drawn without replacement; None where they are drawn
            with it, at that of the plan.
    """

    moves: tuple[Action, ...]
    right: tuple[float, ...]
    sample_flops: float
    score_flops: float
    openings: Mapping[int, Opening]
    distinct: float | None = None
    prior: TextPrior | None = None
    currency: Currency = "flops"
    sample_reads: float = 0.0
    score_reads: float = 0.0

    def __post_init__(self) -> None:
        if self.currency not in CURRENCIES:
            raise ValueError(f"currency {self.currency!r} given; allowed: {', '.join(CURRENCIES)}")

    @property
    def sample_cost(self) -> float:
        """Of a complete sample with its scores, in the currency: the unit of prices."""
        return flop_equivalents(self.sample_flops, self.sample_reads)

    def probability(self, evidence: Evidence, move: Action | None = None) -> float:
        """That the leading answer is right: now, or after a move."""
        if not evidence.spent:
            if move is None:
                return 0.0
            known = move.alone_by_prior
            return logistic(known, (1.0, logit(evidence.prior))) if known else move.alone
        return logistic(move.right if move else self.right, evidence.features)

    def look(self, question: str) -> float:
        """What the text of a problem says of pass@1; a half, which says nothing, without a prior."""
        return 0.5 if self.prior is None else self.prior.estimate(question)

    def opening(self, budget: float) -> tuple[int, Opening]:
        """The nearest budget that was fitted, and the opening for it."""
        known = nearest_budget(self.openings, budget)
        return known, self.openings[known]

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Self:
        """Build it from the JSON of a plan file; raises ValueError if it was fitted to other features."""
        moves = [_action(each) for each in raw["moves"]]
        right, distinct = _coefficients(raw["right"]), raw.get("distinct")
        if isinstance(distinct, bool):
            raise ValueError(f"distinct is {distinct}, not a temperature or null; 'stepwell calibrate' fits it anew")
        if {len(right), *(len(move.right) for move in moves if not move.first_only)} != {len(FEATURES)}:
            raise ValueError(f"it is not fitted to {', '.join(FEATURES)}; 'stepwell calibrate' fits it anew")
        prior = raw.get("prior")
        return cls(
            tuple(moves),
            right,
            float(raw["sample_flops"]),
            float(raw["score_flops"]),
            {int(size): Opening(each["move"], each["price"], each["stride"]) for size, each in raw["openings"].items()},
            None if distinct is None else float(distinct),
            None if prior is None else TextPrior(tuple(map(float, prior["coefficients"]))),
            raw.get("currency", "flops"),
            float(raw.get("sample_reads", 0.0)),
            float(raw.get("score_reads", 0.0)),
        )


def _coefficients(raw: Sequence[Any]) -> tuple[float, ...]:
    """Those over `Evidence.features`; in plans of before there is no prior, the last of them."""
    given = tuple(map(float, raw))
    return (*given, 0.0) if len(given) == len(FEATURES) - 1 else given


def _action(raw: Mapping[str, Any]) -> Action:
    known = {
        "flops": float(raw["flops"]),
        "reads": float(raw.get("reads", 0.0)),
        "right": _coefficients(raw["right"]),
    }
    return Action(**{**raw, **known, "alone_by_prior": tuple(map(float, raw.get("alone_by_prior", ())))})


def nearest_budget(known: Iterable[int], budget: float) -> int:
    """The nearest of some budgets, by ratio."""
    return min(known, key=lambda size: abs(math.log(size / max(budget, 1.0))))


@dataclass(frozen=True)
class Calibration:
    """What was fitted for one (policy, verifier, environment); a JSON file of configs/plans/.

    Args:
        policy: name of the policy; use with another policy, verifier or environment is refused.
        verifier: name of the verifier.
        environment: name of the environment.
        pass_at_1: logistic coefficients over `ProbeSummary.features`, by probe size.
        confidence: logistic coefficients over `ProbeSummary.confidence_features`.
        table: per difficulty, per budget in samples: what to do with the rest of the budget.
        online: of the online planner.
        fitted: how, on what, and with what error.
        temperature: of the samples that it was fitted to.
        digests: of the environment, the policy and the verifier that it was fitted to (`RunContext.digest`).
    """

    policy: str
    verifier: str
    environment: str
    pass_at_1: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    confidence: tuple[float, ...] = ()
    table: Mapping[Difficulty, Mapping[int, Choice]] = field(default_factory=dict)
    fitted: Mapping[str, Any] = field(default_factory=dict)
    online: Online | None = None
    temperature: float = 1.0
    digests: Mapping[Part, str] = field(default_factory=dict)

    def estimate(self, probe: ProbeSummary) -> float:
        """Estimated pass@1; without a fit, the mean score (Snell et al.: predicted difficulty)."""
        if not self.pass_at_1:
            return probe.score
        size = min(self.pass_at_1, key=lambda known: (abs(known - probe.samples), known))
        return logistic(self.pass_at_1[size], probe.features())

    def confidence_in(self, probe: ProbeSummary) -> float:
        """Estimated probability that the leading answer is right; without a fit it is never enough to stop."""
        return logistic(self.confidence, probe.confidence_features()) if self.confidence else 0.0

    def choose(
        self, difficulty: Difficulty, budget: float, parameters: int, thinks: bool = False
    ) -> tuple[Choice, str]:
        """What to do for a difficulty, and why: the fitted table at the nearest budget, else the papers' rules."""
        row = self.table.get(difficulty)
        if not row:
            return papers_rule(difficulty, parameters, thinks)
        known = nearest_budget(row, budget)
        return row[known], f"fitted best for {difficulty} problems at a budget of {known} with this policy and verifier"

    def refuse_others(self, environment: str, policy: str, verifier: str) -> None:
        """Raise ValueError unless this was fitted for these."""
        if (self.environment, self.policy, self.verifier) != (environment, policy, verifier):
            whose = f"{self.policy!r}, {self.verifier!r} on {self.environment!r}"
            raise ValueError(f"a plan fitted for {whose} cannot serve {policy!r}, {verifier!r} on {environment!r}")

    def warnings(self, temperature: float, context: RunContext) -> list[str]:
        """What differs between what it was fitted to and what it is used for: no line, or some.

        Args:
            temperature: of the samples.
            context: of the search. What the plan has no digest of, or the context does not know, is not compared.
        """
        found = []
        for part, fitted in self.digests.items():
            given = context.digest(part)
            if given and given != fitted:
                found.append(
                    f"the plan was fitted to another {part} of this name ({DIFFERENCES[part]}): it may mislead"
                )
        if self.fitted and temperature != self.temperature:
            found.append(f"samples at temperature {temperature:g}, by a plan that was fitted at {self.temperature:g}")
        return found

    def save(self, path: Path) -> None:
        """Write JSON, lists of numbers on one line."""
        text = json.dumps(asdict(self), indent=1)
        path.write_text(re.sub(r"\[[^][{}\"]*\]", lambda found: " ".join(found[0].split()), text) + "\n")

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
                Online.of(raw["online"]) if raw.get("online") else None,
                float(raw.get("temperature", 1.0)),
                {part: str(digest) for part, digest in raw.get("digests", {}).items() if part in DIFFERENCES},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{path} is not a plan file: {error!r}") from None


def user_plans() -> Path:
    """Where `stepwell calibrate` writes plans: the user's data folder (``XDG_DATA_HOME``)."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "stepwell" / "plans"


def plan_folders() -> list[Path]:
    """Where plans are looked for: the user's own come first, then those that ship or come with an environment."""
    brought = (folder / "configs" / "plans" for folder in folders_of(ENTRY_POINTS).values())
    return [user_plans(), *PLANS, *brought]


def plan_name(environment: str, policy: str, verifier: str) -> str:
    """The file name of a triple's calibration."""
    return f"{environment}--{policy}--{verifier}.json".replace("/", "_")


def find_calibration(graph: SearchGraph) -> Calibration:
    """The shipped calibration for the parts that a graph names, or one that holds nothing but the papers' rules."""
    return calibration_of(*parts_of(graph))


def parts_of(graph: SearchGraph) -> tuple[str, str, str]:
    """The names of the environment, the policy and the verifier that a graph belongs to."""
    return graph.environment.name, graph.context.policy, graph.context.verifier or ""


@lru_cache(maxsize=64)
def calibration_of(environment: str, policy: str, verifier: str) -> Calibration:
    """The shipped calibration of three names, or one that holds nothing; raises ValueError for one of others."""
    for folder in plan_folders():
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


def summarize(groups: Sequence[Group], scores: Sequence[tuple[float, int]], samples: int) -> ProbeSummary:
    """A `ProbeSummary` of tallied groups and of (score, count) per distinct finished trajectory."""
    total = sum(value * count for value, count in scores)
    if not groups:
        return ProbeSummary(samples, 0.0, 0.0, -5.0, 0.0)
    weights = [group.weight for group in groups]
    lead = math.log((weights[0] + 0.05) / (sum(weights[1:]) + 0.05))
    return ProbeSummary(samples, groups[0].count / samples, total / samples, lead, groups[0].score)
