"""The line of figures on a search under way."""

from agent.interface.tree_view import status_row
from agent.search.budget import Budget
from agent.search.context import RunContext, Underway
from agent.search.graph import SearchGraph
from envs.toy import Toy

TOY = Toy()


def line(underway: Underway | None) -> str:
    graph = SearchGraph(TOY, TOY.problems("test", 1)[0], context=RunContext(budget=Budget(samples=8)))
    graph.underway = underway
    return "".join(text for text, _ in status_row(graph, 2.0))


def test_while_a_reply_is_awaited_it_says_what_there_is() -> None:
    assert line(None) == "0.0 of 8 samples · 0 nodes · 0 finished · 2.0 s"
    assert line(Underway(8, 0)) == "0.0 of 8 samples · 0 of 8 have ended · 0 nodes · 0 finished · 2.0 s"
    told = line(Underway(8, 4, ("7", "12", "12")))
    assert told == "so far: 12 (2 of 4)  0.0 of 8 samples · 4 of 8 have ended · 0 nodes · 0 finished · 2.0 s"


def test_an_answer_so_far_is_shown_as_text_alone() -> None:
    assert line(Underway(1, 1, ("\x1b[2J" + "9" * 100,))).startswith("so far: \\x1b[2J999")
    assert "\x1b" not in line(Underway(1, 1, ("\x1b[2J",)))
