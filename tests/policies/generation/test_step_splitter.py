import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.core import Step
from policies.generation.step_splitter import Cut, cut, is_thinking


def test_a_step_ends_with_the_delimiter_which_is_no_part_of_it() -> None:
    assert cut("one", "\n\n") is None
    assert cut("one\n", "\n\n") is None
    assert cut("one\n\ntwo", "\n\n") == Cut("", "one", "step", 5)


@pytest.mark.parametrize("over", ["answer", "length"])
def test_what_is_over_is_the_last_step(over: str) -> None:
    assert cut("one\n", "\n\n", over=over) == Cut("", "one\n", over, None)  # type: ignore[arg-type]
    assert cut("", "\n\n", over=over) == Cut("", "", over, None)  # type: ignore[arg-type]
    assert cut("one\n\ntwo", "\n\n", over=over) == Cut("", "one", "step", 5)  # type: ignore[arg-type]


def test_blank_steps_are_none() -> None:
    assert cut("\n\n", "\n\n") is None
    assert cut("\n\n\n\n one\n\n", "\n\n") == Cut("\n\n\n\n", " one", "step", 10)
    assert cut("\n\n", "\n\n", over="answer") == Cut("\n\n", "", "answer", None)


def test_blank_lines_after_a_step_close_it_and_are_kept_for_the_policy() -> None:
    assert cut("import math\n\n\ndef", "\n") == Cut("", "import math", "step", 14, "\n\n\n")
    assert cut("one\n\n\n", "\n\n") == Cut("", "one", "step", 5)  # half a delimiter is none
    assert cut("one\n\n", "\n", blank=True) == Cut("", "one", "step", 4)
    assert cut("one\n\n", "\n").step([3, 5], [-1.0, -2.0]) == Step("one", 2, -3.0, closing="\n\n")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "delimiter", "found"),
    [
        ("one\r\n\r\ntwo", "\n\n", Cut("", "one", "step", 7, "\r\n\r\n")),
        ("one\r\n\ntwo", "\n\n", Cut("", "one", "step", 6, "\r\n\n")),
        ("one\n\r\ntwo", "\n\n", Cut("", "one", "step", 6, "\n\r\n")),
        ("one\r\r\n\r\r\ntwo", "\n\n", Cut("", "one", "step", 9, "\r\r\n\r\r\n")),
        ("one\r\ntwo", "\n", Cut("", "one", "step", 5, "\r\n")),
        ("one\r\ntwo\r\n\r\n", "\n\n", Cut("", "one\r\ntwo", "step", 12, "\r\n\r\n")),
        ("one\r\n\r\n\r\n\r\ntwo", "\n\n", Cut("", "one", "step", 11, "\r\n\r\n\r\n\r\n")),
        ("\r\n\r\none\r\n\r\n", "\n\n", Cut("\r\n\r\n", "one", "step", 11, "\r\n\r\n")),
        ("one\ntwo", "\r\n", Cut("", "one", "step", 4, "\n")),
        ("one\r\ntwo", "\r\n", Cut("", "one", "step", 5)),
        ("one\r\n--\r\ntwo", "\n--\n", Cut("", "one", "step", 9, "\r\n--\r\n")),
        ("one\rtwo\n\n", "\n\n", Cut("", "one\rtwo", "step", 9)),
        ("one.*two", ".*", Cut("", "one", "step", 5)),
    ],
)
def test_a_line_ends_as_the_model_ends_it(text: str, delimiter: str, found: Cut) -> None:
    assert cut(text, delimiter) == found


@pytest.mark.parametrize("text", ["one\r", "one\r\n", "one\r\n\r", "one\r\n \r\n"])
def test_half_an_empty_line_ends_no_step(text: str) -> None:
    assert cut(text, "\n\n") is None


def test_a_stop_string_with_other_line_ends_ends_the_solution() -> None:
    assert cut("5\r\nQuestion: x", "\n\n", ("\nQuestion:",)) == Cut("", "5\r\nQuestion:", "answer", 12)


def test_a_stop_string_ends_the_solution_and_stays_in_it() -> None:
    assert cut("a </answer> b\n\n", "\n\n", ("</answer>",)) == Cut("", "a </answer>", "answer", 11)
    assert cut("a\n\n</answer>", "\n\n", ("</answer>",)) == Cut("", "a", "step", 3)
    assert cut("x END y STOP", "\n", ("STOP", "END")) == Cut("", "x END", "answer", 5)


def test_thinking_comes_before_the_step_and_holds_no_steps() -> None:
    thinking = "<think>\nLet me see.\n\nHm. </answer>\n</think>\n\n"
    assert cut(thinking[:-15], "\n\n", ("</answer>",)) is None
    assert cut(thinking, "\n\n", ("</answer>",)) is None
    assert cut(thinking + "It is 4.\n\n", "\n\n") == Cut(thinking, "It is 4.", "step", len(thinking) + 10)
    assert cut("a\n\nb</think>\n\nIt is 4.", "\n\n", opened=True, over="answer") == Cut(
        "a\n\nb</think>\n\n", "It is 4.", "answer", None
    )
    assert is_thinking("<think>\nx")
    assert is_thinking("x", opened=True)
    assert not is_thinking("x </think> y", opened=True)
    assert not is_thinking("x <think> y")


def test_thinking_that_is_cut_says_nothing() -> None:
    assert cut("<think>a\n\nb", "\n\n", over="length") == Cut("<think>a\n\nb", "", "length", None)
    assert cut("a\n\nb", "\n\n", opened=True, over="answer") == Cut("a\n\nb", "", "answer", None)


def test_tokens_and_logprobs_are_those_up_to_the_cut() -> None:
    pieces, logprobs = ["on", "e.\n", "\n tw", "o", "\n\n", ""], [-1.0, -2.0, -4.0, -8.0, -16.0, -32.0]
    text = "".join(pieces)
    lengths = [len("".join(pieces[: i + 1])) for i in range(len(pieces))]
    first = cut(text, "\n\n")
    assert first is not None
    assert first.step(lengths, logprobs) == Step("one.", 3, -7.0, "step")
    last = cut("one.", "\n\n", over="answer")
    assert last is not None
    assert last.step([2, 4, 4], logprobs[:3]) == Step("one.", 3, -7.0, "answer")  # the end token included


@given(st.lists(st.text("ab <>/think\n", max_size=12), max_size=6), st.booleans())
def test_nothing_is_lost_and_no_step_holds_the_delimiter(parts: list[str], opened: bool) -> None:
    text = rest = "\n\n".join(parts)
    steps: list[Cut] = []
    while (step := cut(rest, "\n\n", opened=opened and not steps)) is not None:
        assert step.end is not None
        assert rest[: step.end].strip("\n") == (step.thinking + step.text).strip("\n")
        assert "\n\n" not in step.text
        steps.append(step)
        rest = rest[step.end :]
    last = cut(rest, "\n\n", opened=opened and not steps, over="answer")
    assert last is not None
    assert "".join(text.split()) == "".join("".join(each.thinking + each.text for each in [*steps, last]).split())
