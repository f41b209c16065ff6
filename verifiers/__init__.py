"""Stepwell: who judges a step. The contract of verifiers, the ones that ship, voting, and their training."""

import runpy
from pathlib import Path

# If one of our packages is not ours, say so plainly.
runpy.run_path(str(Path(__file__).parents[1] / "envs" / "import_guard.py"))

from verifiers.conformance import check_verifier
from verifiers.core import Comparer, ConfidenceReader, Score, Scored, Verifier
from verifiers.ensemble import Ensemble
from verifiers.registry import list_verifiers, load_verifier, verifier_names
from verifiers.symbolic import SymbolicVerifier
from verifiers.table import TableVerifier
from verifiers.voting import Candidate, Group, Vote, aggregate, tally

__all__ = [
    "Candidate",
    "Comparer",
    "ConfidenceReader",
    "Ensemble",
    "Group",
    "Score",
    "Scored",
    "SymbolicVerifier",
    "TableVerifier",
    "Verifier",
    "Vote",
    "aggregate",
    "check_verifier",
    "list_verifiers",
    "load_verifier",
    "tally",
    "verifier_names",
]
