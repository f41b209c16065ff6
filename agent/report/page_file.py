"""The page as a file: HTML around data, written piece by piece, so that a large study is never in memory whole.

A page holds its facts as JSON (`data`) and its searches packed: each is JSON, compressed by zlib, in base64, one behind
the other in one block. The script of the page unpacks a search when it is opened. What a model or a file wrote is thus
never HTML: in the block it is base64, in the JSON every ``<`` and all that is not ASCII is escaped, and the script
shows it by ``textContent`` alone.
"""

from __future__ import annotations

import base64
import html
import json
import math
import zlib
from collections.abc import Mapping
from typing import IO, Any

from agent.report.bundle import policy, script, style

_ESCAPES = {ord(each): f"\\u{ord(each):04x}" for each in "<>&"}


class PageWriter:
    """Writes a page: `search` for each search that it holds, then `finish` once.

    Args:
        out: the open file, in UTF-8.
        title: of the page; any text.
    """

    def __init__(self, out: IO[str], title: str) -> None:
        self._out = out
        self.size = 0  # of the packed searches, in characters
        self._out.write(_HEAD.format(policy=policy(), title=html.escape(_plain(title)), style=style()))

    def search(self, data: Mapping[str, Any]) -> tuple[int, int]:
        """Add a search of `agent.report.search_data`; returns its place in the block: where it begins, and its length.

        Raises:
            ValueError: a number in it is NaN or infinite.
        """
        text = json.dumps(data, separators=(",", ":"), allow_nan=False)
        packed = base64.b64encode(zlib.compress(text.encode())).decode()
        place = self.size, len(packed)
        self._out.write(packed)
        self.size += len(packed)
        return place

    def finish(self, data: Mapping[str, Any]) -> None:
        """Write the facts, the script, and the end."""
        self._out.write(_TAIL.format(data=script_json(data), script=script()))


def script_json(value: object) -> str:
    """JSON that can stand in a script element: ASCII without ``<``; U+2028 and its like are escapes."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).translate(_ESCAPES)


def number(value: float | None) -> float | int | None:
    """A number in six digits, which is what a page shows; None for NaN and the infinities, which JSON does not know."""
    if value is None or isinstance(value, int):
        return value
    if not math.isfinite(value):
        return None
    rounded = float(f"{value:.6g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 2**53 else rounded


def _plain(text: str) -> str:
    """A title on one line, in characters that can be seen and that UTF-8 can hold."""
    return "".join(each if each.isprintable() else " " for each in text)[:200]


_HEAD = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<noscript>This page shows its data by a script of its own. The script loads nothing and sends nothing.</noscript>
<div id="page"></div>
<script type="application/octet-stream" id="searches">"""
_TAIL = """</script>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""
