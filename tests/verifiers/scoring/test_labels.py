"""Which label stands for right: by its name, wherever it stands; what does not say is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from envs.core import Problem, State, Step
from envs.math.environment import Math
from policies.conformance import ask
from policies.models.errors import UnsupportedModel
from verifiers.core import Score
from verifiers.registry import load_verifier
from verifiers.scoring.labels import meaning, reading_of
from verifiers.scoring.score_layout import Reading

HERE = Path("here")


def labels(*names: str) -> dict[str, Any]:
    return {"id2label": {str(number): name for number, name in enumerate(names)}}


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("correct", True), ("incorrect", False), ("Correct", True), ("not correct", False), ("NOT_WRONG", True),
        ("good", True), ("bad", False), ("POSITIVE", True), ("NEGATIVE", False), ("LABEL_1", True), ("LABEL_0", False),
        ("1", True), ("0", False), ("+", True), ("-", False), ("-1", False), ("step_is_valid", True), ("Yes", True),
        ("non-valid step", False), ("true", True), ("O", None), ("B-PER", None), ("", None), ("LABEL_7", None),
        ("right or wrong", None), ("\u6b63\u786e", None), ("copyright", None), ("nobody", None),
    ],
)  # fmt: skip
def test_names_say_what_they_stand_for(name: str, right: bool | None) -> None:
    assert meaning(name) is right


@pytest.mark.parametrize(
    ("config", "want"),
    [
        ({}, 1), ({"num_labels": 2}, 1), (labels("LABEL_0", "LABEL_1"), 1), (labels("LABEL_1", "LABEL_0"), 0),
        (labels("correct", "incorrect"), 0), (labels("incorrect", "correct"), 1), (labels("POSITIVE", "NEGATIVE"), 0),
        (labels("good", "bad"), 0), (labels("+", "-"), 0), (labels("rejected", "chosen"), 1), (labels("ok", "B"), 0),
        (labels("A", "wrong"), 0), (labels("A", "yes"), 1), ({"id2label": {1: "bad", 0: "good"}}, 0),
    ],
)  # fmt: skip
def test_of_two_labels_the_right_one_is_read(config: dict[str, Any], want: int) -> None:
    assert reading_of(config, HERE) == Reading((0, 1), want)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (labels("O", "B-PER"), r"here has the labels 0: 'O', 1: 'B-PER'; say which one .* with `label`"),
        (labels("good", "right"), "say which one"),
        (labels("bad", "neutral", "good"), "here has 3 labels .*; a reward model has two; if it is one, say which"),
        (labels(*"abcdefghijklmnop"), "16 labels"),
        (labels("x"), "one label"),
        (labels(), "0 labels"),
        ({"id2label": {"0": "a", "5": "b"}}, "no list of labels by number"),
        ({"id2label": ["a", "b"]}, "no list of labels by number"),
        ({"id2label": {"zero": "a"}}, "no list of labels by number"),
        ({"num_labels": 3}, "3 labels"),
    ],
)
def test_what_does_not_say_is_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsupportedModel, match=said):
        reading_of(config, HERE)


def test_one_output_is_a_reward_where_that_is_allowed() -> None:
    assert reading_of(labels("LABEL_0"), HERE, single=True) == Reading((0,))
    assert reading_of(labels("reward"), HERE, single=True) == Reading((0,))
    with pytest.raises(UnsupportedModel, match="its output is no reward, but the reverse"):
        reading_of(labels("wrong"), HERE, single=True)
    with pytest.raises(UnsupportedModel, match=r"has 3 labels .* a reward model has one or two"):
        reading_of(labels("a", "b", "c"), HERE, single=True)


def test_a_label_may_be_named() -> None:
    three = labels("neutral", "Good", "bad")
    for label in ("Good", "good", "1"):
        assert reading_of(three, HERE, label) == Reading((0, 1, 2), 1)
    assert reading_of(labels("O", "B-PER"), HERE, "O") == Reading((0, 1), 0)
    assert reading_of(labels("1", "0"), HERE, "1") == Reading((0, 1), 0)  # a name comes before a number
    with pytest.raises(UnsupportedModel, match="label 'Goood' given; did you mean 'Good'"):
        reading_of(three, HERE, "Goood")
    with pytest.raises(UnsupportedModel, match="label '3' given; here has 0: 'neutral', 1: 'Good', 2: 'bad'"):
        reading_of(three, HERE, "3")


@pytest.mark.parametrize("family", ["token-classification", "outcome"])
def test_the_same_head_with_its_labels_turned_gives_the_other_score(family: str, tiny: Callable[..., Path]) -> None:
    folder = tiny(family, num_labels=2)
    config = json.loads((folder / "config.json").read_text())
    state = State(Problem("p", "What is 2 + 3?"), (Step("2 + 3 = 5"), Step("So 5.")))

    def scores(**options: Any) -> tuple[float, ...]:
        found: tuple[float, ...] = ask(
            load_verifier(f"hf:{folder}", Math(), device="cpu", **options), [Score((state,))]
        )[0].scores[0]
        return found

    try:
        plain = scores()
        (folder / "config.json").write_text(json.dumps(config | labels("correct", "incorrect")))
        turned = scores()
        assert turned == pytest.approx([1 - score for score in plain], abs=2e-5)
        assert scores(label="incorrect") == plain
        (folder / "config.json").write_text(json.dumps(config | labels("O", "B-PER")))
        with pytest.raises(UnsupportedModel, match="say which one"):
            scores()
        assert scores(label="B-PER") == plain
    finally:
        (folder / "config.json").write_text(json.dumps(config))
