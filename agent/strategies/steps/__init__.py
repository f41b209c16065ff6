"""Strategies that decide after every step."""
