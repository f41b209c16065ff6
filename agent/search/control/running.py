"""A search under way, as the engine drives it: the strategy, what people asked for, and what comes next.

A strategy is suspended while its request is out. What people ask for is done when a reply is there, between it and the
strategy's next request, which is held back meanwhile: steps that are drawn or written on demand come first, then the
strategy goes on. Where its request was made for a graph that is no longer like that, it is asked for it again
(`agent.search.requests.Again`). The strategy knows nothing of all this.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from agent.search.budget import Budget
from agent.search.control.steering import INFO
from agent.search.requests import Again, Kept, Reply, Request, Search, SubtreeCut, propose, score
from agent.strategies.traits import Traits
from envs.messages import UsageError
from policies.core import Propose, Proposed
from verifiers.voting import Vote

if TYPE_CHECKING:
    from agent.search.control.handle import SearchHandle
    from agent.search.engine import Task
    from agent.search.graph import SearchGraph


@dataclass(frozen=True)
class Chosen:
    """A strategy that is sized, as a search goes on with it.

    Args:
        search: its method.
        vote: how its answer is chosen.
        traits: what it says of itself.
        strategy: its name and knobs, for records.
        temperature: of its samples.
    """

    search: Callable[[SearchGraph], Search[None]]
    vote: Vote
    traits: Traits
    strategy: dict[str, Any]
    temperature: float = 1.0


Work = Callable[[], Search[None] | None]


@dataclass
class Errand:
    """Something that a person asked for, to be done when no request is out.

    Args:
        work: does it, or gives a search that does.
        done: called when it is over, with what it failed of, if it did.
        limited: it ends where the search meets a limit; what a person asks for in so many words does not.
    """

    work: Work
    done: Callable[[Exception | None], None]
    limited: bool = False


class Running:
    """A search under way.

    Args:
        task: what was asked for.
        graph: of the search.
        handle: by which people get at it.
        failure: of the environment, before anything began.

    Attributes:
        budget: the limits that hold now.
        request: the one that is out.
        paused: whether the strategy is held back.
        shared: it shares a budget with other searches.
        ending: a person ended it, and how.
        extended: a person gave it more to do, so that it goes on when the strategy is over, if the budget allows it.
    """

    def __init__(
        self, task: Task, graph: SearchGraph, handle: SearchHandle, failure: Exception | None, spent: float = 0.0
    ) -> None:
        self.task = task
        self.graph = graph
        self.handle = handle
        self.meter = graph.context.meter
        self.budget = task.budget
        self.request: Request | None = None
        self.place = 0  # among those that share a budget
        self.paused = False
        self.extended = False
        self.shared = False
        self.ending: str | None = None
        self.spec: str | None = None  # the strategy that a person chose; None is the one of the task
        self.specs: set[str | None] = {None}  # all that a person has chosen here, and not in a file
        self.errands: deque[Errand] = deque()
        self._errand: tuple[Errand, Search[None]] | None = None
        self._strategy: Search[None] | None = _begin(task, graph, failure)
        self._held: Request | None = None
        self._asked: tuple[int, ...] = ()  # nodes that the request held back goes on from
        self._stale = False
        self._started = time.monotonic() - spent
        self._waited = 0.0  # seconds in pauses that are over
        self._paused_at: float | None = None

    # ------------------------------------------------------------------------------------------------------- clocks

    @property
    def seconds(self) -> float:
        """Since it began, pauses left out."""
        now = time.monotonic() if self._paused_at is None else self._paused_at
        return now - self._started - self._waited

    def pause(self) -> None:
        """Hold the strategy back."""
        self.paused = True
        self._paused_at = time.monotonic()

    def resume(self) -> None:
        """Let it go on."""
        self.paused = False
        if self._paused_at is not None:
            self._waited += time.monotonic() - self._paused_at
            self._paused_at = None

    def late(self) -> bool:
        """Whether its time is over."""
        return not self.paused and self.budget.seconds is not None and self.seconds >= self.budget.seconds

    def limit_met(self, scoring: bool = False) -> str | None:
        """Which limit is met, in words (`Meter.exceeded`), or that it is below what a sample and its scores take."""
        samples = self.graph.samples()
        reason = self.meter.exceeded(self.budget, samples, scoring)
        if reason is None or samples > 1:
            return reason
        limit = reason.removesuffix(" are spent").removesuffix(" are over")
        unscored = self.meter.policy_flops < (self.budget.flops or 0.0)
        return f"{limit} buy less than one sample{' with its scores' if unscored else ''}"

    def left(self, parts: float = 1.0) -> Budget | None:
        """The budget of a strategy that is to spend one of so many parts of what is left; None if that buys nothing.

        Samples are what is left of them. Other limits are met by the meter, which counts from the beginning.
        """
        budget, meter = self.budget, self.meter
        spent = {"tokens": meter.generated + meter.prefilled, "flops": meter.flops, "seconds": self.seconds}
        if any((limit := getattr(budget, name)) is not None and limit <= used for name, used in spent.items()):
            return None
        if budget.samples is None:
            return budget
        samples = round((budget.samples - self.graph.samples()) / parts)
        return replace(budget, samples=samples) if samples >= 1 else None

    def limited(self, request: Propose, parameters: int) -> Propose:
        """A request of whose samples none takes more tokens than what is left of the budget buys."""
        tokens = None if self.busy_for_a_person else self.meter.tokens_left(self.budget, parameters)
        return request if tokens is None else replace(request, tokens=tokens)

    # ------------------------------------------------------------------------------------------------------ driving

    @property
    def wakes(self) -> bool:
        """Whether there is something to do for it in spite of a pause."""
        return bool(self.errands) or not self.paused

    @property
    def busy_for_a_person(self) -> bool:
        """Whether the request that is out is one that no limit ends."""
        return self._errand is not None and not self._errand[0].limited

    def advance(self, reply: Reply | None) -> Request | None:
        """Hand over a reply, if there is one, and return the next request, or None while there is none.

        Raises:
            StopIteration: the search is over.
            Exception: what the strategy raises.
        """
        self.request = None
        if reply is not None and self._errand is not None:
            errand, search = self._errand
            request = self._run(errand, search, reply)
            if request is not None:
                return request
        elif reply is not None and self._strategy is not None:
            self._step(reply)
        return self._next()

    def keep(self, reply: Proposed) -> None:
        """Hand over what there is of the reply to the strategy's request; it asks for nothing more."""
        if self._strategy is not None and self._errand is None:
            self._strategy.send(Kept(reply))

    def _next(self) -> Request | None:
        while self.errands and self._errand is None:
            errand = self.errands.popleft()
            with self._asking_later():
                try:
                    search = errand.work()
                except Exception as error:
                    errand.done(error)
                    continue
                request = None if search is None else self._run(errand, search, None)
                if search is None:
                    errand.done(None)
            if request is not None:
                return request
        while not self.paused:
            if self._held is not None and self._stale and self._asked:
                self._stale = False
                self._step(Again())
            elif self._held is not None:
                request, self._held = self._held, None
                return request
            elif self._strategy is not None:
                self._step(None)
            elif (search := self._further()) is not None:
                self.go_on_with(search)
            else:
                raise StopIteration
        return None

    def _step(self, reply: Reply | None) -> None:
        """Let the strategy work up to its next request, or its end."""
        assert self._strategy is not None
        try:
            self._held = next(self._strategy) if reply is None else self._strategy.send(reply)
            self._asked = self.graph.steering.asked
        except StopIteration:
            self._strategy = self._held = None

    def _run(self, errand: Errand, search: Search[None], reply: Reply | None) -> Request | None:
        """Let what a person asked for work up to its next request; None when it is over."""
        try:
            request = next(search) if reply is None else search.send(reply)
        except StopIteration:
            self._errand = None
            self._stale = True
            errand.done(None)
            return None
        except Exception as error:
            self._errand = None
            self._stale = True
            errand.done(error)
            return None
        self._errand = errand, search
        return request

    @contextmanager
    def _asking_later(self) -> Iterator[None]:
        """What a person asks for leaves no trace in what the strategy asked for."""
        self.graph.steering.asked = ()
        yield
        self._stale = True

    # --------------------------------------------------------------------------------------------- what people change

    def changed(self) -> None:
        """The graph is no longer as the request that is held back takes it to be."""
        self._stale = True

    def goes_on_from(self, node: int) -> bool:
        """Whether the strategy is at work on a node: its request, out or held back, goes on from there."""
        return node in (self._asked if self._held is not None else self.graph.steering.asked)

    def go_on_with(self, search: Search[None]) -> None:
        """Let another strategy take the place of the one at work."""
        if self._strategy is not None:
            self._strategy.close()
        self._strategy, self._held, self._asked = search, None, ()
        self.graph.steering.asked = ()
        self.meter.grace = 0.0
        if (plan := self.graph.info.pop("plan", None)) is not None:
            self.graph.info.setdefault("plans_before", []).append(plan)

    def begin_anew(self) -> None:
        """Let the strategy of now, from its beginning, take the place of the one at work."""
        self.go_on_with(self.fresh())

    @property
    def temperature(self) -> float:
        """Of the samples of the strategy at work."""
        return 1.0 if self.task.choose is None else self.choose(None, self.left() or Budget(samples=1)).temperature

    def choose(self, spec: str | None, budget: Budget) -> Chosen:
        """The strategy of a name with knobs, or the one at work, sized for a budget.

        Raises:
            UsageError: the name or a knob is wrong, or the search has no strategy that could be chosen anew.
        """
        if self.task.choose is None:
            raise UsageError("the strategy of this search cannot be changed: it was given as a function")
        return self.task.choose(spec if spec is not None else self.spec, budget)

    def fresh(self, parts: float = 1.0, nodes: Sequence[int] = ()) -> Search[None]:
        """The strategy from its beginning, for what is left of the budget, below some nodes or else from the root.

        Where nothing has finished, the most promising path is finished first: only then it is known what a solution
        takes, and how many of them what was spent so far is worth. Candidates that were there before keep their vote:
        what a strategy drops is its own.
        """
        graph, steering = self.graph, self.graph.steering
        places = [node for node in nodes or steering.only or (graph.root,) if not steering.cuts(node)]
        if places and not graph.finished() and len(graph) > 1:
            yield from self._finish(places)
        for place, node in enumerate(places):
            budget = self.left(parts * (len(places) - place))
            if budget is None or graph.status(node) != "running":
                continue
            before = graph.finished()
            try:
                with suppress(SubtreeCut):
                    yield from self.choose(None, budget).search(below(graph, node))
            finally:
                for each in before:
                    graph[each]["pruned"] = False

    def _finish(self, places: Sequence[int]) -> Search[None]:
        """Draw the rest of the most promising path below some nodes."""
        graph = self.graph
        open_ends = [node for node in graph.graph if graph.status(node) == "running" and not graph.children(node)]
        ends = [node for node in open_ends if not {*places}.isdisjoint(graph.path(node))]
        best = max(ends or places, key=lambda node: (not graph[node].pruned, graph[node].score or 0.0, -node))
        ((end,),) = yield from propose(graph, [best], 1, self.temperature, max_steps=None)
        if graph.context.verifier is not None and graph.context.vote.rule != "majority":
            yield from score(graph, [end])

    def _further(self) -> Search[None] | None:
        """How the search goes on after its strategy is over, where a person gave it more to do."""
        if not self.extended or self.task.choose is None:
            return None
        self.extended = False
        return None if self.left() is None else self.fresh()

    def record(self, what: str, who: str, facts: dict[str, Any]) -> dict[str, Any]:
        """Write down what a person did, and return the record."""
        made = {
            "what": what,
            **facts,
            "who": who,
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "seconds": round(self.seconds, 3),
            "samples": round(self.graph.samples(), 4),
            "nodes": len(self.graph),
        }
        self.graph.info.setdefault(INFO, []).append(made)
        return made

    def close(self, error: Exception) -> None:
        """End all that is under way; what people asked for and is not done fails with the error."""
        if self._errand is not None:
            self._errand[1].close()
            self._errand[0].done(error)
            self._errand = None
        while self.errands:
            self.errands.popleft().done(error)
        if self._strategy is not None:
            self._strategy.close()


def _begin(task: Task, graph: SearchGraph, failure: Exception | None) -> Search[None]:
    """The search as a generator, whatever kind of callable it is: what it raises, it raises when it is driven."""
    if failure is not None:
        raise failure
    yield from task.search(graph)


class _Below:
    """A graph whose root, to a strategy, is another of its nodes."""

    def __init__(self, graph: SearchGraph, root: int) -> None:
        self._graph = graph
        self.root = root

    def __getattr__(self, name: str) -> Any:
        return getattr(self._graph, name)

    def __getitem__(self, node: int) -> Any:
        return self._graph[node]

    def __len__(self) -> int:
        return len(self._graph)


def below(graph: SearchGraph, node: int) -> SearchGraph:
    """A graph as a strategy sees it that is to search below a node alone."""
    return graph if node == graph.root else cast("SearchGraph", _Below(graph, node))
