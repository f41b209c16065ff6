"""The engine: the only place that waits. It drives many searches at once over one policy and one verifier.

Each search is a generator with at most one request out. Requests of all searches are in the services' hands together,
so that they share batches, and a search goes on as soon as its own reply is there: no rounds, nothing waits for the
slowest. Every reply is charged to its search's meter, and a search that meets a limit ends with what it has.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from loguru import logger

from agent.search.budget import Budget
from agent.search.context import Outcome, Part, RunContext, Underway
from agent.search.control.handle import SearchHandle, SearchOver, Surface
from agent.search.control.running import Chosen, Running
from agent.search.graph import SearchGraph
from agent.search.requests import Reply, Search
from agent.search.shared_budget import Allocation, Bid, Granted, Spent
from agent.search.step_by_step import StepByStep
from envs.core import Environment, Problem, State
from envs.digest import environment_digest
from envs.guarded import Guarded, guard
from envs.plugins import UnusablePart
from policies.core import (
    ConfidenceRecorder,
    Converser,
    DistinctSampler,
    LargePolicyHolder,
    PartialReplier,
    Policy,
    Propose,
    Proposed,
    Thinker,
)
from policies.service import Identified
from verifiers.core import Comparer, ConfidenceReader, Score, Scored, Verifier
from verifiers.voting import Vote

UNAVAILABLE = "unavailable"
"""Why a search ended whose model could not be reached: the one failure that may pass by itself."""
STOPPED = "stopped"
"""Why searches ended that `Engine.stop` ended."""
_LOOK = 0.5  # seconds between two looks at what there is of replies that are awaited
_VERIFIER_BATCH = 64  # states; fewer wait while the policy has work, so that the verifier's batches are worth it


@dataclass(frozen=True)
class Task:
    """One search to run.

    Args:
        problem: what to solve.
        search: a strategy's `search` method, or any function from a graph to a search.
        budget: its limits.
        seed: of its samples.
        vote: how its answer is chosen.
        info: further facts to record in ``graph.info``.
        on_change: called after each reply, and now and then while one is awaited, for live displays; it must not
            change the graph.
        choose: the strategy of a name with knobs (None: the one that `search` is of), sized for a budget; without it,
            people cannot change the strategy of the search, nor give it a larger budget to spend.
        graph: a search that is over, to go on from: it is searched further, and what it cost counts.
    """

    problem: Problem
    search: Callable[[SearchGraph], Search[None]]
    budget: Budget = field(default_factory=Budget)
    seed: int = 0
    vote: Vote = field(default_factory=Vote)
    info: dict[str, Any] = field(default_factory=dict)
    on_change: Callable[[SearchGraph], None] | None = None
    choose: Callable[[str | None, Budget], Chosen] | None = None
    graph: SearchGraph | None = None


def _record_confidence(policy: object, verifier: object) -> None:
    """Have the policy record its confidence where the verifier reads it; raises UnusablePart where it cannot."""
    if not isinstance(verifier, ConfidenceReader) or verifier.top is None:
        return
    if not isinstance(policy, ConfidenceRecorder):
        raise UnusablePart(
            "the verifier reads how sure the policy is of its tokens, and this policy does not tell; the lab's, hf:,"
            " vllm: and openai: policies do"
        )
    policy.record_confidence(verifier.top)


class Engine:
    """Runs searches over a policy and a verifier, which it does not close.

    Args:
        environment: of the problems. One that does not ship is guarded (`envs.guarded`), and the policy is then asked
            for one step at a time (`agent.search.step_by_step`), so that no search waits for the transitions of
            another.
        policy: proposes steps.
        verifier: scores them; None will do for strategies that never ask (greedy, majority).
        surface: lists its searches, for people and programs that steer them; one of its own if not given.

    Attributes:
        surface: the same; it may be set while nothing runs.

    Raises:
        ValueError: the verifier reads the policy's confidence, and the policy does not tell it.
    """

    def __init__(
        self,
        environment: Environment,
        policy: Policy,
        verifier: Verifier | None = None,
        surface: Surface | None = None,
    ) -> None:
        _record_confidence(policy, verifier)
        self.environment = guard(environment)
        self.policy = StepByStep(policy, self.environment) if isinstance(self.environment, Guarded) else policy
        self.verifier = verifier
        self.large = isinstance(policy, LargePolicyHolder) and policy.has_large
        self.compares = verifier is not None and isinstance(verifier, Comparer) and verifier.compares
        self._thinks = isinstance(policy, Thinker) and policy.thinks
        self._converses = isinstance(policy, Converser) and policy.converses
        self._distinct = isinstance(self.policy, DistinctSampler) and self.policy.distinct
        self._digests: dict[Part, str] = {}
        self.surface = surface or Surface()
        self._stopping = threading.Event()
        self._news = threading.Event()
        self._submitted: deque[SearchHandle] = deque()
        self._mail: deque[SearchHandle] = deque()
        self._tickets = 0
        self._next_look = 0.0
        self._warned = False

    def digest(self, part: Part) -> str:
        """What tells a part from others under the same name, worked out once; empty if that is not known."""
        if part not in self._digests:
            service = self.policy if part == "policy" else self.verifier
            if part == "environment":
                self._digests[part] = environment_digest(self.environment)
            else:
                self._digests[part] = service.digest() if isinstance(service, Identified) else ""
        return self._digests[part]

    def stop(self) -> None:
        """End all searches cleanly, from any thread; `run` yields each with what it has."""
        self._stopping.set()
        self._news.set()

    def submit(self, task: Task) -> SearchHandle:
        """Hand over a search, from any thread, also while `run` is at work; it begins when there is room.

        Searches that are submitted are begun before further ones of the tasks that `run` was given. Submitted while
        nothing runs, they wait for the next `run`.
        """
        handle = self.surface.open(task, self._post)
        self._submitted.append(handle)
        self._news.set()
        return handle

    def _post(self, handle: SearchHandle) -> None:
        self._mail.append(handle)
        self._news.set()

    def run(
        self,
        tasks: Iterable[Task] = (),
        concurrency: int = 64,
        allocation: Allocation | None = None,
        stay: bool = False,
    ) -> Iterator[SearchGraph]:
        """Run searches, at most `concurrency` at once, and yield each graph when its search is over.

        ``graph.info`` then holds ``answer``, ``confidence``, ``node`` (the chosen trajectory), ``spent``, ``stopped``
        and, when something raised, ``error``; the other searches go on. ``stopped`` is then ``error``, or
        ``unavailable`` where trying again later may help: a model could not be reached.

        Args:
            tasks: what to run.
            concurrency: most searches that wait for a reply at once.
            allocation: of one budget to all of them; bids are answered once all have begun and none is at work.
            stay: do not end when all is done, but wait for what is submitted, until `stop`.

        Raises:
            ValueError: concurrency below 1.
        """
        if concurrency < 1:
            raise ValueError(f"concurrency {concurrency} given; allowed: 1 or more")
        self._stopping.clear()
        waiting_tasks = iter(tasks)
        asked: dict[int, Running] = {}  # by ticket
        proposing: set[int] = set()
        scoring: dict[int, int] = {}  # ticket: states
        ready: deque[Running] = deque()  # that somebody spoke to before their turn
        parked: dict[Running, None] = {}  # paused, with nothing out
        exhausted = False
        bidding: list[Running] = []
        begun: list[Running] = []  # all, where they share a budget
        done: list[SearchGraph] = []

        def go_on(search: Running, reply: Reply | None) -> None:
            try:
                if isinstance(reply, Proposed | Scored):
                    search.meter.charge(reply)
                search.meter.seconds = search.seconds
                search.graph.underway = None
                request = search.advance(reply)
                search.meter.seconds = search.seconds
                if reply is not None:
                    search.handle.went_on(search)
                if search.task.on_change is not None:
                    search.task.on_change(search.graph)
                if request is None:
                    parked[search] = None
                    return
                to_score = isinstance(request, Score)
                if not search.busy_for_a_person and (reason := search.limit_met(to_score)) is not None:
                    done.append(self._end(search, reason))
                    return
                self._tickets += 1
                search.request = request
                if isinstance(request, Bid):
                    if allocation is None:
                        raise ValueError("the strategy bids for a share of a budget, but there is none to share")
                    bidding.append(search)
                    return
                if isinstance(request, Propose):
                    search.request = request = search.limited(request, self.policy.parameters)
                    if request.distinct and not self._distinct:
                        raise ValueError(
                            f"policy {self.policy.name!r} cannot draw distinct samples; leave distinct out"
                        )
                    if request.large and not self.large:
                        raise ValueError(
                            f"the strategy asks a large policy, and there is {self.policy.name!r} alone; give a"
                            " --large-policy"
                        )
                    self.policy.submit(self._tickets, request)
                    proposing.add(self._tickets)
                elif self.verifier is None:
                    raise ValueError("the strategy asks for scores, but there is no verifier")
                elif request.groups and not self.compares:
                    name = self.verifier.name
                    raise ValueError(f"the strategy has solutions compared, and {name!r} scores each by itself")
                else:
                    self.verifier.submit(self._tickets, request)
                    scoring[self._tickets] = len(request.states)
                asked[self._tickets] = search
            except StopIteration:
                too_dear = search.graph.samples() <= 1 and search.limit_met()
                done.append(self._end(search, too_dear or "finished"))
            except Exception as error:
                done.append(self._end(search, "error", error))

        def end_asked(ticket: int, reason: str, error: Exception | None = None) -> None:
            if error is None and ticket in proposing:
                self._keep(ticket, asked[ticket])
            proposing.discard(ticket)
            scoring.pop(ticket, None)
            done.append(self._end(asked.pop(ticket), reason, error))

        def deliver(ticket: int, reply: Reply | Exception) -> None:
            if ticket not in asked:
                return
            if isinstance(reply, Exception):
                end_asked(ticket, "error", reply)
            else:
                search = asked.pop(ticket)
                proposing.discard(ticket)
                scoring.pop(ticket, None)
                go_on(search, reply)

        def allocate(allocation: Allocation) -> None:
            """Answer bids, now that no search is at work; those that get nothing wait while others do."""
            bidding.sort(key=lambda search: search.place)
            bids = [search.request for search in bidding if isinstance(search.request, Bid)]
            spent = Spent(sum(each.graph.samples() for each in begun), sum(each.meter.cost for each in begun))
            taken = allocation.decide(bids, spent)
            over = all(offer is None for offer in taken)
            granted = [
                (search, offer) for search, offer in zip(bidding, taken, strict=True) if over or offer is not None
            ]
            bidding[:] = [search for search, offer in zip(bidding, taken, strict=True) if not over and offer is None]
            for search, offer in granted:
                go_on(search, Granted(offer))

        def read_mail() -> None:
            """Let people have their say; what they ask for is done here, in the engine's thread."""
            while self._mail:
                handle = self._mail.popleft()
                if handle in self._submitted:  # it has to wait for its turn, and who asks has not
                    self._submitted.remove(handle)
                    ready.append(self._start(handle, allocation is not None))
                search = handle.running
                if search is None:  # it is over
                    continue
                handle.read()
                if search.ending is not None:
                    ticket = next((ticket for ticket, each in asked.items() if each is search), None)
                    if ticket is not None:
                        end_asked(ticket, search.ending)
                        continue
                    parked.pop(search, None)
                    if search in ready:
                        ready.remove(search)
                    bidding[:] = [each for each in bidding if each is not search]
                    done.append(self._end(search, search.ending))
                elif search in parked and search.wakes:
                    del parked[search]
                    go_on(search, None)

        def poll(service: Policy | Verifier, tickets: Iterable[int]) -> bool:
            replies: Sequence[tuple[int, Proposed | Scored | Exception]]
            try:
                replies = service.poll()
            except Exception as error:
                suspects = sorted(tickets)
                replies, failures = self._one_by_one(service, {ticket: asked[ticket] for ticket in suspects}, error)
                for ticket, failure in failures.items():
                    end_asked(ticket, "error", failure)
            read_mail()  # what was asked for while the model computed comes before what it found
            for ticket, reply in replies:
                deliver(ticket, reply)
            return bool(replies)

        def begin() -> bool:
            """Begin the next search, if there is one."""
            nonlocal exhausted
            if ready:
                search = ready.popleft()
            elif self._submitted:
                search = self._start(self._submitted.popleft(), allocation is not None)
            else:
                task = None if exhausted else next(waiting_tasks, None)
                if task is None:
                    exhausted = True
                    return False
                search = self._start(self.surface.open(task, self._post), allocation is not None)
            if allocation is not None:
                search.place = len(begun)
                begun.append(search)
            go_on(search, None)
            return True

        try:
            while True:
                read_mail()
                while len(asked) < concurrency and not self._stopping.is_set() and begin():
                    yield from done  # one that needed nothing is over
                    done.clear()
                yield from done
                done.clear()
                if self._stopping.is_set():
                    for ticket in list(asked):
                        end_asked(ticket, STOPPED)
                    while self._submitted:
                        ready.append(self._start(self._submitted.popleft(), allocation is not None))
                    done += [self._end(search, STOPPED) for search in (*bidding, *parked, *ready)]
                    for rest in (bidding, parked, ready):
                        rest.clear()
                    yield from done
                    return
                if not asked:
                    if self._mail or self._submitted or ready:
                        continue
                    if parked or stay:
                        self._news.wait()
                        self._news.clear()
                    elif exhausted and allocation is not None and bidding:
                        allocate(allocation)
                    elif exhausted:
                        return
                    continue
                answered = poll(self.policy, proposing) if proposing else False
                if not answered and time.monotonic() >= self._next_look:
                    self._next_look = time.monotonic() + _LOOK
                    for ticket in list(proposing):
                        try:
                            self._look(ticket, asked[ticket])
                        except Exception as error:  # of the display, or of the environment: the others go on
                            end_asked(ticket, "error", error)
                if scoring and self.verifier is not None:
                    enough = sum(scoring.values()) >= _VERIFIER_BATCH
                    if enough or not answered:
                        poll(self.verifier, scoring)
                for ticket in [ticket for ticket, search in asked.items() if search.late()]:
                    end_asked(ticket, f"{asked[ticket].budget.seconds:g} seconds are over")
        finally:
            for search in (*asked.values(), *bidding, *parked, *ready):  # the caller left the loop
                search.close(SearchOver("the searches were left"))
                self._release(search)
                search.handle.end(None)

    def _partial(self, ticket: int) -> Proposed | None:
        """What there is of a reply of the policy."""
        try:
            return self.policy.partial(ticket) if isinstance(self.policy, PartialReplier) else None
        except Exception as error:  # of a plug-in; the reply itself will tell
            logger.debug("{} does not tell what it has so far: {}", self.policy.name, error)
            return None

    def _look(self, ticket: int, search: Running) -> None:
        """Let a display know that a reply is awaited, and what there is of it."""
        if search.task.on_change is None:
            return
        search.meter.seconds = search.seconds
        reply = self._partial(ticket)
        if reply is not None:
            places = [(i, j) for i, each in enumerate(reply.samples) for j, steps in enumerate(each) if steps]
            answers = [self._told(reply, i, j) for i, j in places] if reply.transitions else []
            known = tuple(answer for answer in answers if answer is not None)
            search.graph.underway = Underway(sum(map(len, reply.samples)), len(places), known)
        search.task.on_change(search.graph)

    def _told(self, reply: Proposed, i: int, j: int) -> str | None:
        """The answer of a sample, where the policy has asked the environment for all of its transitions."""
        after = reply.transitions[i][j]
        return self.environment.answer(after[-1].state) if len(after) == len(reply.samples[i][j]) else None

    def _keep(self, ticket: int, search: Running) -> None:
        """Give a search that ends in the midst of a request what there is of the reply."""
        reply = self._partial(ticket)
        if reply is None or not any(steps for samples in reply.samples for steps in samples):
            return
        search.meter.charge(reply)
        try:
            search.keep(reply)
        except Exception as error:  # of an environment, or of a strategy that reads replies itself
            logger.debug("{}: what there is of a reply cannot be kept: {}", search.graph.problem.id, error)

    def _one_by_one(
        self, service: Policy | Verifier, searches: dict[int, Running], error: Exception
    ) -> tuple[list[tuple[int, Any]], dict[int, Exception]]:
        """After a poll that raised: ask again for each search by itself, so that only the one at fault fails.

        Returns:
            The replies, and the failures by ticket. A search that is stopped or out of time has neither.
        """
        if len(searches) == 1:
            return [], dict.fromkeys(searches, error)
        for search in searches.values():
            self._cancel(service, search)
        replies: list[tuple[int, Any]] = []
        failures: dict[int, Exception] = {}
        for ticket, search in searches.items():
            try:
                service.submit(ticket, search.request)  # type: ignore[arg-type]
                came: Sequence[tuple[int, Any]] = ()
                while not came and not self._stopping.is_set() and not search.late():
                    came = service.poll()
                replies += came
            except Exception as failure:
                self._cancel(service, search)
                failures[ticket] = failure
        return replies, failures

    def _start(self, handle: SearchHandle, shared: bool) -> Running:
        self._tickets += 1
        task, scope, spent = handle.task, str(self._tickets), 0.0
        state, failure = State(task.problem), None
        context = RunContext(
            self.policy.name,
            self.policy.parameters,
            self._thinks,
            self._distinct,
            None if self.verifier is None else self.verifier.name,
            task.budget,
            task.vote,
            self.digest,
            0 if self.verifier is None else self.verifier.parameters,
            policy_large=self.large,
            verifier_compares=self.compares,
        )
        if task.graph is not None:
            graph = task.graph
            spent = context.meter.take_up(graph.info.get("spent", {}))
            graph.go_on(scope, context)
        else:
            try:
                if task.problem.conversation and not self._converses:
                    raise ValueError(f"policy {self.policy.name!r} cannot be shown the turns of a conversation")
                state = self.environment.initial(task.problem)
            except Exception as error:
                failure = error
            graph = SearchGraph(self.environment, task.problem, task.seed, scope, state, context)
        graph.info |= context.to_info() | task.info
        search = Running(task, graph, handle, failure, spent)
        search.shared = shared
        handle.begin(search)
        return search

    def _end(self, search: Running, reason: str, error: Exception | None = None) -> SearchGraph:
        search.close(error or SearchOver("the search is over"))
        self._release(search)
        graph, meter = search.graph, search.meter
        meter.seconds = search.seconds
        meter.unscored = graph.unscored
        try:
            graph.outcome = graph.choice()
        except Exception as failure:  # of the environment, when it compares answers
            graph.outcome, reason, error = Outcome(), "error", error or failure
        graph.info |= {
            "answer": graph.outcome.answer,
            "node": graph.outcome.node,
            "confidence": round(graph.outcome.confidence, 4),
            "spent": meter.to_json(graph.samples()),
            "stopped": UNAVAILABLE if isinstance(error, ConnectionError) else reason,
        }
        if error is not None:
            graph.info["error"] = f"{type(error).__name__}: {error}"
            logger.warning("{}: {}", graph.problem.id, graph.info["error"])
        if graph.unscored and not self._warned:
            self._warned = True
            logger.warning("the verifier failed on a step of {}; such steps count as 0", graph.problem.id)
        search.handle.end(graph)
        return graph

    def _release(self, search: Running) -> None:
        for service in (self.policy, self.verifier):
            if service is not None:
                self._cancel(service, search)

    def _cancel(self, service: Policy | Verifier, search: Running) -> None:
        try:
            service.cancel(search.graph.scope)
        except Exception as error:  # it may be what the search failed of; the others go on
            logger.warning("{} could not cancel a search: {}", service.name, error)
