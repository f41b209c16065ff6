"""The doors for people: what a terminal shows."""
