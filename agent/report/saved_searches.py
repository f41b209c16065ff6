"""Searches from files of their own, whose environments may not be here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent.recipes.files import refuse_code
from agent.report.search_data import graph_data, search_data
from agent.search.graph import FORMAT, SearchGraph
from agent.search.graph_file import check_head, check_size
from agent.search.json_stream import read_object
from envs.core import Environment
from envs.guarded import guard
from envs.messages import UsageError
from envs.plugins import UnusablePart
from envs.registry import load_environment


def saved_search(path: Path, trust: bool = False) -> tuple[dict[str, Any], str]:
    """A search that `SearchGraph.save` wrote, as a page needs it, and what a reader must know of it, if anything.

    Its environment compares and judges the answers. Where that is not here, or may not be made, answers are compared as
    texts and not judged, and the note says so.

    Args:
        path: of the file.
        trust: let the file name an environment by a module or a file, whose code then runs.

    Raises:
        OSError: there is no such file, or it cannot be read.
        UsageError: naming the file; it is no saved search, or a damaged one.
    """
    if path.suffix == ".graphml":
        raise UsageError(f"{path} is a search for other tools; only those saved as .json can be read")
    raw = _read(path)
    environment, note = _environment(str(raw["info"].get("environment", "")), path, trust)
    try:
        if environment is None:
            return search_data(raw), note
        return graph_data(SearchGraph.from_json(raw, environment)), note
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UsageError(f"{path} is not a saved search: {error}") from None


def _read(path: Path) -> dict[str, Any]:
    lists: dict[str, list[Any]] = {"nodes": [], "edges": []}
    try:
        check_size(path)
        head = read_object(
            path, {name: each.append for name, each in lists.items()}, lambda head: check_head(head, FORMAT)
        )
        check_head(head, FORMAT)
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not a saved search: it is no text in UTF-8") from None
    except KeyError as error:
        raise UsageError(f"{path} is not a saved search: {error} is missing") from None
    except ValueError as error:
        raise UsageError(f"{path} is not a saved search: {error}") from None
    return head | lists


def _environment(name: str, path: Path, trust: bool) -> tuple[Environment | None, str]:
    """The environment of a name, and why there is none."""
    try:
        if not trust:
            refuse_code({"environment": name}, str(path))
        return guard(load_environment(name)), ""
    except (UsageError, UnusablePart, ImportError) as error:
        return None, f"answers of {path.name} are compared as texts and not judged: {error}"
