"""Stepwell: the decision and the search. Strategies, engine, planner, solver, and the doors for people."""

import runpy
from pathlib import Path

runpy.run_path(
    str(Path(__file__).parents[1] / "envs" / "shadow.py")
)  # if a package of ours is not ours, say so plainly
