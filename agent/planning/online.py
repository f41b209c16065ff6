"""Online planning: spend in rounds, and before each ask which way to go on is worth its price.

After every round the state of the search is summed up (`agent.planning.features`). Fitted functions of it give the
probability that the leading answer is right now, and that it will be after each way to go on: more samples, more
samples with scores, a search by the verifier. The move with the largest net gain is made,

    P(right after the move) - P(right now) - price * FLOPs of the move,

and when none has one above 0 the search is over: early stopping is a special case. The price is that of the budget: of
the prices tried when the plan was fitted, the dearest under which the accuracy at this budget does not suffer. Asking
for the best gain *per* FLOP instead would begin with what is cheap and fill a budget of samples with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from agent.planning.features import Answer, Evidence
from agent.planning.plan_file import Move, Online
from agent.search.graph import SearchGraph
from agent.search.requests import Search, bid, propose, score
from agent.search.shared_budget import Way, best_way
from agent.strategies import STRATEGIES, Strategy
from verifiers.voting import Vote

LEAST = 0.001  # a smaller gain is the noise of two fits
ONE = Move("greedy", 1)  # with one sample there is nothing to choose


class OnlineSearch:
    """One search under way.

    Args:
        graph: of this search.
        fit: what moves there are, and what is expected of them.
        n: the budget in sample-equivalents.
        temperature: of every sample.
        vote: over all that finished.
        auction: it shares a budget with other searches, and asks for every move (`agent.search.shared_budget.Bid`).
    """

    def __init__(
        self, graph: SearchGraph, fit: Online, n: int, temperature: float, vote: Vote, auction: bool = False
    ) -> None:
        self.graph = graph
        self.fit = fit
        self.left = n
        self.temperature = temperature
        self.vote = vote
        self.auction = auction
        self.distinct = fit.distinct if graph.context.policy_distinct else None
        self.plain: list[int] = []  # ends of the independent samples, as often as they were drawn
        self.spent: dict[str, float] = {}  # sample-equivalents by the way they were spent
        self.made: dict[str, int] = {}  # how often, by move
        self.searched = 0.0

    def search(self, warnings: Sequence[str] = ()) -> Search[None]:
        """Spend; ``graph.info["plan"]`` says what was done and why, after the warnings about its fit."""
        budget = self.left
        limit = self.graph.context.budget.flops
        flops = math.inf if limit is None else limit
        opening = self.fit.opening(min(budget, flops / self.fit.sample_flops))
        price = opening.price / self.fit.sample_flops
        reasons = list(warnings)
        if self.fit.distinct is not None and self.distinct is None:
            reasons.append("samples drawn with replacement, by a plan that was fitted to draws without")
        plan: dict[str, Any] = {"strategy": "online", "knobs": {}, "budget": budget, "reasons": reasons}
        last, first, times = "", "", 0  # of the last reason: what was said, the gain, and how often
        self.graph.info["plan"] = plan
        if not self.auction:
            move = self.fit.moves[opening.move]
            move = move if move.n <= budget or budget > 1 else ONE
            reasons.append(f"begun with {move.label}: fitted best at a budget of {budget}")
            yield from self.make(move, min(move.n, budget))
        while True:
            evidence = self.evidence()
            now = self.fit.probability(evidence)
            plan |= {
                "samples": budget - self.left,
                "probability": round(now, 4),
                "evidence": asdict(replace(evidence, answers=evidence.answers[:5])),
            }
            where = f"{self.describe(evidence)}, right with probability {now:.2f}"
            moves = [move for move in self.fit.moves if move.n <= min(self.left, opening.stride) and self.may(move)]
            ways = [self.way(move, evidence, now) for move in moves]
            moves = [move for move, way in zip(moves, ways, strict=True) if way.gain > LEAST]
            ways = [way for way in ways if way.gain > LEAST]
            chosen = (yield from bid(ways)) if self.auction and ways else best_way(ways, price)
            if chosen is None:
                reasons.append(f"stopped: {where}; {self.why(opening.stride, ways)}")
                return
            move, way = moves[chosen], ways[chosen]
            said, gain = f"{where}; {move.label} would gain", f"{100 * way.gain:.1f}"
            if said == last:  # nothing has changed: the same reason once more
                reasons.pop()
                times += 1
            else:
                last, first, times = said, gain, 1
            often, gains = (f" {times} times", f"{first} to {gain}") if times > 1 else ("", gain)
            price_of = f"the price of {way.flops / self.fit.sample_flops:.1f} scored samples"
            reasons.append(f"went on{often}: {said} {gains} points for {price_of}")
            yield from self.make(move, move.n)

    def may(self, move: Move) -> bool:
        """Whether it can still find something new."""
        if move.first_only:
            return not self.made
        return not move.repeats or self.made.get(move.label, 0) < move.repeats

    def why(self, stride: int, ways: Sequence[Way]) -> str:
        """Why the search is over."""
        if all(move.n > min(self.left, stride) for move in self.fit.moves):
            return "the budget is spent"
        if not ways:
            return "no way to go on gains anything"
        return "other problems gain more" if self.auction else "no way to go on is worth its price"

    def way(self, move: Move, evidence: Evidence, now: float) -> Way:
        """What a move is expected to bring and to cost."""
        return Way(self.fit.probability(evidence, move) - now, move.n, self.flops(move))

    def flops(self, move: Move) -> float:
        """What a move is expected to cost: Best-of-N scores the samples that have no scores yet, too."""
        if move.strategy not in ("majority", "best-of-n"):
            return move.flops_after(self.spent.get(move.way, 0.0))
        flops = move.flops_after(self.spent.get("majority", 0.0) + self.spent.get("best-of-n", 0.0))
        if move.strategy == "majority":
            return flops
        ends = [node for node in self.plain if self.graph.status(node) == "terminated"]
        return flops + sum(not self.graph.scores(node) for node in ends) * self.fit.score_flops

    def make(self, move: Move, n: int) -> Search[None]:
        """Spend n sample-equivalents in the way of a move."""
        graph = self.graph
        self.left -= n
        self.spent[move.way] = self.spent.get(move.way, 0.0) + n
        self.made[move.label] = self.made.get(move.label, 0) + 1
        if move.strategy in ("greedy", "majority", "best-of-n"):
            distinct = self.distinct is not None and not move.first_only
            temperature = 0.0 if move.first_only else self.temperature if self.distinct is None else self.distinct
            (drawn,) = yield from propose(graph, [graph.root], n, temperature, max_steps=None, distinct=distinct)
            self.plain += drawn
            if move.strategy == "best-of-n":
                yield from score(graph, [node for node in self.plain if graph.status(node) == "terminated"])
            return
        before = graph.finished()
        knobs = {"temperature": self.temperature, "vote": self.vote, **move.knobs}
        strategy: Strategy = STRATEGIES[move.strategy].sized(n, **knobs)
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
        return Evidence(len(self.plain), self.searched, scored, answers)

    def describe(self, evidence: Evidence) -> str:
        """In words."""
        if not evidence.answers:
            return "no answer yet"
        parts = []
        if evidence.plain:
            parts.append(f"is that of {evidence.agreement:.0%} of {evidence.plain} samples")
        if evidence.scored:
            parts.append(f"holds {evidence.share:.0%} of the vote, with a score of {evidence.answers[0].best:.2f}")
        return f"the leading answer {' and '.join(parts)}"
