"""The script and the style of the page, joined from the files in ``web/``.

The script is written as ES modules. A page that is one file cannot import, so each module becomes a function that
returns what it exports, after those that it imports. Nothing is minified: whoever opens a page can read what runs in
it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import lru_cache
from pathlib import Path

WEB = Path(__file__).parent / "web"
_IMPORT = re.compile(r"^import (\{[^}]*\}) from \"\./(\w+)\.js\";$", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const) (\w+))", re.MULTILINE)


def modules() -> dict[str, str]:
    """The source of each module by name, each after those that it imports; `main` is the last."""
    placed: dict[str, str] = {}

    def place(name: str) -> None:
        source = (WEB / f"{name}.js").read_text(encoding="utf-8")
        for _, other in _IMPORT.findall(source):
            if other not in placed:
                place(other)
        placed.setdefault(name, source)

    place("main")
    return placed


@lru_cache(maxsize=1)
def script() -> str:
    """All modules as one script, which leaves nothing in the global scope."""
    joined = "".join(_joined(name, source) for name, source in modules().items())
    return f'"use strict";\n(() => {{\nconst modules = {{}};\n{joined}}})();\n'


def _joined(name: str, source: str) -> str:
    body = _IMPORT.sub(r"const \1 = modules.\2;", _EXPORT.sub("", source))
    return f"\nmodules.{name} = (() => {{\n{body}return {{ {', '.join(_EXPORT.findall(source))} }};\n}})();\n"


@lru_cache(maxsize=1)
def style() -> str:
    """The style sheet."""
    return (WEB / "style.css").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def policy() -> str:
    """The Content-Security-Policy of the page: our script and our style by their hashes, and nothing else.

    Nothing is loaded from anywhere, no other script runs, no text can become HTML (Trusted Types), and no form or frame
    can be made.
    """
    return (
        f"default-src 'none'; script-src {_hash(script())}; style-src {_hash(style())}; base-uri 'none';"
        " form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
