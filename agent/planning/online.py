"""Online planning: spend in rounds, and before each ask which action is worth its price.

After every round the state of the search is summed up (`agent.planning.features`). Fitted functions of it give the
probability that the leading answer is right now, and that it will be after each action: more samples, more
samples with scores, a search by the verifier. The action with the largest net gain is taken

    P(right after the action) - P(right now) - price * cost of the action,

and when none has one above 0 the search is over: early stopping is a special case. The price is that of the budget: of
the prices tried when the plan was fitted, the dearest under which the accuracy at this budget does not suffer. The cost
is that of the plan's currency: FLOPs, or FLOP-equivalents, which charge memory traffic too. Asking for the best gain
*per* FLOP instead would begin with what is cheap and fill a budget of samples with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from agent.planning.decision import hopeless, offers
from agent.planning.features import Answer, Evidence
from agent.planning.plan_file import Action, Online
from agent.search.graph import SearchGraph
from agent.search.requests import Search, bid, propose, score
from agent.search.shared_budget import Offer, best_offer
from agent.strategies import STRATEGIES, Strategy
from verifiers.voting import Vote

ONE = Action("greedy", 1)  # with one sample there is nothing to choose


class OnlineSearch:
    """One search under way.

    Args:
        graph: of this search.
        fit: what moves there are, and what is expected of them.
        n: the budget in sample-equivalents.
        temperature: of every sample.
        vote: over all that finished.
        auction: it shares a budget with other searches, and asks for every move (`agent.search.shared_budget.Bid`).
        abstain: the least probability of a right answer; below it the search abstains, and 0 never does.
    """

    def __init__(
        self,
        graph: SearchGraph,
        fit: Online,
        n: int,
        temperature: float,
        vote: Vote,
        auction: bool = False,
        abstain: float = 0.0,
    ) -> None:
        self.graph = graph
        self.fit = fit
        self.left = n
        self.temperature = temperature
        self.vote = vote
        self.auction = auction
        self.abstain = abstain
        self.prior = fit.look(graph.problem.question)
        self.distinct = fit.distinct if graph.context.policy_distinct else None
        self.plain: list[int] = []  # ends of the independent samples, as often as they were drawn
        self.spent: dict[str, float] = {}  # sample-equivalents, by strategy and knobs
        self.made: dict[str, int] = {}  # how often, by action
        self.drawn = 0  # independent samples that were not decoded greedily
        self.searched = 0.0

    def search(self, warnings: Sequence[str] = ()) -> Search[None]:
        """Spend; ``graph.info["plan"]`` says what was done and why, after the warnings about its fit."""
        budget = self.left
        limit = self.graph.context.budget.flops
        flops = math.inf if limit is None else limit
        known, opening = self.fit.opening(min(budget, flops / self.fit.sample_flops))
        price = opening.price / self.fit.sample_cost
        reasons = list(warnings)
        if self.fit.currency == "flop-equivalents":
            limited = "" if limit is None else "; the budget limits FLOPs alone"
            reasons.append(f"costs are in FLOP-equivalents, which charge memory traffic beside FLOPs{limited}")
        if self.fit.distinct is not None and self.distinct is None:
            reasons.append("samples are drawn with replacement; the plan was fitted to draws without replacement")
        if self.fit.prior is not None:
            reasons.append(f"judged by its text alone, {self.prior:.0%} of the samples will be right")
        plan: dict[str, Any] = {"strategy": "online", "knobs": {}, "budget": budget, "reasons": reasons}
        last, first, times = "", "", 0  # of the last reason: what was said, the gain, and how often
        self.graph.info["plan"] = plan
        if not self.auction:
            action = self.fit.moves[opening.move]
            action = action if action.n <= budget or budget > 1 else ONE
            n = min(action.n, budget)
            reasons.append(f"first: {action.way}, {samples(n)} (the best first action at a budget of {known})")
            yield from self.make(action, n)
        while True:
            evidence = self.evidence()
            now = self.fit.probability(evidence)
            plan |= {
                "samples": budget - self.left,
                "probability": round(now, 4),
                "evidence": asdict(replace(evidence, answers=evidence.answers[:5])),
            }
            where = f"{self.describe(evidence)}, right with probability {now:.2f}"
            if self.abstain:
                plan["abstained"] = now < self.abstain
            able = offers(self.fit, self, evidence, min(self.left, opening.stride))
            asked = self.abstain
            if asked and able and evidence.spent and hopeless(self.fit, self, evidence, self.left, asked):
                reasons.append(f"gave up: {where}; no action is expected to make it right with probability {asked:g}")
                return
            made = [each for _, each in able]
            auction = self.auction and made
            chosen = (yield from bid(made)) if auction else best_offer(made, price, self.fit.currency)
            if chosen is None:
                reasons.append(f"stopped: {where}; {self.why(opening.stride, made)}")
                return
            action, offer = able[chosen]
            said, gain = f"{where}; expected gain", f"{100 * offer.gain:.1f}"
            if said == last:  # nothing has changed: the same reason once more
                reasons.pop()
                times += 1
            else:
                last, first, times = said, gain, 1
            often, gains = (f" {times} times", f"{first} to {gain}") if times > 1 else ("", gain)
            cost = f"{offer.cost(self.fit.currency) / self.fit.sample_cost:.1f} scored samples"
            reasons.append(
                f"then{often}: {action.way}, {samples(action.n)} ({said} {gains} points, at the cost of {cost})"
            )
            yield from self.make(action, action.n)

    @property
    def unscored(self) -> int:
        """Independent finished samples that have no scores yet."""
        ends = [node for node in self.plain if self.graph.status(node) == "terminated"]
        return sum(not self.graph.scores(node) for node in ends)

    def before(self, action: Action) -> float:
        """Sample-equivalents spent so far in the way of an action; all independent samples are one way."""
        return self.drawn if action.traits.independent else self.spent.get(action.way, 0.0)

    def can(self, action: Action) -> bool:
        """Whether the action can still find something new."""
        if action.first_only:
            return not self.made
        return not action.repeats or self.made.get(action.label, 0) < action.repeats

    def why(self, stride: int, made: Sequence[Offer]) -> str:
        """Why the search is over."""
        if all(action.n > min(self.left, stride) for action in self.fit.moves):
            return "the budget is spent"
        if not made:
            return "no further sampling is expected to help"
        return "other problems gain more" if self.auction else "no further sampling is worth its cost"

    def make(self, action: Action, n: int) -> Search[None]:
        """Spend n sample-equivalents in the way of an action."""
        graph = self.graph
        self.left -= n
        self.spent[action.way] = self.spent.get(action.way, 0.0) + n
        self.made[action.label] = self.made.get(action.label, 0) + 1
        if action.traits.independent:
            distinct = self.distinct is not None and not action.first_only
            temperature = 0.0 if action.first_only else self.temperature if self.distinct is None else self.distinct
            (drawn,) = yield from propose(graph, [graph.root], n, temperature, max_steps=None, distinct=distinct)
            self.plain += drawn
            self.drawn += 0 if action.first_only else n
            if action.traits.needs_scores:
                yield from score(graph, [node for node in self.plain if graph.status(node) == "terminated"])
            return
        before = graph.finished()
        knobs = {"temperature": self.temperature, "vote": self.vote, **action.knobs}
        strategy: Strategy = STRATEGIES[action.strategy].sized(n, **knobs)
        yield from strategy.search(graph)
        self.searched += n
        for node in before:  # what a search drops was its own candidate; that of an earlier round keeps its vote
            graph[node]["pruned"] = False

    def evidence(self) -> Evidence:
        """The state of the search."""
        graph, same = self.graph, self.graph.environment.same
        groups = graph.tally(self.vote)
        given = [graph[node]["answer"] for node in self.plain if graph.status(node) == "terminated"]
        counts = [sum(same(answer, group.answer) for answer in given) for group in groups]
        answers = [Answer(count, group.weight, group.score) for count, group in zip(counts, groups, strict=True)]
        scored = any(graph.scores(node) for node in graph.finished())
        return Evidence(len(self.plain), self.searched, scored, answers, self.prior)

    def describe(self, evidence: Evidence) -> str:
        """What speaks for the leading answer, in words."""
        if not evidence.answers:
            return "no answer yet"
        parts = []
        if evidence.plain:
            parts.append(f"is that of {evidence.agreement:.0%} of {evidence.plain} samples")
        if evidence.scored:
            parts.append(f"holds {evidence.share:.0%} of the vote, with a score of {evidence.answers[0].best:.2f}")
        return f"the leading answer {' and '.join(parts)}"


def samples(n: float) -> str:
    """A number of samples, in words."""
    return f"{n:g} sample" if n == 1 else f"{n:g} samples"
