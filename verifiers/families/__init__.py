"""Families of verifiers that score what they read in one pass: one file each, with what is particular to it."""

from __future__ import annotations

from typing import Any

from verifiers.families.judge import Judge
from verifiers.families.math_shepherd import MathShepherd
from verifiers.families.outcome import Outcome
from verifiers.families.qwen_prm import QwenPRM
from verifiers.families.rlhflow import RLHFlow
from verifiers.families.skywork import Skywork
from verifiers.families.token_classification import TokenClassification
from verifiers.families.versa import Versa

__all__ = [
    "FAMILIES",
    "Judge",
    "MathShepherd",
    "Outcome",
    "QwenPRM",
    "RLHFlow",
    "Skywork",
    "TokenClassification",
    "Versa",
]

FAMILIES: dict[str, Any] = {
    family.name: family
    for family in (Judge, MathShepherd, Outcome, QwenPRM, RLHFlow, Skywork, TokenClassification, Versa)
}
"""By the names that recipes use: classes of `verifiers.layout.Family`, each made with the `Texts` of a checkpoint, and
options of its own."""
