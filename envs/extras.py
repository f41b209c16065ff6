"""Packages that only some parts need: asked for by name, with what to install when they are missing."""

from __future__ import annotations

import importlib.util


def require(extra: str, *packages: str) -> None:
    """Raise ImportError if a package is missing, naming the extra of Stepwell that installs it; imports nothing."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise ImportError(f"this needs {' and '.join(missing)}, not installed here: pip install 'stepwell[{extra}]'")
