"""One thread per worker, no network, and the hypothesis profile; set before any test imports torch."""

import os
import tempfile

for _name, _value in {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "TERM": os.environ.get("TERM", "dumb"),
    "XDG_DATA_HOME": os.path.join(tempfile.gettempdir(), "stepwell-tests-have-no-data"),
}.items():
    os.environ[_name] = _value

import functools
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from envs.core import Problem, Split, State, Step, Transition, termination, transition, truncation

# A shell starts what it runs in the background with interrupts ignored; some tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Two workers share two busy cores: a deadline would measure the machine, not the code.
settings.register_profile(
    "stepwell", deadline=None, max_examples=100, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("stepwell")


class Chatter:
    """A tiny environment for random models: any line goes on, the end token or '#' answers, five steps at most."""

    name = "chatter"
    delimiter = "\n"
    max_steps = 5

    def read(self, question: str) -> Problem:
        return Problem(question, question)

    def prompt(self, problem: Problem) -> str:
        return problem.question + "\n"

    def initial(self, problem: Problem) -> State:
        return State(problem)

    def step(self, state: State, step: Step) -> Transition:
        after = state.then(step)
        if step.finish == "answer" or step.text.startswith("#"):
            return termination(after)
        return truncation(after) if len(after.steps) >= self.max_steps else transition(after)

    def answer(self, state: State) -> str | None:
        ended = state.steps and (state.steps[-1].finish == "answer" or state.steps[-1].text.startswith("#"))
        return state.steps[-1].text if ended else None

    def check(self, problem: Problem, answer: str) -> bool:
        return len(answer) % 2 == len(problem.question) % 2

    def same(self, a: str, b: str) -> bool:
        return a == b

    def problems(self, split: Split, n: int, seed: int = 0) -> list[Problem]:
        rng = random.Random(f"{split}/{seed}")
        made: dict[str, Problem] = {}
        while len(made) < n:
            text = "".join(rng.choice("abcdefgh 0123") for _ in range(rng.randint(3, 30)))
            made.setdefault(text, Problem(f"{split}/{text}", text, "x"))
        return list(made.values())


@pytest.fixture(scope="session")
def chatter() -> Chatter:
    return Chatter()


Checkpoint = Callable[..., Path]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Make folders of random models whose vocabulary is twenty characters: ``checkpoint("policy", layers=2)``."""
    import torch
    from tokenizers import Regex, Tokenizer
    from tokenizers.decoders import Fuse
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split as SplitPieces
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForTokenClassification, PreTrainedTokenizerFast

    torch.set_num_threads(1)
    pieces = ["<pad>", "<bos>", "<eos>", "<unk>", "\n", "#", " ", *"abcdefgh0123"]

    @functools.cache
    def make(kind: str, **options: Any) -> Path:
        folder = tmp_path_factory.mktemp(kind)
        tokenizer = Tokenizer(WordLevel({piece: index for index, piece in enumerate(pieces)}, unk_token="<unk>"))
        tokenizer.pre_tokenizer = SplitPieces(Regex(r"[\s\S]"), behavior="isolated")
        tokenizer.decoder = Fuse()
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
        ).save_pretrained(folder)
        settings: dict[str, Any] = {
            "vocab_size": len(pieces), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128,
            "initializer_range": 0.35, "tie_word_embeddings": True, "rms_norm_eps": 1e-6,
            "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
        }  # fmt: skip
        torch.manual_seed(0)
        config = LlamaConfig(**(settings | options))
        model = LlamaForCausalLM(config) if kind == "policy" else LlamaForTokenClassification(config)
        for name, parameter in model.named_parameters():
            if "norm" in name:
                torch.nn.init.uniform_(parameter, 0.5, 1.5)
        model.to(torch.float16).save_pretrained(folder)
        return folder

    return make
