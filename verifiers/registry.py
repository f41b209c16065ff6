"""Verifiers by name: the folders in ``verifiers/weights/``, ``symbolic``, ``table``, or the path of a folder."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from envs.core import Environment
from verifiers.core import Verifier
from verifiers.symbolic import SymbolicVerifier
from verifiers.table import TableVerifier

TABLE = "table"
WEIGHTS = Path(__file__).parent / "weights"


def verifier_names() -> list[str]:
    """Names of the verifiers that come with this package, in order."""
    return sorted([*(path.parent.name for path in WEIGHTS.glob("*/config.json")), SymbolicVerifier.name, TABLE])


def load_verifier(name_or_path: str | Path, environment: Environment, **options: Any) -> Verifier:
    """Load a verifier.

    Args:
        name_or_path: a name of `verifier_names`, or a folder in the transformers layout.
        environment: whose states it scores.
        options: of `verifiers.lab.LabVerifier` or `verifiers.table.TableVerifier`; ``symbolic`` has none.

    Raises:
        ValueError: no such name or folder; the message lists the names and the nearest one.
        TypeError: ``symbolic`` for an environment without a step checker, ``table`` for one without a table.
        UnsupportedModel: the folder holds something that is not run here.
    """
    if name_or_path == SymbolicVerifier.name:
        return SymbolicVerifier(environment, **options)
    if name_or_path == TABLE:
        return TableVerifier(environment, **options)
    from verifiers.lab import LabVerifier  # torch is imported by those who need it only

    for folder in (WEIGHTS / name_or_path, Path(name_or_path)):
        if (folder / "config.json").is_file():
            return LabVerifier(folder, environment, **options)
    names = verifier_names()
    near = difflib.get_close_matches(str(name_or_path), names, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        f"no verifier {str(name_or_path)!r}; allowed: {', '.join(names)}, or a folder with a config.json{hint}"
    )
