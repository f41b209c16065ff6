"""What the commands of a person do to a search under way (`agent.search.control.arguments.COMMANDS` lists them).

Each command looks first and changes nothing while it does: what it refuses it refuses with a reason, and a dry run
ends there. What holds already is not done again and not recorded, so that a command may be repeated without harm; one
that would do more each time, as `expand` does, is done once if it is given with a key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, cast

from agent.recipes.recipe import parse_budget, parse_component
from agent.registry import STRATEGY_PARTS
from agent.search.budget import Budget
from agent.search.control.arguments import COMMANDS
from agent.search.control.running import Errand, Running
from agent.search.control.steering import INFO
from agent.search.requests import Search, propose, score
from envs.messages import UsageError, short
from policies.generation.step_splitter import with_any_line_ends
from verifiers.voting import Vote

BY_HAND = "stopped by a person"
ACCEPTED = "answer accepted by a person"
CANCELLED = "cancelled"
"""Why a search ended that a person ended; `agent.search.engine.Engine.stop` ends them as ``stopped``."""
MOST = 64  # steps drawn by one `expand`
_UNDONE = ("prune", "pin", "only", "budget", "strategy", "expand", "write", "answer")


@dataclass
class Change:
    """What a command would do.

    Args:
        old: what holds now.
        new: what would hold; where it is the same, nothing is done.
        facts: for the record, besides.
        act: does at once what can be done at once.
        work: does the rest, when no request of the search is out.
        limited: the work ends where the search meets a limit.
        ends: the search ends, and why.
    """

    old: Any
    new: Any
    facts: dict[str, Any] = field(default_factory=dict)
    act: Callable[[], None] = lambda: None
    work: Callable[[dict[str, Any]], Search[None] | None] | None = None
    limited: bool = False
    ends: str | None = None


# -------------------------------------------------------------------------------------------------------- performing


def perform(
    search: Running,
    name: str,
    arguments: dict[str, Any],
    who: str,
    dry_run: bool,
    future: Future[dict[str, Any]],
    key: str | None = None,
) -> None:
    """Look, and then do, record and tell it; the future gets the outcome once all of it is done.

    Raises:
        UsageError: it cannot be done.
    """
    if key is not None and (done_before := _done_under(search, key, name)) is not None:
        told = {each: done_before[each] for each in ("old", "new", "made") if each in done_before}
        future.set_result({"command": name, "changed": False, "dry_run": dry_run} | told)
        return
    if search.shared and not COMMANDS[name].shared:
        raise UsageError("searches that share a budget can be watched, stopped and cancelled, but not steered")
    change = _LOOKS[name](search, **arguments)
    outcome: dict[str, Any] = {"command": name, "changed": change.old != change.new, "old": change.old}
    outcome |= {"new": change.new, "dry_run": dry_run}
    if dry_run or not outcome["changed"]:
        future.set_result(outcome)
        return
    named = {} if key is None else {"key": key}
    record = search.record(name, who[:100], {**change.facts, **named, "old": change.old, "new": change.new})
    change.act()
    search.handle.told(name, {key: record[key] for key in ("old", "new", "who", "node") if key in record})
    if change.ends is not None:
        search.ending = change.ends
    if change.work is None:
        future.set_result(outcome)
        return

    def done(error: Exception | None) -> None:
        if error is not None:
            record["error"] = f"{type(error).__name__}: {error}"
            future.set_exception(error)
        else:
            future.set_result(outcome | {key: record[key] for key in ("made",) if key in record})

    search.errands.append(Errand(partial(change.work, record), done, change.limited))


def _done_under(search: Running, key: str, name: str) -> dict[str, Any] | None:
    """The record of a command that was given with a key, unless it failed."""
    for record in search.graph.info.get(INFO, []):
        if record.get("key") == key and "error" not in record:
            if record["what"] != name:
                raise UsageError(f"{name}: the key {short(key)} is that of {record['what']!r}; take another one")
            return cast(dict[str, Any], record)
    return None


# -------------------------------------------------------------------------------------------------------------- looks


def _row(search: Running, node: int, what: str) -> Any:
    """The node, which a person may steer by."""
    graph = search.graph
    if not 0 <= node < len(graph):
        raise UsageError(f"{what}: no node {node}; the tree has nodes 0 to {len(graph) - 1}")
    return graph[node]


def _open(search: Running, node: int, what: str) -> None:
    """Refuse a node that cannot be gone on from."""
    row = _row(search, node, what)
    if row.status != "running":
        ended = "ended with an answer" if row.status == "terminated" else "ended without an answer"
        raise UsageError(f"{what}: node {node} {ended}, so nothing can follow it")
    if node in search.graph.steering.excluded:
        raise UsageError(f"{what}: node {node} is cut, by 'prune' or 'only'; undo that first")


def _pause(search: Running) -> Change:
    return Change(search.paused, True, act=search.pause)


def _resume(search: Running) -> Change:
    return Change(search.paused, False, act=search.resume)


def _stop(search: Running) -> Change:
    return Change(None, BY_HAND, ends=BY_HAND)


def _cancel(search: Running) -> Change:
    return Change(None, CANCELLED, ends=CANCELLED)


def _budget(search: Running, budget: str) -> Change:
    new = parse_budget(budget)
    if new.samples is not None and new.samples < 1:
        raise UsageError(f"a budget of {new.samples:g} samples buys none; allowed: 1 or more")
    return _change_budget(search, new)


def _change_budget(search: Running, new: Budget) -> Change:
    old = search.budget
    before, after = ({key: value for key, value in asdict(each).items() if value is not None} for each in (old, new))

    def act() -> None:
        search.budget = new
        search.extended = True
        _tell_context(search, budget=new)

    return Change(before, after, act=act)


def _tell_context(search: Running, **changes: Any) -> None:
    """Change what the search runs with, and what its records say of that."""
    graph = search.graph
    graph.context = replace(graph.context, **changes)
    known = graph.context.to_info()
    graph.info |= {key: known[key] for key in changes}


def _strategy(search: Running, strategy: str) -> Change:
    left = search.left() or replace(search.budget, samples=1)
    old, chosen = search.graph.info.get("strategy"), search.choose(strategy, left)
    context = search.graph.context
    chosen.traits.check(
        repr(strategy), context.policy, context.policy_large, context.verifier, context.verifier_compares
    )
    votes = {"old_vote": asdict(search.graph.context.vote), "vote": asdict(chosen.vote)}
    facts: dict[str, Any] = {"spec": strategy, "old_spec": search.spec}
    if votes["vote"] != votes["old_vote"]:
        facts |= votes

    def work(record: dict[str, Any]) -> None:
        search.spec = strategy
        search.specs.add(strategy)
        search.begin_anew()
        search.graph.info["strategy"] = chosen.strategy
        if search.graph.context.vote != chosen.vote:
            _tell_context(search, vote=chosen.vote)

    return Change(old, chosen.strategy, facts, work=work)


def _expand(search: Running, node: int, n: int = 4) -> Change:
    _open(search, node, "expand")
    if not 1 <= n <= MOST:
        raise UsageError(f"expand: {n} steps asked for; allowed: 1 to {MOST}")
    graph, temperature = search.graph, search.temperature

    def work(record: dict[str, Any]) -> Search[None]:
        known = set(graph.children(node))
        yield from propose(graph, [node], n, temperature)
        record["made"] = [each for each in graph.children(node) if each not in known]
        yield from _value(search, record["made"])

    return Change(None, n, {"node": node}, work=work)


def _value(search: Running, nodes: Sequence[int]) -> Search[None]:
    """Give new nodes what strategies expect of children of a node that was expanded: scores, values, priors."""
    graph, context = search.graph, search.graph.context
    if context.verifier is not None and context.vote.rule != "majority":
        values = yield from score(graph, nodes, context.vote.aggregate)
        for node, value in zip(nodes, values, strict=True):
            graph[node]["value"] = value
    for node in nodes:
        drawn = sum(map(graph.count, graph.children(graph.parent(node) or 0)))
        graph[node].prior = graph.count(node) / drawn if drawn else None


def _write(search: Running, node: int, text: str) -> Change:
    _open(search, node, "write")
    graph = search.graph
    steps = [step for step in with_any_line_ends(graph.environment.delimiter).split(text) if step.strip()]
    if not steps:
        raise UsageError("write: an empty step")

    def work(record: dict[str, Any]) -> Search[None]:
        at, made = node, list[int]()
        record["made"] = made
        for step in steps:
            if graph[at].status != "running":
                break
            known = len(graph)
            at = graph.write(at, step)
            if at >= known:
                made.append(at)
                yield from _value(search, [at])

    there: int | None = node
    for step in steps:
        children = () if there is None else graph.children(there)
        there = next((each for each in children if graph[each].text == step), None)
    return Change(there, len(steps) if there is None else there, {"node": node, "text": text}, work=work)


def _prune(search: Running, node: int) -> Change:
    _row(search, node, "prune")
    if node == search.graph.root:
        raise UsageError("prune: node 0 is the question itself; 'stop' ends the search")

    return Change(node in search.graph.steering.cut, True, {"node": node}, partial(_replay_for_more, search))


def _pin(search: Running, node: int) -> Change:
    graph = search.graph
    row = _row(search, node, "pin")
    if node == graph.root or row.status == "truncated":
        raise UsageError(f"pin: node {node} is {'the question itself' if node == graph.root else 'a dead end'}")
    above = [each for each in graph.path(node)[:-1] if each in graph.steering.excluded]
    if above or (graph.steering.only and node in graph.steering.excluded and node not in graph.steering.cut):
        raise UsageError(f"pin: node {node} is below what is cut; undo that first")
    lost = row.status == "running" and not graph.children(node) and not search.goes_on_from(node)
    dropped = [each for each in graph.path(node) if graph[each].pruned]

    def act() -> None:
        _replay(search)
        row["value"] = 1.0
        for each in dropped:
            graph[each]["pruned"] = False

    def work(record: dict[str, Any]) -> Search[None]:
        return search.fresh(2.0, [node])  # half of what is left

    facts = {"node": node, "old_value": row["value"], "dropped": dropped}
    taken_up = work if lost and search.task.choose is not None else None
    return Change(node in graph.steering.pinned, True, facts, act, taken_up, limited=True)


def _only(search: Running, nodes: Sequence[int] = ()) -> Change:
    graph = search.graph
    for node in nodes:
        _row(search, node, "only")
        if graph[node].status != "running":
            raise UsageError(f"only: node {node} has ended, so there is nothing to search below it")
        if any(each in graph.steering.cut for each in graph.path(node)):
            raise UsageError(f"only: node {node} is cut; undo that first")
    kept = [node for node in nodes if not set(graph.path(node)[:-1]) & set(nodes)]
    chosen = [] if kept == [graph.root] else kept

    def work(record: dict[str, Any]) -> None:
        search.begin_anew()

    return Change(list(graph.steering.only), chosen, {}, partial(_replay_for_more, search), work)


def _answer(search: Running, node: int) -> Change:
    graph = search.graph
    row = _row(search, node, "answer")
    if row.status != "terminated":
        ended = sorted(each for each in graph.graph if graph[each].status == "terminated")[:10]
        shown = f"; nodes with one: {', '.join(map(str, ended))}" if ended else "; no node has one yet"
        raise UsageError(f"answer: node {node} has no answer{shown}")
    facts = {"node": node, "leading": graph.choice().node}
    return Change(graph.steering.accepted, node, facts, partial(_replay, search), ends=ACCEPTED)


def _undo(search: Running) -> Change:
    graph = search.graph
    records = graph.info.get(INFO, [])
    undone = {record["new"] for record in records if record["what"] == "undo"}
    places = [at for at, record in enumerate(records) if at not in undone and record["what"] in _UNDONE]
    if not places:
        raise UsageError("undo: there is nothing to undo")
    record = records[places[-1]]
    before = record.get("old_spec")
    if before not in search.specs and STRATEGY_PARTS.names_code(parse_component(str(before)).name):
        raise UsageError(
            f"undo: the file of this search says that strategy {short(before)} was at work before, which runs code; "
            "if you trust it, choose it yourself"
        )

    def act() -> None:
        _replay_for_more(search)
        if record["what"] == "pin":
            graph[record["node"]]["value"] = record["old_value"]
            for node in record.get("dropped", ()):  # older versions did not write it
                graph[node]["pruned"] = True
        if record["what"] == "budget":
            _change_budget(search, Budget(**record["old"])).act()

    def work(_: dict[str, Any]) -> None:
        if record["what"] == "strategy":
            search.spec = record["old_spec"]
            graph.info["strategy"] = record["old"]
            if "old_vote" in record:
                _tell_context(search, vote=Vote(**record["old_vote"]))
        search.begin_anew()

    rest = work if record["what"] in ("strategy", "only") else None
    facts = {"undone": record["what"], **({"node": record["node"]} if "node" in record else {})}
    return Change(None, places[-1], facts, act, rest)


def _replay(search: Running) -> None:
    """Let the records hold, the last one included."""
    graph = search.graph
    graph.replay_steering()
    search.changed()


def _replay_for_more(search: Running) -> None:
    """Let the records hold; there may be something else to search when the strategy is over."""
    _replay(search)
    search.extended = True


_LOOKS: dict[str, Callable[..., Change]] = {
    "pause": _pause,
    "resume": _resume,
    "stop": _stop,
    "cancel": _cancel,
    "budget": _budget,
    "strategy": _strategy,
    "expand": _expand,
    "prune": _prune,
    "pin": _pin,
    "only": _only,
    "write": _write,
    "answer": _answer,
    "undo": _undo,
}
