"""The decision: which strategy, and how much of it, for each problem."""
