"""Search graphs as a study's file holds them: JSON, compressed by zlib, unpacked within bounds."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

_LEAST, _MOST = 16 << 20, 1 << 30  # bytes of JSON that are always, and never, unpacked
_RATIO = 100  # bytes of JSON for one that is packed: graphs have 5 to 30, a bomb 1,000


def pack(graph: Mapping[str, Any]) -> bytes:
    """A graph of `SearchGraph.to_json`, packed."""
    return zlib.compress(json.dumps(graph, separators=(",", ":")).encode())


def unpack(packed: object) -> dict[str, Any]:
    """Undo `pack`.

    Raises:
        ValueError: it is damaged, no graph, or unpacks to more than a graph of its size can.
    """
    if not isinstance(packed, bytes):
        raise ValueError("a graph is not packed")
    limit = min(_MOST, max(_LEAST, _RATIO * len(packed)))
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(packed, limit)
        if inflater.unconsumed_tail:
            raise ValueError(f"a graph of {len(packed):,} bytes unpacks to more than {limit:,}")
        if not inflater.eof:
            raise ValueError("a graph is cut off")
        graph = json.loads(text)
    except (zlib.error, RecursionError) as error:
        raise ValueError(f"a graph is damaged: {error}") from None
    if not isinstance(graph, dict):
        raise ValueError("a graph is damaged: it is no JSON object")
    return graph
