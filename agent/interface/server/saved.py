"""The graphs of searches, in a folder: one that replicas share, so that each of them can show any search.

The name of a file is not to be guessed: whoever has a link may read that search, and nobody else.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path

from loguru import logger

from agent.search.graph import OtherEnvironment, SearchGraph
from envs.core import Environment

_NAME = re.compile(r"[0-9a-f]{32}-[0-9]{1,4}")
_LARGEST = 200_000  # nodes of a graph that is saved


class SavedSearches:
    """A folder of graphs.

    Args:
        folder: made where it is not there.
        most: graphs that are kept; the oldest are removed.
    """

    def __init__(self, folder: Path, most: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.most = folder, most
        self._saved = 0

    def save(self, id: str, graph: SearchGraph) -> dict[str, str]:
        """Save a graph, and return its links; nothing where it cannot be saved: the answer counts more."""
        try:
            if len(graph) > _LARGEST:
                return {}
            path = self.folder / f"{id}.json"
            graph.save(path)
            self._saved += 1
            if self._saved % max(1, self.most // 10) == 1:
                self._prune()
        except (OSError, ValueError) as error:
            logger.warning("a search could not be saved: {}", error)
            return {}
        return {"id": id, "graph": f"/v1/searches/{id}/graph.json", "page": f"/v1/searches/{id}"}

    def find(self, id: str) -> Path | None:
        """The file of a search."""
        path = self.folder / f"{id}.json"
        return path if _NAME.fullmatch(id) and path.is_file() else None

    def _prune(self) -> None:
        """Remove the oldest graphs beyond the most that are kept; another replica may do the same."""
        files = [(path.stat().st_mtime, path) for path in self.folder.glob("*.json") if _NAME.fullmatch(path.stem)]
        for _, path in sorted(files)[: max(0, len(files) - self.most)]:
            path.unlink(missing_ok=True)


def page_of(path: Path, environments: Iterable[Environment]) -> str:
    """The page of a search, which was one in one of some environments.

    Raises:
        ValueError: in none of them, or the file is no search.
    """
    for environment in environments:
        with contextlib.suppress(OtherEnvironment):
            return SearchGraph.load(path, environment).to_html()
    raise ValueError(f"{path.name} is no search in an environment that is served")
