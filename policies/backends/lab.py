"""The embedded policy: any small Llama-architecture checkpoint, run by our own decoder, on a CPU by default.

Requests stream: samples join and leave between decode steps (`policies.generation.batch`), so nothing waits for the
slowest sibling. A sample is a pure function of (state, seed, temperature): its uniform numbers are a hash of (seed,
index of the token), and the decoder's rows do not depend on each other (`policies.models.llama`).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch

from envs.core import Environment, State, Step
from envs.options import AtLeast
from policies.core import Propose, Proposed
from policies.generation.options import SamplingOptions
from policies.generation.proposals import Proposals
from policies.memory_traffic import position_size
from policies.models.digest import model_digest
from policies.models.errors import UnsupportedModel
from policies.models.kv_cache import CachedDecoder
from policies.models.lab_tokens import Tokens
from policies.models.llama import Llama
from policies.models.prefix_tree import Ids

_BURST = 16  # most decode steps of one poll, so that a caller can interrupt


class _Chat:
    """States as ids, and ids as text: a `policies.generation.step_stream.Chat` that is plain text.

    Args:
        tokens: of the model.
        environment: whose prompts and delimiter.
        options: where steps end.
        context: most tokens of a text.
        ends: ids that end an answer; what other special tokens say is nothing.
    """

    opened = False
    blank_steps = True

    def __init__(
        self, tokens: Tokens, environment: Environment, options: SamplingOptions, context: int, ends: frozenset[int]
    ) -> None:
        self.tokens, self.environment, self.options, self.ends = tokens, environment, options, ends
        self.decode = tokens.decode
        self._context = context

    def parts(self, state: State) -> list[Ids]:
        """The ids of a state in parts; of earlier attempts only the latest that leave half of the context free."""
        while state.attempts:
            opening = self.tokens.parts(self.environment, replace(state, steps=()))
            if 2 * sum(map(len, opening)) <= self._context:
                break
            state = replace(state, attempts=state.attempts[1:])
        return self.tokens.parts(self.environment, state)

    def inside(self, text: str) -> Ids:
        """The ids of a text in the middle of an answer."""
        return self.tokens.encode(text)

    def step(self, step: Step) -> Ids:
        """The ids of a step, closed by the delimiter, and of its observation."""
        return self.tokens.step(self.environment, step)


class LabPolicy:
    """A causal checkpoint as a `Policy`.

    Args:
        folder: config.json, model.safetensors, tokenizer.json (the transformers layout); its name names the policy.
        environment: whose problems it continues; ends steps and trajectories.
        device: ``cpu``, ``cuda``, or None for a GPU where there is one.
        rows: most samples in progress at once; more wait their turn.
        step_tokens: a step that is longer is cut (finish ``length``).
        memory: bytes of keys and values kept for reuse. Beyond it the least recently used are dropped, whichever
            search they belong to: what must be prefilled again is charged again, and the last bit of its numbers may
            differ from what decoding had written.

    Raises:
        UnsupportedModel: when the folder does not hold a Llama-architecture causal model.
    """

    distinct = True

    def __init__(
        self,
        folder: str | Path,
        environment: Environment,
        *,
        device: str | None = None,
        rows: Annotated[int, AtLeast(1)] = 256,
        step_tokens: Annotated[int, AtLeast(1)] = 48,
        memory: Annotated[int, AtLeast(0)] = 1 << 30,
    ) -> None:
        folder = Path(folder)
        self.model = Llama(folder, device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if not self.model.config.causal:
            raise UnsupportedModel(f"{folder} holds a verifier (token classification), not a policy")
        self.tokens = Tokens(folder, self.model.config.begin, self.model.config.vocabulary)
        self.environment = environment
        self.rows = rows
        self.step_tokens = step_tokens
        self.name = folder.resolve().name
        self._place = folder
        self.parameters = self.model.parameters
        options = SamplingOptions(step_tokens=step_tokens, solution_tokens=sys.maxsize)
        config = self.model.config
        self._proposals = Proposals(
            self.name,
            self.parameters,
            _Chat(self.tokens, environment, options, config.context, config.end),
            config.context,
            CachedDecoder(self.model, memory),
            rows,
            steps=_BURST,
            seconds=math.inf,
            position=position_size(config),
        )

    def digest(self) -> str:
        """Of the files that make the model."""
        return model_digest(self._place)

    def record_confidence(self, top: int) -> None:
        """Record how sure the model is of each token, by so many of the likeliest, 0 for all."""
        self._proposals.record_confidence(top)

    def submit(self, ticket: int, request: Propose) -> None:
        """Queue a request; see `Proposals.submit` for what it raises."""
        self._proposals.submit(ticket, request)

    def poll(self) -> Sequence[tuple[int, Proposed | Exception]]:
        """Decode until a request is complete, at most `_BURST` steps; return what is complete."""
        return self._proposals.poll()

    def partial(self, ticket: int) -> Proposed | None:
        """What there is of a reply that is not complete."""
        return self._proposals.partial(ticket)

    def cancel(self, scope: str) -> None:
        """Drop the requests of a search and the keys and values kept for it."""
        self._proposals.cancel(scope)

    def close(self) -> None:
        """Drop everything, the cache's memory included; the policy may be used again."""
        self._proposals.close()
