"""A toy with a known optimum: pay an amount exactly with as few coins as possible.

Small enough to work out by hand, hard enough that greed fails: 12 with coins 1, 6 and 10 is 6 + 6, not 10 + 1 + 1. It
needs no trained model, so tests, demonstrations and first steps with the library use it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from envs.core import (
    Problem,
    Split,
    State,
    Step,
    Transition,
    UnreadableQuestion,
    termination,
    transition,
    truncation,
)
from envs.splits import split_of

_COIN = re.compile(r"[1-9]\d{0,2}", re.ASCII)
_QUESTION = re.compile(r"\s*(\d{1,3}) with((?: \d{1,3})+)\s*")


class Toy:
    """Coins: a question is ``12 with 1 6 10``, a step is a coin, the answer is how many coins were paid."""

    name = "toy"
    delimiter = "\n"
    max_steps = 8

    def read(self, question: str) -> Problem:
        """Read ``amount with coin coin ...``; raises `UnreadableQuestion`."""
        match = _QUESTION.fullmatch(question)
        if match is None:
            raise UnreadableQuestion(f"cannot read {question!r}; the toy environment reads '12 with 1 6 10'")
        amount, coins = int(match[1]), tuple(sorted({int(coin) for coin in match[2].split()}))
        fewest = _fewest(amount, coins)
        if not amount or coins[0] != 1 or fewest > self.max_steps:
            raise UnreadableQuestion(
                f"{question!r}: the toy environment wants an amount above 0 and a coin of 1, "
                f"and at most {self.max_steps} coins to pay"
            )
        text = f"{amount} with {' '.join(map(str, coins))}"
        return Problem(f"{self.name}/{text}", text, str(fewest), {"level": fewest})

    def prompt(self, problem: Problem) -> str:
        """The question on a line of its own."""
        return problem.question + "\n"

    def initial(self, problem: Problem) -> State:
        """The state before the first step, in which nothing has been paid."""
        return State(problem)

    def step(self, state: State, step: Step) -> Transition:
        """A coin goes on or, when the amount is met, terminates; anything else truncates. Rewarded with `quality`."""
        after = state.then(step)
        rest = self.rest(state)
        coin = int(step.text) if _COIN.fullmatch(step.text) else 0
        if rest <= 0 or coin not in _coins(state.problem) or coin > rest:
            return truncation(after)
        worth = self.quality(after)
        if coin == rest:
            return termination(after, worth)
        over = len(after.steps) >= self.max_steps or step.finish != "step"
        return truncation(after, worth) if over else transition(after, worth)

    def answer(self, state: State) -> str | None:
        """The number of coins, once the amount is paid."""
        return str(len(state.steps)) if state.steps and self.rest(state) == 0 else None

    def check(self, problem: Problem, answer: str) -> bool:
        """Whether it is the least number of coins."""
        return problem.answer is not None and self.same(problem.answer, answer)

    def same(self, a: str, b: str) -> bool:
        """Whether two answers are the same text."""
        return a.strip() == b.strip()

    def problems(self, split: Split, n: int, seed: int = 0) -> Sequence[Problem]:
        """`n` distinct problems; raises ValueError when the split has fewer."""
        chosen = [question for question in _questions() if _split_of(question) == split]
        if n > len(chosen):
            raise ValueError(f"{n} problems of {split!r} asked for; there are {len(chosen)}")
        return [self.read(question) for question in random.Random(f"{self.name}/{split}/{seed}").sample(chosen, n)]

    # ------------------------------------------------------------------------------------------ for fakes and tests

    def rest(self, state: State) -> int:
        """What is still to pay."""
        amount = int(state.problem.question.split()[0])
        return amount - sum(int(text) if _COIN.fullmatch(text) else amount + 1 for text in state.texts)

    def options(self, state: State) -> Mapping[str, float]:
        """Steps that a careless payer would take, with weights: mostly the largest coin, now and then another."""
        fitting = [coin for coin in _coins(state.problem) if coin <= self.rest(state)]
        return {str(coin): 2.0**rank for rank, coin in enumerate(fitting)}

    def quality(self, state: State) -> float:
        """How good a state is, in [0, 1]: the least number of coins over what this payment will come to at best."""
        rest = self.rest(state)
        if rest < 0:
            return 0.0
        amount, coins = int(state.problem.question.split()[0]), _coins(state.problem)
        return _fewest(amount, coins) / (len(state.steps) + _fewest(rest, coins))


def _coins(problem: Problem) -> tuple[int, ...]:
    return tuple(int(coin) for coin in problem.question.split()[2:])


@lru_cache(maxsize=1)
def _questions() -> tuple[str, ...]:
    coins = [(1, low, high) for low in range(3, 10) for high in range(low + 1, 16)]
    pairs = [(amount, each) for each in coins for amount in range(2, 40)]
    return tuple(f"{a} with {' '.join(map(str, each))}" for a, each in pairs if _fewest(a, each) <= Toy.max_steps)


@lru_cache(maxsize=4096)
def _fewest(amount: int, coins: tuple[int, ...]) -> int:
    """The least number of coins that pay an amount exactly, by dynamic programming; more than any if none do."""
    best = [0] + [1000] * amount
    for total in range(1, amount + 1):
        best[total] = 1 + min((best[total - coin] for coin in coins if coin <= total), default=1000)
    return best[amount]


def _split_of(question: str) -> Split:
    return split_of(question, 5)
