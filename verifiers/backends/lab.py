"""The embedded verifier: a PRM in the token-classification layout (as TRL trains it), run by our own decoder.

The text is that of `envs.core.render`; the probability of label 1 at the token that closes a step is the score of
that step. Three things are defined here that others leave to chance:

* Scores are read at the positions where the steps were put, so no text can forge one, and a doubled delimiter makes no
  step: steps without text are left out of what the model reads, and have the score of the step before them (`PRIOR`
  if there is none).
* Steps beyond the model's context are scored NaN, those before it as if the others were not there.
* Scores are rounded to five decimals: ties stay ties whatever the batch (`policies.models.llama` keeps rows
  independent).

What was run for a state is kept for its scope, so that scoring a child runs only the child's last step.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch

from envs.core import Environment, State
from envs.options import AtLeast
from policies.models.errors import UnsupportedModel
from policies.models.lab_tokens import Tokens
from policies.models.llama import Llama, ModelConfig
from verifiers.scoring.cached_scorer import BeliefReader, Runner, ScoreReader
from verifiers.scoring.local_verifier import LocalVerifier
from verifiers.scoring.score_layout import Layout, Reading
from verifiers.scoring.score_layout import Path as Text

_RUN = 512  # tokens of one pass, or a few more: larger ones do not fit the processor's caches and are slower
_RIGHT = Reading((0, 1), want=1)


def lay_out(tokens: Tokens, environment: Environment, state: State) -> Layout:
    """Tokenise a state step by step; delimiters inside a step are read as spaces, steps without text left out."""
    delimiter = environment.delimiter
    ids = tokens.begin + tokens.encode(environment.prompt(state.problem))
    keys, reads = [ids], [-1]
    place: tuple[int, int] | None = None
    origin: list[tuple[int, int] | None] = []
    for step in state.steps:
        text = step.text
        if delimiter in text:
            text = " ".join(piece for piece in text.split(delimiter) if piece)
        if text.strip():
            place = 0, len(keys)
            ids += tokens.encode(text + delimiter)
            reads.append(len(ids) - 1)
            if step.observation:
                ids += tokens.encode(step.observation + delimiter)
            keys.append(ids)
        origin.append(place)
    return Layout((Text(tuple(keys), tuple(reads)),), tuple(origin))


class LabVerifier(LocalVerifier):
    """A token-classification checkpoint as a `Verifier`.

    Args:
        folder: config.json, model.safetensors, tokenizer.json (the transformers layout); its name names the verifier.
        environment: writes the prompt and says what closes a step.
        device: ``cpu``, ``cuda``, or None for a GPU where there is one.
        memory: bytes of keys and values kept for reuse, the least recently used dropped beyond it.

    Raises:
        UnsupportedModel: when the folder does not hold a Llama-architecture token classifier with two labels.
    """

    runner: Runner

    def __init__(
        self,
        folder: str | Path,
        environment: Environment,
        *,
        device: str | None = None,
        memory: Annotated[int, AtLeast(0)] = 256 << 20,
    ) -> None:
        folder = Path(folder)
        self.model = Llama(folder, device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if self.model.config.causal or self.model.config.labels != 2:
            raise UnsupportedModel(f"{folder} is no token classifier with two labels, so not a verifier")
        self.tokens = Tokens(folder, self.model.config.begin, self.model.config.vocabulary)
        reader = BeliefReader if self.model.config.beta else ScoreReader
        runner = Runner(
            self.model,
            self.model.parameters,
            self.model.config.context,
            reader(lambda hidden, _: self.model.logits(hidden), _RIGHT),
            memory,
            _RUN,
        )
        super().__init__(
            folder.resolve().name,
            self.model.parameters,
            lambda state: lay_out(self.tokens, environment, state),
            runner,
            (folder,),
        )


def is_lab(folder: Path) -> bool:
    """Whether a folder holds what `LabVerifier` runs, as far as its config.json says."""
    try:
        config = ModelConfig.read(folder)
    except UnsupportedModel:
        return False
    return not config.causal
