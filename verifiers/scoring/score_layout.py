"""How a model reads a state, and where the scores of its steps are found: apart from what runs the model.

A family of verifiers writes a state as one or more `Script`s, which a tokenizer turns into `Path`s of token ids. Scores
are read at positions that follow from how the text was put together, never by looking for a token: nothing that a
problem or a step says can forge one. Steps without text are left out, and have the score of the step before them
(`PRIOR` if there is none), so that a doubled or a trailing delimiter changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from envs.core import Environment, State, Step
from policies.generation.step_splitter import with_any_line_ends
from policies.models.prefix_tree import Ids
from verifiers.scoring.tokenization import Piece, Texts

PRIOR = 0.5  # score of empty steps before the first one with text

Head = Literal["causal", "classifier", "sequence", "mlp", "value", "probe"]
"""What a checkpoint must have on top: a language model's head, a linear classifier of tokens, one of the sequence,
two layers with a ReLU between, one number per token, or a probe's head in a folder of its own."""


@dataclass(frozen=True)
class Path:
    """A text that a model reads from left to right.

    Args:
        keys: the ids up to the end of each of its parts; each key goes on from the one before it.
        reads: for each key, the position whose output is a score, or -1; it lies in the part that the key ends.
    """

    keys: tuple[Ids, ...]
    reads: tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """All that is read of a state.

    Args:
        paths: what is read; none for a state without text.
        origin: for each step of the state, whose score it has: of which key of which path. None stands for `PRIOR`.
    """

    paths: tuple[Path, ...]
    origin: tuple[tuple[int, int] | None, ...]


@dataclass(frozen=True)
class Reading:
    """How the outputs at a position become a score.

    Args:
        columns: which outputs: token ids of a language model, labels of a classifier.
        want: which of the columns is the one whose probability is the score.

    One column is a logit (the score is its sigmoid), several are a choice (a softmax over them alone).
    """

    columns: tuple[int, ...]
    want: int = 0

    def probability(self, outputs: Sequence[float]) -> float:
        """The score that the outputs of the columns stand for; NaN if one of them is no finite number."""
        if not all(map(math.isfinite, outputs)):
            return math.nan
        odds = [output - outputs[self.want] for output in outputs] if len(outputs) > 1 else [0.0, -outputs[0]]
        top = max(odds)
        return math.exp(-top) / math.fsum(math.exp(each - top) for each in odds)


@dataclass(frozen=True)
class Script:
    """A text as a family writes it.

    Args:
        pieces: texts, which are tokenised together where they touch, and ids that stand for themselves.
        cuts: after how many pieces a part ends, and the index of the step whose score is read at the last token of the
            part; None for no score.
    """

    pieces: tuple[Piece, ...]
    cuts: tuple[tuple[int, int | None], ...]


class Family(Protocol):
    """A kind of verifier that scores what it reads in one pass: what is particular to it, and nothing that runs.

    Attributes:
        name: in recipes.
        head: what its checkpoints have on top.
        reading: how the outputs of the head become a score.
    """

    name: str
    head: Head
    reading: Reading

    def write(self, question: str, steps: Sequence[str]) -> Sequence[Script]:
        """The scripts of a problem and its steps, at least one, none without text; together they score every step."""
        ...


def spoken(step: Step, delimiter: str) -> str:
    """What a verifier reads of a step: without white space around it, delimiters in it read as spaces.

    What the environment observed (a tool's output) is read as the last line of the step that led to it.
    """
    text = " ".join(filter(None, with_any_line_ends(delimiter).split(step.text))).strip()
    return f"{text}\n{step.observation.strip()}" if text and step.observation.strip() else text


def lay_out(family: Family, texts: Texts, environment: Environment, state: State) -> Layout:
    """The token ids of a state in the form of a family, and where its scores are."""
    steps: list[str] = []
    whose: list[int] = []  # for each step of the state, how many steps with text there are up to it
    for step in state.steps:
        if text := spoken(step, environment.delimiter):
            steps.append(text)
        whose.append(len(steps))
    if not steps:
        return Layout((), (None,) * len(whose))
    paths: list[Path] = []
    places: dict[int, tuple[int, int]] = {}
    for script in family.write(state.problem.question.strip(), steps):
        keys, found = keys_of(script, texts)
        reads = [-1] * len(keys)
        for scored, key in found.items():
            reads[key] = len(keys[key]) - 1
            places[scored] = (len(paths), key)
        paths.append(Path(keys, tuple(reads)))
    return Layout(tuple(paths), tuple(places[count - 1] if count else None for count in whose))


def keys_of(script: Script, texts: Texts) -> tuple[tuple[Ids, ...], dict[int, int]]:
    """The ids up to the end of each part of a script, and for each step that is scored in it, at the end of which."""
    ids, ends = texts.encode(script.pieces)
    keys: list[Ids] = []
    found: dict[int, int] = {}
    for count, scored in script.cuts:
        whole, touched = ends[count]
        end = whole if scored is None else touched
        if end > (len(keys[-1]) if keys else 0):  # a part may be within a token that the next one begins with
            keys.append(ids[:end])
        if scored is not None:
            found[scored] = len(keys) - 1
    return tuple(keys), found
