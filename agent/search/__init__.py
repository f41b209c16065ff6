"""The search core: requests, graph, budget, engine."""
