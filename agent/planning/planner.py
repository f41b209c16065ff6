"""The planner: decide, problem by problem, how to spend the budget.

Online (`agent.planning.online`): spend in rounds, and before each ask which action is worth its price. It goes by what
`stepwell calibrate` fitted for the policy, the verifier and the environment; where nothing was fitted, the planner goes
by the papers' table (`agent.planning.table_planner`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from agent.planning.online import OnlineSearch
from agent.planning.plan_file import Calibration, find_calibration, parts_of
from agent.planning.table_planner import TablePlanner
from agent.search.graph import SearchGraph
from agent.search.requests import Search
from agent.strategies import STRATEGIES, Strategy, Traits
from envs.options import AtLeast, check_ranges
from verifiers.voting import Vote


@dataclass(frozen=True)
class Planner:
    """Spends in rounds, each as the state of the search makes it worth. N buys at most N samples.

    Args:
        n: the budget in sample-equivalents.
        auction: it shares a budget with other searches (`agent.search.shared_budget`); only where it was calibrated.
        temperature: of every sample.
        vote: over all finished trajectories.
        abstain: the least probability of a right answer. Below it the planner abstains: it says so, beside its best
            guess, and gives up as soon as no action is expected to reach it. 0 never abstains.
        calibration: what was fitted for this policy and verifier; by default what `find_calibration` finds for them.
            That of others is refused with a ValueError.
    """

    n: Annotated[int, AtLeast(1)] = 16
    auction: bool = False
    temperature: Annotated[float, AtLeast(0)] = 1.0
    vote: Vote = field(default_factory=Vote)
    abstain: Annotated[float, AtLeast(0, 1)] = 0.0
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        check_ranges(self)

    @classmethod
    def sized(cls, n: int, **knobs: Any) -> Self:
        """A planner that spends n sample-equivalents."""
        return cls(n=n, **knobs)

    @property
    def traits(self) -> Traits:
        """It may take any action."""
        return Traits(decides=True)

    def search(self, graph: SearchGraph) -> Search[None]:
        """Fill the graph; the plan and its reasons are in ``graph.info["plan"]``."""
        calibration = self.calibration or find_calibration(graph)
        calibration.refuse_others(*parts_of(graph))
        if calibration.online is None:
            if self.abstain:
                raise ValueError(
                    f"abstain={self.abstain:g} asks for probabilities, and there is no plan for {calibration.policy!r},"
                    f" {calibration.verifier!r} on {calibration.environment!r}; 'stepwell calibrate' fits one"
                )
            yield from TablePlanner(
                self.n, temperature=self.temperature, vote=self.vote, calibration=calibration
            ).search(graph)
            return
        search = OnlineSearch(
            graph, calibration.online, self.n, self.temperature, self.vote, self.auction, self.abstain
        )
        yield from search.search(calibration.warnings(self.temperature, graph.context))


METHODS: dict[str, type[Strategy]] = {"auto": Planner, "table": TablePlanner, **STRATEGIES}
"""All that ``--strategy`` takes: the planner, online and by a table, and what it plans with."""
