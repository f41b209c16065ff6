"""Judges behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Annotated

from envs.core import Environment, State
from envs.options import AtLeast, Group
from policies.servers.http_client import Client, ConnectionLimits
from policies.servers.openai_protocol import Model, Sampling, Written, find_model, request_of
from verifiers.backends.server import Query, ServedVerifier
from verifiers.families.judge import choice_letters, comparison_of, question_of
from verifiers.scoring.cached_scorer import ROUNDED
from verifiers.scoring.score_layout import PRIOR, spoken

_TOP = 20  # alternatives that a judge is asked for: the most that servers give


# ---------------------------------------------------------------------------------------------------------- judges


class Judging:
    """What a language model is asked as a judge: about each prefix of a solution, and the chance that it says "Yes".

    Args:
        environment: whose states.
        model: at the server.
    """

    def __init__(self, environment: Environment, model: Model) -> None:
        self.environment, self.model = environment, model

    def of(self, state: State) -> tuple[list[Hashable], list[Query]]:
        """One call for each prefix with another text."""
        question, steps = state.problem.question.strip(), list[str]()
        keys: list[Hashable] = []
        for step in state.steps:
            if text := spoken(step, self.environment.delimiter):
                steps.append(text)
            keys.append((question, *steps) if steps else PRIOR)
        return keys, [self._query(question, tuple(steps[:end])) for end in range(1, len(steps) + 1)]

    def together(self, states: Sequence[State]) -> tuple[list[Hashable], list[Query]]:
        """One call that asks which of some solutions is the best."""
        solutions = tuple(self._solution(state) for state in states)
        keys: list[Hashable] = [("best of", index, *solutions) for index in range(len(states))]
        letters = choice_letters(len(states))
        text = comparison_of(states[0].problem.question.strip(), solutions)
        call = request_of(self.model, [{"role": "user", "content": text}], Sampling(1, alternatives=_TOP))
        return keys, [Query(tuple(keys), call, lambda written: self._chances(written, letters))]

    def _solution(self, state: State) -> str:
        """The text of a solution."""
        return "\n\n".join(text for step in state.steps if (text := spoken(step, self.environment.delimiter)))

    def _query(self, question: str, steps: tuple[str, ...]) -> Query:
        messages = [{"role": "user", "content": question_of(question, steps)}]
        return Query(
            ((question, *steps),), request_of(self.model, messages, Sampling(1, alternatives=_TOP)), self._scores
        )

    def _scores(self, written: Written) -> tuple[list[float], int]:
        """The probability of "Yes" beside that of "No"; NaN where neither is among the likeliest tokens."""
        chances, tokens = self._chances(written, ("Yes", "No"))
        return chances[:1], tokens

    def _chances(self, written: Written, words: Sequence[str]) -> tuple[list[float], int]:
        """The probability of each word beside the others; NaN where none is among the likeliest tokens."""
        if written.reason:  # it was filtered, or broken off
            return [math.nan] * len(words), max(0, (written.prompt or 0) - written.cached)
        if not written.alternatives or not written.alternatives[0]:
            raise ValueError(f"the server of {self.model.name} gives no likeliest tokens, which a judge is read from")
        chances = [
            math.fsum(math.exp(value) for token, value in written.alternatives[0].items() if token.strip() == word)
            for word in words
        ]
        total = math.fsum(chances)
        tokens = max(0, (written.prompt or 0) - written.cached) + (written.generated or 1)
        return [round(chance / total, ROUNDED) if total else math.nan for chance in chances], tokens


def load_judge(
    model: str,
    environment: Environment,
    *,
    base_url: str = "http://localhost:8000/v1",
    server: str = "auto",
    parameters: Annotated[int, AtLeast(0)] = 0,
    key_variable: str = "OPENAI_API_KEY",
    limits: Annotated[ConnectionLimits, Group()] = ConnectionLimits(),  # noqa: B008 - frozen
) -> ServedVerifier:
    """Any chat model behind an OpenAI-compatible server that tells the likeliest tokens, as a judge.

    Args:
        model: as the server calls it; the only one it has if empty.
        environment: whose states it scores.
        base_url: of the server, with its version.
        server: its kind, one of `policies.servers.openai_protocol.KINDS`; ``auto`` asks it.
        parameters: of the model, for FLOPs; 0 takes what the server says, if it says.
        key_variable: the environment variable that holds the API key, if the server wants one.
        limits: see `policies.servers.http_client.ConnectionLimits`.

    Raises:
        ConnectionError: the server does not answer.
        ValueError: the server has no such model.
    """
    client = Client(base_url, limits, key_variable)
    try:
        served = find_model(client, model, server)
    except BaseException:
        client.close()
        raise
    name = f"{served.name.rstrip('/').rpartition('/')[2]}-judge"
    return ServedVerifier(name, parameters or served.parameters, Judging(environment, served), client, served.name)
