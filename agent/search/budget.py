"""What a search may spend (`Budget`) and what it has spent (`Meter`).

One unit of budget is one complete solution's worth of policy samples. Verifiers are charged too: equal budgets in
FLOPs are equal in 2 x parameters x tokens over policy and verifier together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar

from policies.core import Proposed
from verifiers.core import Scored

INTENSITY = 562.5
"""FLOPs that an accelerator does in the time in which it reads one number of 16 bits: of NVIDIA's B200, as Kinetics
(arXiv 2506.05333, section 3) has it."""
T = TypeVar("T", bound=Any)  # a float, or what calculates like one
SLACK = 1.1  # strategies aim at their budget in samples by their size; the engine ends them here


@dataclass(frozen=True)
class Budget:
    """Limits of one search; None is no limit. A search that meets one ends with its best answer so far.

    Args:
        samples: sample-equivalents, as `SearchGraph.samples` counts them. Strategies are sized to spend this much; the
            engine ends a search at 1.1 times it, so that a beam is not cut a step before its end.
        tokens: policy tokens, generated and prefilled. Strategies are sized by what these limits buy
            (`agent.strategies.sized_by_cost`).
        flops: of policy and verifier together.
        seconds: since the search began.

    Attributes:
        short_form: what a lone number limits, in recipes.
    """

    short_form: ClassVar[str] = "samples"

    samples: float | None = None
    tokens: int | None = None
    flops: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is not None and not value > 0:
                raise ValueError(f"budget {each.name}={value!r} given; allowed: a number above 0, or none")


@dataclass
class Meter:
    """What one search has spent.

    Args:
        generated: tokens that the policy sampled.
        prefilled: tokens of prompts and prefixes that the policy read.
        verifier_tokens: tokens run through the verifier.
        policy_calls: requests that the policy answered.
        verifier_calls: requests that the verifier answered.
        policy_flops: floating-point operations of the policy, as it measured them.
        verifier_flops: the same of the verifier.
        policy_reads: numbers that the policy read from memory (`policies.memory_traffic`).
        verifier_reads: the same of the verifier.
        unscored: steps that the verifier failed on; the engine reads it off the graph.
        seconds: since the search began; the engine keeps it.

    Attributes:
        grace: share of the limits in tokens and FLOPs that a search may go over them, set by strategies that are sized
            by what they cost (`agent.strategies.sized_by_cost`); -1 where what is left of them buys nothing.
    """

    grace = 0.0

    generated: int = 0
    prefilled: int = 0
    verifier_tokens: int = 0
    policy_calls: int = 0
    verifier_calls: int = 0
    policy_flops: float = 0.0
    verifier_flops: float = 0.0
    policy_reads: float = 0.0
    verifier_reads: float = 0.0
    unscored: int = 0
    seconds: float = field(default=0.0, compare=False)

    @property
    def flops(self) -> float:
        """Of policy and verifier together."""
        return self.policy_flops + self.verifier_flops

    @property
    def flop_equivalents(self) -> float:
        """Of policy and verifier together, memory traffic included (`flop_equivalents`)."""
        return flop_equivalents(self.flops, self.policy_reads + self.verifier_reads)

    @property
    def cost(self) -> float:
        """What plans compare: FLOPs; of models whose parameters are not known, the tokens instead."""
        return (self.policy_flops or self.generated) + (self.verifier_flops or self.verifier_tokens)

    def charge(self, reply: Proposed | Scored) -> None:
        """Add what a reply cost."""
        if isinstance(reply, Proposed):
            self.policy_calls += 1
            self.generated += reply.usage.generated
            self.prefilled += reply.usage.prefilled
            self.policy_flops += reply.usage.flops
            self.policy_reads += reply.usage.reads
        else:
            self.verifier_calls += 1
            self.verifier_tokens += reply.tokens
            self.verifier_flops += reply.flops
            self.verifier_reads += reply.reads

    def take_up(self, spent: Mapping[str, Any]) -> float:
        """Go on from what a search had spent when it ended (`to_json`); returns its seconds."""
        for each in fields(self):
            kind = type(getattr(self, each.name))
            setattr(self, each.name, kind(spent.get(each.name, 0)))
        return self.seconds

    def exceeded(self, budget: Budget, samples: float, scoring: bool = False) -> str | None:
        """Which limit is met, in words, or None.

        Args:
            budget: the limits.
            samples: sample-equivalents spent, as `SearchGraph.samples` counts them.
            scoring: the search is about to score, which takes no policy tokens: what was drawn last still gets its
                scores, and with them its vote.
        """
        if not scoring and budget.samples is not None and samples >= SLACK * budget.samples:
            return f"{budget.samples:g} samples are spent"
        factor = 1 + self.grace
        if not scoring and budget.tokens is not None and self.generated + self.prefilled >= factor * budget.tokens:
            return f"{budget.tokens} tokens are spent"
        if budget.flops is not None and self.flops >= factor * budget.flops:
            return f"{budget.flops:g} FLOPs are spent"
        if budget.seconds is not None and self.seconds >= budget.seconds:
            return f"{budget.seconds:g} seconds are over"
        return None

    def tokens_left(self, budget: Budget, parameters: int) -> int | None:
        """The tokens that what is left of a budget buys of a policy with so many parameters, at least one; None if all.

        What the policy must read first is known to nobody before it has read it, and is not taken off.
        """
        factor, left = 1 + self.grace, math.inf
        if budget.tokens is not None:
            left = factor * budget.tokens - self.generated - self.prefilled
        if budget.flops is not None and parameters:
            left = min(left, (factor * budget.flops - self.flops) / (2 * parameters))
        return None if left == math.inf else max(1, math.floor(left))

    def to_json(self, samples: float) -> dict[str, Any]:
        """Everything above and the sample-equivalents, `samples`."""
        spent = {each.name: getattr(self, each.name) for each in fields(self)}
        sums = {"flops": self.flops, "flop_equivalents": self.flop_equivalents}
        return spent | sums | {"samples": round(samples, 4), "seconds": round(self.seconds, 3)}


def flop_equivalents(flops: T, reads: T, intensity: float = INTENSITY) -> T:
    """FLOPs and memory traffic as one cost: FLOPs + I x numbers read (Kinetics, arXiv 2506.05333, section 3).

    Both are added, as they hardly overlap: the FLOPs are those of the weights, the reads mostly of keys and values.

    Args:
        flops: 2 x parameters x tokens; a number, or an array or column of numbers.
        reads: numbers read from memory, weights and keys and values.
        intensity: I, the FLOPs that the machine does while it reads one number.
    """
    made: T = flops + intensity * reads
    return made
