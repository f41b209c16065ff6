"""Reward models behind a pooling endpoint (vLLM's ``/pooling``)."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Annotated, Any, Unpack

from envs.core import Environment, State
from envs.options import AtLeast, Group
from policies.models.errors import UnsupportedModel
from policies.models.prefix_tree import Ids
from policies.servers.http_client import LARGEST, Call, Client, ConnectionLimits, Unreadable
from policies.servers.openai_protocol import Model, find_model
from verifiers.backends.server import _FRAME, _ROW, Query, ServedVerifier
from verifiers.families import FAMILIES
from verifiers.families.options import LayoutOptions
from verifiers.scoring.cached_scorer import ROUNDED
from verifiers.scoring.score_layout import PRIOR, Family, lay_out
from verifiers.scoring.tokenization import Texts

_PROBE = "1 + 1 = 2"


# --------------------------------------------------------------------------------------------------- reward models


class Pooling:
    """What vLLM's POST /pooling is asked: token ids, and the outputs of the head at the tokens that are scored.

    Args:
        family: how the model reads a state.
        texts: its tokenizer.
        environment: whose states.
        model: at the server.
        steps: whether the server gives the outputs at the tags of steps only (its ``STEP`` pooling), and not at all
            tokens.
    """

    def __init__(self, family: Family, texts: Texts, environment: Environment, model: Model, steps: bool) -> None:
        self.family, self.texts, self.environment, self.model, self.steps = family, texts, environment, model, steps

    def of(self, state: State) -> tuple[list[Hashable], list[Query]]:
        """One call for each path; steps that end beyond the context are NaN."""
        layout = lay_out(self.family, self.texts, self.environment, state)
        room = self.model.context or math.inf
        marks = [
            [key[: read + 1] if read >= 0 else () for key, read in zip(path.keys, path.reads, strict=True)]
            for path in layout.paths
        ]
        keys: list[Hashable] = []
        for place in layout.origin:
            mark = None if place is None else marks[place[0]][place[1]]
            keys.append(PRIOR if mark is None else mark if len(mark) <= room else math.nan)
        asked = [tuple(mark for mark in each if mark and len(mark) <= room) for each in marks]
        return keys, [self._query(each) for each in asked if each]

    def _query(self, marks: tuple[Ids, ...]) -> Query:
        return Query(marks, _pooled(self.model, marks[-1]), lambda rows: self._scores(marks, rows))

    def _scores(self, marks: Sequence[Ids], rows: Sequence[Sequence[float]]) -> tuple[list[float], int]:
        """The scores at the ends of marks; vLLM gives no rows for tokens that it kept from before."""
        length, wanted = len(marks[-1]), len(marks)
        kept = 0 if self.steps else length - len(rows)
        places = range(wanted) if self.steps else [len(mark) - 1 - kept for mark in marks]
        if (self.steps and len(rows) != wanted) or kept < 0 or min(places) < 0:
            raise ValueError(
                f"{self.model.name} gave {len(rows)} outputs for {length} tokens with {wanted} scores; serve it with"
                " --no-enable-prefix-caching, and with outputs at all tokens or at the tags of steps"
            )
        columns = self.family.reading.columns
        if self.family.head == "causal":  # served as a classifier between these tokens
            columns = tuple(range(len(columns)))
        if max(columns) >= len(rows[0]):
            raise ValueError(f"{self.model.name} gives {len(rows[0])} outputs per token; {max(columns) + 1} are needed")
        read = [[rows[place][column] for column in columns] for place in places]
        return [round(self.family.reading.probability(outputs), ROUNDED) for outputs in read], length - kept


def _pooled(model: Model, ids: Ids) -> Call:
    """A call for the outputs of a head, a row per token."""
    body = {"model": model.name, "input": list(ids), "task": "token_classify", "use_activation": False}
    return Call("/pooling", body, _rows, min(_FRAME + _ROW * len(ids), LARGEST))


def _rows(reply: Any) -> list[list[float]]:
    (entry,) = reply["data"]
    rows = [[float(number) for number in row] for row in entry["data"]]
    if not all(rows):
        raise Unreadable("a row of outputs is empty")
    return rows


def load_pooling(
    name: str,
    environment: Environment,
    *,
    base_url: str = "http://localhost:8000/v1",
    model: str = "",
    family: str | None = None,
    parameters: Annotated[int, AtLeast(0)] = 0,
    key_variable: str = "OPENAI_API_KEY",
    limits: Annotated[ConnectionLimits, Group()] = ConnectionLimits(),  # noqa: B008 - frozen
    **options: Unpack[LayoutOptions],
) -> ServedVerifier:
    """A process or outcome reward model that vLLM serves.

    Args:
        name: a folder or a hub's id: its configuration and its tokenizer are needed here, its weights are not.
        environment: whose states it scores.
        base_url: of the server, with its version.
        model: as the server calls it; the only one it has if empty.
        family: which family it is of, where its name and its head do not say.
        parameters: of the model, for FLOPs; 0 if unknown.
        key_variable: the environment variable that holds the API key, if the server wants one.
        limits: how hard the server is pressed.
        options: of the family.

    Raises:
        ConnectionError: the server does not answer.
        UnsupportedModel: there is no such folder, or its tokenizer lacks what the family needs.
        ValueError: no such family or option, or the server has no such model.
    """
    from verifiers.backends.hf import check_family_options, family_of, find_checkpoint

    folder = find_checkpoint(name, weights=False)
    chosen = family_of(name, folder, family)
    if chosen not in FAMILIES:
        raise UnsupportedModel(f"served are the families {', '.join(sorted(FAMILIES))}; hf:{name} runs {chosen!r}")
    kind = FAMILIES[chosen]
    check_family_options(chosen, options)
    texts = Texts(folder)
    client = Client(base_url.rstrip("/").removesuffix("/v1"), limits, key_variable)
    try:
        served = find_model(client, model, path="/v1/models")
        ids, _ = texts.encode([_PROBE])
        rows = client.ask(*_pooled(served, ids))
        chosen_family = kind(texts, **options)
        queries = Pooling(chosen_family, texts, environment, served, steps=len(rows) != len(ids))
    except BaseException:
        client.close()
        raise
    return ServedVerifier(Path(name).resolve().name, parameters, queries, client, served.name)
