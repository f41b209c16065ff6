"""A search as its client is told of it: lines while it runs, and at the end content, plan, confidence and cost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from agent.interface.server.core import Progress, Refused, Result, Usage
from agent.interface.server.engine.protocol import Order
from agent.interface.text import brief, visible
from agent.search.engine import UNAVAILABLE
from agent.search.graph import SearchGraph
from envs.core import State, render

_EVERY, _SELDOM = 0.5, 10.0  # seconds between two lines, at least, and where a search takes long
_SHARE = 50  # times as long as a line took to make, until the next
_MOST = 200_000  # characters of all lines
_VOTES = 8  # answers that are listed
_ENDED = {"finished", "error", UNAVAILABLE}


class Reporter:
    """Says how a search goes: called by the engine after each reply, now and then it posts a line.

    Args:
        index: of the choice.
        post: takes a line, in the engine's thread.

    Attributes:
        text: all lines so far.
    """

    def __init__(self, index: int, post: Callable[[Progress], None]) -> None:
        self.index, self.post = index, post
        self.text = ""
        self._next = 0.0
        self._began = 0.0
        self._told = 0  # reasons of the plan
        self._last = ""

    def __call__(self, graph: SearchGraph) -> None:
        """After a reply."""
        now = time.monotonic()
        self._began = self._began or now
        if now >= self._next:
            self._say([*self._reasons(graph), *self._state(graph)])
            after = time.monotonic()
            pause = min(max(_EVERY, (after - self._began) / 4), _SELDOM)
            self._next = after + max(pause, _SHARE * (after - now))

    def conclude(self, graph: SearchGraph, steps: Sequence[str]) -> None:
        """At the end, in whichever thread."""
        head = ["The solution that leads:"] if steps else []
        self._say([*self._reasons(graph), *self._state(graph), *head, *steps])

    def _say(self, lines: Sequence[str]) -> None:
        text = "".join(f"{line}\n" for line in lines)
        if text and len(self.text) + len(text) <= _MOST:
            self.text += text
            self.post(Progress(self.index, text))

    def _reasons(self, graph: SearchGraph) -> list[str]:
        reasons = (graph.info.get("plan") or {}).get("reasons", [])
        new, self._told = reasons[self._told :], len(reasons)
        return [visible(reason) for reason in new]

    def _state(self, graph: SearchGraph) -> list[str]:
        choice, budget = graph.choice(), graph.context.budget
        most = "" if budget.samples is None else f" of {budget.samples:g}"
        finished = sum(graph.count(node) for node in graph.finished())
        line = f"{graph.samples():.1f}{most} samples, {finished} solutions"
        if choice.answer is not None:
            line += f"; the answer {brief(visible(choice.answer), 80)} leads with {choice.confidence:.0%} of the vote"
        if (underway := graph.underway) is not None and underway.ended:
            line += f"; {underway.ended} of {underway.asked} samples under way have ended"
            if underway.leading is not None:
                line += f", {underway.leading[1]} with the answer {brief(visible(underway.leading[0]), 80)}"
        if line == self._last or not (graph.generated or underway):
            return []
        self._last = line
        return [line]


def result_of(order: Order, graph: SearchGraph, links: Mapping[str, str], reporter: Reporter) -> Result:
    """What a search that is over found.

    Raises:
        Refused: it failed.
    """
    if "error" in graph.info:
        raise _failure(graph)
    choice, info = graph.choice(), graph.info
    spent = info["spent"]
    path = [] if choice.node is None else graph.path(choice.node)[1:]
    steps = [visible(graph[node]["text"]) for node in path]
    reporter.conclude(graph, [] if order.content == "solution" else steps)
    given_up = bool((info.get("plan") or {}).get("abstained"))
    abstained = choice.answer is None or given_up or choice.confidence < order.abstain_below
    content, refusal, cut = "", None, None
    if choice.answer is None:
        refusal = f"no answer was found: {info['stopped']}" if order.form else None
    elif given_up:
        refusal = "the planner abstains: no answer is probable enough; its best guess is in the field stepwell"
    elif abstained:
        refusal = f"the confidence is {choice.confidence:.2f}, below {order.abstain_below:g}"
    else:
        content, refusal, cut = _content(graph, choice.answer, choice.node, order)
    about = {
        "answer": choice.answer,
        "confidence": round(choice.confidence, 4),
        "abstained": abstained,
        "strategy": info.get("strategy"),
        "plan": info.get("plan"),
        "stopped": info["stopped"],
        "votes": [
            {"answer": group.answer, "weight": round(group.weight, 5), "count": group.count}
            for group in choice.groups[:_VOTES]
        ],
        "spent": dict(spent),
        **links,
        **({"notes": list(order.notes)} if order.notes else {}),
    }
    limited = choice.answer is None and info["stopped"] not in _ENDED
    usage = Usage.of(spent, sum(graph[node]["length"] for node in path))
    finish: Literal["stop", "length"] = "length" if limited else "stop"
    return Result(order.index, content, refusal, finish, usage, reporter.text, about, cut)


def _content(graph: SearchGraph, answer: str, node: int | None, order: Order) -> tuple[str, str | None, str | None]:
    """What is said, why nothing is, and the stop text before which it ends."""
    if order.form is not None:
        filled = order.form.fill(answer)
        if filled is None:
            return "", f"the answer {brief(answer)!r} is no {order.form.kind}", None
        return json.dumps(filled), None, None
    text = answer
    if order.content == "solution" and node is not None:
        state = graph.state(node)
        before = render(graph.environment, State(state.problem, (), state.attempts))
        text = render(graph.environment, state)[len(before) :].strip()
    text = text.encode("utf-8", "replace").decode()  # half a surrogate pair is no text: it becomes "?"
    found = [(at, stop) for stop in order.stop if (at := text.find(stop)) >= 0]
    at, stop = min(found, default=(len(text), None))
    return text[:at], None, stop


def _failure(graph: SearchGraph) -> Refused:
    """A search that failed, as a client may be told: nothing about the machines behind the server."""
    kind, _, message = str(graph.info["error"]).partition(": ")
    if graph.info["stopped"] == UNAVAILABLE:
        return Refused(503, "a model could not be reached; the log of the server says more", retry_after=10)
    if kind in ("ValueError", "UsageError"):
        return Refused(400, brief(visible(message), 500))
    return Refused(500, "the search failed; the log of the server says why")
