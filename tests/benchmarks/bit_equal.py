"""Digests of many samples, to compare two versions of the code: ``python bit_equal.py > after.txt; diff before.txt -``.

Embedded policies and a small random checkpoint of transformers draw samples on 200 problems: single steps with the
steps that follow them, whole solutions, greedy ones, samples without replacement, with few rows and with little memory.
A line is one kind of request: a digest each of the texts, of the log-probabilities to the last bit, and of the usage.
Two versions draw the same samples on one machine if their lines are equal; other processors may round otherwise. Only
names that do not move are imported, so that the script runs with old versions too.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import policies.registry
from envs.arithmetic import Arithmetic
from envs.core import Environment, State, Step
from envs.countdown import Countdown
from policies.core import Propose, Proposed

SHORT = {"step_tokens": 8, "solution_tokens": 40}  # a random model seldom ends anything by itself


class Digest:
    """What was drawn, in the order it was asked for."""

    def __init__(self) -> None:
        self.texts, self.logprobs, self.usage = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
        self.tokens = 0

    def add(self, reply: Proposed) -> None:
        """Take a reply."""
        for samples in reply.samples:
            for steps in samples:
                self.texts.update(repr([(s.text, s.thinking, s.tokens, s.finish) for s in steps]).encode())
                self.logprobs.update(repr([float(s.logprob).hex() for s in steps]).encode())
        self.usage.update(repr(reply.usage).encode())
        self.tokens += reply.usage.generated

    def __str__(self) -> str:
        parts = (each.hexdigest()[:16] for each in (self.texts, self.logprobs, self.usage))
        return f"texts {next(parts)}  logprobs {next(parts)}  usage {next(parts)}  {self.tokens} tokens"


def ask(policy: Any, requests: list[Propose]) -> list[Proposed]:
    """The replies to requests that are submitted together, in their order."""
    for ticket, request in enumerate(requests):
        policy.submit(ticket, request)
    replies: dict[int, Proposed] = {}
    while len(replies) < len(requests):
        replies |= dict(policy.poll())
    return [replies[ticket] for ticket in range(len(requests))]


def rounds(policy: Any, environment: Environment, states: list[State], depth: int, **asked: Any) -> Digest:
    """Ask for samples of states, one scope each, then for samples of what two of them led to, and so on."""
    digest = Digest()
    frontier = [[state] for state in states]
    seed = 0
    for _ in range(depth):
        requests, kept = [], []
        for scope, there in enumerate(frontier):
            if not there:
                continue
            seeds = tuple(tuple(range(seed + 10 * i, seed + 10 * i + 4)) for i in range(len(there)))
            requests.append(Propose(tuple(there), seeds, scope=str(scope), **asked))
            kept.append(scope)
        seed += 1000
        for scope, request, reply in zip(kept, requests, ask(policy, requests), strict=True):
            digest.add(reply)
            children: list[State] = []
            for state, samples in zip(request.states, reply.samples, strict=True):
                children += after(environment, state, samples[0])
                children += after(environment, state, samples[1])
            frontier[scope] = children[:2]
    for scope in range(len(states)):
        policy.cancel(str(scope))
    return digest


def after(environment: Environment, state: State, steps: tuple[Step, ...]) -> list[State]:
    """Where steps lead, if a trajectory goes on there."""
    for step in steps:
        transition = environment.step(state, step)
        if transition.status != "running":
            return []
        state = transition.state
    return [state]


def kinds(policy: Any, environment: Environment, states: list[State]) -> Iterator[tuple[str, Digest]]:
    """All kinds of requests."""
    yield "steps", rounds(policy, environment, states, 3, temperature=1.0, max_steps=1)
    yield "two steps at 0.7", rounds(policy, environment, states, 2, temperature=0.7, max_steps=2)
    yield "solutions", rounds(policy, environment, states, 1, temperature=1.0, max_steps=None)
    yield "greedy steps", rounds(policy, environment, states, 2, temperature=0.0, max_steps=1)
    yield "greedy solutions", rounds(policy, environment, states, 1, temperature=0.0, max_steps=None)
    yield "steps, distinct", rounds(policy, environment, states, 3, temperature=1.0, max_steps=1, distinct=True)
    yield "solutions, distinct", rounds(policy, environment, states, 1, temperature=0.8, max_steps=None, distinct=True)
    attempts = (Step("7 + 1"), Step("= 8")), (Step("3"),)
    revised = [replace(state, attempts=attempts) for state in states]
    yield "revision", rounds(policy, environment, revised, 2, temperature=1.0, max_steps=1)


def random_checkpoint(folder: Path) -> None:
    """A model that was never trained, with the tokenizer of an embedded one."""
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    source = policies.registry.WEIGHTS / "arithmetic-s"
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(source / "tokenizer.json"))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=512, initializer_range=0.35, bos_token_id=1,
        eos_token_id=2, pad_token_id=0, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    """Print the digests."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--problems", type=int, default=200)
    arguments.add_argument("--only", help="a part of a policy's name")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    arithmetic, countdown = Arithmetic(), Countdown()
    with tempfile.TemporaryDirectory() as name:
        random_checkpoint(Path(name))
        made: list[tuple[str, str, Environment, dict[str, Any]]] = [
            ("arithmetic-s", "arithmetic-s", arithmetic, {}),
            ("countdown-xs-long", "countdown-xs-long", countdown, {}),
            ("countdown-xs-long, 5 rows", "countdown-xs-long", countdown, {"rows": 5}),
            ("arithmetic-s, little memory", "arithmetic-s", arithmetic, {"memory": 300_000}),
            ("hf, arithmetic-s", f"hf:{policies.registry.WEIGHTS / 'arithmetic-s'}", arithmetic, {"step_tokens": 48}),
            ("hf, random", f"hf:{name}", arithmetic, SHORT | {"rows": 256}),
            ("hf, random, top_k", f"hf:{name}", arithmetic, SHORT | {"top_k": 20, "top_p": 0.9, "rows": 30}),
        ]
        for title, model, environment, own in made:
            if options.only and options.only not in title:
                continue
            policy = policies.registry.load_policy(model, environment, device="cpu", **own)
            count = options.problems // (1 if not title.startswith("hf") else 4)
            states = [environment.initial(problem) for problem in environment.problems("test", count)]
            for kind, digest in kinds(policy, environment, states):
                print(f"{title}: {kind}: {digest}", flush=True)
            policy.close()


if __name__ == "__main__":
    main()
