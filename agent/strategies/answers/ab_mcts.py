r"""AB-MCTS: a new answer or a better one of an old, by Thompson sampling over whole answers.

Adaptive branching (Inoue et al. 2025, arXiv 2503.04412, section 3.3, AB-MCTS-A with Beta priors). A node is an answer;
the root is none. From the root on, at each node with children,

    theta_GEN ~ Beta(1/2 + sum r, 1/2 + sum (1 - r))   over the scores r of the answers that were generated here,
    theta_CONT ~ the same over the scores of all answers below the children,

and where theta_GEN is larger an answer is generated here: a fresh one at the root (wider), a revision of the node's
answer elsewhere (deeper). Otherwise the search goes on to the child with the largest theta_j, drawn of the scores of
the answers below it. A node without children generates. The score of a new answer is told to GEN of its parent, and to
CONT and to the child on every level above. An answer that fails has the score 0 and is no node.

The scores are the verifier's. The paper asks for one answer at a time; here `batch` places are drawn at once of the
same beliefs, so that answers are written together; 1 is the paper's. n buys n answers, and then the search ends.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from agent.search.graph import SearchGraph
from agent.search.requests import Search, propose, score
from agent.strategies.traits import Traits
from envs.options import AtLeast, check_ranges
from verifiers.voting import Vote

_PRIOR = 0.5  # Jeffreys'


@dataclass
class Belief:
    """A Beta of scores in [0, 1]."""

    alpha: float = _PRIOR
    beta: float = _PRIOR

    def tell(self, r: float) -> None:
        """Take a score."""
        self.alpha += r
        self.beta += 1 - r

    def draw(self, rng: random.Random) -> float:
        """A sample."""
        return rng.betavariate(self.alpha, self.beta)


@dataclass
class Place:
    """What is believed of a node."""

    gen: Belief = field(default_factory=Belief)
    cont: Belief = field(default_factory=Belief)
    own: Belief = field(default_factory=Belief)  # theta_j, for the node above
    children: list[int] = field(default_factory=list)
    above: int | None = None


@dataclass(frozen=True)
class AbMcts:
    """Generate answers wider or deeper, as Thompson sampling of their scores says.

    Args:
        n: answers in all.
        batch: answers that are asked for at once.
        temperature: of all samples.
        vote: over all answers; its aggregation is also what the score of an answer is.
    """

    n: Annotated[int, AtLeast(1)] = 16
    batch: Annotated[int, AtLeast(1)] = 4
    temperature: Annotated[float, AtLeast(0)] = 1.0
    vote: Vote = field(default_factory=Vote)

    def __post_init__(self) -> None:
        check_ranges(self)

    @classmethod
    def sized(cls, n: int, **knobs: Any) -> Self:
        """N answers."""
        return cls(n=n, **knobs)

    @property
    def traits(self) -> Traits:
        """Steered by the scores of whole answers."""
        return Traits()

    def search(self, graph: SearchGraph) -> Search[None]:
        """Select by Thompson sampling, expand by an answer, evaluate, back up."""
        rng = random.Random(f"{graph.seed}/{graph.problem.id}/ab-mcts")
        places = {graph.root: Place()}
        drawn = 0
        while drawn < self.n:
            where: dict[int, int] = {}
            for _ in range(min(self.batch, self.n - drawn)):
                node = self.select(places, graph.root, rng)
                where[node] = where.get(node, 0) + 1
            drawn += sum(where.values())
            samples = yield from propose(graph, list(where), list(where.values()), self.temperature, max_steps=None)
            ends = [(node, end) for node, each in zip(where, samples, strict=True) for end in each]
            answers = list(dict.fromkeys(end for _, end in ends if graph.status(end) == "terminated"))
            values = dict(zip(answers, (yield from score(graph, answers, self.vote.aggregate)), strict=True))
            for node, end in ends:
                value = values.get(end, 0.0)
                if end in values and end not in places:
                    graph[end]["value"] = value
                    places[end] = Place(above=node)
                    places[node].children.append(end)
                self.back_up(places, node, value)

    def select(self, places: dict[int, Place], node: int, rng: random.Random) -> int:
        """The node to generate an answer at."""
        while True:
            place = places[node]
            if not place.children or place.gen.draw(rng) >= place.cont.draw(rng):
                return node
            thetas = {child: places[child].own.draw(rng) for child in place.children}
            node = max(thetas, key=lambda child: (thetas[child], -child))

    def back_up(self, places: dict[int, Place], node: int, value: float) -> None:
        """Tell the score of an answer that was generated at a node."""
        places[node].gen.tell(value)
        while (above := places[node].above) is not None:
            places[node].own.tell(value)
            places[above].cont.tell(value)
            node = above
