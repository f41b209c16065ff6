"""Any causal language model of transformers as a policy, on a CPU or a GPU.

Samples join and leave between decode steps (`policies.generation.batch`): one batch, padded on the left, is what runs.
Positions and masks are given, so what is padded does not count, and a sample depends on its state, seed and temperature
as far as floating point allows: its uniform numbers are a hash of (seed, index of the token), and its prompt is run by
itself. What a sample wrote is kept at the end of every step, so that going on from any node of a search runs nothing
twice (`policies.models.hf_cache`).
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from envs.core import Environment
from envs.options import AtLeast, Group
from policies.core import Propose, Proposed
from policies.generation.chat import ChatFormat
from policies.generation.options import SamplingOptions
from policies.generation.proposals import Proposals
from policies.memory_traffic import position_size
from policies.models.checkpoints import load_checkpoint
from policies.models.digest import DIGITS, model_digest
from policies.models.hf_cache import CachedTransformer, cache_of, layers_of
from policies.models.linears import Int8Linear, pack_linears, quantize_linears, warn_of_emulation
from policies.models.pretrained import UnusableModel, said

_BURST = 0.25  # seconds of one poll after which it returns, so that a caller can interrupt
_CONTEXT = 1 << 20  # of a model that does not say
_TRIAL = 12  # tokens of a text that a model is tried on


class TransformersPolicy:
    """A causal language model as a `Policy`.

    Args:
        model: a folder, a GGUF file or the id of a hub's model.
        environment: whose problems it continues; ends steps and trajectories.
        options: how it is asked and where its steps end.
        device: ``cpu``, ``cuda``, ``auto`` for all the GPUs there are (with accelerate), or None for a GPU where there
            is one.
        dtype: ``float32``, ``bfloat16``, ``float16``, or ``auto`` for that of the files; None is float32 on a CPU and
            auto elsewhere. ``int8``, on a CPU, is float32 with linear layers in 8-bit integers
            (`policies.models.linears`).
        rows: most samples in progress at once; more wait their turn.
        memory: bytes of keys and values kept for reuse. Beyond it the least recently used are dropped, whichever
            search they belong to; what must be prefilled again is charged again.
        name: in records; by default the model's, without the folders before it.

    Raises:
        UnusableModel: when the model cannot be had, keeps something else than keys and values, or does not read a text
            from left to right.
        ValueError: for options that it cannot keep.
    """

    def __init__(
        self,
        model: str | Path,
        environment: Environment,
        options: Annotated[SamplingOptions | None, Group()] = None,
        *,
        device: str | None = None,
        dtype: Literal["auto", "float32", "bfloat16", "float16", "int8"] | None = None,
        rows: Annotated[int, AtLeast(1)] = 64,
        memory: Annotated[int, AtLeast(0)] = 1 << 30,
        name: str | None = None,
    ) -> None:
        if rows < 1:
            raise ValueError(f"rows is {rows}; at least 1 is needed")
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if dtype is None:
            dtype = "float32" if device == "cpu" else "auto"
        tokenizer, self.model = load_checkpoint(model, device, "float32" if dtype == "int8" else dtype)
        path = self._place = Path(model).expanduser()
        self.name = name or (path.resolve().name.removesuffix(".gguf") if path.exists() else str(model))
        self.environment = environment
        self.options = options = options or SamplingOptions()
        config = self.model.config.get_text_config()
        self.context: int = getattr(config, "max_position_embeddings", None) or _CONTEXT
        self.parameters = sum(parameter.numel() for parameter in self.model.parameters())
        warn_of_emulation(self.model)
        if dtype == "int8":
            quantize_linears(self.model)
        else:
            pack_linears(self.model)
        ends = [config.eos_token_id, self.model.generation_config.eos_token_id]
        flat = [token for end in ends for token in (end if isinstance(end, list) else [end]) if token is not None]
        self.dialogue = ChatFormat(tokenizer, environment, options, flat)
        embedded = len(self.model.get_input_embeddings().weight)
        if self.dialogue.highest >= embedded:
            raise UnusableModel(
                f"the chat template of {model} writes token {self.dialogue.highest}, and its model embeds {embedded}"
            )
        self.rows = rows
        self.distinct = not options.thinking_probe  # a probe is no sample that others could differ from
        known = inspect.signature(self.model.forward).parameters
        self._cache_name = "cache" if "cache" in known else "past_key_values"  # of older transformers
        self._few = {"logits_to_keep": 1} if "logits_to_keep" in known else {}
        decoder = CachedTransformer(lambda *given: self._run(*given), self._probe(), memory)
        self._proposals = Proposals(
            self.name,
            self.parameters,
            self.dialogue,
            self.context,
            decoder,
            rows,
            steps=sys.maxsize,
            seconds=_BURST,
            position=position_size(self.model.config.get_text_config()),
        )

    # ------------------------------------------------------------------------------------------------ the contract

    @property
    def thinks(self) -> bool:
        """Whether the model thinks before it answers."""
        return self.dialogue.thinks

    @property
    def converses(self) -> bool:
        """Whether the model is shown the turns before the question: it is asked in a chat."""
        return self.dialogue.chat

    def digest(self) -> str:
        """Of the files that make the model; of a hub's, the commit."""
        commit: str | None = getattr(self.model.config, "_commit_hash", None)
        return model_digest(self._place) or (commit or "")[:DIGITS]

    def record_confidence(self, top: int) -> None:
        """Record how sure the model is of each token, by so many of the likeliest, 0 for all."""
        self._proposals.record_confidence(top)

    def submit(self, ticket: int, request: Propose) -> None:
        """Queue a request; see `Proposals.submit` for what it raises."""
        self._proposals.submit(ticket, request)

    def poll(self) -> Sequence[tuple[int, Proposed | Exception]]:
        """Decode until a request is complete, for about `_BURST` seconds; return what is complete."""
        return self._proposals.poll()

    def partial(self, ticket: int) -> Proposed | None:
        """What there is of a reply that is not complete."""
        return self._proposals.partial(ticket)

    def cancel(self, scope: str) -> None:
        """Drop the requests of a search and the keys and values kept for it."""
        self._proposals.cancel(scope)

    def close(self) -> None:
        """Drop everything, the rows' memory included; the policy may be used again."""
        self._proposals.close()

    # --------------------------------------------------------------------------------------------------- the model

    def _run(self, cache: Any, ids: Sequence[Sequence[int]], starts: Sequence[int]) -> Tensor:
        """Run new tokens of rows, and add their keys and values to a cache.

        Args:
            cache: row i ends with the first ``starts[i]`` tokens of its sequence.
            ids: new tokens of each row, equally many.
            starts: position of the first of them in each row's sequence.

        Returns:
            The logits after the last token, (rows, vocabulary).
        """
        device, length = self.model.device, cache.get_seq_length()
        tokens, first = torch.tensor(ids, device=device), torch.tensor(starts, device=device)[:, None]
        positions = first + torch.arange(tokens.shape[1], device=device)
        mask = torch.arange(length + tokens.shape[1], device=device) >= length - first
        given = {"attention_mask": mask.long(), "position_ids": positions, self._cache_name: cache, "use_cache": True}
        logits: Tensor = self.model(input_ids=tokens, **given, **self._few).logits
        return logits[:, -1]

    @torch.inference_mode()
    def _probe(self) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of no tokens, (heads, 0, width) for each layer.

        Raises:
            UnusableModel: when the model keeps something else, or when what it says of a text in two pieces, at the
                positions that are given, is not what it says of the whole.
        """
        cache = cache_of(())
        ids = _trial(self.model.config.get_text_config(), min(_TRIAL, self.context))
        first, length = ids[: len(ids) // 2], len(ids) // 2
        try:
            self._run(cache, [first], [0])
            shapes = {(keys.ndim, keys.shape[2], values.shape[2]) for keys, values in layers_of(cache)}
            none = [(keys[0, :, :0].clone(), values[0, :, :0].clone()) for keys, values in layers_of(cache)]
            known = shapes == {(4, length, length)}
            found = self._run(cache, [ids[length:]], [length])[0].float() if known else None
            whole = self.model(input_ids=torch.tensor([ids], device=self.model.device), use_cache=False, **self._few)
        except Exception as error:
            raise UnusableModel(f"{self.name} does not go on from keys and values: {said(error)}") from error
        if found is None:
            raise UnusableModel(f"{self.name} keeps something else than the keys and values of each token")
        expected = whole.logits[0, -1].float()
        exact = self.model.dtype == torch.float32 and not any(
            isinstance(each, Int8Linear) for each in self.model.modules()
        )
        tolerance = 1e-3 if exact else 0.1
        close = tolerance * float(expected.abs().nan_to_num(0, 0, 0).max())
        if not torch.allclose(found, expected, rtol=0, atol=close, equal_nan=True):
            raise UnusableModel(
                f"{self.name} does not read a text from left to right, token by token, at positions from 0 on; a "
                f"{type(self.model).__name__} cannot be run here"
            )
        return none


def _trial(config: Any, count: int) -> list[int]:
    """Token ids to try a model on: any but padding."""
    ids = [(7 * index + 3) % config.vocab_size for index in range(count)]
    return [(token + 1) % config.vocab_size if token == config.pad_token_id else token for token in ids]
