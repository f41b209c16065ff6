"""What a problem is: the MDP, the environments that ship, their registry and conformance kit."""
