"""Saved searches, as files of strangers: read in bounded time and memory, and checked before they are used."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

LARGEST = 512 * 2**20  # bytes of a file; a search of a million nodes takes about 400 MB
VALUES = 64_000_000  # of a file: a node and its edge have about thirty
STEPS = 64_000_000  # over the paths of all nodes; a state keeps its whole path
_NUMBER = 2**63


def read_json(path: Path) -> Any:
    """Parse a JSON file that a stranger may have written.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is too large or no JSON, or holds a number that JSON does not know; without the file's name.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    if (size := path.stat().st_size) > LARGEST:
        raise ValueError(f"it has {size:,} bytes; at most {LARGEST:,} are read")
    content = path.read_bytes()
    if sum(map(content.count, (b",", b"[", b"{"))) > VALUES:
        raise ValueError(f"it holds more than {VALUES:,} values")
    try:
        return json.loads(content.decode("utf-8-sig"), parse_constant=_no_number)
    except UnicodeDecodeError:
        raise ValueError("it is no text in UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON: {error}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"it is no JSON: {name} is no number there")


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
_SPENT = (
    "samples", "seconds", "generated", "prefilled", "policy_flops", "verifier_tokens", "verifier_flops",
)  # fmt: skip


def check_graph(raw: Mapping[str, Any]) -> None:
    """Check every value of a saved search that anything is made of.

    Raises:
        ValueError: naming the part, what is wrong with it, and where it is.
    """
    for key, kind in (("problem", dict), ("info", dict), ("nodes", list), ("edges", list)):
        if not isinstance(raw.get(key), kind):
            raise ValueError(f"{key!r} is missing or is not a {kind.__name__}")
    if type(raw.get("seed")) is not int:
        raise ValueError("'seed' is missing or is not a whole number")
    _check(raw["problem"], _PROBLEM, "the problem")
    _check_info(raw["info"])
    if not raw["nodes"]:
        raise ValueError("it has no nodes")
    for number, node in enumerate(raw["nodes"]):
        _check({"reward": 0.0} | node if isinstance(node, dict) else node, _NODE, f"node {number}")
        if node.get("id") != number:
            raise ValueError(f"node {node.get('id')!r} in place of node {number}")
        if (node["status"] == "terminated") != (node["answer"] is not None):
            raise ValueError(f"node {number} is {node['status']} and its answer is {shown_value(node['answer'])}")
        if not _text(node.get("thinking", "")):
            raise ValueError(f"node {number}: 'thinking' is {shown_value(node['thinking'])}")
    _check_tree(raw["edges"], len(raw["nodes"]))


def _check_tree(edges: Sequence[Any], nodes: int) -> None:
    """Every node but the root comes after exactly one earlier node; all paths together have at most `STEPS` steps."""
    parents: dict[int, int] = {}
    for edge in edges:
        _check(edge, _EDGE, "an edge")
        before, after = edge["from"], edge["to"]
        if after >= nodes or after in parents or not before < after:
            raise ValueError(f"node {after} cannot come after node {before}" + (", too" if after in parents else ""))
        parents[after] = before
    depths = [0] * nodes
    for node in range(1, nodes):
        if node not in parents:
            raise ValueError(f"no edge leads to node {node}")
        depths[node] = depths[parents[node]] + 1
    if sum(depths) > STEPS:
        raise ValueError(f"its paths have {sum(depths):,} steps together; at most {STEPS:,} are read")


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
        if not _finite(spent.get("unscored", 0)):
            raise ValueError(f"info: 'unscored' is {shown_value(spent['unscored'])}; expected a number")


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
