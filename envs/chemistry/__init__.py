"""Stoichiometry with exact amounts."""
