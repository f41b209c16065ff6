"""Families of verifiers: one file each, with what is particular to it."""

from __future__ import annotations

from typing import Any

from verifiers.families.genprm import GenPRM
from verifiers.families.implicit import Implicit
from verifiers.families.judge import Judge
from verifiers.families.math_shepherd import MathShepherd
from verifiers.families.outcome import Outcome
from verifiers.families.qwen_prm import QwenPRM
from verifiers.families.rlhflow import RLHFlow
from verifiers.families.skywork import Skywork
from verifiers.families.thinkprm import ThinkPRM
from verifiers.families.token_classification import TokenClassification
from verifiers.families.versa import Versa

__all__ = [
    "CRITICS",
    "FAMILIES",
    "GenPRM",
    "Implicit",
    "Judge",
    "MathShepherd",
    "Outcome",
    "QwenPRM",
    "RLHFlow",
    "Skywork",
    "ThinkPRM",
    "TokenClassification",
    "Versa",
]

FAMILIES: dict[str, Any] = {
    family.name: family
    for family in (Judge, MathShepherd, Outcome, QwenPRM, RLHFlow, Skywork, TokenClassification, Versa)
}
"""Those that score what they read in one pass (`verifiers.scoring.score_layout.Family`), by the names that recipes
use."""

CRITICS: dict[str, Any] = {critic.name: critic for critic in (GenPRM, ThinkPRM)}
"""Those that write before they judge (`verifiers.scoring.generative_verifier.Critic`)."""
