"""Packages that only some parts need: asked for by name, with what to install when they are missing."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import importlib.util
import json
import re
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

from envs.core import Problem, State, Step, Transition
from envs.errors import StepwellError

_LINE_END = re.compile(r"\r*\n|\r")


def require(extra: str, *packages: str) -> None:
    """Raise ImportError if a package is missing, naming the extra of Stepwell that installs it; imports nothing."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise ImportError(f"this needs {' and '.join(missing)}, not installed here: pip install 'stepwell[{extra}]'")


class UsageError(StepwellError, ValueError):
    """A recipe cannot be used; the message says where, what was given and what is allowed."""


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """Which keys differ between two configurations, in words."""
    keys = dict.fromkeys([*theirs, *ours])
    return [
        f"{key}: {json.dumps(theirs.get(key))} there, {json.dumps(ours.get(key))} now"
        for key in keys
        if theirs.get(key) != ours.get(key)
    ]


def nearest(given: str, allowed: Iterable[str]) -> str:
    """A question naming the nearest allowed word, to be appended to an error; empty when nothing is near."""
    words = {each.lstrip(_MARKS) or each: each for each in allowed if each != given}  # it may be there, and no file
    matches = difflib.get_close_matches(given.lstrip(_MARKS)[:_COMPARED], list(words), n=1)
    return f"; did you mean {words[matches[0]]!r}?" if matches else ""


_COMPARED = 200  # characters of a word that are compared with those that are allowed
_MARKS = "/-"  # of commands and options: what all have in common brings no two of them nearer
_SHOWN = 300  # characters of a value in an error, at most


class _Short(reprlib.Repr):
    """Python's own abbreviations, and of a number with thousands of digits how long it is."""

    def repr_int(self, x: int, level: int) -> str:
        return f"<a number of {x.bit_length()} bits>" if x.bit_length() > 1000 else super().repr_int(x, level)


_SHORT = _Short()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlevel = 3  # a list of lists of lists may be short in a file and endless when it is written out


def short(value: object) -> str:
    """A value as errors show it: a state by its problem and steps, long texts cut in the middle."""
    match value:
        case Problem():
            return short(value.id)
        case State():
            return f"{short(value.problem)} after {short(tuple(getattr(step, 'text', step) for step in value.steps))}"
        case Step():
            return short(value.text) + (f" (finish {value.finish!r})" if value.finish != "step" else "")
        case Transition():
            return f"{value.status} with reward {value.reward} at {short(value.state)}"
        case str() if len(value) < 200:
            return repr(value)
    text = _SHORT.repr(value).replace("\n", " ")  # of an array, say
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def no_json(facts: Any) -> str:
    """Why facts cannot be written as an object of JSON; empty if they can."""
    try:
        json.dumps(dict(facts))
    except (TypeError, ValueError, RecursionError) as error:
        return str(error) or type(error).__name__
    return ""


def with_line_feeds(text: str) -> str:
    r"""A text whose lines end with ``\n``, also where Windows (``\r\n``) or an old Mac (``\r``) wrote it."""
    return _LINE_END.sub("\n", text)
