"""Where a verifier runs: one file for each way."""
