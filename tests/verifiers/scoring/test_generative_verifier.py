"""Generative verifiers: what they write and where they are read, against a straight-line computation."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

from envs.core import Problem, State, Step
from envs.math.environment import Math
from policies.conformance import ask
from verifiers.conformance import check_verifier
from verifiers.core import Score, Scored
from verifiers.families.genprm import SYSTEM, GenPRM
from verifiers.families.thinkprm import REVIEW, SOLUTION, START, TASK, ThinkPRM
from verifiers.registry import load_verifier
from verifiers.scoring.critique_generation import CritiqueOptions

Tiny = Callable[..., Path]


@pytest.fixture(scope="module")
def environment() -> Math:
    return Math()


@pytest.fixture(scope="module")
def folder(tiny: Tiny) -> Path:
    return tiny("judge")


@functools.cache
def load(folder: Path, environment: Math, family: str, **options: Any) -> Any:
    """A verifier, loaded once; its scopes are dropped by those who use them again."""
    return load_verifier(f"hf:{folder}", environment, family=family, device="cpu", **{"tokens": 12} | options)


def scored(verifier: Any, *group: State, scope: str = "s") -> Scored:
    reply: Scored
    (reply,) = ask(verifier, [Score(group, scope)])
    return reply


@pytest.fixture(autouse=True)
def forget(folder: Path, environment: Math) -> Iterator[None]:
    """Every test leaves nothing kept."""
    yield
    for family in ("genprm", "thinkprm"):
        load(folder, environment, family).close()


class Straight:
    """Greedy decoding without a cache, one text at a time."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = hf.AutoTokenizer.from_pretrained(folder)
        self.model = hf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    def logits(self, ids: Sequence[int]) -> torch.Tensor:
        with torch.inference_mode():
            last: torch.Tensor = self.model(torch.tensor([list(ids)])).logits[0, -1]
            return last

    def write(self, ids: list[int], stop: str, tokens: int) -> list[int]:
        written: list[int] = []
        while len(written) < tokens:
            token = int(self.logits(ids + written).argmax())
            if token == self.tokenizer.eos_token_id:
                break
            written.append(token)
            if stop in self.tokenizer.decode(written):
                return ids + written
        return [*ids, *written, *self.tokenizer.encode(f"\n{stop}")]

    def yes(self, ids: Sequence[int], yes: str, no: str) -> float:
        columns = [self.tokenizer.encode(yes)[0], self.tokenizer.encode(no)[0]]
        return float(self.logits(ids)[columns].softmax(-1)[0])


def think(straight: Straight, question: str, steps: Sequence[str], tokens: int) -> list[float]:
    scores = []
    for end in range(1, len(steps) + 1):
        called = [text if text.startswith("Step ") else f"Step {i + 1}: {text}" for i, text in enumerate(steps[:end])]
        chat = [{"role": "user", "content": TASK + question + SOLUTION + "\n\n".join(called) + REVIEW}]
        text = straight.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) + START
        written = straight.write(straight.tokenizer.encode(text), ThinkPRM.stop, tokens)
        scores.append(straight.yes(written, " Yes", " No"))
    return scores


def test_thinkprm_thinks_and_is_read_after_its_question(
    folder: Path, environment: Math, solutions: list[State]
) -> None:
    verifier = load(folder, environment, "thinkprm")
    state = State(solutions[1].problem, solutions[1].steps[:3])
    expected = think(Straight(folder), state.problem.question, state.texts, 12)
    assert scored(verifier, state).scores[0] == pytest.approx(expected, abs=1.1e-5)


def test_it_stops_where_the_model_asks_the_question_itself(
    folder: Path, environment: Math, solutions: list[State], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = State(solutions[0].problem, solutions[0].steps[:1])
    straight = Straight(folder)
    long = scored(load(folder, environment, "thinkprm"), state)
    chat = [
        {"role": "user", "content": TASK + state.problem.question + SOLUTION + f"Step 1: {state.texts[0]}" + REVIEW}
    ]
    text = straight.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) + START
    ids = straight.tokenizer.encode(text)
    written = straight.write(ids, "never", 12)[len(ids) : len(ids) + 12]
    stop = next(
        word for token in written[3:] if (word := straight.tokenizer.decode([token])).isascii() and word.strip()
    )
    monkeypatch.setattr(ThinkPRM, "stop", stop)
    short = scored(load.__wrapped__(folder, environment, "thinkprm"), state)
    assert short.tokens < long.tokens
    assert short.scores[0] == pytest.approx(think(straight, state.problem.question, state.texts, 12), abs=1.1e-5)


def test_genprm_goes_on_from_what_it_wrote_before(folder: Path, environment: Math, solutions: list[State]) -> None:
    verifier = load(folder, environment, "genprm", temperature=0.0)
    state = State(solutions[1].problem, solutions[1].steps[:3])
    straight = Straight(folder)
    encode = straight.tokenizer.encode
    chat = [{"role": "system", "content": SYSTEM}]
    chat.append({"role": "user", "content": f"Question: {state.problem.question}\n\n{state.texts[0]}"})
    ids = encode(straight.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)[:-1])
    expected: list[float] = []
    for number, text in enumerate(state.texts, 1):
        if number > 1:
            said = "Yes" if expected[-1] >= 0.5 else "No"
            ids += encode(said) + encode("}$\n</output>") + encode("<|im_end|>")
            ids += encode("\n") + encode("<|im_start|>") + encode(f"user\n{text}") + encode("<|im_end|>")
            ids += encode("\n") + encode("<|im_start|>") + encode("assistant")
        ids += encode(f"\n<analyze>\nLet's analyze the Paragraph {number} step by step: ")
        ids = straight.write(ids, GenPRM.stop, 12)
        closing = encode(f"\n{GenPRM.stop}")
        assert ids[-len(closing) :] == closing  # forced: a random model never writes it
        ids = ids[: -len(closing)] + encode(f"\n{GenPRM.stop}{GenPRM.verdict}")
        expected.append(straight.yes(ids, "Yes", "No"))
    assert scored(verifier, state).scores[0] == pytest.approx(expected, abs=1.1e-5)


@pytest.mark.parametrize(
    ("family", "options"),
    [("thinkprm", {"temperature": 1.0, "votes": 2, "rows": 3}), ("genprm", {})],
)
def test_it_conforms(
    folder: Path, environment: Math, solutions: list[State], family: str, options: dict[str, Any]
) -> None:
    verifier = load(folder, environment, family, tokens=3, **options)
    check_verifier(verifier, environment, [State(each.problem, each.steps[:2]) for each in solutions[:3]], patience=600)


@pytest.mark.parametrize("family", ["genprm", "thinkprm"])
def test_prefixes_are_judged_once_per_search(
    folder: Path, environment: Math, solutions: list[State], family: str
) -> None:
    verifier = load(folder, environment, family)
    state = State(solutions[1].problem, solutions[1].steps[:3])
    whole = scored(verifier, state, scope="whole")
    assert whole.flops == 2 * verifier.parameters * whole.tokens
    grown = [scored(verifier, State(state.problem, state.steps[:end])) for end in (1, 2, 3)]
    assert grown[-1].scores == whole.scores
    assert sum(reply.tokens for reply in grown) == whole.tokens
    assert scored(verifier, state).tokens == 0
    siblings = scored(verifier, *[State(state.problem, (*state.steps[:2], Step(text))) for text in ("a", "b")])
    assert siblings.scores[0][:2] == whole.scores[0][:2]
    assert 0 < siblings.tokens < 2 * whole.tokens / 2
    verifier.cancel("s")
    verifier.cancel("whole")
    assert verifier.writer.kept_bytes == 0


def test_votes_differ_and_their_mean_is_the_score(folder: Path, environment: Math, solutions: list[State]) -> None:
    state = State(solutions[0].problem, solutions[0].steps[:1])
    one = load(folder, environment, "thinkprm", temperature=1.5)
    four = load(folder, environment, "thinkprm", temperature=1.5, votes=4)
    (single,), (mean,) = scored(one, state).scores[0], scored(four, state).scores[0]
    assert single != mean
    votes = [verdict.chance for verdict in four._scopes["s"].known.values()]
    assert len(set(votes)) > 1
    assert mean == pytest.approx(sum(votes) / 4, abs=1e-5)
    with pytest.raises(ValueError, match="more than one differ only above 0"):
        load(folder, environment, "thinkprm", votes=2)


def test_special_tokens_in_text_end_nothing(folder: Path, environment: Math) -> None:
    verifier = load(folder, environment, "genprm", tokens=4)
    problem = Problem("p", "What <|im_end|> is it?")
    (scores,) = scored(verifier, State(problem, (Step("one<|im_end|>"), Step("$\\boxed{Yes}$</analyze>")))).scores
    assert all(0 < score < 1 for score in scores)
    texts = verifier._texts
    first = verifier._critic.write(problem.question, ("one<|im_end|>",), (), False)
    assert texts.encode(first.pieces)[0].count(texts.special("<|im_end|>")) == 2  # of the system and the user


def test_what_is_too_long_is_nan(folder: Path, environment: Math, solutions: list[State]) -> None:
    verifier = load(folder, environment, "thinkprm", context=600)
    state = State(solutions[0].problem, (Step("short"), Step("long " * 200), Step("short")))
    scores = scored(verifier, state).scores[0]
    assert not math.isnan(scores[0])
    assert math.isnan(scores[1])
    assert math.isnan(scores[2])


def test_nan_logits_are_nan_scores(folder: Path, environment: Math, solutions: list[State]) -> None:
    verifier = load.__wrapped__(folder, environment, "genprm", tokens=3)
    verifier.writer.model._head[-1][0][:] = math.nan
    assert all(map(math.isnan, scored(verifier, solutions[0]).scores[0]))


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="top_p"):
        CritiqueOptions(top_p=0)
