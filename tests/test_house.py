"""Rules of the house that no linter knows."""

import subprocess
import sys


def test_the_agent_is_imported_without_torch_or_transformers() -> None:
    rooms = "agent, envs, policies, verifiers"
    code = f"import sys, {rooms}; print([name for name in ('torch', 'transformers') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
