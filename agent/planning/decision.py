"""The decision rule of online planning, over one kind of state: used in a live search and in a replayed one.

For every action that is possible, the fitted functions give the probability that the leading answer is right after it.
Its gain is that probability minus the one now; gain and cost make its `agent.search.shared_budget.Offer`. The action
with the largest net gain at the price of the budget is taken, if that is above 0.
"""

from __future__ import annotations

from typing import Protocol

from agent.planning.features import Evidence
from agent.planning.plan_file import Action, Online
from agent.search.shared_budget import Offer, best_offer

LEAST = 0.001  # a smaller gain is the noise of two fits


class PlannedSearch(Protocol):
    """What the rule asks of a search, live or replayed."""

    @property
    def unscored(self) -> int:
        """Independent finished samples that have no scores yet."""
        ...

    def before(self, action: Action) -> float:
        """Sample-equivalents spent so far in the way of an action; independent samples are one way."""
        ...

    def can(self, action: Action) -> bool:
        """Whether the action is possible and can still find something new."""
        ...


def offer(fit: Online, search: PlannedSearch, evidence: Evidence, action: Action) -> Offer:
    """What an action is expected to bring and to cost. One that scores also scores the samples that have no scores."""
    gain = fit.probability(evidence, action) - fit.probability(evidence)
    flops, reads = action.flops_after(search.before(action)), action.reads
    if action.traits.independent and action.traits.needs_scores:
        flops += search.unscored * fit.score_flops
        reads += search.unscored * fit.score_reads
    return Offer(gain, action.n, flops, reads)


def offers(fit: Online, search: PlannedSearch, evidence: Evidence, most: float) -> list[tuple[Action, Offer]]:
    """The possible actions of at most `most` sample-equivalents that are expected to gain something."""
    able = [action for action in fit.moves if action.n <= most and search.can(action)]
    made = [(action, offer(fit, search, evidence, action)) for action in able]
    return [(action, each) for action, each in made if each.gain > LEAST]


def hopeless(fit: Online, search: PlannedSearch, evidence: Evidence, left: float, asked: float) -> bool:
    """Whether no action, of any size, is expected to make the leading answer right with the probability asked for.

    The planner that may abstain gives up then: what is left of the budget is saved.

    Args:
        fit: the values of states.
        search: under way.
        evidence: its state.
        left: sample-equivalents that are left.
        asked: the least probability of a right answer.
    """
    able = (action for action in fit.moves if action.n <= left and search.can(action))
    hopes = [fit.probability(evidence), *(fit.probability(evidence, action) for action in able if action.right)]
    return max(hopes) < asked


def decide(fit: Online, search: PlannedSearch, evidence: Evidence, most: float, price: float) -> Action | None:
    """The action to take next, or None when the search is over.

    Args:
        fit: the values of states.
        search: under way.
        evidence: its state.
        most: sample-equivalents that an action may spend.
        price: of a unit of the plan's currency, in probability of a right answer.
    """
    able = offers(fit, search, evidence, most)
    best = best_offer([each for _, each in able], price, fit.currency)
    return None if best is None else able[best][0]
