"""The strategies: one file each, a frozen dataclass of knobs whose method `search` is the algorithm."""

from __future__ import annotations

from agent.strategies.answers.ab_mcts import AbMcts
from agent.strategies.answers.adaptive import Adaptive
from agent.strategies.answers.adaptive_consistency import AdaptiveConsistency
from agent.strategies.answers.blend_asc import BlendAsc
from agent.strategies.answers.deepconf import DeepConf
from agent.strategies.answers.first_finish import FirstFinish
from agent.strategies.answers.selection import ListSelection, Tournament
from agent.strategies.answers.self_aggregation import SelfAggregation
from agent.strategies.beam import Beam
from agent.strategies.best_of_n import BestOfN, Greedy, Majority
from agent.strategies.dvts import Dvts
from agent.strategies.lookahead import Lookahead
from agent.strategies.mcts import Mcts
from agent.strategies.protocol import Strategy
from agent.strategies.revision import Revision
from agent.strategies.sized_by_cost import SizedByCost
from agent.strategies.steps.foresight import Foresight
from agent.strategies.steps.momentum import Momentum
from agent.strategies.steps.particle_filter import ParticleFilter
from agent.strategies.steps.speculative import Speculative
from agent.strategies.traits import Traits

STRATEGIES: dict[str, type[Strategy]] = {
    "greedy": Greedy,
    "majority": Majority,
    "best-of-n": BestOfN,
    "beam": Beam,
    "dvts": Dvts,
    "lookahead": Lookahead,
    "mcts": Mcts,
    "revision": Revision,
    "particles": ParticleFilter,
    "deepconf": DeepConf,
    "speculative": Speculative,
    "first-finish": FirstFinish,
    "momentum": Momentum,
    "foresight": Foresight,
    "self-aggregation": SelfAggregation,
    "ab-mcts": AbMcts,
    "genselect": ListSelection,
    "tournament": Tournament,
    "adaptive-consistency": AdaptiveConsistency,
    "blend-asc": BlendAsc,
    "adaptive": Adaptive,
}

__all__ = [
    "STRATEGIES",
    "AbMcts",
    "Adaptive",
    "AdaptiveConsistency",
    "Beam",
    "BestOfN",
    "BlendAsc",
    "DeepConf",
    "Dvts",
    "FirstFinish",
    "Foresight",
    "Greedy",
    "ListSelection",
    "Lookahead",
    "Majority",
    "Mcts",
    "Momentum",
    "ParticleFilter",
    "Revision",
    "SelfAggregation",
    "SizedByCost",
    "Speculative",
    "Strategy",
    "Tournament",
    "Traits",
]
