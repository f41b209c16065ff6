"""Saved searches, as files of strangers: read in bounded time and memory, and checked before they are used."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Mapping, Sized
from pathlib import Path
from typing import Any

from agent.search.control.arguments import COMMANDS

LARGEST = 512 * 2**20  # bytes of a file; a search of a million nodes takes about 400 MB
VALUES = 64_000_000  # of a file: a node and its edge have about thirty
STEPS = 64_000_000  # over the paths of all nodes; a state that is asked for has its whole path
_NUMBER = 2**63


def check_size(path: Path) -> None:
    """Look at a file that a stranger may have written, before it is parsed.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is too large, or holds too many values; without the file's name.
    """
    if not path.is_file():
        if path.is_dir():
            raise IsADirectoryError(f"there is no file {str(path)!r}: it is a folder, not a saved search")
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    if (size := path.stat().st_size) > LARGEST:
        raise ValueError(f"it has {size:,} bytes; at most {LARGEST:,} are read")
    values = 0
    with path.open("rb") as content:
        while chunk := content.read(1 << 20):
            values += sum(map(chunk.count, (b",", b"[", b"{")))
            if values > VALUES:
                raise ValueError(f"it holds more than {VALUES:,} values")


# ---------------------------------------------------------------------------------------------------------- checks


def _whole(value: object) -> bool:
    return type(value) is int and 0 <= value < _NUMBER


def _finite(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) < _NUMBER  # type: ignore[arg-type]


def _text(value: object) -> bool:
    return type(value) is str


def _truth(value: object) -> bool:
    return type(value) is bool


def _share(value: object) -> bool:
    return _finite(value) and 0 <= value <= 1  # type: ignore[operator]


def _or_none(holds: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or holds(value)


def _one_of(*allowed: str) -> Callable[[object], bool]:
    return lambda value: type(value) is str and value in allowed


_NODE: dict[str, Callable[[object], bool]] = {
    "text": _text,
    "finish": _one_of("step", "answer", "length"),
    "observation": _text,
    "depth": _whole,
    "reward": _finite,
    "status": _one_of("running", "terminated", "truncated"),
    "answer": _or_none(_text),
    "tokens": _whole,
    "length": _whole,
    "logprob": _finite,
    "count": _whole,
    "drawn": _whole,
    "score": _or_none(_share),
    "unscored": _truth,
    "value": _or_none(_finite),
    "visits": _finite,
    "total": _finite,
    "pruned": _truth,
}
_EDGE = {"from": _whole, "to": _whole, "prior": _or_none(_finite), "count": _whole}
_PROBLEM = {"id": _text, "question": _text, "answer": _or_none(_text), "meta": lambda value: isinstance(value, dict)}
_TURN = {"role": _one_of("system", "user", "assistant"), "text": _text}
_RECORD = {
    "what": _one_of(*COMMANDS),
    "who": _text,
    "at": _text,
    "seconds": _finite,
    "samples": _finite,
    "nodes": _whole,
}
RECORDS = 100_000  # of one search
_SPENT = (
    "samples", "seconds", "generated", "prefilled", "policy_flops", "verifier_tokens", "verifier_flops",
)  # fmt: skip


def check_head(raw: Any, format: str) -> None:
    """Check all of a saved search but its nodes and edges.

    Raises:
        ValueError: naming the part, and what is wrong with it.
    """
    if not isinstance(raw, dict):
        raise ValueError(f"a mapping is expected, not a {type(raw).__name__}")
    if raw.get("format") != format:
        raise ValueError(f"format {shown_value(raw.get('format'))} given; this version reads {format!r}")
    for key in ("problem", "info"):
        if not isinstance(raw.get(key), dict):
            raise ValueError(f"{key!r} is missing or is not a dict")
    if type(raw.get("seed")) is not int:
        raise ValueError("'seed' is missing or is not a whole number")
    _check(raw["problem"], _PROBLEM, "the problem")
    turns = raw["problem"].get("conversation", [])
    if not isinstance(turns, list):
        raise ValueError(f"the problem: 'conversation' cannot be {shown_value(turns)}")
    for number, turn in enumerate(turns):
        _check(turn, _TURN, f"turn {number}")
    _check_info(raw["info"])


def check_node(node: Any, number: int) -> dict[str, Any]:
    """Check the node that is to be the next, and give it what those of older versions lack.

    Raises:
        ValueError: naming the node, and what is wrong with it.
    """
    node = {"reward": 0.0} | node if isinstance(node, dict) else node
    _check(node, _NODE, f"node {number}")
    if node.get("id") != number:
        raise ValueError(f"node {shown_value(node.get('id'))} in place of node {number}")
    if (node["status"] == "terminated") != (node["answer"] is not None):
        raise ValueError(f"node {number} is {node['status']} and its answer is {shown_value(node['answer'])}")
    if not _or_none(_share)(node.get("deviation")):
        raise ValueError(f"node {number}: 'deviation' is {shown_value(node['deviation'])}")
    if not _or_none(_finite)(node.get("weight")):
        raise ValueError(f"node {number}: 'weight' is {shown_value(node['weight'])}")
    shown = node.get("shown", [])
    if not isinstance(shown, list) or not all(_whole(end) and end < number for end in shown):
        raise ValueError(f"node {number}: 'shown' is {shown_value(shown)}")
    for name in ("thinking", "closing"):
        if not _text(node.get(name, "")):
            raise ValueError(f"node {number}: {name!r} is {shown_value(node[name])}")
    checked: dict[str, Any] = node
    return checked


def check_edge(edge: Any) -> None:
    """Check an edge; raises ValueError."""
    _check(edge, _EDGE, "an edge")


def parents_of(edges: Iterable[tuple[int, int]], nodes: int) -> array[int]:
    """The node before each node, -1 of the root: every other one comes after exactly one earlier node.

    Raises:
        ValueError: it is no tree, or all paths together have more than `STEPS` steps.
    """
    if not nodes:
        raise ValueError("it has no nodes")
    parents = array("q", [-1]) * nodes
    for before, after in edges:
        taken = after < nodes and parents[after] >= 0
        if after >= nodes or taken or not before < after:
            raise ValueError(f"node {after} cannot come after node {before}" + (", too" if taken else ""))
        parents[after] = before
    depths = array("q", [0]) * nodes
    for node in range(1, nodes):
        if parents[node] < 0:
            raise ValueError(f"no edge leads to node {node}")
        depths[node] = depths[parents[node]] + 1
    if (steps := sum(depths)) > STEPS:
        raise ValueError(f"its paths have {steps:,} steps together; at most {STEPS:,} are read")
    return parents


def _check_info(info: Mapping[str, Any]) -> None:
    """What is shown of a search's records, as far as they are there."""
    for key in ("stopped", "error", "policy", "environment"):
        value = info.get(key, "")
        if not _text(value) and not (value is None and key == "error"):
            raise ValueError(f"info: {key!r} is {shown_value(value)}; expected a text")
    for key in ("strategy", "plan", "spent"):
        value = info.get(key, {})
        if not isinstance(value, dict) and not (value is None and key == "plan"):
            raise ValueError(f"info: {key!r} is {shown_value(value)}; expected a mapping")
    if plan := info.get("plan"):
        _check(plan, {"strategy": _text, "knobs": _knobs, "reasons": _texts}, "info: the plan")
    if strategy := info.get("strategy"):
        _check({"knobs": strategy, **strategy}, {"name": _text, "knobs": _knobs}, "info: the strategy")
    if spent := info.get("spent"):
        _check(spent, dict.fromkeys(_SPENT, _finite), "info: what was spent")
        for key in ("unscored", "policy_reads", "verifier_reads", "flop_equivalents"):  # older versions lack them
            if not _finite(spent.get(key, 0)):
                raise ValueError(f"info: {key!r} is {shown_value(spent[key])}; expected a number")


def check_records(records: Any, nodes: Sized) -> None:
    """Check the records of what people did to a search, of a stranger's file.

    Raises:
        ValueError: naming the record, and what is wrong with it.
    """
    if not isinstance(records, list) or len(records) > RECORDS:
        raise ValueError(f"info: 'steering' is {shown_value(records)}; expected a list of at most {RECORDS:,} records")
    for place, record in enumerate(records):
        where = f"info: record {place} of 'steering'"
        _check(record, _RECORD, where)
        if not _text(record.get("key", "")):
            raise ValueError(f"{where}: 'key' cannot be {shown_value(record['key'])}")
        what = record["what"]
        named = [record.get("node")] if what in ("expand", "prune", "pin", "write", "answer") else []
        more = record.get("new") if what == "only" else record.get("made", [])
        dropped = record.get("dropped", [])
        if not isinstance(more, list) or not isinstance(dropped, list):
            raise ValueError(f"{where} names no list of nodes")
        for node in (*named, *more, *dropped):
            if not _whole(node) or node >= len(nodes):
                raise ValueError(f"{where} names the node {shown_value(node)}, which is not there")
        if what == "pin":
            _check(record, {"old_value": _or_none(_finite)}, where)
        if what == "undo" and not (_whole(record.get("new")) and record["new"] < place):
            raise ValueError(f"{where} undoes {shown_value(record.get('new'))}, which is no earlier record")


def _knobs(value: object) -> bool:
    return isinstance(value, dict) and all(type(each) in (str, bool) or _finite(each) for each in value.values())


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _check(part: Any, allowed: Mapping[str, Callable[[object], bool]], where: str) -> None:
    if not isinstance(part, dict):
        raise ValueError(f"{where} is {shown_value(part)}; expected a mapping")
    for key, holds in allowed.items():
        if key not in part:
            raise ValueError(f"{where} lacks {key!r}")
        if not holds(part[key]):
            raise ValueError(f"{where}: {key!r} cannot be {shown_value(part[key])}")


def shown_value(value: object) -> str:
    """A value of a file in an error: parsing has bounded its nesting, and this bounds its length."""
    if isinstance(value, dict | list):
        return f"a {type(value).__name__} of {len(value)}"
    text = repr(value if not isinstance(value, str) else value[:40])
    return text if len(text) <= 60 else f"{text[:57]}..."
