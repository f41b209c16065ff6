"""Stepwell: who judges a step. The contract of verifiers, the ones that ship, voting, and their training."""

import runpy
from pathlib import Path

runpy.run_path(
    str(Path(__file__).parents[1] / "envs" / "shadow.py")
)  # if a package of ours is not ours, say so plainly

from verifiers.core import Score, Scored, Verifier

__all__ = ["Score", "Scored", "Verifier"]
