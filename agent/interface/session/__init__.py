"""The session: questions typed one after the other, searches that are watched, paused, steered and kept."""
