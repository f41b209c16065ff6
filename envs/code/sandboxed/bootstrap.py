"""The first program in a sandbox: take the limits on, then run ``main.py`` beside this file.

The limits are set here, and not in the parent between fork and exec, where Python code is not safe beside threads.
They are hard limits: what runs next cannot raise them.
"""

import json
import os
import resource
import runpy
import sys


def main() -> None:
    """``bootstrap.py LIMITS [ARGUMENT ...]``, the limits as JSON by the names of the `resource` module."""
    limits: dict[str, int] = json.loads(sys.argv[1])
    for name, value in limits.items():
        kind: int = getattr(resource, name)
        highest = resource.getrlimit(kind)[1]
        limit = value if highest == resource.RLIM_INFINITY else min(value, highest)
        resource.setrlimit(kind, (limit, limit))
    os.environ.clear()
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "main.py")
    sys.argv = [program, *sys.argv[2:]]
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()
