"""What a request asks for, in whichever dialect, and what comes back: the types that all of the server shares."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from agent.recipes.recipe import Component
from agent.search.budget import Budget
from envs.core import Turn
from envs.errors import StepwellError

Content = Literal["answer", "solution"]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]

_NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{1,40})?([eE][+-]?\d{1,2})?|\d{1,40}/0*[1-9]\d{0,40})", re.ASCII)


class Refused(StepwellError, Exception):
    """A request is not answered, and why.

    Args:
        status: of HTTP.
        message: what was given, what is allowed and the nearest match; it may be shown to anybody.
        param: the field at fault.
        retry_after: seconds after which it may be tried again.
    """

    def __init__(self, status: int, message: str, param: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.retry_after = status, message, param, retry_after


@dataclass(frozen=True)
class AnswerForm:
    """The JSON object that an answer is put into.

    Args:
        key: its one property.
        kind: what the value must be.
    """

    key: str = "answer"
    kind: Literal["string", "number", "integer", "boolean"] = "string"

    def fill(self, answer: str) -> dict[str, Any] | None:
        """The object, or None where the answer is not of this kind."""
        text = answer.strip()
        if self.kind == "string":
            return {self.key: answer}
        if self.kind == "boolean":
            known = {"true": True, "yes": True, "false": False, "no": False}.get(text.lower())
            return None if known is None else {self.key: known}
        if not _NUMBER.fullmatch(text):
            return None
        number = Fraction(text)
        if number.denominator == 1:
            return {self.key: int(number)}
        return {self.key: float(number)} if self.kind == "number" else None


@dataclass(frozen=True)
class Asked:
    """What a request asks for.

    Args:
        model: names a recipe, and maybe a strategy and a number of samples.
        question: the last turn of the user.
        conversation: the turns before it.
        strategy: instead of the model's.
        budget: instead of the model's.
        effort: how much of the model's budget to spend.
        tokens: most tokens of the policy.
        temperature: of the samples, instead of the recipe's.
        seed: of the samples, instead of the recipe's.
        choices: searches, with seeds that follow each other.
        stop: texts before which the content ends.
        form: what the answer is put into.
        content: the answer alone, or the solution that leads to it.
        deadline: seconds after which the best answer so far is returned.
        abstain_below: confidence below which no answer is given.
    """

    model: str
    question: str
    conversation: tuple[Turn, ...] = ()
    strategy: Component | None = None
    budget: Budget | None = None
    effort: Effort | None = None
    tokens: int | None = None
    temperature: float | None = None
    seed: int | None = None
    choices: int = 1
    stop: tuple[str, ...] = ()
    form: AnswerForm | None = None
    content: Content = "answer"
    deadline: float | None = None
    abstain_below: float = 0.0


@dataclass(frozen=True)
class Usage:
    """What searches cost in tokens; the verifier's are among those that were read.

    Args:
        read: by the policy (prompts and prefixes that were not kept) and by the verifier.
        verifier: those that the verifier read.
        written: by the policy.
        content: those of them that are in the solution that leads.
    """

    read: int = 0
    verifier: int = 0
    written: int = 0
    content: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.read + other.read,
            self.verifier + other.verifier,
            self.written + other.written,
            self.content + other.content,
        )

    @classmethod
    def of(cls, spent: Mapping[str, Any], content: int = 0) -> Usage:
        """As `agent.search.budget.Meter` counted."""
        verifier = int(spent.get("verifier_tokens", 0))
        written = int(spent.get("generated", 0))
        return cls(int(spent.get("prefilled", 0)) + verifier, verifier, written, min(content, written))


@dataclass(frozen=True)
class Progress:
    """A line about a search under way.

    Args:
        index: of the choice.
        text: with the line's end.
    """

    index: int
    text: str


@dataclass(frozen=True)
class Result:
    """What one search of a request found.

    Args:
        index: of the choice.
        content: what is said.
        refusal: why nothing is said, where an answer cannot be put as was asked; None otherwise.
        finish: ``length`` where a limit ended the search before any answer was found.
        usage: what it cost.
        reasoning: the lines about the search, all of them.
        about: the ``stepwell`` field: plan, confidence, cost, links.
        cut: the stop text before which the content ends.
    """

    index: int
    content: str
    refusal: str | None
    finish: Literal["stop", "length"]
    usage: Usage
    reasoning: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)
    cut: str | None = None


Event = Progress | Result | Refused
