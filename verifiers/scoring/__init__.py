"""From a state to scores of its steps: layouts, tokens, batches, caches."""
