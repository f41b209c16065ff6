"""Refuse to start when another distribution or folder stands in for one of our four packages.

Their names are common words, and whichever comes first on the path wins. Each package runs this file before anything
else, by its path, since `envs` itself may be the one that is shadowed.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from pathlib import Path

ROOMS = ("agent", "envs", "policies", "verifiers")
ROOT = Path(__file__).resolve().parent.parent
_MARK = "Stepwell"  # in the docstring of each package: tells ours from a file that was installed over it
_CHECKOUT = (ROOT / "pyproject.toml").exists()  # where nothing is ever installed over anything


def check_rooms() -> None:
    """Raise ImportError if any of the four packages is not Stepwell's, saying what was found and what to do."""
    for room in ROOMS:
        expected = ROOT / room / "__init__.py"
        found = _found(room)
        if found is None:
            raise ImportError(
                f"Stepwell's package {room!r} is missing: {expected} was expected. Install Stepwell again."
            )
        if found.resolve() != expected:
            what = f"Python finds {found}{_whose(room)} before Stepwell's own {expected}"
        elif not _CHECKOUT and _MARK not in found.read_text(encoding="utf-8", errors="replace"):
            what = f"another file{_whose(room)} was installed over {found}"
        else:
            continue
        raise ImportError(f"Stepwell's package {room!r} is shadowed: {what}. {_remedy(room)}")


def _found(room: str) -> Path | None:
    """The file that `import room` runs, or has run."""
    module = sys.modules.get(room)
    spec = importlib.util.find_spec(room) if module is None else None
    origin = getattr(module, "__file__", None) if module is not None else spec.origin if spec is not None else None
    return Path(origin) if origin else None


def _distributions(room: str) -> list[str]:
    owners = importlib.metadata.packages_distributions().get(room, [])
    return sorted({owner for owner in owners if owner.lower() != "stepwell"})


def _whose(room: str) -> str:
    owners = _distributions(room)
    return f" (of the distribution {', '.join(map(repr, owners))})" if owners else ""


def _remedy(room: str) -> str:
    owners = _distributions(room)
    own = "Install Stepwell in a virtual environment of its own"
    if owners:
        return f"{own}, or uninstall the other (pip uninstall {' '.join(owners)}) and install Stepwell again."
    return f"Rename it, or start Python in another folder or without it in PYTHONPATH. {own} if unsure."


check_rooms()
