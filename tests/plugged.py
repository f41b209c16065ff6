"""A distribution of somebody else: an environment, a policy, a backend, a verifier and a strategy, and broken names."""

from pathlib import Path

import pytest

SOURCE = '''
"""Parts of all kinds, for the tests of plug-ins."""
from __future__ import annotations
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self

from agent.search.requests import propose, score
from agent.strategies.traits import Traits
from envs.options import AtLeast
from envs.toy import Toy
from policies.scripted import ScriptedPolicy
from verifiers.table import TableVerifier
from verifiers.voting import Vote

CALLED = []


class Purse(Toy):
    """The toy by another name."""

    def __init__(self, size: Annotated[int, AtLeast(1)] = 3) -> None:
        self.size = size


class Guesser(ScriptedPolicy):
    """A policy of somebody else."""

    def __init__(self, environment, eager: bool = False) -> None:
        super().__init__(environment, name="guesser")
        self.eager = eager


class Served(ScriptedPolicy):
    """A backend of somebody else: runs a model that is named."""

    def __init__(self, model: str, environment, *, depth: Annotated[int, AtLeast(1)] = 1) -> None:
        super().__init__(environment, name=model)
        self.depth = depth


class Judge(TableVerifier):
    """A verifier of somebody else."""

    def __init__(self, environment, strict: bool = False) -> None:
        super().__init__(environment, name="judge")
        self.strict = strict


@dataclass(frozen=True)
class Pairs:
    """Samples in pairs.

    Args:
        n: samples.
        pair: samples at once.
        temperature: of the samples.
        vote: over all that finished.
    """

    n: int = 16
    pair: Annotated[int, AtLeast(1)] = 2
    temperature: float = 1.0
    vote: Vote = field(default_factory=Vote)

    @classmethod
    def sized(cls, n: int, **knobs: Any) -> Self:
        return cls(n=n, **knobs)

    @property
    def traits(self) -> Traits:
        return Traits()

    def search(self, graph):
        for drawn in range(0, self.n, self.pair):
            (ends,) = yield from propose(
                graph, [graph.root], min(self.pair, self.n - drawn), self.temperature, max_steps=None
            )
            yield from score(graph, sorted(set(ends)))


def make_purse(size: int = 3) -> Purse:
    return Purse(size)


def silent(*args, **options):
    CALLED.append(options)


class Bystander:
    """A class that is none of them, and tells when it is called."""

    def __init__(self, *args: Any, **options: Any) -> None:
        CALLED.append(options)
'''
KINDS = {"envs": "purse = others:Purse", "policies": "guesser = others:Guesser\nserved = others:Served",
         "verifiers": "judge = others:Judge", "strategies": "pairs = others:Pairs"}  # fmt: skip
BROKEN = "gone = nowhere_at_all:Gone\nquits = others_quitting:Gone\nsilent = others:silent"


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the distribution where Python looks for them; returns the file with the parts."""
    info = folder / "others-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    package = folder / "others"
    package.mkdir()
    (package / "__init__.py").write_text(SOURCE)
    (folder / "others_quitting.py").write_text("import sys\nsys.exit(3)\n")
    groups = [f"[stepwell.{kind}]\n{names}\n{BROKEN}\n" for kind, names in KINDS.items()]
    (info / "entry_points.txt").write_text("".join(groups))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(__import__("sys").modules, "others", raising=False)
    return package / "__init__.py"
