"""One tree of errors: whatever a caller may have to catch is in it, and the picture of it is complete."""

import importlib
import importlib.util
import inspect
import re
from pathlib import Path

from envs import errors
from envs.errors import StepwellError

ROOT = Path(__file__).parents[2]
ROOMS = ("envs", "policies", "verifiers", "agent")
# of one file and its neighbours, never raised to a caller
INNER = {
    "ClientGone",
    "HungUp",
    "Leave",
    "NoAction",
    "SubtreeCut",
    "UsageExit",
    "Unreadable",
    "TooLarge",
    "Undefined",
    "Failed",
}


def test_every_error_is_in_the_tree_and_in_its_picture() -> None:
    drawn = set(re.findall(r"[|`]-- (\w+)", errors.__doc__ or ""))
    found = set()
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            for name in re.findall(r"^class (\w+)\([^)]*\):", path.read_text(encoding="utf-8"), re.M):
                if path.parent.name == "sandboxed" or path.stem.endswith("_worker") or name.startswith("_"):
                    continue
                if path.stem == "vllm_draws" and importlib.util.find_spec("vllm") is None:
                    continue  # vLLM imports it
                module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
                kind = getattr(module, name, None)
                if inspect.isclass(kind) and issubclass(kind, BaseException) and name not in INNER:
                    assert issubclass(kind, StepwellError), f"{module.__name__}.{name} is not in the tree"
                    found.add(name)
    assert found - {"StepwellError"} == drawn
