"""Which output of a classifier says that a step is right: by the labels that its configuration gives to them.

Two labels are told apart by their names, wherever they stand: ``{0: "correct", 1: "incorrect"}`` is the reverse of
``{0: "incorrect", 1: "correct"}``. Names that say nothing (``LABEL_0``, ``LABEL_1``) stand for wrong and right in this
order, as those who train reward models have them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from envs.messages import nearest
from policies.models.errors import UnsupportedModel
from verifiers.scoring.score_layout import Reading

_RIGHT = frozenset(
    ("right", "correct", "good", "positive", "pos", "true", "yes", "valid", "accepted", "chosen", "passed", "ok")
)
_WRONG = frozenset(
    ("wrong", "incorrect", "bad", "negative", "neg", "false", "no", "invalid", "rejected", "failed", "fail", "error")
)
_SIGNS = {"1": True, "+": True, "+1": True, "0": False, "-": False, "-1": False}
_NOT = frozenset(("not", "non"))
_NEEDED = "say which one stands for a right step with `label`"


def reading_of(config: Mapping[str, Any], folder: Path, label: str | None = None, single: bool = False) -> Reading:
    """How the outputs of a classifier become the probability that a step is right.

    Args:
        config: of the checkpoint.
        folder: whose, for messages.
        label: the name or the number of the label that stands for right; it need not be one of two.
        single: whether one label is allowed: its output is then a reward, a logit.

    Raises:
        UnsupportedModel: when `label` is none of them, there are not two (or one) of them, or their names do not say
            which one stands for right.
    """
    labels = _labels(config, folder)
    if label is not None:
        return Reading(tuple(range(len(labels))), _given(labels, str(label), folder))
    allowed = "one or two" if single else "two"
    if len(labels) not in ((1, 2) if single else (2,)):
        count = "one label" if len(labels) == 1 else f"{len(labels)} labels"
        count += f" ({_listed(labels)})"
        raise UnsupportedModel(f"{folder} has {count}; a reward model has {allowed}; if it is one, {_NEEDED}")
    means = [meaning(name) for name in labels]
    if len(labels) == 1:
        if means == [False] and _bare(labels[0]) not in _SIGNS:
            raise UnsupportedModel(f"{folder} has one label, {labels[0]!r}: its output is no reward, but the reverse")
        return Reading((0,))
    if means[0] == means[1]:
        raise UnsupportedModel(f"{folder} has the labels {_listed(labels)}; {_NEEDED}")
    return Reading((0, 1), want=0 if means[0] or means[1] is False else 1)


def meaning(label: str) -> bool | None:
    """Whether a label stands for right (True) or for wrong (False); None where its name does not say."""
    bare = _bare(label)
    if bare in _SIGNS:
        return _SIGNS[bare]
    words = re.findall(r"[^\W_]+", bare)
    found = {word in _RIGHT for word in words if word in _RIGHT or word in _WRONG}
    negated = len([word for word in words if word in _NOT]) % 2 == 1
    return found.pop() != negated if len(found) == 1 else None


def _bare(label: str) -> str:
    return re.sub(r"^(label|class)[ _]?(?=\d)", "", label.casefold().strip())


def _labels(config: Mapping[str, Any], folder: Path) -> list[str]:
    """The names of the labels, by number."""
    named = config.get("id2label")
    if named is None:
        count = config.get("num_labels", 2)
        named = {number: f"LABEL_{number}" for number in range(count if isinstance(count, int) else 0)}
    try:
        numbered = {int(number): str(name) for number, name in named.items()}
        return [numbered[number] for number in range(len(numbered))]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UnsupportedModel(f"the id2label of {folder} is no list of labels by number: {str(named)[:200]}") from None


def _given(labels: list[str], label: str, folder: Path) -> int:
    folded = [name.casefold() for name in labels]
    if folded.count(label.casefold()) == 1:
        return folded.index(label.casefold())
    if label.isdecimal() and int(label) < len(labels):
        return int(label)
    raise UnsupportedModel(f"label {label!r} given{nearest(label, labels) or ';'} {folder} has {_listed(labels)}")


def _listed(labels: list[str]) -> str:
    return ", ".join(f"{number}: {name[:40]!r}" for number, name in enumerate(labels[:8]))
