"""Generative verifiers: a model writes what it thinks of a solution, and is then read where it says yes or no.

What is judged is each prefix of a solution, once per search: the score of a step is the probability of "yes" beside
that of "no" (a softmax over these two) after the model has thought about the solution up to it. With more votes than
one, each is written with a seed of its own, and the score is their mean. A text that does not come to its verdict
within its tokens is brought to it: the words that lead to the verdict are put there, and read on from.

Nothing that a model writes is executed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from envs.core import Environment, State
from policies.models.digest import model_digest
from policies.models.prefix_tree import Ids
from verifiers.core import Score, Scored
from verifiers.scoring.cached_scorer import ROUNDED, Spent
from verifiers.scoring.critique_generation import CritiqueOptions, CritiqueWriter, Draft
from verifiers.scoring.score_layout import PRIOR, Head, Reading, Script, keys_of, spoken
from verifiers.scoring.tokenization import Texts

_BURST = 16  # most decode steps of one poll, so that a caller can interrupt

Key = tuple[str, tuple[str, ...], int]
"""A question, the steps up to the one that is judged, and which vote."""


class Critic(Protocol):
    """A kind of generative verifier: what is particular to it, and nothing that runs.

    Attributes:
        name: in recipes.
        head: what its checkpoints have on top.
        reading: which tokens are yes and no.
        sampling: how its authors sample.
        stop: the text that ends what it thinks.
        verdict: what is put after that, and leads to yes or no.
        chained: whether it goes on from what it wrote about the steps before.
    """

    name: str
    head: Head
    reading: Reading
    sampling: CritiqueOptions
    stop: str
    verdict: str
    chained: bool

    def write(self, question: str, steps: Sequence[str], before: Ids, right: bool) -> Script:
        """The prompt about the last of the steps.

        Args:
            question: of the problem.
            steps: none without text.
            before: all that was read and written about the steps before it, where that is chained and there are any.
            right: what the verdict was then.
        """
        ...


@dataclass(frozen=True)
class _Verdict:
    """What came of a draft."""

    chance: float
    whole: Ids


@dataclass
class _Job:
    """A request in progress: for each state its steps with text, and how many of them each of its steps has seen."""

    scope: str
    states: list[tuple[str, tuple[str, ...], tuple[int, ...]]]
    spent: Spent = field(default=Spent())


@dataclass
class _Scope:
    """What a search has asked about, and whose request each draft in progress was first wanted by."""

    known: dict[Key, _Verdict] = field(default_factory=dict)
    asked: dict[Key, int] = field(default_factory=dict)


class CriticVerifier:
    """A generative checkpoint as a `Verifier`.

    Args:
        name: in records.
        parameters: of the model.
        critic: how it is asked.
        texts: its tokenizer.
        environment: whose states it scores.
        writer: what writes.
        votes: texts per prefix.
        place: folder of the model.

    Raises:
        ValueError: for no votes, or several that would all be the same.
    """

    def __init__(
        self,
        name: str,
        parameters: int,
        critic: Critic,
        texts: Texts,
        environment: Environment,
        writer: CritiqueWriter,
        votes: int = 1,
        place: Path | None = None,
    ) -> None:
        if votes < 1 or (votes > 1 and not writer.sampling.temperature):
            given = f"{votes} votes at temperature {writer.sampling.temperature}"
            raise ValueError(f"{given}; at least one is needed, and more than one differ only above 0")
        self.name, self.parameters = name, parameters
        self.writer = writer
        self._place = place
        self._critic, self._texts, self._votes = critic, texts, votes
        self._delimiter = environment.delimiter
        self._jobs: dict[int, _Job] = {}
        self._scopes: dict[str, _Scope] = {}
        self._drafts: dict[Draft, Key] = {}

    def digest(self) -> str:
        """Of the files that make the model."""
        return model_digest(self._place) if self._place else ""

    def submit(self, ticket: int, request: Score) -> None:
        """Queue a request; raises ValueError when its ticket is in use."""
        if ticket in self._jobs:
            raise ValueError(f"ticket {ticket} is in use")
        self._jobs[ticket] = _Job(request.scope, [self._read(state) for state in request.states])
        self._scopes.setdefault(request.scope, _Scope())
        self._ask(ticket)

    def poll(self) -> Sequence[tuple[int, Scored]]:
        """Write for a while; return the requests all of whose prefixes are judged."""
        ready: list[tuple[int, Scored]] = []
        for _ in range(_BURST):
            ready = [(ticket, reply) for ticket in self._jobs if (reply := self._reply(ticket)) is not None]
            if ready or not self._jobs:
                break
            for draft in self.writer.step():
                self._done(draft)
        for ticket, _ in ready:
            del self._jobs[ticket]
        return ready

    def cancel(self, scope: str) -> None:
        """Drop the requests of a search and what was kept for it."""
        self._jobs = {ticket: job for ticket, job in self._jobs.items() if job.scope != scope}
        self._drafts = {draft: key for draft, key in self._drafts.items() if draft.scope != scope}
        self._scopes.pop(scope, None)
        self.writer.drop(scope)

    def close(self) -> None:
        """Drop everything, the memory included; the verifier may be used again."""
        self._jobs, self._drafts, self._scopes = {}, {}, {}
        self.writer.clear()

    # ----------------------------------------------------------------------------------------------------- prefixes

    def _read(self, state: State) -> tuple[str, tuple[str, ...], tuple[int, ...]]:
        steps: list[str] = []
        seen: list[int] = []
        for step in state.steps:
            if text := spoken(step, self._delimiter):
                steps.append(text)
            seen.append(len(steps))
        return state.problem.question.strip(), tuple(steps), tuple(seen)

    def _ask(self, ticket: int) -> None:
        """Have drafts written about the prefixes of a request that nobody asked about yet, as far as that can be."""
        job = self._jobs[ticket]
        there = self._scopes[job.scope]
        for question, steps, _ in job.states:
            for vote in range(self._votes):
                for end in range(1, len(steps) + 1):
                    key: Key = (question, steps[:end], vote)
                    before = there.known.get((question, steps[: end - 1], vote))
                    if key in there.known or key in there.asked:
                        continue
                    if self._critic.chained and end > 1 and before is None:
                        break  # asked when the verdict before it is there
                    there.asked[key] = ticket
                    draft = self._draft(job.scope, key, before)
                    self._drafts[draft] = key
                    self.writer.submit(draft)

    def _draft(self, scope: str, key: Key, before: _Verdict | None) -> Draft:
        question, steps, vote = key
        critic = self._critic
        whole, chance = (before.whole, before.chance) if before is not None and critic.chained else ((), 0.0)
        script = critic.write(question, steps, whole, chance >= 0.5)
        keys, _ = keys_of(script, self._texts)
        return Draft.of(
            scope,
            (whole, *keys) if whole else keys,
            f"{question}\n{steps}\n{vote}",
            closing=critic.verdict,
            forcing=f"\n{critic.stop}{critic.verdict}",
            keep=critic.chained,
        )

    def _done(self, draft: Draft) -> None:
        """A draft is written: remember its verdict, and go on with those that waited for it."""
        key = self._drafts.pop(draft)
        there = self._scopes[draft.scope]
        ticket = there.asked.pop(key)
        there.known[key] = _Verdict(self._critic.reading.probability(draft.outputs), draft.whole)
        if ticket in self._jobs:
            self._jobs[ticket].spent += draft.spent
        if self._critic.chained:
            for waiting, job in self._jobs.items():
                if job.scope == draft.scope:
                    self._ask(waiting)

    def _reply(self, ticket: int) -> Scored | None:
        """The reply, if all of a request's prefixes are judged."""
        job = self._jobs[ticket]
        known = self._scopes[job.scope].known
        scores: list[tuple[float, ...]] = []
        for question, steps, seen in job.states:
            found = [PRIOR]
            for end in range(1, len(steps) + 1):
                votes = [known.get((question, steps[:end], vote)) for vote in range(self._votes)]
                chances = [vote.chance for vote in votes if vote is not None]
                if len(chances) < self._votes:
                    return None
                found.append(round(math.fsum(chances) / self._votes, ROUNDED) if not _failed(chances) else math.nan)
            scores.append(tuple(found[count] for count in seen))
        return Scored(tuple(scores), job.spent.tokens, job.spent.flops, job.spent.reads)


def _failed(chances: Sequence[float]) -> bool:
    return any(map(math.isnan, chances))
