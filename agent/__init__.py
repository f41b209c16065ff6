"""The decision and the search: strategies, engine, planner, solver, and the doors for people."""
