"""Language models: the embedded decoder, checkpoints, engines, servers."""
