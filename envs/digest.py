"""What tells an environment from others under the same name: what it asks, under the options that it was made with."""

from __future__ import annotations

import hashlib

from envs.core import Environment

_ASKED = 8  # problems that are looked at


def environment_digest(environment: Environment) -> str:
    """Twelve digits of the SHA-256 of the first problems of the calibration split, as a policy would read them.

    Another option, another data file or other code that changes what is asked gives another digest.

    Returns:
        Empty where the environment has no such problems.
    """
    try:
        problems = environment.problems("calibration", _ASKED, 0)
        asked = [environment.prompt(problem) for problem in problems]
    except Exception:  # whatever a foreign environment raises: it cannot be told, and search says what is wrong
        return ""
    parts = [environment.name, environment.delimiter, str(environment.max_steps), *asked]
    return hashlib.sha256("\x1e".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:12]
