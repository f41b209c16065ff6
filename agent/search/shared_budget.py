"""One budget for many problems: each next round goes where it is expected to gain the most for its cost.

Searches that share a budget (`agent.search.shared_budget.Bid`) all bid, and a price is called, high at first: at a
price, every search takes the way to go on with the largest gain less its cost, if it is above 0, the most worthwhile
first. When no bid is worth the price, it falls; when the budget is spent, every bid is answered no. This is Lagrangian
relaxation: at the end all problems have paid the same for the last gain.

Bids are compared only when no search is at work, so the outcome does not depend on the order of replies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

from agent.search.budget import Budget, flop_equivalents

FALL = 0.8  # of the price, when no bid is worth it


@dataclass
class Allocation:
    """Decides on bids.

    Args:
        total: limits on all searches together, in samples or FLOPs.
        price: of a sample where the total limits samples, or else of a FLOP, in probability; None before the first.

    Raises:
        ValueError: the total limits something else, or nothing.
    """

    total: Budget
    price: float | None = None

    def __post_init__(self) -> None:
        limited = [each.name for each in fields(self.total) if getattr(self.total, each.name) is not None]
        if not limited or not {"samples", "flops"}.issuperset(limited):
            raise ValueError(f"a total budget of {', '.join(limited) or 'nothing'} given; allowed: samples, flops")

    @property
    def currency(self) -> Currency:
        """What is short, and has a price. By FLOPs, cheap unscored samples would fill a budget of samples.

        It is that of the total, whatever a plan prices its actions in.
        """
        return "flops" if self.total.samples is None else "samples"

    def decide(self, bids: Sequence[Bid], spent: Spent) -> list[int | None]:
        """For each bid the index of the offer that is granted, or None; if none is, nothing that gains can be paid for.

        Args:
            bids: of the searches that are not over.
            spent: by all searches.
        """
        samples = math.inf if self.total.samples is None else self.total.samples - spent.samples
        flops = math.inf if self.total.flops is None else self.total.flops - spent.flops
        payable = [[each for each in bid.offers if each.samples <= samples and each.flops <= flops] for bid in bids]
        granted: list[int | None] = [None] * len(bids)
        best = max((each.gain / each.cost(self.currency) for offers in payable for each in offers), default=0.0)
        if best <= 0:
            return granted
        price = best if self.price is None else min(self.price, best)
        worth: list[tuple[float, int, Offer]] = []
        while not worth:
            price *= FALL
            chosen = [(place, offers, best_offer(offers, price, self.currency)) for place, offers in enumerate(payable)]
            taken = [(place, offers[index]) for place, offers, index in chosen if index is not None]
            worth = [(each.worth(price, self.currency), -place, each) for place, each in taken]
        self.price = price / FALL  # those who are granted something bid again at the price that was called
        for _, place, each in sorted(worth, key=lambda entry: entry[:2], reverse=True):
            if each.samples <= samples and each.flops <= flops:
                granted[-place] = bids[-place].offers.index(each)
                samples -= each.samples
                flops -= each.flops
        return granted


@dataclass(frozen=True)
class Spent:
    """What all searches that share a budget have spent."""

    samples: float
    flops: float


Currency = Literal["flops", "flop-equivalents", "samples"]
"""What has a price. FLOP-equivalents charge memory traffic too (`agent.search.budget.flop_equivalents`)."""


@dataclass(frozen=True)
class Offer:
    """An action that a search offers to take, as it is expected to turn out.

    Args:
        gain: by how much the probability of a right answer rises.
        samples: sample-equivalents that it takes.
        flops: that it takes, as `agent.search.budget.Meter.cost` counts them.
        reads: numbers that it reads from memory; 0 where nobody pays for them.
    """

    gain: float
    samples: float
    flops: float
    reads: float = 0.0

    def cost(self, currency: Currency) -> float:
        """What it takes of a currency."""
        if currency == "flop-equivalents":
            return flop_equivalents(self.flops, self.reads)
        return self.flops if currency == "flops" else self.samples

    def worth(self, price: float, currency: Currency = "flops") -> float:
        """The gain, less what it costs at a price, in probability, of a unit of the currency."""
        return self.gain - price * self.cost(currency)


def best_offer(offers: Sequence[Offer], price: float, currency: Currency = "flops") -> int | None:
    """The index of the offer that is worth most, the first of equals; None when none is worth more than nothing."""
    best = max(range(len(offers)), key=lambda i: (offers[i].worth(price, currency), -i), default=None)
    return best if best is not None and offers[best].worth(price, currency) > 0 else None


@dataclass(frozen=True)
class Bid:
    """A search that shares a budget with others asks which of its offers it may take (`Allocation`)."""

    offers: tuple[Offer, ...]


@dataclass(frozen=True)
class Granted:
    """The reply to a bid: the index of an offer, or None, which ends the search."""

    offer: int | None
