"""What may be said about a checkpoint, by family: which family takes which is known once the checkpoint is."""

from __future__ import annotations

from typing import Annotated, TypedDict

from envs.options import Above, AtLeast
from verifiers.families.implicit import Measure


class LayoutOptions(TypedDict, total=False):
    """Of the families that are read in one pass.

    Attributes:
        separator: what closes a step, of ``token-classification`` and of probes.
        label: of ``token-classification`` and ``outcome``: the label that stands for right, where the names do not say.
    """

    separator: str
    label: str


class FamilyOptions(LayoutOptions, total=False):
    """Of all families.

    Attributes:
        reference: of ``implicit``: folder or id of the model that it was trained from.
        backbone: of probes: where their backbone is, if not where their folder says (the same model, in another file).
        coef, measure: of ``implicit``: beta, and what is made of the likelihoods.
        votes: of those that write: critiques of a step.
        temperature, top_p, top_k: of those that write: how they sample.
        tokens: of those that write: most that are written about a step.
        rows: of those that write: most texts that are written at once.
    """

    reference: str
    backbone: str
    coef: Annotated[float, Above(0)]
    measure: Measure
    votes: Annotated[int, AtLeast(1)]
    temperature: Annotated[float, AtLeast(0)]
    top_p: Annotated[float, Above(0, 1)]
    top_k: Annotated[int, AtLeast(0)]
    tokens: Annotated[int, AtLeast(1)]
    rows: Annotated[int, AtLeast(1)]
