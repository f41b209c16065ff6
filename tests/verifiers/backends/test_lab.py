import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForTokenClassification

from envs.core import Problem, State, Step, render
from policies.conformance import ask
from policies.models.errors import UnsupportedModel
from verifiers.backends.lab import LabVerifier, lay_out
from verifiers.conformance import check_verifier
from verifiers.core import Score, Scored, Verifier
from verifiers.scoring.score_layout import PRIOR


@pytest.fixture
def verifier(checkpoint: Callable[..., Path], chatter: Any) -> LabVerifier:
    return LabVerifier(checkpoint("verifier"), chatter, device="cpu")


def states(chatter: Any, n: int = 12, least: int = 1) -> list[State]:
    lines = ["ab", "c 1", "d0", "#a", "hh 3"]
    return [
        State(problem, tuple(Step(lines[(i + k) % 5]) for k in range(max(least, 1 + i % 5))))
        for i, problem in enumerate(chatter.problems("test", n))
    ]


def scored(verifier: LabVerifier, *group: State, scope: str = "s") -> Scored:
    (reply,) = ask(verifier, [Score(group, scope)])
    return reply


def test_it_is_a_verifier_and_conforms(verifier: LabVerifier, chatter: Any) -> None:
    assert isinstance(verifier, Verifier)
    assert verifier.poll() == []
    check_verifier(verifier, chatter, states(chatter, least=2))


def test_scores_are_the_probabilities_of_label_one_at_the_delimiters(
    verifier: LabVerifier, checkpoint: Callable[..., Path], chatter: Any
) -> None:
    model = AutoModelForTokenClassification.from_pretrained(checkpoint("verifier"), dtype=torch.float32)
    newline = verifier.tokens.encode("\n")[0]
    for state in states(chatter):
        ids = [1, *verifier.tokens.encode(render(chatter, state))]
        with torch.inference_mode():
            right = torch.softmax(model(torch.tensor([ids])).logits[0], -1)[:, 1]
        want = [right[at].item() for at, token in enumerate(ids) if token == newline][1:]  # the first ends the prompt
        assert scored(verifier, state).scores[0] == pytest.approx(want, abs=1.1e-5)


def test_reuse_batch_and_order_change_nothing_but_where_rounding_falls(verifier: LabVerifier, chatter: Any) -> None:
    """On the border of two roundings a score may fall on either side: sums of another batch differ in a last bit."""
    group = states(chatter, 40)
    together = [reply.scores[0] for reply in ask(verifier, [Score((state,), str(i)) for i, state in enumerate(group)])]
    differing = count = 0
    for i, state in enumerate(group):
        verifier.cancel(str(i))
        growing = [
            scored(verifier, State(state.problem, state.steps[:end]), scope="grow").scores[0]
            for end in range(1, len(state.steps) + 1)
        ]
        verifier.cancel("grow")
        for short in growing:
            pairs = list(zip(short, together[i], strict=False))
            assert all(abs(a - b) < 1.1e-5 for a, b in pairs)
            differing += sum(a != b for a, b in pairs)
            count += len(pairs)
    assert differing < 0.02 * count


def test_only_what_is_new_is_run_and_charged(verifier: LabVerifier) -> None:
    problem = Problem("p", "abc")
    parent = State(problem, (Step("ab"),))
    first = scored(verifier, parent)
    assert first.tokens == 1 + len("abc\nab\n")
    assert first.flops == 2 * verifier.parameters * first.tokens
    children = [parent.then(Step(text)) for text in ("c", "d", "ef")]
    assert scored(verifier, *children).tokens == len("c\nd\nef\n")
    assert scored(verifier, *children).tokens == 0
    assert scored(verifier, *children, scope="other").tokens == 1 + len("abc\nab\nc\nd\nef\n")
    verifier.cancel("s")
    assert scored(verifier, parent).tokens == first.tokens


def test_states_that_others_go_on_from_are_not_run_twice(verifier: LabVerifier) -> None:
    parent = State(Problem("p", "abc"), (Step("ab"),))
    child = parent.then(Step("c"))
    reply = scored(verifier, parent, child, child)
    assert reply.tokens == 1 + len("abc\nab\nc\n")
    assert reply.scores[1] == reply.scores[2]
    assert reply.scores[0] == reply.scores[1][:1]


@pytest.mark.parametrize("memory", [0, 5_000])
def test_without_memory_the_same_scores(checkpoint: Callable[..., Path], chatter: Any, memory: int) -> None:
    small, large = (
        LabVerifier(checkpoint("verifier"), chatter, device="cpu", memory=size) for size in (memory, 1 << 28)
    )
    for state in states(chatter) * 2:
        assert scored(small, state).scores == scored(large, state).scores
    assert small.runner.prefixes.bytes <= memory


def test_empty_steps_have_the_score_before_them_and_change_nothing(verifier: LabVerifier) -> None:
    problem = Problem("p", "abc")
    a, b = scored(verifier, State(problem, (Step("ab"), Step("c")))).scores[0]
    odd = State(problem, (Step(""), Step("ab"), Step("  "), Step("c"), Step("", finish="answer")))
    assert scored(verifier, odd).scores[0] == (PRIOR, a, a, b, b)
    assert scored(verifier, State(problem, (Step(""),))).scores[0] == (PRIOR,)


def test_delimiters_inside_a_step_make_no_step(verifier: LabVerifier) -> None:
    problem = Problem("p", "abc")
    plain = scored(verifier, State(problem, (Step("ab"), Step("c d")))).scores[0]
    assert scored(verifier, State(problem, (Step("\nab\n\n"), Step("c\nd\n")))).scores[0] == plain


def test_the_delimiter_in_the_question_is_no_step(verifier: LabVerifier) -> None:
    state = State(Problem("p", "a\nb\nc"), (Step("ab"), Step("c")))
    assert len(scored(verifier, state).scores[0]) == 2


def test_special_tokens_in_text_are_plain_characters(verifier: LabVerifier, chatter: Any) -> None:
    layout = lay_out(verifier.tokens, chatter, State(Problem("p", "<eos>"), (Step("<bos>a"),)))
    assert layout.paths[0].keys[-1][0] == 1
    assert not {0, 1, 2} & set(layout.paths[0].keys[-1][1:])


def test_an_observation_is_read_after_the_score(verifier: LabVerifier) -> None:
    problem = Problem("p", "abc")
    plain = scored(verifier, State(problem, (Step("ab"), Step("c")))).scores[0]
    seen = scored(verifier, State(problem, (Step("ab", observation="hh"), Step("c")))).scores[0]
    assert seen[0] == plain[0]
    assert seen[1] != plain[1]


def test_steps_beyond_the_context_are_nan_and_those_before_it_unharmed(verifier: LabVerifier) -> None:
    short = State(Problem("p", "abc"), (Step("ab"), Step("c")))
    long = short.then(Step("d" * 120)).then(Step("e"))
    scores = scored(verifier, long).scores[0]
    assert scores[:2] == scored(verifier, short, scope="t").scores[0]
    assert math.isnan(scores[2])
    assert math.isnan(scores[3])
    hopeless = State(Problem("q", "a" * 200), (Step("ab"),))
    (reply,) = scored(verifier, hopeless, scope="u").scores
    assert math.isnan(reply[0])


def test_a_broken_model_gives_nan_and_hides_nothing(verifier: LabVerifier) -> None:
    verifier.model.head[:] = math.nan
    (reply,) = scored(verifier, State(Problem("p", "abc"), (Step("ab"),))).scores
    assert math.isnan(reply[0])


def test_the_gold_answer_is_not_read(verifier: LabVerifier, chatter: Any) -> None:
    for state in states(chatter):
        blind = State(replace(state.problem, answer="other"), state.steps)
        assert scored(verifier, state).scores == scored(verifier, blind, scope="blind").scores


def test_cancel_and_close(verifier: LabVerifier) -> None:
    state = State(Problem("p", "abc"), (Step("ab"),))
    verifier.submit(0, Score((state,), "a"))
    verifier.submit(1, Score((state,), "b"))
    with pytest.raises(ValueError, match="ticket 1 is in use"):
        verifier.submit(1, Score((state,), "b"))
    verifier.cancel("a")
    assert [ticket for ticket, _ in verifier.poll()] == [1]
    verifier.cancel("b")
    assert verifier.runner.prefixes.bytes == 0
    verifier.submit(2, Score((state,), "a"))
    verifier.close()
    assert verifier.poll() == []


def test_a_policy_is_no_verifier(checkpoint: Callable[..., Path], chatter: Any) -> None:
    with pytest.raises(UnsupportedModel, match="not a verifier"):
        LabVerifier(checkpoint("policy"), chatter)
    with pytest.raises(UnsupportedModel, match="two labels"):
        LabVerifier(checkpoint("verifier", num_labels=3), chatter)


def test_a_beta_tells_how_sure_it_is(checkpoint: Callable[..., Path], chatter: Any, tmp_path: Path) -> None:
    """Its scores are those of the same weights without a Beta; the deviation is that of the two logits."""
    plain = LabVerifier(checkpoint("verifier"), chatter, device="cpu")
    folder = tmp_path / "beta"
    shutil.copytree(checkpoint("verifier"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"beta": True}))
    sure = LabVerifier(folder, chatter, device="cpu")
    (state, *_) = states(chatter, 1)
    before, after = scored(plain, state), scored(sure, state)
    assert after.scores == before.scores
    assert before.deviations == ()
    ((*spread,),) = after.deviations
    assert len(spread) == len(state.steps)
    assert all(0 < each <= 0.5 for each in spread)
