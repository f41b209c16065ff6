"""A search under way as an object: listed, watched, paused, changed and ended by people, between two of its replies."""
