"""What the lines about a search say."""

from agent.interface.server.core import Progress
from agent.interface.server.engine.outcome import Reporter
from agent.search.budget import Budget
from agent.search.context import RunContext, Underway
from agent.search.graph import SearchGraph
from envs.toy import Toy

TOY = Toy()


def said(*states: Underway | None) -> list[str]:
    """The lines for states of a reply that is awaited, as if there was time between them."""
    graph = SearchGraph(TOY, TOY.problems("test", 1)[0], context=RunContext(budget=Budget(samples=8)))
    posted: list[Progress] = []
    reporter = Reporter(0, posted.append)
    for state in states:
        graph.underway = state
        reporter._next = 0.0
        reporter(graph)
    return "".join(each.text for each in posted).splitlines()


def test_samples_that_have_ended_are_told_before_the_reply_is_complete() -> None:
    assert said(None) == []
    assert said(Underway(8, 0), Underway(8, 0), Underway(8, 3, ("7", "12", "12")), Underway(8, 4)) == [
        "0.0 of 8 samples, 0 solutions",
        "0.0 of 8 samples, 0 solutions; 3 of 8 samples under way have ended, 2 with the answer 12",
        "0.0 of 8 samples, 0 solutions; 4 of 8 samples under way have ended",
    ]
    (line,) = said(Underway(1, 1, ("\x1b[2J",)))
    assert "\x1b" not in line
