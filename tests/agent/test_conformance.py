"""The kit of strategies: all that ship pass, and each planted defect is found and named in a sentence."""

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any, Self

import pytest

from agent import check_strategy
from agent.interface.cli import main
from agent.planning.planner import METHODS
from agent.search.graph import SearchGraph
from agent.search.requests import Search, propose, score
from agent.strategies import Strategy, Traits
from envs.conformance import NonConforming
from verifiers.voting import Vote

TURNS = [0]


@dataclass(frozen=True)
class Sampling:
    """Right: n whole samples.

    Args:
        n: samples.
        vote: over them.
    """

    n: int = 16
    vote: Vote = field(default_factory=Vote)

    @classmethod
    def sized(cls, n: int, **knobs: Any) -> Self:
        return cls(n=n, **knobs)

    @property
    def traits(self) -> Traits:
        return Traits()

    def search(self, graph: SearchGraph) -> Search[None]:
        (ends,) = yield from propose(graph, [graph.root], self.drawn(), max_steps=None)
        yield from score(graph, ends)

    def drawn(self) -> int:
        return self.n


class Spendthrift(Sampling):
    """Draws half as many again.

    Args:
        n, vote: as ever.
    """

    def drawn(self) -> int:
        return self.n + -(-self.n // 2)


class Miser(Sampling):
    """Draws fewer than it may.

    Args:
        n, vote: as ever.
    """

    def drawn(self) -> int:
        return max(1, self.n // 2)


class Moody(Sampling):
    """Depends on how many searches there were before it.

    Args:
        n, vote: as ever.
    """

    def search(self, graph: SearchGraph) -> Search[None]:
        TURNS[0] += 1
        temperature = 1.0 + TURNS[0] % 7
        for _ in range(self.n):
            (ends,) = yield from propose(graph, [graph.root], 1, temperature, max_steps=None)
            graph[ends[0]]["value"] = temperature


class Hasty(Sampling):
    """Lets a solution vote that is under way.

    Args:
        n, vote: as ever.
    """

    def search(self, graph: SearchGraph) -> Search[None]:
        yield from super().search(graph)
        node = graph.children(graph.root)[0]
        graph[node]["status"], graph[node]["answer"] = "terminated", "a guess"
        graph._finished.insert(0, node)


class Liar(Sampling):
    """Gives a finished solution another answer.

    Args:
        n, vote: as ever.
    """

    def search(self, graph: SearchGraph) -> Search[None]:
        yield from super().search(graph)
        graph[graph.finished()[0]]["answer"] = "a guess"


@dataclass(frozen=True)
class Silent(Sampling):
    """Has a knob that it says nothing of.

    Args:
        n, vote: as ever.
    """

    width: int = 3


@dataclass
class Thawed:
    """Can be changed.

    Args:
        n, vote: as ever.
    """

    n: int = 16
    vote: Vote = field(default_factory=Vote)
    sized = Sampling.sized
    search = Sampling.search


class Failing(Sampling):
    """Divides by zero.

    Args:
        n, vote: as ever.
    """

    def drawn(self) -> int:
        return self.n // (self.n - self.n)


class Endless(Sampling):
    """Never ends by itself.

    Args:
        n, vote: as ever.
    """

    def search(self, graph: SearchGraph) -> Search[None]:
        while True:
            yield from super().search(graph)


class Unsized(Sampling):
    """Cannot be sized for one sample.

    Args:
        n, vote: as ever.
    """

    @classmethod
    def sized(cls, n: int, **knobs: Any) -> Self:
        if n < 2:
            raise ValueError("too small")
        return cls(n=n, **knobs)


@pytest.mark.parametrize("name", METHODS)
def test_every_strategy_that_ships_conforms(name: str) -> None:
    check_strategy(METHODS[name])


@pytest.mark.parametrize(
    ("name", "knobs"),
    [
        ("beam", {"branch": 2}),
        ("dvts", {"branch": 8}),
        ("lookahead", {"k": 0}),
        ("table", {"probe": 0.5}),
        ("beam", {"chain": 2}),
        ("dvts", {"chain": 2}),
        ("lookahead", {"chain": 3}),
        ("mcts", {"chain": 2}),
        ("first-finish", {"share": 0.25}),
        ("particles", {"resampling": "multinomial", "ess": 0.5, "anneal": True, "exact": True}),
    ],
)
def test_and_with_other_knobs(name: str, knobs: dict[str, Any]) -> None:
    check_strategy(METHODS[name], **knobs)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (Spendthrift, "spends between 0.9 N and 1.1 N: sized for 1 it spent 2"),
        (Miser, "spends between 0.9 N and 1.1 N: sized for 4 it spent 2"),
        (Moody, "The graph is the same in whatever order replies come"),
        (Hasty, "Only finished solutions vote, each with its own answer: 'a guess' has a vote after 1 of 5 steps"),
        (Hasty, "Whether a node has ended says the environment: after 1 of 5 steps one is 'terminated'"),
        (Liar, "Only finished solutions vote, each with its own answer: 'a guess' has a vote after 5 of 5 steps"),
        (Silent, "Every knob is described in the docstring, under `Args:`: 'width' is not"),
        (Thawed, "A strategy is a frozen dataclass"),
        (Failing, "A search does not fail: at a budget of 1 it did, with ZeroDivisionError"),
        (Endless, "A search ends by itself when its budget is spent"),
        (Unsized, "`sized` makes a strategy for any budget from 1 on"),
        (dict, "A strategy is a frozen dataclass"),
    ],
)
def test_planted_defects_are_found(kind: type[Strategy], sentence: str) -> None:
    with pytest.raises(NonConforming) as caught:
        check_strategy(kind)
    assert any(sentence in each for each in caught.value.broken), caught.value.broken


def test_a_right_one_of_ones_own_passes() -> None:
    assert dataclasses.is_dataclass(Sampling)
    check_strategy(Sampling)


def test_the_command_line_checks_too(capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    assert main(["check-strategy", "beam branch=2"]) == 0
    assert capsys.readouterr().out == "strategy 'beam branch=2' conforms: no rule is broken\n"
    file = tmp_path / "mine.py"
    file.write_text("from agent import Beam\nclass Mine(Beam):\n    '''Beam by another name.'''\n")
    assert main(["check-strategy", str(file), "--json"]) == 1
    assert re.search(r"'width' is not", capsys.readouterr().out)
    assert main(["check-strategy", "beem"]) == 2
    assert "did you mean 'beam'?" in capsys.readouterr().err
