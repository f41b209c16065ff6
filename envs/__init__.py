"""Stepwell: what a problem is. The MDP, the environments that ship, their registry and their conformance kit."""

import runpy
from pathlib import Path

# If one of our packages is not ours, say so plainly.
runpy.run_path(str(Path(__file__).parents[1] / "envs" / "import_guard.py"))

from envs.arithmetic import Arithmetic
from envs.conformance import Findings, NonConforming, Timing, check_environment, examine_environment
from envs.core import (
    SPLITS,
    Demonstrator,
    Environment,
    Finish,
    Observer,
    Problem,
    Reviser,
    Role,
    SelfProving,
    SlowStepper,
    Split,
    State,
    Status,
    Step,
    StepChecker,
    StepLister,
    Transition,
    Turn,
    UnreadableQuestion,
    is_text,
    opening,
    render,
    revision_prompt,
    termination,
    transition,
    truncation,
)
from envs.countdown import Countdown
from envs.errors import StepwellError
from envs.guarded import EnvironmentFailure, Guarded, guard
from envs.math.environment import Math
from envs.plugins import Listed, UnusablePart
from envs.registry import UnusableEnvironment, list_environments, load_environment
from envs.splits import split_of
from envs.toy import Toy

__all__ = [
    "SPLITS",
    "Arithmetic",
    "Countdown",
    "Demonstrator",
    "Environment",
    "EnvironmentFailure",
    "Findings",
    "Finish",
    "Guarded",
    "Listed",
    "Math",
    "NonConforming",
    "Observer",
    "Problem",
    "Reviser",
    "Role",
    "SelfProving",
    "SlowStepper",
    "Split",
    "State",
    "Status",
    "Step",
    "StepChecker",
    "StepLister",
    "StepwellError",
    "Timing",
    "Toy",
    "Transition",
    "Turn",
    "UnreadableQuestion",
    "UnusableEnvironment",
    "UnusablePart",
    "check_environment",
    "examine_environment",
    "guard",
    "is_text",
    "list_environments",
    "load_environment",
    "opening",
    "render",
    "revision_prompt",
    "split_of",
    "termination",
    "transition",
    "truncation",
]
