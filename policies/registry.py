"""Policies by name: the folders shipped in ``policies/weights/``, ``scripted``, or the path of a folder."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from envs.core import Environment
from policies.core import Policy
from policies.scripted import ScriptedPolicy

SCRIPTED = "scripted"
WEIGHTS = Path(__file__).parent / "weights"


def policy_names() -> list[str]:
    """Names of the policies that ship with this package, in order."""
    return sorted([*(path.parent.name for path in WEIGHTS.glob("*/config.json")), SCRIPTED])


def load_policy(name_or_path: str | Path, environment: Environment, **options: Any) -> Policy:
    """Load a policy.

    Args:
        name_or_path: a name of `policy_names`, or a folder in the transformers layout.
        environment: whose problems it continues.
        options: of `policies.lab.LabPolicy` or `policies.scripted.ScriptedPolicy`.

    Raises:
        ValueError: no such name or folder; the message lists the names and the nearest one.
        TypeError: ``scripted`` for an environment that has no script.
        UnsupportedModel: the folder holds something that is not run here.
    """
    if name_or_path == SCRIPTED:
        return ScriptedPolicy(environment, **options)
    from policies.lab import LabPolicy  # torch is imported by those who need it only

    shipped, given = WEIGHTS / name_or_path, Path(name_or_path)
    for folder in (shipped, given):
        if (folder / "config.json").is_file():
            return LabPolicy(folder, environment, **options)
    names = policy_names()
    near = difflib.get_close_matches(str(name_or_path), names, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    allowed = ", ".join(names) or "(none shipped)"
    raise ValueError(f"no policy {str(name_or_path)!r}; allowed: {allowed}, or a folder with a config.json{hint}")
