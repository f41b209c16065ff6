"""Samples that a policy drew once, with the scores that a verifier gave them: a file that is replayed without a model.

A pool is a file of JSON Lines, packed by gzip if its name ends in ``.gz``. ``stepwell export FILE --to samples`` writes
it. The first line says which models it is of (`PoolHead`), each further one holds the samples of a problem at a
temperature (`PooledProblem`)::

    {"format": "stepwell-samples/1", "policy": "qwen", "policy_parameters": 494032768, "policy_digest": "",
     "verifier": "prm", "verifier_parameters": 0, "verifier_digest": ""}
    {"problem": "math/gsm8k/7", "temperature": 0.7, "prompt_tokens": 81, "samples": [
        {"steps": [["There are 3 boxes.", 6, -0.4, "step", ""]], "scores": [0.8], "verifier_tokens": 120}]}

Each of the steps is text, tokens, log-probability, finish, and observation, as of `envs.core.Step`.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from envs.core import Finish, Step
from envs.errors import StepwellError
from envs.messages import short

FORMAT = "stepwell-samples/1"
_LARGEST_LINE = 16 << 20  # characters; the samples of one problem
_LARGEST = 2 << 30  # characters of the whole file, unpacked


class UnreadablePool(StepwellError, ValueError):
    """A file holds no samples that can be replayed; the message says where and why."""


@dataclass(frozen=True)
class PoolHead:
    """The models that a pool is of.

    Args:
        policy: name of the policy in records.
        policy_parameters: of its model, for FLOPs.
        policy_digest: of its model; empty if unknown.
        verifier: name of the verifier; ``none`` if the samples have no scores.
        verifier_parameters: of its model.
        verifier_digest: of its model; empty if unknown.
    """

    policy: str
    policy_parameters: int
    policy_digest: str = ""
    verifier: str = "none"
    verifier_parameters: int = 0
    verifier_digest: str = ""


@dataclass(frozen=True)
class PooledSample:
    """One whole solution.

    Args:
        steps: of the solution.
        scores: of the steps, in [0, 1]; None where the verifier was not asked.
        verifier_tokens: tokens that the verifier ran for it.
    """

    steps: tuple[Step, ...]
    scores: tuple[float, ...] | None = None
    verifier_tokens: int = 0


@dataclass(frozen=True)
class PooledProblem:
    """The samples of one problem at one temperature.

    Args:
        problem: its id.
        temperature: of the samples.
        prompt_tokens: of the prompt; a search is charged them once.
        samples: independent, in the order drawn or any other.
    """

    problem: str
    temperature: float
    prompt_tokens: int
    samples: tuple[PooledSample, ...]


@dataclass(frozen=True)
class SamplePool:
    """A file of samples.

    Args:
        path: of the file.
        head: its models.
        problems: by id and temperature.
    """

    path: Path
    head: PoolHead
    problems: Mapping[tuple[str, float], PooledProblem] = field(repr=False)

    @classmethod
    def read(cls, path: str | Path) -> SamplePool:
        """Read a file.

        Raises:
            UnreadablePool: it is not there, is no pool, or a line of it is not as it should be.
        """
        path = Path(path).expanduser()
        problems: dict[tuple[str, float], PooledProblem] = {}
        head: PoolHead | None = None
        for number, row in enumerate(_rows(path), 1):
            try:
                if head is None:
                    head = _head(row)
                    continue
                made = _problem(row)
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
                said = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
                raise UnreadablePool(f"{path}, line {number}: {short(said)}") from None
            key = made.problem, made.temperature
            if key in problems:
                raise UnreadablePool(f"{path}, line {number}: problem {short(made.problem)} at this temperature again")
            problems[key] = made
        if head is None:
            raise UnreadablePool(f"{path} is empty; 'stepwell export FILE --to samples' writes a file of samples")
        return cls(path, head, problems)

    def samples(self, problem: str, temperature: float) -> PooledProblem:
        """The samples of a problem at a temperature.

        Raises:
            LookupError: there are none; the message says what there is.
        """
        found = self.problems.get((problem, temperature))
        if found is not None:
            return found
        known = sorted({t for id, t in self.problems if id == problem})
        if not known:
            raise LookupError(f"{self.path} has no samples of problem {short(problem)}")
        at = ", ".join(f"{t:g}" for t in known)
        raise LookupError(f"{self.path} has samples of {short(problem)} at temperature {at}, none at {temperature:g}")


def write_pool(path: Path, head: PoolHead, problems: Iterator[PooledProblem]) -> int:
    """Write a file of samples; returns how many samples it has."""
    count = 0
    with gzip.open(path, "wt", encoding="utf-8") if path.suffix == ".gz" else path.open("w", encoding="utf-8") as file:
        file.write(_line({"format": FORMAT} | vars(head)))
        for each in problems:
            rows = [
                {
                    "steps": [[s.text, s.tokens, round(s.logprob, 4), s.finish, s.observation] for s in sample.steps],
                    "scores": sample.scores,
                    "verifier_tokens": sample.verifier_tokens,
                }
                for sample in each.samples
            ]
            file.write(_line(vars(each) | {"samples": rows}))
            count += len(rows)
    return count


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row) + "\n"  # ASCII: half a surrogate pair is kept, too


def _rows(path: Path) -> Iterator[Any]:
    """The lines of a file, parsed; of bounded size, packed or not."""
    if not path.is_file():
        raise UnreadablePool(f"there is no file {str(path)!r}")
    read = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            while line := file.readline(_LARGEST_LINE):
                read += len(line)
                if (len(line) == _LARGEST_LINE and not line.endswith("\n")) or read > _LARGEST:
                    raise UnreadablePool(f"{path} is too large: a line may have {_LARGEST_LINE} characters")
                if line.strip():
                    yield json.loads(line)
    except UnreadablePool:
        raise
    except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:  # ValueError: a number of many digits
        raise UnreadablePool(f"{path} is no file of samples: {short(str(error))}") from None


def _head(row: Any) -> PoolHead:
    if not isinstance(row, dict) or row.get("format") != FORMAT:
        raise ValueError(f"no file of samples: its first line must have the format {FORMAT!r}")
    names = {key: str(row[key]) for key in ("policy", "policy_digest", "verifier", "verifier_digest")}
    sizes = {key: _whole(row[key], key) for key in ("policy_parameters", "verifier_parameters")}
    return PoolHead(**names, **sizes)  # type: ignore[arg-type]


def _problem(row: Any) -> PooledProblem:
    temperature = float(row["temperature"])
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature {temperature} given; it must be 0 or more")
    samples = tuple(_sample(each) for each in row["samples"])
    if not samples:
        raise ValueError("no samples")
    return PooledProblem(str(row["problem"]), temperature, _whole(row["prompt_tokens"], "prompt_tokens"), samples)


def _sample(row: Any) -> PooledSample:
    steps = tuple(_step(*each) for each in row["steps"])
    if not steps:
        raise ValueError("a sample without steps")
    scores = row.get("scores")
    if scores is not None:
        scores = tuple(float(each) for each in scores)
        if len(scores) != len(steps) or not all(0 <= each <= 1 for each in scores):
            raise ValueError("scores must be one number in [0, 1] for each step")
    return PooledSample(steps, scores, _whole(row.get("verifier_tokens", 0), "verifier_tokens"))


def _step(text: Any, tokens: Any, logprob: Any, finish: Any, observation: Any) -> Step:
    if finish not in get_args(Finish):
        raise ValueError(f"finish {finish!r} given; allowed: {', '.join(get_args(Finish))}")
    if not isinstance(text, str) or not isinstance(observation, str) or not math.isfinite(float(logprob)):
        raise ValueError("a step is text, tokens, log-probability, finish and observation")
    return Step(text, _whole(tokens, "tokens"), float(logprob), finish, observation)


def _whole(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 62:
        raise ValueError(f"{name} {value!r} given; it must be a whole number, 0 or more")
    return value
