"""Doors for people: the command line, the session, and what they show."""
