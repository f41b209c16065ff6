"""Looking at a search, one that is paused or the last one: its tree, its nodes, its answers."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING

from rich.text import Text

from agent.interface.session.command import Command, number
from agent.interface.terminal.live_tree import LiveTree
from agent.interface.text import brief, unicode_of, visible
from agent.interface.tree_explained import alternatives_view, answer_view, explain_node
from agent.interface.tree_view import answers_view
from agent.search.solution import Solution
from envs.messages import UsageError

if TYPE_CHECKING:
    from agent.interface.session.session import Session
    from agent.search.graph import SearchGraph

_COPIED = 100_000  # characters; terminals refuse more
_REPLAY = 20.0  # seconds that a replay takes at most


def show_tree(session: Session, text: str) -> None:
    """Print the tree below the node that `/goto` chose: all of it, or its N most promising rows."""
    rows = number(text)
    if text and rows is None:
        raise UsageError(f"/tree {brief(text, 40)}: expected a number of rows, or nothing for the whole tree")
    session.print_tree(rows)


def show_why(session: Session, text: str) -> None:
    """Print what is known about a node, or without one about the answer."""
    unicode = unicode_of(session.console)
    if not text and not session.focus:
        session.console.print(session.look(lambda graph: answer_view(graph, unicode)))
        return
    node = session.node(text, "/why")
    session.console.print(session.look(lambda graph: explain_node(graph, node, unicode)))


def show_alternatives(session: Session, text: str) -> None:
    """Print the alternatives to a node."""
    node, unicode = session.node(text, "/alt"), unicode_of(session.console)
    session.console.print(session.look(lambda graph: alternatives_view(graph, node, unicode)))


def show_answers(session: Session, text: str) -> None:
    """Print every answer."""

    def view(graph: SearchGraph) -> object:
        solution = session.solution if session.run is None else Solution.of(graph)
        if solution is None or not solution.groups:
            raise UsageError("no candidate finished, so there are no answers; /tree shows what there is")
        return answers_view(solution, unicode_of(session.console))

    session.console.print(session.look(view))


def go_to(session: Session, text: str) -> None:
    """Make a node the current one, for the commands that take a node; without one, the root."""
    node = session.node(text, "/goto") if text else 0
    session.look(lambda graph: graph.path(node) if node < len(graph) else _missing(graph, node))
    session.focus = node
    session.print_tree(session.kept_rows)


def _missing(graph: SearchGraph, node: int) -> None:
    raise UsageError(f"no node {node}; the tree has nodes 0 to {len(graph) - 1}")


def copy(session: Session, text: str) -> None:
    """Put the steps up to a node into the clipboard of the terminal; without a node, those of the answer."""
    node = session.node(text, "/copy") if text or session.focus else None

    def steps(graph: SearchGraph) -> str:
        chosen = graph.choice().node if node is None else node
        if chosen is None or chosen >= len(graph):
            raise UsageError("/copy: there is no such node, and no answer yet")
        return "\n".join(visible(graph[each].text) for each in graph.path(chosen)[1:])

    copied = session.look(steps)[:_COPIED]
    if not session.console.is_terminal or session.console.is_dumb_terminal:
        session.console.print(copied, soft_wrap=True)
        return
    # OSC 52: what is copied is visible text, so that pasting it into a shell or an editor does nothing of its own
    packed = base64.b64encode(copied.encode("utf-8", "replace")).decode()
    session.console.file.write(f"\x1b]52;c;{packed}\x07")
    session.console.file.flush()
    session.say(Text(f"copied {len(copied)} characters, if the terminal allows it", style="dim"))


def replay(session: Session, text: str) -> None:
    """Show how the tree of a search grew: of a file, of the history, or of the last one."""
    words = text.split()
    speed = 1.0
    if words and (found := _speed(words[-1])) is not None and (len(words) > 1 or "x" in words[-1]):
        speed = found
        words = words[:-1]
    if words:
        session.refuse_in_pause("another search cannot be replayed")
    solution = session.opened(" ".join(words)) if words else session.last()
    graph = solution.graph
    if not session.console.is_interactive or session.console.is_dumb_terminal:
        raise UsageError("/replay needs a terminal that can draw; /tree shows the tree")
    seconds = min(_REPLAY, max(1.0, float(solution.spent.get("seconds", 0.0)))) / speed
    hint = "replay; Ctrl-C ends it. Scores are those of the end of the search"
    begun = time.monotonic()
    with LiveTree(session.console, hint) as live:
        while (passed := time.monotonic() - begun) < seconds:
            live.show(graph, max(1, round(len(graph) * passed / seconds)), passed * speed)
            time.sleep(0.1)
        live.show(graph, len(graph), seconds * speed)
        time.sleep(0.5)
    if solution is not session.solution:
        session.solution, session.focus = solution, 0
    session.print_tree(session.kept_rows)


def _speed(word: str) -> float | None:
    """A speed, as ``2`` or ``2x``."""
    try:
        speed = float(word.rstrip("x"))
    except ValueError:
        return None
    return speed if 0 < speed <= 1000 else None


LOOKING = {
    "/tree": Command(show_tree, "[ROWS]", "the tree of the search; with ROWS only its most promising rows"),
    "/why": Command(show_why, "[NODE]", "the answer: votes, runner-up; a node: path, scores, why it was dropped"),
    "/alt": Command(show_alternatives, "[NODE]", "the alternatives to a node, with prior and score"),
    "/answers": Command(show_answers, "", "every answer, with its votes and its score"),
    "/goto": Command(go_to, "[NODE]", "make a node the current one, for all that takes a NODE (or write .)"),
    "/copy": Command(copy, "[NODE]", "copy the steps up to a node, or of the answer"),
    "/replay": Command(replay, "[FILE | N] [SPEED]", "how the tree grew, e.g. /replay 12 2x"),
}
"""Commands that change nothing."""
