"""Stepwell: who proposes a step. The contract of policies, the ones that ship, and their training."""

import runpy
from pathlib import Path

# If one of our packages is not ours, say so plainly.
runpy.run_path(str(Path(__file__).parents[1] / "envs" / "import_guard.py"))

from policies.conformance import check_policy
from policies.core import (
    ConfidenceRecorder,
    Converser,
    DistinctSampler,
    LargePolicyHolder,
    OpenLoopSampler,
    PartialReplier,
    Policy,
    Propose,
    Proposed,
    Thinker,
    Usage,
)
from policies.registry import list_policies, load_policy, policy_names
from policies.scripted import ScriptedPolicy
from policies.service import Identified, QueuedService, Service

__all__ = [
    "ConfidenceRecorder",
    "Converser",
    "DistinctSampler",
    "Identified",
    "LargePolicyHolder",
    "OpenLoopSampler",
    "PartialReplier",
    "Policy",
    "Propose",
    "Proposed",
    "QueuedService",
    "ScriptedPolicy",
    "Service",
    "Thinker",
    "Usage",
    "check_policy",
    "list_policies",
    "load_policy",
    "policy_names",
]
