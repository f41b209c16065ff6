"""Recipes: what is solved with what, read from YAML and checked."""
