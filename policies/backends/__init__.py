"""Where a policy runs: one file for each way, named as it is typed before the colon."""
