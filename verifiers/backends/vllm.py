"""Verifiers run by vLLM, in this process: the families are those of `verifiers.families`, and so are their layouts.

vLLM is asked for the outputs of the head at every token (its task ``token_classify``), whatever the head is, and scores
are read at the positions that the layout says: no tag in a problem or a step is taken for one that ends a step. Of a
causal model the rows of its own head for "+" and "-" are the classifier, so that nothing else is computed.

What was read of a text is remembered for its scope, and vLLM keeps keys and values in blocks, so that scoring a child
runs its last step and what is left over of a block.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path as Folder
from typing import Annotated, Any, Unpack

from envs.core import Environment
from envs.options import Group
from policies.models.errors import UnsupportedModel
from policies.models.prefix_tree import Ids
from policies.models.vllm_engine import VllmEngine, VllmOptions
from verifiers.backends.hf import check_family_options, family_of, find_checkpoint
from verifiers.core import Verifier
from verifiers.families import FAMILIES
from verifiers.families.options import LayoutOptions
from verifiers.scoring.cached_scorer import ROUNDED, Spent
from verifiers.scoring.hf_model import check_head
from verifiers.scoring.local_verifier import LocalVerifier
from verifiers.scoring.score_layout import Family, Path, lay_out
from verifiers.scoring.tokenization import Texts


def load_vllm(
    name: str | Folder,
    environment: Environment,
    *,
    family: str | None = None,
    revision: str | None = None,
    engine: Annotated[VllmOptions, Group()] = VllmOptions(),  # noqa: B008 - frozen
    **options: Unpack[LayoutOptions],
) -> Verifier:
    """Load a checkpoint that vLLM runs.

    Args:
        name: a folder, or a hub's id.
        environment: whose states it scores.
        family: which family it is of, where its name and its head do not say.
        revision: of a hub's id.
        engine: how vLLM runs it. Steps that end beyond its ``max_model_len`` are NaN.
        options: of the family.

    Raises:
        UnsupportedModel: there is no such checkpoint, its head is another one than the family's, its tokenizer lacks
            what the family needs, or vLLM does not run it.
        ValueError: no such family or option.
    """
    folder = find_checkpoint(str(name), revision)
    of = family_of(str(name), folder, family)
    if of not in FAMILIES:
        raise UnsupportedModel(f"vLLM runs the families {', '.join(sorted(FAMILIES))}; hf:{name} runs {of!r}")
    kind = FAMILIES[of]
    check_family_options(of, options)
    check_head(folder, kind.head)
    texts = Texts(folder)
    chosen: Family = kind(texts, **options)
    runner = VllmRunner(texts, chosen, engine)
    return LocalVerifier(
        folder.resolve().name if Folder(name).exists() else str(name).rpartition("/")[2],
        runner.parameters,
        lambda state: lay_out(chosen, texts, environment, state),
        runner,
        (folder,),
    )


class VllmRunner:
    """Reads paths with vLLM.

    Args:
        texts: of the checkpoint.
        family: what is read of it.
        options: of vLLM.

    Raises:
        UnsupportedModel: when vLLM does not run this model with this head.
    """

    def __init__(self, texts: Texts, family: Family, options: VllmOptions) -> None:
        self._engine = VllmEngine(texts.folder, "pooling", options, **_head(texts, family))
        self.parameters = self._engine.parameters
        self._reading = family.reading
        columns = family.reading.columns
        self._columns = range(len(columns)) if family.head == "causal" else columns  # of what vLLM gives
        self._notes: dict[str, dict[Ids, float]] = {}  # by scope, and by the ids up to where a score is read

    def read(self, work: Sequence[tuple[str, Path]]) -> tuple[list[list[float | None]], list[Spent]]:
        """Run paths of scopes.

        Returns:
            For each path the notes of its keys (None for those beyond the context), and what it took.
        """
        marks = [[self._mark(key, read) for key, read in zip(path.keys, path.reads, strict=True)] for _, path in work]
        spent = [0] * len(work)
        asked: dict[str, tuple[int, list[Ids]]] = {}  # by the name of a request: its path, and what is read of it
        covered: set[tuple[str, Ids]] = set()
        # the longest first, as they answer for their prefixes
        for index in sorted(range(len(work)), key=lambda index: -max(map(len, marks[index]))):
            scope = work[index][0]
            known = self._notes.setdefault(scope, {})
            new = [mark for mark in marks[index] if mark and mark not in known and (scope, mark) not in covered]
            if new:
                covered.update((scope, mark) for mark in new)
                asked[self._ask(scope, new[-1])] = (index, new)
        try:
            while asked:
                for output in self._engine.step():
                    index, new = asked.pop(output.request_id)
                    scope, first = work[index][0], output.num_cached_tokens or 0
                    spent[index] += len(new[-1]) - first
                    if first >= len(new[0]):  # vLLM had run what was not read then
                        asked[self._ask(scope, new[-1], again=True)] = (index, new)
                        continue
                    for mark in new:
                        self._notes[scope][mark] = self._score(output.outputs.data[len(mark) - 1 - first])
        finally:
            self._engine.abort(list(asked))
        notes = [
            [self._notes[scope].get(mark) if mark else None if len(key) > self._engine.context else math.nan
             for key, mark in zip(path.keys, marks[index], strict=True)]
            for index, (scope, path) in enumerate(work)
        ]  # fmt: skip
        return notes, [Spent.once(self.parameters, tokens) for tokens in spent]

    def drop(self, scope: str) -> None:
        """Forget what was kept for a scope."""
        self._notes.pop(scope, None)
        self._engine.forget(scope)

    def clear(self) -> None:
        """Forget everything and end the engine, for good."""
        self._notes = {}
        self._engine.close()

    def _mark(self, key: Ids, read: int) -> Ids:
        """The ids up to where the score of a key is read; none where there is no score, or no room in the context."""
        return key[: read + 1] if len(key) <= self._engine.context else ()

    def _score(self, outputs: Any) -> float:
        found = outputs.float().tolist()
        return round(self._reading.probability([found[column] for column in self._columns]), ROUNDED)

    def _ask(self, scope: str, ids: Ids, again: bool = False) -> str:
        """Have vLLM run a text, or what it does not have of it; returns the name of the request."""
        from vllm import PoolingParams

        given = PoolingParams(task="token_classify", use_activation=False, skip_reading_prefix_cache=again)
        return self._engine.add(ids, given, scope)


def _head(texts: Texts, family: Family) -> dict[str, Any]:
    """What makes vLLM give the outputs of a family's head at every token."""
    if family.head == "value":
        raise UnsupportedModel(f"vLLM has no model with the value head of {texts.folder}; hf:{texts.folder} runs it")
    if family.head == "mlp":
        from vllm.config import PoolerConfig

        return {"pooler_config": PoolerConfig(pooling_type="ALL")}
    if family.head == "causal":
        names = {index: token for token, index in texts.vocabulary.items()}
        tokens = [names[column] for column in family.reading.columns]
        overrides = {"classifier_from_token": tokens, "method": "no_post_processing", "num_labels": len(tokens)}
        return {"convert": "classify", "hf_overrides": overrides}
    return {}
