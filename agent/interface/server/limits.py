"""What the server allows, and how much of a budget a request gets."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, get_args

from agent.interface.server.core import Effort, Refused
from agent.recipes.recipe import write_budget
from agent.search.budget import Budget
from envs.options import Above, AtLeast, check_ranges, load_dataclass

EFFORTS: dict[Effort, float] = dict(zip(get_args(Effort), (1 / 16, 1 / 8, 1 / 4, 1.0, 4.0, 16.0, 16.0), strict=True))
"""What share of a recipe's budget an effort buys."""
EXTRA = 15  # seconds beyond `ServerLimits.grace` in which a server that ends may still send replies
MOST_KNOB = 4096  # that a client may give a knob of a strategy: knobs are counts of samples, branches and steps


@dataclass(frozen=True)
class ServerLimits:
    """What the server allows.

    Args:
        concurrency: searches at work at once.
        queue: searches that wait for a place; more are refused.
        budget: most that one search may be allowed to spend.
        deadline: seconds after which a search ends with its best answer so far, its time in the queue included.
        choices: of one request.
        body: bytes of a request.
        headers: bytes of its head.
        question: characters of the question, and of each turn before it.
        turns: of a conversation.
        upload: seconds that a body may take to arrive.
        stall: seconds for which a client may take none of what it is sent.
        keep_alive: seconds of silence after which a stream says that it lives.
        grace: seconds that searches may take to finish when the server ends; then they end with what they have.
    """

    concurrency: Annotated[int, AtLeast(1)] = 64
    queue: Annotated[int, AtLeast(0)] = 256
    budget: Budget = field(default_factory=lambda: Budget(samples=256))
    deadline: Annotated[float, Above(0)] = 600.0
    choices: Annotated[int, AtLeast(1)] = 8
    body: Annotated[int, AtLeast(1)] = 1 << 20
    headers: Annotated[int, AtLeast(1024)] = 32 << 10
    question: Annotated[int, AtLeast(1)] = 32_000
    turns: Annotated[int, AtLeast(1)] = 200
    upload: Annotated[float, Above(0)] = 30.0
    stall: Annotated[float, Above(0)] = 60.0
    keep_alive: Annotated[float, Above(0)] = 5.0
    grace: Annotated[float, AtLeast(0)] = 30.0

    def __post_init__(self) -> None:
        """Check the values."""
        check_ranges(self)


def allowed_budget(given: Budget, caps: tuple[Budget, ...]) -> Budget:
    """A budget that was asked for in so many words, with the limits of the caps that it leaves open.

    Raises:
        Refused: it is above a cap.
    """
    limits = _limits(given)
    for cap in caps:
        for name, most in _limits(cap).items():
            if limits.setdefault(name, most) > most:
                raise Refused(400, f"a budget of {name}={limits[name]:g} given; at most {most:g} is allowed", "budget")
    return load_dataclass(Budget, limits, "budget")


def scaled_budget(own: Budget, effort: Effort | None, caps: tuple[Budget, ...]) -> tuple[Budget, list[str]]:
    """The budget of a recipe, scaled by an effort, and at most what is allowed; with notes where it was cut."""
    factor = 1.0 if effort is None else EFFORTS[effort]
    limits = {name: _whole(name, value * factor) for name, value in _limits(own).items()}
    asked = dict(limits)
    for cap in caps:
        for name, most in _limits(cap).items():
            limits[name] = min(limits.get(name, most), most)
    budget = load_dataclass(Budget, limits, "budget")
    cut = [name for name, value in asked.items() if limits[name] < value]
    return budget, [f"the budget was cut to what is allowed: {write_budget(budget)}"] if cut else []


def with_tokens(budget: Budget, tokens: int | None) -> Budget:
    """A budget whose tokens are limited, too."""
    if tokens is None:
        return budget
    return replace(budget, tokens=tokens if budget.tokens is None else min(tokens, budget.tokens))


def _limits(budget: Budget) -> dict[str, Any]:
    return {name: value for name, value in asdict(budget).items() if value is not None}


def _whole(name: str, value: float) -> float:
    """Samples and tokens are counted, and at least one of them is bought."""
    return max(1, round(value)) if name in ("samples", "tokens") else value
