"""Stepwell: the decision and the search. Strategies, engine, planner, solver, and the doors for people."""

import runpy
from pathlib import Path

# If one of our packages is not ours, say so plainly.
runpy.run_path(str(Path(__file__).parents[1] / "envs" / "shadow.py"))
