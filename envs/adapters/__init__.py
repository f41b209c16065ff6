"""Environments that others wrote, as reasoning problems: episodes of Gymnasium."""
