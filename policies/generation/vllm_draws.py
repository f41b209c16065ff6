"""Drawing tokens inside vLLM: those of all samples of a pass at once, by the seeds and the sampler of this package.

On a CPU vLLM draws for requests with seeds one after another, by a generator of each. Here it is asked for the
likeliest tokens instead, and a logits processor has made these the ones that were drawn. What is drawn follows from the
seed of a sample and how many tokens were drawn for it before. It does not follow from its place in the batch or from
what else is there, and it is the same where vLLM computes a sample again.

vLLM imports this file by its name. Where vLLM is not installed it cannot be imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, process_dict_updates

from policies.generation.random_numbers import uniform
from policies.generation.sampling import draw
from policies.models.vllm_engine import DRAWING

_SEED = 0xFFFFFFFFFFFFFFFF  # bits of a seed that count


@dataclass(eq=False, slots=True)
class Drawing:
    """How the tokens of a request are drawn.

    Args:
        seed: of its sample.
        drawn: tokens that were drawn for the sample before this request.
        temperature: above 0.
        top_p, top_k: as in `policies.generation.options.SamplingOptions`; the same for all requests of an engine.
        logprob: of the last token that was drawn, at temperature 1. It is here since vLLM's own takes longer than a
            small model does, and the sampler knows it.
    """

    seed: int
    drawn: int
    temperature: float
    top_p: float = 1.0
    top_k: int = 0
    logprob: float = 0.0


class SeededDraws(LogitsProcessor):  # type: ignore[misc]
    """Makes the tokens that are drawn the likeliest, for the requests that say how."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self._requests: dict[int, tuple[Drawing, list[int]]] = {}  # by their rows, with the tokens they have so far
        self._drawings: list[Drawing] = []
        self._written: list[list[int]] = []

    def is_argmax_invariant(self) -> bool:
        """It is not: what is likeliest is what was drawn."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow the requests as they come, go and move to other rows."""
        if not process_dict_updates(self._requests, batch_update, _request):
            return
        rows = sorted(self._requests)
        self._rows = torch.tensor(rows)
        self._drawings = [self._requests[row][0] for row in rows]
        self._written = [self._requests[row][1] for row in rows]
        self._seeds = np.array([each.seed & _SEED for each in self._drawings], np.uint64)
        self._before = np.array([each.drawn for each in self._drawings], np.int64)
        self._temperatures = np.array([each.temperature for each in self._drawings], np.float32)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Draw for all rows, and put what was drawn above everything else."""
        if not self._drawings:
            return logits
        ours = logits if len(self._drawings) == len(logits) else logits[self._rows]
        drawn = self._before + np.fromiter(map(len, self._written), np.int64, len(self._written))
        first = self._drawings[0]
        tokens, logprobs = draw(ours, uniform(self._seeds, drawn), self._temperatures, first.top_p, first.top_k)
        for drawing, logprob in zip(self._drawings, logprobs.tolist(), strict=True):
            drawing.logprob = logprob
        logits[self._rows, torch.from_numpy(tokens)] = torch.inf
        return logits


def _request(parameters: Any, prompt: list[int] | None, written: list[int]) -> tuple[Drawing, list[int]] | None:
    """What is kept of a request; vLLM appends to `written` as it goes on."""
    drawing = (parameters.extra_args or {}).get(DRAWING)
    return None if drawing is None else (drawing, written)
