"""Why a model cannot be used."""

from __future__ import annotations

from envs.errors import StepwellError


class UnsupportedModel(StepwellError, ValueError):
    """A folder does not hold a model that this decoder runs; the message says what was found and what is allowed."""
