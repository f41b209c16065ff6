"""Strategies that decide among whole answers."""
