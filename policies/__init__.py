"""Stepwell: who proposes a step. The contract of policies, the ones that ship, and their training."""

import runpy
from pathlib import Path

runpy.run_path(
    str(Path(__file__).parents[1] / "envs" / "shadow.py")
)  # if a package of ours is not ours, say so plainly

from policies.core import Policy, Propose, Proposed, Usage

__all__ = ["Policy", "Propose", "Proposed", "Usage"]
