"""From a model to steps: prompts, sampling, splitting, batches."""
