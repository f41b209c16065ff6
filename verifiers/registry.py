"""Verifiers by name: those in ``verifiers/weights/``, ``symbolic``, ``table``, a folder, or a published checkpoint.

``hf:`` before a folder or a hub's id has transformers run it; so does the id of a checkpoint that is known here
(`verifiers.checkpoints.KNOWN`). A folder by itself is run by the lab's decoder if that can, and by transformers if not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from envs.core import Environment
from envs.registry import nearest
from verifiers.core import Verifier
from verifiers.symbolic import SymbolicVerifier
from verifiers.table import TableVerifier

TABLE = "table"
TRANSFORMERS = "hf:"
WEIGHTS = Path(__file__).parent / "weights"


def verifier_names() -> list[str]:
    """Names of the verifiers that come with this package, in order."""
    return sorted([*(path.parent.name for path in WEIGHTS.glob("*/config.json")), SymbolicVerifier.name, TABLE])


def load_verifier(name_or_path: str | Path, environment: Environment, **options: Any) -> Verifier:
    """Load a verifier.

    Args:
        name_or_path: a name of `verifier_names`, a folder in the transformers layout, ``hf:`` and a folder or a hub's
            id, or the id of a published checkpoint that is known.
        environment: whose states it scores.
        options: of `verifiers.checkpoints.load_checkpoint` and of the family, of `verifiers.lab.LabVerifier` or of
            `verifiers.table.TableVerifier`; ``symbolic`` has none.

    Raises:
        ValueError: no such name or folder; the message lists the names and the nearest one.
        TypeError: ``symbolic`` for an environment without a step checker, ``table`` for one without a table.
        UnsupportedModel: the folder holds something that is not run here.
    """
    name = str(name_or_path)
    if name == SymbolicVerifier.name:
        return SymbolicVerifier(environment, **options)
    if name == TABLE:
        return TableVerifier(environment, **options)
    from verifiers.checkpoints import KNOWN, load_checkpoint  # torch is imported by those who need it only
    from verifiers.lab import LabVerifier, is_lab

    if name.startswith(TRANSFORMERS):
        return load_checkpoint(name.removeprefix(TRANSFORMERS), environment, **options)
    for folder in (WEIGHTS / name, Path(name)):
        if (folder / "config.json").is_file():
            if "family" not in options and is_lab(folder):
                return LabVerifier(folder, environment, **options)
            return load_checkpoint(folder, environment, **options)
    if name in KNOWN:
        return load_checkpoint(name, environment, **options)
    names = verifier_names()
    raise ValueError(
        f"no verifier {name!r}; allowed: {', '.join(names)}, a folder with a config.json, or {TRANSFORMERS} before a "
        f"folder or a hub's id{nearest(name, [*names, *KNOWN])}"
    )
