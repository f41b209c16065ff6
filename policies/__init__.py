"""Who proposes a step: the contract of policies, the ones that ship, and their training."""
