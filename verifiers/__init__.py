"""Who judges a step: the contract of verifiers, the ones that ship, voting, and their training."""
